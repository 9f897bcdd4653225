//! What software relies on once a flush has returned: what the flush covers, and whose use of it is stale.
//!
//! Rules: H22, H23. A flush is a *promise*: it is about some spaces and a range of addresses, its CPU *begins*
//! it when the page tables have changed, and some CPU *keeps* it when the flush has returned. An entry is
//! *covered* by it if any of its addresses lies in the range, it was read from a page-table entry that was
//! overwritten before the flush began, and the page tables do not grant it any more, as the CPU sees them that
//! began. Once the flush has returned, such an entry is *tainted* wherever it may be cached, and *revoked*: a
//! CPU that fills it from now on must not use it either. Of an entry that reaches out of the range, a part is.
//!
//! A CPU's promises lie in slots, lowest first, and a kept one's slot is free again: so a promise is known by a
//! small number, and programs that begin and keep promises for ever have finitely many states.
//!
//! An example. `e` maps a page to frame 2, and CPU 1 has used it, so CPU 1 may cache the translation `t`:
//!
//! ```text
//!  CPU 0                   of CPU 0                 of CPU 1
//!                                                   t is cached
//!  e = absent (buffered)                            t is cached
//!  flush begins            t is covered             t is cached
//!  INVLPG (waits for e)    t is covered             t is cached
//!  flush has returned      t is revoked, until      t is tainted: if CPU 1 touches the page now, that
//!                          no store to a page       is `stale-use`
//!                          table waits here
//! ```
//!
//! CPU 0 forgot to interrupt CPU 1. If it had not, CPU 1 would have dropped `t` before the flush returned,
//! and nothing would be left to taint. If `e` is written again with the same page before the flush returns,
//! then `t` is *granted*, and free.

use std::ops::Deref;

use lazytlb::{FlushRange, PhysAddr, Spaces};

use crate::call::Call;
use crate::index::{Cpu, Frame, PromiseId, PromiseSlot, TranslationId};
use crate::limit::Limit;
use crate::machine::Machine;
use crate::progress::{Progress, Stop};
use crate::state::{CacheSet, FrameUse, State};
use crate::subject::{KnownBy, Subject};
use crate::translation::Translation;
use crate::translation_set::TranslationSet;
use crate::view::{CpuIn, CpuMut};
use crate::violation::{Property, Violation};

impl Machine {
    /// Says whether a call, which a CPU is about to make, keeps a promise that covered an entry which some CPU
    /// might have cached when it began, and bears on a property that is looked at: a proof of a flush rests on
    /// those, and on no others.
    pub fn promise_covers_cached(&self, state: &State, cpu: impl Into<Cpu>, call: &Call) -> bool {
        let keeper = self.view(state, cpu.into());
        let promise = match *call {
            Call::PromiseKept(word) => keeper.open_numbered(word),
            Call::FlushReturned(root) => {
                let meant = self.frame(root).map(|root| keeper.known_by_root(root));
                meant.ok().and_then(|meant| meant.first().copied())
            }
            _ => None,
        };
        let Some(promise) = promise else {
            return false;
        };
        let beginner = keeper.other(promise.beginner);
        if self.features.endless {
            // What it covered may be forgotten by now: nobody could fill it again (`renumber.rs`).
            let subject = beginner.subject_number(promise.slot);
            return subject.is_some_and(|subject| self.relied_on.contains(subject));
        }
        let covered = beginner.set(CacheSet::Covered(promise.slot));
        let cached = self.covered_when_cached.get();
        keeper.bears_weight(covered.intersection(cached))
    }
}

impl CpuMut<'_> {
    /// Begins a promise in this CPU's lowest free slot, and notes what it covers. Entries may be cached, a store
    /// in a buffer may have gone through them, or memory may still hold them, while this CPU's own store waits.
    fn begin_promise(&mut self, subject: Subject) -> Result<Progress<PromiseId>, Stop> {
        let free = self.slots().find(|&slot| self.subject(slot).is_none());
        let Some(slot) = free else {
            return Err(Stop::Limit(Limit {
                what: "promises of one CPU at one time (`Features::promises`)",
                most: self.slots().count(),
            }));
        };
        let covered = self.covered_by(&subject)?;
        let subject = self.machine.subjects.number(&subject)?;
        self.put_subject(slot, Some(subject));
        self.put_set(CacheSet::Covered(slot), covered);
        let relied_on = covered.intersection(self.cached_anywhere());
        self.machine.covered_when_cached.add(relied_on);
        if self.bears_weight(relied_on) {
            self.machine.relied_on.add(subject);
        }
        let beginner = self.cpu;
        Ok(Progress::answer(PromiseId { beginner, slot }))
    }

    /// Begins a promise about some spaces; answers with its number.
    pub(crate) fn begin_numbered(
        &mut self,
        spaces: Spaces,
        range: FlushRange,
    ) -> Result<Progress, Stop> {
        let begun = self.begin_promise(Subject::numbered(spaces, range))?;
        Ok(begun.map(PromiseId::to_word))
    }

    /// Begins a promise about one space, which its root names.
    pub(crate) fn begin_by_root(
        &mut self,
        root: Frame,
        range: FlushRange,
    ) -> Result<Progress<()>, Stop> {
        let begun = self.begin_promise(Subject::of_root(root.addr(), range))?;
        Ok(begun.map(|_| ()))
    }

    /// Keeps the promise that has this number.
    pub(crate) fn keep_numbered(&mut self, word: u64) -> Result<Progress<()>, Stop> {
        match self.open_numbered(word) {
            Some(promise) => self.keep(promise),
            None => {
                let what = format!(
                    "kept the promise {word}, which was never begun, or was kept before: each is kept once"
                );
                Err(self.machine.misuse(self.cpu, what))
            }
        }
    }

    /// Keeps the promise about a space that is known by its root: this CPU's own, else another's.
    pub(crate) fn keep_by_root(&mut self, root: Frame) -> Result<Progress<()>, Stop> {
        let meant = self.known_by_root(root);
        let (what, instead) = match meant[..] {
            [promise] => return self.keep(promise),
            [] => (
                "no flush of that space has begun, or it was said before",
                "",
            ),
            _ => (
                "two that have begun could be meant",
                ": `Promises` tells them apart by their numbers",
            ),
        };
        let what = format!(
            "said that its flush in the space with root {root} has returned: {what}{instead}"
        );
        Err(self.machine.misuse(self.cpu, what))
    }

    /// Taints what a promise covers, wherever it may still be cached: from now on its use is `stale-use`. A
    /// store that went through it and still waits in a buffer is that at once. What has been granted again
    /// meanwhile is free. Whoever keeps it, it is judged with the stores of the CPU that began it.
    fn keep(&mut self, promise: PromiseId) -> Result<Progress<()>, Stop> {
        let machine = self.machine;
        let set = CacheSet::Covered(promise.slot);
        let mut beginner = self.other_mut(promise.beginner);
        let covered = beginner.set(set);
        let extent = beginner.subject(promise.slot).and_then(Subject::extent);
        beginner.put_subject(promise.slot, None);
        beginner.put_set(set, TranslationSet::EMPTY);
        let Some(extent) = extent.filter(|_| !covered.is_empty()) else {
            return Ok(Progress::DONE);
        };
        for user in machine.layout.every_cpu() {
            let is_stale = |at: &Self, entry: &Translation| {
                let beginner = at.other(promise.beginner);
                beginner.covers(covered, entry) && !beginner.is_granted(user, entry)
            };
            self.make_stale(user, extent, "the flush returned", is_stale)?;
        }
        self.other_mut(promise.beginner).revoke(covered, extent)?;
        Ok(Progress::DONE)
    }

    /// A CPU fills an entry by a walk through a covered one: then open promises cover it, too.
    pub(crate) fn cover_below(
        &mut self,
        through: &Translation,
        number: TranslationId,
    ) -> Result<(), Limit> {
        let filled = *self.machine.translations.get(number);
        let also_covered = |issuer: &CpuIn<'_, &State>, slot: PromiseSlot| {
            let covered = issuer.set(CacheSet::Covered(slot));
            let is_about = |subject: &Subject| subject.is_about(&filled);
            !covered.is_empty()
                && issuer.subject(slot).is_some_and(is_about)
                && issuer.covers(covered, through)
                && !issuer.is_granted(issuer.cpu, &filled)
        };
        for issuer in self.layout().every_cpu() {
            for slot in self.slots() {
                if also_covered(&self.other(issuer), slot) {
                    let set = CacheSet::Covered(slot);
                    let mut issuer = self.other_mut(issuer);
                    let covered = issuer.set(set).with(number);
                    issuer.put_set(set, covered);
                }
            }
        }
        Ok(())
    }
}

impl<'m, S: Deref<Target = State>> CpuIn<'m, S> {
    /// Returns what a promise covers that this CPU begins now.
    pub(crate) fn covered_by(&self, subject: &Subject) -> Result<TranslationSet, Stop> {
        let translations = &self.machine.translations;
        let is_covered =
            |entry: &Translation| subject.is_about(entry) && !self.is_granted(self.cpu, entry);
        let in_use = self
            .every_cpu()
            .fold(TranslationSet::EMPTY, |in_use, user| {
                in_use
                    .union(user.may_be_cached())
                    .union(user.buffered_through())
            });
        let overwritten = in_use.filter(|number| self.is_overwritten(translations.get(number)));
        let mut covered = overwritten.filter(|number| is_covered(translations.get(number)));
        let mut may_get_dirty: Vec<Translation> = self
            .translations(overwritten.without(covered))
            .copied()
            .collect();
        if !self.memory_is_up_to_date() {
            for root in self.roots_of(subject) {
                let in_memory = self.overwritten_in_memory(self.machine.frame(root)?)?;
                for entry in in_memory {
                    match is_covered(&entry) {
                        true => covered = covered.with(translations.number(&entry)?),
                        false => may_get_dirty.push(entry),
                    }
                }
            }
        }
        if self.machine.features.accessed_dirty {
            // What is granted now need not be when hardware has set D in it, which software takes away.
            for entry in may_get_dirty.into_iter().filter(Translation::is_page) {
                let dirty = Translation {
                    dirty: true,
                    ..entry
                };
                if is_covered(&dirty) {
                    covered = covered.with(translations.number(&dirty)?);
                }
            }
        }
        Ok(covered)
    }

    /// Lists the roots that a promise may be about: where it is about all spaces, any table may be one.
    fn roots_of(&self, subject: &Subject) -> Vec<PhysAddr> {
        match subject.spaces {
            Spaces::Roots(roots) => roots.into_iter().flatten().collect(),
            Spaces::All => {
                let tables = self.machine.every_frame();
                let tables = tables.filter(|&frame| self.frame_use(frame) == FrameUse::Table);
                tables.map(Frame::addr).collect()
            }
        }
    }

    /// Says whether one of these covered entries stands for an entry.
    fn covers(&self, covered: TranslationSet, entry: &Translation) -> bool {
        let mut covered = self.translations(covered);
        covered.any(|covered| covered.stands_for(entry))
    }
}

impl Machine {
    /// Returns the numbers of the promises that are open.
    pub fn open_promises(&self, state: &State) -> Vec<u64> {
        let any = self.view(state, Cpu::from(0));
        let open = any.open_promises();
        open.map(|(promise, _)| promise.to_word()).collect()
    }

    /// Returns the violation of a promise that nobody has kept, in a state in which every CPU has come to rest.
    pub fn unkept_promise(&self, state: &State) -> Option<Violation> {
        let any = self.view(state, Cpu::from(0));
        let (promise, subject) = any.open_promises().next()?;
        let of = match subject.known_by {
            KnownBy::Number => format!("the promise {}", promise.to_word()),
            KnownBy::Root => "a flush".to_owned(),
        };
        let what = format!(
            "has begun {of}, and every CPU has come to rest, but nobody has said that it has returned"
        );
        Some(Violation::on_cpu(Property::Panic, promise.beginner, what))
    }
}
