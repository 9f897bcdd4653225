//! The seam of [`lazytlb`] on real x86-64 CPUs.
//!
//! The protocol asks a machine for atomics, CR3 loads, INVLPG, IPIs and interrupt flags; [`X86`] issues
//! them. What a crate cannot know, a kernel supplies through [`Board`]: which CPU this is, and how an
//! IPI is sent. Two APIC drivers are ready for the latter. Whatever else a kernel does in a way of its own it replaces
//! there, one method at a time.
//!
//! ```text
//!   lazytlb::Tlb ──▶ trait Hw ◀── X86<B> ──▶ trait Board ◀── your kernel
//!                                   │                          │ may use
//!                                   ▼                          ▼
//!                       MOV to CR3, INVLPG, CLI …     XApic, X2Apic (trait LocalApic)
//! ```
//!
//! | file | what |
//! | --- | --- |
//! | [`machine`] | [`X86`]: the seam, instruction by instruction; [`Words`] makes its atomics |
//! | [`board`] | what the kernel supplies, and what it may replace |
//! | [`instructions`] | interrupts' flag, MOV to CR3, INVLPG: what every CPU has |
//! | [`apic`] | drivers for xAPIC and x2APIC, with the fence that the latter needs |
//! | [`pcid`] | CR3 loads with a PCID, and INVPCID |
//! | [`broadcast`] | INVLPGB and TLBSYNC: for protocols other than [`lazytlb::Tlb`], which does not broadcast |
//! | [`device`] | draining stores to devices before their memory goes away |
//! | `msr` | reading model-specific registers, for detection |
//! | [`detect`] | what CPUID and MSRs tell: capabilities, and a table of errata |
//!
//! This crate issues privileged instructions, so it has `unsafe` blocks; each says what it relies on.
//! What it cannot show: that the kernel's page tables map the kernel itself. [`X86::new`] makes that the
//! caller's promise.
#![no_std]

pub mod apic;
pub mod board;
pub mod broadcast;
pub mod detect;
pub mod device;
pub mod instructions;
pub mod machine;
pub mod msr;
pub mod pcid;

pub use apic::{ApicId, LocalApic, Timer, X2Apic, XApic};
pub use board::Board;
pub use detect::{Detected, ReadMsr};
pub use device::drain_device_writes;
pub use machine::{Words, X86};
pub use msr::CpuMsrs;
