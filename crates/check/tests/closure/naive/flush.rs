//! What a flush owes, by the definition: what it covers, and what is stale when it has returned.

use super::*;

impl Naive<'_> {
    pub(super) fn flush(&self, state: &State, issuer: usize, root: u8, range: FlushRange) -> Flush {
        let mut tables = state.memory.tables.clone();
        let mut overwritten = state.memory.overwritten.clone();
        overwritten.extend(self.with_stores_of(state, issuer, &mut tables));
        Flush {
            issuer,
            root,
            range,
            tables,
            overwritten,
        }
    }

    pub(super) fn return_from(&self, state: &mut State, flush: Rc<Flush>) {
        let now = state.clone();
        for cpu in 0..2 {
            taint(state, cpu, |entry| self.covers(&now, &flush, cpu, entry));
        }
        state.memory().returned.push(flush);
    }

    /// Says whether a CPU's entry is one that a flush, now that it has returned, should have removed.
    ///
    /// That is an entry in its space and range that was read from a store which was overwritten when it
    /// began, and that the page tables did not grant then, and do not now, as its issuer sees them. A
    /// CPU that has mapped the same once more may use it already: its own stores count, too.
    pub(super) fn covers(&self, state: &State, flush: &Flush, cpu: usize, entry: &Cached) -> bool {
        let (upper, leaf) = entry.read;
        let was_overwritten = |name| flush.overwritten.contains(&name);
        if state.cpus[cpu].cr3 != flush.root
            || !(was_overwritten(upper) || leaf.is_some_and(was_overwritten))
        {
            return false;
        }
        let is_in_range = match flush.range {
            FlushRange::All => true,
            FlushRange::Pages(pages) => pages.pages().any(|page| entry.matches(page)),
        };
        let mut now = state.memory.tables.clone();
        self.with_stores_of(state, flush.issuer, &mut now);
        self.with_stores_of(state, cpu, &mut now);
        is_in_range
            && !self.grants(&flush.tables, flush.root, entry)
            && !self.grants(&now, flush.root, entry)
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
