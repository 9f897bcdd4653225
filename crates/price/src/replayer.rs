//! One policy's machine, and how it does what is asked.

use std::cell::Cell;

use lazytlb::{CpuId, FlushRange, MmHandle, Policy, Quirks, Tables};
use lazytlb_trace::{Laziness, Onto};

use crate::cells::MOST_WORDS;
use crate::counts::{Counts, Effect};
use crate::holding::Freed;
use crate::machine::{Activity, CountingMachine};
use crate::pcids_on::{Cpus, PcidsOn, WithPcids, WithoutPcids};
use crate::requests::{Request, What};
use crate::slots::Slots;

/// What a replay is of.
#[derive(Clone, Copy)]
pub(crate) struct Setting {
    pub(crate) policy: Policy,
    pub(crate) quirks: Quirks,
    pub(crate) pcids: PcidsOn,
}

/// How many CPUs there can be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Capacity {
    /// 64: a set of them is one word.
    OneWord,
    /// [`crate::MAX_CPUS`].
    Most,
}

impl Capacity {
    /// Returns the least that has every CPU below this one; what is not known may be any.
    pub(crate) fn of_cpus_below(end: Option<u16>) -> Capacity {
        match end {
            Some(0..=64) => Capacity::OneWord,
            Some(_) | None => Capacity::Most,
        }
    }
}

/// A machine of some kind that does under one policy what requests ask.
pub(crate) trait Replaying {
    /// Does what is asked, one after the other.
    fn replay(&mut self, requests: &[Request]);

    /// Goes to an end of what is unknown: see [`crate::Replay::with_unknown_tables`].
    fn set_unknown_tables(&mut self, unknown_tables: Tables);

    /// Returns the counts so far.
    fn counts(&self) -> Counts;

    /// Returns the IPIs that each CPU was sent so far, from CPU 0 on.
    fn ipis_received(&self) -> &[Cell<u64>];
}

/// Makes a machine that stands before the first request: one that is compiled for what is known of it.
pub(crate) fn replaying(setting: Setting, capacity: Capacity) -> Box<dyn Replaying> {
    match (setting.pcids, capacity) {
        (PcidsOn::No, Capacity::OneWord) => Box::new(Replayer::<WithoutPcids, 1>::new(setting)),
        (PcidsOn::No, Capacity::Most) => {
            Box::new(Replayer::<WithoutPcids, MOST_WORDS>::new(setting))
        }
        (PcidsOn::Yes, Capacity::OneWord) => Box::new(Replayer::<WithPcids, 1>::new(setting)),
        (PcidsOn::Yes, Capacity::Most) => Box::new(Replayer::<WithPcids, MOST_WORDS>::new(setting)),
    }
}

/// Does under one policy what requests ask.
struct Replayer<C: Cpus, const WORDS: usize> {
    machine: CountingMachine<C, WORDS>,
    policy: Policy,
    /// What a flush is taken to do of which it is unknown whether it frees page tables.
    unknown_tables: Tables,
    /// Where each space is on this machine.
    slots: Slots,
}

impl<C: Cpus, const WORDS: usize> Replaying for Replayer<C, WORDS> {
    fn replay(&mut self, requests: &[Request]) {
        for request in requests {
            self.machine.become_cpu(CpuId(request.cpu));
            match request.what {
                What::Make { mm, identity } => {
                    let mm = self.slots.take(mm);
                    self.machine.spaces_mut().make(mm, identity);
                }
                What::Begin { mm, laziness } => self.begin(self.slots.of(mm), laziness),
                What::Sleep(sleep) => self.machine.set_sleep(sleep),
                What::Switch { mm } => self.switch(self.slots.of(mm)),
                What::GoLazy { onto } => self.go_lazy(onto),
                What::Flush { mm, range, tables } => self.flush(self.slots.of(mm), range, tables),
                What::Retire { mm } => self.retire(self.slots.of(mm)),
                What::Nothing => self.machine.tally().count(Effect::Operation),
            }
        }
        // Who does not restore them once does not restore them in the operations that follow, either.
        self.machine.assert_interrupts_enabled();
    }

    fn set_unknown_tables(&mut self, unknown_tables: Tables) {
        self.unknown_tables = unknown_tables;
    }

    fn counts(&self) -> Counts {
        self.machine.tally().counts()
    }

    fn ipis_received(&self) -> &[Cell<u64>] {
        self.machine.received()
    }
}

impl<C: Cpus, const WORDS: usize> Replayer<C, WORDS> {
    fn new(setting: Setting) -> Self {
        Replayer {
            machine: CountingMachine::new(setting.policy, setting.quirks),
            policy: setting.policy,
            unknown_tables: Tables::Kept,
            slots: match setting.policy {
                Policy::Quarantine => Slots::kept(),
                _ => Slots::Shared,
            },
        }
    }

    #[cold]
    fn begin(&mut self, mm: MmHandle, laziness: Laziness) {
        self.machine.uncounted(|machine| {
            machine.tlb().switch_mm(machine, mm);
            if laziness == Laziness::Lazy {
                machine.tlb().enter_lazy(machine);
            }
        });
        self.machine.set_activity(match laziness {
            // Which of the two is told by the operation that follows.
            Laziness::Lazy => Activity::KernelThread,
            Laziness::NotLazy => Activity::Running,
        });
    }

    #[inline]
    fn switch(&self, mm: MmHandle) {
        self.machine.tally().count(Effect::Operation);
        self.machine.tlb().switch_mm(&self.machine, mm);
        self.machine.set_activity(Activity::Running);
    }

    #[inline]
    fn go_lazy(&mut self, onto: Onto) {
        self.machine.tally().count(Effect::Operation);
        self.machine.tlb().enter_lazy(&self.machine);
        self.machine.set_activity(match onto {
            Onto::Idle => Activity::Idle,
            Onto::KernelThread => Activity::KernelThread,
            // Unknown: the end that is asked for, as with tables.
            Onto::Unknown if self.unknown_tables == Tables::Freed => Activity::Idle,
            Onto::Unknown => Activity::KernelThread,
        });
        if self.policy == Policy::Quarantine {
            self.give_up();
        }
    }

    #[inline]
    fn flush(&mut self, mm: MmHandle, range: FlushRange, tables: lazytlb_trace::Tables) {
        let tables = match tables {
            // Unknown: the lowest count, until both ends are asked for.
            lazytlb_trace::Tables::Kept => Tables::Kept,
            lazytlb_trace::Tables::Unknown => self.unknown_tables,
            lazytlb_trace::Tables::Freed => Tables::Freed,
        };
        self.machine.tally().count(Effect::Operation);
        let report = match (self.policy, tables) {
            (Policy::Quarantine, Tables::Freed) => {
                self.give_up();
                self.machine.flush_and_hold(mm, range, self.freed())
            }
            _ => self.machine.tlb().flush(&self.machine, mm, range, tables),
        };
        self.add(Effect::LazySkipped, report.lazy_skipped);
        self.add(Effect::IpiElsewhere, report.elsewhere);
    }

    /// Adds to a count. Mostly there is nothing, and then it is not read: the reports are fresh in memory, in halves.
    #[inline]
    fn add(&self, effect: Effect, number: u32) {
        if number != 0 {
            self.machine.tally().add(effect, u64::from(number));
        }
    }

    fn retire(&mut self, mm: MmHandle) {
        self.machine.tally().count(Effect::Operation);
        self.machine.evict_running(mm);
        let report = self.machine.tlb().retire(&self.machine, mm);
        self.add(Effect::IpiAtRetire, report.interrupted);
        self.add(Effect::IpiElsewhere, report.elsewhere);
        self.machine.deliver_interrupts();
        if self.policy == Policy::Quarantine {
            self.machine.may_give_up().set(true);
            // Other CPUs may hold tables of it, and give them up later.
            return self.give_up();
        }
        let reaped = self.machine.tlb().reap(&self.machine);
        assert!(
            reaped.is_some_and(|reaped| reaped.mm == mm),
            "every CPU has left"
        );
    }

    /// Says how many page tables a flush frees that frees some.
    fn freed(&self) -> Freed {
        match self.unknown_tables {
            Tables::Kept => Freed::Fewest,
            Tables::Freed | Tables::Held => Freed::Most,
        }
    }

    /// Frees what the current CPU holds back or has retired, as far as nobody can reach it any more.
    #[inline]
    fn give_up(&mut self) {
        if self.machine.may_give_up().get() {
            self.give_up_what_there_is();
        }
    }

    fn give_up_what_there_is(&mut self) {
        let released = self.machine.release_held();
        while let Some(reaped) = self.machine.tlb().reap(&self.machine) {
            self.slots.free(reaped.mm);
        }
        let has_retired = self.machine.tlb().has_retired(&self.machine);
        let may_give_up = self.machine.may_give_up();
        may_give_up.set(has_retired || released.batches_left > 0);
    }
}
