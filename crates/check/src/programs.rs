//! The programs that ship: scenarios in which a protocol must keep every property. Each file begins with the table of its programs.
//!
//! | file | what the programs there are about |
//! | --- | --- |
//! | `reference` | one CPU maps and frees, others come and go lazily: the debate of 2017 |
//! | `initiators` | several CPUs flush at once |
//! | `spaces` | several spaces, and the end of one |
//! | `parts` | shootdowns in parts, which are waited for once, and one within another |
//! | `interrupts_off` | flushes with interrupts off, and a lock that CPUs spin for so |
//! | `in_handlers` | a timer handler that flushes, or retires a space |
//! | `ends` | the end of a space, on a CPU that is in it |
//! | `batches` | what one flush covers, and what is freed after it |
//! | `memory_types` | write-combining stores, devices, and memory that changes its type |
//! | `nmi` | what an NMI handler may touch |
//! | `page_sizes` | a mapping that becomes a large page, and large pages that go |
//! | `kernel_ranges` | what the kernel maps for itself, in every space |
//! | `isolation` | two roots for a space |
//! | `software_walks` | software that walks page tables without a lock |
//! | `global_ids` | PCIDs that another space gets when one ends |
//! | [`any_length`] | menus of operations, of which each CPU starts whatever it likes, for ever |
//! | `setup` | what they are made of |
//! | `garbage` | walks of freed tables, followed to their ends |

pub mod any_length;
mod batches;
mod ends;
mod garbage;
mod global_ids;
mod in_handlers;
mod initiators;
mod interrupts_off;
mod isolation;
mod kernel_ranges;
mod memory_types;
mod nmi;
mod page_sizes;
mod parts;
mod reference;
mod setup;
mod software_walks;
mod spaces;

use std::fmt;

use lazytlb::Policy;

use crate::program::Program;
use crate::protocol::Protocol;
use setup::{Build, MakeProtocol};

/// A shipped program: its name, what it is for, and how to make it for a protocol.
pub struct ShippedProgram<P> {
    /// The name that people type.
    pub name: &'static str,
    /// What the CPUs do, in a sentence.
    pub about: &'static str,
    build: Build,
    protocol: std::marker::PhantomData<fn() -> P>,
}

impl<P> fmt::Debug for ShippedProgram<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShippedProgram")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl<P: Protocol> ShippedProgram<P> {
    /// Every shipped program.
    pub fn all() -> Vec<ShippedProgram<P>> {
        let files = [
            reference::PROGRAMS,
            software_walks::PROGRAMS,
            initiators::PROGRAMS,
            spaces::PROGRAMS,
            ends::PROGRAMS,
            parts::PROGRAMS,
            in_handlers::PROGRAMS,
            interrupts_off::PROGRAMS,
            nmi::PROGRAMS,
            batches::PROGRAMS,
            memory_types::PROGRAMS,
            page_sizes::PROGRAMS,
            kernel_ranges::PROGRAMS,
            isolation::PROGRAMS,
            global_ids::PROGRAMS,
            garbage::PROGRAMS,
        ];
        let shipped = files.concat().into_iter().map(|(name, about, build)| {
            let protocol = std::marker::PhantomData;
            ShippedProgram {
                name,
                about,
                build,
                protocol,
            }
        });
        shipped.collect()
    }

    /// Finds a program by its name.
    pub fn by_name(name: &str) -> Option<ShippedProgram<P>> {
        Self::all().into_iter().find(|program| program.name == name)
    }

    /// Makes the program under a policy.
    pub fn build(&self, policy: Policy) -> Program {
        (self.build)(self.name, MakeProtocol::of::<P>(policy))
    }
}
