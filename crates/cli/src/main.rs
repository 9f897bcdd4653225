//! `lazytlb`: which way of treating lazy CPUs is safe, and which safe one is cheapest here?
//!
//! | file | what |
//! | --- | --- |
//! | `arguments`, `argument_values`, `hardware` | the command line; values by their names; the CPU that a question is about |
//! | `subject`, `menus`, `slots`, `global_ids` | what is checked: a program, or every program over menus; with slots for PCIDs, and PCIDs that are the same on every CPU |
//! | `decide`, `check`, `litmus`, `cpus`, `price`, `validate`, `record`, `calibrate` | the commands of these names |
//! | `decision`, `proofs` | proofs beside prices, and the choice among the safe ones; the searches that it rests on, side by side |
//! | `choice`, `pricing`, `measure` | a choice by regret, told; what prices are made with, and losses measured by; how to measure a cost |
//! | `policies` | what each policy does |
//! | `holding` | what was held back under `quarantine` |
//! | `idle` | by which idle states IPIs were priced |
//! | `pcids` | what PCIDs bring: the question of the mail |
//! | `check_records`, `decide_records` | verdicts and decisions as JSON |
//! | `every_cpu`, `litmus_every_cpu` | `--cpu all`; for which CPUs a proof holds |
//! | `checking`, `verdict_words`, `proof_words` | how one question is checked; how verdicts and proofs are told |
//! | `html` | a result as a page |
//! | `hanging` | rules that are ASSUMED and that a verdict hangs on |
//! | `litmus_files`, `litmus_records`, `litmus_summary` | which tests; their answers as JSON; all of them counted |
//! | `workload`, `workload_words`, `workloads` | the recorded workload: a file, or the one that ships inside the program; how it is told; several, and their sum |
//! | `by`, `parts`, `owners`, `processes` | `price --by`: by what; the parts, told; what is whose; whose an operation is |
//! | `by_recording` | the choice on each of several recordings, beside that of the sum |
//! | `zoo`, `zoo_words`, `zoo_records` | `zoo`: bugs of history and real kernels, each found and its fix proved; told; as JSON |
//! | `signals` | what is removed before a signal ends the program |
//! | `report`, `numbers`, `progress` | what is printed, where, and how the program ends; how numbers are told; progress on a terminal |
#![forbid(unsafe_code)]

mod argument_values;
mod arguments;
mod by;
mod by_recording;
mod calibrate;
mod check;
mod check_records;
mod checking;
mod choice;
mod cpus;
mod decide;
mod decide_records;
mod decision;
mod every_cpu;
mod global_ids;
mod hanging;
mod hardware;
mod holding;
mod html;
mod idle;
mod litmus;
mod litmus_every_cpu;
mod litmus_files;
mod litmus_records;
mod litmus_summary;
mod measure;
mod menus;
mod numbers;
mod owners;
mod parts;
mod pcids;
mod policies;
mod price;
mod pricing;
mod processes;
mod progress;
mod proof_words;
mod proofs;
mod record;
mod report;
mod signals;
mod slots;
mod subject;
mod validate;
mod verdict_words;
mod workload;
mod workload_words;
mod workloads;
mod zoo;
mod zoo_records;
mod zoo_words;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use arguments::{Arguments, Command};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // A recording ends by itself on a signal, and is whole.
    if !matches!(arguments.command, Command::Record(_)) {
        signals::remove_files_first();
    }
    let ending = match arguments.command {
        Command::Decide(options) => decide::run(&options),
        Command::Check(options) if options.hardware.is_every() => every_cpu::check_every(&options),
        Command::Check(options) => check::run(&options),
        Command::Price(options) => price::run(&options),
        Command::Validate(options) => validate::run(&options),
        Command::Litmus(options) if options.hardware.is_every() => {
            litmus_every_cpu::run_every(&options)
        }
        Command::Litmus(options) => litmus::run_all(&options),
        Command::Record(options) => record::run(&options),
        Command::Cpus(options) => cpus::run(&options),
        Command::Calibrate(options) => calibrate::run(&options),
        Command::Zoo(options) => zoo::run(&options),
        Command::Costs => report::print(lazytlb_price::Costs::shipped_text()),
        Command::Completions { shell } => {
            let (mut command, mut script) = (Arguments::command(), Vec::new());
            clap_complete::generate(shell, &mut command, "lazytlb", &mut script);
            report::print(&String::from_utf8_lossy(&script))
        }
    };
    match ending {
        Ok(ending) => ending.exit_code(),
        Err(error) if report::is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", report::told(&error));
            ExitCode::from(report::EXIT_BAD_INPUT)
        }
    }
}
