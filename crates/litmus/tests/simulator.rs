//! What the random simulator reaches, the answers allow: on random tests.
//!
//! `LAZYTLB_SIMULATOR_PROGRAMS` sets how many (2,000), `LAZYTLB_SIMULATOR_FIRST` the seed of the first (0),
//! `LAZYTLB_SIMULATOR_RUNS` how often each is executed (300):
//!
//! ```console
//! $ LAZYTLB_SIMULATOR_PROGRAMS=50000 nice cargo test --profile checks -p lazytlb-litmus --test simulator
//! ```

#![allow(clippy::unwrap_used)] // A test that fails is to panic.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use lazytlb_litmus::{Answer, Options, read, run};
use lazytlb_simulator::{Amended, Simulation, generate, without_numbers_of_tables};

/// Threads that compare.
const JOBS: usize = 2;

/// Returns a number that the environment may set.
fn number(name: &str, usual: u64) -> u64 {
    let set = std::env::var(format!("LAZYTLB_SIMULATOR_{name}")).ok();
    set.map_or(usual, |value| value.parse().unwrap())
}

/// Returns the final states of an answer, as the simulator tells them; `None` if it may leave some out.
fn states(answer: &Answer) -> Option<BTreeSet<String>> {
    // Where a walk may read a page that is no table, the model ends every execution with it.
    let texts = answer.states.iter().map(|state| &state.text);
    let is_cut = texts
        .clone()
        .any(|text| text.contains("table-use-after-free"));
    let is_whole = answer.incomplete.is_none() && !is_cut;
    is_whole.then(|| texts.map(|text| without_numbers_of_tables(text)).collect())
}

/// What came of one test.
#[derive(Default)]
struct Sum {
    compared: u64,
    reached: usize,
    allowed: usize,
    wrong: Vec<String>,
}

/// Executes the random test of a seed, and compares what is reached with what is allowed.
fn compare(seed: u64, runs: u64, sum: &Mutex<Sum>) {
    let text = generate(seed);
    let test = read(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    let simulation = Simulation::new(&test, Amended::WEAKEST);
    let simulation = simulation.unwrap_or_else(|error| panic!("{error}\n{text}"));
    let runs = (0..runs).filter_map(|run| simulation.run(seed << 32 | run));
    let reached: BTreeSet<String> = runs.map(|outcome| outcome.text).collect();
    let answer = run(&test, &Options::default());
    let answer = answer.unwrap_or_else(|error| panic!("{error}\n{text}"));
    let Some(allowed) = states(&answer) else {
        return;
    };
    let wrong: Vec<&String> = reached.difference(&allowed).collect();
    let mut sum = sum.lock().unwrap();
    sum.compared += 1;
    sum.reached += reached.intersection(&allowed).count();
    sum.allowed += allowed.len();
    if !wrong.is_empty() {
        let told = format!("{text}reached, and not allowed: {wrong:?}\nallowed: {allowed:?}\n");
        sum.wrong.push(told);
    }
}

#[test]
fn what_the_simulator_reaches_in_random_tests_is_allowed() {
    let (first, programs) = (number("FIRST", 0), number("PROGRAMS", 2_000));
    let (runs, most_wrong) = (number("RUNS", 300), number("WRONG", 1) as usize);
    let next = AtomicU64::new(first);
    let sum = Mutex::new(Sum::default());
    std::thread::scope(|scope| {
        for _ in 0..JOBS {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    let enough = sum.lock().unwrap().wrong.len() >= most_wrong;
                    if enough || seed >= first + programs {
                        break;
                    }
                    compare(seed, runs, &sum);
                }
            });
        }
    });
    let sum = sum.into_inner().unwrap();
    println!(
        "{} of {programs} tests compared, {} of {} states reached",
        sum.compared, sum.reached, sum.allowed
    );
    assert!(sum.wrong.is_empty(), "{}", sum.wrong.join("\n"));
    assert!(sum.compared * 10 >= programs * 9, "too few were compared");
    assert!(sum.reached * 10 >= sum.allowed * 8, "too little is reached");
}
