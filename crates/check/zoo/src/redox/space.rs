//! Who has switched acknowledges a request of the old space's to the new one.
//!
//! Source: `src/percpu.rs`, `PercpuBlock::maybe_handle_tlb_shootdown`, which adds to `tlb_ack` of `current_addrsp`, and
//! `switch_arch_hook`; `src/context/memory.rs`, `Flusher::flush`, which begins with `tlb_ack` = 0.

use lazytlb_check::Program;
use lazytlb_model::Property;

use super::{Answer, LEFT_OUT, Rules, SOURCE, serves};
use crate::exhibit::{Case, Exhibit};
use crate::setting::{PAGE, uses, without_interrupts};

pub(crate) const EXHIBIT: Exhibit = Exhibit {
    name: "redox-space",
    kernel: "Redox 663e6641",
    about: "a CPU that has switched acknowledges the old space's request to the new space",
    source: SOURCE,
    story: "CPU 0 asks CPU 1 for the first space's sake; CPU 1 has just left that, and is in the second one when it takes the \
            flag and flushes. Before it has acknowledged, CPU 2 unmaps a page of the second space, sets its count of answers to \
            0, and asks CPU 1, too. Then CPU 1 acknowledges, to the space that it is in: CPU 2 takes it for the answer to \
            its own request, and goes on.",
    fix: "no counts: a target clears its flag after it has flushed, and the initiator waits for each flag that it has set",
    left_out: LEFT_OUT,
    bug: Some(Case::unsafe_by(
        "answers go to the space of now",
        (Property::StaleUse, 52),
        || program(Rules::AS_IT_STANDS),
    )),
    proofs: &[Case::safe("each flag is waited for", || {
        program(Rules::FIXED)
    })],
    also: &[],
    broken: &[
        Case::unsafe_by(
            "another initiator's flag will do",
            (Property::StaleUse, 48),
            || {
                program(Rules {
                    answer: Answer::FlagOfAnother,
                    ..Rules::FIXED
                })
            },
        ),
        Case::unsafe_by("nobody is waited for", (Property::StaleUse, 34), || {
            program(Rules {
                answer: Answer::NotWaitedFor,
                ..Rules::FIXED
            })
        }),
    ],
};

/// CPU 0 unmaps a page of the first space, CPU 2 one of the second; CPU 1 switches from one to the other, and uses its page.
fn program(rules: Rules) -> Program {
    let mut program = Program::new("redox-space", 3);
    let kernel = super::kernel::<3, 2>(&mut program, [1, 1, 2], rules);
    program.operation(0, "munmap in X", move |hw| kernel.unmap_page(hw, 1));
    program.operation(1, "switch to Y", move |hw| kernel.switch(hw, 2));
    uses(&mut program, 1, PAGE);
    program.operation(2, "run in Y", move |hw| {
        without_interrupts(hw, || kernel.load_cr3(hw, 2))
    });
    program.operation(2, "munmap in Y", move |hw| kernel.unmap_page(hw, 2));
    serves(&mut program, kernel);
    program
}
