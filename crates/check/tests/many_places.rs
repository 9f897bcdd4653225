//! Programs with more places in their code than two bytes can number.
#![allow(missing_docs, clippy::expect_used, clippy::unwrap_used)]

use lazytlb::{CpuId, CpuSet, Hw, Until};
use lazytlb_check::{Checker, ModelHw, Program, Verdict};
use lazytlb_model::{AtomicCell, MemoryModel, Property};

/// More than 65,536 together. Operations are short, because each place is found by a run from their start.
const OPERATIONS: u32 = 660;
const CALLS: u64 = 100;

/// CPU 0 does so many operations; then it interrupts CPU 1, and waits until the handler is through. What a handler
/// does with the word that CPU 0 stored last comes behind all those places.
fn program(
    handler: impl Fn(&ModelHw, AtomicCell, AtomicCell) + Send + Sync + 'static,
    last: impl Fn(&ModelHw, AtomicCell) + Send + Sync + 'static,
) -> Program {
    let mut program = Program::new("many places", 2);
    let (word, served) = (program.atomic("word", 0), program.atomic("served", 0));
    for _ in 0..OPERATIONS {
        program.operation(0, "count", move |hw| {
            for call in 0..CALLS {
                hw.store(&word, call % 100);
            }
        });
    }
    program.operation(0, "interrupt", move |hw| {
        let mut target = CpuSet::<1>::EMPTY;
        target.insert(CpuId(1));
        hw.send_ipi(&target);
        hw.pause_until(&served, Until::Equals(1));
        last(hw, word);
    });
    program.on_flush_interrupt(move |hw| handler(hw, word, served));
    program.proves("the last store is what others read");
    program
}

fn check(program: &Program) -> Verdict {
    Checker::new().memory(MemoryModel::Sc).check(program)
}

const STORED_LAST: u64 = (CALLS - 1) % 100;

fn serve(hw: &ModelHw, word: AtomicCell, served: AtomicCell) {
    assert_eq!(hw.load(&word), STORED_LAST);
    hw.store(&served, 1);
}

#[test]
fn a_program_with_more_places_than_two_bytes_number_is_proved() {
    let program = program(serve, |hw, word| assert_eq!(hw.load(&word), STORED_LAST));
    let verdict = check(&program);
    assert!(verdict.is_safe(), "{verdict:?}");
    assert!(verdict.effort.states > u64::from(OPERATIONS) * CALLS);
}

#[test]
fn a_bug_behind_so_many_places_is_found_and_replays() {
    let in_handler = program(
        |hw, word, served| {
            serve(hw, word, served);
            assert_eq!(hw.load(&word), 0, "the handler has read it");
        },
        |_, _| {},
    );
    let in_operation = program(serve, |hw, word| {
        assert_eq!(hw.load(&word), 0, "the operation has read it");
    });
    for (program, words) in [(in_handler, "the handler"), (in_operation, "the operation")] {
        let verdict = check(&program);
        let violation = verdict.violation().expect("it is there");
        assert_eq!(violation.property, Property::Panic);
        assert!(violation.what.contains(words), "{}", violation.what);
    }
}
