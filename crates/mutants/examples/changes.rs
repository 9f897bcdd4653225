//! Asks shipped programs and menus about each change that was compiled beside the table's mutants, until one finds it: a line of JSON
//! for each. It is also asked what finds the table's mutants of the same file. `cargo xtask mutate-protocol` makes the changes, and reads the lines.
//!
//! ```text
//! LAZYTLB_CHANGES=FOLDER cargo run --profile checks -p lazytlb-mutants --example changes -- [menus]
//! ```
//! With `menus` it asks menus alone.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use lazytlb::Policy;
use lazytlb_check::{CheckError, LazyTlb, ShippedProgram};
use lazytlb_model::{CpuModel, MemoryModel};
use lazytlb_mutants::{CHANGES, Change, MENUS, MUTANTS, Mutant, Scenario, check_real_within};
use serde_json::{Value, json};

/// The policies under which it is asked: each lazy CPU is spared, has left, is interrupted, or catches up.
const POLICIES: [Policy; 4] = [
    Policy::IpiOnTableFree,
    Policy::InitMm,
    Policy::Ipi,
    Policy::Quarantine,
];

/// The states of the real protocol above which menus, and shipped programs, are not asked: each change that nothing finds is asked
/// everything. Menus are what proves.
const MOST_STATES: Most = Most {
    of_menus: 20_000,
    of_programs: 5_000,
};

/// The same of what a change has to do with, if that is little.
const MOST_STATES_OF_FEW: Most = Most {
    of_menus: 60_000,
    of_programs: 20_000,
};

/// The same of what else such a change is asked: its code says there that there is nothing to do, or does what it must not.
const MOST_STATES_BESIDE: Most = Most {
    of_menus: 10_000,
    of_programs: 2_000,
};

/// The same under one policy and sequential consistency: bugs that take three CPUs, two initiators or two spaces are in no small menus.
const MOST_STATES_ONCE: Most = Most {
    of_menus: 600_000,
    of_programs: 100_000,
};

/// The same where a row of the table is found, of what is asked about changes of its file.
const MOST_STATES_OF_ROWS: u64 = 2_000_000;

/// The same of what is asked about changes of other files, under sequential consistency.
const MOST_STATES_OF_OTHER_ROWS: u64 = 200_000;

/// The states of a changed protocol at which its search ends: some have no end.
const MOST_STATES_CHANGED: u64 = 3_000_000;

/// What finds code that does more with words than their kinds allow.
const REFUSED: &str = "refused";

/// Up to how many states something is asked.
#[derive(Clone, Copy)]
struct Most {
    of_menus: u64,
    of_programs: u64,
}

/// What a change has to do with, by its file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Concerns {
    Everything,
    /// What is held back.
    Holding,
    /// Flushes by broadcast.
    Broadcasts,
}

impl Concerns {
    const ALL: [Concerns; 3] = [
        Concerns::Everything,
        Concerns::Holding,
        Concerns::Broadcasts,
    ];

    fn of(change: &Change) -> Concerns {
        let is_in = |file: &&str| change.name.starts_with(*file);
        if ["quarantine_", "batches_"].iter().any(is_in) {
            return Concerns::Holding;
        }
        let of_broadcasts = ["global_id_", "transition_", "shootdown_broadcast_"];
        match of_broadcasts.iter().any(is_in) {
            true => Concerns::Broadcasts,
            false => Concerns::Everything,
        }
    }

    fn is_about(self, scenario: &Scenario<'_>) -> bool {
        match self {
            Concerns::Everything => true,
            Concerns::Holding => scenario.policy == Policy::Quarantine,
            Concerns::Broadcasts => scenario.global_ids > 0,
        }
    }

    fn most_states(self, scenario: &Scenario<'_>) -> Most {
        if !self.is_about(scenario) {
            return MOST_STATES_BESIDE;
        }
        let once = match self {
            Concerns::Holding => Policy::Quarantine,
            Concerns::Everything | Concerns::Broadcasts => Policy::IpiOnTableFree,
        };
        if scenario.policy == once && scenario.memory == MemoryModel::Sc {
            return MOST_STATES_ONCE;
        }
        match self {
            Concerns::Everything => MOST_STATES,
            Concerns::Holding | Concerns::Broadcasts => MOST_STATES_OF_FEW,
        }
    }
}

fn main() {
    let menus_alone = std::env::args().nth(1).is_some_and(|word| word == "menus");
    for concerns in Concerns::ALL {
        let changes = CHANGES.iter();
        let changes: Vec<_> = changes
            .filter(|change| Concerns::of(change) == concerns)
            .collect();
        if !changes.is_empty() {
            let all = questions(scenarios(menus_alone, concerns), |scenario, is_menus| {
                let most = concerns.most_states(scenario);
                if is_menus {
                    most.of_menus
                } else {
                    most.of_programs
                }
            });
            for part in changes.chunk_by(|a, b| file_of(a) == file_of(b)) {
                let of_file = of_rows(menus_alone, |file| file == file_of(part[0]));
                let mut others = of_rows(menus_alone, |file| file != file_of(part[0]));
                others.retain(|scenario| scenario.memory == MemoryModel::Sc);
                let of_file = questions(of_file, |_, _| MOST_STATES_OF_ROWS);
                let others = questions(others, |_, _| MOST_STATES_OF_OTHER_ROWS);
                let mut all = [&all[..], &of_file, &others].concat();
                all.sort_by_key(Question::order);
                all.dedup();
                for_each(part, |change| println!("{}", ask(change, &all)));
            }
        }
    }
}

/// Returns the file that a change is in, without its ending.
fn file_of(change: &Change) -> &str {
    let numbers = change.name.rsplitn(3, '_');
    numbers.last().expect("a name has parts")
}

/// Lists where the table's mutants of some files are found.
fn of_rows(menus_alone: bool, is_wanted: impl Fn(&str) -> bool) -> Vec<Scenario<'static>> {
    let mut scenarios = Vec::new();
    let is_wanted = |row: &&Mutant| row.file.strip_suffix(".rs").is_some_and(&is_wanted);
    for row in MUTANTS.iter().filter(is_wanted) {
        let by_program = [MemoryModel::Sc, MemoryModel::TSO].map(|memory| row.scenario(memory));
        let by_program = by_program.into_iter().filter(|_| !menus_alone);
        for scenario in by_program.chain(row.by_menus()) {
            if !scenarios.contains(&scenario) {
                scenarios.push(scenario);
            }
        }
    }
    scenarios
}

/// What is asked: somewhere where the real protocol is safe, in so many states.
#[derive(Clone, Copy, PartialEq)]
struct Question {
    states: u64,
    scenario: Scenario<'static>,
}

impl Question {
    /// Those of the fewest states come first.
    fn order(&self) -> impl Ord + use<> {
        let Scenario {
            program,
            policy,
            cpu_model,
            slots,
            global_ids,
            memory,
        } = self.scenario;
        let names = (policy.name(), cpu_model.name, memory.name());
        (self.states, program, names, slots, global_ids)
    }
}

/// Does something with each, on all of the machine's CPUs.
fn for_each<T: Sync>(all: &[T], run: impl Fn(&T) + Sync) {
    let next = AtomicUsize::new(0);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(one) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
                    run(one);
                }
            });
        }
    });
}

/// Lists what is asked: where the real protocol is safe, and shown so within the bound of a scenario that is menus', or a program's.
fn questions(
    scenarios: Vec<Scenario<'static>>,
    most_states: impl Fn(&Scenario<'_>, bool) -> u64 + Sync,
) -> Vec<Question> {
    let asked = Mutex::new(Vec::new());
    for_each(&scenarios, |&scenario| {
        let is_menus = MENUS.iter().any(|menus| menus.program == scenario.program);
        let most_states = most_states(&scenario, is_menus);
        if let Ok(verdict) = check_real_within(scenario, most_states)
            && verdict.is_safe()
        {
            let states = verdict.effort.states;
            let mut asked = asked.lock().expect("nobody panics with it");
            asked.push(Question { states, scenario });
        }
    });
    let mut asked = asked.into_inner().expect("nobody panics with it");
    asked.sort_by_key(Question::order);
    eprintln!(
        "{} questions of {} states in all",
        asked.len(),
        asked.iter().map(|question| question.states).sum::<u64>()
    );
    asked
}

/// Lists all that could be asked. A second global id is for what has to do with them.
fn scenarios(menus_alone: bool, concerns: Concerns) -> Vec<Scenario<'static>> {
    let with_ids = match concerns {
        Concerns::Broadcasts => &[(1, 1), (1, 2)][..],
        Concerns::Everything | Concerns::Holding => &[(1, 1)],
    };
    let mut scenarios = Vec::new();
    let mut add = |program: &'static str, (slots, global_ids): (u8, u8)| {
        for policy in POLICIES {
            for memory in [MemoryModel::Sc, MemoryModel::TSO] {
                scenarios.push(Scenario {
                    program,
                    policy,
                    cpu_model: CpuModel::WEAKEST,
                    slots,
                    global_ids,
                    memory,
                });
            }
        }
    };
    for menus in MENUS {
        let with = match (menus.pcids, menus.broadcasts) {
            (false, _) => &[(0, 0)][..],
            (true, false) => &[(1, 0), (2, 0)],
            (true, true) => with_ids,
        };
        with.iter().for_each(|&pcids| add(menus.program, pcids));
    }
    if !menus_alone {
        for program in ShippedProgram::<LazyTlb>::all() {
            let without_ids = [(0, 0), (1, 0), (2, 0)];
            let all = without_ids.iter().chain(with_ids);
            all.for_each(|&pcids| add(program.name, pcids));
        }
    }
    scenarios
}

/// Asks about one change, and says what came of it.
fn ask(change: &Change, questions: &[Question]) -> Value {
    let started = Instant::now();
    let (mut proofs, mut incomplete) = (0, 0);
    for &Question { scenario, .. } in questions {
        let found = match change.check_within(scenario, MOST_STATES_CHANGED) {
            Ok(verdict) if verdict.is_safe() => {
                proofs += 1;
                continue;
            }
            // Where the real protocol is proved, that of a changed one nothing is tells it from that.
            Ok(verdict) if verdict.nothing_proved() => verdict.name().to_owned(),
            Ok(verdict) => match verdict.violation() {
                Some(violation) => violation.property.name().to_owned(),
                None => {
                    incomplete += 1;
                    continue;
                }
            },
            Err(CheckError::FalseClaim(_)) => REFUSED.to_owned(),
            // Of the checker's bounds, not of the protocol: nobody has found anything.
            Err(_) => {
                incomplete += 1;
                continue;
            }
        };
        return json!({
            "change": change.name,
            "found": found,
            "program": scenario.program,
            "policy": scenario.policy.name(),
            "cpu_model": scenario.cpu_model.name,
            "slots": scenario.slots,
            "global_ids": scenario.global_ids,
            "memory": scenario.memory.name(),
            "proofs": proofs,
            "incomplete": incomplete,
            "seconds": started.elapsed().as_secs_f64(),
        });
    }
    json!({
        "change": change.name,
        "proofs": proofs,
        "incomplete": incomplete,
        "seconds": started.elapsed().as_secs_f64(),
    })
}
