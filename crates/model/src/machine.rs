//! The machine: what each call does to a state.

use lazytlb::{Entry, PhysAddr};

use crate::access::Does;
use crate::broadcast::{MOST_REQUESTS, Request};
use crate::call::{AtomicCell, Call, Cr4, LocalCell};
use crate::cpu_model::CpuModel;
use crate::entry::bits;
use crate::features::{Features, MOST_LEVELS};
use crate::state::{FENCE, FrameUse, Layout, State};
use crate::translation::{Limit, Numbering, Translation, Values, frame_number};
use crate::violation::{Property, Violation};
use crate::writers::{Who, Write, Writers};

/// How stores become visible to other CPUs.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum MemoryModel {
    /// At once: sequential consistency, which no x86 offers.
    Sc,
    /// Through a first-in, first-out buffer on each CPU: x86-TSO (H25).
    Tso {
        /// How many stores a buffer holds; a full one drains before the next store.
        buffer_depth: u8,
    },
}

impl MemoryModel {
    /// x86-TSO with two stores in each buffer: enough for every reordering of a store with a later
    /// load, and for two stores that drain late together.
    pub const TSO: MemoryModel = MemoryModel::Tso { buffer_depth: 2 };

    /// Returns the name that people type.
    pub const fn name(self) -> &'static str {
        match self {
            MemoryModel::Sc => "sc",
            MemoryModel::Tso { .. } => "tso",
        }
    }

    /// Returns the depth of the store buffers; 0 without them.
    pub const fn buffer_depth(self) -> u8 {
        match self {
            MemoryModel::Sc => 0,
            MemoryModel::Tso { buffer_depth } => buffer_depth,
        }
    }
}

/// What a machine starts from.
#[derive(Clone, Debug)]
pub struct MachineSpec {
    /// The shared cells' first values.
    pub atomics: Vec<u64>,
    /// Each CPU's own cells' first values: one list a CPU.
    pub own_cells: Vec<Vec<u64>>,
    /// What each frame is at the start. A table starts with absent entries.
    pub frames: Vec<FrameUse>,
    /// The cell that holds the word at the start of a page's frame; a frame past the end has none.
    pub page_words: Vec<Option<AtomicCell>>,
    /// Page-table entries' first values: the table, the index, the entry.
    pub entries: Vec<(PhysAddr, u16, Entry)>,
    /// The root in every CPU's CR3 at the start.
    pub root: PhysAddr,
    /// CR4 of every CPU at the start.
    pub cr4: Cr4,
    /// What the program uses of the machine.
    pub features: Features,
    /// What becomes of a walk of a freed table.
    pub garbage: GarbageWalks,
    /// Properties that are not looked at.
    pub ignored: Vec<Property>,
    /// The CPU model.
    pub cpu_model: CpuModel,
    /// The memory model.
    pub memory: MemoryModel,
}

/// What becomes of a walk of a freed table.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum GarbageWalks {
    /// It is the violation `table-use-after-free`.
    Refused,
    /// It is followed to its ends (H33).
    Followed,
}

/// What a call led to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The CPU cannot take this step in this state: it waits, or its store buffer must drain first.
    Blocked,
    /// The step is done.
    Done {
        /// What the call returns; 0 for nothing.
        answer: u64,
        /// Whether there is another way in which the machine may do this step: the next choice.
        more: bool,
    },
}

impl Outcome {
    pub(crate) fn answer(answer: u64) -> Outcome {
        Outcome::Done {
            answer,
            more: false,
        }
    }

    pub(crate) const NOTHING: Outcome = Outcome::Done {
        answer: 0,
        more: false,
    };
}

/// Why a step has no next state.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Stop {
    /// A property is violated.
    Violation(Violation),
    /// The program outgrew the model's numbers.
    Limit(Limit),
}

impl From<Limit> for Stop {
    fn from(limit: Limit) -> Stop {
        Stop::Limit(limit)
    }
}

/// An adversarial machine. Its steps are pure functions of a state's bytes.
#[derive(Debug)]
pub struct Machine {
    pub(crate) layout: Layout,
    pub(crate) features: Features,
    /// Whether the program has buffers beside the store buffer's stores: asked at every call.
    pub(crate) has_more_buffers: bool,
    /// Whether calls that are local elsewhere may not be in this program.
    pub(crate) rarely_local: bool,
    pub(crate) garbage: GarbageWalks,
    pub(crate) page_words: Vec<Option<AtomicCell>>,
    pub(crate) requests: Numbering<Request>,
    ignored: Vec<Property>,
    first_violation: Option<Violation>,
    pub(crate) cpu_model: CpuModel,
    pub(crate) translations: Numbering<Translation>,
    /// Page-table entries that were ever written: (table's frame, index).
    pub(crate) entries: Numbering<(u8, u16)>,
    pub(crate) values: Values,
    pub(crate) writers: Writers,
    pub(crate) memory: MemoryModel,
    pub(crate) frames: u8,
    initial: Vec<u8>,
}

/// Translations that may be cached: a bit each.
const MOST_TRANSLATIONS: usize = 64;
/// Bytes that name a location or a frame leave room for this many cells.
const MOST_CELLS: usize = 200;
/// CPUs that a machine can have: a bit each in a byte.
pub const MOST_CPUS: usize = 8;
/// Stores that a store buffer holds at most.
pub const MOST_BUFFER_DEPTH: u8 = 63;

impl Machine {
    /// Makes a machine.
    ///
    /// # Errors
    /// If the program asks for more CPUs, cells or frames than a state has room for.
    pub fn new(spec: &MachineSpec) -> Result<Machine, Limit> {
        let limit = |what, most, used: usize| {
            if used > most {
                Err(Limit { what, most })
            } else {
                Ok(used)
            }
        };
        let cpus = limit("CPUs", MOST_CPUS, spec.own_cells.len())?;
        let atomics = limit("shared cells", MOST_CELLS, spec.atomics.len())?;
        let frames = limit("frames", MOST_CELLS, spec.frames.len())?;
        let depth = limit(
            "stores in a buffer",
            usize::from(MOST_BUFFER_DEPTH),
            usize::from(spec.memory.buffer_depth()),
        )?;
        let own = spec.own_cells.iter().map(Vec::len).max().unwrap_or(0);
        let own = limit("cells of one CPU", MOST_CELLS, own)?;
        let features = spec.features;
        limit(
            "levels of page tables",
            MOST_LEVELS,
            usize::from(features.levels),
        )?;
        let entries = limit(
            "cells and page-table entries",
            usize::from(FENCE),
            atomics + usize::from(features.page_table_entries),
        )? - atomics;
        let layout = Layout::new(cpus, atomics, frames, depth, own, &features);
        let values = Values::new();
        let mut initial = vec![0; layout.len()];
        for (location, &value) in spec.atomics.iter().enumerate() {
            initial[location] = values.encode(value)?;
        }
        for (cpu, cells) in spec.own_cells.iter().enumerate() {
            layout.set_cr3(&mut initial, cpu, frame_number(spec.root) as u8);
            layout.set_cr4(&mut initial, cpu, spec.cr4.0);
            for (index, &value) in cells.iter().enumerate() {
                initial[layout.own_cell(cpu, index as u8)] = values.encode(value)?;
            }
        }
        for (frame, &frame_use) in spec.frames.iter().enumerate() {
            layout.set_frame_use(&mut initial, frame as u8, frame_use);
        }
        let has_more_buffers = features.weak_fences || features.write_combining > 0;
        let mut machine = Machine {
            layout,
            features,
            has_more_buffers,
            rarely_local: has_more_buffers || features.nmis,
            garbage: spec.garbage,
            page_words: spec.page_words.clone(),
            requests: Numbering::new("broadcast invalidations", MOST_REQUESTS),
            ignored: spec.ignored.clone(),
            first_violation: None,
            cpu_model: spec.cpu_model,
            translations: Numbering::new("translations", MOST_TRANSLATIONS),
            entries: Numbering::new("page-table entries", entries),
            values,
            writers: Writers::new(atomics),
            memory: spec.memory,
            frames: frames as u8,
            initial,
        };
        machine.put_first_entries(&spec.entries)?;
        Ok(machine)
    }

    /// Puts the first entries into the page tables; what can be cached at the start then is.
    fn put_first_entries(&mut self, entries: &[(PhysAddr, u16, Entry)]) -> Result<(), Limit> {
        if entries.is_empty() {
            return Ok(());
        }
        let mut state = self.initial.clone();
        for &(table, index, entry) in entries {
            let table = frame_number(table) as u8;
            let location = self
                .layout
                .entry_location(self.entries.number((table, index))?);
            state[self.layout.location(location)] = self.values.encode(entry.0)?;
            state[self.layout.version_of_location(location)] = 1;
        }
        for cpu in 0..self.layout.cpus() {
            match self.close(&mut state, cpu) {
                Ok(()) => {}
                Err(Stop::Limit(limit)) => return Err(limit),
                Err(Stop::Violation(violation)) => {
                    self.first_violation = Some(violation);
                    break;
                }
            }
        }
        self.initial = state;
        Ok(())
    }

    /// Says whether a property is looked at.
    pub(crate) fn checks(&self, property: Property) -> bool {
        !self.ignored.contains(&property)
    }

    /// Returns the state that everything starts from; all CPUs' places are 0.
    pub fn initial(&self) -> Vec<u8> {
        self.initial.clone()
    }

    /// Returns the property that the first entries violate by themselves, if they do.
    pub fn first_violation(&self) -> Option<&Violation> {
        self.first_violation.as_ref()
    }

    /// Returns where everything lies in a state.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Returns the CPU model.
    pub fn cpu_model(&self) -> CpuModel {
        self.cpu_model
    }

    /// Returns the memory model.
    pub fn memory(&self) -> MemoryModel {
        self.memory
    }

    /// Does one call of a CPU, in the way that `choice` numbers (from 0, while there are `more`).
    /// On [`Outcome::Blocked`] the state is unchanged; on an error it is worthless.
    ///
    /// # Errors
    /// [`Stop::Violation`] if a property is violated by this step.
    pub fn call(
        &self,
        state: &mut State,
        cpu: usize,
        call: &Call,
        choice: usize,
    ) -> Result<Outcome, Stop> {
        if self.has_more_buffers && self.waits_for_own(state, cpu, call) {
            return Ok(Outcome::Blocked);
        }
        match *call {
            Call::Load(cell) => Ok(Outcome::answer(self.load(state, cpu, cell))),
            Call::Store(cell, value) => {
                self.writers.wrote(cell, self.who(state, cpu), Write::Any);
                self.store(state, cpu, cell.0, self.values.encode(value)?)
            }
            Call::StoreBytes { cell, bytes, value } => {
                self.writers.wrote(cell, self.who(state, cpu), Write::Any);
                self.store_bytes(state, cpu, cell.0, bytes, self.values.encode(value)?)
            }
            Call::LoadLocal(cell) => {
                let code = state[self.own_location(cpu, cell)?];
                Ok(Outcome::answer(self.values.decode(code)))
            }
            Call::StoreLocal(cell, value) => {
                state[self.own_location(cpu, cell)?] = self.values.encode(value)?;
                Ok(Outcome::NOTHING)
            }
            Call::Rmw(..) | Call::RmwBytes { .. } | Call::RmwEntry(..) => {
                self.locked(state, cpu, call, choice)
            }
            // H25, H26: it waits for the buffers to drain.
            Call::Fence => Ok(self.full_fence(state, cpu)),
            Call::LoadFence => Ok(Outcome::NOTHING),
            Call::StoreFence => self.store_fence(state, cpu),
            Call::RestoreInterrupts(_) | Call::DisableInterrupts => {
                // The caller knows the former state from the code's own past.
                Ok(Outcome::NOTHING)
            }
            Call::SendIpi(targets) | Call::SendNmi(targets) => {
                self.send(state, cpu, targets, matches!(call, Call::SendNmi(_)))
            }
            Call::PauseUntil(cell, until) => {
                let met = until.holds(self.load(state, cpu, cell));
                Ok(if met {
                    Outcome::NOTHING
                } else {
                    Outcome::Blocked
                })
            }
            Call::Serialize
            | Call::LoadCr3(..)
            | Call::Invlpg(_)
            | Call::Invpcid(_)
            | Call::WriteCr4(_)
            | Call::ChangeCr4 { .. }
            | Call::Tlbsync => self.serializing(state, cpu, call),
            Call::Invlpgb(what) => self.invlpgb(state, cpu, what),
            Call::ReadEntry(table, index) => {
                let location = self.entry_location(table, index)?;
                let (answer, more) = self.read_settled(state, cpu, location, choice)?;
                if self.features.accessed_dirty {
                    // H4: what the answer ruled out may be cached again at once.
                    self.close_readers_of(state, self.frame(table)?)?;
                }
                Ok(Outcome::Done { answer, more })
            }
            Call::WriteEntry(table, index, entry) => {
                let location = self.entry_location(table, index)?;
                self.store(state, cpu, location, self.values.encode(entry.0)?)
            }
            Call::AllocFrame(kind) => self.alloc_frame(state, cpu, kind),
            Call::FreeFrame(frame) => {
                let frame = self.frame(frame)?;
                self.free_frame(state, cpu, frame)?;
                Ok(Outcome::NOTHING)
            }
            Call::Touch(addr, access) => self.touch(state, cpu, addr, access, false, choice),
            Call::TouchNonTemporal(addr) => {
                self.touch(state, cpu, addr, lazytlb::Access::Store, true, choice)
            }
            Call::LoadVirtual(addr, privilege) => {
                self.access(state, cpu, addr, privilege, Does::Load, choice)
            }
            Call::Fetch(addr, privilege) => {
                self.access(state, cpu, addr, privilege, Does::Fetch, choice)
            }
            Call::StoreVirtual {
                addr,
                bytes,
                value,
                privilege,
                non_temporal,
            } => {
                let does = Does::Store {
                    bytes,
                    value,
                    non_temporal,
                };
                self.access(state, cpu, addr, privilege, does, choice)
            }
            Call::RmwVirtual {
                addr,
                bytes,
                rmw,
                operand,
                privilege,
            } => {
                let does = Does::Rmw {
                    bytes,
                    rmw,
                    operand,
                };
                self.access(state, cpu, addr, privilege, does, choice)
            }
            Call::ReadDevice(device) => {
                let device = self.frame(device)?;
                Ok(match self.read_back(state, cpu, device) {
                    true => Outcome::NOTHING,
                    false => Outcome::Blocked,
                })
            }
            // Whoever delivers an interrupt ends it.
            Call::Halt => Ok(Outcome::Blocked),
            Call::FlushBegins(root, range) => {
                let root = self.frame(root)?;
                self.begin_flush(state, cpu, root, range)?;
                Ok(Outcome::NOTHING)
            }
            Call::FlushReturned(_) => {
                self.finish_flush(state, cpu)?;
                Ok(Outcome::NOTHING)
            }
        }
    }

    /// Says whether a call has to wait for what this CPU has done before: a write-combining store to the same
    /// word, which it sees in order (H25), or an MFENCE (H36).
    pub(crate) fn waits_for_own(&self, state: &State, cpu: usize, call: &Call) -> bool {
        let for_store = cell_of(call).is_some_and(|cell| {
            let is_forwarded = matches!(call, Call::Load(_));
            self.own_combining_waits(state, cpu, cell.0)
                && !(is_forwarded && self.forwards_combining(state, cpu, cell.0))
        });
        let passes_fence = matches!(call, Call::SendIpi(_) | Call::SendNmi(_));
        for_store || !passes_fence && self.fence_waits(state, cpu)
    }

    /// Returns what a CPU runs now: an operation, or its handler.
    pub(crate) fn who(&self, state: &State, cpu: usize) -> Who {
        Who {
            cpu,
            in_handler: self.layout.handler_node(state, cpu) != 0,
        }
    }

    fn own_location(&self, cpu: usize, cell: LocalCell) -> Result<usize, Stop> {
        if usize::from(cell.owner) != cpu {
            let what = format!("accessed a private word of CPU {}", cell.owner);
            return Err(self.misuse(cpu, what));
        }
        Ok(self.layout.own_cell(cpu, cell.index))
    }

    pub(crate) fn entry_location(&self, table: PhysAddr, index: u16) -> Result<u8, Stop> {
        let number = self.entries.number((self.frame(table)?, index))?;
        Ok(self.layout.entry_location(number))
    }

    pub(crate) fn frame(&self, frame: PhysAddr) -> Result<u8, Stop> {
        u8::try_from(frame_number(frame))
            .ok()
            .filter(|&number| number < self.frames)
            .ok_or(Stop::Limit(Limit {
                what: "frames",
                most: usize::from(self.frames),
            }))
    }

    pub(crate) fn misuse(&self, cpu: usize, what: String) -> Stop {
        Stop::Violation(Violation {
            property: Property::Panic,
            cpu: Some(cpu as u8),
            frame: None,
            through: None,
            what: format!("CPU {cpu} {what}"),
        })
    }
}

/// Returns the cell that a call accesses.
fn cell_of(call: &Call) -> Option<AtomicCell> {
    match *call {
        Call::Load(cell)
        | Call::Store(cell, _)
        | Call::StoreBytes { cell, .. }
        | Call::Rmw(cell, ..)
        | Call::RmwBytes { cell, .. }
        | Call::PauseUntil(cell, _) => Some(cell),
        _ => None,
    }
}

/// Returns the entry that a value stands for in a report.
pub fn entry_for_people(entry: Entry) -> String {
    if !entry.is_present() {
        return "absent".to_owned();
    }
    let large = if entry.0 & bits::LARGE != 0 {
        "large page "
    } else {
        ""
    };
    let global = if entry.0 & bits::GLOBAL != 0 {
        ", global"
    } else {
        ""
    };
    format!("{large}frame {}{global}", frame_number(entry.frame()))
}
