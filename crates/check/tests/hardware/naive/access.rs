//! Accesses by virtual address: through an entry that is in the TLB, or a walk.

use lazytlb_model::cpu_model::{DirtyUpdate, UncachedLoads};
use lazytlb_model::entry::bits;
use lazytlb_model::{Cr4, FAULT, MemoryModel, MemoryType, Privilege, Property, Rmw};

use super::state::{Buffered, Cached, Combining, LateStore, State, WordStore, push};
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

    /// Returns what its own walk may read.
    fn sees(self) -> Sees {
        match self {
            Does::Fetch => Sees::Formerly,
            Does::Load | Does::Store { .. } | Does::Rmw { .. } => Sees::AllOwn,
        }
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
    /// the walks that hardware takes anyway, or takes one of its own, whose updates of A and D come later (H41).
    /// It faults through an entry, or by a walk: its own, which sees all earlier stores of this CPU (H25), though
    /// the TLB may hold an entry by now. A store through an entry without D takes a walk of its own (H21). A
    /// store may also wait, and be translated after later loads of its CPU (H41). A fetch's walk may have read
    /// each entry earlier (H40).
    pub(super) fn access(&self, state: &State, cpu: usize, access: Access, out: &mut Vec<Next>) {
        for (found, after) in self.ways_through(state, cpu, access) {
            self.go_through(&after, cpu, &found, access.does, out);
        }
        self.wait_untranslated(state, cpu, access, out);
        let of = &state.cpus[cpu];
        let is_allowed = |entry: &Cached| access.is_allowed(entry, of.cr4);
        let refused = |entry: &Cached| !is_allowed(entry);
        let sees = access.does.sees();
        if self.walks_itself(&access, &self.hits(state, cpu, access.addr)) {
            for walked in self.walks_to_pages(state, cpu, access.addr, sees, |_| false) {
                if refused(&walked.entry) {
                    self.fault(&walked.after, cpu, access.addr, out);
                }
            }
        }
        let hits = self.hits(state, cpu, access.addr);
        if hits.iter().any(refused) || self.walk_faults(state, cpu, access.addr, sees, is_allowed) {
            self.fault(state, cpu, access.addr, out);
        }
    }

    /// Returns what the TLB holds for an address.
    fn hits(&self, state: &State, cpu: usize, addr: u64) -> Vec<Cached> {
        let of = &state.cpus[cpu];
        self.members(of.cached)
            .filter(|entry| entry.is_leaf() && entry.covers(addr))
            .filter(|entry| entry.global || entry.pcid == of.pcid())
            .collect()
    }

    /// Says whether an access may take a walk of its own that fills nothing: where bits may be set late, where
    /// D is to be set, where entries may be read earlier, or where there is no TLB.
    fn walks_itself(&self, access: &Access, hits: &[Cached]) -> bool {
        self.caching == Caching::Nothing
            || self.script.features.accessed_dirty
            || access.does == Does::Fetch
            || access.does.writes() && (hits.is_empty() || hits.iter().any(|hit| !hit.dirty))
    }

    /// Lists the entries that an access may go through, each with the state after the walk that it takes.
    fn ways_through(&self, state: &State, cpu: usize, access: Access) -> Vec<(Cached, State)> {
        let of = &state.cpus[cpu];
        let is_allowed = |entry: &Cached| access.is_allowed(entry, of.cr4);
        let hits = self.hits(state, cpu, access.addr);
        let mut ways = Vec::new();
        for hit in hits.iter().filter(|hit| is_allowed(hit)) {
            if hit.dirty || !access.does.writes() {
                ways.push((*hit, *state));
            } else {
                self.set_dirty_without_w(state, cpu, access.addr, hit, &mut ways);
            }
        }
        if self.walks_itself(&access, &hits) {
            let marks = |entry: &Cached| access.does.writes() && is_allowed(entry);
            let sees = access.does.sees();
            let walked = self.walks_to_pages(state, cpu, access.addr, sees, marks);
            let walked = walked
                .into_iter()
                .filter(|walked| is_allowed(&walked.entry));
            ways.extend(walked.map(|walked| (walked.entry, walked.after)));
        }
        ways
    }

    /// H42: a store through an entry without D may set D in what memory holds by now, if that has only lost W.
    fn set_dirty_without_w(
        &self,
        state: &State,
        cpu: usize,
        addr: u64,
        hit: &Cached,
        ways: &mut Vec<(Cached, State)>,
    ) {
        if self.script.setting.cpu_model.dirty != DirtyUpdate::MaySetWithoutW {
            return;
        }
        for walked in self.walks_to_pages(state, cpu, addr, Sees::AllOwn, |_| false) {
            let found = walked.entry;
            let alike = Cached {
                writable: found.writable,
                dirty: found.dirty,
                ..*hit
            };
            let value = state.tables[usize::from(walked.place)];
            if found == alike && walked.in_memory && value & bits::WRITABLE == 0 {
                let mut after = walked.after;
                after.cpus[cpu].owes_dirty |= 1 << walked.place;
                ways.push((*hit, after));
            }
        }
    }

    /// H41: a store waits untranslated.
    fn wait_untranslated(&self, state: &State, cpu: usize, access: Access, out: &mut Vec<Next>) {
        let Does::Store {
            bytes,
            value,
            non_temporal: false,
        } = access.does
        else {
            return;
        };
        let MemoryModel::Tso { buffer_depth } = self.script.setting.memory else {
            return;
        };
        let late = Buffered::Late(LateStore {
            addr: access.addr,
            privilege: access.privilege,
            bytes,
            value,
            passed: 0,
        });
        let mut next = *state;
        if push(&mut next.cpus[cpu].buffer, usize::from(buffer_depth), late) {
            out.push(Ok(self.done(next, cpu, 0)));
        }
    }

    /// H41: a store that waits is translated, to ordinary memory where no later access of its CPU was before it.
    /// If its walk would fault, it has walked before.
    pub(super) fn translate(&self, state: &State, cpu: usize, out: &mut Vec<Next>) {
        for (at, slot) in state.cpus[cpu].buffered().enumerate() {
            let Buffered::Late(late) = slot else { continue };
            let does = Does::Store {
                bytes: late.bytes,
                value: late.value,
                non_temporal: false,
            };
            let access = Access {
                addr: late.addr,
                privilege: late.privilege,
                does,
            };
            if self.is_walked_through_younger(state, cpu, at, late.addr) {
                continue;
            }
            for (entry, mut after) in self.ways_through(state, cpu, access) {
                if self.is_foreign(state, cpu, &entry) {
                    out.push(Err(Property::ForeignTranslation));
                    continue;
                }
                let word = word_of_frame(entry.frame).expect("a script maps nothing but pages");
                let word = word as u8;
                if entry.memory_type != MemoryType::WriteBack
                    || late.passed >> word & 1 != 0
                    || after.cpus[cpu].combines_word(word)
                {
                    continue;
                }
                let store = WordStore {
                    word,
                    bytes: late.bytes,
                    value: late.value,
                };
                let page = Some((entry.frame, entry.memory_type));
                after.cpus[cpu].buffer[at] = Some(Buffered::Word(store, page));
                out.push(Ok(after));
            }
        }
    }

    fn is_foreign(&self, state: &State, cpu: usize, entry: &Cached) -> bool {
        let foreign = entry.root != state.cpus[cpu].root && !entry.global;
        foreign && self.checks(Property::ForeignTranslation)
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
        if self.is_foreign(state, cpu, entry) {
            return out.push(Err(Property::ForeignTranslation));
        }
        if does == Does::Fetch {
            return out.push(Ok(self.done(*state, cpu, 0)));
        }
        let word = word_of_frame(entry.frame).expect("a script maps nothing but pages") as u8;
        let readings = self.script.setting.cpu_model.write_combining;
        let mut next = *state;
        // Each access to uncached memory goes there at once, and empties the buffers (H26); a load maybe only the
        // write-combining ones (H43).
        if entry.memory_type == MemoryType::Uncached {
            let passes = self.script.setting.cpu_model.uncached_loads == UncachedLoads::PassStores;
            let may_go = match does == Does::Load && passes {
                true => self.lets_go(&mut next, cpu, readings.uncached),
                false => self.empties(&mut next, cpu, readings.uncached),
            };
            if !may_go {
                return;
            }
        }
        match does {
            Does::Fetch => unreachable!("see above"),
            Does::Load if next.cpus[cpu].load_waits(word) => {}
            Does::Load => {
                let value = next.load(cpu, word);
                next.cpus[cpu].pass(word);
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
                    self.update_all(&mut next, cpu);
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
        of.pass(store.word);
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

    /// Puts a store into the store buffer, or into memory where there is none; says whether that is possible now.
    pub(super) fn store(&self, next: &mut State, cpu: usize, store: Buffered) -> bool {
        match self.script.setting.memory {
            MemoryModel::Tso { buffer_depth } => {
                push(&mut next.cpus[cpu].buffer, usize::from(buffer_depth), store)
            }
            MemoryModel::Sc => {
                if let Buffered::Entry(store) = store
                    && let new = store.over(next.tables[usize::from(store.place)])
                    && self.is_under_update(next, store.place, new)
                {
                    return false;
                }
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
        Buffered::Entry(store) => {
            let entry = &mut next.tables[usize::from(store.place)];
            *entry = store.over(*entry);
        }
        Buffered::Barrier => {}
        Buffered::Late(_) => unreachable!("it is translated first"),
    }
}
