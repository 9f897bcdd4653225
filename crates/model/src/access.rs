//! Accesses by virtual address that read and write data: through any entry that may be cached, or a walk.
//!
//! The closed set has whatever a walk could find, so an access branches over its matching entries, and over
//! a fault where some walk could find none that allows it. Rules: H5, H7, H17, H18, H21; memory types H26.

use lazytlb::{Entry, VirtAddr};

use crate::call::{Cr4, FAULT, Privilege, Rmw};
use crate::entry::{EntryKind, MemoryType, bits, kind};
use crate::machine::{Machine, MemoryModel, Outcome, Stop};
use crate::mutant::{Mutant, broken};
use crate::state::{Buffered, CacheSet, Combining, FrameUse, Stage, State, members};
use crate::translation::{Limit, Translation, index_of};
use crate::versions::is_pending;
use crate::violation::{Property, Violation};

/// What an access by virtual address does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Does {
    Load,
    Fetch,
    Store {
        bytes: u8,
        value: u64,
        non_temporal: bool,
    },
    /// A locked exchange of the whole word.
    Swap(u64),
}

impl Does {
    fn writes(self) -> bool {
        matches!(self, Does::Store { .. } | Does::Swap(_))
    }
}

impl Machine {
    /// Does an access in the way that `choice` numbers: through one of the entries that match, or, last, by
    /// a walk that faults.
    pub(crate) fn access(
        &self,
        state: &mut State,
        cpu: usize,
        addr: VirtAddr,
        privilege: Privilege,
        does: Does,
        choice: usize,
    ) -> Result<Outcome, Stop> {
        let cr4 = Cr4(self.layout.cr4(state, cpu));
        let allows = |entry: &Translation| allows(entry, privilege, does, cr4);
        let (usable, refusing): (Vec<Translation>, Vec<Translation>) = self
            .matching(state, cpu, addr)?
            .into_iter()
            .partition(|entry| allows(entry));
        let usable: Vec<Translation> = usable
            .into_iter()
            .filter(|entry| !does.writes() || self.may_store_through(state, cpu, *entry))
            .collect();
        // A cached entry that refuses is enough for a fault, though memory may allow the access by now.
        let may_fault = !refusing.is_empty() || self.walk_may_fault(state, cpu, addr)?;
        for (way, &used) in usable.iter().enumerate().skip(choice) {
            self.refuse_foreign(state, cpu, used)?;
            // What has to wait for a buffer does not keep the other ways from being taken.
            let Outcome::Done { answer, .. } = self.access_through(state, cpu, used, does)? else {
                continue;
            };
            self.mark_used(state, cpu, used, does.writes())?;
            let more = way + 1 < usable.len() || may_fault;
            return Ok(Outcome::Done { answer, more });
        }
        if choice <= usable.len() && may_fault {
            self.fault(state, cpu, addr)?;
            return Ok(Outcome::answer(FAULT));
        }
        Ok(Outcome::Blocked)
    }

    /// Returns the entries that match an address, in an order that does not depend on their numbers.
    fn matching(
        &self,
        state: &State,
        cpu: usize,
        addr: VirtAddr,
    ) -> Result<Vec<Translation>, Stop> {
        let pcid = self.pcid(state, cpu);
        let of_set = |set| {
            let mut entries: Vec<Translation> = members(self.layout.set(state, cpu, set))
                .map(|number| self.translations.get(number))
                .filter(|entry| {
                    let of_pcid = entry.pcid == pcid || entry.global || broken(Mutant::TagsIgnored);
                    entry.level == 0 && entry.covers(addr) && of_pcid
                })
                .collect();
            entries.sort_unstable();
            entries
        };
        if let Some(&stale) = of_set(CacheSet::Tainted).first() {
            return Err(self.stale_use(cpu, stale));
        }
        Ok(of_set(CacheSet::Cached))
    }

    /// The violation of using a tainted entry.
    pub(crate) fn stale_use(&self, cpu: usize, entry: Translation) -> Stop {
        let (property, what) = match entry.garbage {
            true => (
                Property::TableUseAfterFree,
                format!("uses its {entry}, which a walk of a freed table left behind"),
            ),
            false => (
                Property::StaleUse,
                format!("uses its {entry}, which a flush that has returned should have removed"),
            ),
        };
        Stop::Violation(Violation::through(property, cpu, entry, what))
    }

    /// Fails if an access goes through an entry of another space (H2, H19).
    pub(crate) fn refuse_foreign(
        &self,
        state: &State,
        cpu: usize,
        used: Translation,
    ) -> Result<(), Stop> {
        let root = self.layout.cr3(state, cpu);
        if used.root == root || used.global || !self.checks(Property::ForeignTranslation) {
            return Ok(());
        }
        let what = format!(
            "uses its {used} of the space with root {}, in the space with root {root}",
            used.root
        );
        Err(Stop::Violation(Violation::through(
            Property::ForeignTranslation,
            cpu,
            used,
            what,
        )))
    }

    /// Says whether some walk for an address finds an entry that is not valid: from the root, or from any
    /// paging-structure-cache entry that leads there.
    fn walk_may_fault(&self, state: &State, cpu: usize, addr: VirtAddr) -> Result<bool, Stop> {
        let pcid = self.pcid(state, cpu);
        let mut tables = vec![(self.layout.cr3(state, cpu), self.features.levels)];
        for number in members(self.may_be_cached(state, cpu)) {
            let entry = self.translations.get(number);
            if entry.level > 0 && entry.pcid == pcid && entry.covers(addr) {
                tables.push((entry.frame, entry.level));
            }
        }
        let mut known = 0;
        while let Some(&(table, level)) = tables.get(known) {
            known += 1;
            if self.layout.frame_use(state, table) != FrameUse::Table {
                continue;
            }
            let Some(location) = self.location_of(table, addr, level) else {
                return Ok(true);
            };
            let own = self.layout.buffered(state, cpu);
            let own = own.filter(|store| store.location == location);
            let seen = own.chain([self.in_memory(state, location)]);
            for stored in seen {
                let entry = Entry(self.values.decode(stored.value));
                match kind(entry, level) {
                    EntryKind::Invalid => return Ok(true),
                    EntryKind::Leaf => {}
                    EntryKind::Table => {
                        let below = (self.frame(entry.frame())?, level - 1);
                        if !tables.contains(&below) {
                            tables.push(below);
                        }
                    }
                }
            }
        }
        Ok(false)
    }

    /// Reads or writes the data of the page that an entry translates to.
    fn access_through(
        &self,
        state: &mut State,
        cpu: usize,
        used: Translation,
        does: Does,
    ) -> Result<Outcome, Stop> {
        if does == Does::Fetch {
            return Ok(Outcome::NOTHING);
        }
        let location = self.data_location(used.frame)?;
        let uncached = used.memory_type == MemoryType::Uncached;
        let own_waits = self.own_combining_waits(state, cpu, location);
        if own_waits && !matches!(does, Does::Store { .. }) {
            return Ok(Outcome::Blocked);
        }
        if uncached && !self.empties(state, cpu, |readings| readings.uncached) {
            return Ok(Outcome::Blocked);
        }
        match does {
            Does::Fetch => Ok(Outcome::NOTHING),
            Does::Load => {
                let value = self.values.decode(self.read_location(state, cpu, location));
                Ok(Outcome::answer(value & !FAULT & !bits::MAYBE_ACCESSED))
            }
            Does::Store {
                bytes,
                value,
                non_temporal,
            } => {
                let combines = (used.memory_type == MemoryType::WriteCombining
                    || non_temporal && !uncached)
                    && self.features.write_combining > 0
                    && !broken(Mutant::NoWriteCombining);
                let value = self.values.encode(value)?;
                if combines {
                    let store = Combining {
                        location,
                        value,
                        bytes,
                        stage: Stage::Filling,
                        frame: used.frame,
                        memory_type: used.memory_type,
                    };
                    return Ok(self.combine(state, cpu, store)?);
                }
                if own_waits {
                    return Ok(Outcome::Blocked);
                }
                if uncached || self.memory == MemoryModel::Sc {
                    self.write(
                        state,
                        cpu,
                        Buffered {
                            location,
                            value,
                            version: bytes,
                        },
                    )?;
                    return Ok(Outcome::NOTHING);
                }
                self.store_bytes(state, cpu, location, bytes, value)
            }
            Does::Swap(_) if !self.empties(state, cpu, |readings| readings.locked) => {
                Ok(Outcome::Blocked)
            }
            Does::Swap(value) => {
                let old = self.values.decode(self.read_location(state, cpu, location));
                let new = Rmw::Swap.apply(old, value);
                self.write(
                    state,
                    cpu,
                    Buffered {
                        location,
                        value: self.values.encode(new)?,
                        version: 0,
                    },
                )?;
                Ok(Outcome::answer(old & !FAULT & !bits::MAYBE_ACCESSED))
            }
        }
    }

    /// Returns the location of the word at the start of a frame: a page's own, or a table's first entry.
    fn data_location(&self, frame: u8) -> Result<u8, Limit> {
        match self.page_words.get(usize::from(frame)).copied().flatten() {
            Some(cell) => Ok(cell.0),
            None => {
                let first = index_of(VirtAddr(0), 1);
                let number = self.entries.number((frame, first))?;
                Ok(self.layout.entry_location(number))
            }
        }
    }

    /// Returns a version for a store of bytes: page-table entries have theirs, cells a mask.
    pub(crate) fn slot_version(&self, state: &State, cpu: usize, location: u8, bytes: u8) -> u8 {
        if self.layout.entry_of_location(location).is_some() {
            let version = self.pending_version(state, cpu);
            debug_assert!(is_pending(version));
            version
        } else {
            bytes
        }
    }
}

/// Says whether an entry allows an access.
fn allows(entry: &Translation, privilege: Privilege, does: Does, cr4: Cr4) -> bool {
    let mode = match privilege {
        Privilege::User => entry.user,
        Privilege::Supervisor => !(does == Does::Fetch && entry.user && cr4.has(Cr4::SMEP)),
    };
    let access = match does {
        Does::Load => true,
        Does::Fetch => entry.executable,
        Does::Store { .. } | Does::Swap(_) => entry.writable,
    };
    mode && access
}
