//! Whom a shootdown interrupts: of the cpumask, whoever may still use what was removed, but for lazy CPUs that the policy spares.

use crate::cpu_set::{CpuId, CpuSet, members_of_word};
use crate::hw::Hw;
use crate::kernel::Kernel;
use crate::mm::{Mm, MmHandle};
use crate::per_cpu::Whereabouts;
use crate::policy::{LazyTargets, Policy, Tables};
use crate::tlb::Tlb;

/// What a shootdown is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Occasion {
    Flush,
    /// Memory becomes something else: a device's is given back, or the type or the size of pages changes. What a lazy CPU may
    /// still do with it is not undone when it comes back: it is interrupted under every policy. So is a CPU elsewhere: what it began to access, by speculation,
    /// before a load that keeps may come after that (H12a, H28), until it invalidates something.
    Change,
    EndOfSpace,
}

/// Whom a flush interrupts.
pub(crate) struct Chosen<const WORDS: usize> {
    pub(crate) targets: CpuSet<WORDS>,
    /// How many they are.
    pub(crate) count: u32,
    /// How many of them have another space loaded.
    pub(crate) elsewhere: u32,
    /// Lazy CPUs that the policy spares.
    pub(crate) lazy_skipped: u32,
}

impl<const WORDS: usize> Chosen<WORDS> {
    pub(crate) fn nobody() -> Self {
        Chosen {
            targets: CpuSet::EMPTY,
            count: 0,
            elsewhere: 0,
            lazy_skipped: 0,
        }
    }
}

impl<K: Kernel<WORDS, SLOTS>, const WORDS: usize, const SLOTS: usize> Tlb<K, WORDS, SLOTS> {
    /// Chooses whom to interrupt, after the generation was raised: whoever is not chosen either caches
    /// nothing of the space, or will see the raised generation before it uses it.
    #[inline(always)]
    pub(crate) fn choose_targets(
        &self,
        hw: &K::Hw,
        handle: MmHandle,
        mm: &Mm<K::Hw, WORDS>,
        tables: Tables,
        occasion: Occasion,
        chosen: &mut Chosen<WORDS>,
    ) {
        let this_cpu = hw.cpu();
        for word in 0..self.cpu_words() {
            let members = mm.cpumask_word(hw, word);
            if members == 0 {
                continue;
            }
            let others = word_without(word, members, this_cpu);
            if others != 0 {
                let others = members_of_word(word, others);
                self.choose_among(hw, handle, others, tables, occasion, chosen);
            }
        }
    }

    /// Chooses among other CPUs of the cpumask. Not inlined, for the same reason.
    #[inline(never)]
    fn choose_among(
        &self,
        hw: &K::Hw,
        mm: MmHandle,
        others: impl Iterator<Item = CpuId>,
        tables: Tables,
        occasion: Occasion,
        chosen: &mut Chosen<WORDS>,
    ) {
        for cpu in others {
            self.choose(hw, mm, cpu, tables, occasion, chosen);
        }
    }

    /// Chooses whether to interrupt a CPU of the cpumask.
    fn choose(
        &self,
        hw: &K::Hw,
        mm: MmHandle,
        cpu: CpuId,
        tables: Tables,
        occasion: Occasion,
        chosen: &mut Chosen<WORDS>,
    ) {
        let other = self.kernel.per_cpu(cpu);
        match other.whereabouts(hw, mm) {
            // It catches up when it comes back. But a walk that began before it left may still be under way, and end in an access.
            Whereabouts::Elsewhere if tables == Tables::Kept && occasion != Occasion::Change => {}
            whereabouts
                if self.lazy_targets(hw, whereabouts, tables, occasion) == LazyTargets::Skip
                    && other.is_lazy(hw) =>
            {
                chosen.lazy_skipped += 1;
                if tables == Tables::Held {
                    // I11: before anything is held. It is lazy since before it was looked at, so what it reads on its way
                    // out of that is the raised generation: it says so only after it has flushed past it.
                    self.kernel.mm(mm).spare(hw, cpu);
                }
            }
            whereabouts => {
                chosen.targets.insert(cpu);
                chosen.count += 1;
                chosen.elsewhere += u32::from(whereabouts == Whereabouts::Elsewhere);
            }
        }
    }

    /// Says what a flush does about lazy targets. Asked for each: most flushes have none.
    fn lazy_targets(
        &self,
        hw: &K::Hw,
        whereabouts: Whereabouts,
        tables: Tables,
        occasion: Occasion,
    ) -> LazyTargets {
        match (occasion, whereabouts) {
            (Occasion::Change | Occasion::EndOfSpace, _) => LazyTargets::Interrupt,
            (Occasion::Flush, Whereabouts::Inside) => {
                self.policy().lazy_targets(hw.quirks(), tables)
            }
            // Lazy in another space. Nothing brings it back to this one, so it is spared only where what it may walk is held.
            (Occasion::Flush, Whereabouts::Elsewhere) => match self.policy() {
                Policy::Quarantine => self.policy().lazy_targets(hw.quirks(), tables),
                _ => LazyTargets::Interrupt,
            },
        }
    }
}

/// Returns word `index` of a set without one CPU.
fn word_without(index: usize, word: u64, cpu: CpuId) -> u64 {
    match cpu.word_and_bit() {
        (of_cpu, bit) if of_cpu == index => word & !bit,
        _ => word,
    }
}
