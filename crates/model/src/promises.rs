//! What software relies on once a flush has returned: what the flush covers, and whose use of it is stale.
//!
//! Rules: H22, H23. An entry is *covered* by a flush if it was read from a page-table entry that was
//! overwritten before the flush began. Once the flush has returned, such an entry is *tainted* wherever it
//! may be cached, and *revoked*: a CPU that fills it from now on must not use it either.
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

use lazytlb::{Entry, FlushRange};

use crate::call::Call;
use crate::entry::{EntryKind, bits, has, kind, memory_type};
use crate::index::{Cpu, Frame, PcidTag, TranslationId};
use crate::machine::Machine;
use crate::progress::{Progress, Stop};
use crate::slot::Slot;
use crate::state::{CacheSet, FrameUse, State};
use crate::translation::Translation;
use crate::translation_set::TranslationSet;
use crate::view::{CpuIn, CpuMut};
use crate::violation::{Property, Violation};

impl Machine {
    /// Says whether a call, which a CPU is about to make, keeps a promise that covered an entry which some CPU
    /// might have cached when it began: a proof of a flush rests on those, and on no others.
    pub fn promise_covers_cached(&self, state: &State, cpu: impl Into<Cpu>, call: &Call) -> bool {
        let Call::FlushReturned(_) = call else {
            return false;
        };
        let covered = self.view(state, cpu.into()).set(CacheSet::Covered);
        let cached = self.covered_when_cached.get();
        !covered.intersection(cached).is_empty()
    }
}

impl CpuMut<'_> {
    /// Notes which entries a flush covers that begins now on this CPU: those in its space and range that were
    /// read from a page-table entry which was overwritten since, as this CPU sees memory, and that the page
    /// tables no longer grant. They may be cached, a store in a buffer may have gone through them, or memory
    /// may still hold them, while this CPU's own store waits to drain.
    pub(crate) fn begin_flush(
        &mut self,
        root: Frame,
        range: FlushRange,
    ) -> Result<Progress<()>, Stop> {
        let in_use = self
            .every_cpu()
            .fold(self.in_memory_of_space(root)?, |in_use, user| {
                in_use
                    .union(user.may_be_cached())
                    .union(user.buffered_through())
            });
        let covered = in_use.filter(|number| {
            let entry = self.machine.translations.get(number);
            entry.root == root
                && is_in_range(entry, range)
                && self.is_overwritten(entry)
                && !self.is_granted(self.cpu, entry)
        });
        self.put_set(CacheSet::Covered, covered);
        let cached = self
            .every_cpu()
            .fold(TranslationSet::EMPTY, |cached, user| {
                cached.union(user.may_be_cached())
            });
        let relied_on = covered.intersection(cached);
        self.machine.covered_when_cached.add(relied_on);
        Ok(Progress::DONE)
    }

    /// Taints what this CPU's flush covered, wherever it may still be cached: from now on its use is
    /// `stale-use`. A store that went through it and still waits in a buffer is that at once. What has been
    /// granted again meanwhile is free.
    pub(crate) fn finish_flush(&mut self) -> Result<Progress<()>, Stop> {
        let machine = self.machine;
        let covered = self.set(CacheSet::Covered);
        let revoked = self.set(CacheSet::Revoked).union(covered);
        self.put_set(CacheSet::Covered, TranslationSet::EMPTY);
        self.put_set(CacheSet::Revoked, revoked);
        for user in machine.layout.every_cpu() {
            let stale =
                covered.filter(|number| !self.is_granted(user, machine.translations.get(number)));
            let mut user = self.other_mut(user);
            user.taint(stale);
            user.refuse_buffered_through(stale, "the flush returned")?;
            user.close()?;
        }
        self.forget_revoked();
        Ok(Progress::DONE)
    }

    /// Lets go of what this CPU's returned flushes revoked once no page-table store waits in its buffer: then
    /// memory does not hold it any more, and nobody can fill it.
    pub(crate) fn forget_revoked(&mut self) {
        if self.buffered_entries().next().is_none() {
            self.put_set(CacheSet::Revoked, TranslationSet::EMPTY);
        }
    }

    /// Taints every cached translation to a page whose frame was freed.
    pub(crate) fn taint_page(&mut self, frame: Frame) -> Result<(), Stop> {
        let machine = self.machine;
        let all = machine.translations.iter();
        let to_frame = all.filter(|(_, entry)| entry.is_page() && entry.frame == frame);
        let to_frame: TranslationSet = to_frame.map(|(number, _)| number).collect();
        for cpu in machine.layout.every_cpu() {
            let mut user = self.other_mut(cpu);
            user.taint(to_frame);
            user.refuse_buffered_through(to_frame, "its frame was freed")?;
            user.close()?;
        }
        Ok(())
    }

    fn taint(&mut self, stale: TranslationSet) {
        let cached = self.set(CacheSet::Cached);
        let tainted = self.set(CacheSet::Tainted);
        self.put_set(CacheSet::Cached, cached.without(stale));
        self.put_set(CacheSet::Tainted, tainted.union(cached.intersection(stale)));
    }
}

impl<S: Deref<Target = State>> CpuIn<'_, S> {
    /// Says whether an entry that this CPU fills now was revoked by a flush of some CPU, and has not been
    /// granted again.
    pub(crate) fn is_revoked(&self, number: TranslationId) -> bool {
        let machine = self.machine;
        self.every_cpu().any(|issuer| {
            let revoked = issuer.set(CacheSet::Revoked);
            if revoked.is_empty() {
                return false;
            }
            let wanted = machine.translations.get(number);
            // What was revoked is revoked under every PCID.
            let is_in = match machine.features.tags {
                false => revoked.contains(number),
                true => self
                    .translations(revoked)
                    .any(|one| untagged(one) == untagged(wanted)),
            };
            is_in && !issuer.is_granted(self.cpu, wanted)
        })
    }

    /// Returns the entries that user stores in this CPU's buffers went through.
    fn buffered_through(&self) -> TranslationSet {
        let combining = self.combining();
        let combining = combining.iter().filter_map(|store| store.used());
        let buffered = self.buffered().filter_map(Slot::used);
        buffered.chain(combining).collect()
    }

    /// Fails if a store that went through one of these entries still waits in this CPU's buffers, or is on
    /// its way to a device.
    fn refuse_buffered_through(&self, stale: TranslationSet, meanwhile: &str) -> Result<(), Stop> {
        let is_stale = |number: &TranslationId| stale.contains(*number);
        let buffered = self.buffered().filter_map(Slot::used).find(is_stale);
        let combining = self.combining();
        let combining = combining.iter().filter_map(|store| store.used());
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
        let cpu = self.cpu;
        let what = format!("a store of CPU {cpu} through its {entry} {where_to} after {meanwhile}");
        Err(Stop::Violation(Violation {
            what,
            ..Violation::through(property, cpu, entry, "")
        }))
    }

    /// Says whether the page tables grant what an entry grants, with the buffered stores done of two CPUs:
    /// this one, which issues a flush, and the user of the entry.
    fn is_granted(&self, user: Cpu, wanted: &Translation) -> bool {
        let machine = self.machine;
        let user = self.other(user);
        let (mut table, mut level) = (wanted.root, machine.root_level);
        let (mut writable, mut by_user, mut executable) = (true, true, true);
        loop {
            let Some(at) = machine.entry_for(table, wanted.start, level) else {
                return false;
            };
            let stored = user.own_newest(at).unwrap_or_else(|| self.as_seen(at));
            let entry = Entry(machine.values.decode(stored.value));
            let Some(frame) = Frame::at(entry.frame()) else {
                return false;
            };
            let kind = kind(entry, level);
            writable &= entry.is_writable();
            by_user &= has(entry, bits::USER);
            executable &= !has(entry, bits::NO_EXECUTE);
            if let EntryKind::Table(below) = kind
                && level > wanted.read_in
            {
                (table, level) = (frame, below);
                continue;
            }
            let is_page = kind == EntryKind::Leaf;
            let tracks_dirty = machine.features.accessed_dirty;
            return kind != EntryKind::Invalid
                && level == wanted.read_in
                && is_page == wanted.is_page()
                && frame == wanted.frame
                && (writable || !wanted.writable)
                && (by_user || !wanted.user)
                && (executable || !wanted.executable)
                && (!is_page || memory_type(entry) == wanted.memory_type)
                && (!is_page || has(entry, bits::DIRTY) || !wanted.dirty || !tracks_dirty);
        }
    }

    /// Says whether a page-table entry that a cached entry was read from was overwritten since, as this CPU
    /// sees memory.
    fn is_overwritten(&self, cached: &Translation) -> bool {
        let machine = self.machine;
        let (mut table, mut level) = (cached.root, machine.root_level);
        loop {
            let read = cached.read[level.depth_below(machine.root_level)];
            let Some(at) = machine.entry_for(table, cached.start, level) else {
                return false;
            };
            let stored = self.as_seen(at);
            // What another CPU's buffer holds is not overwritten: it is not there yet.
            if stored.version > read && !read.is_pending_elsewhere(self.cpu) {
                return true;
            }
            let entry = Entry(machine.values.decode(stored.value));
            let (EntryKind::Table(below), Some(frame)) =
                (kind(entry, level), Frame::at(entry.frame()))
            else {
                return false;
            };
            if stored.version != read || below < cached.read_in {
                return false;
            }
            (table, level) = (frame, below);
        }
    }
}

fn is_in_range(entry: &Translation, range: FlushRange) -> bool {
    match range {
        FlushRange::All => true,
        FlushRange::Pages(pages) => pages.pages().any(|page| entry.covers(page)),
    }
}

/// Returns an entry without what tells the PCIDs apart that it may be cached under.
fn untagged(entry: &Translation) -> Translation {
    Translation {
        pcid: PcidTag::ZERO,
        global: false,
        ..*entry
    }
}
