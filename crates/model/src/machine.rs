//! The machine: what a program, a CPU model and a memory model make of it.
//!
//! Its steps are in the files above: [`Machine::call`] has the one dispatch from which all effects of a call
//! can be read.

use lazytlb::{Entry, PhysAddr, VirtAddr};

pub use crate::limit::{MOST_BUFFER_DEPTH, MOST_CPUS};
#[expect(deprecated, reason = "programs may import it from here")]
pub use crate::progress::Outcome;
pub use crate::progress::{Progress, Stop};
pub use crate::spec::{GarbageWalks, MachineSpec, MemoryModel};

use crate::call::{AtomicCell, Broadcast};
use crate::cpu_model::CpuModel;
use crate::entry::bits;
use crate::entry_writers::EntryWriters;
use crate::features::Features;
use crate::index::{BroadcastId, Cpu, EntryAt, EntryId, Frame, Level, Location, TableIndex};
use crate::index::{LateStoreId, PassedId, SubjectId, TranslationId};
use crate::late_store::{LateStore, PassedWords};
use crate::limit::Limit;
use crate::numbering::Numbering;
use crate::state::{Layout, State};
use crate::subject::ReliedOn;
use crate::subject::Subject;
use crate::translation::Translation;
use crate::translation_set::SharedTranslations;
use crate::turned_up::TurnedUp;
use crate::values::{ValueCode, Values};
use crate::violation::{Property, Violation};
use crate::writers::Writers;

/// An adversarial machine. Its steps are pure functions of a state's bytes.
#[derive(Debug)]
pub struct Machine {
    pub(crate) layout: Layout,
    pub(crate) features: Features,
    /// The level of the root tables.
    pub(crate) root_level: Level,
    /// Whether the program has buffers beside the store buffer's stores: asked at every call.
    pub(crate) has_more_buffers: bool,
    /// Whether calls that are local elsewhere may not be in this program.
    pub(crate) rarely_local: bool,
    /// Whether an MFENCE may wait in the store buffer, and an IPI pass it (H36).
    pub(crate) has_weak_fences: bool,
    /// Whether stores by virtual address may wait untranslated (H41).
    pub(crate) stores_may_be_late: bool,
    pub(crate) late_stores: Numbering<LateStoreId, LateStore>,
    pub(crate) passed_words: Numbering<PassedId, PassedWords>,
    pub(crate) entry_writers: EntryWriters,
    pub(crate) garbage: GarbageWalks,
    pub(crate) page_words: Vec<Option<AtomicCell>>,
    pub(crate) broadcasts: Numbering<BroadcastId, IssuedBroadcast>,
    pub(crate) ignored: Vec<Property>,
    pub(crate) first_violation: Option<Violation>,
    pub(crate) cpu_model: CpuModel,
    pub(crate) translations: Numbering<TranslationId, Translation>,
    pub(crate) subjects: Numbering<SubjectId, Subject>,
    /// Page-table entries that were ever written.
    pub(crate) entries: Numbering<EntryId, EntryAt>,
    pub(crate) values: Values,
    pub(crate) writers: Writers,
    /// What some promise covered when it began, while a CPU might have cached it.
    pub(crate) covered_when_cached: SharedTranslations,
    /// What it was about.
    pub(crate) relied_on: ReliedOn,
    pub(crate) turned_up: TurnedUp,
    pub(crate) memory: MemoryModel,
    pub(crate) frames: u8,
    pub(crate) initial: Vec<u8>,
}

/// A broadcast invalidation under way: who issued it, and what it invalidates.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct IssuedBroadcast {
    pub(crate) issuer: Cpu,
    pub(crate) what: Broadcast,
}

impl Machine {
    /// Says whether a property is looked at.
    pub(crate) fn checks(&self, property: Property) -> bool {
        !self.ignored.contains(&property)
    }

    /// Returns the state that everything starts from; all CPUs' places are 0.
    pub fn initial(&self) -> Vec<u8> {
        self.initial.clone()
    }

    /// Returns the property that the first entries violate by themselves, if they do.
    pub fn first_violation(&self) -> Option<&Violation> {
        self.first_violation.as_ref()
    }

    /// Returns where everything lies in a state.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Returns what the program uses of the machine.
    pub fn features(&self) -> Features {
        self.features
    }

    /// Returns the CPU model.
    pub fn cpu_model(&self) -> CpuModel {
        self.cpu_model
    }

    /// Returns the memory model.
    pub fn memory(&self) -> MemoryModel {
        self.memory
    }

    /// Lists the frames.
    pub(crate) fn every_frame(&self) -> impl Iterator<Item = Frame> + use<> {
        (0..self.frames).map(Frame::from)
    }

    /// Returns the frame at an address.
    ///
    /// # Errors
    /// If the machine has none there.
    #[inline]
    pub(crate) fn frame(&self, addr: PhysAddr) -> Result<Frame, Limit> {
        let frame = Frame::at(addr).filter(|frame| frame.number() < self.frames);
        frame.ok_or(self.too_many_frames())
    }

    pub(crate) fn too_many_frames(&self) -> Limit {
        Limit {
            what: "frames",
            most: usize::from(self.frames),
        }
    }

    /// Returns the number of a table's entry, a new one if it was never written.
    ///
    /// # Errors
    /// If the table is no frame of the machine, the index lies past its end, or there are more entries than the
    /// program announced.
    pub(crate) fn entry(&self, table: PhysAddr, index: u16) -> Result<EntryId, Limit> {
        let table = self.frame(table)?;
        if index >= TableIndex::COUNT {
            return Err(Limit {
                what: "entries in a page table",
                most: usize::from(TableIndex::COUNT),
            });
        }
        let index = TableIndex::from(index);
        self.entries.number(&EntryAt { table, index })
    }

    /// Returns the entry for an address in a table, if it was ever written.
    pub(crate) fn entry_for(&self, table: Frame, addr: VirtAddr, level: Level) -> Option<EntryId> {
        let index = level.index_of(addr);
        self.entries.find(&EntryAt { table, index })
    }

    /// Lists the entries of a table that were ever written.
    #[inline]
    pub(crate) fn entries_of(
        &self,
        table: Frame,
    ) -> impl Iterator<Item = (EntryId, TableIndex)> + '_ {
        let entries = self.entries.iter().filter(move |(_, at)| at.table == table);
        entries.map(|(entry, at)| (entry, at.index))
    }

    /// Returns the value that a location has in memory.
    #[inline]
    pub(crate) fn value_in_memory(&self, state: &State, location: Location) -> u64 {
        let code = ValueCode::from_byte(state[self.layout.location(location).bytes()]);
        self.values.decode(code)
    }

    /// The violation of a program that broke a rule of the machine.
    pub(crate) fn misuse(&self, cpu: Cpu, what: impl std::fmt::Display) -> Stop {
        Stop::Violation(Violation::on_cpu(Property::Panic, cpu, what))
    }
}

/// Returns the entry that a value stands for in a report.
pub fn entry_for_people(entry: Entry) -> String {
    if !entry.is_present() {
        return "absent".to_owned();
    }
    let large = if entry.0 & bits::LARGE != 0 {
        "large page "
    } else {
        ""
    };
    let global = if entry.0 & bits::GLOBAL != 0 {
        ", global"
    } else {
        ""
    };
    format!("{large}frame {}{global}", entry.frame().0 >> 12)
}
