//! Accesses by virtual address that read and write data: through any entry that may be cached, or a walk.
//!
//! The closed set has whatever a walk could find, so an access branches over its matching entries, and over
//! a fault where some walk could find none that allows it. Rules: H5, H7, H17, H18, H21; memory types H26.

use lazytlb::VirtAddr;

use crate::call::{AtomicCell, Cr4, FAULT, Privilege, Rmw};
use crate::closure::TableRead;
use crate::entry::{MemoryType, bits};
use crate::machine::{Machine, MemoryModel, Outcome, Stop};
use crate::mutant::{Mutant, broken};
use crate::state::{Buffered, CacheSet, Combining, FrameUse, Stage, State, members};
use crate::translation::{Limit, Translation, index_of};
use crate::versions::is_pending;
use crate::violation::{Property, Violation};
use crate::writers::Write;

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
    /// A locked read-modify-write.
    Rmw {
        bytes: u8,
        rmw: Rmw,
        operand: u64,
    },
}

impl Does {
    fn writes(self) -> bool {
        matches!(self, Does::Store { .. } | Does::Rmw { .. })
    }

    fn reads(self) -> bool {
        matches!(self, Does::Load | Does::Rmw { .. })
    }
}

/// How an access comes to fault.
#[derive(Clone, Copy)]
enum Fault {
    /// By a walk that reads all levels.
    FromTheRoot,
    /// Through an entry that is cached: a page's that refuses, or an upper one that a walk starts at.
    Through(Translation),
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
            .partition(allows);
        let usable: Vec<Translation> = usable
            .into_iter()
            .filter(|entry| !does.writes() || self.may_store_through(state, cpu, *entry))
            .collect();
        let faults = self.faults(state, cpu, addr, &refusing, allows)?;
        let mut ways = Vec::new();
        for used in usable {
            let reads_entry = does.reads() && self.reads_maybe_accessed(state, used)?;
            ways.push((used, 0));
            if reads_entry {
                ways.push((used, 1));
            }
        }
        for (way, &(used, settled)) in ways.iter().enumerate().skip(choice) {
            self.refuse_foreign(state, cpu, used)?;
            let mut next = state.to_vec();
            self.mark_used(&mut next, cpu, used, does.writes())?;
            // What has to wait for a buffer does not keep the other ways from being taken.
            let outcome = self.access_through(&mut next, cpu, used, does, settled)?;
            let Outcome::Done { answer, .. } = outcome else {
                continue;
            };
            state.copy_from_slice(&next);
            let more = way + 1 < ways.len() || !faults.is_empty();
            return Ok(Outcome::Done { answer, more });
        }
        let way = choice.saturating_sub(ways.len());
        let Some(&fault) = faults.get(way) else {
            return Ok(Outcome::Blocked);
        };
        if let Fault::Through(cached) = fault {
            self.mark_used(state, cpu, cached, false)?;
        }
        self.fault(state, cpu, addr)?;
        Ok(Outcome::Done {
            answer: FAULT,
            more: way + 1 < faults.len(),
        })
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

    /// Lists the ways in which an access may fault: through a cached entry that refuses it, though memory may
    /// allow it by now, or by a walk.
    ///
    /// What was cached had A set in all that it was read from (H3), and a walk that faults need not set any.
    /// So a fault by a walk from the root stands for all others, and without A bits any one does.
    fn faults(
        &self,
        state: &State,
        cpu: usize,
        addr: VirtAddr,
        refusing: &[Translation],
        allows: impl Fn(&Translation) -> bool + Copy,
    ) -> Result<Vec<Fault>, Stop> {
        let pcid = self.pcid(state, cpu);
        let root = TableRead::root(self.layout.cr3(state, cpu), self.features.levels, pcid);
        if self.walk_may_fault(state, cpu, root, addr, allows)? {
            return Ok(vec![Fault::FromTheRoot]);
        }
        let mut faults: Vec<Fault> = refusing.iter().copied().map(Fault::Through).collect();
        for number in members(self.may_be_cached(state, cpu)) {
            let upper = self.translations.get(number);
            if upper.level == 0 || upper.pcid != pcid || !upper.covers(addr) {
                continue;
            }
            let below = TableRead::below(upper, CacheSet::Cached);
            if self.walk_may_fault(state, cpu, below, addr, allows)? {
                faults.push(Fault::Through(upper));
            }
        }
        if !self.features.accessed_dirty {
            faults.truncate(1);
        }
        Ok(faults)
    }

    /// Says whether a walk on from a table can find an entry that is not valid, or a page that does not allow
    /// the access.
    fn walk_may_fault(
        &self,
        state: &State,
        cpu: usize,
        table: TableRead,
        addr: VirtAddr,
        allows: impl Fn(&Translation) -> bool + Copy,
    ) -> Result<bool, Stop> {
        if self.layout.frame_use(state, table.frame) != FrameUse::Table {
            return Ok(false);
        }
        let Some(location) = self.location_of(table.frame, addr, table.level) else {
            return Ok(true);
        };
        let pge = Cr4(self.layout.cr4(state, cpu)).has(Cr4::PGE);
        // H25: memory, or this CPU's own store that waits.
        let own = self.layout.buffered(state, cpu);
        let own = own.filter(|store| store.location == location);
        for stored in own.chain([self.in_memory(state, location)]) {
            let faults = match self.translate(table, index_of(addr, table.level), stored, pge)? {
                None => true,
                Some(page) if page.level == 0 => !allows(&page),
                Some(upper) => {
                    let below = TableRead::below(upper, CacheSet::Cached);
                    self.walk_may_fault(state, cpu, below, addr, allows)?
                }
            };
            if faults {
                return Ok(true);
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
        settled: usize,
    ) -> Result<Outcome, Stop> {
        if does == Does::Fetch {
            return Ok(Outcome::NOTHING);
        }
        let location = self.data_location(used.frame)?;
        let is_entry = self.layout.entry_of_location(location).is_some();
        if !is_entry && does.writes() {
            // Whoever loads the word without translation must know that it changes.
            let who = self.who(state, cpu);
            self.writers.wrote(AtomicCell(location), who, Write::Any);
        }
        let uncached = used.memory_type == MemoryType::Uncached;
        let own_waits = self.own_combining_waits(state, cpu, location);
        let forwards = does == Does::Load && self.forwards_combining(state, cpu, location);
        if own_waits && !forwards && !matches!(does, Does::Store { .. }) {
            return Ok(Outcome::Blocked);
        }
        if uncached && !self.empties(state, cpu, |readings| readings.uncached) {
            return Ok(Outcome::Blocked);
        }
        match does {
            Does::Fetch => Ok(Outcome::NOTHING),
            Does::Load => data_answer(self.read_word(state, cpu, location, does, settled)?),
            Does::Store {
                bytes,
                value,
                non_temporal,
            } => {
                let bytes = match bytes {
                    0 | 0xff if is_entry => 0,
                    _ if is_entry => return Err(part_of_an_entry()),
                    _ => bytes,
                };
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
            Does::Rmw { .. } if !self.empties(state, cpu, |readings| readings.locked) => {
                Ok(Outcome::Blocked)
            }
            Does::Rmw {
                bytes,
                rmw,
                operand,
            } => {
                let word = self.read_word(state, cpu, location, does, settled)?;
                let (old, new) = rmw.apply_to_bytes(word, bytes, operand);
                self.write(
                    state,
                    cpu,
                    Buffered {
                        location,
                        value: self.values.encode(new)?,
                        version: 0,
                    },
                )?;
                data_answer(old)
            }
        }
    }

    /// Says whether the word that an entry leads to is a page-table entry whose A bit is *maybe* set.
    fn reads_maybe_accessed(&self, state: &State, used: Translation) -> Result<bool, Limit> {
        if !self.features.accessed_dirty {
            return Ok(false);
        }
        let location = self.data_location(used.frame)?;
        let value = self.values.decode(state[self.layout.location(location)]);
        let is_entry = self.layout.entry_of_location(location).is_some();
        Ok(is_entry && value & bits::MAYBE_ACCESSED != 0)
    }

    /// Reads a word as a CPU sees it; in a page-table entry, A as `settled` numbers the ways. A locked
    /// instruction writes in the same step, and nothing is cached in between.
    fn read_word(
        &self,
        state: &mut State,
        cpu: usize,
        location: u8,
        does: Does,
        settled: usize,
    ) -> Result<u64, Stop> {
        let entry = self.layout.entry_of_location(location);
        let Some(entry) = entry.filter(|_| self.features.accessed_dirty) else {
            return Ok(self.values.decode(self.read_location(state, cpu, location)));
        };
        let (word, _) = self.read_settled(state, cpu, location, settled)?;
        if does == Does::Load {
            // H4: what the answer ruled out may be cached again at once.
            self.close_readers_of(state, self.entries.get(entry).0)?;
        }
        Ok(word)
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
        Does::Store { .. } | Does::Rmw { .. } => entry.writable,
    };
    mode && access
}

/// Answers with what memory holds, which must not look like a fault.
fn data_answer(word: u64) -> Result<Outcome, Stop> {
    if word == FAULT {
        return Err(Stop::Limit(Limit {
            what: "words with the value that stands for a fault",
            most: 0,
        }));
    }
    Ok(Outcome::answer(word))
}

fn part_of_an_entry() -> Stop {
    Stop::Limit(Limit {
        what: "stores to a part of a page-table entry",
        most: 0,
    })
}
