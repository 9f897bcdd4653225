//! New names for what counts on: versions of page-table entries, in programs whose operations start for ever.
//!
//! Versions are only compared: is what was read still what memory holds, and were two cached entries read from the
//! same stores? So after each step every entry's version in memory gets one constant name, and older ones get
//! the lowest names from 1 on, in their order. Two old versions of an entry that no promise tells apart become
//! one: whatever was read of either is overwritten, and whoever promises something from now on covers both.
//!
//! An example: CPU 1 has cached `e` as of its 3rd and its 5th store, memory holds the 9th, and CPU 0's promise began
//! after the 4th.
//!
//! ```text
//!               in memory   cached by CPU 1   covered by CPU 0's promise
//!  before       9           3, 5, 9           3
//!  after        NOW         1, 2, NOW         1
//!  promise kept NOW         1, 1, NOW
//! ```
//!
//! What a promise covers, or has revoked, that nobody holds and no walk can fill again is forgotten. A walk fills
//! again what was read last in a version that memory holds, also below an upper level that is cached of an
//! older one: so that stays.
//!
//! Why it is sound: the map is one-to-one on versions that some promise tells apart, takes what memory holds to
//! what memory holds, and all else that is asked of versions ([`crate::granted`], `stands_for`, what a walk of a
//! waiting store has seen) is equality, or whether a version is the one in memory. Versions of waiting stores are the
//! lowest of their CPU's already (`versions.rs`), and keep their names.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::index::{Cpu, EntryId, Number, TranslationId};
use crate::limit::Limit;
use crate::machine::Machine;
use crate::slot::Slot;
use crate::state::{CacheSet, State};
use crate::translation::Translation;
use crate::translation_set::TranslationSet;
use crate::version::Version;

/// A cached entry that some set of the state has, under its former number, and what it becomes.
struct Member {
    number: TranslationId,
    /// The promises that it belongs to, a bit each: what they cover, or have revoked.
    promises: u64,
    renamed: Translation,
}

/// A version that a cached entry was read at: of which page-table entry, and at which depth below the root.
#[derive(Clone, Copy)]
struct Reading {
    entry: EntryId,
    depth: usize,
    version: Version,
}

impl Machine {
    /// Gives versions of page-table entries the names by which a search for ever remembers a state.
    ///
    /// # Errors
    /// If there are more old versions of one entry than names, or more translations than a set has room for.
    pub fn renumber_versions(&self, state: &mut State) -> Result<(), Limit> {
        self.forget_what_cannot_return(state);
        let mut members = self.members(state);
        self.merge_versions(state, &mut members);
        self.lower_versions(state, &mut members)?;
        self.put_members(state, &members)?;
        for entry in (0..self.features.page_table_entries.into()).map(EntryId::from_index) {
            state[self.layout.version(entry).bytes()] = Version::NOW.to_byte();
        }
        Ok(())
    }

    /// Lists the bytes of a state that [`Machine::renumber_versions`] reads and writes: on nothing else does it depend
    /// what it does.
    pub fn version_sections(&self) -> impl Iterator<Item = Range<usize>> + use<'_> {
        let layout = &self.layout;
        let versions = layout.version(EntryId::from_index(0)).bytes();
        let versions = versions..versions + usize::from(self.features.page_table_entries);
        let cpus = layout.every_cpu().map(|cpu| layout.hardware_of(cpu));
        let cpus = cpus.map(|hardware| hardware.start.bytes()..hardware.end.bytes());
        std::iter::once(versions).chain(cpus)
    }

    /// Lists the sets of promises that a state has: what each covers, and what kept ones have revoked.
    fn promise_sets(&self) -> Vec<(Cpu, CacheSet)> {
        let cpus = self.layout.every_cpu();
        let of = |cpu| {
            let covered = self.layout.promises.slots().map(CacheSet::Covered);
            let sets = covered.chain([CacheSet::Revoked]);
            sets.map(move |set| (cpu, set)).collect::<Vec<_>>()
        };
        cpus.flat_map(of).collect()
    }

    /// Returns what some CPU may have cached, holds in flight, or has stores waiting through.
    fn held(&self, state: &State) -> TranslationSet {
        let cpus = self.layout.every_cpu();
        cpus.fold(TranslationSet::EMPTY, |held, cpu| {
            let cpu = self.view(state, cpu);
            held.union(cpu.may_be_cached())
                .union(cpu.in_flight())
                .union(cpu.buffered_through())
        })
    }

    /// Takes out of the promises what nobody holds, and what no walk can fill any more.
    fn forget_what_cannot_return(&self, state: &mut State) {
        let held = self.held(state);
        for (cpu, set) in self.promise_sets() {
            let members = self.view(state, cpu).set(set);
            let kept = members.filter(|number| {
                held.contains(number) || self.may_be_filled(state, self.translations.get(number))
            });
            if kept != members {
                self.on(state, cpu).put_set(set, kept);
            }
        }
    }

    /// Says whether a walk may find an entry again, from memory or from an upper level that is still cached: what it
    /// reads last is there, or waits in a buffer.
    fn may_be_filled(&self, state: &State, entry: &Translation) -> bool {
        let last = self.readings(entry).last();
        last.is_none_or(|reading| !self.is_old(state, reading))
    }

    /// Lists what a cached entry was read from, the root's entry first.
    fn readings(&self, of: &Translation) -> impl Iterator<Item = Reading> {
        let tables = of.path.into_iter().zip(of.read).enumerate();
        let start = of.start;
        let tables = tables.filter(|(_, (_, version))| *version != Version::NONE);
        tables.filter_map(move |(depth, (table, version))| {
            let level = self.root_level.lower(depth)?;
            let entry = self.entry_for(table, start, level)?;
            Some(Reading {
                entry,
                depth,
                version,
            })
        })
    }

    /// Says whether a version is neither what memory holds nor one that waits.
    fn is_old(&self, state: &State, reading: Reading) -> bool {
        let now = state[self.layout.version(reading.entry).bytes()];
        let version = reading.version;
        version != Version::NONE && !version.is_pending() && version.to_byte() != now
    }

    fn members(&self, state: &State) -> Vec<Member> {
        let mut promises = BTreeMap::new();
        for number in self.held(state).iter() {
            promises.insert(number, 0);
        }
        for (bit, (cpu, set)) in self.promise_sets().into_iter().enumerate() {
            for number in self.view(state, cpu).set(set).iter() {
                *promises.entry(number).or_insert(0) |= 1 << bit;
            }
        }
        let members = promises.into_iter();
        members
            .map(|(number, promises)| Member {
                number,
                promises,
                renamed: *self.translations.get(number),
            })
            .collect()
    }

    /// Makes one of old versions of an entry that no promise tells apart.
    fn merge_versions(&self, state: &State, members: &mut [Member]) {
        while let Some((reading, into)) = self.mergeable(state, members) {
            self.rename(members, reading, into);
        }
    }

    /// Finds an old version that no promise tells apart from an older one of the same entry.
    fn mergeable(&self, state: &State, members: &[Member]) -> Option<(Reading, Version)> {
        for (_, versions) in self.old_versions(state, members) {
            for (later, &reading) in versions.iter().enumerate() {
                let known_by = self.known_by(members, reading);
                let mut older = versions[..later].iter();
                let same = older.find(|&&older| self.known_by(members, older) == known_by);
                if let Some(same) = same {
                    return Some((reading, same.version));
                }
            }
        }
        None
    }

    /// Lists the old versions of each entry that something was read at, oldest first.
    fn old_versions(&self, state: &State, members: &[Member]) -> BTreeMap<EntryId, Vec<Reading>> {
        let mut all: BTreeMap<EntryId, Vec<Reading>> = BTreeMap::new();
        for member in members {
            for reading in self.readings(&member.renamed) {
                if self.is_old(state, reading) {
                    all.entry(reading.entry).or_default().push(reading);
                }
            }
        }
        for versions in all.values_mut() {
            versions.sort_by_key(|reading| reading.version);
            versions.dedup_by_key(|reading| reading.version);
        }
        all
    }

    /// Returns what promises know a version by: whatever they cover, or have revoked, that was read at it.
    fn known_by(&self, members: &[Member], at: Reading) -> Vec<(Translation, u64)> {
        let about = members.iter().filter(|member| member.promises != 0);
        let read_at = about.filter(|member| self.has_read(&member.renamed, at));
        let mut known: Vec<(Translation, u64)> = read_at
            .map(|member| {
                let mut whichever = member.renamed;
                whichever.read[at.depth] = Version::NONE;
                (whichever, member.promises)
            })
            .collect();
        known.sort_unstable();
        known.dedup();
        known
    }

    fn has_read(&self, entry: &Translation, at: Reading) -> bool {
        entry.read[at.depth] == at.version && {
            let mut readings = self.readings(entry);
            readings.any(|reading| reading.depth == at.depth && reading.entry == at.entry)
        }
    }

    fn rename(&self, members: &mut [Member], reading: Reading, to: Version) {
        for member in members {
            if self.has_read(&member.renamed, reading) {
                member.renamed.read[reading.depth] = to;
            }
        }
    }

    /// Gives each entry's old versions the lowest names, in their order, and the one in memory its name.
    fn lower_versions(&self, state: &State, members: &mut [Member]) -> Result<(), Limit> {
        let old = self.old_versions(state, members);
        for member in members {
            let former = member.renamed;
            for reading in self.readings(&former) {
                let Reading { depth, version, .. } = reading;
                if self.is_old(state, reading) {
                    let versions = &old[&reading.entry];
                    let older = versions.iter().position(|other| other.version == version);
                    member.renamed.read[depth] = Version::old(older.unwrap_or_default())?;
                } else if version != Version::NONE && !version.is_pending() {
                    member.renamed.read[depth] = Version::NOW;
                }
            }
        }
        Ok(())
    }

    /// Puts the renamed entries in the place of the former ones.
    fn put_members(&self, state: &mut State, members: &[Member]) -> Result<(), Limit> {
        let mut numbers = BTreeMap::new();
        for member in members {
            numbers.insert(member.number, self.translations.number(&member.renamed)?);
        }
        if numbers.iter().all(|(former, renamed)| former == renamed) {
            return Ok(());
        }
        let renamed = |number: TranslationId| numbers.get(&number).copied().unwrap_or(number);
        for cpu in self.layout.every_cpu() {
            let mut cpu = self.on(state, cpu);
            let promises = self.layout.promises.slots().map(CacheSet::Covered);
            let sets = CacheSet::IN_CACHES.into_iter().chain([CacheSet::Revoked]);
            for set in sets.chain(promises) {
                let members = cpu.set(set).iter().map(renamed).collect();
                cpu.put_set(set, members);
            }
            let in_flight = cpu.in_flight().iter().map(renamed).collect();
            cpu.put_in_flight(in_flight);
            for older in 0..cpu.buffered_len() {
                let slot = cpu.buffered().nth(older);
                if let Some(Slot::User(used)) = slot {
                    cpu.put_buffered(older, Slot::User(renamed(used)));
                }
                let through = cpu.through(older).map(renamed);
                cpu.put_through(older, through);
            }
            if cpu.combining_len() > 0 {
                let mut stores = cpu.combining();
                for store in &mut stores {
                    store.through = renamed(store.through);
                }
                cpu.put_combining(stores);
            }
        }
        Ok(())
    }
}
