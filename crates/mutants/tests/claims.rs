//! One test for each mutant: it is caught by the property that its row names, where its row says.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, OnceLock};

use lazytlb::Policy;
use lazytlb_check::{CheckError, Effort, LazyTlb, ShippedProgram, Verdict};
use lazytlb_model::{CpuModel, KeepLoad, MemoryModel, Property};
use lazytlb_mutants::{ByMenus, MUTANTS, Mutant, Scenario, check_real, check_unmutated};

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

/// Checks a row by its menus: the real protocol is safe in every program over them, and they find the mutant; under
/// TSO, only if they do not under sequential consistency.
fn check_found(name: &str) {
    let mutant = Mutant::by_name(name).expect("tests are generated from the table's names");
    let scenario = mutant.by_menus().expect("the row names menus");
    assert!(real_is_safe(scenario), "{}", command("unmutated", scenario));
    let found = by_menus(mutant, scenario);
    assert_eq!(
        found,
        mutant.expected_by_menus(),
        "{}",
        command(name, scenario)
    );
    if scenario.memory != MemoryModel::Sc {
        let memory = MemoryModel::Sc;
        let scenario = Scenario { memory, ..scenario };
        assert_eq!(
            by_menus(mutant, scenario),
            None,
            "{}",
            command(name, scenario)
        );
    }
}

/// Checks that every program over a harmless row's menus is safe, and that the change matters in some.
fn check_harmless(name: &str) {
    let mutant = Mutant::by_name(name).expect("tests are generated from the table's names");
    let scenario = mutant.by_menus().expect("the row names menus");
    // What happens under sequential consistency happens under TSO, too: random programs show it (`check/tests/hardware/memory_models.rs`).
    let memory = MemoryModel::TSO;
    let under_tso = Scenario { memory, ..scenario };
    assert_eq!(
        by_menus(mutant, under_tso),
        None,
        "{}",
        command(name, under_tso)
    );
    let reached = mutant.check_reached(scenario);
    let reached = reached.violation().map(|violation| violation.property);
    assert_eq!(reached, Some(Property::Panic), "{name} is not reached");
}

/// Checks that a row is found by the menus that it names and by none before them, under no memory model. It takes
/// many minutes.
#[test]
#[ignore = "checks every mutant under every menus before those that find it"]
fn every_mutant_is_found_first_where_its_row_says() {
    let check = |mutants: &[Mutant]| {
        for mutant in mutants.iter().filter(|mutant| mutant.harmless.is_none()) {
            let its = mutant.by_menus().map(|scenario| scenario.program);
            for menus in mutant
                .asked_of()
                .take_while(|menus| Some(menus.program) != its)
            {
                for memory in [MemoryModel::Sc, MemoryModel::TSO] {
                    let scenario = Scenario {
                        program: menus.program,
                        ..mutant.scenario(memory)
                    };
                    let found = by_menus(mutant, scenario);
                    let found = found.filter(|found| *found != ByMenus::Refused);
                    let command = command(mutant.name, scenario);
                    assert!(found.is_none() || !real_is_safe(scenario), "{command}");
                }
            }
        }
    };
    std::thread::scope(|scope| {
        for part in MUTANTS.chunks(MUTANTS.len().div_ceil(2)) {
            scope.spawn(move || check(part));
        }
    });
}

/// Checks that no shipped program shows a mutant. What takes long has a test of its own; `reference-4` is left out.
fn check_missed(name: &str) {
    let mutant = Mutant::by_name(name).expect("tests are generated from the table's names");
    for program in ShippedProgram::<LazyTlb>::all() {
        if !program.name.starts_with(REFERENCE) {
            check_program_misses(mutant, program.name);
        }
    }
}

/// What the names of programs begin with that take long.
const REFERENCE: &str = "reference-";

fn check_program_misses(mutant: &Mutant, program: &'static str) {
    let is_found = |memory| {
        let scenario = Scenario {
            program,
            ..mutant.scenario(memory)
        };
        let found = mutant.check(scenario).violation().is_some();
        let command = command(mutant.name, scenario);
        assert!(!found || !real_is_safe(scenario), "{command}");
        found
    };
    // What happens under sequential consistency happens under TSO, too. Where the real protocol is not safe under TSO, it may be there.
    if is_found(MemoryModel::TSO) {
        is_found(MemoryModel::Sc);
    }
}

#[test]
fn the_reference_shows_no_mutant_that_its_row_says_no_program_shows() {
    let is_safe = |mutant: &Mutant| {
        [MemoryModel::Sc, MemoryModel::TSO].map(|memory| mutant.expected(memory)) == [None; 2]
    };
    let bugs = MUTANTS.iter().filter(|mutant| mutant.harmless.is_none());
    let missed: Vec<_> = bugs.filter(|mutant| is_safe(mutant)).collect();
    assert!(!missed.is_empty());
    for mutant in missed {
        check_program_misses(mutant, "reference-3");
    }
}

/// Returns what menus make of a mutant; `None` if every program over them is safe.
fn by_menus(mutant: &Mutant, scenario: Scenario<'_>) -> Option<ByMenus> {
    match mutant.try_check(scenario) {
        Ok(verdict) if verdict.is_safe() => None,
        Ok(verdict) => {
            let violation = verdict.violation().expect("there is no limit");
            Some(ByMenus::Violates(violation.property))
        }
        Err(CheckError::FalseClaim(_)) => Some(ByMenus::Refused),
        Err(error) => panic!("{error}"),
    }
}

/// Says whether the real protocol is safe. Many rows ask the same, so answers are kept.
fn real_is_safe(scenario: Scenario<'static>) -> bool {
    type Key = (
        &'static str,
        &'static str,
        &'static str,
        &'static str,
        (u8, u8),
    );
    type Answer = Arc<OnceLock<bool>>;
    static ANSWERS: OnceLock<Mutex<HashMap<Key, Answer>>> = OnceLock::new();
    let Scenario {
        program,
        policy,
        cpu_model,
        memory,
        slots,
        global_ids,
    } = scenario;
    let pcids = (slots, global_ids);
    let key = (program, policy.name(), cpu_model.name, memory.name(), pcids);
    let answers = ANSWERS.get_or_init(Mutex::default).lock();
    let mut answers = answers.expect("nothing panics while it holds this lock");
    let answer = Arc::clone(answers.entry(key).or_default());
    drop(answers);
    *answer.get_or_init(|| check_real(scenario).is_safe())
}

/// Returns the command that shows a verdict.
fn command(name: &str, scenario: Scenario<'_>) -> String {
    format!(
        "cargo run --release -p lazytlb-mutants --example verdict -- {name} '{}' {} {} {}",
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
    let small = small.into_iter().flat_map(|name| {
        Policy::ALL
            .iter()
            .map(move |&policy| (name, policy, (0, 0)))
    });
    let large = [
        ("no-table-free", (0, 0)),
        ("back-and-forth", (2, 0)),
        ("back-and-forth", (1, 1)),
    ];
    let large = large.map(|(name, pcids)| (name, Policy::IpiOnTableFree, pcids));
    for (program, policy, (slots, global_ids)) in small.chain(large) {
        for memory in [MemoryModel::Sc, MemoryModel::TSO] {
            let scenario = Scenario {
                program,
                policy,
                cpu_model: CpuModel::WEAKEST,
                memory,
                slots,
                global_ids,
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

/// So many states, with steps merged, are checked a second time in each test; the rest take minutes.
const FEW_STATES: u64 = 30_000;

#[test]
fn no_seeded_bug_is_hidden_or_invented_by_merging_steps() {
    check_every_step(|states| states <= FEW_STATES, MUTANTS.len() * 3 / 4);
}

#[test]
#[ignore = "takes many minutes"]
fn no_seeded_bug_is_hidden_or_invented_by_merging_steps_in_large_programs() {
    check_every_step(|states| states > FEW_STATES, 1);
}

/// What merging steps must not hide is what real code does with the answers it gets: these are the bugs to
/// try it on. Where one violates several properties, which is met first depends on how steps count.
fn check_every_step(is_wanted: impl Fn(u64) -> bool + Sync, at_least: usize) {
    let check = |mutants: &[Mutant]| {
        let mut checked = 0;
        for mutant in mutants {
            let scenario = mutant.scenario(MemoryModel::Sc);
            if !is_wanted(mutant.check(scenario).effort.states) {
                continue;
            }
            checked += 1;
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
        checked
    };
    let checked: usize = std::thread::scope(|scope| {
        let parts = MUTANTS.chunks(MUTANTS.len().div_ceil(2));
        let check = &check;
        let threads: Vec<_> = parts.map(|part| scope.spawn(move || check(part))).collect();
        let results = threads.into_iter().map(|thread| thread.join());
        results
            .map(|checked| checked.expect("the assertions hold"))
            .sum()
    });
    assert!(checked >= at_least, "{checked} were checked");
}

#[test]
fn every_mutant_has_a_name_of_its_own() {
    let names: BTreeSet<&str> = MUTANTS.iter().map(|mutant| mutant.name).collect();
    assert_eq!(names.len(), MUTANTS.len());
}

/// What ends walks that a keeping CR3 load has left behind is there for the weak reading of H12a. By the strong one such a
/// load ends them itself, and the protocol is safe without.
#[test]
fn under_the_strong_reading_of_keeping_loads_nothing_else_need_end_walks() {
    let strong = CpuModel {
        keep_load: KeepLoad::EndsWalks,
        ..CpuModel::WEAKEST
    };
    for name in [
        "elsewhere_ends_no_walks",
        "initiator_elsewhere_ends_no_walks",
        "elsewhere_is_spared_though_tables_go",
        "bit_cleared_after_a_keeping_load",
        "left_for_init_mm_without_an_invalidation",
    ] {
        let mutant = Mutant::by_name(name).expect("the table has it");
        for memory in [MemoryModel::Sc, MemoryModel::TSO] {
            let by_menus = mutant.by_menus().expect("menus find it");
            for scenario in [mutant.scenario(memory), Scenario { memory, ..by_menus }] {
                let scenario = Scenario {
                    cpu_model: strong,
                    ..scenario
                };
                assert!(
                    mutant.check(scenario).is_safe(),
                    "{}",
                    command(name, scenario)
                );
            }
        }
    }
}

/// INVPCID of an address drops the upper levels that lead there, and no others, on every CPU: with TCE or without.
#[test]
fn the_user_half_by_one_address_is_unsafe_on_every_cpu_with_pcids() {
    let mutant = Mutant::by_name("user_half_by_one_address_though_tables_go");
    let mutant = mutant.expect("the table has it");
    for cpu_model in CpuModel::ALL.into_iter().filter(|model| model.invpcid) {
        for memory in [MemoryModel::Sc, MemoryModel::TSO] {
            let scenario = Scenario {
                cpu_model,
                ..mutant.scenario(memory)
            };
            let verdict = mutant.check(scenario);
            let found = verdict.violation().map(|violation| violation.property);
            assert_eq!(
                found,
                Some(Property::TableUseAfterFree),
                "{}",
                command(mutant.name, scenario)
            );
        }
    }
}
