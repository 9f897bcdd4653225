//! The small numbers that a state is made of, each with a type of its own.
//!
//! A bare `u8` could be a CPU, a frame or a cell; these cannot be taken for each other. Each has one
//! conversion from the integer that people write, which panics where the number cannot be one: callers
//! have checked what a program brings forth, and answer it with a [`Limit`](crate::Limit).
//!
//! | file | what |
//! | --- | --- |
//! | `numbered` | what is numbered in the order in which it turns up |
//! | `cpu` | CPUs, where they are in their code, and the ways that a step of theirs has |
//! | `paging` | frames, and what page tables are made of |
//! | `location` | the words of shared memory, and where they lie in a state |
//! | `promise` | promises about flushes, their slots and subjects |
//! | `broadcast` | invalidations that were broadcast |

mod broadcast;
mod cpu;
mod location;
mod numbered;
mod paging;
mod promise;

pub use broadcast::{BroadcastId, BroadcastSet};
pub(crate) use cpu::Targets;
pub use cpu::{Cpu, Place, Way};
pub(crate) use location::{EntryId, Location, Locations, Offset};
pub(crate) use numbered::{LateStoreId, Number, PassedId, TranslationId};
pub(crate) use paging::EntryAt;
pub use paging::{Frame, Level, PcidTag, TableIndex};
pub(crate) use promise::{PromiseId, PromiseSlot, SubjectId};
