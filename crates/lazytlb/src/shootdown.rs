//! Flushing, on the initiator's side.
//!
//! ```text
//! initiator                                target
//! page tables changed
//! tlb_gen += 1            (full fence)     ┐
//! read cpumask, whereabouts, is_lazy:      │ `add`: any number of them, of one space or several
//!   choose targets                         │
//! write request                            ┘
//! target's inbox |= me    (full fence)     ┐ `send`
//! IPI  ─────────────────────────────────▶  │ read inbox
//! flush own TLB                            ┘ read tlb_gen; invalidate; flushed_to = tlb_gen
//! wait until my bit in inbox is 0  ◀─────  `wait`     inbox &= !those that were read
//! ```
//!
//! A target catches up with whatever it has loaded, so the IPI alone says what to do, and a request is only a hint of what
//! may be invalidated page by page. An answer is for everything that its initiator had raised before it set the bit. If the
//! bit stood there already, for an earlier shootdown of the same CPU, the answer may be for that one; then `wait` asks once more.

use core::mem::ManuallyDrop;

use crate::addr::FlushRange;
use crate::broadcast::Broadcast;
use crate::cpu_set::{CpuId, CpuSet};
use crate::generation::NextGen;
use crate::global_id::{Global, Phase};
use crate::hw::{Hw, Interrupts, Poll};
use crate::interrupts::InterruptsOff;
use crate::kernel::Kernel;
use crate::mm::MmHandle;
use crate::pcids::Pcids;
use crate::per_cpu::PerCpu;
use crate::pinned::{OnItsCpu, Pinned};
pub use crate::policy::Tables;
use crate::requests::Removed;
use crate::serve::{Known, Served};
use crate::targets::{Chosen, Occasion};
use crate::tlb::Tlb;

/// What a flush did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Flushed {
    /// CPUs that were sent the interrupt and have answered.
    pub interrupted: u32,
    /// How many of them were in the cpumask, and had another space loaded: with PCIDs, where tables are freed or memory changes.
    pub elsewhere: u32,
    /// Lazy CPUs that the policy spared; they catch up when they come back.
    pub lazy_skipped: u32,
    /// What it did on this CPU.
    pub local: Served,
}

/// A shootdown under way: [`Tlb::start`] makes it, [`Tlb::add`], [`Tlb::send`] and [`Tlb::wait`] take it on.
///
/// It carries a value of the kernel's, which [`Tlb::wait`] gives back: what must not be reused before, or what is promised
/// then. More can be put into it ([`Shootdown::extend`]), and nothing be taken out. Dropped unwaited, it leaks the value, and never gives it back
/// too early.
#[derive(Debug)]
#[must_use = "what was removed is in use until `Tlb::wait` has returned"]
pub struct Shootdown<'g, T = (), const WORDS: usize = 8> {
    value: ManuallyDrop<T>,
    /// The CPU that it was started on.
    cpu: CpuId,
    /// Chosen, and not told yet.
    untold: CpuSet<WORDS>,
    /// Told, and not waited for yet.
    told: CpuSet<WORDS>,
    /// Those of them at which an earlier shootdown of this CPU waited already.
    to_tell_again: CpuSet<WORDS>,
    /// Requests that were added, and how many of them when it was sent last.
    requests: usize,
    sent: usize,
    /// Whether something was broadcast that TLBSYNC has to wait for.
    has_broadcast: bool,
    /// Whether this CPU, too, ends what it has under way of spaces that it is elsewhere from.
    ends_walks: bool,
    tables: Tables,
    report: Flushed,
    _on_its_cpu: OnItsCpu<'g>,
}

impl<T, const WORDS: usize> Shootdown<'_, T, WORDS> {
    /// Puts more into the value, which [`Tlb::wait`] gives back with the rest: what was removed after [`Tlb::start`].
    ///
    /// What leads there must be [added](Tlb::add) to this shootdown, before or after: `wait` sends what was not sent. There is no `&mut` to the value:
    /// who had it could take out what is still in use.
    ///
    /// Cost: what `T`'s own `extend` costs. In any context.
    pub fn extend<A>(&mut self, more: impl IntoIterator<Item = A>)
    where
        T: Extend<A>,
    {
        (*self.value).extend(more);
    }

    /// Adds a CPU to those that are interrupted.
    pub(crate) fn choose(&mut self, cpu: CpuId) {
        self.untold.insert(cpu);
    }
}

impl<K: Kernel<WORDS, SLOTS>, const WORDS: usize, const SLOTS: usize> Tlb<K, WORDS, SLOTS> {
    /// Flushes `range` of the space `mm` on every CPU that may use it.
    ///
    /// The page-table changes must be written before. When it returns, no CPU uses a translation that
    /// they removed; with [`Tables::Freed`], no CPU can walk a table that they unhooked, except lazy ones under
    /// [`crate::Policy::Defer`] and, where no erratum is detected, [`crate::Policy::DeferUnlessQuirk`].
    /// [`Tlb::gather`] is the safer way to free; [`Tlb::start`] begins one that is waited for later.
    ///
    /// Cost: one locked instruction, two loads and one locked instruction a target, one IPI to all
    /// targets, and a wait until each has answered. With PCIDs, CPUs that have gone on to another space are spared,
    /// unless tables are freed: then each is interrupted once.
    ///
    /// Preemption must be off. Interrupts may be in either state; where they are off, this CPU serves others while it waits. No lock may be held
    /// that an interrupt handler takes, or that another CPU waits for with interrupts off, unless it calls
    /// [`Tlb::serve_inbox`] meanwhile.
    ///
    /// Source: SDM 3A, "Propagation of Paging-Structure Changes to Multiple Processors".
    /// Checked by: every program.
    ///
    /// ```
    /// # mod machine { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/machine/mod.rs")); } use machine::*;
    /// use lazytlb::{FlushRange, Policy, Served, Tables, VirtAddr};
    /// let (machine, tlb) = (Machine::default(), boot(Policy::Ipi));
    /// tlb.switch_mm(&machine, USER);
    /// let report = tlb.flush(&machine, USER, FlushRange::page(VirtAddr(0x1000)), Tables::Kept);
    /// assert_eq!(report.local, Served::InvalidatedPages);
    /// ```
    pub fn flush(&self, hw: &K::Hw, mm: MmHandle, range: FlushRange, tables: Tables) -> Flushed {
        if mm == self.kernel.init_mm() {
            return self.flush_kernel(hw, range, tables);
        }
        let (handle, mm) = (mm, self.kernel.mm(mm));
        let new_gen = mm.bump_tlb_gen(hw);
        if let Some(global) = self.global_of(hw, mm) {
            return self.flush_global(hw, handle, global, Removed { range, tables });
        }
        let mut chosen = Chosen::nobody();
        self.choose_targets(hw, handle, mm, tables, Occasion::Flush, &mut chosen);
        if chosen.count == 0 {
            let flushed = Flushed {
                interrupted: 0,
                elsewhere: 0,
                lazy_skipped: chosen.lazy_skipped,
                local: self.flush_here(hw, handle, new_gen, range, tables),
            };
            if tables == Tables::Freed {
                self.wait_for_walks(hw);
            }
            return flushed;
        }
        self.flush_others(hw, handle, new_gen, range, tables, &chosen)
    }

    /// Interrupts others, flushes here, waits. Not inlined: most flushes find nobody, and shall not pay for this one's
    /// registers.
    #[inline(never)]
    fn flush_others(
        &self,
        hw: &K::Hw,
        handle: MmHandle,
        new_gen: NextGen,
        range: FlushRange,
        tables: Tables,
        chosen: &Chosen<WORDS>,
    ) -> Flushed {
        let cpu = hw.cpu();
        let off = InterruptsOff::new(hw);
        self.request(hw, 0, handle, new_gen, Removed { range, tables });
        let again = self.tell(hw, cpu, &chosen.targets);
        let local = self.flush_here(hw, handle, new_gen, range, tables);
        drop(off);
        self.wait_for(hw, cpu, &chosen.targets, again);
        if tables == Tables::Freed {
            self.wait_for_walks(hw);
        }
        self.consider_global_id(hw, self.kernel.mm(handle), chosen.count - chosen.elsewhere);
        Flushed {
            interrupted: chosen.count,
            elsewhere: chosen.elsewhere,
            lazy_skipped: chosen.lazy_skipped,
            local,
        }
    }

    /// Starts a shootdown in steps: any number of [`Tlb::add`], one [`Tlb::send`], one [`Tlb::wait`].
    ///
    /// `guard` keeps the caller on this CPU while the shootdown lives. `value` is the kernel's, and comes back from
    /// [`Tlb::wait`]. Several may be under way at once on a CPU, also where an interrupt handler has one of its own.
    ///
    /// Checked by: program `two-adds`.
    ///
    /// ```
    /// # mod machine { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/machine/mod.rs")); } use machine::*;
    /// use lazytlb::{FlushRange, Pinned, Policy, Tables, VirtAddr};
    /// struct PreemptionOff;
    /// impl Pinned for PreemptionOff {}
    /// let (machine, tlb, guard) = (Machine::default(), boot(Policy::Ipi), PreemptionOff);
    /// let mut shootdown = tlb.start(&machine, &guard, "frames");
    /// // Page tables change here; then, perhaps under their lock and with interrupts off:
    /// tlb.add(&machine, &mut shootdown, USER, FlushRange::page(VirtAddr(0x1000)), Tables::Kept);
    /// tlb.add(&machine, &mut shootdown, USER, FlushRange::page(VirtAddr(0x9000)), Tables::Kept);
    /// tlb.send(&machine, &mut shootdown);
    /// let (frames, _report) = tlb.wait(&machine, shootdown);
    /// assert_eq!(frames, "frames");
    /// ```
    /// It cannot be handed to another CPU, nor outlive the guard:
    /// ```compile_fail
    /// fn send<T: Send>(_: T) {}
    /// fn hand_over(shootdown: lazytlb::Shootdown<'_>) { send(shootdown) }
    /// ```
    /// ```compile_fail
    /// fn escapes<K: lazytlb::Kernel>(tlb: &lazytlb::Tlb<K>, hw: &K::Hw) -> lazytlb::Shootdown<'static> {
    ///     struct PreemptionOff(u8);
    ///     impl lazytlb::Pinned for PreemptionOff {}
    ///     let guard = PreemptionOff(std::process::id() as u8);
    ///     tlb.start(hw, &guard, ())
    /// }
    /// ```
    pub fn start<'g, T>(
        &self,
        hw: &K::Hw,
        guard: &'g impl Pinned,
        value: T,
    ) -> Shootdown<'g, T, WORDS> {
        Shootdown {
            value: ManuallyDrop::new(value),
            cpu: hw.cpu(),
            untold: CpuSet::EMPTY,
            told: CpuSet::EMPTY,
            to_tell_again: CpuSet::EMPTY,
            requests: 0,
            sent: 0,
            has_broadcast: false,
            ends_walks: false,
            tables: Tables::Kept,
            report: Flushed {
                interrupted: 0,
                elsewhere: 0,
                lazy_skipped: 0,
                local: Served::UpToDate,
            },
            _on_its_cpu: OnItsCpu::by(guard),
        }
    }

    /// Adds a flush of `range` of the space `mm` to a shootdown. The page-table changes must be written before.
    ///
    /// Never waits, and sends nothing. Interrupts may be in either state. Up to eight of one shootdown are made page by page if each is short
    /// enough; what is more becomes a full flush. Cost: one locked instruction, two loads for each CPU in the cpumask.
    ///
    /// # Panics
    /// On another CPU than the one that started it.
    pub fn add<T>(
        &self,
        hw: &K::Hw,
        shootdown: &mut Shootdown<'_, T, WORDS>,
        mm: MmHandle,
        range: FlushRange,
        tables: Tables,
    ) {
        self.add_for(hw, shootdown, mm, range, (tables, Occasion::Flush));
    }

    /// As [`Tlb::add`], on an occasion.
    #[inline(always)]
    pub(crate) fn add_for<T>(
        &self,
        hw: &K::Hw,
        shootdown: &mut Shootdown<'_, T, WORDS>,
        mm: MmHandle,
        range: FlushRange,
        (tables, occasion): (Tables, Occasion),
    ) {
        assert_on(hw, shootdown.cpu);
        let removed = Removed { range, tables };
        let (handle, mm) = (mm, self.kernel.mm(mm));
        let is_kernels = handle == self.kernel.init_mm();
        if is_kernels && let Some(most) = self.broadcasts_kernel_ranges(hw) {
            self.broadcast_kernel(hw, removed, most);
            shootdown.has_broadcast = true;
            shootdown.report.local = Served::Broadcast;
            if occasion == Occasion::Flush {
                return;
            }
            // As for a user space that has a global id.
            hw.tlbsync();
        }
        let new_gen = mm.bump_tlb_gen(hw);
        if is_kernels {
            self.choose_online(hw, shootdown);
        } else if !self.add_targets(hw, shootdown, handle, (removed, occasion)) {
            return;
        }
        self.request(hw, shootdown.requests, handle, new_gen, removed);
        shootdown.requests += 1;
    }

    /// Adds those to a shootdown who are to be interrupted for a user space, and broadcasts what can be. Says whether there is something to request.
    #[inline(always)]
    fn add_targets<T>(
        &self,
        hw: &K::Hw,
        shootdown: &mut Shootdown<'_, T, WORDS>,
        handle: MmHandle,
        (removed, occasion): (Removed, Occasion),
    ) -> bool {
        let (mm, tables) = (self.kernel.mm(handle), removed.tables);
        let mut chosen = Chosen {
            targets: shootdown.untold,
            count: 0,
            elsewhere: 0,
            lazy_skipped: 0,
        };
        let global = self.global_of(hw, mm);
        match global {
            Some(global) => {
                let how = (removed, occasion);
                self.begin_broadcast(hw, handle, global, how, &mut chosen);
                self.settle_if_nobody_is_left(hw, handle, global, &chosen);
                shootdown.has_broadcast = true;
                shootdown.report.local = Served::Broadcast;
            }
            None => {
                self.choose_targets(hw, handle, mm, tables, occasion, &mut chosen);
                self.consider_global_id(hw, mm, chosen.count - chosen.elsewhere);
            }
        }
        shootdown.untold = chosen.targets;
        shootdown.report.lazy_skipped += chosen.lazy_skipped;
        shootdown.report.elsewhere += chosen.elsewhere;
        if tables.are_unhooked() {
            shootdown.tables = Tables::Freed;
        }
        shootdown.ends_walks |= tables.are_unhooked() || occasion == Occasion::Change;
        // Who does not use the space under its global id yet does so when it is told, whatever was removed.
        let interrupts =
            |global: Global| global.phase == Phase::Moving || occasion != Occasion::Flush;
        global.is_none_or(interrupts)
    }

    /// Sends what was added: interrupts the other CPUs, and flushes on this one.
    ///
    /// Never waits. Interrupts may be in either state. Cost: one locked instruction a target, one IPI to all targets, and
    /// what [`Tlb::serve_inbox`] costs for one request.
    ///
    /// # Panics
    /// On another CPU than the one that started it.
    pub fn send<T>(&self, hw: &K::Hw, shootdown: &mut Shootdown<'_, T, WORDS>) {
        assert_on(hw, shootdown.cpu);
        shootdown.sent = shootdown.requests;
        let targets = core::mem::replace(&mut shootdown.untold, CpuSet::EMPTY);
        if !targets.is_empty() {
            let again = self.tell(hw, shootdown.cpu, &targets);
            shootdown.report.interrupted += targets.len();
            shootdown.told.insert_all(&targets);
            shootdown.to_tell_again.insert_all(&again);
        }
        let _off = InterruptsOff::new(hw);
        let me = self.kernel.this_cpu(hw);
        let find = |mm, new_gen| me.requests.find(hw, mm, new_gen);
        let kernel = self.catch_up_kernel(hw, me, find);
        let served = self.catch_up(hw, me, Known::of_any(find));
        if shootdown.ends_walks {
            self.leave_behind(hw, me);
        }
        for served in [kernel, served] {
            if served != Served::UpToDate {
                shootdown.report.local = served;
            }
        }
    }

    /// Waits until every CPU has done what was sent, and gives the value back. What was added and not sent is sent first.
    ///
    /// Interrupts may be in either state; where they are off, this CPU serves others meanwhile. The locks that may be held are those
    /// of [`Tlb::flush`].
    ///
    /// # Panics
    /// On another CPU than the one that started it.
    pub fn wait<T>(&self, hw: &K::Hw, shootdown: Shootdown<'_, T, WORDS>) -> (T, Flushed) {
        let mut shootdown = shootdown;
        assert_on(hw, shootdown.cpu);
        // Also where no other CPU is to be told: this one flushes as it sends.
        if shootdown.sent < shootdown.requests {
            self.send(hw, &mut shootdown);
        }
        let Shootdown {
            value,
            cpu,
            told,
            to_tell_again,
            tables,
            has_broadcast,
            report,
            ..
        } = shootdown;
        self.wait_for(hw, cpu, &told, to_tell_again);
        if has_broadcast {
            hw.tlbsync();
        }
        if tables == Tables::Freed {
            self.wait_for_walks(hw);
        }
        (ManuallyDrop::into_inner(value), report)
    }

    /// Writes a request, for those who are interrupted.
    fn request(&self, hw: &K::Hw, number: usize, mm: MmHandle, new_gen: NextGen, removed: Removed) {
        // A handler of this CPU writes the same words.
        let _off = InterruptsOff::new(hw);
        let (me, mm) = (self.kernel.this_cpu(hw), self.kernel.mm(mm).id());
        me.requests.write(hw, number, mm, new_gen, removed);
    }

    /// Tells targets that an initiator waits for them, and interrupts them. Returns those whose answer may be for something
    /// that it has sent before.
    pub(crate) fn tell(
        &self,
        hw: &K::Hw,
        initiator: CpuId,
        targets: &CpuSet<WORDS>,
    ) -> CpuSet<WORDS> {
        self.assert_in_use(initiator);
        let mut again = CpuSet::EMPTY;
        for target in targets.iter() {
            if self.kernel.per_cpu(target).notify(hw, initiator) {
                again.insert(target);
            }
        }
        hw.send_ipi(targets);
        again
    }

    /// Waits for the answers of targets, and tells those once more whose answer may have been for something else.
    #[inline(never)]
    pub(crate) fn wait_for(
        &self,
        hw: &K::Hw,
        initiator: CpuId,
        targets: &CpuSet<WORDS>,
        to_tell_again: CpuSet<WORDS>,
    ) {
        self.wait_for_answers(hw, initiator, targets);
        let mut targets = to_tell_again;
        while !targets.is_empty() {
            let again = self.tell(hw, initiator, &targets);
            self.wait_for_answers(hw, initiator, &targets);
            targets = again;
        }
    }

    fn wait_for_answers(&self, hw: &K::Hw, initiator: CpuId, targets: &CpuSet<WORDS>) {
        let serves = hw.interrupts() == Interrupts::Disabled;
        for target in targets.iter() {
            let target = self.kernel.per_cpu(target);
            hw.poll(|hw| {
                if serves {
                    self.serve_if_awaited(hw);
                }
                (!target.is_awaited(hw, initiator)).then_some(())
            });
        }
    }

    /// Flushes on this CPU what one generation of a space removed.
    #[inline(always)]
    fn flush_here(
        &self,
        hw: &K::Hw,
        handle: MmHandle,
        new_gen: NextGen,
        range: FlushRange,
        tables: Tables,
    ) -> Served {
        // The handler shares this CPU's words; it must not come in between.
        let _off = InterruptsOff::new(hw);
        let me = self.kernel.this_cpu(hw);
        if me.loaded_mm(hw) != handle {
            if tables.are_unhooked() {
                self.leave_behind(hw, me);
            }
            return Served::OtherSpace;
        }
        let removed = Removed { range, tables };
        let known = Known::of_one(|_, wanted| (wanted == new_gen).then_some(removed));
        self.catch_up(hw, me, known)
    }

    /// Ends what walks may be under way on this CPU of spaces that it is elsewhere from and behind in, and leaves their
    /// cpumasks. Returns how many there were. Interrupts are off.
    #[inline(always)]
    pub(crate) fn leave_behind(&self, hw: &K::Hw, me: &PerCpu<K::Hw, WORDS, SLOTS>) -> u32 {
        if !hw.pcids_are_on() {
            return 0;
        }
        self.leave_spaces(hw, me, |slot, mm| {
            mm.tlb_gen(hw) != me.slots.flushed_to(hw, slot)
        })
    }
}

fn assert_on(hw: &impl Hw, cpu: CpuId) {
    assert!(
        hw.cpu() == cpu,
        "a shootdown goes on on the CPU that started it"
    );
}
