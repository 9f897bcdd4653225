//! Answers litmus tests for x86: all executions, on the machine of `lazytlb-model`.
//!
//! A thread becomes one operation of a program for `lazytlb-check`: real code, which interprets the
//! instructions and asks the machine for each access. So everything holds here that holds of a checked
//! kernel: what may be cached, what may wait in a buffer, when an interrupt comes.
//!
//! Tests are read by `lazytlb-litmus-syntax`, whose tree is part of this crate's interface.
#![forbid(unsafe_code)]

mod answer;
mod code;
mod interpreter;
mod names;
mod observer;
mod run;
mod width;
mod world;

pub use answer::{Answer, FinalState, Verdict};
#[allow(deprecated)]
pub use lazytlb_litmus_syntax::MemoryType;
pub use lazytlb_litmus_syntax::{
    AluOp, Arch, Atom, Caching, Condition, EntryLiteral, EntryName, Expr, Field, FieldValue, Frame,
    GeneralRegister, Handler, InitItem, Instruction, InvpcidType, Level, LitmusTest, Located,
    Location, Memory, Operand, Place, Position, Quantifier, Register, Relation, Spelling, Stride,
    SyntaxError, TableIndex, Thread, Value, Width, read, read_bytes,
};
pub use run::{Options, RunError, run};
