//! Whom a flush that spares lazy CPUs may interrupt: judged by what it saw of them, until it ends.

use lazytlb::{CpuId, CpuSet, Hw};
use lazytlb_check::{Checker, Program, Verdict};
use lazytlb_model::Property;

/// A CPU looks at another one twice, which may go lazy in between, and interrupts it.
fn looks_twice(a_flush_ends_in_between: bool) -> Verdict {
    let mut program = Program::new("looks twice", 2);
    let is_lazy = program.atomic("is_lazy", 0);
    program.is_lazy_in(1, is_lazy);
    program.on_flush_interrupt(|_| {});
    program.proves("who was seen running may be interrupted");
    program.operation(0, "interrupt", move |hw| {
        let _spares = hw.spares_lazy_cpus();
        if hw.load(&is_lazy) != 0 {
            return;
        }
        if a_flush_ends_in_between {
            hw.has_flushed();
        }
        hw.load(&is_lazy);
        let mut targets = CpuSet::<1>::EMPTY;
        targets.insert(CpuId(1));
        hw.send_ipi(&targets);
    });
    program.operation(1, "go lazy", move |hw| hw.store(&is_lazy, 1));
    Checker::new().check(&program)
}

#[test]
fn whom_a_flush_has_seen_running_it_may_interrupt() {
    let verdict = looks_twice(false);
    assert!(verdict.is_safe(), "{verdict:?}");
}

#[test]
fn what_an_earlier_flush_saw_excuses_no_later_one() {
    let verdict = looks_twice(true);
    let found = verdict.violation().map(|violation| violation.property);
    assert_eq!(found, Some(Property::LazyInterrupted));
}
