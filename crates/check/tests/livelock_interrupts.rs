//! What goes on for ever beside interrupts: one that is pending is taken, what it interrupts goes on, and handlers may go
//! round themselves.
#![allow(missing_docs, clippy::expect_used, clippy::unwrap_used)]

use lazytlb::{CpuId, CpuSet, Hw, Poll};
use lazytlb_check::{Checker, Finding, ModelHw, Program, Reduction, Storage};
use lazytlb_model::{MemoryModel, Property, Ticks};

use rest::{is_safe, livelock, waits};

mod rest;

fn to(cpu: u16) -> CpuSet<1> {
    let mut targets = CpuSet::EMPTY;
    targets.insert(CpuId(cpu));
    targets
}

/// CPU 0 interrupts CPU 1 again and again until it is told to end: by the handler, or by what that interrupts.
fn interrupts(told_by: Told) -> Program {
    let mut program = Program::new("interrupts", 2);
    let end = program.atomic("end", 0);
    program.operation(0, "interrupt", move |hw| {
        hw.poll(|hw| {
            hw.send_ipi(&to(1));
            (hw.load(&end) == 1).then_some(())
        });
    });
    program.operation(1, "work", move |hw| {
        hw.load(&end);
        if told_by == Told::ByWork {
            hw.store(&end, 1);
        }
        if told_by == Told::WithInterruptsOff {
            let former = hw.disable_interrupts();
            hw.poll(|hw| (hw.load(&end) == 1).then_some(()));
            hw.restore_interrupts(former);
        }
        if told_by == Told::AtMoments {
            hw.poll(|hw| {
                let former = hw.disable_interrupts();
                let is_told = hw.load(&end) == 1;
                hw.restore_interrupts(former);
                is_told.then_some(())
            });
        }
    });
    program.on_flush_interrupt(move |hw| {
        hw.load(&end);
        if !matches!(told_by, Told::ByWork | Told::ByNobody) {
            hw.store(&end, 1);
        }
    });
    program
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Told {
    ByHandler,
    ByWork,
    ByNobody,
    WithInterruptsOff,
    AtMoments,
}

#[test]
fn an_interrupt_that_is_pending_is_taken_and_what_it_interrupts_goes_on() {
    is_safe(&interrupts(Told::ByHandler));
    is_safe(&interrupts(Told::ByWork));
    is_safe(&interrupts(Told::AtMoments));
    let what = livelock(&interrupts(Told::ByNobody));
    assert!(what.contains("CPU 0 in \"interrupt\""), "{what}");
    // CPU 1 took none before it turned them off.
    waits(&interrupts(Told::WithInterruptsOff));
}

#[test]
fn handlers_that_interrupt_each_other_for_ever_are_found_without_a_poll() {
    let mut program = Program::new("ping-pong", 2);
    let done = program.atomic("done", 0);
    program.operation(0, "begin", move |hw| hw.send_ipi(&to(1)));
    program.operation(1, "work", move |hw| hw.store(&done, 1));
    program.on_flush_interrupt(|hw| hw.send_ipi(&to(1 - hw.cpu().0)));
    program.proves("all come to rest");
    for checker in [
        Checker::new(),
        Checker::new().memory(MemoryModel::Sc),
        Checker::new().reduction(Reduction::None),
    ] {
        let verdict = checker.check(&program);
        let violation = verdict.violation().unwrap();
        assert_eq!(violation.property, Property::Deadlock);
        assert!(violation.what.contains("for ever"), "{}", violation.what);
    }
    // States that are not kept are not looked at.
    let verdict = Checker::new()
        .storage(Storage::Fingerprints)
        .check(&program);
    assert!(matches!(verdict.finding, Finding::Incomplete { .. }));
    // One that is handed on once is no livelock.
    let mut program = Program::new("ping", 2);
    program.operation(0, "begin", |hw| hw.send_ipi(&to(1)));
    program.on_flush_interrupt(|hw| {
        if hw.cpu() == CpuId(1) {
            hw.send_ipi(&to(0));
        }
    });
    program.proves("all come to rest");
    assert!(Checker::new().check(&program).is_safe());
}

#[test]
fn a_handler_that_goes_round_is_found() {
    let mut program = Program::new("in a handler", 2);
    let (word, end) = (program.atomic("word", 0), program.atomic("end", 0));
    program.operation(0, "interrupt", move |hw| hw.send_ipi(&to(1)));
    program.operation(1, "work", move |hw| hw.store(&end, 1));
    program.on_flush_interrupt(move |hw| {
        hw.poll(|hw| {
            hw.swap(&word, 1);
            hw.swap(&word, 0);
            (hw.load(&end) == 1).then_some(())
        });
    });
    // The work that it interrupts would end it.
    livelock(&program);
}

#[test]
fn whoever_waits_for_a_tick_is_helped_by_one_and_others_are_not() {
    let toggles = |waits_for_tick: bool, ticks: Ticks| {
        let mut program = Program::new("ticks", 1);
        let (word, end) = (program.atomic("word", 0), program.atomic("end", 0));
        program.operation(0, "toggle", move |hw| {
            let body = |hw: &ModelHw| {
                hw.swap(&word, 1);
                hw.swap(&word, 0);
                (hw.load(&end) == 1).then_some(())
            };
            match waits_for_tick {
                true => hw.poll_until_tick(body),
                false => hw.poll(body),
            }
        });
        program.on_timer(ticks, move |hw| hw.store(&end, 1));
        program
    };
    for ticks in [Ticks::AtMost(1), Ticks::AnyNumber] {
        is_safe(&toggles(true, ticks));
        livelock(&toggles(false, ticks));
    }
}
