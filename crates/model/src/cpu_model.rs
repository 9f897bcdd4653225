//! CPU models: named sets of rules and errata, as data in one table.

use lazytlb::Quirks;

/// What is cached of the upper levels of page tables, and how walks go through them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum UpperLevels {
    /// Paging-structure caches at every level (H9), and walks that take their time (H12a).
    Cached,
    /// ASSUMED, no CPU promises it: no paging-structure caches. A walk in flight still holds a table's
    /// address, until the CPU invalidates something (H12a).
    OnlyInFlight,
    /// ASSUMED, no CPU promises it: neither, a walk reads all its levels at one time.
    Atomic,
}

/// Which paging-structure-cache entries INVLPG, INVLPGB and INVPCID drop for an address (H13, H37).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum InvlpgReach {
    /// All of the PCID.
    AllUpperLevels,
    /// Only those that lead to the address: EFER.TCE, or the weakest reading.
    LeadingToAddress,
}

/// How a large page's translation is held, as far as software can tell (H6).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum LargePages {
    /// As one entry: what drops it drops all of it.
    Whole,
    /// Maybe as 4 KiB pieces. INVLPG drops all of them, and so does a page fault, which gives the same
    /// assurances; of INVPCID for an address no manual says it, and INVLPGB goes by the size that is cached (H30). ASSUMED: the other pieces may stay.
    InPieces,
}

/// What becomes of walks in flight at a CR3 load with bit 63 set, which invalidates nothing (H12a, H15).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum KeepLoad {
    /// They go on under their own PCID, until the CPU invalidates something. ASSUMED, because no manual says
    /// that they end: every model has this reading unless it is told otherwise.
    WalksGoOn,
    /// They end, because MOV to CR3 is serializing. ASSUMED: no manual says that this bounds a walk.
    EndsWalks,
}

/// What MFENCE does beside draining the buffers (H40).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Mfence {
    /// Nothing: an instruction fetch's walk may still appear to come before an earlier write.
    OrdersData,
    /// It is a serializing instruction, as AMD says.
    Serializes,
}

/// What TLBSYNC does beside waiting for broadcasts (H29).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Tlbsync {
    /// Nothing: stores stay buffered, and a fetch may read what an entry held before.
    OnlyWaits,
    /// It is a serializing instruction. ASSUMED: no source was found that says so.
    Serializes,
}

/// When a CPU does an invalidation that was broadcast, and so answers TLBSYNC (H29): what becomes of stores that it has buffered.
///
/// It is about the store buffer, and about stores whose way is remembered: of user code, and of data in programs with promises about flushes. What waits in
/// write-combining buffers waits on by either reading.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum BroadcastAnswer {
    /// At any time: stores that went through what goes may stay buffered, and drain later.
    AtOnce,
    /// When the stores that went through what goes have left the store buffer. ASSUMED: no source was found that says so; kernels that free memory after TLBSYNC
    /// rely on it.
    AfterStores,
}

/// What INVLPG does to global entries while PCIDs are on (H34).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum InvlpgGlobals {
    /// It drops them (H13).
    Dropped,
    /// It may leave them: the erratum of Alder and Raptor Lake.
    MayStay,
}

/// What an interrupt that is sent says about the sender's earlier stores (H36).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum IpiOrder {
    /// They are visible before the target's handler runs: an uncached write to the xAPIC, or AMD's MSR.
    AfterStores,
    /// Nothing: a write to the x2APIC's register does not wait for them.
    Unordered,
}

/// What the update of a Dirty bit does that finds the entry without W, which has just lost it (H42).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum DirtyUpdate {
    /// It checks the entry once more, and the access walks again. So CPUs with shadow stacks do; ASSUMED
    /// elsewhere.
    ChecksWritable,
    /// It may set D all the same, and the store goes through: CPUs without shadow stacks.
    MaySetWithoutW,
}

/// Whether a load from uncached memory waits for the CPU's buffered write-back stores (H43).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum UncachedLoads {
    /// It waits. ASSUMED: no source was found.
    WaitForStores,
    /// It may come before them, as other loads do.
    PassStores,
}

/// When a store to uncached memory becomes visible.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum UncachedStores {
    /// At once, when all older stores are. ASSUMED: no source says that such a store is never buffered.
    AtOnce,
    /// In its turn: it waits in the store buffer as others do.
    Buffered,
}

/// Whether an MFENCE orders a later IPI through an x2APIC, which waits for no store by itself (H36).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum MfenceForIpis {
    /// It does, but for programs that set [`Features::weak_fences`](crate::Features::weak_fences). ASSUMED:
    /// Intel asks for an LFENCE, too.
    UnlessWeak,
    /// It does not.
    Never,
}

/// What an access does that finds two entries of different page sizes (H7, H31, H31a).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum SizeConflict {
    /// It uses either.
    EitherIsUsed,
    /// It takes a machine check: erratum 383.
    MachineCheck,
    /// An instruction fetch takes a machine check, any other access uses either: multi-hits of Intel's ITLB (H31a).
    FetchMachineCheck,
}

impl SizeConflict {
    /// Says whether two sizes of a page end in a machine check, which can be fetched from in both or not.
    pub const fn is_fatal(self, both_executable: bool) -> bool {
        match self {
            SizeConflict::EitherIsUsed => false,
            SizeConflict::MachineCheck => true,
            SizeConflict::FetchMachineCheck => both_executable,
        }
    }
}

/// What a walk that leaves DRAM ends in (H32).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum WalkOutsideDram {
    /// The load returns something or other.
    ReturnsGarbage,
    /// A northbridge protocol error: the machine check of 2017.
    MachineCheck,
}

/// What an event that empties the write-combining buffers means for a device's memory (H27).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Reading {
    /// The writes have started, and arrive some time later: the weak reading.
    Started,
    /// The writes have arrived: the strong reading.
    Retired,
}

/// Which writes that have started a driver's read back from its device pushes ahead of its answer (H27).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ReadBack {
    /// Those of every CPU. ASSUMED: it holds from where the CPUs' paths to the device meet; no manual of a CPU says that a write
    /// which has started is there.
    PushesEveryCpus,
    /// Those of the CPU that reads.
    PushesItsOwn,
}

/// The reading of each kind of event that empties write-combining buffers (H26, H27).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct WcReadings {
    /// SFENCE.
    pub sfence: Reading,
    /// MFENCE.
    pub mfence: Reading,
    /// A locked instruction.
    pub locked: Reading,
    /// A serializing instruction: CPUID, MOV to CR3, INVLPG and their like.
    pub serializing: Reading,
    /// The delivery of an interrupt.
    pub interrupt: Reading,
    /// An access to uncached memory.
    pub uncached: Reading,
}

impl WcReadings {
    /// One reading for every kind of event.
    pub const fn all(reading: Reading) -> WcReadings {
        WcReadings {
            sfence: reading,
            mfence: reading,
            locked: reading,
            serializing: reading,
            interrupt: reading,
            uncached: reading,
        }
    }

    /// Returns each kind of event's name with its reading.
    pub const fn each(self) -> [(&'static str, Reading); 6] {
        [
            ("sfence", self.sfence),
            ("mfence", self.mfence),
            ("locked", self.locked),
            ("serializing", self.serializing),
            ("interrupt", self.interrupt),
            ("uncached", self.uncached),
        ]
    }

    /// Sets the reading of the event with this name; `None` if there is no such event.
    #[must_use]
    pub fn with(mut self, event: &str, reading: Reading) -> Option<WcReadings> {
        let of_event = match event {
            "sfence" => &mut self.sfence,
            "mfence" => &mut self.mfence,
            "locked" => &mut self.locked,
            "serializing" => &mut self.serializing,
            "interrupt" => &mut self.interrupt,
            "uncached" => &mut self.uncached,
            _ => return None,
        };
        *of_event = reading;
        Some(self)
    }
}

impl KeepLoad {
    /// Returns the name that people type.
    pub const fn name(self) -> &'static str {
        match self {
            KeepLoad::WalksGoOn => "walks-go-on",
            KeepLoad::EndsWalks => "end-walks",
        }
    }

    /// Says what such a load does to walks in flight.
    pub const fn about(self) -> &'static str {
        match self {
            KeepLoad::WalksGoOn => "lets walks in flight go on under their own PCID",
            KeepLoad::EndsWalks => "ends the walks in flight",
        }
    }

    /// Finds a reading by its name.
    pub fn by_name(name: &str) -> Option<KeepLoad> {
        [KeepLoad::WalksGoOn, KeepLoad::EndsWalks]
            .into_iter()
            .find(|reading| reading.name() == name)
    }
}

impl BroadcastAnswer {
    /// Returns the name that people read in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            BroadcastAnswer::AtOnce => "at-once",
            BroadcastAnswer::AfterStores => "after-stores",
        }
    }

    /// Says when a CPU answers.
    pub const fn about(self) -> &'static str {
        match self {
            BroadcastAnswer::AtOnce => "at any time, whatever stores of it wait (H29)",
            BroadcastAnswer::AfterStores => {
                "when its stores through what goes have left the store buffer (H29, ASSUMED)"
            }
        }
    }
}

impl Reading {
    /// Returns the name that people type.
    pub const fn name(self) -> &'static str {
        match self {
            Reading::Started => "started",
            Reading::Retired => "retired",
        }
    }

    /// Finds a reading by its name.
    pub fn by_name(name: &str) -> Option<Reading> {
        [Reading::Started, Reading::Retired]
            .into_iter()
            .find(|reading| reading.name() == name)
    }
}

/// A CPU model.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct CpuModel {
    /// The name that people type.
    pub name: &'static str,
    /// One line on what it stands for.
    pub about: &'static str,
    /// CR4.PCIDE may be set (H1).
    pub pcids: bool,
    /// INVPCID exists (H14).
    pub invpcid: bool,
    /// Five levels of page tables.
    pub five_levels: bool,
    /// INVLPGB and TLBSYNC exist (H29).
    pub broadcast: bool,
    /// What is cached of the upper levels.
    pub upper_levels: UpperLevels,
    /// What TLBSYNC does beside waiting for broadcasts.
    pub tlbsync: Tlbsync,
    /// When a CPU answers a broadcast.
    pub broadcast_answer: BroadcastAnswer,
    /// What INVLPG does to paging-structure caches.
    pub invlpg: InvlpgReach,
    /// What INVLPG does to global entries while PCIDs are on.
    pub invlpg_globals: InvlpgGlobals,
    /// How large pages are held.
    pub large_pages: LargePages,
    /// What a CR3 load with bit 63 set does to walks in flight.
    pub keep_load: KeepLoad,
    /// What MFENCE is beside a fence.
    pub mfence: Mfence,
    /// What an IPI says about earlier stores.
    pub ipi: IpiOrder,
    /// Whether an MFENCE orders an IPI that waits for no store by itself.
    pub mfence_for_ipis: MfenceForIpis,
    /// What the update of a Dirty bit does that finds no W.
    pub dirty: DirtyUpdate,
    /// Whether loads from uncached memory wait for buffered stores.
    pub uncached_loads: UncachedLoads,
    /// When stores to uncached memory become visible.
    pub uncached_stores: UncachedStores,
    /// What two page sizes for one address lead to.
    pub size_conflict: SizeConflict,
    /// What a walk outside DRAM ends in.
    pub walk_outside_dram: WalkOutsideDram,
    /// What empties write-combining buffers, and how far.
    pub write_combining: WcReadings,
    /// Whose writes a read back from a device pushes.
    pub read_back: ReadBack,
    /// What software can detect: the weakest CPU owns up to nothing.
    pub quirks: Quirks,
}

impl CpuModel {
    /// All that the manuals allow at once, and the weak reading wherever they are silent. It has every
    /// feature, and reports no erratum: software that is safe only where it detects one is not safe here.
    ///
    /// It does whatever any model does that no erratum causes, and that no missing feature does: an instruction
    /// that a CPU lacks is #UD there. Errata that it does not have: 383 (H31, `amd-k10`), INVLPG and global entries
    /// (H34, `intel-alder-lake`), multi-hits of the ITLB (H31a, `intel-skylake`), A and D in absent entries (H42, no
    /// model).
    pub const WEAKEST: CpuModel = CpuModel {
        name: "weakest",
        about: "everything the manuals allow at once; reports no errata",
        pcids: true,
        invpcid: true,
        five_levels: true,
        broadcast: true,
        tlbsync: Tlbsync::OnlyWaits,
        broadcast_answer: BroadcastAnswer::AtOnce,
        upper_levels: UpperLevels::Cached,
        invlpg: InvlpgReach::LeadingToAddress,
        invlpg_globals: InvlpgGlobals::Dropped,
        large_pages: LargePages::InPieces,
        keep_load: KeepLoad::WalksGoOn,
        mfence: Mfence::OrdersData,
        ipi: IpiOrder::Unordered,
        mfence_for_ipis: MfenceForIpis::UnlessWeak,
        dirty: DirtyUpdate::MaySetWithoutW,
        uncached_loads: UncachedLoads::PassStores,
        uncached_stores: UncachedStores::AtOnce,
        size_conflict: SizeConflict::EitherIsUsed,
        walk_outside_dram: WalkOutsideDram::MachineCheck,
        write_combining: WcReadings::all(Reading::Started),
        read_back: ReadBack::PushesEveryCpus,
        quirks: Quirks::NONE,
    };

    /// AMD family 10h (Phenom, 2007–2012): no PCIDs, erratum 383 (H31), and walks that assume
    /// DRAM (H32). The machine that hung in 2017.
    pub const AMD_K10: CpuModel = CpuModel {
        name: "amd-k10",
        about: "AMD family 10h: no PCIDs, erratum 383, a walk outside DRAM is a machine check",
        pcids: false,
        invpcid: false,
        five_levels: false,
        broadcast: false,
        invlpg: InvlpgReach::AllUpperLevels,
        large_pages: LargePages::Whole,
        mfence: Mfence::Serializes,
        ipi: IpiOrder::AfterStores,
        uncached_loads: UncachedLoads::WaitForStores,
        size_conflict: SizeConflict::MachineCheck,
        quirks: Quirks::NONE.with_erratum_383().with_walks_assume_dram(),
        ..Self::WEAKEST
    };

    /// AMD Zen 3: PCIDs, INVPCID, broadcast invalidation; INVLPG drops all upper levels.
    pub const AMD_ZEN3: CpuModel = CpuModel {
        name: "amd-zen3",
        about: "AMD family 19h: PCIDs, INVLPGB, EFER.TCE clear",
        five_levels: false,
        tlbsync: Tlbsync::Serializes,
        broadcast_answer: BroadcastAnswer::AfterStores,
        invlpg: InvlpgReach::AllUpperLevels,
        large_pages: LargePages::Whole,
        mfence: Mfence::Serializes,
        ipi: IpiOrder::AfterStores,
        dirty: DirtyUpdate::ChecksWritable,
        uncached_loads: UncachedLoads::WaitForStores,
        walk_outside_dram: WalkOutsideDram::ReturnsGarbage,
        ..Self::WEAKEST
    };

    /// AMD Zen 5, with EFER.TCE set as Linux does where it is present (H37).
    pub const AMD_ZEN5: CpuModel = CpuModel {
        name: "amd-zen5",
        about: "AMD family 1Ah: PCIDs, INVLPGB, EFER.TCE set",
        five_levels: true,
        invlpg: InvlpgReach::LeadingToAddress,
        ..Self::AMD_ZEN3
    };

    /// Intel Skylake: PCIDs, no broadcast, an x2APIC that orders nothing (H36), multi-hits of the ITLB (H31a).
    pub const INTEL_SKYLAKE: CpuModel = CpuModel {
        name: "intel-skylake",
        about: "Intel Skylake: PCIDs, INVPCID, x2APIC without ordering, ITLB multi-hit",
        five_levels: false,
        size_conflict: SizeConflict::FetchMachineCheck,
        quirks: Quirks::NONE.with_itlb_multihit(),
        broadcast: false,
        invlpg: InvlpgReach::AllUpperLevels,
        uncached_loads: UncachedLoads::WaitForStores,
        walk_outside_dram: WalkOutsideDram::ReturnsGarbage,
        ..Self::WEAKEST
    };

    /// Intel Alder Lake, with the microcode that has the INVLPG erratum (H34).
    pub const INTEL_ALDER_LAKE: CpuModel = CpuModel {
        name: "intel-alder-lake",
        about: "Intel Alder Lake: as Skylake, without multi-hits; with PCIDs on, INVLPG may leave global entries",
        invlpg_globals: InvlpgGlobals::MayStay,
        size_conflict: SizeConflict::EitherIsUsed,
        quirks: Quirks::NONE.with_invlpg_leaves_globals(),
        dirty: DirtyUpdate::ChecksWritable,
        ..Self::INTEL_SKYLAKE
    };

    /// The model with another assumption about the upper levels.
    #[must_use]
    pub const fn with_upper_levels(self, upper_levels: UpperLevels) -> CpuModel {
        CpuModel {
            upper_levels,
            ..self
        }
    }

    /// The model with another reading of CR3 loads with bit 63 set.
    #[must_use]
    pub const fn with_keep_load(self, keep_load: KeepLoad) -> CpuModel {
        CpuModel { keep_load, ..self }
    }

    /// The model with another reading of when a CPU answers a broadcast.
    #[must_use]
    pub const fn with_broadcast_answer(self, broadcast_answer: BroadcastAnswer) -> CpuModel {
        CpuModel {
            broadcast_answer,
            ..self
        }
    }

    /// The model with other readings of what empties write-combining buffers.
    #[must_use]
    pub const fn with_write_combining(self, write_combining: WcReadings) -> CpuModel {
        CpuModel {
            write_combining,
            ..self
        }
    }

    /// Every model.
    pub const ALL: [CpuModel; 6] = [
        Self::WEAKEST,
        Self::AMD_K10,
        Self::AMD_ZEN3,
        Self::AMD_ZEN5,
        Self::INTEL_SKYLAKE,
        Self::INTEL_ALDER_LAKE,
    ];

    /// Finds a model by its name.
    pub fn by_name(name: &str) -> Option<CpuModel> {
        Self::ALL.into_iter().find(|model| model.name == name)
    }
}
