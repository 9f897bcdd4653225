//! Simulates an x86, one random execution at a time: a second opinion on `lazytlb-model`, by another hand.
//!
//! The model keeps everything that *may* be cached, and explores all executions. This machine has what a CPU has: a
//! TLB with entries, paging-structure caches, walks that read level by level, a store buffer, write-combining
//! buffers, updates of A and D under way. One event after another is drawn at random, until the threads of a litmus
//! test have ended. It is written from the rules (H1 to H43, listed in `SOURCES.md`) without the model's code, and
//! must not depend on it. Whatever it reaches, `lazytlb litmus` has to allow; `crates/litmus/tests/simulator.rs`
//! compares the two on random tests, `simulator_suite.rs` on the suite's.
//!
//! ```
//! use lazytlb_simulator::{Amended, Simulation, generate};
//!
//! let test = lazytlb_litmus_syntax::read(&generate(7))?;
//! let simulation = Simulation::new(&test, Amended::WEAKEST)?;
//! let reached = (0..100).filter_map(|seed| simulation.run(seed));
//! assert!(reached.count() > 0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! From top to bottom; each uses only what is below it:
//!
//! | file | what |
//! | --- | --- |
//! | `generator` | random litmus tests: [`generate`] |
//! | `simulation` | a test, ready to be executed: [`Simulation`], [`Outcome`] |
//! | `outcome` | conditions and final states |
//! | `run` | an execution, event by event |
//! | `execute` | instructions, and those that steer the machine |
//! | `data` | instructions that load, store and compute |
//! | `invalidate` | INVLPG, INVPCID, MOV to CR3 and CR4, INVLPGB and TLBSYNC |
//! | `interrupts` | IPIs and NMIs |
//! | `access` | an access by virtual address: cached translations, walks, page faults |
//! | `speculation` | walks that nobody asked for, level by level; evictions |
//! | `drain` | how stores leave the buffers |
//! | `machine` | the CPUs and memory together |
//! | `temper` | how an execution is inclined, so that not all are alike |
//! | `cpu` | the state of a CPU |
//! | `walk`, `update` | a walk between two levels; an update of A or D under way |
//! | `tlb`, `psc` | cached translations and upper levels |
//! | `store_buffer`, `write_combining` | stores under way |
//! | `resolve`, `code` | instructions with their names resolved |
//! | `world`, `names` | what the names of a test stand for |
//! | `entry`, `memory`, `registers` | page-table entries, words, registers |
//! | `readings` | the behaviours of amended rules: [`Amended`] |
//! | `random` | random numbers with a seed: [`Random`] |
//!
//! # What it cannot show
//! It is not exhaustive: that it does not reach an outcome says nothing. Where a rule can be read in two ways that
//! do not differ much, it has the stronger one, so that it never reaches more than the rules allow: interrupts and
//! page faults bound early fetches (H40), stores to page tables or to other than write-back memory are not translated
//! late (H41), a load of write-combining memory waits for the stores to the same word (H26), a broadcast ends walks as
//! soon as it arrives (H12a). `foreign-translation` and `stale-speculation` are not looked for, and no model but
//! `weakest` is simulated.
#![forbid(unsafe_code)]
mod access;
mod code;
mod cpu;
mod data;
mod drain;
mod entry;
mod execute;
mod generator;
mod interrupts;
mod invalidate;
mod machine;
mod memory;
mod names;
mod outcome;
mod psc;
mod random;
mod readings;
mod registers;
mod resolve;
mod run;
mod simulation;
mod speculation;
mod store_buffer;
mod temper;
mod tlb;
mod update;
mod walk;
mod world;
mod write_combining;

pub use generator::generate;
pub use outcome::without_numbers_of_tables;
pub use random::Random;
pub use readings::Amended;
pub use simulation::{Outcome, Simulation, Unsupported};
