//! What removes entries: the invalidating instructions, a page fault, a broadcast.
//!
//! Rules: H13 to H18, H34, H37, and H12a for walks in flight. After each, whatever refills at once is
//! cached again (H4): only what no walk can find stays away.

use std::ops::Deref;

use lazytlb::{Cr3Load, VirtAddr};

use crate::call::{Broadcast, Cr4, Invpcid};
use crate::cpu_model::{InvlpgGlobals, InvlpgReach, KeepLoad, LargePages, UpperLevels};
use crate::index::{Frame, Level, PcidTag};
use crate::limit::Limit;
use crate::progress::Stop;
use crate::state::{CacheSet, State};
use crate::translation::Translation;
use crate::translation_set::TranslationSet;
use crate::view::{CpuIn, CpuMut};
use crate::violation::{Property, Violation};

/// What becomes of walks in flight (H12a).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum InFlight {
    /// The instruction invalidates something: they end.
    End,
    /// It need not invalidate anything: they may go on.
    Stay,
}

impl CpuMut<'_> {
    /// Removes the entries that `is_dropped` picks, and may end the CPU's walks in flight (H12a); then closes.
    fn invalidate(
        &mut self,
        in_flight: InFlight,
        is_dropped: impl Fn(&Translation) -> bool,
    ) -> Result<(), Stop> {
        let upper_levels = self.machine.cpu_model.upper_levels;
        let ends = in_flight == InFlight::End;
        let walks_end = ends && upper_levels == UpperLevels::OnlyInFlight;
        self.retain(|_, entry| !(is_dropped(entry) || walks_end && !entry.is_page()));
        if ends {
            // Of whichever PCID.
            self.put_in_flight(TranslationSet::EMPTY);
        }
        self.close()
    }

    /// Removes the entries for an address that `is_dropped` picks. Of a large page that is held in pieces,
    /// the others stay (H6).
    fn drop_address(
        &mut self,
        addr: VirtAddr,
        is_dropped: impl Fn(&Translation) -> bool,
    ) -> Result<(), Limit> {
        let machine = self.machine;
        let in_pieces = machine.cpu_model.large_pages == LargePages::InPieces;
        for set in CacheSet::IN_CACHES {
            let mut kept = TranslationSet::EMPTY;
            for number in self.set(set).iter() {
                let entry = machine.translations.get(number);
                if !is_dropped(entry) {
                    kept = kept.with(number);
                } else if in_pieces && entry.is_page() && entry.read_in > Level::LOWEST {
                    let rest = entry.without_piece(addr)?;
                    kept = kept.with(machine.translations.number(&rest)?);
                }
            }
            self.put_set(set, kept);
        }
        Ok(())
    }

    /// INVLPG (H13): the page in the current PCID, global entries for it in any, and
    /// paging-structure-cache entries of the current PCID as far as the model's instruction reaches (H37).
    pub(crate) fn invlpg(&mut self, addr: VirtAddr) -> Result<(), Stop> {
        let (pcid, model) = (self.pcid(), &self.machine.cpu_model);
        let all_upper_levels = model.invlpg == InvlpgReach::AllUpperLevels;
        // H34: the erratum shows with PCIDs on.
        let globals_stay =
            model.invlpg_globals == InvlpgGlobals::MayStay && self.cr4().has(Cr4::PCIDE);
        self.invalidate(InFlight::End, |entry| {
            let of_pcid = entry.pcid == pcid;
            match entry.is_page() {
                true if entry.global => entry.spans(addr) && !globals_stay,
                true => entry.spans(addr) && of_pcid,
                false => of_pcid && (all_upper_levels || entry.covers(addr)),
            }
        })
    }

    /// INVPCID (H14).
    pub(crate) fn invpcid(&mut self, what: Invpcid) -> Result<(), Stop> {
        if !self.machine.cpu_model.invpcid {
            return Err(self.refused("executed INVPCID on a CPU without it: #UD"));
        }
        match what {
            Invpcid::Address(pcid, addr) => {
                let pcid = self.invpcid_tag(pcid)?;
                // Unlike INVLPG: of the upper levels, what was used for that address.
                self.drop_address(addr, |entry| {
                    let covers = entry.covers(addr);
                    let spared = entry.global;
                    entry.pcid == pcid && !spared && covers
                })?;
                self.invalidate(InFlight::End, |_| false)
            }
            Invpcid::Pcid(pcid) => {
                let pcid = self.invpcid_tag(pcid)?;
                self.invalidate(InFlight::End, |entry| entry.pcid == pcid && !entry.global)
            }
            Invpcid::AllWithGlobals => self.invalidate(InFlight::End, |_| true),
            Invpcid::AllNonGlobal => self.invalidate(InFlight::End, |entry| !entry.global),
        }
    }

    /// Returns the tag of a PCID that INVPCID names; with CR4.PCIDE clear, there is only one (H14).
    fn invpcid_tag(&self, pcid: u16) -> Result<PcidTag, Stop> {
        if pcid != 0 && !self.cr4().has(Cr4::PCIDE) {
            let what = "executed INVPCID for a PCID while CR4.PCIDE is clear: #GP";
            return Err(self.refused(what));
        }
        Ok(tag(pcid)?)
    }

    /// MOV to CR3 (H15).
    pub(crate) fn mov_to_cr3(&mut self, root: Frame, pcid: u16, load: Cr3Load) -> Result<(), Stop> {
        if load == Cr3Load::Keep && !self.cr4().has(Cr4::PCIDE) {
            return Err(self.refused("set bit 63 of CR3 while CR4.PCIDE is clear: #GP"));
        }
        let low = tag(pcid)?;
        if load == Cr3Load::Keep {
            self.walk_on_under(root, low)?;
        }
        // Without PCIDs the bits mean something else (PWT, PCD), and everything belongs to PCID 0.
        self.set_cr3(root);
        self.set_cr3_low(low);
        let pcid = self.pcid();
        match load {
            Cr3Load::Keep => {
                self.invalidate(InFlight::Stay, |_| false)?;
                self.refuse_kept_size_conflict()?;
                self.refuse_kept_mixed_types()
            }
            Cr3Load::Flush => self.invalidate(InFlight::End, |entry| {
                let of_pcid = entry.pcid == pcid;
                of_pcid && !entry.global
            }),
        }
    }

    /// What becomes of walks in flight at a CR3 load that sets bit 63, and so invalidates nothing (H12a): by
    /// the weak reading they go on under the PCID that is left. Each upper entry of it may be held by one, and each page of it be the one that it was
    /// for, which is accessed then (H28).
    fn walk_on_under(&mut self, root: Frame, pcid: PcidTag) -> Result<(), Limit> {
        let machine = self.machine;
        let (model, translations) = (&machine.cpu_model, &machine.translations);
        let (was_root, was) = (self.cr3(), self.pcid());
        match (model.upper_levels, model.keep_load) {
            (UpperLevels::Atomic, _) | (UpperLevels::Cached, KeepLoad::EndsWalks) => {}
            (UpperLevels::OnlyInFlight, KeepLoad::EndsWalks) => {
                self.retain(|_, entry| entry.is_page());
            }
            (_, KeepLoad::WalksGoOn) => {
                let left = Translation::held_root(was_root, machine.root_level, was);
                let under_way = self.may_be_cached().filter(|number| {
                    let entry = translations.get(number);
                    entry.pcid == was && (!entry.is_page() || self.may_go_on_accessing(entry))
                });
                let held = self.in_flight().union(under_way);
                let held = held.with(translations.number(&left)?);
                // What is of the current PCID, walks start from in any case.
                self.put_in_flight(held.filter(|number| {
                    let entry = translations.get(number);
                    entry.pcid != pcid
                        || entry.is_page()
                        || entry.is_held_root() && entry.root != root
                }));
            }
        }
        Ok(())
    }

    /// MOV to CR4 (H1, H16).
    pub(crate) fn mov_to_cr4(&mut self, new: Cr4) -> Result<(), Stop> {
        let old = self.cr4();
        let sets = |bit: Cr4| new.has(bit) && !old.has(bit);
        if sets(Cr4::PCIDE) && !self.machine.cpu_model.pcids {
            return Err(self.refused("set CR4.PCIDE on a CPU without PCIDs: #GP"));
        }
        if sets(Cr4::PCIDE) && self.cr3_low() != PcidTag::ZERO {
            return Err(self.refused("set CR4.PCIDE while CR3[11:0] is not 0: #GP"));
        }
        self.set_cr4(new);
        let pge_flips = old.has(Cr4::PGE) != new.has(Cr4::PGE);
        let pcide_cleared = old.has(Cr4::PCIDE) && !new.has(Cr4::PCIDE);
        let drops_all = pge_flips || pcide_cleared;
        let smep_set = sets(Cr4::SMEP);
        let in_flight = match drops_all || smep_set {
            true => InFlight::End,
            false => InFlight::Stay,
        };
        let pcid = self.pcid();
        self.invalidate(in_flight, |entry| {
            drops_all || smep_set && entry.pcid == pcid && !entry.global
        })
    }

    /// A page fault (H17): the page's entries in the current PCID, and all pieces of a large one (H6). Of the
    /// upper levels it drops what is cached and was used for that address; but a walk in flight may hold the
    /// same, and a fault does not end it (H12a).
    pub(crate) fn page_fault(&mut self, addr: VirtAddr) -> Result<(), Stop> {
        let (pcid, in_flight) = (self.pcid(), self.in_flight());
        self.retain(|_, entry| {
            // A global entry, too, if it was made under this PCID: nothing excepts it.
            let is_dropped = entry.is_page() && entry.pcid == pcid && entry.spans(addr);
            !is_dropped
        });
        self.put_in_flight(in_flight);
        self.close()
    }

    /// What a broadcast invalidation does on a CPU that it reaches.
    pub(crate) fn invalidate_broadcast(&mut self, what: Broadcast) -> Result<(), Stop> {
        let goes = self.what_goes_by(what)?;
        let Some(addr) = what.addr else {
            return self.invalidate(InFlight::End, goes);
        };
        // H30: a piece of a large page is an entry of 4 KiB, and goes by that size.
        self.drop_address(addr, goes)?;
        self.invalidate(InFlight::End, |_| false)
    }
}

impl<S: Deref<Target = State>> CpuIn<'_, S> {
    /// Returns what a broadcast invalidation removes (H29, H30, H37).
    pub(crate) fn what_goes_by(
        &self,
        what: Broadcast,
    ) -> Result<impl Fn(&Translation) -> bool + use<S>, Stop> {
        let pcid = what.pcid.map(tag).transpose()?;
        let all_upper_levels = self.machine.cpu_model.invlpg == InvlpgReach::AllUpperLevels;
        Ok(move |entry: &Translation| {
            let of_pcid = pcid.is_none_or(|pcid| entry.pcid == pcid);
            // H30: by the size of the page that is cached.
            let covers = what.addr.is_none_or(|addr| entry.spans(addr));
            match entry.is_page() {
                // A PCID that is named is compared with a global entry's, too: nothing excepts it.
                true => of_pcid && covers && (what.globals || !entry.global),
                false => !what.final_only && of_pcid && (all_upper_levels || covers),
            }
        })
    }

    /// An instruction that the CPU refuses.
    pub(crate) fn refused(&self, what: &str) -> Stop {
        let violation = Violation::on_cpu(Property::GeneralProtection, self.cpu, what);
        Stop::Violation(violation)
    }
}

/// Returns the tag that stands for a PCID.
fn tag(pcid: u16) -> Result<PcidTag, Limit> {
    let byte = u8::try_from(pcid).map_err(|_| Limit {
        what: "the PCID 255: larger ones",
        most: usize::from(u8::MAX),
    })?;
    Ok(PcidTag::from(byte))
}
