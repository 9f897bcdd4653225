//! Who left before it was counted acknowledges all the same, and stands for one who has not flushed.
//!
//! Source: `src/context/memory.rs`, `Flusher::flush`: the test of `active_cpus` after the interrupt; `src/percpu.rs`,
//! `switch_arch_hook`, which serves the flag on the way out.

use lazytlb_check::Program;
use lazytlb_model::Property;

use super::{Answer, LEFT_OUT, Rules, SOURCE, serves};
use crate::exhibit::{Case, Exhibit};
use crate::setting::{PAGE, uses};

pub(crate) const EXHIBIT: Exhibit = Exhibit {
    name: "redox-count",
    kernel: "Redox 663e6641",
    about: "the acknowledgement of a CPU that was not counted stands for one that has not flushed",
    source: SOURCE,
    story: "CPU 0 asks CPU 1, which leaves the space before CPU 0 looks whether to count it, and acknowledges on its way \
            out. CPU 0 asks CPU 2 and counts it: one answer is to come, and one is there, CPU 1's. CPU 0 goes on while \
            CPU 2 still uses the page.",
    fix: "no counts: a target clears its flag after it has flushed, and the initiator waits for each flag that it has set",
    left_out: LEFT_OUT,
    bug: Some(Case::unsafe_by(
        "answers are counted",
        (Property::StaleUse, 31),
        || program(Rules::AS_IT_STANDS),
    )),
    proofs: &[Case::safe("each flag is waited for", || {
        program(Rules::FIXED)
    })],
    also: &[Case::safe(
        "the flag is cleared before the flush: no table goes",
        || {
            program(Rules {
                answer: Answer::FlagTooEarly,
                ..Rules::FIXED
            })
        },
    )],
    broken: &[
        Case::unsafe_by(
            "everybody who was asked is counted",
            (Property::Deadlock, 39),
            || {
                program(Rules {
                    answer: Answer::AllCounted,
                    ..Rules::AS_IT_STANDS
                })
            },
        ),
        Case::unsafe_by("nobody is waited for", (Property::StaleUse, 20), || {
            program(Rules {
                answer: Answer::NotWaitedFor,
                ..Rules::FIXED
            })
        }),
    ],
};

/// CPU 0 unmaps a page; CPU 1 leaves the space; CPU 2 uses the page.
fn program(rules: Rules) -> Program {
    let mut program = Program::new("redox-count", 3);
    let kernel = super::kernel::<3, 1>(&mut program, [1, 1, 1], rules);
    program.operation(0, "munmap", move |hw| kernel.unmap_page(hw, 1));
    program.operation(1, "switch away", move |hw| kernel.switch(hw, 0));
    uses(&mut program, 2, PAGE);
    serves(&mut program, kernel);
    program
}
