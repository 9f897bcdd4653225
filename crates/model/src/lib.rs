//! An adversarial x86-64: everything that hardware may do with translations, stores and interrupts.
//!
//! A real TLB fills and evicts when it likes. So the model keeps, for each CPU, the set of everything
//! that *may* be cached ([`closure`](mod@closure)), and only invalidations remove from it. Each subset is a possible
//! state of the hardware, so fills and evictions need no exploring. The set is closed at all times:
//! whatever a speculative walk could produce now, from CR3, from a paging-structure-cache entry, or
//! from a walk in flight, is in it, also right after an invalidation.
//!
//! Rules are named as in `SOURCES.md` (H1 to H39); the code names the rule that it encodes.
//!
//! | file | what |
//! | --- | --- |
//! | [`call`] | the seam calls, and instructions beyond the seam, as data: what one step of a CPU asks |
//! | [`cpu_model`] | CPU models as data: features, rules and errata |
//! | [`features`] | what a program uses of the machine; what it does not use has no bytes and no steps |
//! | [`state`] | a state of the machine as plain bytes, and its layout |
//! | [`machine`] | what a machine is made from, and its main step: a CPU's call |
//! | `buffers`, `ordering` | store buffers, and what waits for them |
//! | `interrupts`, `frames` | interrupts and NMIs; frames that are allocated and freed |
//! | [`locality`], `writers` | which calls no other CPU can observe |
//! | [`closure`](mod@closure) | what may be cached: fills, from the root and from every cached upper level |
//! | `invalidate`, `broadcast` | what removes from it, here and on other CPUs |
//! | `accessed` | A and D bits, three-valued where speculation may have set one |
//! | `garbage` | walks of freed tables, refused or followed to their ends |
//! | `promises`, `versions` | what a returned flush promises; which store a page-table entry comes from |
//! | `touch`, `access` | user code that touches memory, without its data and with it |
//! | `combining` | write-combining buffers, and devices |
//! | `ends` | what a state holds, for people and for the ends of a program |
//! | [`entry`] | page-table entries' bits, memory types |
//! | [`translation`] | cached entries and page-table entries, numbered as they turn up |
//! | [`violation`] | the properties |
//! | [`mutant`] | rules broken on purpose, in builds made for that |
//!
//! # What it cannot show
//! One level of translation: no nested paging, VPIDs, guests' ASIDs, IOMMUs; no remote action requests (H35).
//! A page's frame has one word, which is its data, and a large page one frame. Addresses are of the lower
//! half, PCIDs below 256. Paging stays on: CR0.PG does not change (H1, H16). SMAP, protection keys,
//! self-modifying code, memory types of the walks themselves (MTRRs), and INVLPGB's counts above one page
//! are left out.
//!
//! ASSUMED, because no rule says otherwise, and hardware may be weaker: stores to uncached memory are not
//! buffered; loads from write-combining memory keep their order; a store through an entry without D walks
//! again and heeds what it finds, where some CPUs set D in an entry that has just lost W. Programs of
//! `lazytlb-check` take an MFENCE for ordering a later IPI, too, unless they set `Features::weak_fences`.
//!
//! Over-approximated, so that more is allowed than hardware does: `multiple-match` is found where two sizes
//! *may* be cached; a touch without data that faults drops no entry (H17), one with data does; of a large
//! page in pieces, more than two that go are taken to stay (H6); page faults and IRET drain no store buffer.
#![forbid(unsafe_code)]

mod access;
mod accessed;
mod broadcast;
mod buffers;
pub mod call;
pub mod closure;
mod combining;
pub mod cpu_model;
mod ends;
pub mod entry;
pub mod features;
mod frames;
mod garbage;
mod interrupts;
mod invalidate;
pub mod locality;
pub mod machine;
pub mod mutant;
mod ordering;
mod promises;
pub mod state;
mod touch;
pub mod translation;
mod versions;
pub mod violation;
mod writers;

pub use call::{AtomicCell, Broadcast, Call, Cr4, FAULT, Invpcid, LocalCell, Privilege, Rmw};
pub use cpu_model::{CpuModel, Reading, UpperLevels, WalkOutsideDram, WcReadings};
pub use entry::MemoryType;
pub use features::Features;
pub use machine::{GarbageWalks, Machine, MachineSpec, MemoryModel, Outcome};
pub use state::{FrameUse, Layout, State};
pub use translation::{Limit, Translation};
pub use violation::{GarbageWalkEnd, Property, Violation};
