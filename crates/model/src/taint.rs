//! Entries that must not be used any more: *tainted* where they may be cached, *revoked* where memory still holds them.
//!
//! Rules: H22, H23. A flush that has returned taints what it covered, and a page that is freed what led to it; of an
//! entry that reaches further, a part goes stale. A store that went through such an entry, and still waits, violates
//! a property at once.

use std::ops::Deref;

use crate::extent::Extent;
use crate::index::{Cpu, Frame, Level, TranslationId};
use crate::limit::Limit;
use crate::progress::Stop;
use crate::state::{CacheSet, FrameUse, State};
use crate::translation::{Staleness, Translation};
use crate::translation_set::TranslationSet;
use crate::view::{CpuIn, CpuMut};
use crate::violation::{Property, Violation};

impl CpuMut<'_> {
    /// Taints the entries of a CPU that a test picks, as far as they lie in an extent, and refuses its stores
    /// that went through such there and still wait.
    pub(crate) fn make_stale(
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
    pub(crate) fn revoke(&mut self, covered: TranslationSet, at: Extent) -> Result<(), Limit> {
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
}

impl<S: Deref<Target = State>> CpuIn<'_, S> {
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

    /// Says whether memory holds all page-table stores of this CPU, and no fetch may read what they replaced (H40).
    pub(crate) fn memory_is_up_to_date(&self) -> bool {
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
    pub(crate) fn in_store_buffer_through(&self) -> impl Iterator<Item = TranslationId> {
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
