//! An adversarial x86-64: everything that hardware may do with translations, stores and interrupts.
//!
//! A real TLB fills and evicts when it likes. So the model keeps, for each CPU, the set of everything
//! that *may* be cached ([`closure`](mod@closure)), and only invalidations remove from it. Each subset is a possible
//! state of the hardware, so fills and evictions need no exploring. The set is closed at all times:
//! whatever a speculative walk could produce now, from CR3, from a paging-structure-cache entry, or
//! from a walk in flight, is in it, also right after an invalidation.
//!
//! Rules are named as in `SOURCES.md` (H1 to H43); the code names the rule that it encodes.
//!
//! Below, what a state is made of:
//!
//! | file | what |
//! | --- | --- |
//! | [`index`], `byte_mask`, [`version`], `translation_set`, `values` | the small numbers of a state, a type each |
//! | [`limit`] | how many of each fit, and the error of a program that needs more |
//! | [`call`] | the seam calls, and instructions beyond the seam, as data; which family each is of |
//! | [`cpu_model`], [`features`], [`spec`] | what a machine is made from: a CPU model as data, what a program uses |
//! | [`assumption`] | what a CPU model assumes, and what a verdict hangs on |
//! | [`entry`], [`extent`] | page-table entries' bits, memory types; stretches of addresses |
//! | [`translation`], `numbering` | cached entries; tables that number things as they turn up |
//! | `subject` | what a promise about a flush is about |
//! | [`violation`], [`progress`] | the properties; how far a call gets |
//! | `slot`, [`state`] | what waits in buffers; a state as plain bytes, and where everything lies in them |
//! | `places` | where a CPU is in its code, as a state has it |
//! | [`machine`], `start` | the machine, and how it starts |
//! | `view` | one CPU in one state: what it sees, and the way to another CPU |
//!
//! Above, what a CPU does in a state:
//!
//! | file | what |
//! | --- | --- |
//! | [`step`] | each call's effects, from one dispatch; what hardware does by itself |
//! | `buffers`, `ordering` | store buffers, and what waits for them |
//! | `entry_parts` | stores to some bytes of a page-table entry |
//! | `combining` | write-combining buffers, and devices |
//! | `interrupts`, `frames` | interrupts and NMIs; frames that are allocated and freed |
//! | `walk`, [`closure`](mod@closure) | what may be cached: one step of a walk, and all that walks can fill |
//! | `invalidate`, `broadcast` | what removes from it, here and on other CPUs |
//! | `accessed`, `versions` | A and D bits, where speculation may have set one; which store an entry comes from |
//! | `late`, `updates`, `settle` | stores translated late, updates of A and D that come late; how they come |
//! | `garbage` | walks of freed tables, refused or followed to their ends |
//! | `promises`, `granted` | what a flush covers, and keeps when it has returned; what the page tables grant |
//! | `open_promises`, `taint` | promises that nobody has kept yet; entries that must not be used any more |
//! | `weight` | what a proof of a flush can rest on |
//! | `breach` | what only code knows: that it interrupts whom it means to spare, that it has lost a frame |
//! | `touch`, `access` | user code that touches memory, without its data and with it |
//! | `through` | the cached entries that an access goes through |
//! | `virtual_access`, `faults` | what an access by virtual address does, and how it comes to fault |
//! | `fetch` | instruction fetches, whose walks may have read entries earlier |
//! | `late_store`, `entry_writers` | a store that waits untranslated; who makes it worth waiting |
//! | `renumber`, `words` | names that do not grow, for programs without end |
//! | `turned_up` | what a program uses although its features do not say so |
//! | [`locality`], `writers` | which calls no other CPU can observe |
//! | `ends`, `waiting_stores`, `held` | what a state holds, for people and for the ends of a program |
//!
//! `mutants.toml` breaks the rules one at a time: `cargo xtask mutate-model` asks whether a test notices.
//!
//! # What it cannot show
//! One level of translation: no nested paging, VPIDs, guests' ASIDs, IOMMUs; no remote action requests (H35).
//! A page's frame has one word, which is its data, and a large page one frame. Addresses are of the lower
//! half, PCIDs below 256. Paging stays on: CR0.PG does not change (H1, H16). SMAP, protection keys,
//! self-modifying code, memory types of the walks themselves (MTRRs), and INVLPGB's counts above one page
//! are left out. A fetch's early walk (H40) caches nothing, and reads no frame as it was before it became a table.
//!
//! ASSUMED, because no rule says otherwise, and hardware may be weaker: what [`assumption`] lists, each with a
//! weak reading that a verdict can be held against; and, without one, that loads from write-combining memory keep
//! their order, that a broadcast ends the walks of a fetch, that an update of A or D does not outlive its entry (H41),
//! and what `late` leaves out. Walks in flight go on across CR3 loads with bit 63 set ([`cpu_model::KeepLoad`] has the
//! other reading).
//!
//! No erratum is in a model but those of its own CPU; [`CpuModel::WEAKEST`] has none, and all else that any model
//! does: the test `weakest` of `lazytlb-litmus` holds the suite to that.
//!
//! Over-approximated, so that more is allowed than hardware does: `multiple-match` is found where two sizes
//! *may* be cached; a touch without data that faults drops no entry (H17), one with data does; of a large
//! page in pieces, more than two that go are taken to stay (H6); page faults and IRET drain no store buffer;
//! which A bits go together is not known, so that one can be read as set above which another is read as 0.
#![forbid(unsafe_code)]

mod access;
mod accessed;
pub mod assumption;
mod breach;
mod broadcast;
mod buffers;
mod byte_mask;
pub mod call;
pub mod closure;
mod combining;
pub mod cpu_model;
mod ends;
pub mod entry;
mod entry_parts;
mod entry_writers;
pub mod extent;
mod faults;
pub mod features;
mod fetch;
mod frames;
mod garbage;
mod granted;
mod held;
pub mod index;
mod interrupts;
mod invalidate;
mod late;
mod late_store;
pub mod limit;
pub mod locality;
pub mod machine;
mod numbering;
mod open_promises;
mod ordering;
mod places;
pub mod progress;
mod promises;
mod renumber;
mod settle;
mod slot;
pub mod spec;
mod start;
pub mod state;
pub mod step;
mod subject;
mod taint;
mod through;
mod touch;
pub mod translation;
mod translation_set;
mod turned_up;
mod updates;
mod values;
pub mod version;
mod versions;
mod view;
pub mod violation;
mod virtual_access;
mod waiting_stores;
mod walk;
mod weight;
mod words;
mod writers;

pub use assumption::Assumption;
pub use call::{
    AtomicCell, Breach, Broadcast, Call, Cr4, FAULT, Invpcid, LocalCell, Privilege, Rmw,
};
pub use cpu_model::{CpuModel, KeepLoad, Reading, UpperLevels, WalkOutsideDram, WcReadings};
pub use entry::MemoryType;
pub use features::{Features, Tick, Ticks};
pub use held::{EntryInMemory, HeldByCpu, HeldHow};
pub use index::{BroadcastId, BroadcastSet, Cpu, Frame, Level, PcidTag, Place, TableIndex, Way};
pub use limit::Limit;
pub use machine::Machine;
#[expect(deprecated, reason = "programs may import it by its former name")]
pub use progress::Outcome;
pub use progress::{Progress, Stop};
pub use spec::{GarbageWalks, MachineSpec, MemoryModel};
pub use state::{FrameUse, Layout, State};
pub use translation::Translation;
pub use version::Version;
pub use violation::{GarbageWalkEnd, Property, Violation};
pub use waiting_stores::WaitingStore;
