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
use crate::extent::Extent;
use crate::index::{Cpu, Frame, Level, PromiseId, PromiseSlot, SubjectId, TranslationId};
use crate::limit::Limit;
use crate::machine::Machine;
use crate::progress::{Progress, Stop};
use crate::state::{CacheSet, FrameUse, State};
use crate::subject::{KnownBy, Subject};
use crate::translation::{Staleness, Translation};
use crate::translation_set::TranslationSet;
use crate::view::{CpuIn, CpuMut};
use crate::violation::{Property, Violation};

impl Machine {
    /// Says whether a call, which a CPU is about to make, keeps a promise that covered an entry which some CPU
    /// might have cached when it began: a proof of a flush rests on those, and on no others.
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
        let covered = promise.map(|promise| {
            let beginner = keeper.other(promise.beginner);
            beginner.set(CacheSet::Covered(promise.slot))
        });
        let cached = self.covered_when_cached.get();
        covered.is_some_and(|covered| !covered.intersection(cached).is_empty())
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
        let cached = self.every_cpu().map(|user| user.may_be_cached());
        let cached = cached.fold(TranslationSet::EMPTY, TranslationSet::union);
        let relied_on = covered.intersection(cached);
        self.machine.covered_when_cached.add(relied_on);
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

    /// Taints the entries of a CPU that a test picks, as far as they lie in an extent, and refuses its stores
    /// that went through such there and still wait.
    fn make_stale(
        &mut self,
        user: Cpu,
        at: Extent,
        meanwhile: &str,
        is_stale: impl Fn(&Self, &Translation) -> bool,
    ) -> Result<(), Stop> {
        let machine = self.machine;
        let members = self.other(user).set(CacheSet::Cached);
        let stale = members.filter(|number| is_stale(self, machine.translations.get(number)));
        self.other_mut(user).taint(stale, at)?;
        let buffered = self.other(user).buffered_through();
        let refused = buffered.filter(|number| {
            let entry = machine.translations.get(number);
            at.contains(entry.start) && is_stale(self, entry)
        });
        let mut user = self.other_mut(user);
        user.refuse_buffered_through(refused, meanwhile)?;
        user.close()
    }

    /// Marks entries that this CPU may cache as stale in an extent.
    fn taint(&mut self, stale: TranslationSet, at: Extent) -> Result<(), Limit> {
        let translations = &self.machine.translations;
        let mut cached = self.set(CacheSet::Cached).without(stale);
        let mut tainted = self.set(CacheSet::Tainted);
        for number in stale.iter() {
            match translations.get(number).made_stale(at)? {
                Staleness::Untouched => cached = cached.with(number),
                Staleness::Whole => tainted = tainted.with(number),
                Staleness::Part(entry) => {
                    let in_part = translations.number(&entry)?;
                    cached = cached.with(in_part);
                    if self.in_flight().contains(number) {
                        self.put_in_flight(self.in_flight().with(in_part));
                    }
                }
            }
        }
        self.put_set(CacheSet::Cached, cached);
        self.put_set(CacheSet::Tainted, tainted);
        Ok(())
    }

    /// Notes what a promise of this CPU covered, as long as memory may still hold it.
    fn revoke(&mut self, covered: TranslationSet, at: Extent) -> Result<(), Limit> {
        let translations = &self.machine.translations;
        if self.memory_is_up_to_date() {
            return Ok(());
        }
        let mut revoked = self.set(CacheSet::Revoked);
        for number in covered.iter() {
            match translations.get(number).made_stale(at)? {
                Staleness::Untouched => {}
                Staleness::Whole => revoked = revoked.with(number),
                Staleness::Part(entry) => revoked = revoked.with(translations.number(&entry)?),
            }
        }
        self.put_set(CacheSet::Revoked, revoked);
        Ok(())
    }

    /// Lets go of what this CPU's returned flushes revoked once no page-table store waits in its buffer: then
    /// memory does not hold it any more, and nobody can fill it, nor fetch by what memory held.
    pub(crate) fn forget_revoked(&mut self) {
        if self.memory_is_up_to_date() {
            self.put_set(CacheSet::Revoked, TranslationSet::EMPTY);
        }
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

    /// Taints what is cached of a frame that was freed, or is used for something else from now on.
    pub(crate) fn taint_page(&mut self, frame: Frame) -> Result<(), Stop> {
        let machine = self.machine;
        let addresses_of = |entry: &Translation| entry.addresses_of(frame);
        for cpu in machine.layout.every_cpu() {
            // Each entry has the frame at an address of its own.
            let users = self.other(cpu);
            let used = users.may_be_cached().union(users.buffered_through());
            let mut extents: Vec<Extent> =
                users.translations(used).filter_map(addresses_of).collect();
            extents.sort_unstable();
            extents.dedup();
            for at in extents {
                let is_there = |_: &Self, entry: &Translation| addresses_of(entry) == Some(at);
                self.make_stale(cpu, at, "its frame was freed", is_there)?;
            }
        }
        Ok(())
    }

    /// Taints what is cached of a frame inside a large page that is used for something else from now on: it may have
    /// been cached after the frame was freed.
    pub(crate) fn taint_large_pages_with(&mut self, frame: Frame) -> Result<(), Stop> {
        let is_inside = |entry: &Translation| {
            entry.read_in > Level::LOWEST && entry.addresses_of(frame).is_some()
        };
        let may_be_cached = |user: CpuIn<'_, &State>| {
            let cached = user.may_be_cached();
            user.translations(cached).any(is_inside)
        };
        let is_cached = self.every_cpu().any(may_be_cached);
        match is_cached {
            true => self.taint_page(frame),
            false => Ok(()),
        }
    }

    fn put_subject(&mut self, slot: PromiseSlot, subject: Option<SubjectId>) {
        let at = self.layout().promise(self.cpu, slot);
        self.state[at.bytes()] = SubjectId::to_byte(subject);
    }
}

impl<'m, S: Deref<Target = State>> CpuIn<'m, S> {
    /// Says what of an entry that this CPU fills now must not be used: it was revoked, and has not been granted
    /// again.
    pub(crate) fn revoked_of(&self, filled: &Translation) -> Result<Staleness, Limit> {
        let mut stale = Staleness::Untouched;
        for issuer in self.every_cpu() {
            for revoked in issuer.translations(issuer.set(CacheSet::Revoked)) {
                if !revoked.stands_for(filled) || issuer.is_granted(self.cpu, filled) {
                    continue;
                }
                if revoked.stale.is_none() {
                    return Ok(Staleness::Whole);
                }
                for part in revoked.stale.iter() {
                    stale = stale.with(filled, part)?;
                }
            }
        }
        Ok(stale)
    }

    /// Lists the slots that a CPU has for promises.
    pub(crate) fn slots(&self) -> impl Iterator<Item = PromiseSlot> + use<S> {
        self.layout().promises.slots()
    }

    /// Returns what this CPU's promise in a slot is about, if one is open there.
    fn subject(&self, slot: PromiseSlot) -> Option<&'m Subject> {
        let beginner = self.cpu;
        self.subject_of(PromiseId { beginner, slot })
    }

    /// Returns what a promise is about, if it is open.
    fn subject_of(&self, promise: PromiseId) -> Option<&'m Subject> {
        let at = self.layout().promise(promise.beginner, promise.slot);
        let number = SubjectId::from_byte(self.state[at.bytes()])?;
        Some(self.machine.subjects.get(number))
    }

    /// Returns the open promise that has a number.
    fn open_numbered(&self, word: u64) -> Option<PromiseId> {
        let promise = PromiseId::from_word(word, self.layout().cpus())?;
        let has_slot = self.slots().any(|slot| slot == promise.slot);
        (has_slot && self.subject_of(promise).is_some()).then_some(promise)
    }

    /// Lists the open promises that one can mean who names a space by its root: this CPU's own, else another's.
    fn known_by_root(&self, root: Frame) -> Vec<PromiseId> {
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
    fn open_promises(&self) -> impl Iterator<Item = (PromiseId, &'m Subject)> {
        let cpus = self.layout().every_cpu();
        let all = cpus.flat_map(|beginner| {
            let slots = self.slots();
            slots.map(move |slot| PromiseId { beginner, slot })
        });
        all.filter_map(|promise| Some((promise, self.subject_of(promise)?)))
    }

    /// Returns what a promise covers that this CPU begins now.
    fn covered_by(&self, subject: &Subject) -> Result<TranslationSet, Stop> {
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

    /// Says whether memory holds all page-table stores of this CPU, and no fetch may read what they replaced (H40).
    fn memory_is_up_to_date(&self) -> bool {
        self.buffered_entries().next().is_none()
            && self.every_cpu().all(|cpu| cpu.former().next().is_none())
    }

    /// Returns the entries that stores by virtual address in this CPU's buffers went through, each at its address.
    pub(crate) fn buffered_through(&self) -> TranslationSet {
        let combining = self.combining();
        let combining = combining.iter().map(|store| store.through);
        self.in_store_buffer_through().chain(combining).collect()
    }

    /// Lists the entries that stores in this CPU's store buffer went through.
    fn in_store_buffer_through(&self) -> impl Iterator<Item = TranslationId> {
        let stores = self.buffered().enumerate();
        stores.filter_map(|(older, slot)| slot.used().or_else(|| self.through(older)))
    }

    /// Fails if a store that went through one of these entries still waits in this CPU's buffers, or is on
    /// its way to a device.
    fn refuse_buffered_through(&self, stale: TranslationSet, meanwhile: &str) -> Result<(), Stop> {
        let is_stale = |number: &TranslationId| stale.contains(*number);
        let buffered = self.in_store_buffer_through().find(is_stale);
        let combining = self.combining();
        let combining = combining.iter().map(|store| store.through);
        let (number, is_combining) = match (buffered, combining.into_iter().find(is_stale)) {
            (Some(number), _) => (number, false),
            (None, Some(number)) => (number, true),
            (None, None) => return Ok(()),
        };
        let entry = *self.machine.translations.get(number);
        let to_device = self.frame_use(entry.frame) == FrameUse::Device;
        let (property, where_to) = match (is_combining, to_device) {
            (_, true) => (
                Property::DeviceWriteAfterFlush,
                "has not arrived at the device, and does so",
            ),
            (true, false) => (
                Property::StaleUse,
                "still waits in a write-combining buffer, and leaves it",
            ),
            (false, false) => (
                Property::StaleUse,
                "still waits in the store buffer, and drains",
            ),
        };
        if !self.machine.checks(property) {
            return Ok(());
        }
        let cpu = self.cpu;
        let what = format!("a store of CPU {cpu} through its {entry} {where_to} after {meanwhile}");
        Err(Stop::Violation(Violation {
            what,
            ..Violation::through(property, cpu, entry, "")
        }))
    }
}

impl Machine {
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
