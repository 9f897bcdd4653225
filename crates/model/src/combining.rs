//! Write-combining buffers: stores to write-combining memory, and non-temporal ones.
//!
//! Rules: H26, H27, H27a, H28. A store waits in its CPU's buffers, in no order with any other, until it
//! leaves by itself or an event empties them. To ordinary memory it has arrived then. On its way to a
//! device it has, by the weak reading, only started.

use crate::cpu_model::{Reading, WcReadings};
use crate::entry::MemoryType;
use crate::machine::{Machine, Outcome, Stop};
use crate::mutant::{Mutant, broken};
use crate::state::{BARRIER, Buffered, Combining, FrameUse, Stage, State, USER_MEMORY};
use crate::translation::Translation;
use crate::violation::{Property, Violation};

/// Which reading an event has.
pub(crate) type Event = fn(WcReadings) -> Reading;

impl Machine {
    /// Puts a store into the write-combining buffers; blocked while they, or an SFENCE before it, are full.
    pub(crate) fn combine(
        &self,
        state: &mut State,
        cpu: usize,
        store: Combining,
    ) -> Result<Outcome, crate::translation::Limit> {
        let mut stores = self.layout.combining(state, cpu);
        let fenced = self
            .layout
            .buffered(state, cpu)
            .any(|slot| slot.location == BARRIER);
        // A second store to one place combines with the first, or waits: here it waits.
        let same_place = |other: &Combining| {
            other.location == store.location
                && other.frame == store.frame
                && other.stage == Stage::Filling
        };
        let buffered = self
            .layout
            .buffered(state, cpu)
            .any(|slot| slot.location == store.location && slot.location != USER_MEMORY);
        if fenced || buffered {
            return Ok(Outcome::Blocked);
        }
        if stores.contains(&store) {
            return Ok(Outcome::NOTHING);
        }
        if store.location != USER_MEMORY
            && let Some(first) = stores.iter_mut().find(|other| same_place(other))
        {
            let merged = self.merged(
                first.value,
                Buffered {
                    location: store.location,
                    value: store.value,
                    version: store.bytes,
                },
            );
            first.value = self.values.encode(self.values.decode(merged))?;
            first.bytes = match (first.bytes, store.bytes) {
                (0, _) | (_, 0) => 0,
                (one, other) => one | other,
            };
            self.layout.put_combining(state, cpu, stores);
            return Ok(Outcome::NOTHING);
        }
        if stores.len() == self.layout.combining_slots() {
            return Ok(Outcome::Blocked);
        }
        stores.push(store);
        self.layout.put_combining(state, cpu, stores);
        Ok(Outcome::NOTHING)
    }

    /// Says whether a write-combining store of this CPU to a location has not arrived.
    pub(crate) fn own_combining_waits(&self, state: &State, cpu: usize, location: u8) -> bool {
        self.layout.combining_len(state, cpu) > 0
            && self
                .layout
                .combining(state, cpu)
                .into_iter()
                .any(|store| store.location == location)
    }

    /// Says whether a load of this CPU may read what it has stored to a location and what has not arrived:
    /// non-temporal stores to ordinary memory are forwarded as others are, from the store buffer that they
    /// go through first. Stores to write-combining memory are not.
    pub(crate) fn forwards_combining(&self, state: &State, cpu: usize, location: u8) -> bool {
        let own = self.layout.combining(state, cpu).into_iter();
        own.filter(|store| store.location == location)
            .all(|store| store.memory_type == MemoryType::WriteBack)
    }

    /// Lets one of a CPU's write-combining stores leave, the one that `choice` numbers among those that may;
    /// says whether there are more, or `None` if there is no such one.
    ///
    /// # Errors
    /// [`Stop::Violation`] if a property is violated by this step.
    pub fn drain_combining(
        &self,
        state: &mut State,
        cpu: usize,
        choice: usize,
    ) -> Result<Option<bool>, Stop> {
        let mut stores = self.layout.combining(state, cpu);
        let leaving = slots_that_may_leave(&stores);
        let Some(&slot) = leaving.get(choice) else {
            return Ok(None);
        };
        let store = stores.remove(slot);
        self.layout.put_combining(state, cpu, stores);
        if store.location != USER_MEMORY {
            let arrived = Buffered {
                location: store.location,
                value: store.value,
                version: store.bytes,
            };
            self.write(state, cpu, arrived)?;
        }
        Ok(Some(choice + 1 < leaving.len()))
    }

    /// Lets an event empty the write-combining buffers, as far as its reading says; `false` while it has
    /// to wait for that, or for the store buffer.
    pub(crate) fn empties(&self, state: &mut State, cpu: usize, event: Event) -> bool {
        self.layout.buffered_len(state, cpu) == 0 && self.empties_combining(state, cpu, event)
    }

    /// As [`Machine::empties`], for the write-combining buffers alone.
    pub(crate) fn empties_combining(&self, state: &mut State, cpu: usize, event: Event) -> bool {
        if self.layout.combining_len(state, cpu) == 0 {
            return true;
        }
        let mut stores = self.layout.combining(state, cpu);
        if !self.lets_go(state, &stores, event) {
            return false;
        }
        for store in &mut stores {
            store.stage = Stage::Started;
        }
        self.layout.put_combining(state, cpu, stores);
        true
    }

    /// Says whether an event need not wait for these stores: they are on their way to a device, and by the
    /// event's reading that is enough.
    pub(crate) fn lets_go(&self, state: &State, stores: &[Combining], event: Event) -> bool {
        let starts = event(self.cpu_model.write_combining) == Reading::Started
            && !broken(Mutant::StartedIsRetired);
        stores
            .iter()
            .all(|store| starts && self.layout.frame_use(state, store.frame) == FrameUse::Device)
    }

    /// A driver reads back from its device: blocked until everything that has started towards it, from any
    /// CPU, and all that this CPU has for it, has arrived (H27).
    pub(crate) fn read_back(&self, state: &mut State, cpu: usize, device: u8) -> bool {
        if broken(Mutant::ReadBackPushesNothing) {
            return true;
        }
        if !self.empties(state, cpu, |readings| readings.uncached) {
            return false;
        }
        (0..self.layout.cpus()).all(|other| {
            let mut stores = self.layout.combining(state, other).into_iter();
            !stores.any(|store| store.frame == device && store.stage == Stage::Started)
        })
    }

    /// Fails if a frame is about to be cached under two memory types while an access of the other one may
    /// still come (H28): speculation through a write-back entry, or a store that waits, or an access through
    /// an entry that is still in use.
    pub(crate) fn refuse_mixed_types(
        &self,
        state: &State,
        cpu: usize,
        filled: Translation,
    ) -> Result<(), Stop> {
        if !self.checks(Property::StaleSpeculation) || broken(Mutant::MemoryTypesMix) {
            return Ok(());
        }
        for other in 0..self.layout.cpus() {
            let conflicts = |entry: &Translation, is_usable: bool| {
                entry.frame == filled.frame
                    && entry.memory_type != filled.memory_type
                    && (is_usable || entry.memory_type == MemoryType::WriteBack)
            };
            let usable = self
                .layout
                .set(state, other, crate::state::CacheSet::Cached);
            let tainted = self
                .layout
                .set(state, other, crate::state::CacheSet::Tainted);
            let found = crate::state::members(usable | tainted)
                .map(|number| (self.translations.get(number), usable >> number & 1 != 0))
                .find(|(entry, is_usable)| entry.level == 0 && conflicts(entry, *is_usable));
            let waits = self
                .layout
                .combining(state, other)
                .into_iter()
                .any(|store| {
                    store.frame == filled.frame && store.memory_type != filled.memory_type
                });
            let how = match (found, waits) {
                (Some((entry, _)), _) => format!(
                    "CPU {other} may still use its {entry} as {}",
                    entry.memory_type.name()
                ),
                (None, true) => format!("a store of CPU {other} still waits to be combined"),
                (None, false) => continue,
            };
            let what = format!(
                "may hold its {filled} as {} while {how}",
                filled.memory_type.name()
            );
            return Err(Stop::Violation(Violation::through(
                Property::StaleSpeculation,
                cpu,
                filled,
                what,
            )));
        }
        Ok(())
    }
}

/// Lists the stores that may leave next: of those to one place, the oldest, which stands first. A place
/// without data has none to keep in order.
fn slots_that_may_leave(stores: &[Combining]) -> Vec<usize> {
    let is_oldest = |slot: usize| {
        let location = stores[slot].location;
        let mut older = stores[..slot].iter();
        location == USER_MEMORY || older.all(|store| store.location != location)
    };
    let most = match broken(Mutant::WriteCombiningInOrder) {
        true => stores.len().min(1),
        false => stores.len(),
    };
    (0..most).filter(|&slot| is_oldest(slot)).collect()
}
