//! Walks of freed tables, and what they end in.
//!
//! A search stops where such a walk becomes possible, or ([`GarbageWalks::Followed`]) follows the walk to
//! its ends (H33): a bogus entry, the same with G=1, which a CR3 load does not remove,
//! and an Accessed bit written into whatever the frame holds now. The fourth end, a machine check outside
//! DRAM (H32), would end everything at once; where walks are followed, garbage is taken to point into DRAM.

use crate::call::Cr4;
use crate::closure::TableRead;
use crate::entry::MemoryType;
use crate::machine::{GarbageWalks, Machine, Stop};
use crate::mutant::{Mutant, broken};
use crate::state::{CacheSet, FrameUse, State, members};
use crate::translation::{MOST_PIECES_GONE, Translation, index_shift};
use crate::violation::{Property, Violation};

impl Machine {
    /// Fails if a CPU may still walk a table that was freed; or follows the walks.
    pub(crate) fn refuse_walks_of(&self, state: &mut State, table: u8) -> Result<(), Stop> {
        for cpu in 0..self.layout.cpus() {
            let in_cr3 = self.layout.cr3(state, cpu) == table;
            let through = members(self.may_be_cached(state, cpu))
                .map(|number| self.translations.get(number))
                .find(|entry| entry.level > 0 && entry.frame == table);
            if !in_cr3 && through.is_none() {
                continue;
            }
            if self.garbage == GarbageWalks::Refused {
                let through = if in_cr3 { None } else { through };
                return Err(self.garbage_walk(cpu, table, through));
            }
            self.close(state, cpu)?;
        }
        Ok(())
    }

    /// A walk reads a frame that is no table: garbage.
    pub(crate) fn walk_garbage(
        &self,
        state: &mut State,
        cpu: usize,
        table: TableRead,
    ) -> Result<(), Stop> {
        if self.garbage == GarbageWalks::Refused {
            return Err(self.garbage_walk(cpu, table.frame, table.through));
        }
        let is_in_use = self.layout.frame_use(state, table.frame) != FrameUse::Free;
        if is_in_use
            && self.checks(Property::CorruptedFrame)
            && !broken(Mutant::GarbageWalkWritesNothing)
        {
            // H3: before it caches an entry that has A = 0, it sets A, in what is no page table any more.
            let what = format!(
                "may walk, speculatively and at any time, a freed table in frame {}, which is reused, and \
                 set an Accessed bit there: memory corruption",
                table.frame
            );
            return Err(Stop::Violation(Violation {
                frame: Some(table.frame),
                through: table.through,
                ..Violation::on_cpu(Property::CorruptedFrame, cpu, what)
            }));
        }
        let pge = Cr4(self.layout.cr4(state, cpu)).has(Cr4::PGE);
        let global = [Some(false), pge.then_some(true)];
        let global = match broken(Mutant::GarbageNeverGlobal) {
            true => [Some(false), None],
            false => global,
        };
        for (_, (_, index)) in self.entries.iter().filter(|(_, at)| at.0 == table.frame) {
            for global in global.into_iter().flatten() {
                let bogus = self.bogus(state, cpu, table, index, global);
                let number = self.translations.number(bogus)?;
                // Whoever uses it uses what nobody mapped.
                let members = self.layout.set(state, cpu, CacheSet::Tainted) | 1 << number;
                self.layout.put_set(state, cpu, CacheSet::Tainted, members);
            }
        }
        Ok(())
    }

    /// Returns what garbage at an index of a table may translate to: anything, allowed everything.
    fn bogus(
        &self,
        state: &State,
        cpu: usize,
        table: TableRead,
        index: u16,
        global: bool,
    ) -> Translation {
        let start = table.start.0 | u64::from(index) << index_shift(table.level);
        Translation {
            level: 0,
            read_in: table.level,
            start: lazytlb::VirtAddr(start),
            without: [None; MOST_PIECES_GONE],
            frame: table.frame,
            writable: true,
            user: true,
            executable: true,
            dirty: true,
            memory_type: MemoryType::WriteBack,
            global,
            pcid: self.pcid(state, cpu),
            garbage: true,
            root: table.through.map_or(table.frame, |through| through.root),
            read: [0; crate::features::MOST_LEVELS],
        }
    }

    fn garbage_walk(&self, cpu: usize, frame: u8, through: Option<Translation>) -> Stop {
        let start = match through {
            Some(entry) => format!("its {entry}"),
            None => format!("CR3, whose root is frame {frame}"),
        };
        let what = format!(
            "may walk, speculatively and at any time, from {start}: a page table that was freed"
        );
        Stop::Violation(Violation {
            frame: Some(frame),
            through,
            ..Violation::on_cpu(Property::TableUseAfterFree, cpu, what)
        })
    }
}
