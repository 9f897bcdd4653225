//! What removes entries: the invalidating instructions, a page fault, a broadcast.
//!
//! Rules: H13 to H18, H34, H37, and H12a for walks in flight. After each, whatever refills at once is
//! cached again (H4): only what no walk can find stays away.

use lazytlb::{Cr3Load, VirtAddr};

use crate::call::{Broadcast, Cr4, Invpcid};
use crate::cpu_model::{InvlpgGlobals, InvlpgReach, LargePages, UpperLevels};
use crate::machine::{Machine, Stop};
use crate::mutant::{Mutant, broken};
use crate::state::{CacheSet, State, members};
use crate::translation::{Limit, Translation};
use crate::violation::{Property, Violation};

/// What becomes of walks in flight (H12a).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum InFlight {
    /// The instruction invalidates something: they end.
    End,
    /// It need not invalidate anything: they may go on.
    Stay,
}

impl InFlight {
    fn if_invalidates(invalidates: bool) -> InFlight {
        match invalidates {
            true => InFlight::End,
            false => InFlight::Stay,
        }
    }
}

impl Machine {
    /// Removes the entries that `goes` picks, and may end the CPU's walks in flight (H12a); then closes.
    fn invalidate(
        &self,
        state: &mut State,
        cpu: usize,
        in_flight: InFlight,
        goes: impl Fn(Translation) -> bool,
    ) -> Result<(), Stop> {
        let walks_end =
            in_flight == InFlight::End && self.cpu_model.upper_levels == UpperLevels::OnlyInFlight;
        for set in [CacheSet::Cached, CacheSet::Tainted] {
            let kept = members(self.layout.set(state, cpu, set))
                .filter(|&number| {
                    let entry = self.translations.get(number);
                    !(goes(entry) || walks_end && entry.level > 0)
                })
                .fold(0, |kept, number| kept | 1 << number);
            self.layout.put_set(state, cpu, set, kept);
        }
        if broken(Mutant::NoRefill) {
            return Ok(());
        }
        self.close(state, cpu)
    }

    /// Removes the entries for an address that `goes` picks. Of a large page that is held in pieces, the
    /// others stay (H6).
    fn drop_address(
        &self,
        state: &mut State,
        cpu: usize,
        addr: VirtAddr,
        goes: impl Fn(Translation) -> bool,
    ) -> Result<(), Limit> {
        let in_pieces = self.cpu_model.large_pages == LargePages::InPieces
            && !broken(Mutant::LargePagesInOnePiece);
        for set in [CacheSet::Cached, CacheSet::Tainted] {
            let mut kept = 0;
            for number in members(self.layout.set(state, cpu, set)) {
                let entry = self.translations.get(number);
                if !goes(entry) {
                    kept |= 1 << number;
                } else if in_pieces && entry.level == 0 && entry.read_in > 1 {
                    kept |= 1 << self.translations.number(entry.without_piece(addr))?;
                }
            }
            self.layout.put_set(state, cpu, set, kept);
        }
        Ok(())
    }

    /// INVLPG (H13): the page in the current PCID, global entries for it in any, and
    /// paging-structure-cache entries of the current PCID as far as the model's instruction reaches (H37).
    pub(crate) fn invlpg(&self, state: &mut State, cpu: usize, addr: VirtAddr) -> Result<(), Stop> {
        let pcid = self.pcid(state, cpu);
        let all_upper_levels = self.cpu_model.invlpg == InvlpgReach::AllUpperLevels
            || broken(Mutant::NoTranslationCacheExtension);
        // H34: the erratum shows with PCIDs on.
        let globals_stay = self.cpu_model.invlpg_globals == InvlpgGlobals::MayStay
            && Cr4(self.layout.cr4(state, cpu)).has(Cr4::PCIDE)
            && !broken(Mutant::NoInvlpgErratum)
            || broken(Mutant::InvlpgLeavesGlobals);
        self.invalidate(state, cpu, InFlight::End, |entry| {
            let of_pcid = entry.pcid == pcid || broken(Mutant::InvlpgReachesOtherPcids);
            match entry.level {
                0 if broken(Mutant::LargePageOnlyByStart) && entry.read_in > 1 => {
                    entry.start.0 >> 12 == addr.0 >> 12
                }
                0 => entry.spans(addr) && if entry.global { !globals_stay } else { of_pcid },
                _ if broken(Mutant::InvlpgLeavesUpperLevels) => false,
                _ => of_pcid && (all_upper_levels || entry.covers(addr)),
            }
        })
    }

    /// INVPCID (H14).
    pub(crate) fn invpcid(&self, state: &mut State, cpu: usize, what: Invpcid) -> Result<(), Stop> {
        if !self.cpu_model.invpcid {
            return Err(self.refused(cpu, "executed INVPCID on a CPU without it: #UD"));
        }
        let has_pcids = Cr4(self.layout.cr4(state, cpu)).has(Cr4::PCIDE);
        let tag = |pcid: u16| {
            if pcid != 0 && !has_pcids {
                let what = "executed INVPCID for a PCID while CR4.PCIDE is clear: #GP";
                return Err(self.refused(cpu, what));
            }
            Ok(self.tag(pcid)?)
        };
        match what {
            Invpcid::Address(pcid, addr) => {
                let pcid = tag(pcid)?;
                // Unlike INVLPG: of the upper levels, what was used for that address.
                self.drop_address(state, cpu, addr, |entry| {
                    let covers = entry.covers(addr)
                        || entry.level > 0 && broken(Mutant::InvpcidAddressDropsUpperLevels);
                    let spared = entry.global && !broken(Mutant::InvpcidAddressDropsGlobals);
                    entry.pcid == pcid && !spared && covers
                })?;
                self.invalidate(state, cpu, InFlight::End, |_| false)
            }
            Invpcid::Pcid(pcid) => {
                let pcid = tag(pcid)?;
                self.invalidate(state, cpu, InFlight::End, |entry| {
                    entry.pcid == pcid && !entry.global && !broken(Mutant::InvpcidPcidIgnored)
                })
            }
            Invpcid::AllWithGlobals => self.invalidate(state, cpu, InFlight::End, |entry| {
                !entry.global || !broken(Mutant::InvpcidAllLeavesGlobals)
            }),
            Invpcid::AllNonGlobal => self.invalidate(state, cpu, InFlight::End, |entry| {
                !entry.global || broken(Mutant::InvpcidNonGlobalDropsGlobals)
            }),
        }
    }

    /// MOV to CR3 (H15).
    pub(crate) fn mov_to_cr3(
        &self,
        state: &mut State,
        cpu: usize,
        root: u8,
        pcid: u16,
        load: Cr3Load,
    ) -> Result<(), Stop> {
        let has_pcids = Cr4(self.layout.cr4(state, cpu)).has(Cr4::PCIDE);
        if load == Cr3Load::Keep && !has_pcids && !broken(Mutant::KeepWithoutPcideAllowed) {
            return Err(self.refused(cpu, "set bit 63 of CR3 while CR4.PCIDE is clear: #GP"));
        }
        // Without PCIDs the bits mean something else (PWT, PCD), and everything belongs to PCID 0.
        self.layout.set_cr3(state, cpu, root);
        self.layout.set_cr3_low(state, cpu, self.tag(pcid)?);
        let pcid = self.pcid(state, cpu);
        let keeps = load == Cr3Load::Keep && !broken(Mutant::KeepIgnored);
        self.invalidate(state, cpu, InFlight::if_invalidates(!keeps), |entry| {
            let of_pcid = entry.pcid == pcid || broken(Mutant::Cr3LoadDropsEveryPcid);
            let spared = entry.global && !broken(Mutant::Cr3LoadDropsGlobals);
            !keeps && of_pcid && !spared
        })
    }

    /// MOV to CR4 (H1, H16).
    pub(crate) fn mov_to_cr4(&self, state: &mut State, cpu: usize, new: Cr4) -> Result<(), Stop> {
        let old = Cr4(self.layout.cr4(state, cpu));
        let sets = |bit: Cr4| new.has(bit) && !old.has(bit);
        if sets(Cr4::PCIDE) && !self.cpu_model.pcids {
            return Err(self.refused(cpu, "set CR4.PCIDE on a CPU without PCIDs: #GP"));
        }
        let low_bits = self.layout.cr3_low(state, cpu);
        if sets(Cr4::PCIDE) && low_bits != 0 && !broken(Mutant::PcideWithPcidAllowed) {
            return Err(self.refused(cpu, "set CR4.PCIDE while CR3[11:0] is not 0: #GP"));
        }
        self.layout.set_cr4(state, cpu, new.0);
        let pge_flips = old.has(Cr4::PGE) != new.has(Cr4::PGE);
        let pcide_cleared = old.has(Cr4::PCIDE) && !new.has(Cr4::PCIDE);
        let pcid = self.pcid(state, cpu);
        let smep_set = sets(Cr4::SMEP) && !broken(Mutant::SmepDropsNothing);
        let in_flight = InFlight::if_invalidates(pge_flips || pcide_cleared || smep_set);
        self.invalidate(state, cpu, in_flight, |entry| {
            let globals_stay = entry.global && broken(Mutant::PgeFlipLeavesGlobals);
            (pge_flips || pcide_cleared) && !globals_stay
                || smep_set && entry.pcid == pcid && !entry.global
        })
    }

    /// A page fault (H17): the page's entries in the current PCID, and of the upper levels what was used
    /// for that address.
    pub(crate) fn fault(&self, state: &mut State, cpu: usize, addr: VirtAddr) -> Result<(), Stop> {
        let pcid = self.pcid(state, cpu);
        self.drop_address(state, cpu, addr, |entry| {
            let all_upper = entry.level > 0 && broken(Mutant::FaultDropsAllUpperLevels);
            // A global entry, too, if it was made under this PCID: nothing excepts it.
            entry.pcid == pcid
                && (entry.covers(addr) || all_upper)
                && !broken(Mutant::FaultDropsNothing)
        })?;
        self.close(state, cpu)
    }

    /// What a broadcast invalidation does on a CPU that it reaches (H29, H30, H37).
    pub(crate) fn invalidate_broadcast(
        &self,
        state: &mut State,
        cpu: usize,
        what: Broadcast,
    ) -> Result<(), Stop> {
        let pcid = what.pcid.map(|pcid| self.tag(pcid)).transpose()?;
        let all_upper_levels = self.cpu_model.invlpg == InvlpgReach::AllUpperLevels;
        let final_only = what.final_only && !broken(Mutant::FinalOnlyIgnored);
        self.invalidate(state, cpu, InFlight::End, |entry| {
            let of_pcid = pcid.is_none_or(|pcid| entry.pcid == pcid);
            let covers = match what.addr {
                None => true,
                Some(addr) if broken(Mutant::BroadcastByStride) => {
                    addr.0 >> 21 == entry.start.0 >> 21
                }
                // H30: by the size of the page that is cached.
                Some(addr) => entry.spans(addr),
            };
            match entry.level {
                0 if entry.global => what.globals && covers,
                0 => of_pcid && covers,
                _ => !final_only && of_pcid && (all_upper_levels || covers),
            }
        })
    }

    /// Returns the current PCID: CR3[11:0] with CR4.PCIDE, and 0 without (H1).
    #[inline]
    pub(crate) fn pcid(&self, state: &State, cpu: usize) -> u8 {
        match Cr4(self.layout.cr4(state, cpu)).has(Cr4::PCIDE) {
            true => self.layout.cr3_low(state, cpu),
            false => 0,
        }
    }

    /// Returns the byte that stands for a PCID.
    pub(crate) fn tag(&self, pcid: u16) -> Result<u8, Limit> {
        u8::try_from(pcid).map_err(|_| Limit {
            what: "the PCID 255: larger ones",
            most: usize::from(u8::MAX),
        })
    }

    /// An instruction that the CPU refuses.
    pub(crate) fn refused(&self, cpu: usize, what: &str) -> Stop {
        Stop::Violation(Violation::on_cpu(Property::GeneralProtection, cpu, what))
    }
}
