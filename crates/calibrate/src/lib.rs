//! Measures on this machine what user space can measure of the costs of [`lazytlb_price`]: interrupts, shootdowns to threads
//! that run and to CPUs that sleep, switches, refills, locked instructions and fences.
//!
//! Threads are pinned; one changes the mappings of its process, and the others run or sleep. What it takes longer for them is a
//! shootdown's cost: nothing else differs.
//!
//! | file, in reading order | what |
//! | --- | --- |
//! | `measured` | [`Measured`]: figures with their origins, and why others are none |
//! | `machine` | the CPUs that may be used, and whether a hypervisor flushes for its guests |
//! | `shootdowns` | mprotect beside threads that run; munmap of a table beside threads that sleep |
//! | `interrupts` | membarrier beside threads that run: interrupts alone |
//! | `others` | threads pinned to the other CPUs |
//! | `idle_states` | the idle state that a CPU was woken from |
//! | `switches` | what a context switch takes longer with another process than with another thread |
//! | `refills` | translations that are walked again after a full flush |
//! | `atomics` | locked instructions and fences |
//! | `samples` | times, and what is typical of them |
//! | `error` | why nothing can be measured |
#![forbid(unsafe_code)]

mod atomics;
mod error;
mod idle_states;
mod interrupts;
mod machine;
mod measured;
mod others;
mod refills;
mod samples;
mod shootdowns;
mod switches;

pub use error::CalibrateError;
pub use measured::{Measured, measure};
