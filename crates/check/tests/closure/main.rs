//! The may-cache model against a naive one, on thousands of random tiny programs.
//!
//! The may-cache model explores no fills and no evictions: it claims that its closed sets stand for all of
//! them. The naive model ([`naive`]) does them one at a time, and the two must come to the same verdicts.
//! Collapsing, threads and fingerprints, too, claim to change no verdict, and are held to it here.
//!
//! A failure prints the program, shrunk, and a command that runs its seed alone.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod agreement;
mod corner_cases;

mod naive;
mod random_program;
mod script;

use std::collections::BTreeMap;

use agreement::{Compared, Setting, shrink, told_verdict};
use lazytlb_check::{Checker, Reduction, Storage, Verdict};
use lazytlb_model::MemoryModel;
use random_program::{Flavour, random_script};
use script::Script;

/// Random programs that each comparison takes.
const PROGRAMS: usize = 2_000;
/// The naive model gives up at this many states: the few programs that are larger take most of the time.
const MOST_STATES: usize = 12_000;
/// The variable that narrows a run to one seed.
const SEED_VARIABLE: &str = "LAZYTLB_CLOSURE_SEED";
/// Threads of a test: as many as the smallest machines that run it have cores.
const THREADS: u64 = 2;
/// Disagreements that are shrunk and told; the others are counted.
const TOLD: usize = 5;

#[test]
fn the_may_cache_model_agrees_with_naive_hardware() {
    let runs = on_threads(PROGRAMS, Flavour::Caching, compare_models);
    println!(
        "{} programs, {} more were too large",
        runs.done, runs.too_large
    );
    println!("verdicts on two CPU models: {:?}", runs.counts);
    runs.assert_agreement("the_may_cache_model_agrees_with_naive_hardware");
    if asked_for().is_some() {
        return;
    }
    assert!(
        runs.too_large * 10 < PROGRAMS,
        "too many programs are left out"
    );
    let least_percent = [
        ("stale-use", 15),
        ("table-use-after-free", 15),
        ("safe", 20),
    ];
    for memory in ["sc", "tso"] {
        for (name, percent) in least_percent {
            // Each program counts once for each CPU model.
            runs.assert_at_least(percent * 2 * PROGRAMS / 100, memory, name);
        }
    }
}

fn compare_models(seed: u64, script: &Script, run: &mut Run) {
    let mut agreed = Vec::new();
    for setting in Setting::all() {
        match setting.compare(script, MOST_STATES) {
            Compared::TooLarge => return run.too_large += 1,
            Compared::Agree(properties) => agreed.push((setting, properties)),
            Compared::Disagree(how) => {
                run.done += 1;
                let told = format!("{}: {how}", setting.name());
                return run.fail(seed, script, &told, |script| {
                    matches!(setting.compare(script, MOST_STATES), Compared::Disagree(_))
                });
            }
        }
    }
    run.done += 1;
    for (setting, properties) in agreed {
        if properties.is_empty() {
            run.count(setting.memory.name(), "safe");
        }
        for property in properties {
            run.count(setting.memory.name(), property.name());
        }
    }
}

#[test]
fn collapsing_local_calls_changes_no_verdict() {
    let runs = on_threads(PROGRAMS, Flavour::Local, compare_reductions);
    println!("verdicts on the weakest CPU: {:?}", runs.counts);
    runs.assert_agreement("collapsing_local_calls_changes_no_verdict");
    if asked_for().is_none() {
        for name in ["safe", "violation", "collapsed"] {
            runs.assert_at_least(PROGRAMS / 5, "tso", name);
        }
    }
}

fn compare_reductions(seed: u64, script: &Script, run: &mut Run) {
    run.done += 1;
    for setting in Setting::all() {
        let disagreement = |script: &Script| reductions_disagree(setting, script);
        if let Some(how) = disagreement(script) {
            let told = format!("{}: {how}", setting.name());
            return run.fail(seed, script, &told, |script| disagreement(script).is_some());
        }
    }
    let program = script.program("script");
    let states = |reduction| {
        let verdict = Checker::new().reduction(reduction).check(&program);
        (verdict.name(), verdict.effort.states)
    };
    let (name, all) = states(Reduction::None);
    let (_, collapsed) = states(Reduction::CollapseLocal);
    run.count("tso", name);
    if name == "safe" && collapsed * 10 <= all * 9 {
        run.count("tso", "collapsed");
    }
}

/// Says how a search with collapsing differs from one without. The first violations may differ, because
/// collapsing shortens paths; but each must be one that the naive model reaches.
fn reductions_disagree(setting: Setting, script: &Script) -> Option<String> {
    let check = |reduction| {
        let checker = setting.checker().reduction(reduction);
        checker.try_check(&script.program("script"), |_| {})
    };
    let (all, collapsed) = match (check(Reduction::None), check(Reduction::CollapseLocal)) {
        (Ok(all), Ok(collapsed)) => (all, collapsed),
        (Err(error), _) | (_, Err(error)) => return Some(format!("the checker fails: {error}")),
    };
    let told = format!(
        "{} without collapsing, {} with it",
        told_verdict(&all),
        told_verdict(&collapsed)
    );
    let property = |verdict: &Verdict| verdict.violation().map(|violation| violation.property);
    match (property(&all), property(&collapsed)) {
        (first, second) if first == second && all.name() == collapsed.name() => None,
        (Some(_), Some(second)) => {
            let violated = setting.naive(script, 1_000_000)?;
            (!violated.contains(&second)).then_some(told)
        }
        _ => Some(told),
    }
}

#[test]
fn threads_and_fingerprints_change_neither_verdicts_nor_counts() {
    for seed in 0..200 {
        let flavour = [Flavour::Caching, Flavour::Local][seed as usize % 2];
        let program = random_script(seed, flavour).program("script");
        let told = |checker: Checker| match checker.try_check(&program, |_| {}) {
            Ok(verdict) => format!(
                "{}: {} states, {} transitions, depth {}",
                told_verdict(&verdict),
                verdict.effort.states,
                verdict.effort.transitions,
                verdict.effort.depth
            ),
            Err(error) => error.to_string(),
        };
        for memory in [MemoryModel::Sc, MemoryModel::TSO] {
            let checker = Checker::new().memory(memory);
            let alone = told(checker.clone());
            let threads = told(checker.clone().threads(2));
            assert_eq!(alone, threads, "seed {seed}: with two threads");
            let fingerprints = told(checker.storage(Storage::Fingerprints));
            assert_eq!(alone, fingerprints, "seed {seed}: with fingerprints");
        }
    }
}

/// What a comparison over many programs came to.
#[derive(Default)]
struct Run {
    done: usize,
    too_large: usize,
    /// How many programs came to what, under which memory model.
    counts: BTreeMap<(&'static str, &'static str), usize>,
    failures: Vec<(u64, String)>,
}

impl Run {
    fn fail(&mut self, seed: u64, script: &Script, how: &str, fails: impl Fn(&Script) -> bool) {
        let told = match self.failures.len() < TOLD {
            true => format!("{how}\n{}", shrink(script, fails)),
            false => how.to_owned(),
        };
        self.failures.push((seed, told));
    }

    fn count(&mut self, memory: &'static str, what: &'static str) {
        *self.counts.entry((memory, what)).or_insert(0) += 1;
    }

    /// Fails if the programs are such that the comparison proves little.
    fn assert_at_least(&self, least: usize, memory: &'static str, what: &'static str) {
        let count = self.counts.get(&(memory, what)).copied().unwrap_or(0);
        assert!(
            count >= least,
            "{memory}: only {count} are {what}, and {least} should be"
        );
    }

    fn assert_agreement(&self, test: &str) {
        for (seed, told) in &self.failures {
            println!("seed {seed}: {told}");
            println!("  {SEED_VARIABLE}={seed} cargo test -p lazytlb-check --test closure {test}");
        }
        let seeds: Vec<u64> = self.failures.iter().map(|(seed, _)| *seed).collect();
        assert!(
            seeds.is_empty(),
            "{} of {} programs differ: seeds {seeds:?}, told above",
            seeds.len(),
            self.done
        );
    }
}

/// Returns the only seed that a run is asked for.
fn asked_for() -> Option<u64> {
    let seed = std::env::var(SEED_VARIABLE).ok()?;
    Some(seed.parse().expect("a seed is a number"))
}

/// Hands scripts to `compare` until it has done so many, or only that of the seed asked for.
fn on_threads(
    programs: usize,
    flavour: Flavour,
    compare: impl Fn(u64, &Script, &mut Run) + Sync,
) -> Run {
    if let Some(seed) = asked_for() {
        let (script, mut run) = (random_script(seed, flavour), Run::default());
        println!("seed {seed}:\n{script}");
        compare(seed, &script, &mut run);
        return run;
    }
    let every_second = |first: u64| {
        let mut run = Run::default();
        let mut seeds = (first..).step_by(THREADS as usize);
        while run.done < programs / THREADS as usize {
            let seed = seeds.next().expect("seeds do not end");
            compare(seed, &random_script(seed, flavour), &mut run);
        }
        run
    };
    let mut all = Run::default();
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..THREADS)
            .map(|first| scope.spawn(move || every_second(first)))
            .collect();
        for worker in workers {
            let run = worker.join().expect("a comparison does not panic");
            all.done += run.done;
            all.too_large += run.too_large;
            for (what, count) in run.counts {
                *all.counts.entry(what).or_insert(0) += count;
            }
            all.failures.extend(run.failures);
        }
    });
    all.failures.sort();
    all
}
