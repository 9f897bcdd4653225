//! An execution to step through: its events, and what the machine holds after each.

use serde::Serialize;

/// An execution.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Steps {
    /// What it shows, in a few words.
    pub caption: String,
    /// The number of CPUs.
    pub cpus: usize,
    /// The events in their order.
    pub events: Vec<Event>,
    /// What is violated, and who did what.
    pub story: Vec<String>,
    /// Which of the events come again and again, from this one on, if the execution has no end.
    pub again_from: Option<usize>,
    /// Whether the last event is the violation itself.
    pub ends_in_violation: bool,
}

/// A thing that happened on one CPU.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Event {
    /// Its number in the execution as it is printed.
    pub row: usize,
    /// The CPU.
    pub cpu: usize,
    /// The operation that it begins, or goes on with after another one.
    pub heading: Option<String>,
    /// What happened.
    pub what: String,
    /// What the machine holds then; `None` if that is the same as before.
    pub machine: Option<MachineState>,
}

/// What a machine holds.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct MachineState {
    /// Each CPU's own.
    pub cpus: Vec<CpuState>,
    /// Memory.
    pub frames: Vec<FrameState>,
    /// Words that CPUs share, by name.
    pub words: Vec<(String, u64)>,
}

/// What a CPU holds.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct CpuState {
    /// The frame of the root that it has loaded.
    pub root: String,
    /// Its PCID, if there are PCIDs.
    pub pcid: Option<u8>,
    /// Whether it is in lazy TLB mode; `None` where the program does not say.
    pub lazy: Option<bool>,
    /// What it may cache.
    pub cached: Vec<Held>,
    /// What waits in its store buffer, oldest first.
    pub buffered: Vec<String>,
    /// Stores in its write-combining buffers.
    pub combining: usize,
}

/// A translation that a CPU may cache.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Held {
    /// What it translates, and where it leads.
    pub what: String,
    /// The frame that it leads to.
    pub frame: String,
    /// Whether that is a page table.
    pub table: bool,
    /// Why it is dangerous, if it is.
    pub danger: Option<&'static str>,
}

/// A frame of memory.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct FrameState {
    /// Its name.
    pub name: String,
    /// What it is used for.
    pub used_for: &'static str,
    /// The page-table entries in it.
    pub entries: Vec<EntryState>,
}

/// A page-table entry.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct EntryState {
    /// Its name.
    pub name: String,
    /// What it holds.
    pub holds: String,
    /// The frame that it leads to.
    pub leads_to: Option<String>,
}
