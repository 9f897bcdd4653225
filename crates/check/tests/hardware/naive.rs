//! A naive reference model: hardware that walks, fills and evicts one step at a time.
//!
//! It is written from the rules, and shares nothing with the may-cache model but plain data. An entry in a
//! TLB or in a paging-structure cache is an actual one; walks go one level at a time, and set Accessed bits
//! that are plain bits; stores set Dirty ones; buffers hold actual stores.
//!
//! Two things keep it small. An entry that no access of what a CPU has still to do can use is dropped at
//! once, where nothing else could tell. And a walk that ends in a fault is one step: it caches nothing.
//!
//! What it cannot show: as the model that it is compared with, and nothing larger than tiny. It has no
//! flushes' promises and no freed frames: those have their own comparison.

mod access;
mod buffers;
mod fills;
mod former;
mod invalidate;
mod numbers;
mod state;
mod useful;
mod walk;

use std::cell::RefCell;
use std::collections::BTreeSet;

use hashbrown::HashSet;
use lazytlb_check::End;
use lazytlb_model::cpu_model::{IpiOrder, UpperLevels};
use lazytlb_model::{Broadcast, Call, FAULT, Property};

use crate::script::{Routine, Script, answer_cell, has_answer};
use access::{Access, Does};
use state::{Buffered, Cached, EntryStore, PLACES, State, WordStore, modified};
use useful::Useful;

/// The naive machine, running one script.
pub(crate) struct Naive<'a> {
    script: &'a Script,
    caching: Caching,
    ignored: Vec<Property>,
    /// The places of page-table entries: the table's frame, and the index.
    places: Vec<(u8, u16)>,
    /// Entries that were ever cached, numbered.
    entries: RefCell<Vec<Cached>>,
    /// What places of page-table entries held once, numbered.
    former: RefCell<Vec<(u8, u64)>>,
    /// Broadcast invalidations, numbered: who issued it, and what it invalidates.
    requests: RefCell<Vec<(usize, Broadcast)>>,
    useful: Useful,
    too_large: std::cell::Cell<bool>,
}

/// What the hardware caches.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Caching {
    /// What it likes.
    Anything,
    /// Nothing: each access walks, at one time. It tells which outcomes need a stale entry.
    Nothing,
}

/// What a step leads to.
type Next = Result<State, Property>;

/// Everything that a script can end in.
#[derive(Default)]
pub(crate) struct Found {
    pub(crate) ends: BTreeSet<End>,
    pub(crate) violated: BTreeSet<Property>,
    pub(crate) states: usize,
}

impl Found {
    /// Says whether some end tells of a page fault.
    pub(crate) fn has_faults(&self) -> bool {
        let mut answers = self
            .ends
            .iter()
            .flat_map(|end| end.own_cells.iter().flatten());
        answers.any(|&answer| answer == FAULT)
    }
}

impl<'a> Naive<'a> {
    pub(crate) fn new(script: &'a Script, ignored: &[Property], caching: Caching) -> Self {
        let places = script.places().into_iter();
        let places: Vec<(u8, u16)> = places
            .map(|(table, index)| (number(table.0), index))
            .collect();
        assert!(places.len() <= PLACES, "a script writes few entries");
        Naive {
            script,
            caching,
            ignored: ignored.to_vec(),
            places,
            entries: RefCell::default(),
            former: RefCell::default(),
            requests: RefCell::default(),
            useful: Useful::new(script, ignored),
            too_large: false.into(),
        }
    }

    /// Explores everything; a violation ends its path only. `None` if there are more states than `most`.
    pub(crate) fn explore(&self, most: usize) -> Option<Found> {
        let (mut found, mut seen) = (Found::default(), HashSet::new());
        let first = self.first_state();
        let mut waiting = vec![first];
        seen.insert(first);
        let mut nexts = Vec::new();
        while let Some(state) = waiting.pop() {
            self.successors(&state, &mut nexts, &mut found);
            for next in nexts.drain(..) {
                match next {
                    Err(property) => {
                        found.violated.insert(property);
                    }
                    Ok(mut next) => {
                        self.remember_former(&state, &mut next);
                        self.drop_useless(&mut next);
                        if seen.insert(next) {
                            waiting.push(next);
                        }
                    }
                }
            }
            if seen.len() > most || self.too_large.get() {
                return None;
            }
        }
        found.states = seen.len();
        Some(found)
    }

    fn first_state(&self) -> State {
        let mut state = State::new(1, self.script.cr4);
        for &(table, index, entry) in &self.script.first_entries {
            let place = self.place(table.0, index);
            state.tables[usize::from(place)] = entry.0;
        }
        state
    }

    fn successors(&self, state: &State, out: &mut Vec<Next>, found: &mut Found) {
        for cpu in 0..2 {
            self.drain(state, cpu, out);
            self.translate(state, cpu, out);
            self.update(state, cpu, out);
            self.drain_combining(state, cpu, out);
            self.receive(state, cpu, out);
            self.deliver(state, cpu, out);
            self.call(state, cpu, out);
        }
        if out.is_empty() {
            // What waits for a walk is not stuck: hardware does walk.
            let ended = (0..2).all(|cpu| self.next_call(state, cpu).is_none());
            // What waits for a walk is not stuck: hardware does walk. If it never finds what it needs, the
            // execution is none: the walk was taken before, and faulted (H41).
            let is_late = (0..2).any(|cpu| state.cpus[cpu].late_addrs().next().is_some());
            if ended && !is_late {
                found.ends.insert(self.end(state));
            } else if !is_late && !(0..2).any(|cpu| self.waits_for_a_walk(state, cpu)) {
                out.push(Err(Property::Deadlock));
            }
        }
        if self.caching == Caching::Anything {
            for cpu in 0..2 {
                self.fills(state, cpu, out);
                self.evictions(state, cpu, out);
            }
        }
    }

    fn waits_for_a_walk(&self, state: &State, cpu: usize) -> bool {
        matches!(
            self.next_call(state, cpu),
            Some((
                Call::LoadVirtual(..)
                    | Call::StoreVirtual { .. }
                    | Call::RmwVirtual { .. }
                    | Call::Fetch(..),
                ..
            ))
        )
    }

    fn end(&self, state: &State) -> End {
        End {
            atomics: state.words.to_vec(),
            own_cells: state.cpus.iter().map(|of| of.answers.to_vec()).collect(),
            entries: state.tables[..self.places.len()].to_vec(),
        }
    }

    /// Returns what a CPU calls next, from where, and which call of the routine it is.
    fn next_call(&self, state: &State, cpu: usize) -> Option<(Call, Routine, usize)> {
        let of = &state.cpus[cpu];
        let (calls, position, routine) = match (of.in_nmi, of.in_handler) {
            (Some(position), _) => (&self.script.nmi, position, Routine::Nmi),
            (_, Some(position)) => (&self.script.handler, position, Routine::Handler),
            _ => (&self.script.cpus[cpu], of.position, Routine::Operation),
        };
        let call = calls.get(usize::from(position)).copied()?;
        Some((call, routine, usize::from(position)))
    }

    /// Returns the state after a CPU's call has answered.
    fn done(&self, mut next: State, cpu: usize, answer: u64) -> State {
        let call = self.next_call(&next, cpu);
        let (call, routine, position) = call.expect("the caller made it");
        let of = &mut next.cpus[cpu];
        if has_answer(&call) {
            of.answers[answer_cell(routine, position)] = answer;
        }
        let after = position as u8 + 1;
        let unless_last = |calls: &Vec<Call>| (usize::from(after) < calls.len()).then_some(after);
        match routine {
            Routine::Operation => of.position = after,
            Routine::Handler => of.in_handler = unless_last(&self.script.handler),
            Routine::Nmi => of.in_nmi = unless_last(&self.script.nmi),
        }
        next
    }

    /// Delivers interrupts, which drains the buffers (H25, H26).
    fn deliver(&self, state: &State, cpu: usize, out: &mut Vec<Next>) {
        let of = &state.cpus[cpu];
        let mut next = *state;
        let reading = self.script.setting.cpu_model.write_combining.interrupt;
        if of.in_nmi.is_some() || !(of.pending || of.nmi_pending) {
            return;
        }
        if !self.empties(&mut next, cpu, reading) {
            return;
        }
        self.update_all(&mut next, cpu);
        if of.nmi_pending && !self.script.nmi.is_empty() {
            let mut next = next;
            next.cpus[cpu].nmi_pending = false;
            next.cpus[cpu].in_nmi = Some(0);
            out.push(Ok(next));
        }
        if of.pending && of.in_handler.is_none() && !self.script.handler.is_empty() {
            next.cpus[cpu].pending = false;
            next.cpus[cpu].in_handler = Some(0);
            out.push(Ok(next));
        }
    }

    /// Lists what a CPU's next call can lead to: nothing while it has to wait.
    fn call(&self, state: &State, cpu: usize, out: &mut Vec<Next>) {
        let Some((call, ..)) = self.next_call(state, cpu) else {
            return;
        };
        let access = match call {
            Call::LoadVirtual(addr, privilege) => Some((addr, privilege, Does::Load)),
            Call::Fetch(addr, privilege) => Some((addr, privilege, Does::Fetch)),
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
                Some((addr, privilege, does))
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
                Some((addr, privilege, does))
            }
            _ => None,
        };
        if let Some((addr, privilege, does)) = access {
            let addr = addr.0;
            let access = Access {
                addr,
                privilege,
                does,
            };
            return self.access(state, cpu, access, out);
        }
        let mut next = *state;
        match self.instruction(&mut next, cpu, &call) {
            Ok(Some(answer)) => out.push(Ok(self.done(next, cpu, answer))),
            Ok(None) => {}
            Err(property) => out.push(Err(property)),
        }
    }

    /// Does a call that is no access by virtual address; returns its answer, `None` while it has to wait.
    fn instruction(
        &self,
        next: &mut State,
        cpu: usize,
        call: &Call,
    ) -> Result<Option<u64>, Property> {
        let readings = self.script.setting.cpu_model.write_combining;
        let event = match call {
            Call::RmwBytes { .. } | Call::RmwEntry(..) | Call::RmwEntryBytes { .. } => {
                Some(readings.locked)
            }
            Call::Fence => Some(readings.mfence),
            Call::Serialize
            | Call::LoadCr3(..)
            | Call::Invlpg(_)
            | Call::Invpcid(_)
            | Call::WriteCr4(_) => Some(readings.serializing),
            // H29: it waits for broadcasts; that it serializes, too, is an assumption.
            Call::Tlbsync => self.serializes(call).then_some(readings.serializing),
            // H36: there, sending waits for the sender's earlier stores.
            Call::SendIpi(_) | Call::SendNmi(_) => {
                let waits = self.script.setting.cpu_model.ipi == IpiOrder::AfterStores;
                waits.then_some(readings.uncached)
            }
            _ => None,
        };
        if event.is_some_and(|reading| !self.empties(next, cpu, reading)) {
            return Ok(None);
        }
        // H41: locked and serializing instructions bound updates of A and D.
        let is_locked = matches!(
            call,
            Call::RmwBytes { .. } | Call::RmwEntry(..) | Call::RmwEntryBytes { .. }
        );
        if is_locked || self.serializes(call) {
            self.update_all(next, cpu);
        }
        // A CPU sees its own stores in order, also those that wait to be combined.
        let word = match call {
            Call::Load(cell) | Call::Store(cell, _) => Some(cell.0),
            Call::StoreBytes { cell, .. } | Call::RmwBytes { cell, .. } => Some(cell.0),
            _ => None,
        };
        let waits = |word| match call {
            Call::Load(_) => next.cpus[cpu].load_waits(word),
            _ => next.cpus[cpu].combines_word(word),
        };
        if word.is_some_and(waits) {
            return Ok(None);
        }
        let store = |next: &mut State, store| self.store(next, cpu, store).then_some(0);
        let word_store =
            |word, bytes, value| Buffered::Word(WordStore { word, bytes, value }, None);
        match *call {
            Call::Load(cell) => {
                let value = next.load(cpu, cell.0);
                next.cpus[cpu].pass(cell.0);
                return Ok(Some(value));
            }
            Call::Store(cell, value) => return Ok(store(next, word_store(cell.0, 0, value))),
            Call::StoreBytes { cell, bytes, value } => {
                return Ok(store(next, word_store(cell.0, bytes, value)));
            }
            Call::RmwBytes {
                cell,
                bytes,
                rmw,
                operand,
            } => {
                return Ok(Some(next.modify(cell.0, bytes, rmw, operand)));
            }
            Call::ReadEntry(table, index) => {
                return Ok(Some(next.load_entry(cpu, self.place(table.0, index))));
            }
            Call::WriteEntry(table, index, entry) => {
                let place = self.place(table.0, index);
                let bytes = 0;
                let value = entry.0;
                return Ok(store(
                    next,
                    Buffered::Entry(EntryStore {
                        place,
                        bytes,
                        value,
                    }),
                ));
            }
            Call::WriteEntryBytes {
                table,
                index,
                bytes,
                value,
            } => {
                let place = self.place(table.0, index);
                return Ok(store(
                    next,
                    Buffered::Entry(EntryStore {
                        place,
                        bytes,
                        value,
                    }),
                ));
            }
            Call::RmwEntryBytes {
                table,
                index,
                bytes,
                rmw,
                operand,
            } => {
                let place = self.place(table.0, index);
                let entry = next.tables[usize::from(place)];
                let (old, new) = modified(entry, bytes, rmw, operand);
                if self.is_under_update(next, place, new) {
                    return Ok(None);
                }
                next.tables[usize::from(place)] = new;
                return Ok(Some(old));
            }
            Call::RmwEntry(table, index, rmw, operand) => {
                let place = self.place(table.0, index);
                let old = next.tables[usize::from(place)];
                let new = rmw.apply(old, operand);
                if self.is_under_update(next, place, new) {
                    return Ok(None);
                }
                next.tables[usize::from(place)] = new;
                return Ok(Some(old));
            }
            Call::Fence | Call::Serialize => {}
            Call::StoreFence => return Ok(self.store_fence(next, cpu).then_some(0)),
            Call::SendIpi(targets) | Call::SendNmi(targets) => {
                for target in (0..2).filter(|target| targets >> target & 1 != 0) {
                    let of = &mut next.cpus[target];
                    match call {
                        Call::SendIpi(_) => of.pending = true,
                        _ => of.nmi_pending = true,
                    }
                }
            }
            Call::LoadCr3(cr3, load) => self.load_cr3(next, cpu, cr3, load)?,
            Call::Invlpg(addr) => self.invlpg(next, cpu, addr),
            Call::Invpcid(what) => self.invpcid(next, cpu, what)?,
            Call::WriteCr4(cr4) => self.write_cr4(next, cpu, cr4)?,
            Call::Invlpgb(what) => self.invlpgb(next, cpu, what)?,
            Call::Tlbsync if !self.script.setting.cpu_model.broadcast => {
                return Err(Property::GeneralProtection);
            }
            Call::Tlbsync if !self.is_synced(next, cpu) => return Ok(None),
            Call::Tlbsync => {}
            other => unreachable!("no script has {other:?}"),
        }
        if self.serializes(call) {
            next.cpus[cpu].former = 0;
        }
        Ok(Some(0))
    }

    fn upper_levels(&self) -> UpperLevels {
        self.script.setting.cpu_model.upper_levels
    }

    fn checks(&self, property: Property) -> bool {
        !self.ignored.contains(&property)
    }

    /// Drops cached entries that nothing can tell the presence of any more.
    fn drop_useless(&self, state: &mut State) {
        for cpu in 0..2 {
            let of = &state.cpus[cpu];
            if of.cached | of.flying != 0 {
                let future = self.useful.future_of(of, cpu);
                self.drop_cached(state, cpu, |entry| !self.useful.is_useful(entry, future));
                self.drop_flying(state, cpu, |entry| !self.useful.is_useful(entry, future));
            }
        }
    }
}

/// Returns a frame's number.
fn number(addr: u64) -> u8 {
    (addr >> 12) as u8
}
