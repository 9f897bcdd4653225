//! The checker: with which bounds and means programs are explored.

use std::sync::Arc;
use std::time::{Duration, Instant};

use lazytlb_model::machine::MachineSpec;
use lazytlb_model::{CpuModel, Cr4, Features, Machine, MemoryModel};

use crate::automaton::Automaton;
use crate::error::CheckError;
use crate::explore::{Ended, Exploration, Limits, Visitor};
use crate::hardware::Hardware;
use crate::model_hw::Constants;
use crate::order::BreadthFirst;
use crate::program::{DeclaredCell, Program};
use crate::reduction::Reduction;
use crate::renumber::Form;
use crate::store::{StateId, StateStore, Storage};
use crate::system::System;
use crate::verdict::Effort;
use crate::watchdog::{self, Pulse};

/// Checks programs: the bounds and the means of a search.
///
/// The defaults are x86-TSO, the weakest CPU, full states, no limits, one thread.
#[derive(Clone, Debug)]
pub struct Checker {
    pub(crate) cpu_model: CpuModel,
    pub(crate) memory: MemoryModel,
    pub(crate) storage: Storage,
    pub(crate) reduction: Reduction,
    pub(crate) limits: Limits,
    threads: usize,
    /// Tells whoever waits for a check what code runs in it.
    pub(crate) pulse: Arc<Pulse>,
}

/// An exploration as the checker makes it.
pub(crate) type Explored<'p> = Exploration<'p, Form<'p>, StateStore, BreadthFirst>;

/// How far a search is, for a progress display.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// The work so far.
    pub effort: Effort,
    /// States found and not yet explored.
    pub waiting: u64,
}

/// Room for numbers of states, with some to spare for what one state leads to.
pub(crate) const MOST_STATES: u64 = StateId::MAX as u64 - (1 << 20);

impl Default for Checker {
    fn default() -> Self {
        Checker::new()
    }
}

impl Checker {
    /// Makes a checker with the defaults.
    pub fn new() -> Self {
        Checker {
            cpu_model: CpuModel::WEAKEST,
            memory: MemoryModel::TSO,
            storage: Storage::FullStates,
            reduction: Reduction::CollapseLocal,
            limits: Limits {
                max_states: MOST_STATES,
                max_time: Duration::MAX,
                max_memory_bytes: u64::MAX,
            },
            threads: 1,
            pulse: Arc::default(),
        }
    }

    /// Sets the CPU model.
    pub fn cpu_model(self, cpu_model: CpuModel) -> Self {
        Checker { cpu_model, ..self }
    }

    /// Sets the memory model.
    pub fn memory(self, memory: MemoryModel) -> Self {
        Checker { memory, ..self }
    }

    /// Sets how states are remembered.
    pub fn storage(self, storage: Storage) -> Self {
        Checker { storage, ..self }
    }

    /// Sets whether local steps are collapsed.
    pub fn reduction(self, reduction: Reduction) -> Self {
        Checker { reduction, ..self }
    }

    /// Sets after how many states a search ends as incomplete.
    pub fn max_states(mut self, max_states: u64) -> Self {
        self.limits.max_states = max_states.min(MOST_STATES);
        self
    }

    /// Sets after how much time a search ends as incomplete.
    pub fn max_time(mut self, max_time: Duration) -> Self {
        self.limits.max_time = max_time;
        self
    }

    /// Sets at how much memory for states, in bytes, a search ends as incomplete. Tables double when they are
    /// full: allow for twice as much.
    pub fn max_memory_bytes(mut self, max_memory_bytes: u64) -> Self {
        self.limits.max_memory_bytes = max_memory_bytes;
        self
    }

    /// Sets how many threads explore. Verdict and counts do not depend on it.
    pub fn threads(self, threads: usize) -> Self {
        Checker {
            threads: threads.max(1),
            ..self
        }
    }

    /// Does something with a program on a thread that can be left behind, if the program's code does not come back.
    pub(crate) fn watched<T: Send + 'static>(
        &self,
        program: &Program,
        progress: impl FnMut(Progress),
        work: impl FnOnce(&Checker, &Program, &dyn Fn(Progress)) -> Result<T, CheckError>
        + Send
        + 'static,
    ) -> Result<T, CheckError> {
        let pulse = Arc::<Pulse>::default();
        let checker = Checker {
            pulse: Arc::clone(&pulse),
            ..self.clone()
        };
        let its_own = program.clone();
        let patience = watchdog::patience(self.limits.max_time);
        watchdog::watched(&pulse, patience, progress, move |tell| {
            work(&checker, &its_own, tell)
        })
        .map_err(|hung| hung.told(program))?
    }

    /// Explores a program; once more if it turns out to use what costs only the programs that do.
    pub(crate) fn explore<'p>(
        &self,
        program: &'p Program,
        visitor: &mut impl Visitor,
    ) -> Result<(Explored<'p>, Ended), CheckError> {
        self.explore_since(Instant::now(), program, visitor)
    }

    /// Explores a program, as [`Checker::explore`], where the time began to run before.
    pub(crate) fn explore_since<'p>(
        &self,
        started: Instant,
        program: &'p Program,
        visitor: &mut impl Visitor,
    ) -> Result<(Explored<'p>, Ended), CheckError> {
        let mut features = program.features_in_use();
        loop {
            let mut exploration = self.exploration_with(program, features)?;
            exploration.started = started;
            match exploration.run(visitor)? {
                Ended::NeedsMoreFeatures => {
                    let machine = exploration.system.hardware.machine();
                    features = machine.features_that_turned_up();
                }
                ended => return Ok((exploration, ended)),
            }
        }
    }

    /// Makes an exploration of a program that has not begun.
    #[cfg(test)]
    pub(crate) fn exploration<'p>(&self, program: &'p Program) -> Result<Explored<'p>, CheckError> {
        self.exploration_with(program, program.features_in_use())
    }

    fn exploration_with<'p>(
        &self,
        program: &'p Program,
        features: Features,
    ) -> Result<Explored<'p>, CheckError> {
        let started = Instant::now();
        program.test_declarations().map_err(CheckError::Limit)?;
        if self.memory == (MemoryModel::Tso { buffer_depth: 0 }) {
            return Err(CheckError::Limit(
                "a store buffer for 0 stores lets no store through: use a depth of 1 or more, or \
                 `MemoryModel::Sc`, which has no buffers"
                    .to_owned(),
            ));
        }
        let system = self.system(program, features)?;
        let form = Form::of(program, system.dead_words.clone());
        let store = StateStore::new(system.hardware.machine().layout(), self.storage);
        Ok(Exploration {
            system,
            form,
            store,
            order: BreadthFirst::default(),
            limits: self.limits,
            threads: self.threads,
            started,
            effort: Effort::default(),
            stretched: None,
        })
    }

    /// Makes a system of a program that uses so much of the machine.
    pub(crate) fn system<'p>(
        &self,
        program: &'p Program,
        features: Features,
    ) -> Result<System<'p>, CheckError> {
        let first_values = |cells: &Vec<DeclaredCell>| {
            let cells = cells.iter();
            cells.map(|cell| cell.first_value).collect::<Vec<_>>()
        };
        let spec = MachineSpec {
            atomics: first_values(&program.atomics),
            own_cells: program.own_cells.iter().map(first_values).collect(),
            frames: program.frames.clone(),
            page_words: program.page_words.clone(),
            entries: program.entries.clone(),
            root: program.root,
            cr4: program.cr4,
            features,
            garbage: program.garbage,
            ignored: program.ignored.clone(),
            cpu_model: self.cpu_model,
            memory: self.memory,
        };
        let machine = Machine::new(&spec).map_err(|limit| CheckError::Limit(limit.to_string()))?;
        let automaton = Automaton::new(program, self.constants(program), Arc::clone(&self.pulse));
        Ok(System::new(
            Hardware::new(machine),
            automaton,
            self.reduction,
        ))
    }

    /// Returns what the machine tells a program's code about itself.
    pub(crate) fn constants(&self, program: &Program) -> Constants {
        Constants {
            quirks: program.quirks_told.unwrap_or(self.cpu_model.quirks),
            pcids_are_on: program.cr4.has(Cr4::PCIDE),
            has_broadcasts: self.cpu_model.broadcast,
            cpu_numbers: program.cpu_numbers,
            lazy_words: program.lazy_words,
        }
    }

    /// Makes a system that knows nothing yet, but for what an exploration has learnt of the program's words.
    pub(crate) fn fresh_system<'p>(
        &self,
        program: &'p Program,
        exploration: &Explored<'_>,
    ) -> Result<System<'p>, CheckError> {
        let explored = exploration.system.hardware.machine();
        let system = self.system(program, explored.features())?;
        system.hardware.machine().learn_from(explored);
        Ok(system)
    }
}
