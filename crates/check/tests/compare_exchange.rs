//! A compare-exchange through the trait beside the seam is one step, and a full fence though it fails.

use lazytlb::{CompareExchange, Hw};
use lazytlb_check::{Checker, Program};
use lazytlb_model::{AtomicCell, MemoryModel, Property};

/// What stands between a CPU's store and its load.
#[derive(Clone, Copy, Debug)]
enum Between {
    Nothing,
    FailedCompareExchange,
}

/// Dekker's algorithm: each CPU says that it comes, and enters if the other has not.
fn enter<H: CompareExchange>(
    hw: &H,
    [mine, theirs, unrelated, inside]: [&H::Atomic; 4],
    between: Between,
) {
    hw.store(mine, 1);
    if let Between::FailedCompareExchange = between {
        assert_eq!(hw.compare_exchange(unrelated, 7, 8), Err(5));
    }
    if hw.load(theirs) == 0 {
        assert_eq!(hw.swap(inside, 1), 0, "both are inside");
        hw.store(inside, 0);
    }
}

fn violated(between: Between, memory: MemoryModel) -> Option<Property> {
    let mut program = Program::new("dekker", 2);
    let wants = [0, 1].map(|cpu| program.atomic(format!("wants {cpu}"), 0));
    let unrelated = program.atomic("unrelated", 5);
    let inside = program.atomic("inside", 0);
    for cpu in [0, 1] {
        let [mine, theirs]: [AtomicCell; 2] = [wants[cpu], wants[1 - cpu]];
        program.operation(cpu as u8, "enter", move |hw| {
            enter(hw, [&mine, &theirs, &unrelated, &inside], between);
        });
    }
    program.proves("never both are inside");
    let verdict = Checker::new().memory(memory).check(&program);
    let property = verdict.violation().map(|violation| violation.property);
    assert!(property.is_some() || verdict.is_safe(), "{verdict:?}");
    property
}

#[test]
fn one_that_fails_orders_the_store_before_the_load() {
    let panic = Some(Property::Panic);
    assert_eq!(violated(Between::Nothing, MemoryModel::TSO), panic);
    assert_eq!(violated(Between::Nothing, MemoryModel::Sc), None);
    for memory in [MemoryModel::TSO, MemoryModel::Sc] {
        assert_eq!(violated(Between::FailedCompareExchange, memory), None);
    }
}

#[test]
fn of_two_cpus_that_exchange_the_same_value_one_is_told_what_the_other_wrote() {
    let mut program = Program::new("claim", 2);
    let (owner, winners) = (program.atomic("owner", 0), program.atomic("winners", 0));
    for cpu in [0, 1] {
        program.operation(cpu, "claim", move |hw| {
            let (me, other) = (u64::from(cpu) + 1, 2 - u64::from(cpu));
            match hw.compare_exchange(&owner, 0, me) {
                Ok(held) => {
                    assert_eq!((held, hw.fetch_add(&winners, 1)), (0, 0));
                    hw.note("won");
                }
                Err(held) => {
                    assert_eq!((held, hw.load(&owner)), (other, other));
                    hw.note("lost");
                }
            }
        });
    }
    program.proves("one of two CPUs gets what both claim");
    program.expect_notes(["won", "lost"]);
    let verdict = Checker::new().check(&program);
    assert!(verdict.is_safe(), "{verdict:?}");
    assert!(verdict.unreached.is_empty(), "{verdict:?}");
}
