//! What a TLB does by itself: it fills one entry at a time, and evicts one.

use super::*;

impl Naive<'_> {
    /// H4: a walk begins at CR3 or goes on at a cached upper entry (H11), one level, and fills one entry.
    pub(super) fn fills(&self, state: &State, cpu: usize) -> Vec<Next> {
        let cached = &state.cpus[cpu].cached;
        let upper = cached.iter().filter(|entry| entry.level == 1);
        let starts = std::iter::once(None).chain(upper.map(Some));
        let walked = starts.flat_map(|above| self.read_table(state, cpu, above));
        let news = walked.filter(|walked| {
            walked
                .as_ref()
                .map_or(true, |filled| !cached.contains(filled))
        });
        news.map(|filled| {
            let mut next = state.clone();
            next.cpu(cpu).cached.insert(filled?);
            Ok(next)
        })
        .collect()
    }

    /// Lists what one level of a walk can find in the table that an entry leads to, or CR3.
    pub(super) fn read_table(
        &self,
        state: &State,
        cpu: usize,
        above: Option<&Cached>,
    ) -> Vec<Walked> {
        let table = above.map_or(state.cpus[cpu].cr3, |above| above.frame);
        if state.memory.frames[usize::from(table)] != Some(FrameKind::Table) {
            return vec![Err(Property::TableUseAfterFree)];
        }
        // H25: memory, or any of this CPU's own buffered stores; but where the walk has seen one of those above,
        // it sees every older one.
        let own: Vec<StoreName> = state.cpus[cpu].buffered_entries().collect();
        let seen = above.and_then(|above| own.iter().position(|&name| name == above.read.0));
        let seen = &own[..seen.map_or(0, |seen| seen + 1)];
        let newest_seen = |at: Location| seen.iter().rposition(|&name| self.entry(name).0 == at);
        let in_memory = state.memory.tables.values().copied();
        let in_memory = in_memory.filter(|&name| newest_seen(self.entry(name).0).is_none());
        let own = own.iter().enumerate().filter(|&(position, &name)| {
            newest_seen(self.entry(name).0).is_none_or(|newest| position >= newest)
        });
        in_memory
            .chain(own.map(|(_, &name)| name))
            .filter(|&name| self.entry(name).0.0 == table && self.entry(name).1.is_present())
            .map(|name| Ok(self.filled(state, cpu, above, name)))
            .collect()
    }

    /// Makes the entry that a walk fills when it reads what a store wrote.
    fn filled(&self, state: &State, cpu: usize, above: Option<&Cached>, name: StoreName) -> Cached {
        let ((_, index), entry) = self.entry(name);
        let mut filled = Cached {
            level: 1,
            start: u64::from(index) << 21,
            frame: number(entry.frame()),
            writable: entry.is_writable(),
            stale: Addresses::NONE,
            read: (name, None),
        };
        if let Some(above) = above {
            filled.level = 0;
            filled.start = above.start + (u64::from(index) << 12);
            filled.writable &= above.writable;
            filled.read = (above.read.0, Some(name));
            let is_freed = state.memory.frames[usize::from(filled.frame)].is_none();
            filled.stale = if is_freed {
                Addresses::ALL
            } else {
                above.stale
            };
        }
        // What a flush that has returned relies on may still wait in its issuer's buffer.
        for flush in &state.memory.returned {
            let stale = self.stale(state, flush, cpu, &filled);
            filled.stale = filled.stale.union(stale);
        }
        filled.stale = filled.stale.of(&filled);
        filled
    }
}

/// H5: any one entry may go.
pub(super) fn evictions(state: &State, cpu: usize) -> Vec<Next> {
    let cached = state.cpus[cpu].cached.iter();
    let without = cached.map(|evicted| {
        let mut next = state.clone();
        next.cpu(cpu).cached.remove(evicted);
        Ok(next)
    });
    without.collect()
}
