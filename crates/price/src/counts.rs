//! What a replay counts.

use std::cell::Cell;

use lazytlb_trace::{IdleStateIndex, MAX_IDLE_STATES};
use serde::{Deserialize, Serialize};

/// Counts what one policy made a machine do on a recorded workload.
///
/// The classes of IPIs are disjoint, and so are the classes of CR3 loads. Warm starts and repairs
/// are left out of every count but [`Counts::repairs`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Counts {
    /// Operations that were replayed.
    pub operations: u64,
    /// Flushes and retires that interrupted at least one CPU.
    pub shootdowns: u64,
    /// Of them, those that interrupted at least one idle CPU: the initiator waits until it is
    /// awake.
    pub shootdowns_to_idle: u64,
    /// Of them, those of whose idle targets it is known of each how long it takes to wake.
    #[serde(default)]
    pub shootdowns_to_known_sleep: u64,
    /// What these wait for: the sum of the longest stated exit latency among the idle targets of each, in microseconds.
    #[serde(default)]
    pub idle_wait_us: u64,
    /// IPIs, one for each target of each shootdown.
    pub ipis: u64,
    /// IPIs to a CPU that ran a task with a user space, this one or another.
    pub ipis_to_running: u64,
    /// IPIs to a CPU that was lazy and ran a kernel thread.
    pub ipis_to_lazy: u64,
    /// IPIs to a CPU that was lazy and idle: each wakes it.
    pub ipis_to_idle: u64,
    /// Of these, those to a CPU of which it is known how long it takes to wake: it was in an idle state whose exit latency
    /// is stated, or in none.
    #[serde(default)]
    pub ipis_to_known_sleep: u64,
    /// Of these, those to a CPU in each idle state, by its number; the others were in none.
    #[serde(default)]
    pub ipis_by_idle_state: [u64; MAX_IDLE_STATES],
    /// The sum of the stated exit latencies of all their targets, in microseconds.
    #[serde(default)]
    pub idle_wake_us: u64,
    /// CPUs that left their space for init_mm before an idle state that flushes TLBs; none under a policy by which idle
    /// CPUs have left already.
    #[serde(default)]
    pub left_before_sleep: u64,
    /// Of all IPIs, those sent because a space was retired with CPUs still lazy in it, or still in its cpumask.
    pub ipis_at_retire: u64,
    /// Of all IPIs, those to a CPU that had another space loaded. With PCIDs, one that went on to another space by a
    /// CR3 load that kept what was cached stays in the cpumask; a flush that frees tables makes it leave, once.
    pub ipis_elsewhere: u64,
    /// Lazy CPUs that flushes spared; they catch up when they come back.
    pub lazy_skipped: u64,
    /// CR3 loads of another root that flush.
    pub cr3_flush: u64,
    /// CR3 loads that keep the cached translations of the space that they load. With PCIDs, every load of init_mm is
    /// one.
    pub cr3_keep: u64,
    /// CR3 loads of the root that was loaded already, in order to flush it: flushes of everything,
    /// and catching up on missed flushes.
    pub full_flushes: u64,
    /// INVLPGs: of pages that flushes removed, and with PCIDs those that only end walks under way, one after each load
    /// of init_mm and one for each CPU that a flush which frees tables finds elsewhere.
    pub invlpg: u64,
    /// INVLPGBs, of however many addresses each. [`lazytlb::Tlb`] broadcasts nothing: they are a stranger's, and no file
    /// of costs has a price for them.
    #[serde(default)]
    pub invlpgb: u64,
    /// TLBSYNCs: waits for what was broadcast, without a price as well.
    #[serde(default)]
    pub tlbsync: u64,
    /// Loads of another user root that flush: its translations must be walked again. A load of
    /// init_mm's root is none, because the kernel's mappings are global; and a load that keeps is none.
    pub refills_after_load: u64,
    /// Full flushes of a loaded user root.
    pub refills_after_flush: u64,
    /// Locked read-modify-writes.
    pub locked: u64,
    /// Fences.
    pub fences: u64,
    /// Reads of which space another CPU has loaded, and whether it is lazy. Under `quarantine`, also those of which CPUs were
    /// spared in a space, and as held tables are given up, those of its cpumask.
    pub remote_reads: u64,
    /// Under `quarantine`, page tables that were held back because lazy CPUs were spared that might walk them.
    #[serde(default)]
    pub tables_held: u64,
    /// The most of them that were held at one time, of all spaces together; of several recordings, the sum of each one's.
    #[serde(default)]
    pub tables_held_peak: u64,
    /// The most of them that were held at one time of one space; of several recordings, the sum of each one's.
    #[serde(default)]
    pub tables_held_peak_of_a_space: u64,
    /// Batches of held tables that came back, each at one time.
    #[serde(default)]
    pub batches_released: u64,
    /// Flushes that interrupted lazy CPUs because no more tables may be held.
    #[serde(default)]
    pub hold_fallbacks: u64,
    /// CPUs that were made to leave a space which the recording retires while they run in it.
    pub repairs: u64,
}

/// A thing that is counted.
#[derive(Clone, Copy)]
pub(crate) enum Effect {
    Operation,
    Shootdown,
    ShootdownToIdle,
    ShootdownToKnownSleep,
    IdleWaitUs,
    IpiToRunning,
    IpiToLazy,
    IpiToIdle,
    IpiToKnownSleep,
    IdleWakeUs,
    LeftBeforeSleep,
    IpiAtRetire,
    IpiElsewhere,
    LazySkipped,
    Cr3Flush,
    Cr3Keep,
    FullFlush,
    Invlpg,
    Invlpgb,
    Tlbsync,
    RefillAfterLoad,
    RefillAfterFlush,
    Locked,
    Fence,
    RemoteRead,
    TableHeld,
    TablesHeldPeak,
    TablesHeldPeakOfASpace,
    BatchReleased,
    HoldFallback,
    Repair,
}

/// The counters, while they count.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    counters: [Cell<u64>; Effect::Repair as usize + 1],
    by_idle_state: [Cell<u64>; MAX_IDLE_STATES],
}

impl Tally {
    /// Counts one.
    #[inline]
    pub(crate) fn count(&self, effect: Effect) {
        self.add(effect, 1);
    }

    /// Counts several.
    #[inline]
    pub(crate) fn add(&self, effect: Effect, number: u64) {
        let counter = &self.counters[effect as usize];
        counter.set(counter.get() + number);
    }

    /// Leaves out some that were counted.
    pub(crate) fn leave_out(&self, effect: Effect, number: u64) {
        let counter = &self.counters[effect as usize];
        let rest = counter.get().checked_sub(number);
        counter.set(rest.expect("they were counted before"));
    }

    /// Takes note of a number of which the greatest counts.
    pub(crate) fn raise(&self, effect: Effect, to: u64) {
        let counter = &self.counters[effect as usize];
        counter.set(counter.get().max(to));
    }

    /// Returns how many IPIs were sent to lazy CPUs so far, idle ones included.
    pub(crate) fn ipis_to_lazy_cpus(&self) -> u64 {
        let get = |effect: Effect| self.counters[effect as usize].get();
        get(Effect::IpiToLazy) + get(Effect::IpiToIdle)
    }

    /// Counts an IPI to a CPU in this idle state.
    pub(crate) fn count_idle_state(&self, state: IdleStateIndex) {
        let counter = &self.by_idle_state[state.as_usize()];
        counter.set(counter.get() + 1);
    }

    /// Returns the counts.
    pub(crate) fn counts(&self) -> Counts {
        let get = |effect: Effect| self.counters[effect as usize].get();
        let ipis_to_running = get(Effect::IpiToRunning);
        let ipis_to_lazy = get(Effect::IpiToLazy);
        let ipis_to_idle = get(Effect::IpiToIdle);
        Counts {
            operations: get(Effect::Operation),
            shootdowns: get(Effect::Shootdown),
            shootdowns_to_idle: get(Effect::ShootdownToIdle),
            shootdowns_to_known_sleep: get(Effect::ShootdownToKnownSleep),
            idle_wait_us: get(Effect::IdleWaitUs),
            ipis: ipis_to_running + ipis_to_lazy + ipis_to_idle,
            ipis_to_running,
            ipis_to_lazy,
            ipis_to_idle,
            ipis_to_known_sleep: get(Effect::IpiToKnownSleep),
            ipis_by_idle_state: self.by_idle_state.each_ref().map(Cell::get),
            idle_wake_us: get(Effect::IdleWakeUs),
            left_before_sleep: get(Effect::LeftBeforeSleep),
            ipis_at_retire: get(Effect::IpiAtRetire),
            ipis_elsewhere: get(Effect::IpiElsewhere),
            lazy_skipped: get(Effect::LazySkipped),
            cr3_flush: get(Effect::Cr3Flush),
            cr3_keep: get(Effect::Cr3Keep),
            full_flushes: get(Effect::FullFlush),
            invlpg: get(Effect::Invlpg),
            invlpgb: get(Effect::Invlpgb),
            tlbsync: get(Effect::Tlbsync),
            refills_after_load: get(Effect::RefillAfterLoad),
            refills_after_flush: get(Effect::RefillAfterFlush),
            locked: get(Effect::Locked),
            fences: get(Effect::Fence),
            remote_reads: get(Effect::RemoteRead),
            tables_held: get(Effect::TableHeld),
            tables_held_peak: get(Effect::TablesHeldPeak),
            tables_held_peak_of_a_space: get(Effect::TablesHeldPeakOfASpace),
            batches_released: get(Effect::BatchReleased),
            hold_fallbacks: get(Effect::HoldFallback),
            repairs: get(Effect::Repair),
        }
    }
}
