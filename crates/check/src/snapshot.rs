//! What the machine holds after an event of a counterexample, in the program's own names.

use lazytlb::{CpuId, PhysAddr};
use lazytlb_model::{AtomicCell, EntryInMemory, FrameUse, HeldHow, State, Translation};

use crate::event::store_for_people;
use crate::hardware::Hardware;
use crate::program::Program;

const FREE: &str = "free";

/// What the machine holds at one moment, for people.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Snapshot {
    /// Each CPU's own.
    pub cpus: Vec<CpuSnapshot>,
    /// The frames of memory, with the page-table entries in them.
    pub frames: Vec<FrameSnapshot>,
    /// Words in memory that CPUs share: their names and values.
    pub words: Vec<(String, u64)>,
}

/// What one CPU holds at one moment, for people.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CpuSnapshot {
    /// The name of the frame that the root in CR3 lies in.
    pub root: String,
    /// The current PCID, where the program has PCIDs.
    pub pcid: Option<u8>,
    /// What it may cache, or a walk of its own may hold.
    pub cached: Vec<HeldEntry>,
    /// What waits in its store buffer, oldest first.
    pub buffered: Vec<String>,
    /// Stores in its write-combining buffers.
    pub combining: usize,
}

/// A translation that a CPU may cache, or hold in a walk.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct HeldEntry {
    /// What it translates, and where it leads.
    pub what: String,
    /// The name of the frame that it leads to.
    pub frame: String,
    /// Whether that is a page table: it is in a paging-structure cache, or a walk holds it.
    pub leads_to_table: bool,
    /// How it is held.
    pub how: HeldHow,
    /// Whether it was made from what a freed frame held, or leads to a table that is free, or was since.
    pub of_freed_table: bool,
}

/// A frame of memory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FrameSnapshot {
    /// What it is called.
    pub name: String,
    /// What it is used for: `free`, `table`, `page` or `device`.
    pub used_for: &'static str,
    /// The page-table entries in it that some execution wrote.
    pub entries: Vec<EntrySnapshot>,
}

/// A page-table entry in memory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EntrySnapshot {
    /// What it is called.
    pub name: String,
    /// What it holds.
    pub holds: String,
    /// The name of the frame that it leads to, if it is present.
    pub leads_to: Option<String>,
}

impl Snapshot {
    pub(crate) fn new(program: &Program, hardware: &Hardware, state: &State) -> Snapshot {
        let machine = hardware.machine();
        let frames = machine.frames_in_use(state);
        let is_free = |frame: PhysAddr| frames.contains(&(frame, FrameUse::Free));
        let cpus = hardware.cpus();
        let entries = machine.entries_in_memory(state);
        let words = (0..u8::MAX).zip(&program.atomics);
        let words = words.map(|(index, word)| {
            let value = machine.word_in_memory(state, AtomicCell(index));
            (word.name.clone(), value)
        });
        Snapshot {
            cpus: cpus
                .map(|cpu| CpuSnapshot::new(program, hardware, state, cpu, is_free))
                .collect(),
            frames: frames
                .iter()
                .map(|&(frame, used)| FrameSnapshot::new(program, frame, used, &entries))
                .collect(),
            words: words.collect(),
        }
    }
}

impl Snapshot {
    /// Frees a frame.
    pub(crate) fn with_freed(mut self, frame: &str) -> Snapshot {
        let mut frames = self.frames.iter_mut();
        if let Some(freed) = frames.find(|other| other.name == frame) {
            freed.used_for = FREE;
        }
        for held in self.cpus.iter_mut().flat_map(|cpu| &mut cpu.cached) {
            held.of_freed_table |= held.leads_to_table && held.frame == frame;
        }
        self
    }
}

impl CpuSnapshot {
    fn new(
        program: &Program,
        hardware: &Hardware,
        state: &State,
        cpu: CpuId,
        is_free: impl Fn(PhysAddr) -> bool,
    ) -> CpuSnapshot {
        let held = hardware.held_by(state, cpu);
        let cached = held.cached.iter();
        let cached = cached.map(|(translation, how)| HeldEntry {
            what: translation_for_people(program, translation),
            frame: program.place_names.frame(translation.frame.addr()),
            leads_to_table: !translation.is_page(),
            how: *how,
            of_freed_table: translation.garbage
                || translation.dead
                || !translation.is_page() && is_free(translation.frame.addr()),
        });
        let mut cached: Vec<HeldEntry> = cached.collect();
        // Two that differ in the stores alone that they were read from look alike.
        cached.sort();
        cached.dedup();
        let buffered = held.buffered.into_iter().map(|store| match store {
            Some(store) => store_for_people(program, store),
            None => "a store that waits for its translation".to_owned(),
        });
        CpuSnapshot {
            root: program.place_names.frame(held.root),
            pcid: held.pcid.map(|pcid| pcid.to_byte()),
            cached,
            buffered: buffered.collect(),
            combining: held.combining,
        }
    }
}

impl FrameSnapshot {
    fn new(
        program: &Program,
        frame: PhysAddr,
        used: FrameUse,
        entries: &[EntryInMemory],
    ) -> FrameSnapshot {
        let names = &program.place_names;
        let own = entries.iter().filter(|entry| entry.table == frame);
        let entries = own.map(|at| EntrySnapshot {
            name: names.entry_at(at.table, at.index.number()),
            holds: names.entry(at.entry),
            leads_to: at.entry.is_present().then(|| names.frame(at.entry.frame())),
        });
        FrameSnapshot {
            name: names.frame(frame),
            used_for: match used {
                FrameUse::Free => FREE,
                FrameUse::Table => "table",
                FrameUse::Page => "page",
                FrameUse::Device => "device",
            },
            entries: entries.collect(),
        }
    }
}

fn translation_for_people(program: &Program, translation: &Translation) -> String {
    let names = &program.place_names;
    let frame = names.frame(translation.frame.addr());
    let start = names.address(translation.start);
    let mut text = match translation.is_page() {
        true if translation.garbage => format!("{start} → garbage"),
        true => format!("{start} → {frame}"),
        false => format!("{start} → table in {frame}"),
    };
    if translation.global {
        text.push_str(", global");
    }
    match translation.pcid.to_byte() {
        0 => {}
        pcid => text.push_str(&format!(", PCID {pcid}")),
    }
    text
}
