//! One step of a walk: what is cached when an entry is read in a table.
//!
//! Rules: H3, H8, H9, H20, H25.

use std::ops::Deref;

use lazytlb::{Entry, VirtAddr};

use crate::call::Cr4;
use crate::entry::{EntryKind, MemoryType, bits, has, kind, memory_type};
use crate::extent::StaleParts;
use crate::index::{Frame, Level, PcidTag, TableIndex};
use crate::limit::{Limit, MOST_LEVELS, MOST_PIECES_GONE};
use crate::machine::Machine;
use crate::state::{CacheSet, State};
use crate::translation::Translation;
use crate::version::Version;
use crate::view::{CpuIn, StoredEntry};

/// A table that a walk reads: where it is, what it translates, and how the walk got there.
#[derive(Clone, Copy)]
pub(crate) struct TableRead {
    pub(crate) frame: Frame,
    pub(crate) level: Level,
    pub(crate) start: VirtAddr,
    writable: bool,
    user: bool,
    executable: bool,
    pub(crate) pcid: PcidTag,
    root: Frame,
    /// The youngest own store that the walk has seen while it waited (H25).
    pub(crate) seen: Version,
    /// The table was freed since the walk got here.
    pub(crate) is_dead: bool,
    read: [Version; MOST_LEVELS],
    path: [Frame; MOST_LEVELS],
    /// The set that the walk's start is in: what it fills must not be used if its start must not.
    pub(crate) set: CacheSet,
    /// The addresses at which the walk's start must not be used, though it may elsewhere.
    pub(crate) stale: StaleParts,
    /// The cached entry that leads to the table; `None` for the root, which CR3 leads to.
    pub(crate) through: Option<Translation>,
}

impl TableRead {
    /// The root of a space, which every walk of the whole way reads first.
    #[inline]
    pub(crate) fn root(frame: Frame, level: Level, pcid: PcidTag) -> TableRead {
        TableRead {
            frame,
            level,
            start: VirtAddr(0),
            writable: true,
            user: true,
            executable: true,
            pcid,
            root: frame,
            seen: Version::NONE,
            is_dead: false,
            read: [Version::NONE; MOST_LEVELS],
            path: Translation::NO_PATH,
            set: CacheSet::Cached,
            stale: StaleParts::NONE,
            through: None,
        }
    }

    /// The table that a cached entry leads to, or that a walk in flight holds; `None` if the entry translates a
    /// page.
    #[inline]
    pub(crate) fn below(entry: &Translation, set: CacheSet) -> Option<TableRead> {
        let level = entry.leads_to?;
        Some(TableRead {
            frame: entry.frame,
            level,
            start: entry.start,
            writable: entry.writable,
            user: entry.user,
            executable: entry.executable,
            pcid: entry.pcid,
            root: entry.root,
            seen: entry.seen,
            is_dead: entry.dead,
            read: entry.read,
            path: entry.path,
            set,
            stale: entry.stale,
            through: Some(*entry),
        })
    }
}

impl<'m, S: Deref<Target = State>> CpuIn<'m, S> {
    /// The root in CR3.
    #[inline]
    pub(crate) fn root(&self) -> TableRead {
        TableRead::root(self.cr3(), self.machine.root_level, self.pcid())
    }

    /// Lists the upper entries that a walk for an address may start at now, and the roots of the current PCID
    /// that walks in flight hold.
    pub(crate) fn uppers_for(&self, addr: VirtAddr) -> impl Iterator<Item = &'m Translation> {
        let pcid = self.pcid();
        let uppers = self.may_be_cached().union(self.in_flight());
        self.translations(uppers).filter(move |upper| {
            let covers = upper.covers(addr) || upper.is_held_root();
            !upper.is_page() && upper.pcid == pcid && covers
        })
    }

    /// Lists where a walk for an address may start.
    pub(crate) fn walk_starts(&self, addr: VirtAddr) -> impl Iterator<Item = TableRead> {
        let uppers = self.uppers_for(addr);
        let below = uppers.filter_map(|upper| TableRead::below(upper, CacheSet::Cached));
        std::iter::once(self.root()).chain(below)
    }
}

impl Machine {
    /// Returns what a walk caches that reads this entry in this table; `None` if it is not valid.
    pub(crate) fn translate(
        &self,
        table: &TableRead,
        index: TableIndex,
        stored: StoredEntry,
        cr4: Cr4,
    ) -> Result<Option<Translation>, Limit> {
        let entry = Entry(self.values.decode(stored.value));
        let leads_to = match kind(entry, table.level) {
            EntryKind::Invalid => return Ok(None),
            EntryKind::Table(below) => Some(below),
            EntryKind::Leaf => None,
        };
        let is_page = leads_to.is_none();
        let seen = match stored.version.is_pending() {
            true => table.seen.max(stored.version),
            false => table.seen,
        };
        let (mut read, mut path) = (table.read, table.path);
        let depth = table.level.depth_below(self.root_level);
        if self.features.provenance {
            read[depth] = stored.version;
        }
        if self.features.endless {
            path[depth] = table.frame;
        }
        Ok(Some(Translation {
            leads_to,
            read_in: table.level,
            start: index.addr_in(table.start, table.level),
            without: [None; MOST_PIECES_GONE],
            frame: self.frame(entry.frame())?,
            writable: table.writable && entry.is_writable(),
            user: table.user && has(entry, bits::USER),
            executable: table.executable && !has(entry, bits::NO_EXECUTE),
            dirty: !is_page || !self.features.accessed_dirty || has(entry, bits::DIRTY),
            memory_type: match is_page {
                true => memory_type(entry),
                false => MemoryType::WriteBack,
            },
            global: is_page && has(entry, bits::GLOBAL) && cr4.has(Cr4::PGE),
            pcid: table.pcid,
            garbage: false,
            root: table.root,
            // A page's entry is the end of the walk.
            seen: if is_page { Version::NONE } else { seen },
            dead: false,
            read,
            path,
            stale: StaleParts::NONE,
        }))
    }
}
