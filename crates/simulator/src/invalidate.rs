//! Instructions that invalidate translations (H13 to H18, H29, H30).

use lazytlb_litmus_syntax::InvpcidType;

use crate::code::{Broadcast, Cr4Change};
use crate::cpu::Pending;
use crate::machine::{Machine, Stop};
use crate::memory::Frame;
use crate::psc::PscEntry;
use crate::tlb::TlbEntry;

/// What an instruction that the CPU refuses comes to.
const GENERAL_PROTECTION: Stop = Stop::Violation("general-protection");

impl Machine<'_> {
    /// Drops cached translations, and every walk in flight with them (H12a).
    fn invalidate(
        &mut self,
        cpu: usize,
        pages: impl Fn(&TlbEntry) -> bool,
        upper_levels: impl Fn(&PscEntry) -> bool,
    ) {
        let cpu = &mut self.cpus[cpu];
        cpu.walks.clear();
        cpu.tlb.drop_where(pages);
        cpu.psc.drop_where(upper_levels);
    }

    /// INVLPG: the page, whole (H6), also where it is global; with EFER.TCE only the upper levels that lead
    /// to it (H37). That other CPUs drop more is one of the evictions.
    pub(crate) fn invlpg(&mut self, cpu: usize, address: u64) {
        let pcid = self.cpus[cpu].pcid();
        self.invalidate(
            cpu,
            |page| (page.global || page.pcid == pcid) && page.page_covers(address),
            |upper| upper.pcid == pcid && upper.leads_to(address),
        );
    }

    /// INVPCID (H14). Type 0 drops one piece of a large page (H6).
    pub(crate) fn invpcid(
        &mut self,
        cpu: usize,
        kind: InvpcidType,
        pcid: u16,
        address: u64,
    ) -> Result<(), Stop> {
        let names_pcid = matches!(kind, InvpcidType::Address | InvpcidType::SingleContext);
        if names_pcid && pcid != 0 && !self.cpus[cpu].pcide {
            return Err(GENERAL_PROTECTION);
        }
        match kind {
            InvpcidType::Address => self.invalidate(
                cpu,
                |page| !page.global && page.pcid == pcid && page.serves(address),
                |upper| upper.pcid == pcid && upper.leads_to(address),
            ),
            InvpcidType::SingleContext => self.drop_pcid(cpu, pcid),
            InvpcidType::AllWithGlobal => self.invalidate(cpu, |_| true, |_| true),
            InvpcidType::AllExceptGlobal => self.invalidate(cpu, |page| !page.global, |_| true),
        }
        Ok(())
    }

    /// Drops what is tagged with a PCID, but for global pages.
    fn drop_pcid(&mut self, cpu: usize, pcid: u16) {
        self.invalidate(
            cpu,
            |page| !page.global && page.pcid == pcid,
            |upper| upper.pcid == pcid,
        );
    }

    /// MOV to CR3 (H15).
    pub(crate) fn load_cr3(
        &mut self,
        cpu: usize,
        root: Frame,
        low: u16,
        keep: bool,
    ) -> Result<(), Stop> {
        let ends_walks = !self.board.amended.walks_across_bit_63;
        let state = &mut self.cpus[cpu];
        if keep && !state.pcide {
            return Err(GENERAL_PROTECTION);
        }
        state.root = root;
        state.cr3_low = low;
        let pcid = state.pcid();
        if !keep {
            self.drop_pcid(cpu, pcid);
        } else if ends_walks {
            state.walks.clear();
        }
        Ok(())
    }

    /// MOV to CR4 (H1, H16).
    pub(crate) fn change_cr4(&mut self, cpu: usize, change: Cr4Change) -> Result<(), Stop> {
        let state = &mut self.cpus[cpu];
        let pcide = change.pcide.unwrap_or(state.pcide);
        let pge = change.pge.unwrap_or(state.pge);
        let smep = change.smep.unwrap_or(state.smep);
        if pcide && !state.pcide && state.cr3_low != 0 {
            return Err(GENERAL_PROTECTION);
        }
        let drops_all = pge != state.pge || state.pcide && !pcide;
        let drops_current = smep && !state.smep;
        let pcid = state.pcid();
        (state.pcide, state.pge, state.smep) = (pcide, pge, smep);
        self.invalidate(
            cpu,
            |page| drops_all || drops_current && page.pcid == pcid && !page.global,
            |upper| drops_all || drops_current && upper.pcid == pcid,
        );
        Ok(())
    }

    /// INVLPGB: every CPU does it some time later, the own one too (H29).
    pub(crate) fn invlpgb(&mut self, cpu: usize, what: Broadcast) {
        for target in &mut self.cpus {
            target.broadcasts.push(Pending { issuer: cpu, what });
        }
    }

    /// Says whether every broadcast of a CPU has arrived everywhere, which is all that TLBSYNC waits for.
    pub(crate) fn is_synchronized(&self, issuer: usize) -> bool {
        let mut left = self.cpus.iter().flat_map(|cpu| &cpu.broadcasts);
        left.all(|pending| pending.issuer != issuer)
    }

    /// Lets one of the broadcasts for a CPU arrive, between two instructions. It goes by the size of what
    /// is cached (H30), so of a large page in pieces it drops one (H6), and with EFER.TCE only the upper levels that lead there (H37).
    pub(crate) fn broadcast_arrives(&mut self, cpu: usize) {
        let waiting = self.cpus[cpu].broadcasts.len();
        if waiting == 0 || self.cpus[cpu].half.is_some() {
            return;
        }
        let index = self.random.below(waiting);
        let what = self.cpus[cpu].broadcasts.remove(index).what;
        for update in &mut self.cpus[cpu].updates {
            update.fill = None;
        }
        let of_pcid = |pcid| what.pcid.is_none_or(|wanted| wanted == pcid);
        self.invalidate(
            cpu,
            |page| {
                let is_meant = what.globals || !page.global;
                is_meant
                    && of_pcid(page.pcid)
                    && what.address.is_none_or(|address| page.serves(address))
            },
            |upper| {
                let covers = what.address.is_none_or(|address| upper.leads_to(address));
                !what.final_only && of_pcid(upper.pcid) && covers
            },
        );
    }
}
