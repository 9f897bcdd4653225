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
//!   switch.rs  ── lazy mode ──  shootdown.rs ── inbox ── serve.rs    gather.rs, retire.rs
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
//! | [`compare_exchange`] | beside the seam: compare-exchange, which this protocol does not need |
//! | [`broadcast`] | beside the seam: INVLPGB and TLBSYNC, which few CPUs have |
//! | [`words`] | which word is which, and what kind of value it holds |
//! | [`memory`] | what a kernel does around the protocol: entries, frames, touching memory |
//! | [`addr`], [`cpu_set`] | addresses, pages and ranges; CPUs and sets of them |
//! | [`generation`] | generations, which are only compared, and the words that hold them |
//! | [`kernel`] | who owns the storage: how the protocol reaches a [`Mm`] and a [`PerCpu`] |
//! | [`mm`], [`per_cpu`] | the state: of a space, and of a CPU |
//! | `requests` | what a CPU asks of others: which pages |
//! | `slots` | a CPU's PCIDs: whose they are, and how far each has been flushed |
//! | [`global_id`] | PCIDs that mean the same space on every CPU |
//! | [`policy`] | how lazy CPUs are treated |
//! | [`tlb`] | [`Tlb`], the protocol's handle, and its configuration |
//! | [`interrupts`] | a guard that keeps them off |
//! | [`pinned`] | the kernel's guard, under which a shootdown stays on its CPU |
//! | [`switch`] | switching spaces, entering and leaving lazy mode |
//! | [`shootdown`] | flushing, on the initiator's side: at once, or in steps |
//! | `targets` | whom it interrupts |
//! | `transition`, `shootdown_broadcast` | how a space comes to such a PCID, and flushes of it by broadcast |
//! | [`serve`] | flushing, on the target's side: the interrupt handler |
//! | [`gather`] | remove, then flush, then free |
//! | [`changes`] | pages that change their type or their size: break, flush, make |
//! | [`device`] | memory of a device, to which writes may still be on their way |
//! | [`batches`], [`quarantine`] | what a CPU holds back; tables that wait until no CPU can walk them |
//! | [`software_walks`] | walks of page tables by software, which those who free tables wait for |
//! | `ranges` | a few ranges that are flushed together |
//! | [`retire`] | the end of a space |
//! | [`kernel_ranges`] | flushing what the kernel maps for itself; CPUs that come and go |
//! | [`isolation`] | page-table isolation: two roots for a space |
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
pub mod batches;
pub mod broadcast;
pub mod changes;
pub mod compare_exchange;
pub mod cpu_set;
pub mod device;
pub mod gather;
pub mod generation;
pub mod global_id;
pub mod hw;
pub mod interrupts;
pub mod isolation;
pub mod kernel;
pub mod kernel_ranges;
pub mod memory;
pub mod mm;
pub mod pcids;
pub mod per_cpu;
pub mod pinned;
pub mod policy;
pub mod quarantine;
mod ranges;
mod requests;
pub mod retire;
pub mod serve;
pub mod shootdown;
mod shootdown_broadcast;
mod slots;
pub mod software_walks;
pub mod sources;
pub mod switch;
mod targets;
pub mod tlb;
mod transition;
pub mod words;

pub use addr::{FlushRange, PageRange, PageSize, PhysAddr, VirtAddr};
pub use batches::{HeldBatch, NotHeld};
pub use broadcast::{Broadcast, Globals, Invlpgb, Stride, Strides, UpperLevels};
pub use changes::{OutOfUse, SizeChange};
pub use compare_exchange::CompareExchange;
pub use cpu_set::{CpuId, CpuSet};
pub use device::Undrained;
pub use gather::{Batch, FrameSink, Gather, Storage, Unflushed};
pub use generation::{Generation, NextGen, TlbGen};
pub use global_id::GlobalIdWord;
pub use hw::{Cells, Cr3Load, Fetched, Hw, Interrupts, Poll, Quirks, Until};
pub use isolation::Cr3;
pub use kernel::{Kernel, SoftwareWalks};
pub use kernel_ranges::NotAdmitted;
pub use memory::{Access, Entry, FrameKind, Memory, Promise, Promises, Spaces};
pub use mm::{Mm, MmHandle, MmId};
pub use pcids::{Invpcid, Pcid, Pcids};
pub use per_cpu::PerCpu;
pub use pinned::Pinned;
pub use policy::{GarbageWalksAccepted, Policy, Tables};
pub use quarantine::Released;
pub use retire::{Reaped, Retired};
pub use serve::{Interrupted, Served};
pub use shootdown::{Flushed, Shootdown};
pub use software_walks::WalkGuard;
pub use switch::{EnteredLazy, Switched};
pub use tlb::Tlb;
pub use words::{Payload, ProtocolWord, ValueKind};
