//! Frames: allocated, and freed, from when on they hold garbage.

use lazytlb::{FrameKind, PhysAddr};

use crate::call::Call;
use crate::index::{Frame, Location};
use crate::machine::Machine;
use crate::progress::{Progress, Stop};
use crate::spec::GarbageWalks;
use crate::state::{FrameUse, State};
use crate::values::ValueCode;
use crate::version::Version;
use crate::view::CpuMut;
use crate::violation::{Property, Violation};

impl Machine {
    /// Says whether a call, about to be made, frees a page table.
    pub fn frees_table(&self, state: &State, call: &Call) -> bool {
        let Call::FreeFrame(frame) = *call else {
            return false;
        };
        let frame = self.frame(frame);
        frame.is_ok_and(|frame| self.layout.frame_use(state, frame) == FrameUse::Table)
    }
}

impl CpuMut<'_> {
    pub(crate) fn alloc_frame(&mut self, kind: FrameKind) -> Result<Progress<PhysAddr>, Stop> {
        // The lowest free frame: the allocator reuses at once, which is when reuse hurts.
        let mut frames = self.machine.every_frame();
        let free = frames.find(|&frame| self.frame_use(frame) == FrameUse::Free);
        let Some(frame) = free else {
            return Err(self.machine.misuse(self.cpu, "found no free frame"));
        };
        self.set_frame_use(frame, frame_use_of(kind));
        self.taint_large_pages_with(frame)?;
        if self.machine.garbage == GarbageWalks::Followed {
            // H33: a CPU that still walks the frame as a table may now write into what it is used for.
            self.refuse_walks_of(frame)?;
        }
        Ok(Progress::answer(frame.addr()))
    }

    /// Fails if software is about to read or change an entry of a table that was freed: what it holds may be anything by then.
    pub(crate) fn refuse_freed_table(&self, call: &Call) -> Result<(), Stop> {
        let (Call::ReadEntry(table, _)
        | Call::WriteEntry(table, ..)
        | Call::RmwEntry(table, ..)
        | Call::WriteEntryBytes { table, .. }
        | Call::RmwEntryBytes { table, .. }) = *call
        else {
            return Ok(());
        };
        let (frame, property) = (self.machine.frame(table)?, Property::SoftwareWalkAfterFree);
        if self.frame_use(frame) != FrameUse::Free || !self.machine.checks(property) {
            return Ok(());
        }
        let what =
            format!("reads or changes an entry of frame {frame}, a page table that was freed");
        Err(Stop::Violation(Violation {
            frame: Some(frame.number()),
            ..Violation::on_cpu(property, self.cpu, what)
        }))
    }

    pub(crate) fn free_frame(&mut self, frame: Frame) -> Result<Progress<()>, Stop> {
        let was = self.frame_use(frame);
        if was == FrameUse::Table {
            self.update_before_free(frame)?;
        }
        self.set_frame_use(frame, FrameUse::Free);
        match was {
            FrameUse::Free => {
                let what = format!("freed frame {frame} twice");
                return Err(self.machine.misuse(self.cpu, what));
            }
            FrameUse::Page | FrameUse::Device => self.taint_page(frame)?,
            FrameUse::Table => {
                // Its contents are garbage from now on. Nobody may read them, so they need no value.
                for (entry, _) in self.machine.entries_of(frame) {
                    self.put_in_memory(Location::Entry(entry), ValueCode::ZERO);
                    // Where versions get new names, none may come again in another table.
                    let version = match self.machine.features.endless {
                        false => Version::NONE,
                        true => self.in_memory(entry).version.next_in_memory()?,
                    };
                    self.put_version(entry, version);
                }
                self.forget_former_in(frame)?;
                self.refuse_walks_of(frame)?;
            }
        }
        Ok(Progress::DONE)
    }
}

fn frame_use_of(kind: FrameKind) -> FrameUse {
    match kind {
        FrameKind::Table => FrameUse::Table,
        FrameKind::Page => FrameUse::Page,
    }
}
