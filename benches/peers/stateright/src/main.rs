//! The scenario `reference-3` of the lazytlb protocol for Stateright, under sequential consistency.
//!
//! | file | what |
//! | --- | --- |
//! | `config` | what a run can choose |
//! | `program` | what the CPUs do |
//! | `protocol`, `transaction` | the protocol, one seam call a step; as one step a transaction |
//! | `memory`, `state` | frames, tables, what each CPU may cache; the state in five words |
//! | `model` | the model as Stateright sees it |
//!
//! Prints one line of JSON. What it models, and what it cannot show, stands in `../README.md`.

mod config;
mod memory;
mod model;
mod program;
mod protocol;
mod state;
mod transaction;

use std::process::ExitCode;
use std::time::Instant;

use stateright::{Checker, HasDiscoveries, Model};

use crate::config::{Config, Mutant, Named, Policy, Search, Variant};

const USAGE: &str = "\
usage: lazytlb-peer-stateright --policy ipi|init-mm|ipi-on-table-free|defer [--variant equal|best]
           [--search dfs|bfs] [--mutant ack-first|leave-first|join-late|gen-late] [--trace]";

/// What the command line asks for.
struct Arguments {
    config: Config,
    search: Search,
    trace: bool,
}

fn main() -> ExitCode {
    match parse(std::env::args().skip(1)) {
        Ok(arguments) => {
            run(&arguments);
            ExitCode::SUCCESS
        }
        Err(message) => {
            eprintln!("{message}\n{USAGE}");
            ExitCode::from(2)
        }
    }
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<Arguments, String> {
    let (mut policy, mut variant) = (None, Variant::Equal);
    let (mut search, mut mutant, mut trace) = (Search::Dfs, None, false);
    while let Some(option) = words.next() {
        if option == "--trace" {
            trace = true;
            continue;
        }
        let name = words.next().ok_or(format!("{option} needs a value"))?;
        match option.as_str() {
            "--policy" => policy = Some(choose::<Policy>(&name)?),
            "--variant" => variant = choose(&name)?,
            "--search" => search = choose(&name)?,
            "--mutant" => mutant = Some(choose::<Mutant>(&name)?),
            _ => return Err(format!("there is no option {option}")),
        }
    }
    if variant == Variant::Best && mutant == Some(Mutant::AckFirst) {
        return Err("a handler that acknowledges first is no transaction: use equal".into());
    }
    Ok(Arguments {
        config: Config {
            policy: policy.ok_or("--policy is missing")?,
            variant,
            mutant,
        },
        search,
        trace,
    })
}

fn choose<T: Named>(name: &str) -> Result<T, String> {
    T::NAMES
        .iter()
        .find(|(known, _)| *known == name)
        .map(|&(_, value)| value)
        .ok_or(format!("{name} is none of the choices"))
}

fn name_of<T: Named + PartialEq>(value: T) -> &'static str {
    T::NAMES
        .iter()
        .find(|(_, known)| *known == value)
        .map_or("", |(name, _)| name)
}

fn run(arguments: &Arguments) {
    let builder = arguments
        .config
        .checker()
        .threads(1)
        .finish_when(HasDiscoveries::Any);
    match arguments.search {
        Search::Dfs => report(arguments, || builder.spawn_dfs()),
        Search::Bfs => report(arguments, || builder.spawn_bfs()),
    }
}

/// Searches to the end, and prints the line.
fn report<C: Checker<Config>>(arguments: &Arguments, spawn: impl FnOnce() -> C) {
    let memory_before = peak_memory_bytes();
    let start = Instant::now();
    let checker = spawn().join();
    let seconds = start.elapsed().as_secs_f64();
    let memory = peak_memory_bytes().saturating_sub(memory_before);

    let discoveries = checker.discoveries();
    // A search stops between blocks of states, so it may have met several: the shortest speaks.
    let found = discoveries
        .iter()
        .min_by_key(|&(&name, path)| (path.clone().into_actions().len(), name));
    let (verdict, property) = match found {
        Some((name, _)) => ("violation", format!("\"{name}\"")),
        None => ("safe", "null".to_owned()),
    };
    let config = arguments.config;
    let mutant = config.mutant.map_or("null".to_owned(), |mutant| {
        format!("\"{}\"", name_of(mutant))
    });
    let states = checker.unique_state_count();
    println!(
        "{{\"peer\":\"stateright\",\"variant\":\"{}\",\"policy\":\"{}\",\"mutant\":{mutant},\
         \"verdict\":\"{verdict}\",\"property\":{property},\"states\":{states},\
         \"transitions\":{},\"depth\":{},\"seconds\":{seconds:.6},\"bytes_per_state\":{},\
         \"search\":\"{}\"}}",
        name_of(config.variant),
        name_of(config.policy),
        checker.state_count(),
        checker.max_depth(),
        memory / states.max(1),
        name_of(arguments.search),
    );
    if let (true, Some((_, path))) = (arguments.trace, found) {
        for (state, action) in path.clone().into_vec() {
            eprintln!("{action:?} from {state:?}");
        }
    }
}

/// Reads the most memory that this process ever held; 0 where Linux's /proc is missing.
fn peak_memory_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .and_then(|rest| rest.split_whitespace().next())
        .and_then(|kibibytes| kibibytes.parse::<usize>().ok())
        .map_or(0, |kibibytes| kibibytes * 1024)
}
