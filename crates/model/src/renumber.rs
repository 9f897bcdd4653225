//! New names for what counts on: versions of page-table entries, in programs whose operations start for ever.
//!
//! Versions are only compared: is what was read still what memory holds, and were two cached entries read from the
//! same stores? So after each step every entry's version in memory gets one constant name, and older ones get
//! low names:
//!
//! - *Pages.* Old versions of a page that look alike are told apart only by the promises that cover it, or have revoked
//!   it: nobody can read at them any more. So each page has names of its own, in the order of what is known of it.
//! - *Tables.* Through an upper entry that is cached of an old version, walks still find pages, which belong to
//!   it. So two old versions become one only if the same upper entries are cached of both, and promises know
//!   alike what was read through both. Names keep their order.
//!
//! An example: CPU 1 has cached a page of `e` as of its 3rd and its 5th store, memory holds the 9th, and CPU 0's promise
//! began after the 4th.
//!
//! ```text
//!               in memory   cached by CPU 1   covered by CPU 0's promise
//!  before       9           3, 5, 9           3
//!  after        NOW         2, 1, NOW         2
//!  promise kept NOW         1, 1, NOW
//! ```
//!
//! What a promise covers, or has revoked, that nobody holds (under whichever PCID: `Translation::stands_for`) and no walk can fill again is forgotten. A walk fills
//! again what was read last in a version that memory holds, also below an upper level that is cached of an
//! older one: so that stays.
//!
//! Why it is sound: the map is one-to-one on versions that some promise tells apart, takes what memory holds to
//! what memory holds, and all else that is asked of versions ([`crate::granted`], `stands_for`, what a walk of a
//! waiting store has seen) is equality, or whether a version is the one in memory. Versions of waiting stores are the
//! lowest of their CPU's already (`versions.rs`), and keep their names.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use crate::index::{Cpu, EntryId, Number, TranslationId};
use crate::limit::{Limit, MOST_LEVELS};
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

/// What a version was read for.
enum Role {
    /// The page itself.
    Page,
    /// A table on the way there.
    OnTheWay,
}

/// What was read through one version of an entry that leads to a table.
#[derive(Default)]
struct OnTheWay {
    /// All of it, as promises look at it and without versions from there on, each with the promises that know it.
    read_through: BTreeMap<Translation, BTreeSet<u64>>,
    /// The entries that lead to the table: below them, walks may find more.
    entries: BTreeSet<Translation>,
}

impl OnTheWay {
    fn add(&mut self, member: &Member, depth: usize) {
        let whichever = without_versions_from(&member.renamed, depth);
        let is_last = member.renamed.read[depth + 1..]
            .iter()
            .all(|&version| version == Version::NONE);
        if is_last {
            self.entries.insert(whichever);
        }
        let looked_at = whichever.to_promises();
        let promises = self.read_through.entry(looked_at).or_default();
        promises.insert(member.promises);
    }

    /// Says whether no promise tells two versions apart: what was read through both it knows alike. They have the same
    /// entries, too, so what walks find below from now on will be alike.
    fn goes_with(&self, other: &OnTheWay) -> bool {
        let mut read = self.read_through.iter();
        self.entries == other.entries
            && read.all(|(read, promises)| {
                let in_other = other.read_through.get(read);
                in_other.is_none_or(|in_other| in_other == promises)
            })
    }

    fn unite(&mut self, other: &OnTheWay) {
        self.entries.extend(&other.entries);
        for (read, promises) in &other.read_through {
            self.read_through.entry(*read).or_default().extend(promises);
        }
    }
}

fn without_versions_from(entry: &Translation, depth: usize) -> Translation {
    let mut without = *entry;
    without.read[depth..].fill(Version::NONE);
    without
}

impl Machine {
    /// Gives versions of page-table entries the names by which a search for ever remembers a state.
    ///
    /// # Errors
    /// If there are more old versions of one entry than names, or more translations than a set has room for.
    pub fn renumber_versions(&self, state: &mut State) -> Result<(), Limit> {
        self.forget_what_cannot_return(state);
        let mut members = self.members(state);
        self.name_versions_on_the_way(state, &mut members)?;
        self.name_versions_of_pages(state, &mut members)?;
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
                let entry = self.translations.get(number);
                held.contains(number)
                    || self.may_be_filled(state, entry)
                    || held
                        .iter()
                        .any(|held| entry.stands_for(self.translations.get(held)))
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

    /// Gives names to versions that entries were read at on the way to others: table after table, the root's first.
    fn name_versions_on_the_way(&self, state: &State, members: &mut [Member]) -> Result<(), Limit> {
        for depth in 0..MOST_LEVELS {
            let mut known: BTreeMap<EntryId, BTreeMap<Version, OnTheWay>> = BTreeMap::new();
            for member in members.iter() {
                if let Some((reading, Role::OnTheWay)) = self.reading_at(&member.renamed, depth)
                    && self.is_old(state, reading)
                {
                    let versions = known.entry(reading.entry).or_default();
                    let of_version = versions.entry(reading.version).or_default();
                    of_version.add(member, depth);
                }
            }
            let mut names = BTreeMap::new();
            for (&entry, versions) in &known {
                let mut merged: Vec<OnTheWay> = Vec::new();
                for (&version, of_version) in versions {
                    let same = merged.iter().position(|one| one.goes_with(of_version));
                    let index = match same {
                        Some(index) => index,
                        None => {
                            merged.push(OnTheWay::default());
                            merged.len() - 1
                        }
                    };
                    merged[index].unite(of_version);
                    names.insert((entry, version), Version::old(index)?);
                }
            }
            for member in members.iter_mut() {
                if let Some((reading, Role::OnTheWay)) = self.reading_at(&member.renamed, depth) {
                    let old = names.get(&(reading.entry, reading.version)).copied();
                    member.renamed.read[depth] = old.unwrap_or(self.name_of_young(reading.version));
                }
            }
        }
        Ok(())
    }

    /// Gives names to versions that pages were read at: to each page's own, by what promises know it at.
    fn name_versions_of_pages(&self, state: &State, members: &mut [Member]) -> Result<(), Limit> {
        type Known = BTreeSet<(Translation, u64)>;
        let mut known: BTreeMap<Translation, BTreeMap<Version, Known>> = BTreeMap::new();
        let page_of = |member: &Member| self.page_reading(&member.renamed);
        let like = |member: &Member, depth: usize| {
            without_versions_from(&member.renamed, depth).to_promises()
        };
        for member in members.iter() {
            if let Some(reading) = page_of(member)
                && self.is_old(state, reading)
            {
                let versions = known.entry(like(member, reading.depth)).or_default();
                let exact = without_versions_from(&member.renamed, reading.depth);
                let of_version = versions.entry(reading.version).or_default();
                of_version.insert((exact, member.promises));
            }
        }
        for member in members.iter_mut() {
            let Some(reading) = page_of(member) else {
                continue;
            };
            let name = match self.is_old(state, reading) {
                false => self.name_of_young(reading.version),
                true => {
                    let versions = &known[&like(member, reading.depth)];
                    let its_own = &versions[&reading.version];
                    let lower = versions.values().filter(|known| *known < its_own);
                    Version::old(lower.collect::<BTreeSet<_>>().len())?
                }
            };
            member.renamed.read[reading.depth] = name;
        }
        Ok(())
    }

    /// Returns the name of a version that is not old: of what memory holds, or of what waits.
    fn name_of_young(&self, version: Version) -> Version {
        match version.is_pending() {
            true => version,
            false => Version::NOW,
        }
    }

    /// Returns what a cached entry was read from in the table at a depth, and whether that is a page, or lies on the
    /// way there.
    fn reading_at(&self, of: &Translation, depth: usize) -> Option<(Reading, Role)> {
        let mut readings = self.readings(of);
        let reading = readings.find(|reading| reading.depth == depth)?;
        let role = match of.is_page() && readings.next().is_none() {
            true => Role::Page,
            false => Role::OnTheWay,
        };
        Some((reading, role))
    }

    /// Returns what a page was read from last.
    fn page_reading(&self, of: &Translation) -> Option<Reading> {
        let last = self.readings(of).last();
        last.filter(|_| of.is_page())
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
