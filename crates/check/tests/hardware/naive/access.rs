//! Accesses by virtual address: through an entry that is in the TLB, or a walk.

use lazytlb_model::{Cr4, FAULT, MemoryModel, MemoryType, Privilege, Property, Rmw};

use super::state::{Buffered, Cached, Combining, State, WordStore, push};
use super::walk::Sees;
use super::{Caching, Naive, Next};
use crate::script::word_of_frame;

/// An access by virtual address.
#[derive(Clone, Copy)]
pub(super) struct Access {
    pub(super) addr: u64,
    pub(super) privilege: Privilege,
    pub(super) does: Does,
}

/// What an access does.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Does {
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
}

impl Access {
    /// Says whether an entry allows the access, as far as permissions go.
    fn is_allowed(&self, entry: &Cached, cr4: Cr4) -> bool {
        let fetches = self.does == Does::Fetch;
        let by_mode = match self.privilege {
            Privilege::User => entry.user,
            Privilege::Supervisor => !(fetches && entry.user && cr4.has(Cr4::SMEP)),
        };
        by_mode && (entry.executable || !fetches) && (entry.writable || !self.does.writes())
    }
}

impl Naive<'_> {
    /// Lists what an access can lead to.
    ///
    /// If the TLB holds entries for the address, it goes through one of them (H5, H7). If not, it waits for
    /// the walks that hardware takes anyway. It faults through an entry, or by a walk: its own, which sees all
    /// earlier stores of this CPU (H25), though the TLB may hold an entry by now. A store through an entry
    /// without D takes a walk of its own (H21). A fetch's walk may have read each entry earlier (H40).
    pub(super) fn access(&self, state: &State, cpu: usize, access: Access, out: &mut Vec<Next>) {
        let of = &state.cpus[cpu];
        let is_allowed = |entry: &Cached| access.is_allowed(entry, of.cr4);
        let hits: Vec<Cached> = self
            .members(of.cached)
            .filter(|entry| entry.is_leaf() && entry.covers(access.addr))
            .filter(|entry| entry.global || entry.pcid == of.pcid())
            .collect();
        let walks_itself = self.caching == Caching::Nothing;
        let sees = match access.does {
            Does::Fetch => Sees::Formerly,
            _ => Sees::AllOwn,
        };
        let mut sets_dirty = access.does.writes() && hits.is_empty();
        let mut faults = false;
        for hit in &hits {
            if !is_allowed(hit) {
                faults = true;
            } else if access.does.writes() && !hit.dirty {
                sets_dirty = true;
            } else {
                self.go_through(state, cpu, hit, access.does, out);
            }
        }
        if sets_dirty || walks_itself || access.does == Does::Fetch {
            let marks = |entry: &Cached| access.does.writes() && is_allowed(entry);
            for (found, after) in self.walks_to_pages(state, cpu, access.addr, sees, marks) {
                match is_allowed(&found) {
                    true => self.go_through(&after, cpu, &found, access.does, out),
                    false => self.fault(&after, cpu, access.addr, out),
                }
            }
        }
        if faults || self.walk_faults(state, cpu, access.addr, sees, is_allowed) {
            self.fault(state, cpu, access.addr, out);
        }
    }

    fn fault(&self, state: &State, cpu: usize, addr: u64, out: &mut Vec<Next>) {
        let mut next = *state;
        self.page_fault(&mut next, cpu, addr);
        out.push(Ok(self.done(next, cpu, FAULT)));
    }

    /// Does an access through an entry; nothing while it has to wait for a buffer.
    fn go_through(
        &self,
        state: &State,
        cpu: usize,
        entry: &Cached,
        does: Does,
        out: &mut Vec<Next>,
    ) {
        let foreign = entry.root != state.cpus[cpu].root && !entry.global;
        if foreign && self.checks(Property::ForeignTranslation) {
            return out.push(Err(Property::ForeignTranslation));
        }
        if does == Does::Fetch {
            return out.push(Ok(self.done(*state, cpu, 0)));
        }
        let word = word_of_frame(entry.frame).expect("a script maps nothing but pages") as u8;
        let readings = self.script.setting.cpu_model.write_combining;
        let mut next = *state;
        // Each access to uncached memory goes there at once, in order, and empties the buffers (H26).
        if entry.memory_type == MemoryType::Uncached
            && !self.empties(&mut next, cpu, readings.uncached)
        {
            return;
        }
        match does {
            Does::Fetch => unreachable!("see above"),
            Does::Load if next.cpus[cpu].load_waits(word) => {}
            Does::Load => {
                let value = next.load(cpu, word);
                out.push(Ok(self.done(next, cpu, value)));
            }
            Does::Rmw {
                bytes,
                rmw,
                operand,
            } => {
                if self.empties(&mut next, cpu, readings.locked)
                    && !next.cpus[cpu].combines_word(word)
                {
                    let old = next.modify(word, bytes, rmw, operand);
                    out.push(Ok(self.done(next, cpu, old)));
                }
            }
            Does::Store {
                bytes,
                value,
                non_temporal,
            } => {
                let store = WordStore { word, bytes, value };
                // The type "uncached" overrides the hint.
                let combines = match entry.memory_type {
                    MemoryType::WriteBack => non_temporal,
                    MemoryType::WriteCombining => true,
                    MemoryType::Uncached => false,
                };
                let is_done = if combines && self.script.features.write_combining > 0 {
                    self.combine(&mut next, cpu, store, entry)
                } else {
                    self.store_in_page(&mut next, cpu, store, entry)
                };
                if is_done {
                    out.push(Ok(self.done(next, cpu, 0)));
                }
            }
        }
    }

    /// Stores in a page, other than by combining; says whether that is possible now.
    fn store_in_page(
        &self,
        next: &mut State,
        cpu: usize,
        store: WordStore,
        entry: &Cached,
    ) -> bool {
        if next.cpus[cpu].combines_word(store.word) {
            return false;
        }
        if entry.memory_type == MemoryType::Uncached {
            next.write(store);
            return true;
        }
        self.store(
            next,
            cpu,
            Buffered::Word(store, Some((entry.frame, entry.memory_type))),
        )
    }

    /// Stores into the write-combining buffers; says whether that is possible now. Stores to one place
    /// combine, and keep their order with every other store to it.
    fn combine(&self, next: &mut State, cpu: usize, store: WordStore, entry: &Cached) -> bool {
        let of = &mut next.cpus[cpu];
        let fenced = of.buffered().any(|slot| slot == Buffered::Barrier);
        if fenced || of.buffers_word(store.word) {
            return false;
        }
        let mut waiting = of.combining.iter_mut().flatten();
        if let Some(slot) = waiting.find(|slot| slot.store.word == store.word && !slot.started) {
            let former = slot.store;
            slot.store.value = store.over(former.value);
            slot.store.bytes = match (former.bytes, store.bytes) {
                (0, _) | (_, 0) => 0,
                (one, other) => one | other,
            };
            return true;
        }
        let slot = Combining {
            store,
            frame: entry.frame,
            memory_type: entry.memory_type,
            started: false,
        };
        let room = usize::from(self.script.features.write_combining);
        let has_room = push(&mut of.combining, room, slot);
        of.order_combining();
        has_room
    }

    /// Puts a store into the store buffer, or into memory where there is none; says whether there was room.
    pub(super) fn store(&self, next: &mut State, cpu: usize, store: Buffered) -> bool {
        match self.script.setting.memory {
            MemoryModel::Tso { buffer_depth } => {
                push(&mut next.cpus[cpu].buffer, usize::from(buffer_depth), store)
            }
            MemoryModel::Sc => {
                arrive(next, store);
                true
            }
        }
    }
}

/// Makes a store from a store buffer visible to everyone.
pub(super) fn arrive(next: &mut State, store: Buffered) {
    match store {
        Buffered::Word(store, _) => next.write(store),
        Buffered::Entry(place, value) => next.tables[usize::from(place)] = value,
        Buffered::Barrier => {}
    }
}
