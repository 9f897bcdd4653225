//! What a flush owes, by the definition: what it covers, and what is stale when it has returned.

use super::*;

impl Naive<'_> {
    pub(super) fn flush(
        &self,
        state: &State,
        issuer: usize,
        spaces: Spaces,
        range: FlushRange,
        by_root: bool,
    ) -> Flush {
        let mut tables = state.memory.tables.clone();
        let mut overwritten = state.memory.overwritten.clone();
        overwritten.extend(self.with_stores_of(state, issuer, &mut tables));
        Flush {
            issuer,
            spaces,
            range,
            by_root,
            tables,
            overwritten,
        }
    }

    /// Keeps a promise, by its CPU and its slot; without one, software has broken a rule.
    pub(super) fn keep(&self, mut state: State, promise: Option<(usize, usize)>) -> Next {
        let (beginner, slot) = promise.ok_or(Property::Panic)?;
        let flush = state.cpu(beginner).promises[slot].take();
        let flush = flush.expect("it is open");
        let now = state.clone();
        for cpu in 0..2 {
            taint(&mut state, cpu, |entry| {
                self.stale(&now, &flush, cpu, entry)
            });
        }
        state.memory().returned.push(flush);
        Ok(state)
    }

    /// Returns the addresses at which a CPU's entry is one that a flush, now that it has returned, should have
    /// removed.
    pub(super) fn stale(
        &self,
        state: &State,
        flush: &Flush,
        cpu: usize,
        entry: &Cached,
    ) -> Addresses {
        match self.covers(state, flush, cpu, entry) {
            true => Addresses::that(|addr| flush.range.contains(addr) && entry.matches(addr)),
            false => Addresses::NONE,
        }
    }

    /// Says whether a CPU's entry is one that a flush, now that it has returned, should have removed.
    ///
    /// That is an entry in its space and range that was read from a store which was overwritten when it
    /// began, and that the page tables did not grant then, and do not now, as its issuer sees them. A
    /// CPU that has mapped the same once more may use it already: its own stores count, too.
    fn covers(&self, state: &State, flush: &Flush, cpu: usize, entry: &Cached) -> bool {
        let (upper, leaf) = entry.read;
        let was_overwritten = |name| flush.overwritten.contains(&name);
        let root = state.cpus[cpu].cr3;
        if !flush.spaces.contain(PhysAddr(u64::from(root) << 12))
            || !(was_overwritten(upper) || leaf.is_some_and(was_overwritten))
        {
            return false;
        }
        let mut now = state.memory.tables.clone();
        self.with_stores_of(state, flush.issuer, &mut now);
        self.with_stores_of(state, cpu, &mut now);
        !self.grants(&flush.tables, root, entry) && !self.grants(&now, root, entry)
    }

    /// Does a CPU's buffered stores in a copy of the page tables; returns the stores overwritten thereby.
    pub(super) fn with_stores_of(
        &self,
        state: &State,
        cpu: usize,
        tables: &mut Tables,
    ) -> Vec<StoreName> {
        let stores = state.cpus[cpu].buffered_entries();
        stores
            .filter_map(|name| tables.insert(self.entry(name).0, name))
            .collect()
    }

    /// Says whether page tables grant what an entry grants.
    pub(super) fn grants(&self, tables: &Tables, root: u8, wanted: &Cached) -> bool {
        let (mut frame, mut writable) = (root, true);
        for level in (wanted.level + 1..=2).rev() {
            let location = (frame, index_of(VirtAddr(wanted.start), level));
            let Some(&name) = tables.get(&location) else {
                return false;
            };
            let (_, entry) = self.entry(name);
            if !entry.is_present() {
                return false;
            }
            frame = number(entry.frame());
            writable &= entry.is_writable();
        }
        frame == wanted.frame && (writable || !wanted.writable)
    }
}

/// Finds the open promise that a space's root names: the CPU's own, else the other's. It must be one.
pub(super) fn meant(state: &State, cpu: usize, root: PhysAddr) -> Option<(usize, usize)> {
    let of = |cpu: usize| -> Vec<(usize, usize)> {
        let promises = state.cpus[cpu].promises.iter().enumerate();
        let meant = promises.filter(|(_, flush)| {
            let flush = flush.as_ref();
            flush.is_some_and(|flush| flush.by_root && flush.spaces == Spaces::one(root))
        });
        meant.map(|(slot, _)| (cpu, slot)).collect()
    };
    let own = of(cpu);
    let meant = if own.is_empty() { of(1 - cpu) } else { own };
    match meant[..] {
        [one] => Some(one),
        _ => None,
    }
}

/// Finds an open promise by its number: eight slots a CPU, counted from 1.
pub(super) fn numbered(state: &State, word: u64) -> Option<(usize, usize)> {
    let number = usize::try_from(word).ok()?.checked_sub(1)?;
    let promise = (number / 8, number % 8);
    let cpu = state.cpus.get(promise.0)?;
    let is_open = cpu.promises.get(promise.1)?.is_some();
    is_open.then_some(promise)
}
