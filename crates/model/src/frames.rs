//! Frames: allocated, and freed, from when on they hold garbage.

use lazytlb::FrameKind;

use crate::machine::{GarbageWalks, Machine, Outcome, Stop};
use crate::state::{FrameUse, State};

impl Machine {
    pub(crate) fn alloc_frame(
        &self,
        state: &mut State,
        cpu: usize,
        kind: FrameKind,
    ) -> Result<Outcome, Stop> {
        // The lowest free frame: the allocator reuses at once, which is when reuse hurts.
        let free =
            (0..self.frames).find(|&frame| self.layout.frame_use(state, frame) == FrameUse::Free);
        let Some(frame) = free else {
            return Err(self.misuse(cpu, "found no free frame".to_owned()));
        };
        self.layout.set_frame_use(state, frame, frame_use_of(kind));
        if self.garbage == GarbageWalks::Followed {
            // H33: whoever still walks the frame as a table may now write into what it is used for.
            self.refuse_walks_of(state, frame)?;
        }
        Ok(Outcome::answer(u64::from(frame) << 12))
    }

    pub(crate) fn free_frame(&self, state: &mut State, cpu: usize, frame: u8) -> Result<(), Stop> {
        let was = self.layout.frame_use(state, frame);
        self.layout.set_frame_use(state, frame, FrameUse::Free);
        match was {
            FrameUse::Free => Err(self.misuse(cpu, format!("freed frame {frame} twice"))),
            FrameUse::Page | FrameUse::Device => self.taint_page(state, frame),
            FrameUse::Table => {
                // Its contents are garbage from now on. Nobody may read them, so they need no value.
                for (number, (table, _)) in self.entries.iter() {
                    if table == frame {
                        let location = self.layout.entry_location(number);
                        state[self.layout.location(location)] = 0;
                        state[self.layout.version_of_location(location)] = 0;
                    }
                }
                self.refuse_walks_of(state, frame)
            }
        }
    }
}

fn frame_use_of(kind: FrameKind) -> FrameUse {
    match kind {
        FrameKind::Table => FrameUse::Table,
        FrameKind::Page => FrameUse::Page,
    }
}
