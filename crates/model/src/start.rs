//! How a machine starts: its bounds are checked, and the first state is put together.

use lazytlb::{Entry, PhysAddr};

use crate::call::{AtomicCell, LocalCell};
use crate::cpu_model::MfenceForIpis;
use crate::entry_writers::EntryWriters;
use crate::index::{Frame, Level, Location, PcidTag, Place, TableIndex};
use crate::late_store::PassedWords;
use crate::limit::{
    Limit, MOST_BROADCASTS, MOST_BUFFER_DEPTH, MOST_CELLS, MOST_CPUS, MOST_LEVELS,
    MOST_PIECES_GONE, MOST_PROMISES, MOST_STALE_PARTS, MOST_SUBJECTS,
};
use crate::machine::Machine;
use crate::numbering::Numbering;
use crate::progress::Stop;
use crate::slot::MOST_LOCATIONS;
use crate::spec::{MachineSpec, MemoryModel};
use crate::state::Layout;
use crate::subject::ReliedOn;
use crate::translation_set::{SetWidth, SharedTranslations};
use crate::turned_up::TurnedUp;
use crate::values::Values;
use crate::version::Version;
use crate::writers::Writers;

/// How many there are of what a specification counts, checked against the model's bounds.
struct Sizes {
    cpus: usize,
    atomics: usize,
    own_cells: usize,
    frames: usize,
    buffer_depth: usize,
    page_table_entries: usize,
}

impl Sizes {
    fn of(spec: &MachineSpec) -> Result<Sizes, Limit> {
        let own_cells = spec.own_cells.iter().map(Vec::len).max().unwrap_or(0);
        let atomics = Limit::check("shared cells", MOST_CELLS, spec.atomics.len())?;
        let entries = usize::from(spec.features.page_table_entries);
        Limit::check(
            "levels of page tables",
            MOST_LEVELS,
            usize::from(spec.features.levels),
        )?;
        if spec.features.levels == 0 {
            return Err(Limit {
                what: "page tables of no level",
                most: 0,
            });
        }
        Limit::check(
            "open promises of a CPU",
            MOST_PROMISES,
            usize::from(spec.features.promises),
        )?;
        Ok(Sizes {
            cpus: Limit::check("CPUs", MOST_CPUS, spec.own_cells.len())?,
            atomics,
            own_cells: Limit::check("cells of one CPU", MOST_CELLS, own_cells)?,
            frames: Limit::check("frames", MOST_CELLS, spec.frames.len())?,
            buffer_depth: Limit::check(
                "stores in a buffer",
                usize::from(MOST_BUFFER_DEPTH),
                usize::from(spec.memory.buffer_depth()),
            )?,
            page_table_entries: Limit::check(
                "cells and page-table entries",
                usize::from(MOST_LOCATIONS),
                atomics + entries,
            )? - atomics,
        })
    }
}

impl Machine {
    /// Lists how much fits into the model, of what a program could have too many.
    pub fn limits() -> Vec<Limit> {
        let limits = [
            ("CPUs", MOST_CPUS),
            ("shared cells", MOST_CELLS),
            ("cells of one CPU", MOST_CELLS),
            ("cells and page-table entries", MOST_LOCATIONS.into()),
            ("entries in a page table", TableIndex::COUNT.into()),
            ("stores to one page-table entry", Version::MOST_IN_MEMORY),
            ("levels of page tables", MOST_LEVELS),
            ("frames", MOST_CELLS),
            ("translations", SetWidth::Narrow.most()),
            (
                "distinct large values: those above the small ones",
                Values::MOST_LARGE,
            ),
            (
                "small values, from 0 on, which need no number",
                Values::SMALL,
            ),
            (
                "separate pieces gone of one cached large page",
                MOST_PIECES_GONE,
            ),
            ("separate stale parts of one large page", MOST_STALE_PARTS),
            ("PCIDs", PcidTag::COUNT),
            ("open promises of a CPU", MOST_PROMISES),
            (
                "different spaces and ranges that promises are about",
                MOST_SUBJECTS,
            ),
            ("roots that one promise names", lazytlb::Spaces::MOST),
            ("broadcast invalidations", MOST_BROADCASTS),
            ("stores in a buffer", MOST_BUFFER_DEPTH.into()),
            ("places in its code", Place::LAST.number() as usize),
        ];
        let limits = limits.into_iter();
        limits.map(|(what, most)| Limit { what, most }).collect()
    }

    /// Makes a machine.
    ///
    /// # Errors
    /// If the program asks for more CPUs, cells or frames than a state has room for.
    pub fn new(spec: &MachineSpec) -> Result<Machine, Limit> {
        let sizes = Sizes::of(spec)?;
        let features = spec.features;
        let layout = Layout::new(
            sizes.cpus,
            sizes.atomics,
            sizes.frames,
            sizes.buffer_depth,
            sizes.own_cells,
            &features,
        );
        let most_translations = layout.set_width.most();
        let has_weak_fences =
            features.weak_fences || spec.cpu_model.mfence_for_ipis == MfenceForIpis::Never;
        let has_more_buffers = has_weak_fences || features.write_combining > 0;
        // Only with data by virtual address, and with a buffer to wait in.
        let has_data = spec.page_words.iter().any(Option::is_some);
        let stores_may_be_late = has_data && spec.memory != MemoryModel::Sc;
        let mut machine = Machine {
            initial: vec![0; layout.len()],
            layout,
            features,
            root_level: Level::from(features.levels),
            has_more_buffers,
            rarely_local: has_more_buffers || features.nmis || stores_may_be_late,
            has_weak_fences,
            stores_may_be_late,
            late_stores: Numbering::new("stores by virtual address", PassedWords::MOST),
            passed_words: Numbering::new("sets of words that loads have read", PassedWords::MOST),
            entry_writers: EntryWriters::default(),
            garbage: spec.garbage,
            page_words: spec.page_words.clone(),
            broadcasts: Numbering::new("broadcast invalidations", MOST_BROADCASTS),
            ignored: spec.ignored.clone(),
            first_violation: None,
            cpu_model: spec.cpu_model,
            translations: Numbering::new(
                "translations (fewer pages, spaces or operations bring forth fewer)",
                most_translations,
            ),
            subjects: Numbering::new("different subjects of promises", MOST_SUBJECTS),
            entries: Numbering::new("page-table entries", sizes.page_table_entries),
            values: Values::new(),
            writers: Writers::new(sizes.atomics),
            covered_when_cached: SharedTranslations::default(),
            relied_on: ReliedOn::default(),
            turned_up: TurnedUp::default(),
            memory: spec.memory,
            frames: sizes.frames as u8,
        };
        machine.put_first_values(spec)?;
        machine.put_first_entries(&spec.entries)?;
        Ok(machine)
    }

    /// Puts the first values of the cells, the registers and the frames into the initial state.
    fn put_first_values(&mut self, spec: &MachineSpec) -> Result<(), Limit> {
        let mut state = std::mem::take(&mut self.initial);
        for (index, &value) in spec.atomics.iter().enumerate() {
            let cell = Location::Cell(AtomicCell(index as u8));
            state[self.layout.location(cell).bytes()] = self.values.encode(value)?.to_byte();
        }
        let root = Frame::at(spec.root).ok_or(self.too_many_frames())?;
        for (cpu, cells) in self.layout.every_cpu().zip(&spec.own_cells) {
            let mut on_cpu = self.on(&mut state, cpu);
            on_cpu.set_cr3(root);
            on_cpu.set_cr4(spec.cr4);
            for (index, &value) in cells.iter().enumerate() {
                let (owner, index) = (cpu.number(), index as u8);
                let cell = self.layout.own_cell(LocalCell { owner, index });
                state[cell.bytes()] = self.values.encode(value)?.to_byte();
            }
        }
        for (frame, &frame_use) in self.every_frame().zip(&spec.frames) {
            self.layout.set_frame_use(&mut state, frame, frame_use);
        }
        self.initial = state;
        Ok(())
    }

    /// Puts the first entries into the page tables; what can be cached at the start then is.
    fn put_first_entries(&mut self, entries: &[(PhysAddr, u16, Entry)]) -> Result<(), Limit> {
        if entries.is_empty() {
            return Ok(());
        }
        let mut state = self.initial.clone();
        for &(table, index, entry) in entries {
            let number = self.entry(table, index)?;
            let value = self.layout.location(Location::Entry(number));
            state[value.bytes()] = self.values.encode(entry.0)?.to_byte();
            state[self.layout.version(number).bytes()] = Version::AT_THE_START.to_byte();
        }
        for cpu in self.layout.every_cpu() {
            match self.on(&mut state, cpu).close() {
                Ok(()) => {}
                Err(Stop::Limit(limit)) => return Err(limit),
                Err(Stop::Violation(violation)) => {
                    self.first_violation = Some(violation);
                    break;
                }
            }
        }
        self.initial = state;
        Ok(())
    }
}
