//! A naive reference model: hardware that walks, fills and evicts one step at a time.
//!
//! It is written from the rules, and shares nothing with the may-cache model but plain data. Each cached
//! entry is an actual one, and remembers which stores its walk read. So what a flush owes is the definition
//! itself: a flush covers the entries that were read from stores which, as its issuer sees memory, were
//! overwritten when it began.
//!
//! What it cannot show: as the model that it is compared with, and nothing larger than tiny.

mod fills;
mod flush;
mod state;

use std::collections::{BTreeSet, VecDeque};
use std::rc::Rc;

use hashbrown::HashSet;
use lazytlb::{Access, Entry, FlushRange, FrameKind, PhysAddr, Spaces, VirtAddr};
use lazytlb_model::cpu_model::{InvlpgReach, IpiOrder};
use lazytlb_model::{Call, CpuModel, MemoryModel, Property};

use crate::script::Script;
use state::{
    Addresses, Buffered, Cached, Cpu, Flush, Location, State, StoreName, Tables, first_state,
};

/// The naive machine, running one script.
pub(crate) struct Naive<'a> {
    script: &'a Script,
    cpu_model: CpuModel,
    memory_model: MemoryModel,
}

/// What one level of a walk can come to.
type Walked = Result<Cached, Property>;
/// What a step can lead to.
type Next = Result<State, Property>;

impl<'a> Naive<'a> {
    pub(crate) fn new(script: &'a Script, cpu_model: CpuModel, memory_model: MemoryModel) -> Self {
        Naive {
            script,
            cpu_model,
            memory_model,
        }
    }

    /// Finds all properties that some execution violates; a violation ends its path only. `None` if there
    /// are more states than `most`.
    pub(crate) fn violated(&self, most: usize) -> Option<BTreeSet<Property>> {
        let mut properties = BTreeSet::new();
        let mut seen = HashSet::new();
        let mut waiting = VecDeque::from([first_state()]);
        seen.extend(waiting.iter().cloned());
        while let Some(state) = waiting.pop_front() {
            for next in self.successors(&state) {
                match next {
                    Err(property) => {
                        properties.insert(property);
                    }
                    Ok(next) => {
                        if seen.insert(next.clone()) {
                            waiting.push_back(next);
                        }
                    }
                }
            }
            if seen.len() > most {
                return None;
            }
        }
        Some(properties)
    }

    fn successors(&self, state: &State) -> Vec<Next> {
        let mut all = Vec::new();
        for cpu in 0..2 {
            all.extend(self.drain(state, cpu));
            all.extend(self.deliver(state, cpu));
            all.extend(self.call(state, cpu));
        }
        let ended = (0..2).all(|cpu| self.next_call(state, cpu).is_none());
        if all.is_empty() && !ended {
            return vec![Err(Property::Deadlock)];
        }
        let is_open = |cpu: &Rc<Cpu>| cpu.promises.iter().any(Option::is_some);
        if all.is_empty() && state.cpus.iter().any(is_open) {
            return vec![Err(Property::Panic)];
        }
        for cpu in 0..2 {
            all.extend(self.fills(state, cpu));
            all.extend(fills::evictions(state, cpu));
        }
        all
    }

    fn next_call(&self, state: &State, cpu: usize) -> Option<Call> {
        let (calls, position) = match state.cpus[cpu].in_handler {
            Some(position) => (&self.script.handler, position),
            None => (&self.script.cpus[cpu], state.cpus[cpu].position),
        };
        calls.get(usize::from(position)).copied()
    }

    /// Returns where a page-table store writes, and what.
    fn entry(&self, (cpu, position): StoreName) -> (Location, Entry) {
        match self.script.cpus[usize::from(cpu)][usize::from(position)] {
            Call::WriteEntry(table, index, entry) => ((number(table), index), entry),
            _ => unreachable!("only page-table stores have names"),
        }
    }

    // What hardware does by itself, besides filling and evicting.

    fn drain(&self, state: &State, cpu: usize) -> Option<Next> {
        let oldest = *state.cpus[cpu].buffer.first()?;
        let mut next = state.clone();
        next.cpu(cpu).buffer.remove(0);
        Some(self.write(next, oldest))
    }

    /// Makes a store visible to everyone.
    fn write(&self, mut state: State, store: Buffered) -> Next {
        let memory = Rc::make_mut(&mut state.memory);
        match store {
            Buffered::Atomic(cell, value) => memory.atomics[usize::from(cell.0)] = value,
            Buffered::User(entry, addr) if entry.stale.contains(addr) => {
                return Err(Property::StaleUse);
            }
            Buffered::User(..) => {}
            Buffered::Entry(name) => {
                let (location, _) = self.entry(name);
                if memory.frames[usize::from(location.0)] != Some(FrameKind::Table) {
                    return Err(Property::Panic);
                }
                let former = memory.tables.insert(location, name);
                memory.overwritten.extend(former);
            }
        }
        Ok(state)
    }

    fn deliver(&self, state: &State, cpu: usize) -> Option<Next> {
        let of = &state.cpus[cpu];
        let is_taken = of.pending && !of.interrupts_off && of.in_handler.is_none();
        // H25: delivery drains the buffer.
        if !is_taken || !of.buffer.is_empty() || self.script.handler.is_empty() {
            return None;
        }
        let mut next = state.clone();
        next.cpu(cpu).pending = false;
        next.cpu(cpu).in_handler = Some(0);
        Some(Ok(next))
    }

    // What software does.

    /// Lists what a CPU's next call can lead to: nothing while it has to wait.
    fn call(&self, state: &State, cpu: usize) -> Vec<Next> {
        let Some(call) = self.next_call(state, cpu) else {
            return Vec::new();
        };
        let name = (cpu as u8, state.cpus[cpu].position);
        let is_drained = state.cpus[cpu].buffer.is_empty();
        let mut next = self.after_call(state, cpu);
        match call {
            // H18, H25: locked and serializing instructions wait for the buffer to drain.
            Call::Rmw(..) | Call::Fence | Call::LoadCr3(..) | Call::Invlpg(_) if !is_drained => {
                return Vec::new();
            }
            // H36: there, an IPI waits for the sender's earlier stores.
            Call::SendIpi(_) if self.cpu_model.ipi == IpiOrder::AfterStores && !is_drained => {
                return Vec::new();
            }
            Call::PauseUntil(cell, until) if !until.holds(state.load(cpu, cell)) => {
                return Vec::new();
            }
            Call::Store(cell, value) => {
                return self.store(next, cpu, Buffered::Atomic(cell, value));
            }
            Call::WriteEntry(..) => return self.store(next, cpu, Buffered::Entry(name)),
            Call::Touch(addr, access) => return self.touch(state, next, cpu, addr, access),
            Call::Rmw(cell, rmw, operand) => {
                let atomic = &mut next.memory().atomics[usize::from(cell.0)];
                *atomic = rmw.apply(*atomic, operand);
            }
            Call::DisableInterrupts => next.cpu(cpu).interrupts_off = true,
            Call::RestoreInterrupts(_) => next.cpu(cpu).interrupts_off = false,
            Call::SendIpi(targets) => {
                for target in (0..2).filter(|target| targets >> target & 1 != 0) {
                    next.cpu(target).pending = true;
                }
            }
            Call::LoadCr3(root, _) => {
                next.cpu(cpu).cr3 = number(root);
                next.cpu(cpu).cached.clear();
            }
            Call::Invlpg(addr) => {
                let all_upper = self.cpu_model.invlpg == InvlpgReach::AllUpperLevels;
                let goes = |entry: &Cached| entry.level == 1 && all_upper || entry.matches(addr);
                next.cpu(cpu).cached.retain(|entry| !goes(entry));
            }
            Call::AllocFrame(kind) => {
                match next
                    .memory()
                    .frames
                    .iter_mut()
                    .find(|frame| frame.is_none())
                {
                    Some(free) => *free = Some(kind),
                    None => return vec![Err(Property::Panic)],
                }
            }
            Call::FreeFrame(frame) => return vec![free(next, number(frame))],
            Call::FlushBegins(root, range) => {
                let flush = self.flush(state, cpu, Spaces::one(root), range, true);
                next.begin(cpu, flush);
            }
            Call::PromiseBegins(spaces, range) => {
                let flush = self.flush(state, cpu, spaces, range, false);
                next.begin(cpu, flush);
            }
            Call::FlushReturned(root) => {
                return vec![self.keep(next, flush::meant(state, cpu, root))];
            }
            Call::PromiseKept(word) => return vec![self.keep(next, flush::numbered(state, word))],
            Call::PauseUntil(..) | Call::Fence | Call::Load(_) | Call::ReadEntry(..) => {}
            Call::LoadLocal(_) | Call::StoreLocal(..) => {}
            other => unreachable!("no script has {other:?}"),
        }
        vec![Ok(next)]
    }

    /// Returns the state with the CPU's place moved on by a call.
    fn after_call(&self, state: &State, cpu: usize) -> State {
        let mut next = state.clone();
        let of = next.cpu(cpu);
        match of.in_handler {
            None => of.position += 1,
            Some(position) => {
                let is_last = usize::from(position) + 1 == self.script.handler.len();
                of.in_handler = (!is_last).then_some(position + 1);
            }
        }
        next
    }

    fn store(&self, mut next: State, cpu: usize, store: Buffered) -> Vec<Next> {
        match self.memory_model {
            MemoryModel::Sc => vec![self.write(next, store)],
            MemoryModel::Tso { buffer_depth } => {
                if next.cpus[cpu].buffer.len() == usize::from(buffer_depth) {
                    return Vec::new();
                }
                next.cpu(cpu).buffer.push(store);
                vec![Ok(next)]
            }
        }
    }

    /// Touches an address: through one cached entry, or by a walk of its own; a fault has no effect.
    fn touch(
        &self,
        state: &State,
        next: State,
        cpu: usize,
        addr: VirtAddr,
        access: Access,
    ) -> Vec<Next> {
        let cached = state.cpus[cpu].cached.iter().copied();
        let (upper, leaves): (Vec<Cached>, Vec<Cached>) = cached
            .filter(|entry| entry.matches(addr))
            .partition(|entry| entry.level == 1);
        let mut faults = self.finds_nothing(state, cpu, None, addr);
        let mut found: Vec<Walked> = leaves.into_iter().map(Ok).collect();
        let mut tables: Vec<Walked> = upper.into_iter().map(Ok).collect();
        tables.extend(self.read_table(state, cpu, None));
        for table in tables {
            match table {
                Ok(table) if table.matches(addr) => {
                    faults |= self.finds_nothing(state, cpu, Some(&table), addr);
                    found.extend(self.read_table(state, cpu, Some(&table)));
                }
                Ok(_) => {}
                Err(garbage) => found.push(Err(garbage)),
            }
        }
        let mut after = Vec::new();
        for walked in found {
            match walked {
                Err(garbage) => after.push(Err(garbage)),
                Ok(entry) if !entry.matches(addr) => {}
                Ok(entry) if access == Access::Store && !entry.writable => faults = true,
                Ok(entry) if entry.stale.contains(addr) => after.push(Err(Property::StaleUse)),
                Ok(_) if access == Access::Load => after.push(Ok(next.clone())),
                Ok(entry) => {
                    after.extend(self.store(next.clone(), cpu, Buffered::User(entry, addr)));
                }
            }
        }
        if faults {
            after.push(Ok(next));
        }
        after
    }

    /// Says whether one level of a walk for an address can find an absent entry.
    fn finds_nothing(
        &self,
        state: &State,
        cpu: usize,
        above: Option<&Cached>,
        addr: VirtAddr,
    ) -> bool {
        let (table, level) = above.map_or((state.cpus[cpu].cr3, 2), |above| (above.frame, 1));
        let location = (table, index_of(addr, level));
        // H25: the walk of an access sees all earlier stores of its CPU.
        let own = state.cpus[cpu].buffered_entries();
        let own = own.filter(|&name| self.entry(name).0 == location).last();
        let newest = own.or_else(|| state.memory.tables.get(&location).copied());
        newest.is_none_or(|name| !self.entry(name).1.is_present())
    }
}

/// Frees a frame: a table's entries are garbage from now on, and translations to a page must not be used.
fn free(mut state: State, frame: u8) -> Next {
    let memory = state.memory();
    match memory.frames[usize::from(frame)].take() {
        None => return Err(Property::Panic),
        Some(FrameKind::Table) => {
            let lost = memory
                .tables
                .iter()
                .filter(|((table, _), _)| *table == frame);
            memory.overwritten.extend(lost.map(|(_, name)| *name));
            memory.tables.retain(|(table, _), _| *table != frame);
        }
        Some(FrameKind::Page) => {
            let leads_there = |entry: &Cached| match entry.level == 0 && entry.frame == frame {
                true => Addresses::ALL,
                false => Addresses::NONE,
            };
            (0..2).for_each(|cpu| taint(&mut state, cpu, leads_there));
        }
    }
    Ok(state)
}

/// Taints entries of a CPU, and its buffered stores through such.
fn taint(state: &mut State, cpu: usize, stale: impl Fn(&Cached) -> Addresses) {
    let mark = |mut entry: Cached| {
        entry.stale = entry.stale.union(stale(&entry)).of(&entry);
        entry
    };
    let of = state.cpu(cpu);
    of.cached = of.cached.iter().copied().map(mark).collect();
    for store in &mut of.buffer {
        if let Buffered::User(entry, _) = store {
            *entry = mark(*entry);
        }
    }
}

fn index_of(VirtAddr(addr): VirtAddr, level: u8) -> u16 {
    let shift = if level == 2 { 21 } else { 12 };
    (addr >> shift & 511) as u16
}

fn number(frame: PhysAddr) -> u8 {
    (frame.0 >> 12) as u8
}
