//! What a program uses of the machine. What it does not use costs it no byte of state and no step.

/// How many timer interrupts each CPU takes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Ticks {
    /// None.
    Never,
    /// So many, or fewer: a bound like the depth of a store buffer.
    AtMost(u8),
    /// Any number.
    AnyNumber,
}

/// Whether a timer interrupt counts against the bound on their number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tick {
    /// It does.
    Counted,
    /// It does not: what would it do, if it came?
    Uncounted,
}

/// The parts of the machine that a program uses.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Features {
    /// Levels of page tables: 2 (a root whose entries span 2 MiB each), up to 5.
    pub levels: u8,
    /// Page-table entries that may ever be written.
    pub page_table_entries: u8,
    /// PCIDs, global pages and CR4 (H1, H2, H8, H16).
    pub tags: bool,
    /// Accessed and dirty bits, which walks and stores set (H3, H21). Without them, both count as set.
    pub accessed_dirty: bool,
    /// Stores that a CPU's write-combining buffers hold (H26).
    pub write_combining: u8,
    /// INVLPGB and TLBSYNC (H29).
    pub broadcasts: bool,
    /// Promises about flushes that one CPU may have begun, and that nobody has kept yet, at one time.
    pub promises: u8,
    /// Non-maskable interrupts.
    pub nmis: bool,
    /// Timer interrupts.
    pub ticks: Ticks,
    /// MFENCE does not hold up an IPI through an x2APIC (H36), as LFENCE does. Without it, MFENCE counts as
    /// ordering both.
    pub weak_fences: bool,
    /// Instruction fetches, whose walks may have read an entry before an earlier write (H40). A checker sets
    /// it by itself for a program that fetches.
    pub fetches: bool,
    /// Stores of data by virtual address that wait in store buffers remember the cached entry that they went
    /// through: what a promise about flushes asks. A checker sets it by itself for a program that has such.
    pub data_stores: bool,
    /// Stores to some bytes of page-table entries that wait in store buffers. Locked ones need no room.
    pub partial_entry_stores: bool,
    /// Operations may be started for ever: what counts on (versions of page-table entries) gets new names after
    /// each step. A checker sets it by itself.
    pub endless: bool,
    /// More than 65,535 places in the code of all CPUs: four bytes more for each place of a CPU. A checker sets it by itself for
    /// a program that turns out to have so many.
    pub many_places: bool,
    /// Whether cached entries remember which stores to the page tables they were read from: what a
    /// promise about flushes is told by, and an Accessed bit.
    pub provenance: bool,
}

impl Features {
    /// Two levels of 4 KiB pages, and nothing else: what the protocol's own programs use.
    pub const fn small() -> Features {
        Features {
            levels: 2,
            page_table_entries: 16,
            tags: false,
            accessed_dirty: false,
            write_combining: 0,
            broadcasts: false,
            promises: 2,
            nmis: false,
            ticks: Ticks::Never,
            weak_fences: false,
            fetches: false,
            data_stores: false,
            partial_entry_stores: false,
            endless: false,
            many_places: false,
            provenance: true,
        }
    }
}

impl Default for Features {
    fn default() -> Self {
        Features::small()
    }
}
