//! Prints which menus find a mutant first; or, if it is harmless, what the menus of its row make of it.
//!
//! ```text
//! cargo run --profile checks -p lazytlb-mutants --example menus -- [FILTER]
//! ```

use lazytlb_check::{CheckError, Verdict};
use lazytlb_model::MemoryModel;
use lazytlb_mutants::{MUTANTS, Mutant, Scenario};

fn main() {
    let filter = std::env::args().nth(1).unwrap_or_default();
    for mutant in MUTANTS
        .iter()
        .filter(|mutant| mutant.name.contains(&filter))
    {
        println!("{} ({}):", mutant.name, mutant.policy);
        let found = scenarios(mutant)
            .into_iter()
            .any(|scenario| is_found(mutant, scenario));
        if !found {
            println!(
                "  found by none: {}",
                mutant.menus_lack.or(mutant.harmless).unwrap_or("?")
            );
        }
    }
}

fn scenarios(mutant: &Mutant) -> Vec<Scenario<'static>> {
    let memories = [MemoryModel::Sc, MemoryModel::TSO];
    let all = mutant
        .asked_of()
        .flat_map(|menus| memories.map(|memory| (menus.program, memory)));
    let all = all.map(|(program, memory)| Scenario {
        program,
        ..mutant.scenario(memory)
    });
    match (mutant.harmless, mutant.by_menus()) {
        (Some(_), Some(its)) => all
            .filter(|scenario| scenario.program == its.program)
            .collect(),
        _ => all.collect(),
    }
}

fn is_found(mutant: &Mutant, scenario: Scenario<'_>) -> bool {
    let verdict = mutant.try_check(scenario);
    let memory = scenario.memory.name();
    println!("  {memory:3} {:90} {}", scenario.program, line(&verdict));
    verdict.is_ok_and(|verdict| verdict.violation().is_some())
}

fn line(verdict: &Result<Verdict, CheckError>) -> String {
    match verdict {
        Ok(verdict) => {
            let violation = verdict.violation();
            let what = violation.map_or(verdict.name(), |violation| violation.property.name());
            let effort = &verdict.effort;
            let (states, depth, seconds) = (effort.states, effort.depth, effort.seconds);
            format!("{what:20} {states:>9} states, depth {depth:>3}, {seconds:.2} s")
        }
        Err(error) => format!("refused: {error}"),
    }
}
