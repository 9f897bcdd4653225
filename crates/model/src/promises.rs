//! What software relies on once a flush has returned: what it covers, and whose use of it is stale.
//!
//! Rules: H22, H23. An entry is covered by a flush if it was read from a page-table entry that was
//! overwritten before the flush began; once the flush has returned, it is tainted.

use lazytlb::{Entry, FlushRange, VirtAddr};

use crate::entry::{EntryKind, bits, has, kind, memory_type};
use crate::machine::{Machine, Stop};
use crate::state::{Buffered, CacheSet, FrameUse, State, USER_MEMORY, members};
use crate::translation::{Translation, frame_number, index_of};
use crate::versions::{is_pending, is_pending_of};
use crate::violation::{Property, Violation};

impl Machine {
    /// Notes which entries a flush covers that begins now on a CPU: those in its space and range that were
    /// read from a page-table entry which was overwritten since, as this CPU sees memory, and that the page
    /// tables no longer grant. They may be cached, a store in a buffer may have gone through them, or memory
    /// may still hold them, while this CPU's own store waits to drain.
    pub(crate) fn begin_flush(
        &self,
        state: &mut State,
        cpu: usize,
        root: u8,
        range: FlushRange,
    ) -> Result<(), Stop> {
        let users = 0..self.layout.cpus();
        let in_use = users.fold(self.in_memory_of_space(state, root)?, |in_use, user| {
            in_use | self.may_be_cached(state, user) | self.buffered_through(state, user)
        });
        let covered = members(in_use)
            .filter(|&number| {
                let entry = self.translations.get(number);
                entry.root == root
                    && self.is_in_range(entry, range)
                    && self.is_overwritten(state, cpu, entry)
                    && !self.is_granted(state, cpu, cpu, entry)
            })
            .fold(0, |covered, number| covered | 1 << number);
        self.layout.put_set(state, cpu, CacheSet::Covered, covered);
        Ok(())
    }

    /// Taints what the flush covered, wherever it may still be cached: from now on its use is
    /// `stale-use`. A store that went through it and still waits in a buffer is that at once. What has been
    /// granted again meanwhile is free.
    pub(crate) fn finish_flush(&self, state: &mut State, cpu: usize) -> Result<(), Stop> {
        let covered = self.layout.set(state, cpu, CacheSet::Covered);
        let revoked = self.layout.set(state, cpu, CacheSet::Revoked) | covered;
        self.layout.put_set(state, cpu, CacheSet::Covered, 0);
        self.layout.put_set(state, cpu, CacheSet::Revoked, revoked);
        for other in 0..self.layout.cpus() {
            let stale = members(covered)
                .filter(|&number| {
                    !self.is_granted(state, cpu, other, self.translations.get(number))
                })
                .fold(0, |stale, number| stale | 1 << number);
            self.taint(state, other, stale);
            self.refuse_buffered_through(state, other, stale, "the flush returned")?;
            self.close(state, other)?;
        }
        self.forget_revoked(state, cpu);
        Ok(())
    }

    /// Lets go of what a CPU's returned flushes revoked once no page-table store waits in its buffer: then
    /// memory does not hold it any more, and nobody can fill it.
    pub(crate) fn forget_revoked(&self, state: &mut State, cpu: usize) {
        let waits = |store: Buffered| {
            store.location != USER_MEMORY && self.layout.entry_of_location(store.location).is_some()
        };
        if !self.layout.buffered(state, cpu).any(waits) {
            self.layout.put_set(state, cpu, CacheSet::Revoked, 0);
        }
    }

    /// Says whether an entry that a CPU fills now was revoked by a flush of some CPU, and has not been
    /// granted again.
    pub(crate) fn is_revoked(&self, state: &State, cpu: usize, number: usize) -> bool {
        let wanted = self.translations.get(number);
        (0..self.layout.cpus()).any(|issuer| {
            let revoked = self.layout.set(state, issuer, CacheSet::Revoked);
            // What was revoked is revoked under every PCID.
            let is_in = match self.features.tags {
                false => revoked >> number & 1 != 0,
                true => members(revoked)
                    .any(|one| untagged(self.translations.get(one)) == untagged(wanted)),
            };
            is_in && !self.is_granted(state, issuer, cpu, wanted)
        })
    }

    /// Returns the entries that user stores in a CPU's buffer went through.
    fn buffered_through(&self, state: &State, cpu: usize) -> u64 {
        let combining = self.layout.combining(state, cpu);
        let stores = self.layout.buffered(state, cpu);
        stores
            .map(|store| (store.location, store.value))
            .chain(combining.iter().map(|store| (store.location, store.value)))
            .filter(|&(location, _)| location == USER_MEMORY)
            .fold(0, |through, (_, number)| through | 1 << number)
    }

    /// Taints every cached translation to a page whose frame was freed.
    pub(crate) fn taint_page(&self, state: &mut State, frame: u8) -> Result<(), Stop> {
        let to_frame = self
            .translations
            .iter()
            .filter(|(_, entry)| entry.level == 0 && entry.frame == frame)
            .fold(0, |set, (number, _)| set | 1 << number);
        for cpu in 0..self.layout.cpus() {
            self.taint(state, cpu, to_frame);
            self.refuse_buffered_through(state, cpu, to_frame, "its frame was freed")?;
            self.close(state, cpu)?;
        }
        Ok(())
    }

    fn taint(&self, state: &mut State, cpu: usize, numbers: u64) {
        let cached = self.layout.set(state, cpu, CacheSet::Cached);
        let tainted = self.layout.set(state, cpu, CacheSet::Tainted);
        self.layout
            .put_set(state, cpu, CacheSet::Cached, cached & !numbers);
        self.layout
            .put_set(state, cpu, CacheSet::Tainted, tainted | cached & numbers);
    }

    /// Fails if a store that went through one of these entries still waits in a buffer, or is on its way to
    /// a device.
    fn refuse_buffered_through(
        &self,
        state: &State,
        cpu: usize,
        numbers: u64,
        meanwhile: &str,
    ) -> Result<(), Stop> {
        let is_through = |location, value| location == USER_MEMORY && numbers >> value & 1 != 0;
        let buffered = self
            .layout
            .buffered(state, cpu)
            .find(|store| is_through(store.location, store.value));
        let combining = self.layout.combining(state, cpu).into_iter();
        let combining = combining
            .filter(|store| is_through(store.location, store.value))
            .map(|store| (store.value, store.frame))
            .next();
        let Some((number, frame)) = buffered
            .map(|store| (store.value, None))
            .or_else(|| combining.map(|(value, frame)| (value, Some(frame))))
        else {
            return Ok(());
        };
        let entry = self.translations.get(usize::from(number));
        let to_device = self.layout.frame_use(state, entry.frame) == FrameUse::Device;
        let (property, where_to) = match (frame, to_device) {
            (_, true) => (
                Property::DeviceWriteAfterFlush,
                "has not arrived at the device, and does so",
            ),
            (Some(_), false) => (
                Property::StaleUse,
                "still waits in a write-combining buffer, and leaves it",
            ),
            (None, false) => (
                Property::StaleUse,
                "still waits in the store buffer, and drains",
            ),
        };
        let what = format!("a store of CPU {cpu} through its {entry} {where_to} after {meanwhile}");
        Err(Stop::Violation(Violation {
            property,
            cpu: Some(cpu as u8),
            frame: Some(entry.frame),
            through: Some(entry),
            what,
        }))
    }

    fn is_in_range(&self, entry: Translation, range: FlushRange) -> bool {
        match range {
            FlushRange::All => true,
            FlushRange::Pages(pages) => pages.pages().any(|page| entry.covers(page)),
        }
    }

    /// Says whether the page tables grant what an entry grants, with the buffered stores done of two CPUs,
    /// a flush's issuer and then the user of the entry.
    fn is_granted(&self, state: &State, issuer: usize, user: usize, wanted: Translation) -> bool {
        let (mut frame, mut level) = (wanted.root, self.features.levels);
        let (mut writable, mut by_user, mut executable) = (true, true, true);
        let tracks_dirty = self.features.accessed_dirty;
        loop {
            let Some(location) = self.location_of(frame, wanted.start, level) else {
                return false;
            };
            let stored = match self
                .layout
                .buffered(state, user)
                .rfind(|s| s.location == location)
            {
                Some(own) => own,
                None => self.as_seen_by(state, issuer, location),
            };
            let entry = Entry(self.values.decode(stored.value));
            let kind = kind(entry, level);
            frame = frame_number(entry.frame()) as u8;
            writable &= entry.is_writable();
            by_user &= has(entry, bits::USER);
            executable &= !has(entry, bits::NO_EXECUTE);
            if level > wanted.read_in && kind == EntryKind::Table {
                level -= 1;
                continue;
            }
            let is_leaf = kind == EntryKind::Leaf;
            return kind != EntryKind::Invalid
                && level == wanted.read_in
                && is_leaf == (wanted.level == 0)
                && frame == wanted.frame
                && (writable || !wanted.writable)
                && (by_user || !wanted.user)
                && (executable || !wanted.executable)
                && (!is_leaf || memory_type(entry) == wanted.memory_type)
                && (!is_leaf || has(entry, bits::DIRTY) || !wanted.dirty || !tracks_dirty);
        }
    }

    /// Says whether a page-table entry that a cached entry was read from was overwritten since, as a CPU
    /// sees memory.
    fn is_overwritten(&self, state: &State, cpu: usize, cached: Translation) -> bool {
        let (mut frame, mut level) = (cached.root, self.features.levels);
        while level >= cached.read_in {
            let read = cached.read[usize::from(self.features.levels - level)];
            let Some(location) = self.location_of(frame, cached.start, level) else {
                return false;
            };
            let stored = self.as_seen_by(state, cpu, location);
            // What another CPU's buffer holds is not overwritten: it is not there yet.
            let is_foreign = is_pending(read) && !is_pending_of(read, cpu);
            if stored.version > read && !is_foreign {
                return true;
            }
            let entry = Entry(self.values.decode(stored.value));
            if stored.version != read || kind(entry, level) != EntryKind::Table {
                return false;
            }
            frame = frame_number(entry.frame()) as u8;
            level -= 1;
        }
        false
    }

    /// Returns the location of the entry for an address in a table, if it was ever written.
    pub(crate) fn location_of(&self, table: u8, addr: VirtAddr, level: u8) -> Option<u8> {
        let index = index_of(addr, level);
        let known = self.entries.iter().find(|&(_, at)| at == (table, index));
        known.map(|(number, _)| self.layout.entry_location(number))
    }
}

/// Returns an entry without what tells the PCIDs apart that it may be cached under.
fn untagged(entry: Translation) -> Translation {
    Translation {
        pcid: 0,
        global: false,
        ..entry
    }
}
