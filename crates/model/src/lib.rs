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
//! | [`call`] | the seam calls, as data: what one step of a CPU asks |
//! | [`cpu_model`] | CPU models as data: rules and errata |
//! | [`state`] | a state of the machine as plain bytes, and its layout |
//! | [`machine`] | the steps: a CPU's call, a store that drains |
//! | [`locality`], `writers` | which calls no other CPU can observe |
//! | [`closure`](mod@closure) | what may be cached: fills, invalidations, taints |
//! | `versions` | which store a page-table entry comes from |
//! | `touch` | user code that touches memory |
//! | [`translation`] | cached entries and page-table entries, numbered as they turn up |
//! | [`violation`] | the properties |
//!
//! # What it cannot show (yet)
//! Two levels of page tables; no PCIDs, global pages, large pages, accessed or dirty bits (programs that
//! read A or D are out of scope, not over-approximated), NMIs, write-combining buffers or broadcast
//! invalidation. Nested paging, VPIDs, guests' ASIDs and IOMMUs are out of scope.
#![forbid(unsafe_code)]

mod access;
mod accessed;
mod broadcast;
pub mod call;
pub mod closure;
mod combining;
pub mod cpu_model;
pub mod entry;
pub mod features;
mod garbage;
mod invalidate;
pub mod locality;
pub mod machine;
pub mod mutant;
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
