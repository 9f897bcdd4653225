//! Asks shipped programs and menus about each change that was compiled in place of the table's mutants, until one finds it: a line of JSON
//! for each. `cargo xtask mutate-protocol` makes the changes, and reads the lines.
//!
//! ```text
//! LAZYTLB_CHANGES=FOLDER cargo run --profile checks -p lazytlb-mutants --example changes -- [menus]
//! ```
//! With `menus` it asks menus alone.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use lazytlb::Policy;
use lazytlb_check::{CheckError, LazyTlb, ShippedProgram};
use lazytlb_model::{CpuModel, MemoryModel};
use lazytlb_mutants::{CHANGES, Change, MENUS, Scenario, check_real};
use serde_json::{Value, json};

/// Programs that take long, and find nothing that their menus do not.
const LONG: [&str; 2] = ["reference-3", "reference-4"];

/// What finds code that does more with words than their kinds allow.
const REFUSED: &str = "refused";

fn main() {
    let menus_alone = std::env::args().nth(1).is_some_and(|word| word == "menus");
    let series = series(menus_alone);
    let safe = Mutex::new(HashMap::new());
    let next = AtomicUsize::new(0);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(change) = CHANGES.get(next.fetch_add(1, Ordering::Relaxed)) {
                    println!("{}", ask(change, &series, &safe));
                }
            });
        }
    });
}

/// Lists what is asked, cheap questions first.
fn series(menus_alone: bool) -> Vec<Scenario<'static>> {
    let policies = [Policy::IpiOnTableFree, Policy::InitMm, Policy::Ipi];
    let mut series = Vec::new();
    let mut ask = |program: &'static str, (slots, global_ids): (u8, u8)| {
        for policy in policies {
            for memory in [MemoryModel::Sc, MemoryModel::TSO] {
                series.push(Scenario {
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
            (true, true) => &[(1, 1)],
        };
        with.iter().for_each(|&pcids| ask(menus.program, pcids));
    }
    if !menus_alone {
        for program in ShippedProgram::<LazyTlb>::all() {
            if !LONG.contains(&program.name) {
                let pcids = [(0, 0), (1, 0), (2, 0), (1, 1)];
                pcids.iter().for_each(|&pcids| ask(program.name, pcids));
            }
        }
    }
    series
}

type Key = (&'static str, &'static str, (u8, u8), &'static str);

/// Asks about one change, and says what came of it.
fn ask(change: &Change, series: &[Scenario<'static>], safe: &Mutex<HashMap<Key, bool>>) -> Value {
    let started = Instant::now();
    let (mut proofs, mut incomplete) = (0, 0);
    for &scenario in series {
        if !real_is_safe(scenario, safe) {
            continue;
        }
        let found = match change.try_check(scenario) {
            Ok(verdict) if verdict.is_safe() => {
                proofs += 1;
                continue;
            }
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

/// Says whether the real protocol is safe there. Answers are kept.
fn real_is_safe(scenario: Scenario<'static>, safe: &Mutex<HashMap<Key, bool>>) -> bool {
    let Scenario {
        program,
        policy,
        slots,
        global_ids,
        memory,
        ..
    } = scenario;
    let pcids = (slots, global_ids);
    let key = (program, policy.name(), pcids, memory.name());
    let known = safe
        .lock()
        .expect("nobody panics with it")
        .get(&key)
        .copied();
    known.unwrap_or_else(|| {
        let is_safe = check_real(scenario).is_safe();
        safe.lock()
            .expect("nobody panics with it")
            .insert(key, is_safe);
        is_safe
    })
}
