//! What the machine does without being asked: walks begin, read level by level, and entries are evicted.

use crate::entry::{self, Kind};
use crate::machine::{Machine, Stop};
use crate::walk::Walk;

/// Walks that a CPU has in flight at most.
const MOST_WALKS: usize = 3;

impl Machine<'_> {
    /// Begins a walk for any address that the test knows (H4).
    pub(crate) fn begin_walk(&mut self, cpu: usize) -> Result<(), Stop> {
        if self.cpus[cpu].walks.len() == MOST_WALKS || self.board.addresses.is_empty() {
            return Ok(());
        }
        let address = *self.random.one_of(&self.board.addresses);
        let walk = self.cpus[cpu].walk(address, &mut self.random);
        self.cpus[cpu].walks.push(walk);
        if self.random.chance(self.temper.whole_walk) {
            let newest = self.cpus[cpu].walks.len() - 1;
            while self.cpus[cpu].walks.len() > newest {
                self.read_level(cpu, newest)?;
            }
        }
        Ok(())
    }

    /// Goes on with one of the walks of a CPU.
    pub(crate) fn go_on_with_a_walk(&mut self, cpu: usize) -> Result<(), Stop> {
        let walks = self.cpus[cpu].walks.len();
        if walks == 0 {
            return Ok(());
        }
        let index = self.random.below(walks);
        self.read_level(cpu, index)
    }

    /// Reads the next level of a walk, whatever the time since it read the one above (H12a).
    fn read_level(&mut self, cpu: usize, index: usize) -> Result<(), Stop> {
        let mut walk = self.cpus[cpu].walks[index];
        self.see_more(cpu, &mut walk);
        let (value, is_forwarded) = self.read_entry(cpu, &mut walk)?;
        let kind = entry::kind(value, walk.level);
        if kind == Kind::Unusable {
            self.cpus[cpu].walks.remove(index);
            return Ok(());
        }
        if self.board.tracks_accessed && value & entry::ACCESSED == 0 {
            if is_forwarded {
                // A in memory can be set only once the store is there.
                self.cpus[cpu].walks.remove(index);
                return Ok(());
            }
            self.set_bits(walk.entry(), entry::ACCESSED);
        }
        match kind {
            Kind::Table(below) => {
                walk.descend(value, below);
                self.cache_upper_level(cpu, &walk);
                self.cpus[cpu].walks[index] = walk;
            }
            Kind::Page(_) | Kind::Unusable => {
                let leaf = self.leaf(cpu, &walk, value);
                self.cache_leaf(cpu, leaf);
                self.cpus[cpu].walks.remove(index);
            }
        }
        Ok(())
    }

    /// Lets a walk see more of its CPU's stores, or as many as before: it never goes back (H25).
    fn see_more(&mut self, cpu: usize, walk: &mut Walk) {
        let newest = self.cpus[cpu].stores;
        if newest <= walk.seen {
            return;
        }
        if self.random.chance(self.temper.sees_newest) {
            walk.seen = newest;
        } else {
            walk.seen += self.random.below((newest - walk.seen) as usize + 1) as u64;
        }
    }

    /// Evicts something (H5).
    pub(crate) fn evict(&mut self, cpu: usize) {
        let number = self.random.below(usize::MAX);
        let upper = self.random.chance(50);
        let cpu = &mut self.cpus[cpu];
        match upper {
            true => cpu.psc.evict(number),
            false => cpu.tlb.evict(number),
        }
    }
}
