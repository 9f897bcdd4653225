//! Prints a mutant's verdict: in one scenario with the counterexample, or in every one.
//!
//! ```text
//! cargo run --release -p lazytlb-mutants --example verdict -- \
//!     NAME [PROGRAM POLICY MEMORY [CPU_MODEL]]
//! ```
//! NAME is a mutant's, or `unmutated`, or `table` for every mutant in its own scenario; PROGRAM is a shipped one, or
//! `any ` and menus, such as those of the table.

use std::process::ExitCode;

use lazytlb::Policy;
use lazytlb_check::{Finding, LazyTlb, Menus, ShippedProgram, Verdict};
use lazytlb_model::{CpuModel, MemoryModel};
use lazytlb_mutants::{MUTANTS, Mutant, Scenario, check_unmutated};

const USAGE: &str = "usage: verdict NAME [PROGRAM POLICY MEMORY [CPU_MODEL]]";
const MEMORIES: [MemoryModel; 2] = [MemoryModel::Sc, MemoryModel::TSO];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match run(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("{problem}");
            ExitCode::FAILURE
        }
    }
}

fn run(words: &[&str]) -> Result<(), String> {
    match *words {
        ["table"] => every_mutant(),
        [name] => every_scenario(name)?,
        [name, program, policy, memory] => one(name, program, policy, memory, "weakest")?,
        [name, program, policy, memory, cpu] => one(name, program, policy, memory, cpu)?,
        _ => return Err(USAGE.to_owned()),
    }
    Ok(())
}

/// Returns the menus that a program's name has in it.
fn sets_in(program: &str) -> Option<Menus> {
    let sets = program.strip_prefix("any ")?;
    sets.strip_suffix(" --isolation")
        .unwrap_or(sets)
        .parse()
        .ok()
}

fn one(name: &str, program: &str, policy: &str, memory: &str, cpu: &str) -> Result<(), String> {
    let scenario = Scenario {
        program: programs()
            .into_iter()
            .chain(sets_in(program).is_some().then_some(program))
            .find(|known| *known == program)
            .ok_or_else(|| format!("no program is called {program}"))?,
        policy: Policy::by_name(policy).ok_or_else(|| format!("no policy is called {policy}"))?,
        memory: MEMORIES
            .into_iter()
            .find(|known| known.name() == memory)
            .ok_or_else(|| format!("no memory model is called {memory}"))?,
        cpu_model: CpuModel::by_name(cpu).ok_or_else(|| format!("no CPU model is called {cpu}"))?,
        slots: slots_of(name),
        global_ids: global_ids_of(name),
    };
    if let Some(mutant) = Mutant::by_name(name) {
        println!("{}\n{}\n\n{}", mutant.name, mutant.about, mutant.diff);
    }
    let verdict = check(name, scenario)?;
    println!("{}", line(&verdict));
    if let Finding::Violation { timeline, .. } = &verdict.finding {
        println!("{timeline}");
    }
    Ok(())
}

/// The slots for PCIDs that a mutant is made for.
fn slots_of(name: &str) -> u8 {
    Mutant::by_name(name).map_or(0, |mutant| mutant.slots)
}

/// The global ids that a mutant is made for.
fn global_ids_of(name: &str) -> u8 {
    Mutant::by_name(name).map_or(0, |mutant| mutant.global_ids)
}

fn every_scenario(name: &str) -> Result<(), String> {
    for program in programs() {
        if program == "reference-4" {
            println!("reference-4: left out, for it takes long; name it to check it");
            continue;
        }
        for &policy in Policy::ALL {
            for memory in MEMORIES {
                let cpu_model = CpuModel::WEAKEST;
                let scenario = Scenario {
                    program,
                    policy,
                    cpu_model,
                    memory,
                    slots: slots_of(name),
                    global_ids: global_ids_of(name),
                };
                let verdict = line(&check(name, scenario)?);
                println!("{program:25} {policy:18} {:3} {verdict}", memory.name());
            }
        }
    }
    Ok(())
}

fn every_mutant() {
    for mutant in MUTANTS {
        for memory in MEMORIES {
            let scenario = mutant.scenario(memory);
            let expected = mutant
                .expected(memory)
                .map_or("safe", |property| property.name());
            let verdict = line(&mutant.check(scenario));
            println!(
                "{:52} {:25} {:18} {:3} expected {expected:20} {verdict}",
                mutant.name,
                scenario.program,
                scenario.policy.name(),
                memory.name()
            );
        }
    }
}

fn check(name: &str, scenario: Scenario<'_>) -> Result<Verdict, String> {
    match (name, Mutant::by_name(name)) {
        ("unmutated", _) => Ok(check_unmutated(scenario)),
        (_, Some(mutant)) => Ok(mutant.check(scenario)),
        _ => Err(format!("no mutant is called {name}")),
    }
}

fn line(verdict: &Verdict) -> String {
    let what = verdict
        .violation()
        .map_or(verdict.name(), |violation| violation.property.name());
    let effort = &verdict.effort;
    format!(
        "{what:20} {:>9} states, depth {:>3}, {:.2} s",
        effort.states, effort.depth, effort.seconds
    )
}

fn programs() -> Vec<&'static str> {
    let shipped = ShippedProgram::<LazyTlb>::all();
    shipped.into_iter().map(|program| program.name).collect()
}
