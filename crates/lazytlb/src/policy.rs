//! How lazy CPUs are treated: the question of 2017.

use core::fmt;

use crate::hw::Quirks;

/// The statement that a kernel accepts walks of freed page tables on every CPU that it will ever
/// boot on. Writing it down is the opt-in to [`Policy::Defer`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct GarbageWalksAccepted;

/// What a CPU does on entering lazy mode, and what a flush does about lazy CPUs. Fixed at boot.
///
/// There may come others: outside of this crate a `match` needs an arm for them.
/// ```compile_fail,E0004
/// # use lazytlb::Policy;
/// fn is_eager(policy: Policy) -> bool {
///     match policy {
///         Policy::InitMm | Policy::Ipi => true,
///         Policy::Defer(_) | Policy::DeferUnlessQuirk | Policy::IpiOnTableFree => false,
///     }
/// }
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Policy {
    /// Skips lazy CPUs; they catch up by generation. **Unsafe** when page tables are freed: a lazy
    /// CPU's paging-structure cache may lead a walk into them. Source: Linux 94b1b03b519b.
    Defer(GarbageWalksAccepted),
    /// As `Defer`, but as `Ipi` where an erratum that makes such walks fatal is detected. Proposed in
    /// the thread of 2017; safe only as far as detection goes.
    DeferUnlessQuirk,
    /// Loads init_mm on entering lazy mode: nothing is left to flush. Costs CR3 loads, no IPIs.
    InitMm,
    /// Interrupts lazy CPUs as running ones; they leave for init_mm. One IPI ends a lazy stay.
    Ipi,
    /// Interrupts lazy CPUs only if page tables are freed. Source: Linux since 4.20, 145f573b89a6.
    IpiOnTableFree,
    /// Interrupts no lazy CPU: what a [`crate::Gather`] frees after tables were unhooked is held back until no CPU can walk
    /// it any more, within a bound ([`crate::quarantine`]). Beyond the bound, as `IpiOnTableFree`.
    Quarantine,
}

/// Whether page tables will be freed after a flush.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Tables {
    /// Only pages were unmapped or protected: no page table goes, and no entry was changed that leads to one. Where flushes are
    /// [broadcast](crate::Kernel::global_ids), upper levels stay cached then.
    Kept,
    /// Page tables were unhooked and will be freed when the flush returns.
    Freed,
    /// Page tables were unhooked and will be held back until [`crate::Tlb::release_held`] gives them up. Under every policy but
    /// [`Policy::Quarantine`] it is the same as `Freed`.
    Held,
}

impl Tables {
    /// Says whether page tables were unhooked.
    pub const fn are_unhooked(self) -> bool {
        !matches!(self, Tables::Kept)
    }
}

/// What a flush does about a target that is lazy.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum LazyTargets {
    Interrupt,
    Skip,
}

impl Policy {
    /// Every policy, in the order of the documentation's table.
    pub const ALL: &'static [Policy] = &[
        Policy::Defer(GarbageWalksAccepted),
        Policy::DeferUnlessQuirk,
        Policy::InitMm,
        Policy::Ipi,
        Policy::IpiOnTableFree,
        Policy::Quarantine,
    ];

    /// Returns its place in [`Policy::ALL`].
    pub(crate) const fn index(self) -> u8 {
        match self {
            Policy::Defer(GarbageWalksAccepted) => 0,
            Policy::DeferUnlessQuirk => 1,
            Policy::InitMm => 2,
            Policy::Ipi => 3,
            Policy::IpiOnTableFree => 4,
            Policy::Quarantine => 5,
        }
    }

    /// Returns the policy at such a place.
    #[inline]
    pub(crate) const fn of_index(index: u8) -> Policy {
        match index {
            0 => Policy::Defer(GarbageWalksAccepted),
            1 => Policy::DeferUnlessQuirk,
            2 => Policy::InitMm,
            3 => Policy::Ipi,
            4 => Policy::IpiOnTableFree,
            _ => Policy::Quarantine,
        }
    }

    /// Finds the policy of a name.
    pub fn by_name(name: &str) -> Option<Policy> {
        let mut all = Self::ALL.iter().copied();
        all.find(|policy| policy.name() == name)
    }

    /// Returns the name that people type.
    pub const fn name(self) -> &'static str {
        match self {
            Policy::Defer(GarbageWalksAccepted) => "defer",
            Policy::DeferUnlessQuirk => "defer-unless-quirk",
            Policy::InitMm => "init-mm",
            Policy::Ipi => "ipi",
            Policy::IpiOnTableFree => "ipi-on-table-free",
            Policy::Quarantine => "quarantine",
        }
    }

    /// Says what a flush does about lazy targets.
    pub(crate) fn lazy_targets(self, quirks: Quirks, tables: Tables) -> LazyTargets {
        let interrupt = match self {
            Policy::Defer(GarbageWalksAccepted) => false,
            Policy::DeferUnlessQuirk => quirks.garbage_walk_is_fatal(),
            // Nobody is lazy in a user space under `InitMm`.
            Policy::InitMm | Policy::Ipi => true,
            Policy::IpiOnTableFree => tables.are_unhooked(),
            Policy::Quarantine => tables == Tables::Freed,
        };
        if interrupt {
            LazyTargets::Interrupt
        } else {
            LazyTargets::Skip
        }
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quirk_turns_deferral_into_interrupts() {
        let quirk = Quirks::NONE.with_walks_assume_dram();
        for tables in [Tables::Kept, Tables::Freed] {
            let policy = Policy::DeferUnlessQuirk;
            assert_eq!(
                policy.lazy_targets(Quirks::default(), tables),
                LazyTargets::Skip
            );
            assert_eq!(policy.lazy_targets(quirk, tables), LazyTargets::Interrupt);
        }
    }

    #[test]
    fn every_policy_is_found_by_its_place() {
        for (index, &policy) in Policy::ALL.iter().enumerate() {
            assert_eq!(usize::from(policy.index()), index);
            assert_eq!(Policy::of_index(policy.index()), policy);
        }
    }

    #[test]
    fn names_are_distinct() {
        for (n, policy) in Policy::ALL.iter().enumerate() {
            assert!(
                Policy::ALL[..n]
                    .iter()
                    .all(|other| other.name() != policy.name())
            );
        }
    }
}
