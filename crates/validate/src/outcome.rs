//! What a switch, a flush, and a handler of an interrupt come to: by the kernel's rule, and as it is recorded.

use lazytlb_trace::Tables;

use crate::cpu_set::{CpuSet, HowMany};
use crate::rule::EACH_RULE;

/// What a switch did to CR3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// CR3 was not written.
    None,
    /// It was written, and what was cached is kept.
    Keep,
    /// It was written, and what was cached is flushed.
    Flush,
}

/// What a switch should do, without PCIDs and with them; `None` while a CPU's past is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Switched {
    pub(crate) without_pcids: Option<Outcome>,
    pub(crate) with_pcids: Option<Outcome>,
}

impl Switched {
    pub(crate) const UNKNOWN: Switched = Switched {
        without_pcids: None,
        with_pcids: None,
    };
    pub(crate) const FLUSHES: Switched = Switched::either(Outcome::Flush);
    pub(crate) const NOTHING: Switched = Switched::either(Outcome::None);

    const fn either(outcome: Outcome) -> Switched {
        Switched {
            without_pcids: Some(outcome),
            with_pcids: Some(outcome),
        }
    }
}

/// Which CPUs a flush finds in the cpumask, other than its own.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reach<N> {
    /// They run in the space.
    pub(crate) running: CpuSet<N>,
    /// They hold it lazily: interrupted only if tables are freed.
    pub(crate) lazy: CpuSet<N>,
    /// They have another space: interrupted if tables are freed, or the mask is trimmed and they are not lazy.
    pub(crate) elsewhere: CpuSet<N>,
    /// Those of them that are interrupted because the mask is trimmed.
    pub(crate) trimmed: CpuSet<N>,
}

impl<N: HowMany> Reach<N> {
    /// Returns whether it finds none.
    pub(crate) fn is_empty(&self) -> bool {
        self.running.is_empty() && self.lazy.is_empty() && self.elsewhere.is_empty()
    }

    /// Returns all of them.
    pub(crate) fn all(&self) -> CpuSet<N> {
        let mut all = self.running.clone();
        all.extend(&self.lazy);
        all.extend(&self.elsewhere);
        all
    }

    /// Returns those that are interrupted.
    pub(crate) fn targets(&self, tables: Tables) -> CpuSet<N> {
        let mut targets = self.running.clone();
        match tables {
            Tables::Freed => {
                targets.extend(&self.lazy);
                targets.extend(&self.elsewhere);
            }
            Tables::Kept | Tables::Unknown => targets.extend(&self.trimmed),
        }
        targets
    }
}

/// What an interrupted CPU does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Served {
    /// It has another space, or is up to date.
    Nothing,
    /// It flushes.
    Flushed,
    /// It was lazy, and leaves for `init_mm`.
    Left,
}

/// What a flush does on its own CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Local {
    /// The space is not loaded, or the CPU is lazy and not reached.
    Nothing,
    /// The space is loaded and used.
    Flushes,
    /// The CPU was lazy, and leaves for `init_mm`.
    Leaves,
}

/// What a flush should do.
#[derive(Clone, Debug)]
pub(crate) struct Flushed<N> {
    /// By rule, as [`EACH_RULE`].
    pub(crate) reach: [Reach<N>; EACH_RULE.len()],
    pub(crate) local: Local,
    /// The mask may be trimmed.
    pub(crate) trims: bool,
    /// The CPU's own state was known.
    pub(crate) known: bool,
    /// The space may have a global PCID since its latest interrupts.
    pub(crate) may_be_global: bool,
}
