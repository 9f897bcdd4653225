//! The random simulator on the project's own litmus tests: it reaches what they call Allowed, and nothing that
//! the answers do not allow.

#![allow(clippy::unwrap_used)] // A test that fails is to panic.

mod suite_files;

use std::collections::BTreeSet;
use std::path::PathBuf;

use lazytlb_litmus::{Answer, LitmusTest, Options, read_bytes, run};
use lazytlb_simulator::{Amended, Simulation, without_numbers_of_tables};
use suite_files::suite;

/// Executions of a test until it is reached.
const MOST_RUNS: u64 = 40_000;
/// Executions of a test that is to be Forbidden, or compared.
const RUNS: u64 = 500;

/// The outcomes that tests call Allowed and the simulator does not reach, each with the reason.
const NOT_REACHED: [(&str, &str); 7] = [
    ("H19-reused-pcid-without-a-flush", LOOKS_FOR_NO_VIOLATION),
    ("H28-alias-of-another-type", LOOKS_FOR_NO_VIOLATION),
    ("H28-make-and-flush-leaves-a-window", LOOKS_FOR_NO_VIOLATION),
    ("H28-the-other-cpu-has-not-flushed", LOOKS_FOR_NO_VIOLATION),
    ("H28-types-kept-under-a-pcid", LOOKS_FOR_NO_VIOLATION),
    ("H28-types-under-two-pcids", LOOKS_FOR_NO_VIOLATION),
    ("H28-uncached-after-write-back", LOOKS_FOR_NO_VIOLATION),
];
const LOOKS_FOR_NO_VIOLATION: &str =
    "the outcome is a violation of the model's book-keeping, which a CPU does not have";

/// Lists the suite's tests that are for `weakest`.
fn tests() -> Vec<(PathBuf, LitmusTest)> {
    let tests = suite().into_iter().map(|file| {
        let test = read_bytes(&std::fs::read(&file).unwrap()).unwrap();
        (file, test)
    });
    let is_for_weakest = |test: &LitmusTest| {
        let cpus = test.metadata("CPU");
        cpus.is_none_or(|cpus| cpus.split(',').any(|cpu| cpu.trim() == "weakest"))
    };
    tests.filter(|(_, test)| is_for_weakest(test)).collect()
}

fn is_allowed(test: &LitmusTest) -> bool {
    let of_weakest = test.metadata("Expect@weakest");
    of_weakest.or_else(|| test.metadata("Expect")) == Some("Allowed")
}

/// Prepares a test; `None` if the simulator does not know something in it, so that it reaches nothing.
fn simulation(test: &LitmusTest) -> Option<Simulation> {
    match Simulation::new(test, Amended::WEAKEST) {
        Ok(simulation) => Some(simulation),
        Err(error) => {
            println!("{}: {error}", test.name);
            None
        }
    }
}

#[test]
fn the_simulator_reaches_what_the_suite_calls_allowed() {
    let suite = tests();
    let allowed: Vec<&LitmusTest> = suite
        .iter()
        .map(|(_, test)| test)
        .filter(|test| is_allowed(test))
        .collect();
    let is_reached = |test: &&LitmusTest| {
        simulation(test).is_some_and(|simulation| {
            let mut reached = (0..MOST_RUNS).filter_map(|seed| simulation.run(seed));
            reached.any(|outcome| outcome.holds)
        })
    };
    let (reached, missed): (Vec<&LitmusTest>, Vec<&LitmusTest>) =
        allowed.iter().copied().partition(is_reached);
    println!("{} of {} reached", reached.len(), allowed.len());
    assert!(reached.len() * 10 >= allowed.len() * 8);
    let missed: BTreeSet<&str> = missed.iter().map(|test| &test.name[..]).collect();
    let known: BTreeSet<&str> = NOT_REACHED.iter().map(|(name, _)| *name).collect();
    assert_eq!(
        missed, known,
        "the table of what is not reached is out of date"
    );
}

/// Says whether an answer may leave states out: the model ends every execution in which a walk may read a page
/// that is no table, or two memory types meet, if the test asks for that.
fn is_cut(answer: &Answer) -> bool {
    let cuts = [
        "table-use-after-free",
        "stale-speculation",
        "foreign-translation",
    ];
    let mut texts = answer.states.iter().map(|state| &state.text);
    answer.incomplete.is_some() || texts.any(|text| cuts.iter().any(|cut| text.contains(cut)))
}

#[test]
fn what_the_simulator_reaches_in_the_suite_is_allowed() {
    let mut wrong = Vec::new();
    for (file, test) in tests() {
        let answer = run(&test, &Options::default());
        let answer = answer.unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        if is_cut(&answer) {
            continue;
        }
        let allowed = answer.states.iter();
        let allowed: BTreeSet<String> = allowed
            .map(|state| without_numbers_of_tables(&state.text))
            .collect();
        let Some(simulation) = simulation(&test) else {
            continue;
        };
        let reached = (0..RUNS).filter_map(|seed| simulation.run(seed));
        let reached: BTreeSet<String> = reached
            .map(|outcome| without_numbers_of_tables(&outcome.text))
            .collect();
        let more: Vec<&String> = reached.difference(&allowed).collect();
        if !more.is_empty() {
            wrong.push(format!(
                "{}: reached {more:?}, allowed are {allowed:?}",
                test.name
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
