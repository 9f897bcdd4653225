//! Replays the recorded kernel's own rule, and compares each decision with what the kernel did.
//!
//! A replay of policies is worth as much as the reading of the recording that it rests on. The one rule whose outcome
//! is recorded is that of the kernel itself: replayed open loop from the same operations, it must agree. It is none of
//! this project's policies; which one it is (Linux to 6.13, or from 6.14) the recording tells.
//!
//! ```text
//!  events ──────────────────────────────► what the kernel did ─┐
//!     └─► operations ─► the kernel's rule ─► what it should do ─┴─► Agreement
//! ```
//!
//! Handlers of interrupts (`flush_func` on other CPUs, `tlb_flush` in hardirq context) are compared, and are no input.
//! Without kprobes they may tell whether a flush frees tables; decisions that hang on that are counted apart.
//!
//! | file, in reading order | what |
//! | --- | --- |
//! | `validation`, `comparison` | [`Validation`]: steps in, [`Agreement`] out; how it does that, for few CPUs and for many |
//! | `switches`, `handlers` | one switch; an interrupt's handler, as the recording shows it |
//! | `machine`, `slots`, `rule` | what the CPUs have loaded; what they keep of several spaces; the kernel's rules |
//! | `outcome` | what a switch, a flush, and a handler come to |
//! | `flights` | interrupts that are sent and have not arrived; what is watched on each CPU |
//! | `flush` | one flush, and whom it interrupts |
//! | `tally`, `agreement` | decisions, classes of disagreements; the result |
//! | `evidence`, `ids` | what the recording shows about its kernel, and whether its ids can be right |
//! | `pace` | how fast the recorded machine is |
//! | `shown` | what the recording shows of each CPU |
//! | `cpu_set` | a set of CPUs |
//!
//! What it cannot show: the order of events of two CPUs within the time that their stores take. Such disagreements have
//! a class of their own, which is told by evidence that might not be there: with kprobes, an event of that CPU that shows
//! where its switch ended, and a recorded state from which the rule gives what the kernel did. Interrupts that are left
//! out of a recording stay unexplained, all but those of CPUs that were in such a race by chance.
#![forbid(unsafe_code)]

mod agreement;
mod comparison;
mod cpu_set;
mod evidence;
mod flights;
mod flush;
mod handlers;
mod ids;
mod machine;
mod outcome;
mod pace;
mod rule;
mod shown;
mod slots;
mod switches;
mod tally;
mod validation;

pub use agreement::{Agreement, KindOfDecision, Shootdowns};
pub use rule::KernelRule;
pub use tally::{Class, Decision, Disagreement};
pub use validation::Validation;
