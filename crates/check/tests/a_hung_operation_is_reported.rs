//! Code that loops without a seam call does not hang the checker: it is told, by its name, with what to do. So is a
//! function that builds a program, although nothing can end it.
#![allow(missing_docs, clippy::expect_used)]

use std::cell::Cell;
use std::io::Read;
use std::process::{Command, Stdio};
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

/// Builds a program that is fine, and hangs once it has built so many.
fn hangs_after(instances: usize) {
    let built = Cell::new(0);
    let build = || {
        if built.replace(built.get() + 1) == instances {
            std::thread::sleep(Duration::from_secs(60));
        }
        let mut program = Program::new("fine", 1);
        program.proves("nothing: it is about its builder");
        program.operation(0, "nothing", |hw| hw.fence());
        program
    };
    let checker = Checker::new().max_time(Duration::from_secs(1));
    drop(checker.try_check_built(build, |_| {}));
}

/// Run by the test below, in a process of its own, which that one ends.
#[test]
#[ignore = "hangs"]
fn the_first_build_hangs() {
    hangs_after(0);
}

#[test]
#[ignore = "hangs"]
fn a_build_for_the_second_run_hangs() {
    hangs_after(1);
}

#[test]
fn a_builder_that_hangs_is_told_on_the_error_output() {
    let tests = std::env::current_exe().expect("this is a file");
    for hanging in ["the_first_build_hangs", "a_build_for_the_second_run_hangs"] {
        let mut child = Command::new(&tests)
            .args(["--exact", hanging, "--ignored", "--nocapture"])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the tests can be run");
        std::thread::sleep(Duration::from_secs(4));
        let still_runs = child.try_wait().expect("it is a child").is_none();
        child.kill().expect("it can be ended");
        child.wait().expect("it has ended");
        let mut told = String::new();
        let mut output = child.stderr.take().expect("it is piped");
        output.read_to_string(&mut told).expect("it is text");
        assert!(still_runs, "nothing can end a builder: {told}");
        for text in [
            "the function that builds the program hangs",
            "1s",
            "max_time",
        ] {
            assert!(told.contains(text), "{text} is not in: {told}");
        }
    }
}
