//! Code that loops without a seam call does not hang the checker: it is told, by its name, with what to do.
#![allow(missing_docs, clippy::expect_used)]

use std::time::{Duration, Instant};

use lazytlb::Hw;
use lazytlb_check::{CheckError, Checker, Program};

/// CPU 1 hangs once it sees what CPU 0 has stored.
fn program() -> Program {
    let mut program = Program::new("hangs", 2);
    let word = program.atomic("word", 0);
    program.operation(0, "store", move |hw| hw.store(&word, 1));
    program.operation(1, "look", move |hw| {
        if hw.load(&word) == 1 {
            loop {
                std::hint::spin_loop();
            }
        }
    });
    program
}

#[test]
fn an_operation_that_loops_outside_the_seam_ends_the_check() {
    for threads in [1, 2] {
        let checker = Checker::new()
            .max_time(Duration::from_secs(1))
            .threads(threads);
        let started = Instant::now();
        let errors = [
            checker.try_check(&program(), |_| {}).map(drop),
            checker.try_check_built(program, |_| {}).map(drop),
            checker.outcomes(&program()).map(drop),
        ];
        assert!(
            started.elapsed() < Duration::from_secs(20),
            "it waits for no hung thread"
        );
        for error in errors {
            let error = error.expect_err("it hangs");
            let CheckError::Limit(message) = &error else {
                panic!("{error:?}");
            };
            for text in ["\"look\"", "CPU 1", "hangs", "pause_until", "1 seam call"] {
                assert!(message.contains(text), "{text} is not in: {message}");
            }
        }
    }
}

/// It takes its time, but comes back: a limit on the whole is none on each run of the code.
#[test]
fn slow_code_is_no_hung_code() {
    let mut program = Program::new("slow", 1);
    let word = program.atomic("word", 0);
    program.proves("it comes back");
    program.operation(0, "store", move |hw| {
        std::thread::sleep(Duration::from_millis(30));
        hw.store(&word, 1);
    });
    let checker = Checker::new().max_time(Duration::from_millis(1));
    let verdict = checker
        .try_check(&program, |_| {})
        .expect("it does not hang");
    assert_ne!(verdict.name(), "violation");
}

#[test]
fn a_panic_of_the_checked_code_is_still_a_violation() {
    let mut program = Program::new("panics", 1);
    program.operation(0, "panic", |_| panic!("on purpose"));
    let verdict = Checker::new().check(&program);
    let violation = verdict.violation().expect("it panics");
    assert!(violation.what.contains("on purpose"), "{}", violation.what);
}
