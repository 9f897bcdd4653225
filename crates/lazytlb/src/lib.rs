//! TLB coherence for multiprocessor kernels, CPUs in lazy TLB mode included.
//!
//! x86 CPUs cache translations and do not notice when page tables change: software must tell every
//! CPU that may hold an old translation, wait for it, and only then reuse the memory. A CPU in *lazy
//! TLB mode* (it runs a kernel thread, or idles, with the last user address space still loaded) makes
//! this subtle. Sparing it the interrupt and letting it catch up later looks right, because it touches
//! no user memory meanwhile; but its paging-structure caches may still lead a speculative walk into
//! a page table that was freed. Linux learnt this in September 2017.
//!
//! This crate is the part of a kernel that keeps the promise *when a flush returns, no CPU uses what
//! was removed before it; when a page table is freed, no CPU can walk it*. It holds no memory, issues
//! no instruction and knows no allocator: all of that goes through one trait.
//!
//! ```text
//!                 kernel's scheduler, mm code, interrupt vector
//!                   │ switch_mm, enter_lazy │ flush, gather │ handle_flush_ipi
//!                   ▼                       ▼               ▼
//!   switch.rs  ── lazy mode ──  shootdown.rs ── requests, acknowledgements ──  gather.rs
//!                   │
//!   mm.rs (Mm: tlb_gen, cpumask)      per_cpu.rs (PerCpu: loaded_mm, is_lazy, inbox)
//!                   │
//!                   ▼
//!   hw.rs: the seam `Hw` — atomics, CR3, INVLPG, IPIs, interrupts, fences
//! ```
//!
//! # Where to read
//! | file | what |
//! | --- | --- |
//! | [`hw`] | the seam: every access to shared memory and every hardware effect |
//! | [`pcids`] | beside the seam: CR3 loads with PCIDs, and INVPCID |
//! | [`words`] | which word is which, and what kind of value it holds |
//! | [`memory`] | what a kernel does around the protocol: entries, frames, touching memory |
//! | [`addr`], [`cpu_set`] | addresses, pages and ranges; CPUs and sets of them |
//! | [`generation`] | generations, which are only compared, and the words that hold them |
//! | [`kernel`] | who owns the storage: how the protocol reaches a [`Mm`] and a [`PerCpu`] |
//! | [`mm`], [`per_cpu`] | the state: of a space, and of a CPU with its requests |
//! | `slots` | a CPU's PCIDs: whose they are, and how far each has been flushed |
//! | [`policy`] | how lazy CPUs are treated |
//! | [`tlb`] | [`Tlb`], the protocol's handle, and its configuration |
//! | [`interrupts`] | a guard that keeps them off |
//! | [`switch`] | switching spaces, entering and leaving lazy mode |
//! | [`shootdown`] | flushing, the request queue, the interrupt handler, retiring a space |
//! | [`gather`] | unhook, then flush, then free |
//! | [`sources`] | hashes of these files: that what was checked is what boots |
//!
//! # Example
//! A machine with one CPU, in `examples/machine/mod.rs`, is enough to see the calls.
//!
//! ```
//! # mod machine { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/machine/mod.rs")); } use machine::*;
//! use lazytlb::{FlushRange, Policy, Switched, Tables};
//!
//! let machine = Machine::default();
//! let tlb = boot(Policy::IpiOnTableFree);
//! assert_eq!(tlb.switch_mm(&machine, USER), Switched::Loaded);
//! tlb.enter_lazy(&machine);
//! let report = tlb.flush(&machine, USER, FlushRange::All, Tables::Kept);
//! assert_eq!(report.interrupted, 0, "there is no other CPU");
//! ```
#![no_std]
#![forbid(unsafe_code)]

pub mod addr;
pub mod cpu_set;
pub mod gather;
pub mod generation;
pub mod hw;
pub mod interrupts;
pub mod kernel;
pub mod memory;
pub mod mm;
pub mod pcids;
pub mod per_cpu;
pub mod policy;
pub mod shootdown;
mod slots;
pub mod sources;
pub mod switch;
pub mod tlb;
pub mod words;

pub use addr::{FlushRange, PageRange, PageSize, PhysAddr, VirtAddr};
pub use cpu_set::{CpuId, CpuSet};
pub use gather::{FrameSink, Gather, Unhooked};
pub use generation::{Generation, NextGen, TlbGen};
pub use hw::{Cells, Cr3Load, Hw, Interrupts, Poll, Quirks, Until};
pub use kernel::Kernel;
pub use memory::{Access, Entry, FrameKind, Memory, Promise, Promises, Spaces};
pub use mm::{Mm, MmHandle, MmId};
pub use pcids::{Invpcid, Pcid, Pcids};
pub use per_cpu::PerCpu;
pub use policy::{GarbageWalksAccepted, Policy, Tables};
pub use shootdown::{Flushed, Interrupted, Served};
pub use switch::{EnteredLazy, Switched};
pub use tlb::Tlb;
pub use words::{Payload, ProtocolWord, ValueKind};
