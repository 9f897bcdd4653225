//! Which cached entries something can still tell the presence of.

use lazytlb::{Cr3Load, VirtAddr};
use lazytlb_model::cpu_model::SizeConflict;
use lazytlb_model::{Call, Property};

use super::state::{Cached, Cpu};
use crate::script::Script;

/// Addresses, a bit each, that a CPU has still to access.
type Future = u8;

/// What a script's CPUs have still to access, and what else can tell whether an entry is cached.
pub(super) struct Useful {
    addrs: Vec<u64>,
    /// For each CPU and each position, what its own calls from there on access.
    own: [Vec<Future>; 2],
    handlers: Future,
    /// For each CPU and each position, whether its own calls from there on fetch instructions.
    fetches: [Vec<bool>; 2],
    handlers_fetch: bool,
    /// Some CR3 load keeps what is cached: a walk of one space can go on in another.
    keeps_walks: bool,
    /// A walk from an upper entry can set Accessed bits.
    keeps_upper: bool,
    /// The presence of an entry for a page can be a violation.
    keeps_all: bool,
}

impl Useful {
    pub(super) fn new(script: &Script, ignored: &[Property]) -> Useful {
        let mut addrs: Vec<u64> = script.calls().filter_map(accessed).collect();
        addrs.sort_unstable();
        addrs.dedup();
        let bit = |call: &Call| {
            let at = accessed(call).and_then(|addr| addrs.iter().position(|&one| one == addr));
            at.map_or(0, |at| 1 << at)
        };
        let own = [0, 1].map(|cpu: usize| {
            let calls = &script.cpus[cpu];
            let from = |position: usize| {
                calls[position..]
                    .iter()
                    .fold(0, |all, call| all | bit(call))
            };
            (0..=calls.len()).map(from).collect()
        });
        let handlers = script.handler.iter().chain(&script.nmi);
        let handlers = handlers.fold(0, |all, call| all | bit(call));
        let checks = |property| !ignored.contains(&property);
        let fetches = [0, 1].map(|cpu: usize| {
            let calls = &script.cpus[cpu];
            (0..=calls.len())
                .map(|position| calls[position..].iter().any(is_fetch))
                .collect()
        });
        let erratum = script.setting.cpu_model.size_conflict != SizeConflict::EitherIsUsed;
        Useful {
            own,
            fetches,
            handlers_fetch: script.handler.iter().chain(&script.nmi).any(is_fetch),
            keeps_walks: script
                .calls()
                .any(|call| matches!(call, Call::LoadCr3(_, Cr3Load::Keep))),
            handlers,
            keeps_upper: script.features.accessed_dirty,
            keeps_all: erratum && checks(Property::MultipleMatch)
                || script.features.write_combining > 0 && checks(Property::StaleSpeculation),
            addrs,
        }
    }

    /// Returns what a CPU has still to access; handlers may always come.
    pub(super) fn future_of(&self, of: &Cpu, cpu: usize) -> Future {
        let is_late = |addr: &u64| of.late_addrs().any(|late| late == *addr);
        let late = self.addrs.iter().map(is_late).rev();
        let late = late.fold(0, |bits, is_late| bits << 1 | Future::from(is_late));
        self.own[cpu][usize::from(of.position)] | self.handlers | late
    }

    /// Says whether a CPU has still to fetch instructions; handlers may always come.
    pub(super) fn fetches(&self, of: &Cpu, cpu: usize) -> bool {
        self.handlers_fetch || self.fetches[cpu][usize::from(of.position)]
    }

    /// Says whether a walk that has read nothing yet can go on under another root.
    pub(super) fn keeps_walks(&self) -> bool {
        self.keeps_walks
    }

    pub(super) fn is_useful(&self, entry: &Cached, future: Future) -> bool {
        if self.keeps_all || self.keeps_upper && !entry.is_leaf() {
            return true;
        }
        let mut addrs = self.addrs.iter().enumerate();
        addrs.any(|(at, &addr)| future >> at & 1 != 0 && entry.covers(addr))
    }
}

fn is_fetch(call: &Call) -> bool {
    matches!(call, Call::Fetch(..))
}

/// Returns the address that a call accesses.
fn accessed(call: &Call) -> Option<u64> {
    match *call {
        Call::LoadVirtual(VirtAddr(addr), _)
        | Call::Fetch(VirtAddr(addr), _)
        | Call::RmwVirtual {
            addr: VirtAddr(addr),
            ..
        }
        | Call::StoreVirtual {
            addr: VirtAddr(addr),
            ..
        } => Some(addr),
        _ => None,
    }
}
