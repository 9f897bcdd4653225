//! The machine: what each call does to a state.

use lazytlb::{Cr3Load, Entry, FrameKind, PhysAddr};

use crate::call::{AtomicCell, Call, LocalCell, Rmw};
use crate::cpu_model::CpuModel;
use crate::state::{Buffered, FrameUse, Layout, State, USER_MEMORY, members};
use crate::translation::{LEVELS, Limit, Numbering, Translation, Values, frame_number};
use crate::versions::{FIRST_PENDING, is_pending};
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
    /// What each frame is at the start; `None` is free. A table starts with absent entries.
    pub frames: Vec<Option<FrameKind>>,
    /// The root in every CPU's CR3 at the start.
    pub root: PhysAddr,
    /// The CPU model.
    pub cpu_model: CpuModel,
    /// The memory model.
    pub memory: MemoryModel,
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
    fn answer(answer: u64) -> Outcome {
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
    pub(crate) levels: u8,
    pub(crate) cpu_model: CpuModel,
    pub(crate) translations: Numbering<Translation>,
    /// Page-table entries that were ever written: (table's frame, index).
    pub(crate) entries: Numbering<(u8, u16)>,
    pub(crate) values: Values,
    pub(crate) writers: Writers,
    pub(crate) memory: MemoryModel,
    frames: u8,
    initial: Vec<u8>,
}

/// Page-table entries that a program may write.
const MOST_ENTRIES: usize = 16;
/// Translations that may be cached: a bit each.
const MOST_TRANSLATIONS: usize = 64;
/// Bytes that name a location or a frame leave room for this many cells.
const MOST_CELLS: usize = 200;
/// CPUs that a machine can have: a bit each in a byte.
pub const MOST_CPUS: usize = 8;
const MOST_BUFFER_DEPTH: u8 = 8;

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
        let layout = Layout::new(cpus, atomics, MOST_ENTRIES, frames, depth, own);
        let values = Values::new();
        let mut initial = vec![0; layout.len()];
        for (location, &value) in spec.atomics.iter().enumerate() {
            initial[location] = values.encode(value)?;
        }
        for (cpu, cells) in spec.own_cells.iter().enumerate() {
            layout.set_cr3(&mut initial, cpu, frame_number(spec.root) as u8);
            for (index, &value) in cells.iter().enumerate() {
                initial[layout.own_cell(cpu, index as u8)] = values.encode(value)?;
            }
        }
        for (frame, &kind) in spec.frames.iter().enumerate() {
            let frame_use = kind.map_or(FrameUse::Free, frame_use_of);
            layout.set_frame_use(&mut initial, frame as u8, frame_use);
        }
        Ok(Machine {
            layout,
            levels: LEVELS as u8,
            cpu_model: spec.cpu_model,
            translations: Numbering::new("translations", MOST_TRANSLATIONS),
            entries: Numbering::new("page-table entries", MOST_ENTRIES),
            values,
            writers: Writers::new(atomics),
            memory: spec.memory,
            frames: frames as u8,
            initial,
        })
    }

    /// Returns the state that everything starts from; all CPUs' places are 0.
    pub fn initial(&self) -> Vec<u8> {
        self.initial.clone()
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
        let drained = self.layout.buffered_len(state, cpu) == 0;
        match *call {
            Call::Load(cell) => Ok(Outcome::answer(self.load(state, cpu, cell))),
            Call::Store(cell, value) => {
                self.writers.wrote(cell, self.who(state, cpu), Write::Any);
                self.store(state, cpu, cell.0, self.values.encode(value)?)
            }
            Call::LoadLocal(cell) => {
                let code = state[self.own_location(cpu, cell)?];
                Ok(Outcome::answer(self.values.decode(code)))
            }
            Call::StoreLocal(cell, value) => {
                state[self.own_location(cpu, cell)?] = self.values.encode(value)?;
                Ok(Outcome::NOTHING)
            }
            // Locked and serializing instructions wait for the buffer to drain (H18, H25).
            Call::Rmw(..) | Call::Fence | Call::LoadCr3(..) | Call::Invlpg(_) if !drained => {
                Ok(Outcome::Blocked)
            }
            Call::Rmw(cell, rmw, operand) => {
                let clears = rmw == Rmw::And || rmw == Rmw::Swap && operand == 0;
                let write = if clears {
                    Write::ClearsBits
                } else {
                    Write::Any
                };
                self.writers.wrote(cell, self.who(state, cpu), write);
                let old = self.load(state, cpu, cell);
                let new = self.values.encode(rmw.apply(old, operand))?;
                state[self.layout.location(cell.0)] = new;
                Ok(Outcome::answer(old))
            }
            Call::Fence | Call::RestoreInterrupts(_) => Ok(Outcome::NOTHING),
            // The caller knows the former state from the code's own past.
            Call::DisableInterrupts => Ok(Outcome::NOTHING),
            Call::SendIpi(targets) => {
                for target in members(targets) {
                    if target >= self.layout.cpus() {
                        return Err(self.misuse(cpu, format!("sent an IPI to CPU {target}")));
                    }
                    // H36: no drain; the handler may run before this CPU's earlier stores are seen.
                    self.layout.set_pending(state, target, true);
                }
                Ok(Outcome::NOTHING)
            }
            Call::PauseUntil(cell, until) => {
                let met = until.holds(self.load(state, cpu, cell));
                Ok(if met {
                    Outcome::NOTHING
                } else {
                    Outcome::Blocked
                })
            }
            Call::LoadCr3(_, Cr3Load::Keep) => {
                let what = "set bit 63 of CR3 without PCIDs: #GP".to_owned();
                Err(self.misuse(cpu, what))
            }
            Call::LoadCr3(root, Cr3Load::Flush) => {
                let root = self.frame(root)?;
                self.load_root(state, cpu, root)?;
                Ok(Outcome::NOTHING)
            }
            Call::Invlpg(addr) => {
                self.invalidate_page(state, cpu, addr)?;
                Ok(Outcome::NOTHING)
            }
            Call::ReadEntry(table, index) => {
                let code = self.read_location(state, cpu, self.entry_location(table, index)?);
                Ok(Outcome::answer(self.values.decode(code)))
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
            Call::Touch(addr, access) => self.touch(state, cpu, addr, access, choice),
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

    /// Drains the oldest store of a CPU's buffer; returns whether there was one.
    ///
    /// # Errors
    /// As [`Machine::call`].
    pub fn drain(&self, state: &mut State, cpu: usize) -> Result<bool, Stop> {
        let Some(store) = self.layout.pop_buffered(state, cpu) else {
            return Ok(false);
        };
        if store.location != USER_MEMORY {
            self.write(state, cpu, store)?;
        }
        Ok(true)
    }

    /// Says whether the flush interrupt can be delivered, as far as the machine is concerned: it is
    /// pending, and the store buffer is empty, because delivery drains it (H25).
    pub fn can_deliver(&self, state: &State, cpu: usize) -> bool {
        self.layout.is_pending(state, cpu) && self.layout.buffered_len(state, cpu) == 0
    }

    /// Delivers the flush interrupt: from now on it is not pending.
    pub fn deliver(&self, state: &mut State, cpu: usize) {
        self.layout.set_pending(state, cpu, false);
    }

    /// Returns everything that a CPU may cache, for people to read.
    pub fn cached(&self, state: &State, cpu: usize) -> Vec<Translation> {
        members(self.may_be_cached(state, cpu))
            .map(|n| self.translations.get(n))
            .collect()
    }

    /// Returns what a CPU runs now: an operation, or its handler.
    pub(crate) fn who(&self, state: &State, cpu: usize) -> Who {
        Who {
            cpu,
            in_handler: self.layout.handler_node(state, cpu) != 0,
        }
    }

    pub(crate) fn load(&self, state: &State, cpu: usize, cell: AtomicCell) -> u64 {
        self.values.decode(self.read_location(state, cpu, cell.0))
    }

    /// Reads a location as a CPU sees it: its own newest buffered store, or memory.
    pub(crate) fn read_location(&self, state: &State, cpu: usize, location: u8) -> u8 {
        self.layout
            .buffered(state, cpu)
            .rfind(|store| store.location == location)
            .map_or_else(
                || state[self.layout.location(location)],
                |store| store.value,
            )
    }

    fn store(
        &self,
        state: &mut State,
        cpu: usize,
        location: u8,
        value: u8,
    ) -> Result<Outcome, Stop> {
        match self.memory {
            MemoryModel::Sc => {
                self.write(
                    state,
                    cpu,
                    Buffered {
                        location,
                        value,
                        version: 0,
                    },
                )?;
            }
            MemoryModel::Tso { buffer_depth } => {
                if self.layout.buffered_len(state, cpu) == usize::from(buffer_depth) {
                    return Ok(Outcome::Blocked);
                }
                let is_entry = self.layout.entry_of_location(location).is_some();
                let version = if is_entry {
                    self.pending_version(state, cpu)
                } else {
                    0
                };
                self.layout.push_buffered(
                    state,
                    cpu,
                    Buffered {
                        location,
                        value,
                        version,
                    },
                );
                if is_entry {
                    // H25: this CPU's own walks may see the store already.
                    self.close(state, cpu)?;
                }
            }
        }
        Ok(Outcome::NOTHING)
    }

    /// Makes a store visible to everyone. A page-table entry gets its next version, and what this CPU has
    /// read from the store before is known by that from now on.
    fn write(&self, state: &mut State, cpu: usize, store: Buffered) -> Result<(), Stop> {
        state[self.layout.location(store.location)] = store.value;
        let Some(entry) = self.layout.entry_of_location(store.location) else {
            return Ok(());
        };
        let version = &mut state[self.layout.version_of_location(store.location)];
        if *version + 1 == FIRST_PENDING {
            let most = usize::from(FIRST_PENDING) - 1;
            return Err(Limit {
                what: "stores to one page-table entry",
                most,
            }
            .into());
        }
        *version += 1;
        let version = *version;
        let (table, _) = self.entries.get(entry);
        if self.layout.frame_use(state, table) != FrameUse::Table {
            let what = format!("wrote a page-table entry into frame {table}, which is no table");
            return Err(self.misuse(cpu, what));
        }
        if is_pending(store.version) {
            self.rename_version(state, cpu, store.version, version)?;
            self.move_up_pending(state, cpu)?;
        }
        self.close_readers_of(state, table)?;
        self.forget_revoked(state, cpu);
        Ok(())
    }

    fn alloc_frame(&self, state: &mut State, cpu: usize, kind: FrameKind) -> Result<Outcome, Stop> {
        // The lowest free frame: the allocator reuses at once, which is when reuse hurts.
        let free =
            (0..self.frames).find(|&frame| self.layout.frame_use(state, frame) == FrameUse::Free);
        let Some(frame) = free else {
            return Err(self.misuse(cpu, "found no free frame".to_owned()));
        };
        self.layout.set_frame_use(state, frame, frame_use_of(kind));
        Ok(Outcome::answer(u64::from(frame) << 12))
    }

    fn free_frame(&self, state: &mut State, cpu: usize, frame: u8) -> Result<(), Stop> {
        let was = self.layout.frame_use(state, frame);
        self.layout.set_frame_use(state, frame, FrameUse::Free);
        match was {
            FrameUse::Free => Err(self.misuse(cpu, format!("freed frame {frame} twice"))),
            FrameUse::Page => self.taint_page(state, frame),
            FrameUse::Table => {
                // Its contents are garbage from now on. Nobody may read them, so they need no value.
                for (number, (table, _)) in self.entries.iter() {
                    if table == frame {
                        let location = self.layout.entry_location(number);
                        state[self.layout.location(location)] = 0;
                        state[self.layout.version_of_location(location)] = 0;
                    }
                }
                self.refuse_walks_of(state, frame)
            }
        }
    }

    fn own_location(&self, cpu: usize, cell: LocalCell) -> Result<usize, Stop> {
        if usize::from(cell.owner) != cpu {
            let what = format!("accessed a private word of CPU {}", cell.owner);
            return Err(self.misuse(cpu, what));
        }
        Ok(self.layout.own_cell(cpu, cell.index))
    }

    fn entry_location(&self, table: PhysAddr, index: u16) -> Result<u8, Stop> {
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

    fn misuse(&self, cpu: usize, what: String) -> Stop {
        Stop::Violation(Violation {
            property: Property::Panic,
            cpu: Some(cpu as u8),
            frame: None,
            through: None,
            what: format!("CPU {cpu} {what}"),
        })
    }
}

fn frame_use_of(kind: FrameKind) -> FrameUse {
    match kind {
        FrameKind::Table => FrameUse::Table,
        FrameKind::Page => FrameUse::Page,
    }
}

/// Returns the entry that a value stands for in a report.
pub fn entry_for_people(entry: Entry) -> String {
    match entry.is_present() {
        true => format!("frame {}", frame_number(entry.frame())),
        false => "absent".to_owned(),
    }
}
