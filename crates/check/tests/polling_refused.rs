//! What a poll's body must not do, and what a loop without one is told.
#![allow(missing_docs, clippy::expect_used, clippy::unwrap_used)]

mod setters;

use std::cell::{Cell, RefCell};

use lazytlb::{Hw, Poll};
use lazytlb_check::{Checker, Program, Reduction};
use lazytlb_model::Property;
use setters::with_setters;

/// Checks that a program is refused, with words that say why.
#[track_caller]
fn is_refused(program: &Program, words: &[&str]) {
    for reduction in [Reduction::CollapseLocal, Reduction::None] {
        let checker = Checker::new().reduction(reduction);
        let error = checker.try_check(program, |_| {});
        let error = error.expect_err("it is refused").to_string();
        for word in words {
            assert!(error.contains(word), "{word} is not in: {error}");
        }
    }
}

#[test]
fn a_bounded_retry_is_refused() {
    for attempts in [1, 3, 2000] {
        let program = with_setters(
            move |hw, words| {
                let tried = Cell::new(0);
                hw.poll(|hw| {
                    tried.set(tried.get() + 1);
                    let is_set = hw.load(&words[0]) != 0;
                    (is_set || tried.get() > attempts).then_some(is_set)
                });
            },
            1,
        );
        is_refused(&program, &["CPU 0, poll", "captures"]);
    }
}

#[test]
fn what_iterations_gather_outside_of_modelled_memory_is_refused() {
    // Only the code after the loop looks at it.
    let program = with_setters(
        |hw, words| {
            let values = RefCell::new(Vec::new());
            hw.poll(|hw| {
                let value = hw.load(&words[0]);
                values.borrow_mut().push(value);
                (hw.load(&words[1]) != 0).then_some(())
            });
            if values.borrow().contains(&1) {
                hw.store(&words[0], 3);
            }
        },
        2,
    );
    is_refused(&program, &["CPU 0"]);
    // It looks only whether there were many.
    for many in [5, 2000] {
        let program = with_setters(
            move |hw, words| {
                let rounds = Cell::new(0);
                hw.poll(|hw| {
                    rounds.set(rounds.get() + 1);
                    (hw.load(&words[0]) != 0).then_some(())
                });
                if rounds.get() > many {
                    hw.store(&words[0], 3);
                }
            },
            1,
        );
        is_refused(&program, &["CPU 0"]);
    }
    // Only one iteration in many gathers anything, and it was met after the code behind the loop.
    let program = with_setters(
        |hw, words| {
            let last = Cell::new(0);
            hw.poll(|hw| {
                let value = hw.load(&words[0]);
                if value == 0 && last.get() != 0 {
                    hw.note("it has gone back");
                    hw.load(&words[1]);
                }
                last.set(value);
                (hw.load(&words[1]) != 0).then_some(())
            });
        },
        2,
    );
    is_refused(&program, &["CPU 0"]);
}

#[test]
fn an_iteration_must_ask_something_and_leave_interrupts_as_they_were() {
    for (wrong, words) in [
        (0, "made no seam call"),
        (1, "without restoring interrupts"),
    ] {
        let program = with_setters(
            move |hw, words| {
                hw.poll(|hw| {
                    if wrong == 1 {
                        hw.disable_interrupts();
                        return (hw.load(&words[0]) != 0).then_some(());
                    }
                    None
                });
            },
            1,
        );
        let verdict = Checker::new().check(&program);
        let violation = verdict.violation().expect("it is a panic");
        assert_eq!(violation.property, Property::Panic);
        assert!(violation.what.contains(words), "{}", violation.what);
    }
}

#[test]
fn code_that_loops_over_loads_is_told_of_a_spin_loop() {
    let program = with_setters(
        |hw, words| while hw.load(&words[0]) == 0 || hw.load(&words[1]) == 0 {},
        2,
    );
    let error = Checker::new().try_check(&program, |_| {}).unwrap_err();
    for words in [
        "spin loop",
        "CPU 0",
        "\"poll\"",
        "word 1; word 0",
        "Poll::poll",
    ] {
        assert!(
            error.to_string().contains(words),
            "{words} is not in: {error}"
        );
    }
    let program = with_setters(|hw, words| while hw.load(&words[0]) == 0 {}, 1);
    let verdict = Checker::new().check(&program);
    let what = &verdict.violation().unwrap().what;
    assert!(
        what.contains("spin loop") && what.contains("Poll::poll"),
        "{what}"
    );
}
