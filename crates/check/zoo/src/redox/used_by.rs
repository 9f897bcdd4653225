//! Who leaves is out of `used_by` while CR3 still holds the root: nobody tells it, and tables are freed.
//!
//! Source: `src/percpu.rs`, `switch_arch_hook`, and its like in `src/context/context.rs`, `Context::set_addr_space`: `atomic_clear`
//! comes before `make_current`. That tables are freed too early besides is taken away here, to see this alone.

use lazytlb_check::Program;
use lazytlb_model::Property;

use super::{LEFT_OUT, Leave, Own, Rules, SOURCE, Table, serves};
use crate::exhibit::{Case, Exhibit};
use crate::setting::{PAGE, uses};

pub(crate) const EXHIBIT: Exhibit = Exhibit {
    name: "redox-used-by",
    kernel: "Redox 663e6641",
    about: "a CPU leaves used_by before it has loaded another CR3: tables are freed under its root",
    source: SOURCE,
    story: "CPU 1 switches away: it is out of used_by, and its CR3 still holds the space. CPU 0 unhooks a table, finds nobody \
            to ask, and frees it. CPU 1 walks it, speculatively, until it loads CR3.",
    fix: "load CR3, then leave used_by, and serve the flag after that",
    left_out: LEFT_OUT,
    bug: Some(Case::unsafe_by(
        "left before the CR3 load",
        (Property::TableUseAfterFree, 21),
        || {
            program(Rules {
                table: Table::AfterTheFlush,
                ..Rules::AS_IT_STANDS
            })
        },
    )),
    proofs: &[Case::safe("left after the CR3 load", || {
        program(Rules::FIXED)
    })],
    also: &[],
    broken: &[
        Case::unsafe_by(
            "left before the CR3 load, all else fixed",
            (Property::TableUseAfterFree, 19),
            || {
                program(Rules {
                    leave: Leave::BeforeTheLoad,
                    ..Rules::FIXED
                })
            },
        ),
        Case::unsafe_by(
            "no flush of its own",
            (Property::TableUseAfterFree, 22),
            || {
                program(Rules {
                    own: Own::NotFlushed,
                    ..Rules::FIXED
                })
            },
        ),
    ],
};

/// CPU 0 unmaps the last page of a table, and frees it; CPU 1 leaves the space.
fn program(rules: Rules) -> Program {
    let mut program = Program::new("redox-used-by", 2);
    let kernel = super::kernel::<2, 1>(&mut program, [1, 1], rules);
    program.operation(0, "munmap", move |hw| kernel.unmap_table(hw, 1));
    uses(&mut program, 1, PAGE);
    program.operation(1, "switch away", move |hw| kernel.switch(hw, 0));
    serves(&mut program, kernel);
    program
}
