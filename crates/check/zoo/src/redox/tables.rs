//! A table whose last entry goes is freed, then its entry is cleared, then the flush comes.
//!
//! Source: `rmm/src/page/mapper.rs`, `unmap_phys_inner`: `free_one` of the emptied table, then `set_entry` above it; the flush is
//! the caller's, of whatever it has unmapped.

use lazytlb_check::Program;
use lazytlb_model::Property;

use super::{Answer, LEFT_OUT, Rules, SOURCE, Table, serves};
use crate::exhibit::{Case, Exhibit};
use crate::setting::{PAGE, uses};

pub(crate) const EXHIBIT: Exhibit = Exhibit {
    name: "redox-tables",
    kernel: "Redox 663e6641",
    about: "an emptied table is freed before the entry that leads to it is cleared",
    source: SOURCE,
    story: "When a table's last entry is cleared, the table goes back to the allocator at once; then the entry above it is \
            cleared; the flush comes last. A CPU that walks meanwhile reads a table that holds whatever its next owner \
            writes.",
    fix: "unhook, flush, free",
    left_out: LEFT_OUT,
    bug: Some(Case::unsafe_by(
        "freed, unhooked, flushed",
        (Property::TableUseAfterFree, 5),
        || program(Rules::AS_IT_STANDS),
    )),
    proofs: &[Case::safe("unhooked, flushed, freed", || {
        program(Rules::FIXED)
    })],
    also: &[],
    broken: &[
        Case::unsafe_by(
            "unhooked, freed, flushed",
            (Property::TableUseAfterFree, 6),
            || {
                program(Rules {
                    table: Table::BeforeTheFlush,
                    ..Rules::FIXED
                })
            },
        ),
        Case::unsafe_by(
            "the flag is cleared before the flush",
            (Property::TableUseAfterFree, 23),
            || {
                program(Rules {
                    answer: Answer::FlagTooEarly,
                    ..Rules::FIXED
                })
            },
        ),
    ],
};

/// CPU 0 unmaps the last page of a table; CPU 1 uses it.
fn program(rules: Rules) -> Program {
    let mut program = Program::new("redox-tables", 2);
    let kernel = super::kernel::<2, 1>(&mut program, [1, 1], rules);
    program.operation(0, "munmap", move |hw| kernel.unmap_table(hw, 1));
    uses(&mut program, 1, PAGE);
    serves(&mut program, kernel);
    program
}
