//! Reads litmus tests for x86, in the syntax of herd, into a syntax tree.
//!
//! A litmus test asks whether a small parallel program can end in a given state:
//!
//! ```text
//! X86_64 SB                               header: architecture, name
//! "store buffering"                       title
//! Com=Fr Fr                               metadata
//! { x=0; y=0; }                           init
//!  P0            | P1            ;        table: a column for each thread
//!  movl $1,(x)   | movl $1,(y)   ;
//!  movl (y),%eax | movl (x),%eax ;
//! exists (0:rax=0 /\ 1:rax=0)             condition
//! ```
//!
//! Two syntaxes of instructions: AT&T below `X86_64`, Intel below `X86`. *Translation tests* extend
//! the first: page-table entries are memory (`movq $(oa:PA(y)), (PTE(x))`), and there are
//! instructions to invalidate translations, to switch address spaces and to send interrupts.
//!
//! The reader only reads. Whether a label exists, a register fits the thread, or an entry may lie
//! where a test puts it, is decided by who gives the tree a meaning. What it does not know it
//! refuses, with the place, what it expected there, and what to write instead; it never guesses
//! and never panics. Only free text in the header and blocks `<< >>` behind the condition are skipped.
//!
//! ```
//! let test = lazytlb_litmus_syntax::read(
//!     "X86_64 MP\n{}\n P0 | P1 ;\n movq $1,(x) | movq (y),%rax ;\n movq $1,(y) | movq (x),%rbx ;\n\
//!      exists (1:rax=1 /\\ 1:rbx=0)\n",
//! )?;
//! assert_eq!((test.name.as_str(), test.threads.len()), ("MP", 2));
//! # Ok::<(), lazytlb_litmus_syntax::SyntaxError>(())
//! ```
//!
//! | file | what |
//! | --- | --- |
//! | `parser` | a whole file: [`read()`], [`read_bytes`] |
//! | `test` | the tree: [`LitmusTest`] |
//! | `header`, `init`, `table`, `condition` | the parts of a file, in order |
//! | `att_syntax`, `intel_syntax` | instructions in the two syntaxes |
//! | `plain`, `privileged` | what both share; the instructions of translation tests |
//! | `instruction`, `operand`, `register` | instructions as data |
//! | `expr`, `atom` | propositions: facts and how they are joined |
//! | `place`, `location`, `entry`, `cr3`, `value` | memory, page-table entries, CR3, and what they hold |
//! | `variable_width` | how wide a variable is: [`LitmusTest::width_of`] |
//! | `spelling` | how answers print conditions and locations: [`Spelling`] |
//! | `lexer`, `position`, `error` | tokens, where they stand, and messages |
//!
//! A new instruction takes a variant of [`Instruction`], a line in `plain` (no privilege, both
//! syntaxes) or `privileged`, and what the compiler then asks for.
//!
//! # What it does not read
//! Conditional moves, indirect jumps and jumps on parity; arrays; addresses of two registers; `ah` to
//! `dh`; conditions that compare two locations; herd's `observed` sections.
#![forbid(unsafe_code)]

mod atom;
mod att_syntax;
mod condition;
mod cr3;
mod entry;
mod error;
mod expr;
mod header;
mod init;
mod instruction;
mod intel_syntax;
mod lexer;
mod location;
mod operand;
mod parser;
mod place;
mod plain;
mod position;
mod privileged;
mod register;
mod spelling;
mod table;
mod test;
mod value;
mod variable_width;

pub use atom::{Atom, FieldValue, Relation};
pub use condition::{Condition, Quantifier};
pub use cr3::Cr3Literal;
pub use entry::{Caching, EntryLiteral, Field};
pub use error::SyntaxError;
pub use expr::Expr;
pub use init::InitItem;
pub use instruction::{AluOp, CompareOp, Instruction, InvpcidType, JumpCondition, JumpIf, Stride};
pub use location::Location;
pub use operand::{Memory, Operand};
pub use parser::{read, read_bytes};
pub use place::{EntryName, Frame, Level, Place, TableIndex};
pub use position::{Located, Position};
pub use register::{GeneralRegister, Register, Width};
pub use spelling::Spelling;
pub use test::{Arch, Handler, LitmusTest, Metadata, Thread};
pub use value::Value;

/// Keeps the former name of [`Caching`].
#[deprecated(note = "renamed to `Caching`: the model has a `MemoryType` of its own")]
pub type MemoryType = Caching;
