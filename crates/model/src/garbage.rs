//! Walks of freed tables, and what they end in.
//!
//! Rules: H2, H11, H12a, H33.
//!
//! A search stops where such a walk becomes possible, or ([`GarbageWalks::Followed`]) follows the walk to
//! its ends (H33): a bogus entry, the same with G=1, which a CR3 load does not remove,
//! and an Accessed bit written into whatever the frame holds now. The fourth end, a machine check outside
//! DRAM (H32), would end everything at once; where walks are followed, garbage is taken to point into DRAM.

use crate::call::Cr4;
use crate::entry::MemoryType;
use crate::extent::StaleParts;
use crate::index::{Cpu, Frame, TableIndex};
use crate::limit::{Limit, MOST_LEVELS, MOST_PIECES_GONE};
use crate::progress::Stop;
use crate::spec::GarbageWalks;
use crate::state::{CacheSet, FrameUse};
use crate::translation::Translation;
use crate::version::Version;
use crate::view::CpuMut;
use crate::violation::{Property, Violation};
use crate::walk::TableRead;

impl CpuMut<'_> {
    /// Fails if any CPU may still walk a table that was freed; or follows the walks.
    ///
    /// A walk begins at CR3, or at an entry of the current PCID (H2); one may be in flight under another
    /// (H12a). From entries of other PCIDs none begins, until that PCID is loaded without a flush: they are
    /// marked as dead, because the frame may be a table again by then.
    pub(crate) fn refuse_walks_of(&mut self, table: Frame) -> Result<(), Stop> {
        let machine = self.machine;
        for cpu in machine.layout.every_cpu() {
            let mut walker = self.other_mut(cpu);
            let in_cr3 = walker.cr3() == table;
            let in_flight = walker.in_flight();
            let leads_there = walker.may_be_cached().union(in_flight).filter(|number| {
                let entry = machine.translations.get(number);
                entry.leads_to_table_in(table)
            });
            if !in_cr3 && leads_there.is_empty() {
                continue;
            }
            if machine.garbage == GarbageWalks::Refused {
                if !machine.checks(Property::TableUseAfterFree) {
                    continue;
                }
                let pcid = walker.pcid();
                let mut live = walker.translations(leads_there).filter(|entry| !entry.dead);
                let begins = live.find(|entry| entry.pcid == pcid);
                let goes_on = leads_there.filter(|number| in_flight.contains(number));
                let mut goes_on = walker.translations(goes_on);
                match (in_cr3, begins, goes_on.next()) {
                    (true, ..) => return Err(garbage_walk(cpu, table, None)),
                    (_, Some(entry), _) => return Err(garbage_walk(cpu, table, Some(entry))),
                    (_, _, Some(entry)) => return Err(walk_in_flight(cpu, table, entry)),
                    (false, None, None) => {}
                }
            }
            walker.mark_dead(table)?;
            walker.close()?;
        }
        Ok(())
    }

    /// Marks what leads to a table that was freed.
    fn mark_dead(&mut self, table: Frame) -> Result<(), Limit> {
        let machine = self.machine;
        let marked = |number| {
            let entry = *machine.translations.get(number);
            match entry.leads_to_table_in(table) {
                true => machine.translations.number(&Translation {
                    dead: true,
                    ..entry
                }),
                false => Ok(number),
            }
        };
        for set in CacheSet::IN_CACHES {
            let members: Result<_, Limit> = self.set(set).iter().map(marked).collect();
            self.put_set(set, members?);
        }
        let in_flight: Result<_, Limit> = self.in_flight().iter().map(marked).collect();
        self.put_in_flight(in_flight?);
        Ok(())
    }

    /// A walk reads a frame that is no table: garbage.
    pub(crate) fn walk_garbage(&mut self, table: &TableRead) -> Result<(), Stop> {
        let machine = self.machine;
        if machine.garbage == GarbageWalks::Refused {
            return match machine.checks(Property::TableUseAfterFree) {
                true => Err(garbage_walk(self.cpu, table.frame, table.through.as_ref())),
                // Nobody looks at what becomes of it: it finds nothing.
                false => Ok(()),
            };
        }
        let is_in_use = self.frame_use(table.frame) != FrameUse::Free;
        if is_in_use && machine.checks(Property::CorruptedFrame) {
            // H3: before it caches an entry that has A = 0, it sets A, in what is no page table any more.
            let what = format!(
                "may walk, speculatively and at any time, a freed table in frame {}, which is reused, and \
                 set an Accessed bit there: memory corruption",
                table.frame
            );
            return Err(Stop::Violation(Violation {
                frame: Some(table.frame.number()),
                through: table.through,
                ..Violation::on_cpu(Property::CorruptedFrame, self.cpu, what)
            }));
        }
        let may_be_global = self.cr4().has(Cr4::PGE);
        for (_, index) in machine.entries_of(table.frame) {
            let bogus = self.bogus(table, index);
            let bogus_global = may_be_global.then_some(Translation {
                global: true,
                ..bogus
            });
            for bogus in [bogus].into_iter().chain(bogus_global) {
                let number = machine.translations.number(&bogus)?;
                // An access that uses it uses what nobody mapped.
                let tainted = self.set(CacheSet::Tainted).with(number);
                self.put_set(CacheSet::Tainted, tainted);
            }
        }
        Ok(())
    }

    /// Returns what garbage at an index of a table may translate to: anything, allowed everything.
    fn bogus(&self, table: &TableRead, index: TableIndex) -> Translation {
        Translation {
            leads_to: None,
            read_in: table.level,
            start: index.addr_in(table.start, table.level),
            without: [None; MOST_PIECES_GONE],
            frame: table.frame,
            writable: true,
            user: true,
            executable: true,
            dirty: true,
            memory_type: MemoryType::WriteBack,
            global: false,
            pcid: table.pcid,
            garbage: true,
            root: table.through.map_or(table.frame, |through| through.root),
            seen: Version::NONE,
            dead: false,
            read: [Version::NONE; MOST_LEVELS],
            path: Translation::NO_PATH,
            stale: StaleParts::NONE,
        }
    }
}

/// The violation of a walk that was in flight when its PCID was left, and that nothing has ended since.
fn walk_in_flight(cpu: Cpu, table: Frame, held: &Translation) -> Stop {
    let what = format!(
        "may still have a walk in flight that holds its {held}, a page table that was freed: it began \
         under PCID {}, which was left by a CR3 load with bit 63 set, and no instruction has invalidated \
         anything since (ASSUMED: such a load does not end it; by the other reading, \
         `cr3-load-ends-walks`, it does)",
        held.pcid.to_byte()
    );
    Stop::Violation(Violation {
        frame: Some(table.number()),
        through: Some(*held),
        ..Violation::on_cpu(Property::TableUseAfterFree, cpu, what)
    })
}

fn garbage_walk(cpu: Cpu, frame: Frame, through: Option<&Translation>) -> Stop {
    let start = match through {
        Some(entry) => format!("its {entry}"),
        None => format!("CR3, whose root is frame {frame}"),
    };
    let what = format!(
        "may walk, speculatively and at any time, from {start}: a page table that was freed"
    );
    Stop::Violation(Violation {
        frame: Some(frame.number()),
        through: through.copied(),
        ..Violation::on_cpu(Property::TableUseAfterFree, cpu, what)
    })
}
