//! What a run can choose.

/// How lazy CPUs are treated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Policy {
    Defer,
    InitMm,
    Ipi,
    IpiOnTableFree,
}

/// How much one step of the search does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Variant {
    /// One call of the seam.
    Equal,
    /// A transaction: see [`crate::transaction`].
    Best,
}

/// The order in which Stateright searches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Search {
    Bfs,
    Dfs,
}

/// A seeded bug.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mutant {
    /// The handler acknowledges before it flushes.
    AckFirst,
    /// A CPU leaves the cpumask before it loads the other root (against I2).
    LeaveFirst,
    /// A CPU joins the cpumask after it has loaded the root (against I2).
    JoinLate,
    /// The generation is read after the CR3 load that it stands for (against I3).
    GenLate,
}

/// A choice that is made by its name on the command line.
pub(crate) trait Named: Copy + 'static {
    /// The names, as people type them.
    const NAMES: &'static [(&'static str, Self)];
}

impl Named for Policy {
    const NAMES: &'static [(&'static str, Self)] = &[
        ("ipi", Policy::Ipi),
        ("init-mm", Policy::InitMm),
        ("ipi-on-table-free", Policy::IpiOnTableFree),
        ("defer", Policy::Defer),
    ];
}

impl Named for Variant {
    const NAMES: &'static [(&'static str, Self)] =
        &[("equal", Variant::Equal), ("best", Variant::Best)];
}

impl Named for Search {
    const NAMES: &'static [(&'static str, Self)] = &[("dfs", Search::Dfs), ("bfs", Search::Bfs)];
}

impl Named for Mutant {
    const NAMES: &'static [(&'static str, Self)] = &[
        ("ack-first", Mutant::AckFirst),
        ("leave-first", Mutant::LeaveFirst),
        ("join-late", Mutant::JoinLate),
        ("gen-late", Mutant::GenLate),
    ];
}

/// One run's choices.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Config {
    pub(crate) policy: Policy,
    pub(crate) variant: Variant,
    pub(crate) mutant: Option<Mutant>,
}
