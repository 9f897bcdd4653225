//! Splits what replays count by whose operations caused it: a process's, or those of an interval of time.
//!
//! A replay counts in one place. What an operation adds is the difference of the counts before and after it, and all that
//! it causes is its own: the handlers on other CPUs that it interrupts, too. So the parts add up to the whole, exactly.

use std::collections::BTreeMap;

use crate::counts::Counts;
use crate::pass::Replays;
use crate::replayed::Replayed;

/// The counts of every replay, split by a key.
#[derive(Clone, Debug)]
pub struct Split<K> {
    before: Both,
    parts: BTreeMap<K, Both>,
}

/// The counts of each replay, as if flushes kept tables of which it is unknown, and as if they freed them; the latter are
/// nothing where nothing is unknown.
#[derive(Clone, Debug, Default)]
struct Both {
    kept: Vec<Counts>,
    freed: Vec<Counts>,
}

impl Both {
    fn of(replays: &Replays<'_>) -> Both {
        Both {
            kept: replays.kept().collect(),
            freed: replays.freed().map(Option::unwrap_or_default).collect(),
        }
    }

    fn add_since(&mut self, now: &Both, before: &Both) {
        let sides = [
            (&mut self.kept, &now.kept, &before.kept),
            (&mut self.freed, &now.freed, &before.freed),
        ];
        for (sum, now, before) in sides {
            sum.resize(now.len(), Counts::default());
            let before = before
                .iter()
                .copied()
                .chain(std::iter::repeat(Counts::default()));
            for ((sum, now), before) in sum.iter_mut().zip(now).zip(before) {
                *sum += *now - before;
            }
        }
    }
}

impl<K> Default for Split<K> {
    fn default() -> Self {
        Split {
            before: Both::default(),
            parts: BTreeMap::new(),
        }
    }
}

impl<K: Ord> Split<K> {
    /// Adds what was counted since the last call to a part. Called after each operation, or after the last one of several
    /// that belong to one part.
    pub fn add(&mut self, key: K, replays: &Replays<'_>) {
        let now = Both::of(replays);
        let part = self.parts.entry(key).or_default();
        part.add_since(&now, &self.before);
        self.before = now;
    }

    /// Returns the number of parts so far.
    pub fn len(&self) -> usize {
        self.parts.len()
    }

    /// Says whether nothing was added yet.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Says whether there is such a part.
    pub fn has(&self, key: &K) -> bool {
        self.parts.contains_key(key)
    }

    /// Returns the parts in the order of their keys, each as a table of the same policies, on the same CPUs and in the
    /// same order as `whole`. They add up to it.
    pub fn into_parts(self, whole: &[Replayed]) -> Vec<(K, Vec<Replayed>)> {
        let table = |both: Both| {
            let mut freed = both.freed.into_iter();
            let mut kept = both.kept.into_iter();
            let rows = whole.iter().map(|one| Replayed {
                counts: kept.next().unwrap_or_default(),
                // What is known of the whole is known of its parts.
                counts_if_freed: freed.next().filter(|_| one.counts_if_freed.is_some()),
                ..*one
            });
            rows.collect()
        };
        let parts = self.parts.into_iter();
        parts.map(|(key, both)| (key, table(both))).collect()
    }
}
