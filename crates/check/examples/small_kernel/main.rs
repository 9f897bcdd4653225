//! A small kernel that embeds the protocol as the porting guide says, checked: fork, copy on write, exec, exit, mremap, munmap,
//! and what the kernel maps for itself.
//!
//! The kernel names no machine: it is generic over the seam, the traits beside it, and what a kernel does around the protocol.
//! Each program is safe under every safe policy, with PCIDs off and on, with store buffers and without; and each has something that a kernel may forget, which is
//! found. Run it with `cargo run --release -p lazytlb-check --example small_kernel`.
//!
//! | file | what |
//! | --- | --- |
//! | `kernel` | the kernel's storage, spaces and locks; what is to be forgotten |
//! | `page_tables` | page tables, pages and their shares, munmap |
//! | `fork` | fork, copy on write |
//! | `ends` | references to spaces, exec, exit, reaping |
//! | `mremap` | pages that move |
//! | `isolation` | two roots for a space, one for user mode |
//! | `kernel_ranges` | the kernel's own pages, CPUs that come online |
//! | `programs` | what two CPUs do in it |

mod ends;
mod fork;
mod isolation;
mod kernel;
mod kernel_ranges;
mod mremap;
mod page_tables;
mod programs;

use lazytlb::Policy;
use lazytlb_check::Checker;
use lazytlb_model::{MemoryModel, Property};

use kernel::Forgets;
use programs::{About, Setup, build};

/// Slots for PCIDs, where they are on.
const SLOTS: usize = 1;

/// Each program, what its kernel may forget, and what comes of that.
const PROGRAMS: [(About, Forgets, Property); 9] = [
    (About::Fork, Forgets::FlushOfFork, Property::StaleUse),
    (
        About::CopyOnWrite,
        Forgets::ShareUntilFlushed,
        Property::StaleUse,
    ),
    (About::Exec, Forgets::Reap, Property::TableUseAfterFree),
    (About::Exit, Forgets::Reap, Property::TableUseAfterFree),
    (About::Mremap, Forgets::SecondAdd, Property::StaleUse),
    (
        About::Munmap,
        Forgets::TableIsUnhooked,
        Property::TableUseAfterFree,
    ),
    (About::Isolated, Forgets::InterruptsOff, Property::StaleUse),
    (About::KernelPage, Forgets::OtherSpaces, Property::StaleUse),
    (About::ComesOnline, Forgets::OnlineFirst, Property::StaleUse),
];

/// Checks a program under one policy, on every machine: it must be safe. Returns how many states that took.
fn check_safe(about: About, policy: Policy) -> u64 {
    let mut states = 0;
    for memory in [MemoryModel::Sc, MemoryModel::TSO] {
        for pcids_are_on in [false, true] {
            let setup = Setup {
                policy,
                pcids_are_on,
                forgets: Forgets::Nothing,
            };
            let checker = Checker::new().memory(memory);
            let verdict = checker.check_built(|| build::<SLOTS>(about, setup));
            assert!(verdict.is_safe(), "{about:?}, {setup:?}: {verdict:?}");
            states += verdict.effort.states;
        }
    }
    states
}

/// Returns the property that is violated if a kernel forgets something.
fn violated(about: About, forgets: Forgets) -> Option<Property> {
    let setup = Setup {
        policy: Policy::IpiOnTableFree,
        // Without them every load flushes, that of a user half too.
        pcids_are_on: about == About::Isolated,
        forgets,
    };
    let verdict = Checker::new().check_built(|| build::<SLOTS>(about, setup));
    verdict.violation().map(|violation| violation.property)
}

pub(crate) fn main() {
    for (about, forgets, expected) in PROGRAMS {
        for policy in [Policy::InitMm, Policy::Ipi, Policy::IpiOnTableFree] {
            let states = check_safe(about, policy);
            println!("{about:?}, {policy}: safe, {states} states");
        }
        let property = violated(about, forgets);
        println!("{about:?}, {forgets:?} forgotten: {property:?}");
        assert_eq!(property, Some(expected));
    }
}
