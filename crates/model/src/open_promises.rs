//! The promises that have begun and that nobody has kept: their slots, and how software names them.

use std::ops::Deref;

use lazytlb::Spaces;

use crate::index::{Frame, PromiseId, PromiseSlot, SubjectId};
use crate::state::State;
use crate::subject::{KnownBy, Subject};
use crate::view::{CpuIn, CpuMut};

impl CpuMut<'_> {
    /// Notes what the promise in a slot is about, or that the slot is free.
    pub(crate) fn put_subject(&mut self, slot: PromiseSlot, subject: Option<SubjectId>) {
        let at = self.layout().promise(self.cpu, slot);
        self.state[at.bytes()] = SubjectId::to_byte(subject);
    }
}

impl<'m, S: Deref<Target = State>> CpuIn<'m, S> {
    /// Lists the slots that a CPU has for promises.
    pub(crate) fn slots(&self) -> impl Iterator<Item = PromiseSlot> + use<S> {
        self.layout().promises.slots()
    }

    /// Returns what this CPU's promise in a slot is about, if one is open there.
    pub(crate) fn subject(&self, slot: PromiseSlot) -> Option<&'m Subject> {
        let beginner = self.cpu;
        self.subject_of(PromiseId { beginner, slot })
    }

    /// Returns the number of what this CPU's promise in a slot is about, if one is open there.
    pub(crate) fn subject_number(&self, slot: PromiseSlot) -> Option<SubjectId> {
        let at = self.layout().promise(self.cpu, slot);
        SubjectId::from_byte(self.state[at.bytes()])
    }

    /// Returns what a promise is about, if it is open.
    fn subject_of(&self, promise: PromiseId) -> Option<&'m Subject> {
        let beginner = self.other(promise.beginner);
        let number = beginner.subject_number(promise.slot)?;
        Some(self.machine.subjects.get(number))
    }

    /// Returns the open promise that has a number.
    pub(crate) fn open_numbered(&self, word: u64) -> Option<PromiseId> {
        let promise = PromiseId::from_word(word, self.layout().cpus())?;
        let has_slot = self.slots().any(|slot| slot == promise.slot);
        (has_slot && self.subject_of(promise).is_some()).then_some(promise)
    }

    /// Lists the open promises that one can mean who names a space by its root: this CPU's own, else another's.
    pub(crate) fn known_by_root(&self, root: Frame) -> Vec<PromiseId> {
        let spaces = Spaces::one(root.addr());
        let open: Vec<PromiseId> = self
            .open_promises()
            .filter(|&(_, subject)| subject.known_by == KnownBy::Root && subject.spaces == spaces)
            .map(|(promise, _)| promise)
            .collect();
        let own = open.iter().filter(|promise| promise.beginner == self.cpu);
        let own: Vec<PromiseId> = own.copied().collect();
        if own.is_empty() { open } else { own }
    }

    /// Lists the promises of all CPUs that are open.
    pub(crate) fn open_promises(&self) -> impl Iterator<Item = (PromiseId, &'m Subject)> {
        let cpus = self.layout().every_cpu();
        let all = cpus.flat_map(|beginner| {
            let slots = self.slots();
            slots.map(move |slot| PromiseId { beginner, slot })
        });
        all.filter_map(|promise| Some((promise, self.subject_of(promise)?)))
    }
}
