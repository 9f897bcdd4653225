//! What removes entries: the invalidating instructions, and broadcasts that arrive.

use lazytlb::{Cr3Load, PhysAddr, VirtAddr};
use lazytlb_model::cpu_model::{InvlpgGlobals, InvlpgReach, KeepLoad, LargePages};
use lazytlb_model::{Broadcast, Cr4, Invpcid, Property};

use super::state::{Cached, State};
use super::{Naive, Next};

type Refused = Result<(), Property>;

const GP: Refused = Err(Property::GeneralProtection);

impl Naive<'_> {
    /// Removes what is picked from a CPU's caches.
    pub(super) fn drop_cached(&self, next: &mut State, cpu: usize, goes: impl Fn(&Cached) -> bool) {
        let cached = next.cpus[cpu].cached;
        for number in (0..64).filter(|number| cached >> number & 1 != 0) {
            if goes(&self.entry(number)) {
                next.cpus[cpu].cached &= !(1 << number);
            }
        }
    }

    /// Ends the walks in flight that are picked.
    pub(super) fn drop_flying(&self, next: &mut State, cpu: usize, goes: impl Fn(&Cached) -> bool) {
        let flying = next.cpus[cpu].flying;
        for number in (0..64).filter(|number| flying >> number & 1 != 0) {
            if goes(&self.entry(number)) {
                next.cpus[cpu].flying &= !(1 << number);
            }
        }
    }

    /// Removes what is picked for an address; of a large page in pieces, only the one (H6).
    pub(super) fn drop_address(
        &self,
        next: &mut State,
        cpu: usize,
        addr: u64,
        goes: impl Fn(&Cached) -> bool,
    ) {
        let in_pieces = self.script.setting.cpu_model.large_pages == LargePages::InPieces;
        let cached = next.cpus[cpu].cached;
        self.drop_cached(next, cpu, &goes);
        for number in (0..64).filter(|number| cached >> number & 1 != 0) {
            let mut entry = self.entry(number);
            if in_pieces && goes(&entry) && entry.drop_piece(addr) {
                next.cpus[cpu].cached |= 1 << self.number(entry);
            }
        }
    }

    /// As [`Naive::drop_cached`], by an instruction or a broadcast: that ends the CPU's walks in flight, of
    /// whichever PCID (H12a).
    fn invalidate(&self, next: &mut State, cpu: usize, goes: impl Fn(&Cached) -> bool) {
        self.drop_cached(next, cpu, goes);
        next.cpus[cpu].flying = 0;
    }

    /// H17, H6: a fault drops the page's entries in the current PCID, all pieces of a large one, and of the
    /// paging-structure caches what was used for that address. Walks in flight go on (H12a).
    pub(super) fn page_fault(&self, next: &mut State, cpu: usize, addr: u64) {
        let pcid = next.cpus[cpu].pcid();
        self.drop_cached(next, cpu, |entry| entry.pcid == pcid && entry.spans(addr));
    }

    /// H13, H34, H37.
    pub(super) fn invlpg(&self, next: &mut State, cpu: usize, VirtAddr(addr): VirtAddr) {
        let of = &next.cpus[cpu];
        let (pcid, has_pcids) = (of.pcid(), of.cr4.has(Cr4::PCIDE));
        let model = &self.script.setting.cpu_model;
        let globals_go = !(has_pcids && model.invlpg_globals == InvlpgGlobals::MayStay);
        let whole_pcid = model.invlpg == InvlpgReach::AllUpperLevels;
        self.invalidate(next, cpu, |entry| match entry.is_leaf() {
            // H6: all pieces of a large page.
            true if entry.global => globals_go && entry.spans(addr),
            true => entry.pcid == pcid && entry.spans(addr),
            false => entry.pcid == pcid && (whole_pcid || entry.covers(addr)),
        });
    }

    /// H14; without PCIDs there is only PCID 0.
    pub(super) fn invpcid(&self, next: &mut State, cpu: usize, what: Invpcid) -> Refused {
        let named = match what {
            Invpcid::Address(pcid, _) | Invpcid::Pcid(pcid) => pcid,
            _ => 0,
        };
        let has_pcids = next.cpus[cpu].cr4.has(Cr4::PCIDE);
        if !self.script.setting.cpu_model.invpcid || named != 0 && !has_pcids {
            return GP;
        }
        if let Invpcid::Address(pcid, VirtAddr(addr)) = what {
            self.drop_address(next, cpu, addr, |entry| {
                !entry.global && entry.pcid == pcid && entry.covers(addr)
            });
        }
        self.invalidate(next, cpu, |entry| match what {
            Invpcid::Address(..) => false,
            Invpcid::Pcid(pcid) => !entry.global && entry.pcid == pcid,
            Invpcid::AllWithGlobals => true,
            Invpcid::AllNonGlobal => !entry.global,
        });
        Ok(())
    }

    /// H15.
    pub(super) fn load_cr3(
        &self,
        next: &mut State,
        cpu: usize,
        PhysAddr(cr3): PhysAddr,
        load: Cr3Load,
    ) -> Refused {
        let left = next.cpus[cpu].pcid();
        let pages = |number: &usize| {
            let entry = self.entry(*number);
            let is_of_left = entry.is_leaf() && entry.pcid == left;
            is_of_left && self.may_go_on_accessing(&entry)
        };
        let cached = next.cpus[cpu].cached;
        let cached = (0..64).filter(|number| cached >> number & 1 != 0);
        let accessed = cached
            .filter(pages)
            .fold(0, |bits, number| bits | 1 << number);
        let of = &mut next.cpus[cpu];
        let keeps = load == Cr3Load::Keep;
        if keeps && !of.cr4.has(Cr4::PCIDE) {
            return GP;
        }
        of.root = (cr3 >> 12) as u8;
        of.cr3_low = (cr3 & 0xfff) as u16;
        let pcid = of.pcid();
        let goes_on = self.script.setting.cpu_model.keep_load == KeepLoad::WalksGoOn;
        match keeps {
            // It invalidates nothing, so walks in flight go on, by the weak reading.
            true if goes_on => of.flying |= accessed,
            true => of.flying = 0,
            false => self.invalidate(next, cpu, |entry| entry.pcid == pcid && !entry.global),
        }
        if self.keeps_size_conflict(&next.cpus[cpu]) {
            return Err(Property::MultipleMatch);
        }
        match self.keeps_type_conflict(next, cpu) {
            true => Err(Property::StaleSpeculation),
            false => Ok(()),
        }
    }

    /// H1, H16.
    pub(super) fn write_cr4(&self, next: &mut State, cpu: usize, new: Cr4) -> Refused {
        let of = &mut next.cpus[cpu];
        let (old, flips) = (of.cr4, |bit: Cr4| of.cr4.has(bit) != new.has(bit));
        let pcide_flips = flips(Cr4::PCIDE);
        if pcide_flips && new.has(Cr4::PCIDE) {
            let exist = self.script.setting.cpu_model.pcids;
            if !exist || of.cr3_low != 0 {
                return GP;
            }
        }
        let all_go = flips(Cr4::PGE) || pcide_flips && old.has(Cr4::PCIDE);
        let pcid_goes = flips(Cr4::SMEP) && new.has(Cr4::SMEP);
        of.cr4 = new;
        let pcid = of.pcid();
        if all_go || pcid_goes {
            self.invalidate(next, cpu, |entry| {
                all_go || entry.pcid == pcid && !entry.global
            });
        }
        Ok(())
    }

    /// H29: the request is on its way to every CPU.
    pub(super) fn invlpgb(&self, next: &mut State, cpu: usize, what: Broadcast) -> Refused {
        if !self.script.setting.cpu_model.broadcast {
            return GP;
        }
        let number = self.request(cpu, what);
        for of in &mut next.cpus {
            of.requests |= 1 << number;
        }
        Ok(())
    }

    /// H29, H30, H37: a request arrives.
    pub(super) fn receive(&self, state: &State, cpu: usize, out: &mut Vec<Next>) {
        let whole_pcid = self.script.setting.cpu_model.invlpg == InvlpgReach::AllUpperLevels;
        for number in (0..16).filter(|number| state.cpus[cpu].requests >> number & 1 != 0) {
            let mut next = *state;
            next.cpus[cpu].requests &= !(1 << number);
            // ASSUMED: a fetch cannot use what the broadcast has invalidated (H40 has an instruction only).
            next.cpus[cpu].former = 0;
            let (_, what) = self.requests.borrow()[number];
            let goes = |entry: &Cached| {
                let covers = what.addr.is_none_or(|VirtAddr(addr)| entry.spans(addr));
                let of_pcid = what.pcid.is_none_or(|pcid| entry.pcid == pcid);
                match entry.is_leaf() {
                    true if entry.global => what.globals && of_pcid && covers,
                    true => of_pcid && covers,
                    false => !what.final_only && of_pcid && (covers || whole_pcid),
                }
            };
            match what.addr {
                Some(VirtAddr(addr)) => {
                    self.drop_address(&mut next, cpu, addr, goes);
                    next.cpus[cpu].flying = 0;
                }
                None => self.invalidate(&mut next, cpu, goes),
            }
            out.push(Ok(next));
        }
    }

    /// H29: says whether every CPU has done what this one has broadcast.
    pub(super) fn is_synced(&self, state: &State, cpu: usize) -> bool {
        let requests = self.requests.borrow();
        let mut own = (0..requests.len()).filter(|&number| requests[number].0 == cpu);
        !own.any(|number| state.cpus.iter().any(|of| of.requests >> number & 1 != 0))
    }
}
