//! Accesses by virtual address: a cached translation, or a walk (H4, H5, H7, H9, H11).

use lazytlb_litmus_syntax::Caching;

use crate::entry::{self, Kind};
use crate::machine::{Machine, Stop};
use crate::memory::Word;
use crate::psc::PscEntry;
use crate::tlb::{Permissions, TlbEntry};
use crate::update::Update;
use crate::walk::Walk;

/// What an access does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Use {
    Read,
    Write,
    Fetch,
}

/// An access.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Access {
    pub(crate) address: u64,
    pub(crate) by: Use,
    /// From ring 3.
    pub(crate) user: bool,
    /// How many stores of its CPU come before it: its walk sees them all (H25).
    pub(crate) after: u64,
    /// Its updates of A and D may be seen late (H41): it is a plain load or store.
    pub(crate) plain: bool,
}

/// What an access found.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Translation {
    /// A page.
    To { word: Word, caching: Caching },
    /// A page fault.
    Fault,
    /// It has to wait until a store to an entry has left its buffer.
    Wait,
}

/// What a walk for an access has gathered.
struct Gathered {
    /// Entries whose A or D is to be set: where, what was read, which bits.
    updates: Vec<(Word, u64, u64)>,
    leaf: TlbEntry,
    /// The leaf is as memory says, and as any walk would read it: it may be cached.
    is_kept: bool,
}

impl Machine<'_> {
    /// Translates the address of an access.
    pub(crate) fn translate(&mut self, cpu: usize, access: Access) -> Result<Translation, Stop> {
        let cached = self.cached(cpu, access.address);
        if let Some(entry) = cached {
            if !self.permits(cpu, entry.permissions, access) {
                return Ok(Translation::Fault);
            }
            // A store through an entry without D walks again (H21).
            let needs_dirty = access.by == Use::Write && self.board.tracks_accessed;
            if !needs_dirty || entry.dirty {
                return self.found(entry, access);
            }
        }
        let mut walk = self.cpus[cpu].walk(access.address, &mut self.random);
        walk.seen = walk.seen.max(access.after);
        // H42: the update of D for a store through an entry without it need not look for W again.
        let trusted =
            cached.filter(|_| self.board.amended.dirty_without_writable && self.random.chance(50));
        match self.gather(cpu, walk, access, trusted)? {
            Ok(gathered) => Ok(self.finish(cpu, access, &gathered)?),
            Err(other) => Ok(other),
        }
    }

    /// Picks a cached translation for an address, or none.
    fn cached(&mut self, cpu: usize, address: u64) -> Option<TlbEntry> {
        if !self.random.chance(self.temper.use_tlb) {
            return None;
        }
        let cpu = &self.cpus[cpu];
        let matching: Vec<&TlbEntry> = cpu.tlb.matching(cpu.pcid(), address).collect();
        match matching.is_empty() {
            true => None,
            false => Some(**self.random.one_of(&matching)),
        }
    }

    pub(crate) fn permits(&self, cpu: usize, permissions: Permissions, access: Access) -> bool {
        let smep = self.cpus[cpu].smep && permissions.user && !access.user;
        let by_use = match access.by {
            Use::Read => true,
            Use::Write => permissions.writable,
            Use::Fetch => permissions.executable && !smep,
        };
        by_use && (permissions.user || !access.user)
    }

    /// Walks to the leaf for an access, at once: what is read at different times comes from the caches. That the leaf
    /// has lost W since `trusted` was cached goes unnoticed.
    fn gather(
        &mut self,
        cpu: usize,
        mut walk: Walk,
        access: Access,
        trusted: Option<TlbEntry>,
    ) -> Result<Result<Gathered, Translation>, Stop> {
        let mut updates = Vec::new();
        loop {
            let (value, is_forwarded) = match access.by {
                Use::Fetch => (self.read_early(cpu, &mut walk)?, false),
                Use::Read | Use::Write => self.read_entry(cpu, &mut walk)?,
            };
            let kind = entry::kind(value, walk.level);
            if kind == Kind::Unusable {
                return Ok(Err(Translation::Fault));
            }
            let is_leaf = matches!(kind, Kind::Page(_));
            let missing = self.missing(value, is_leaf && access.by == Use::Write);
            let at = walk.entry();
            match kind {
                Kind::Table(below) => {
                    walk.descend(value, below);
                    if missing == 0 && updates.is_empty() && access.by != Use::Fetch {
                        self.cache_upper_level(cpu, &walk);
                    }
                }
                Kind::Page(_) | Kind::Unusable => {
                    let mut leaf = self.leaf(cpu, &walk, value | missing);
                    let is_trusted = missing & entry::DIRTY != 0 && is_same_page(trusted, leaf);
                    if is_trusted {
                        leaf.permissions = walk.permissions.below(value | entry::WRITABLE);
                    }
                    if !self.permits(cpu, leaf.permissions, access) {
                        return Ok(Err(Translation::Fault));
                    }
                    if missing != 0 {
                        updates.push((at, value, missing));
                    }
                    return Ok(match missing != 0 && is_forwarded {
                        true => Err(Translation::Wait),
                        false => Ok(Gathered {
                            updates,
                            leaf,
                            // What a fetch has read may be a mixture.
                            is_kept: access.by != Use::Fetch && !is_trusted,
                        }),
                    });
                }
            }
            if missing != 0 {
                if is_forwarded {
                    return Ok(Err(Translation::Wait));
                }
                updates.push((at, value, missing));
            }
        }
    }

    /// Returns the bits that a walk has to set in an entry (H3, H21).
    fn missing(&self, value: u64, writes: bool) -> u64 {
        let needed = match writes {
            true => entry::ACCESSED | entry::DIRTY,
            false => entry::ACCESSED,
        };
        match self.board.tracks_accessed {
            true => needed & !value,
            false => 0,
        }
    }

    /// Asks for the updates of A and D, and caches what may be cached.
    fn finish(
        &mut self,
        cpu: usize,
        access: Access,
        gathered: &Gathered,
    ) -> Result<Translation, Stop> {
        let leaf = gathered.leaf;
        let is_kept = gathered.is_kept && self.random.chance(self.temper.cache);
        let fill = is_kept.then_some(leaf);
        let late = self.board.amended.late_updates
            && access.plain
            && self.random.chance(self.temper.late_update);
        let last = gathered.updates.len();
        for (index, (entry, read, bits)) in gathered.updates.iter().enumerate() {
            self.cpus[cpu].updates.push(Update {
                entry: *entry,
                read: *read,
                bits: *bits,
                is_overtaken: false,
                is_replaced: false,
                is_too_late: false,
                fill: if index + 1 == last { fill } else { None },
            });
        }
        match (last, fill) {
            (0, Some(fill)) => self.cache_leaf(cpu, fill),
            (0, None) => {}
            _ if late => {}
            _ => self.finish_updates(cpu)?,
        }
        self.found(leaf, access)
    }

    /// Returns where an access goes through a leaf. What lies in a frame that the test does not name is nowhere said:
    /// some bytes of an entry can lead there.
    fn found(&self, leaf: TlbEntry, access: Access) -> Result<Translation, Stop> {
        let word = leaf.word(access.address);
        let board = &self.board;
        let is_named = board.named_frames.contains(&word.frame());
        match !board.is_translated || is_named || board.tables.contains(&word.frame()) {
            true => Ok(Translation::To {
                word,
                caching: leaf.caching,
            }),
            false => Err(Stop::Discarded),
        }
    }

    /// Returns what a walk caches of a leaf.
    pub(crate) fn leaf(&self, cpu: usize, walk: &Walk, value: u64) -> TlbEntry {
        TlbEntry {
            pcid: walk.pcid,
            global: value & entry::GLOBAL != 0 && self.cpus[cpu].pge,
            address: walk.address,
            level: walk.level,
            piece: false,
            frame: entry::frame(value),
            permissions: walk.permissions.below(value),
            caching: entry::caching(value),
            dirty: value & entry::DIRTY != 0 || !self.board.tracks_accessed,
        }
    }

    /// Caches a translation, a large page perhaps in pieces (H6).
    pub(crate) fn cache_leaf(&mut self, cpu: usize, leaf: TlbEntry) {
        let piece = leaf.level > entry::PTE && self.random.chance(self.temper.pieces);
        self.cpus[cpu].tlb.fill(TlbEntry { piece, ..leaf });
    }

    /// Caches, perhaps, the upper-level entry that a walk has just read (H9).
    pub(crate) fn cache_upper_level(&mut self, cpu: usize, walk: &Walk) {
        if self.random.chance(self.temper.cache) {
            self.cpus[cpu].psc.fill(PscEntry {
                pcid: walk.pcid,
                address: walk.address,
                level: walk.level + 1,
                table: walk.table,
                permissions: walk.permissions,
                seen: walk.seen,
            });
        }
    }

    /// Makes all updates of a CPU visible.
    pub(crate) fn finish_updates(&mut self, cpu: usize) -> Result<(), Stop> {
        while !self.cpus[cpu].updates.is_empty() {
            self.update(cpu)?;
        }
        Ok(())
    }

    /// Makes the oldest update of a CPU visible: a locked access that looks at the entry again.
    pub(crate) fn update(&mut self, cpu: usize) -> Result<(), Stop> {
        if self.cpus[cpu].updates.is_empty() {
            return Ok(());
        }
        let update = self.cpus[cpu].updates.remove(0);
        let now = self.memory.read(update.entry);
        let changed = (now ^ update.read) & !(entry::ACCESSED | entry::DIRTY);
        // H42: D may be set although W has just gone.
        let has_lost_writable = self.board.amended.dirty_without_writable
            && update.bits & entry::DIRTY != 0
            && !update.is_too_late
            && changed == entry::WRITABLE
            && now & entry::WRITABLE == 0;
        let is_refused =
            update.is_replaced || update.is_overtaken && !self.board.amended.updates_after_clears;
        match (changed, update.fill) {
            _ if is_refused => return Err(Stop::Discarded),
            (0, Some(fill)) => self.cache_leaf(cpu, fill),
            (0, None) => {}
            _ if has_lost_writable => {}
            // The walk would have been done again: another execution.
            _ => return Err(Stop::Discarded),
        }
        // D is not set without A, which somebody may have cleared.
        let bits = update.bits | entry::ACCESSED;
        self.set_bits(update.entry, bits);
        // What a later access of this CPU asked for meanwhile is done with it.
        self.cpus[cpu]
            .updates
            .retain(|other| other.entry != update.entry || other.bits & !bits != 0);
        Ok(())
    }

    /// Does what a page fault does to the caches: the translations of the page, whole (H6), and the upper levels
    /// used for its address go (H17). Walks in flight go on (H12a).
    pub(crate) fn page_fault(&mut self, cpu: usize, address: u64) {
        let cpu = &mut self.cpus[cpu];
        cpu.former.clear();
        if !self.board.amended.walks_across_faults {
            cpu.walks.clear();
        }
        let pcid = cpu.pcid();
        cpu.tlb
            .drop_where(|entry| (entry.global || entry.pcid == pcid) && entry.page_covers(address));
        cpu.psc
            .drop_where(|entry| entry.pcid == pcid && entry.leads_to(address));
        for update in &mut cpu.updates {
            update.fill = None;
        }
    }
}

/// Says whether a cached translation is of the page that a walk has found.
fn is_same_page(cached: Option<TlbEntry>, found: TlbEntry) -> bool {
    cached.is_some_and(|cached| (cached.frame, cached.level) == (found.frame, found.level))
}
