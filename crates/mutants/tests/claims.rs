//! One test for each mutant: it is caught by the property that its row names, where its row says.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, OnceLock};

use lazytlb::Policy;
use lazytlb_check::{Effort, Verdict};
use lazytlb_model::{CpuModel, MemoryModel};
use lazytlb_mutants::{MUTANTS, Mutant, Scenario, check_real, check_unmutated};

include!(concat!(env!("OUT_DIR"), "/claims.rs"));

/// Checks a row: the real protocol is safe there, and the mutant violates what the row says.
fn check_claim(name: &str) {
    let mutant = Mutant::by_name(name).expect("tests are generated from the table's names");
    for memory in [MemoryModel::Sc, MemoryModel::TSO] {
        let scenario = mutant.scenario(memory);
        assert!(
            real_is_safe(scenario),
            "the real protocol is not safe here:\n{}",
            command("unmutated", scenario)
        );
        let verdict = mutant.check(scenario);
        let found = verdict.violation().map(|violation| violation.property);
        assert!(
            found == mutant.expected(memory) && (found.is_some() || verdict.is_safe()),
            "expected {}, found {}:\n{}",
            mutant
                .expected(memory)
                .map_or("safe", |property| property.name()),
            found.map_or(verdict.name(), |property| property.name()),
            command(name, scenario)
        );
    }
}

/// Says whether the real protocol is safe. Many rows ask the same, so answers are kept.
fn real_is_safe(scenario: Scenario<'static>) -> bool {
    type Key = (&'static str, &'static str, &'static str, &'static str);
    type Answer = Arc<OnceLock<bool>>;
    static ANSWERS: OnceLock<Mutex<HashMap<Key, Answer>>> = OnceLock::new();
    let Scenario {
        program,
        policy,
        cpu_model,
        memory,
    } = scenario;
    let key = (program, policy.name(), cpu_model.name, memory.name());
    let answers = ANSWERS.get_or_init(Mutex::default).lock();
    let mut answers = answers.expect("nothing panics while it holds this lock");
    let answer = Arc::clone(answers.entry(key).or_default());
    drop(answers);
    *answer.get_or_init(|| check_real(scenario).is_safe())
}

/// Returns the command that shows a verdict.
fn command(name: &str, scenario: Scenario<'_>) -> String {
    format!(
        "cargo run --release -p lazytlb-mutants --example verdict -- {name} {} {} {} {}",
        scenario.program,
        scenario.policy,
        scenario.memory.name(),
        scenario.cpu_model.name
    )
}

/// Returns what two checks of the same behaviour have in common.
fn counts(verdict: &Verdict) -> (&'static str, u64, u64, u64, u64) {
    let Effort {
        states,
        transitions,
        depth,
        executions,
        ..
    } = verdict.effort;
    (verdict.name(), states, transitions, depth, executions)
}

#[test]
fn the_unmutated_copy_has_the_state_counts_of_the_real_protocol() {
    let small = ["smoke", "two-initiators", "exit"];
    let small = small
        .into_iter()
        .flat_map(|name| Policy::ALL.map(|policy| (name, policy)));
    let large = ["reference-3", "no-table-free"].map(|name| (name, Policy::IpiOnTableFree));
    for (program, policy) in small.chain(large) {
        for memory in [MemoryModel::Sc, MemoryModel::TSO] {
            let scenario = Scenario {
                program,
                policy,
                cpu_model: CpuModel::WEAKEST,
                memory,
            };
            assert_eq!(
                counts(&check_unmutated(scenario)),
                counts(&check_real(scenario)),
                "the copy is not the protocol:\n{}",
                command("unmutated", scenario)
            );
        }
    }
}

/// What merging steps must not hide is what real code does with the answers it gets: these are the bugs to
/// try it on. Where one violates several properties, which is met first depends on how steps count.
#[test]
fn no_seeded_bug_is_hidden_or_invented_by_merging_steps() {
    let check = |mutants: &[Mutant]| {
        for mutant in mutants {
            let scenario = mutant.scenario(MemoryModel::Sc);
            let verdict = mutant.check_every_step(scenario);
            let is_bug = mutant.expected(MemoryModel::Sc).is_some();
            let command = command(mutant.name, scenario);
            assert!(is_bug || verdict.is_safe(), "{command}");
            assert_eq!(
                verdict.violation().is_some(),
                is_bug,
                "without merging:\n{command}"
            );
        }
    };
    std::thread::scope(|scope| {
        for part in MUTANTS.chunks(MUTANTS.len().div_ceil(2)) {
            scope.spawn(move || check(part));
        }
    });
}

#[test]
fn every_mutant_has_a_name_of_its_own() {
    let names: BTreeSet<&str> = MUTANTS.iter().map(|mutant| mutant.name).collect();
    assert_eq!(names.len(), MUTANTS.len());
}
