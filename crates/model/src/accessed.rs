//! Accessed and dirty bits: walks and stores write them.
//!
//! Rules: H3, H21. A walk sets A before it caches an entry, and speculation may walk at any time, or not: so
//! A is three-valued in memory: 0, *maybe* and 1. *Maybe* is settled when software reads the entry, or when
//! an access uses what was cached from it. D is set by a store that retires, never by speculation.
//!
//! An example. CPU 0 writes `e`, a present entry with A = 0, which maps a page for CPU 1:
//!
//! ```text
//!  CPU 0                CPU 1               memory: e.A   CPU 1 may cache e
//!  e = present, A = 0                       maybe         yes: its walk has set A then
//!  reads e, answer 0                        maybe         no before the answer, yes right after it
//!  reads e, answer 1                        1             yes
//!                       loads through e     1             yes
//!                       stores through e    1, and D      yes, also with D
//! ```
//!
//! The two answers are two ways of one step. The answer 0 says that no walk had set A so far, so nothing was
//! cached of `e`: `drop_what_was_read_from` takes it out of every CPU's sets. Then the sets are closed again,
//! and A is *maybe* once more (H4).

use std::ops::Deref;

use lazytlb::Entry;

use crate::cpu_model::DirtyUpdate;
use crate::entry::{bits, has};
use crate::index::{EntryId, Frame, Level, Location, Way};
use crate::limit::Limit;
use crate::progress::{Progress, Stop};
use crate::state::State;
use crate::translation::Translation;
use crate::view::{CpuIn, CpuMut};

/// A page-table entry that still holds what a cached entry was read from.
pub(crate) struct Source {
    pub(crate) entry: EntryId,
    /// The level of the table that it is in.
    pub(crate) level: Level,
}

/// What an access does to the page that it goes through.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Use {
    Reads,
    Writes,
}

impl CpuMut<'_> {
    /// Notes that speculation may have set A in an entry in memory.
    pub(crate) fn mark_maybe_accessed(&mut self, entry: EntryId) -> Result<(), Limit> {
        let values = &self.machine.values;
        let value = self.value_in_memory(Location::Entry(entry));
        if value & (bits::ACCESSED | bits::MAYBE_ACCESSED) == 0 {
            let maybe = values.encode(value | bits::MAYBE_ACCESSED)?;
            self.put_in_memory(Location::Entry(entry), maybe);
        }
        Ok(())
    }

    /// Reads an entry for software, in one of two ways where A is *maybe*: one for each value of the bit. Either
    /// answer settles it; after the answer 0 speculation may set it at once, where a walk still leads to it: whoever
    /// reads closes the sets.
    pub(crate) fn read_settled(&mut self, entry: EntryId, way: Way) -> Result<Progress<u64>, Stop> {
        let values = &self.machine.values;
        let value = self.read(Location::Entry(entry));
        if value & bits::MAYBE_ACCESSED == 0 {
            return Ok(Progress::answer(value));
        }
        let clear = value & !bits::MAYBE_ACCESSED;
        if way == Way::FIRST {
            self.put_in_memory(Location::Entry(entry), values.encode(clear)?);
            self.drop_what_was_read_from(entry);
            return Ok(Progress::Done {
                answer: clear,
                more: true,
            });
        }
        let set = clear | bits::ACCESSED;
        self.put_in_memory(Location::Entry(entry), values.encode(set)?);
        Ok(Progress::answer(set))
    }

    /// H3: where A is not set, nothing is cached of the entry that memory holds.
    fn drop_what_was_read_from(&mut self, entry: EntryId) {
        for cpu in self.layout().every_cpu() {
            self.other_mut(cpu).retain(|holder, cached| {
                let sources = holder.sources(cached);
                !sources.iter().any(|source| source.entry == entry)
            });
        }
    }
}

impl<S: Deref<Target = State>> CpuIn<'_, S> {
    /// Lists the page-table entries that a cached entry was read from and that still hold what was read, the
    /// root's first: where the tables are is known from memory, or from what may be cached of the upper
    /// levels.
    pub(crate) fn sources(&self, used: &Translation) -> Vec<Source> {
        let mut sources = Vec::new();
        let (mut table, mut level) = (used.root, self.machine.root_level);
        loop {
            let found = self.source_in(table, level, used);
            sources.extend(found.source);
            let Some(below) = level.below().filter(|_| level > used.read_in) else {
                return sources;
            };
            let leads_to = found.leads_to.or_else(|| self.cached_way(level, used));
            let Some(leads_to) = leads_to else {
                return sources;
            };
            (table, level) = (leads_to, below);
        }
    }

    /// Returns the highest level from which a walk of this CPU now reads what a cached entry was read from, down to the
    /// last entry; `None` if not even that is there.
    pub(crate) fn walked_from(&self, used: &Translation) -> Option<Level> {
        let mut uppers = self.uppers_for(used.start);
        if used.root != self.cr3() && !uppers.any(|upper| upper.root == used.root) {
            return None;
        }
        let (mut table, mut level) = (used.root, self.machine.root_level);
        let mut from = None;
        loop {
            let found = self.source_in(table, level, used);
            let read = used.read[level.depth_below(self.machine.root_level)];
            let entry = self.machine.entry_for(table, used.start, level);
            // H25: it sees this CPU's own store, which waits.
            let own = entry.and_then(|entry| self.own_newest(entry));
            let is_there = own.is_none_or(|own| own.version == read);
            let read_now = found.leads_to.filter(|_| is_there);
            from = read_now.and(from.or(Some(level)));
            let below = level.below().filter(|_| level > used.read_in);
            let leads_to = found.leads_to.or_else(|| self.cached_way(level, used));
            match (below, leads_to) {
                (Some(below), Some(leads_to)) => (table, level) = (leads_to, below),
                (None, _) => return from,
                // Where the tables below are is not known any more.
                (Some(_), None) => return None,
            }
        }
    }

    /// Looks in one table for what a cached entry was read from: in memory, or in this CPU's buffer.
    fn source_in(&self, table: Frame, level: Level, used: &Translation) -> SourceInTable {
        let machine = self.machine;
        let frame_of = |code| Frame::at(Entry(machine.values.decode(code)).frame());
        let read = used.read[level.depth_below(machine.root_level)];
        let nothing = SourceInTable {
            source: None,
            leads_to: None,
        };
        let Some(entry) = machine.entry_for(table, used.start, level) else {
            return nothing;
        };
        let stored = self.in_memory(entry);
        let value = Entry(machine.values.decode(stored.value));
        // What software has written since was not read by the walk.
        let is_source = stored.version == read;
        if is_source && has(value, bits::PRESENT) {
            return SourceInTable {
                source: Some(Source { entry, level }),
                leads_to: frame_of(stored.value),
            };
        }
        let mut own = self.buffered_entries();
        let own = own.find(|store| store.entry == entry && store.version == read);
        SourceInTable {
            leads_to: own.and_then(|store| frame_of(store.value)),
            ..nothing
        }
    }

    /// Returns the table that an entry leads to which may be cached, and which lies on the way of another.
    fn cached_way(&self, level: Level, used: &Translation) -> Option<Frame> {
        let depth = level.depth_below(self.machine.root_level);
        let upper = self.translations(self.may_be_cached()).find(|entry| {
            !entry.is_page()
                && entry.read_in == level
                && entry.covers(used.start)
                && entry.root == used.root
                && entry.pcid == self.pcid()
                && entry.read[..=depth] == used.read[..=depth]
        });
        upper.map(|entry| entry.frame)
    }

    /// Says whether a store may go through a cached entry: it has D, or the page tables still hold the
    /// entry that it was read from, and the CPU sets D there (H21).
    pub(crate) fn may_store_through(&self, entry: &Translation) -> bool {
        if entry.dirty {
            return true;
        }
        self.walk_finds(entry)
    }

    /// H42: says whether a store through a cached entry without D may set D in the entry that another translation
    /// of the address was read from, because that is the same but for W, which memory has lost.
    pub(crate) fn sets_dirty_without_w(&self, used: &Translation, found: &Translation) -> bool {
        let weak = self.machine.cpu_model.dirty == DirtyUpdate::MaySetWithoutW;
        let alike = Translation {
            writable: found.writable,
            dirty: found.dirty,
            read: found.read,
            stale: found.stale,
            ..*used
        };
        if !weak || used.dirty || *found != alike || !self.walk_finds(found) {
            return false;
        }
        let sources = self.sources(found);
        let last = sources
            .last()
            .filter(|source| source.level == found.read_in);
        last.is_some_and(|leaf| {
            let value = self.value_in_memory(Location::Entry(leaf.entry));
            value & bits::WRITABLE == 0
        })
    }

    /// Says whether a walk of this CPU for a store comes to what a cached entry was read from, and finds it in
    /// memory, where D is set.
    fn walk_finds(&self, entry: &Translation) -> bool {
        let machine = self.machine;
        // A walk of this CPU comes there by the way that the entry was read on: from CR3, or from an upper
        // level that is cached for another space's root. A global entry can outlive both.
        if entry.root == self.cr3() && self.walk_sets_dirty(entry.root, machine.root_level, entry) {
            return true;
        }
        let pcid = self.pcid();
        let mut uppers = self.translations(self.may_be_cached().union(self.in_flight()));
        uppers.any(|upper| {
            let (depth, is_held) = (
                upper.read_in.depth_below(machine.root_level),
                upper.is_held_root(),
            );
            let is_on_the_way = upper.pcid == pcid
                && upper.root == entry.root
                && (is_held
                    || upper.covers(entry.start) && upper.read[..=depth] == entry.read[..=depth]);
            is_on_the_way
                && upper
                    .leads_to
                    .is_some_and(|level| self.walk_sets_dirty(upper.frame, level, entry))
        })
    }

    /// Says whether a store's own walk, which sees all earlier stores of this CPU (H25), comes from a table to
    /// what a cached entry was read from, and finds it in memory, where D is set.
    fn walk_sets_dirty(&self, table: Frame, level: Level, used: &Translation) -> bool {
        let machine = self.machine;
        let (mut table, mut level) = (table, level);
        while level >= used.read_in {
            let Some(at) = machine.entry_for(table, used.start, level) else {
                return false;
            };
            let stored = self.as_seen(at);
            let value = Entry(machine.values.decode(stored.value));
            let is_read = stored.version == used.read[level.depth_below(machine.root_level)];
            let waits = stored.version.is_pending();
            // Setting A or D is a locked access to memory, which a buffered store has not reached.
            let is_marked = !waits || level > used.read_in && has(value, bits::ACCESSED);
            if !is_read || !has(value, bits::PRESENT) || !is_marked {
                return false;
            }
            let (Some(below), Some(frame)) = (level.below(), Frame::at(value.frame())) else {
                return true;
            };
            (table, level) = (frame, below);
        }
        true
    }
}

/// What one table says of where a cached entry was read.
struct SourceInTable {
    source: Option<Source>,
    /// The table below, if the entry that was read is still known.
    leads_to: Option<Frame>,
}
