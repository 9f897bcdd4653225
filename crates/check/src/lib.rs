//! An exhaustive checker for code that touches page tables: loom, for TLBs.
//!
//! It runs *real code*, written against the seam ([`lazytlb::Hw`], [`lazytlb::Memory`]), on an
//! adversarial x86-64 ([`lazytlb_model`]) that does whatever the manuals allow, in every interleaving
//! of CPUs, interrupts, store buffers and speculative fills; and it ends in a proof within bounds, a
//! shortest counterexample, or the honest words `incomplete` and `nothing proved`.
//!
//! ```
//! use lazytlb::Policy;
//! use lazytlb_check::{Checker, LazyTlb, WithPcids, ShippedProgram};
//!
//! let program = ShippedProgram::<LazyTlb>::by_name("smoke").unwrap();
//! assert!(Checker::new().check_built(|| program.build(Policy::Ipi)).is_safe());
//! ```
//!
//! A protocol of your own: see `examples/own_protocol.rs`, which imports nothing of `lazytlb` but the
//! seam. One that shall boot as it was checked is generic over the seam and the traits beside it: `examples/stranger`, whose
//! `protocol.rs` is compiled for real CPUs, too. One with the usual entry points implements [`Protocol`], and gets the
//! shipped programs.
//!
//! | file | what |
//! | --- | --- |
//! | [`program`], `place_names` | what each CPU does; what people call the places of its memory |
//! | [`menu`] | operations that start again and again, in any order |
//! | `routine`, `same_program` | the pieces of its code; whether another is the same but for that |
//! | [`model_hw`] | the seam over a log of answers: how real code becomes steps |
//! | `run` | such a run under way, and what it came to |
//! | `poll`, `rehearsal` | polls in it, and how its log has them |
//! | `unwinding` | what guards are told that drop while a run ends |
//! | `claims` | what kind of value a word holds: said by the program, tested on every run of its code |
//! | `misuse` | calls and declarations that mean nothing on the program's machine |
//! | `automaton` | automaton extraction: a step of the code as a table look-up |
//! | `iterations` | what is known of the iterations of a poll |
//! | `hardware` | the border to the model: CPUs, places and ways become its numbers |
//! | `step`, `system` | a step, and the transition system |
//! | `starts` | how operations start and end |
//! | `interrupted` | how interrupts come between calls |
//! | `standstill` | deadlocks where CPUs poll, or timer interrupts come |
//! | `livelock` | CPUs that go on for ever, and come to no rest |
//! | `fairness`, `cycles` | what cannot be put off for ever; where steps lead round |
//! | `cursor` | the steps of a state, one after the other |
//! | `reduction` | which steps are merged, and which states count as one |
//! | `unrenamed` | a counterexample without such names |
//! | `generations` | which words hold generations, and which calls are about them |
//! | `renumber` | names that do not grow, for programs without end |
//! | `dead_words` | words that nobody reads between operations |
//! | `store`, `order` | the states seen so far, and which is next |
//! | `expand`, `explore` | what one state leads to, and all states; for whoever visits |
//! | `second_run` | whether the code is a function of what the seam answers: all of it, once more |
//! | `watchdog` | code that does not come back |
//! | `checker` | with which bounds and means programs are explored |
//! | [`search`], [`outcomes`] | its visitors: a shortest violation, or every end |
//! | `rests_on` | what a verdict rests on: kept promises, interrupts, freed tables |
//! | `statement` | what a proof of a program without end says, in a sentence |
//! | `never_happened` | what it says nothing about, because no execution came to it |
//! | `event`, [`timeline`], `snapshot` | counterexamples, replayed and printed; what the machine holds after each event |
//! | [`verdict`], `error` | safe, violation, or incomplete; or why there is no verdict |
//! | [`what_safe_means`] | what a proof is, in words and numbers |
//! | [`protocol`], [`programs`] | the shipped programs, for `lazytlb` and its peers |
//! | `sparing` | which word says that a CPU is lazy; what code has promised of lazy CPUs, and seen of them |
//! | `ledger` | what code was given to be freed |
//! | `cpu_numbers` | which number the code of each CPU is told |
//! | `protocol/adapter` | `lazytlb` as such a protocol; compiled for its mutations too |
//! | `protocol/sinks` | what its gathers free into |
//! | `protocol/storage`, `protocol/reports` | where its words are; what it reports of itself |
//! | `protocol/promise_of_change` | a promise about a flush, for changes in steps |
//!
//! # What a proof covers
//! [`what_safe_means`] says it: promises, bounds, assumptions, the second run of the code, and the limits with their
//! numbers.
#![forbid(unsafe_code)]

// `protocol/adapter.rs` and what it is made of are compiled in another crate too, and so name this one as others do.
extern crate self as lazytlb_check;

mod automaton;
mod checker;
mod claims;
mod cpu_numbers;
mod cursor;
mod cycles;
mod dead_words;
mod error;
mod event;
mod expand;
mod explore;
mod fairness;
mod generations;
mod hardware;
mod interrupted;
mod iterations;
mod ledger;
mod livelock;
pub mod menu;
mod misuse;
pub mod model_hw;
mod never_happened;
mod order;
pub mod outcomes;
mod place_names;
mod poll;
pub mod program;
pub mod programs;
pub mod protocol;
mod reduction;
mod rehearsal;
mod renumber;
mod rests_on;
mod routine;
mod run;
mod same_program;
pub mod search;
mod second_run;
mod snapshot;
mod sparing;
mod standstill;
mod starts;
mod statement;
mod step;
mod store;
mod system;
pub mod timeline;
mod unrenamed;
mod unwinding;
pub mod verdict;
mod watchdog;
pub mod what_safe_means;

pub use checker::{Checker, Progress};
pub use error::CheckError;
pub use ledger::Ledger;
pub use menu::{MenuItem, Mode};
pub use model_hw::ModelHw;
pub use outcomes::{End, Executions, Outcome, Outcomes, ReachedOutcome};
pub use program::{Program, ProgramCells};
pub use programs::ShippedProgram;
pub use programs::any_length::{MenuOperation, Menus, NoMenus, PageTableLock};
pub use protocol::{
    Ended, Frees, KernelRemoval, LazyTlb, PageChange, Part, PromiseOfChange, Protocol, Removal,
    Space, TwoWords, WithBroadcast, WithPcids, notes,
};
pub use reduction::Reduction;
pub use rests_on::{RestsOn, Stretched};
pub use snapshot::{CpuSnapshot, EntrySnapshot, FrameSnapshot, HeldEntry, Snapshot};
pub use sparing::SparingLazy;
pub use store::Storage;
#[allow(deprecated)] // For programs written before it had its name.
pub use timeline::Event;
pub use timeline::{EventKind, Timeline, TimelineEvent};
pub use verdict::{Effort, Finding, Verdict};
