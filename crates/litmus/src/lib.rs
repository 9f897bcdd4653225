//! Answers litmus tests for x86: all executions, on the machine of `lazytlb-model`.
//!
//! A thread becomes one operation of a program for `lazytlb-check`: real code, which interprets the
//! instructions and asks the machine for each access. So everything holds here that holds of a checked
//! kernel: what may be cached, what may wait in a buffer, when an interrupt comes.
//!
//! Tests are read by `lazytlb-litmus-syntax`, whose tree is part of this crate's interface.
//!
//! ```
//! use lazytlb_litmus::{LitmusVerdict, Options, read, run};
//!
//! let test = read(
//!     "X86_64 SB\n{}\n P0 | P1 ;\n movl $1,(x) | movl $1,(y) ;\n movl (y),%eax | movl (x),%eax ;\n\
//!      exists (0:eax=0 /\\ 1:eax=0)\n",
//! )?;
//! assert_eq!(run(&test, &Options::default())?.verdict(), LitmusVerdict::Allowed);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! From top to bottom; each uses only what is below it:
//!
//! | file | what |
//! | --- | --- |
//! | `run` | the steps: [`run()`], [`Options`] |
//! | `assumptions` | what a verdict hangs on: [`hangs_on`] |
//! | `assembly` | a program of the threads and handlers |
//! | `question` | condition, filter and what is shown; answers by the ends |
//! | `conditions` | resolves them |
//! | `proposition` | a resolved condition: true or false of an end, and nothing else |
//! | `answer` | final states and the verdict, as printed: [`Answer`] |
//! | `expectation` | the verdict that a header expects |
//! | `needs` | what a test uses of the machine: buffers, features, widths |
//! | `resolve` | instructions, resolved |
//! | `interpreter` | a thread, running |
//! | `access`, `registers`, `flags` | its memory, its registers and its flags |
//! | `loops` | its loops: which rounds stand for all others, and where they are cut |
//! | `code` | instructions with their names resolved, as data |
//! | `placement` | makes cells, frames and tables for the names of a test |
//! | `world` | names, and what they stand for |
//! | `page_tables`, `entry_bits` | address spaces; fields and bits of entries |
//! | `names`, `layout` | which names a test uses; where variables lie |
//! | `settings`, `cpus` | what metadata set; which CPU runs which thread |
//! | `keys` | which keys metadata have, and which are slips |
//!
//! All names are looked up before the search: an unknown one is an error with its place, and from
//! `proposition` and `code` on nothing can be unknown.
#![forbid(unsafe_code)]

mod access;
mod answer;
mod assembly;
mod assumptions;
mod code;
mod conditions;
mod cpus;
mod entry_bits;
mod expectation;
mod flags;
mod interpreter;
mod keys;
mod layout;
mod loops;
mod names;
mod needs;
mod page_tables;
mod placement;
mod proposition;
mod question;
mod registers;
mod resolve;
mod run;
mod settings;
mod world;

pub use answer::{Answer, FinalState, LitmusVerdict, Violated};
pub use assumptions::hangs_on;
#[allow(deprecated)]
pub use lazytlb_litmus_syntax::MemoryType;
pub use lazytlb_litmus_syntax::{
    AluOp, Arch, Atom, Caching, Condition, EntryLiteral, EntryName, Expr, Field, FieldValue, Frame,
    GeneralRegister, Handler, InitItem, Instruction, InvpcidType, Level, LitmusTest, Located,
    Location, Memory, Operand, Place, Position, Quantifier, Register, Relation, Spelling, Stride,
    SyntaxError, TableIndex, Thread, Value, Width, read, read_bytes,
};
pub use run::{Execution, Options, RunError, run, run_with_executions};

/// Keeps the former name of [`LitmusVerdict`].
#[deprecated(note = "renamed to `LitmusVerdict`: the checker has a `Verdict` of its own")]
pub type Verdict = LitmusVerdict;
