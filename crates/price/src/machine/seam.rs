//! What each call of the seam, and of the traits beside it, does on the counting machine, and counts.

use std::cell::Cell;
use std::num::NonZeroU16;

use lazytlb::{
    Broadcast, CompareExchange, CpuId, CpuSet, Cr3Load, Hw, Interrupts, Invlpgb, Invpcid, Pcid,
    Pcids, PhysAddr, Poll, Quirks, Until, VirtAddr,
};

use super::{Activity, CountingMachine, members_of};
use crate::cells::CountedAtomic;
use crate::counts::Effect;
use crate::pcids_on::{Cpus, PcidsOn};
use crate::sleep::Sleep;
use crate::spaces::INIT_MM;

/// Addresses that one INVLPGB may name. ASSUMED: CPUs tell theirs by CPUID, and no recording has it; the number of INVLPGBs
/// that are counted for a range is the only thing that hangs on it.
const MOST_ADDRESSES: NonZeroU16 = NonZeroU16::new(8).expect("it is 8");

/// What an initiator waits for until idle CPUs are awake.
#[derive(Clone, Copy)]
enum Wake {
    /// It is not known of all of them.
    Unknown,
    /// The slowest one's stated exit latency.
    After { us: u64 },
}

impl Wake {
    /// Both are waited for at once.
    fn and(self, other: Wake) -> Wake {
        match (self, other) {
            (Wake::After { us: one }, Wake::After { us: other }) => {
                Wake::After { us: one.max(other) }
            }
            _ => Wake::Unknown,
        }
    }
}

impl<C: Cpus, const WORDS: usize> CountingMachine<C, WORDS> {
    /// Counts an IPI to an idle CPU that sleeps so deep, and says what is waited for.
    fn count_wake(&self, sleep: Sleep) -> Wake {
        self.tally.count(Effect::IpiToIdle);
        let us = match sleep {
            // No IPI meets a CPU that has left before it sleeps, unless the recording contradicts itself.
            Sleep::Unknown | Sleep::Flushed => return Wake::Unknown,
            Sleep::Awake => 0,
            Sleep::Light {
                state,
                exit_latency_us,
            } => {
                self.tally.count_idle_state(state);
                exit_latency_us
            }
        };
        self.tally.count(Effect::IpiToKnownSleep);
        self.tally.add(Effect::IdleWakeUs, us);
        Wake::After { us }
    }
}

/// Changes a word; returns what it held.
#[inline]
fn modify(word: &CountedAtomic, change: impl FnOnce(u64) -> u64) -> u64 {
    let former = word.value.get();
    word.value.set(change(former));
    former
}

impl<C: Cpus, const WORDS: usize> Hw for CountingMachine<C, WORDS> {
    type Atomic = CountedAtomic;
    type Local = Cell<u64>;

    #[inline]
    fn cpu(&self) -> CpuId {
        self.current.get()
    }

    #[inline]
    fn load(&self, atomic: &CountedAtomic) -> u64 {
        if atomic.role.is_counted(self.counted_reads.get(), self.cpu()) {
            self.tally.count(Effect::RemoteRead);
        }
        atomic.value.get()
    }

    #[inline]
    fn store(&self, atomic: &CountedAtomic, value: u64) {
        atomic.value.set(value);
    }

    #[inline]
    fn fetch_add(&self, atomic: &CountedAtomic, value: u64) -> u64 {
        self.tally.count(Effect::Locked);
        modify(atomic, |former| former.wrapping_add(value))
    }

    #[inline]
    fn fetch_or(&self, atomic: &CountedAtomic, bits: u64) -> u64 {
        self.tally.count(Effect::Locked);
        modify(atomic, |former| former | bits)
    }

    #[inline]
    fn fetch_and(&self, atomic: &CountedAtomic, bits: u64) -> u64 {
        self.tally.count(Effect::Locked);
        modify(atomic, |former| former & bits)
    }

    #[inline]
    fn swap(&self, atomic: &CountedAtomic, value: u64) -> u64 {
        self.tally.count(Effect::Locked);
        modify(atomic, |_| value)
    }

    #[inline]
    fn load_local(&self, local: &Cell<u64>) -> u64 {
        local.get()
    }

    #[inline]
    fn store_local(&self, local: &Cell<u64>, value: u64) {
        local.set(value);
    }

    #[inline]
    fn fence(&self) {
        self.tally.count(Effect::Fence);
    }

    #[inline]
    fn interrupts(&self) -> Interrupts {
        self.interrupts.get()
    }

    #[inline]
    fn disable_interrupts(&self) -> Interrupts {
        self.interrupts.replace(Interrupts::Disabled)
    }

    #[inline]
    fn restore_interrupts(&self, former: Interrupts) {
        self.interrupts.set(former);
    }

    fn send_ipi<const TARGET_WORDS: usize>(&self, targets: &CpuSet<TARGET_WORDS>) {
        const { assert!(TARGET_WORDS <= WORDS) };
        let mut wake = None::<Wake>;
        let words = self.pending.iter().zip(targets.words());
        for (index, (pending, &targets)) in words.enumerate().take(self.words) {
            pending.set(pending.get() | targets);
            for cpu in members_of(index, targets) {
                let target = &self.cpus[usize::from(cpu.0)];
                let received = &self.received[usize::from(cpu.0)];
                received.set(received.get() + 1);
                match target.activity.get() {
                    Activity::Running => self.tally.count(Effect::IpiToRunning),
                    Activity::KernelThread => self.tally.count(Effect::IpiToLazy),
                    Activity::Idle => {
                        let own = self.count_wake(target.sleep.get());
                        wake = Some(wake.map_or(own, |others| others.and(own)));
                    }
                }
            }
        }
        self.tally.count(Effect::Shootdown);
        if let Some(wake) = wake {
            self.tally.count(Effect::ShootdownToIdle);
            if let Wake::After { us } = wake {
                self.tally.count(Effect::ShootdownToKnownSleep);
                self.tally.add(Effect::IdleWaitUs, us);
            }
        }
    }

    fn pause_until(&self, atomic: &CountedAtomic, until: Until) {
        if until.holds(atomic.value.get()) {
            return;
        }
        self.deliver_interrupts();
        assert!(
            until.holds(atomic.value.get()),
            "every interrupt was served, and the protocol still waits: it would wait for ever"
        );
    }

    fn load_cr3(&self, root: PhysAddr, load: Cr3Load) {
        let former = self.me().root.replace(root);
        let is_user = root != self.spaces.get(INIT_MM).root();
        let (effect, refill) = match (load, former == root) {
            (Cr3Load::Keep, _) => return self.tally.count(Effect::Cr3Keep),
            (Cr3Load::Flush, true) => (Effect::FullFlush, Effect::RefillAfterFlush),
            (Cr3Load::Flush, false) => (Effect::Cr3Flush, Effect::RefillAfterLoad),
        };
        self.tally.count(effect);
        if is_user {
            self.tally.count(refill);
        }
    }

    #[inline]
    fn invlpg(&self, _addr: VirtAddr) {
        self.tally.count(Effect::Invlpg);
    }

    fn quirks(&self) -> Quirks {
        self.quirks
    }
}

impl<C: Cpus, const WORDS: usize> Pcids for CountingMachine<C, WORDS> {
    #[inline]
    fn pcids_are_on(&self) -> bool {
        C::PCIDS_ON == PcidsOn::Yes
    }

    fn load_cr3_pcid(&self, root: PhysAddr, pcid: Pcid, load: Cr3Load) {
        let former = self.me().roots[usize::from(pcid.number())].replace(root);
        assert!(
            load == Cr3Load::Flush || former == root,
            "what is cached under a PCID is kept for another space than its own"
        );
        self.load_cr3(root, load);
    }

    fn invpcid(&self, what: Invpcid) {
        match what {
            Invpcid::Address(..) => self.tally.count(Effect::Invlpg),
            Invpcid::Pcid(_) | Invpcid::AllWithGlobals | Invpcid::AllNonGlobal => {
                self.tally.count(Effect::FullFlush);
            }
        }
    }
}

impl<C: Cpus, const WORDS: usize> CompareExchange for CountingMachine<C, WORDS> {
    /// Locked, whether or not it writes.
    #[inline]
    fn compare_exchange(&self, atomic: &CountedAtomic, current: u64, new: u64) -> Result<u64, u64> {
        self.tally.count(Effect::Locked);
        let former = modify(atomic, |held| if held == current { new } else { held });
        if former == current {
            Ok(former)
        } else {
            Err(former)
        }
    }
}

impl<C: Cpus, const WORDS: usize> Broadcast for CountingMachine<C, WORDS> {
    fn most_addresses(&self) -> Option<NonZeroU16> {
        Some(MOST_ADDRESSES)
    }
    /// Nothing is cached here: it is counted, and no more.
    fn invlpgb(&self, _what: Invlpgb) {
        self.tally.count(Effect::Invlpgb);
    }
    fn tlbsync(&self) {
        self.tally.count(Effect::Tlbsync);
    }
}

impl<C: Cpus, const WORDS: usize> Poll for CountingMachine<C, WORDS> {
    /// As a wait, every iteration in which the body finds nothing serves what is pending.
    fn poll<R>(&self, body: impl Fn(&Self) -> Option<R>) -> R {
        loop {
            if let Some(found) = body(self) {
                return found;
            }
            assert!(
                self.deliver_interrupts(),
                "every interrupt was served, and the code still polls: it would poll for ever"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cells::{CountedCells, Owner};
    use crate::pcids_on::WithoutPcids;
    use lazytlb::{Cells, PageRange, PageSize, Policy, Strides};

    type Machine = CountingMachine<WithoutPcids, 1>;

    fn machine() -> Machine {
        let mut machine = Machine::new(Policy::Ipi, Quirks::default());
        machine.become_cpu(CpuId(1));
        machine.become_cpu(CpuId(0));
        machine
    }

    #[test]
    fn a_poll_lets_others_serve_what_is_pending_between_two_iterations() {
        let machine = machine();
        let word = Cells::<Machine>::atomic(&mut CountedCells(Owner::Cpu(CpuId(0))), "", 0);
        let mut targets = CpuSet::<1>::EMPTY;
        targets.insert(CpuId(0));
        targets.insert(CpuId(1));
        let former = machine.disable_interrupts();
        machine.send_ipi(&targets);
        let found = machine.poll(|machine| {
            let is_served = machine.pending[0].get() & 2 == 0;
            (machine.fetch_add(&word, 1) > 0 && is_served).then_some("served")
        });
        assert_eq!((found, word.value.get()), ("served", 2));
        assert_eq!(machine.pending[0].get(), 1, "its own are off");
        machine.restore_interrupts(former);
        assert_eq!(machine.cpu(), CpuId(0));
    }

    #[test]
    fn a_compare_exchange_is_locked_though_it_fails() {
        let machine = machine();
        let word = Cells::<Machine>::atomic(&mut CountedCells(Owner::Cpu(CpuId(0))), "", 3);
        assert_eq!(machine.compare_exchange(&word, 2, 9), Err(3));
        assert_eq!(word.value.get(), 3);
        assert_eq!(machine.compare_exchange(&word, 3, 9), Ok(3));
        assert_eq!(word.value.get(), 9);
        assert_eq!(machine.tally().counts().locked, 2);
    }

    #[test]
    fn broadcasts_are_counted_by_the_instruction_and_interrupt_nobody() {
        let machine = machine();
        let range = PageRange {
            start: VirtAddr(0),
            len_pages: 9,
            size: PageSize::Size4K,
        };
        let most = machine.most_addresses().expect("it broadcasts");
        for run in Strides::over(range, most) {
            machine.invlpgb(Invlpgb {
                addresses: Some(run),
                ..Invlpgb::EVERYTHING
            });
        }
        machine.tlbsync();
        let counts = machine.tally().counts();
        assert_eq!((counts.invlpgb, counts.tlbsync, counts.ipis), (2, 1, 0));
    }

    #[test]
    #[should_panic(expected = "poll for ever")]
    fn a_poll_that_nothing_can_end_is_an_error() {
        machine().poll(|_| None::<()>);
    }
}
