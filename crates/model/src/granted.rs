//! What the page tables grant: whether an entry that was cached is still right, as some CPU sees memory.
//!
//! Rules: H21, H22. A promise about a flush covers what was *overwritten* when it began and is not *granted*;
//! what is granted again when the flush has returned is free.

use std::ops::Deref;

use lazytlb::Entry;

use crate::call::Cr4;
use crate::entry::{EntryKind, bits, has, kind, memory_type};
use crate::index::{Cpu, Frame, PcidTag};
use crate::limit::Limit;
use crate::state::{CacheSet, FrameUse, State};
use crate::translation::Translation;
use crate::view::CpuIn;
use crate::walk::TableRead;

impl<S: Deref<Target = State>> CpuIn<'_, S> {
    /// Says whether the page tables grant what an entry grants, with the buffered stores done of two CPUs:
    /// this one, which issues a flush, and the user of the entry.
    pub(crate) fn is_granted(&self, user: Cpu, wanted: &Translation) -> bool {
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
    pub(crate) fn is_overwritten(&self, cached: &Translation) -> bool {
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

    /// Lists what a walk of memory finds in a space, while a store of this CPU that replaces it waits to drain, and
    /// what a fetch of some CPU may find, which may read what memory held before (H40).
    pub(crate) fn overwritten_in_memory(&self, root: Frame) -> Result<Vec<Translation>, Limit> {
        let machine = self.machine;
        let mut found = Vec::new();
        let mut tables = vec![TableRead::root(root, machine.root_level, PcidTag::ZERO)];
        while let Some(table) = tables.pop() {
            if self.frame_use(table.frame) != FrameUse::Table {
                continue;
            }
            for (entry, index) in machine.entries_of(table.frame) {
                for stored in self.in_memory_or_formerly(entry) {
                    let entry = machine.translate(&table, index, stored, Cr4::default())?;
                    let Some(entry) = entry else {
                        continue;
                    };
                    tables.extend(TableRead::below(&entry, CacheSet::Cached));
                    if self.is_overwritten(&entry) && !found.contains(&entry) {
                        found.push(entry);
                    }
                }
            }
        }
        Ok(found)
    }
}
