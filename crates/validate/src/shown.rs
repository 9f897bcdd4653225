//! What the recording shows of each CPU, for the classes of disagreements: never an input of the replay.

use lazytlb_trace::MmId;

use crate::cpu_set::{CpuSet, HowMany};

/// What a CPU has loaded by the recording, which tells when it was interrupted and left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shown {
    pub(crate) mm: MmId,
    pub(crate) lazy: bool,
}

impl Shown {
    /// It has left for `init_mm`.
    pub(crate) const RUNS_INIT: Shown = Shown {
        mm: MmId::INIT,
        lazy: false,
    };
}

/// Which CPUs a flush interrupts besides those that run the space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Too {
    /// Those that are lazy on it.
    pub(crate) lazy: bool,
    /// Those that are still in its cpumask, and have another space.
    pub(crate) away: bool,
}

/// The CPUs that an initiator may have found so, as it looked whom to interrupt.
#[derive(Clone, Debug, Default)]
pub(crate) struct Found<N> {
    running: CpuSet<N>,
    lazy: CpuSet<N>,
    away: CpuSet<N>,
}

impl<N: HowMany> Found<N> {
    /// Notes that a CPU was in a state while the initiator of a space's flush looked.
    pub(crate) fn note(&mut self, cpu: u16, mm: MmId, shown: Shown) {
        let found = match (shown.mm == mm, shown.lazy) {
            (true, false) => &mut self.running,
            (true, true) => &mut self.lazy,
            (false, _) => &mut self.away,
        };
        found.insert(cpu);
    }

    /// Whether a CPU may have been found in a state in which it is interrupted.
    pub(crate) fn explains_interrupt(&self, cpu: u16, too: Too) -> bool {
        self.running.contains(cpu)
            || too.lazy && self.lazy.contains(cpu)
            || too.away && self.away.contains(cpu)
    }

    /// Whether a CPU may have been found in a state in which it is left alone.
    ///
    /// That it was away always explains it: it may have been out of the cpumask.
    pub(crate) fn explains_silence(&self, cpu: u16, too: Too) -> bool {
        self.away.contains(cpu) || !too.lazy && self.lazy.contains(cpu)
    }
}
