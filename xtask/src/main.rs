//! Runs the workspace's checks and benchmarks: `cargo xtask test` is all that CI runs.
//!
//! Reading order:
//! - [`mod@test`]: the steps in their order, and the loop that runs them;
//! - [`arrows`]: which crate may depend on which;
//! - [`protocol_source`]: what the protocol's sources may not contain;
//! - [`structure`]: how long functions and files are, circles of files, integers for indices;
//! - [`mod@bench`]: the checker beside its peers, readers and recorders beside others'; [`instructions`]: the protocol's own;
//! - [`boot`]: the test kernel under an emulator; [`record`]: recordings here, and in guests;
//! - [`rules`]: the hardware rules, their code and their tests; [`mutate_model`]: the rules, broken; [`mutate_protocol`]: the protocol, changed;
//! - [`report`]: the pages of `--html` in a browser;
//! - [`verdicts`]: every verdict in one table, to compare two versions;
//! - [`cargo`]: how a step calls cargo; [`packages`]: programs that a benchmark installs; [`test_programs`]: the tests, two programs at a time.
#![forbid(unsafe_code)]

mod arrows;
mod bench;
mod boot;
mod cargo;
mod instructions;
mod mutate_model;
mod mutate_protocol;
mod packages;
mod protocol_source;
mod record;
mod report;
mod rules;
mod structure;
mod test;
mod test_programs;
mod verdicts;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Describes the command line of `cargo xtask`.
#[derive(Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    about = "Runs the workspace's checks and benchmarks"
)]
struct CommandLine {
    /// Selects what to do.
    #[command(subcommand)]
    command: Command,
}

/// Lists the subcommands; each keeps its arguments and its `run` in the module of the same name.
#[derive(Subcommand)]
enum Command {
    /// Run every check, in order, and stop at the first failure
    Test(test::Args),
    /// Measure the checker beside SPIN and Stateright, readers and recorders beside others, and the protocol's instructions
    Bench(bench::Args),
    /// Print where each hardware rule is encoded, and by what it is tested
    Rules(rules::Args),
    /// Break the model's rules one at a time: does a test notice?
    MutateModel(mutate_model::Args),
    /// Change the protocol one place at a time: does the checker find it?
    ///
    /// Hours for all of it. A run that was ended goes on where it was, as long as the sources are the same.
    MutateProtocol(mutate_protocol::Args),
    /// Print every verdict of a version in one table, to compare two versions
    Verdicts(verdicts::Args),
    /// Boot the test kernel under QEMU or Bochs
    Boot(boot::Args),
}

fn main() -> ExitCode {
    let outcome = match CommandLine::parse().command {
        Command::Test(args) => test::run(&args).map(|()| 0),
        Command::Bench(args) => bench::run(&args).map(|()| 0),
        Command::Rules(args) => rules::run(&args).map(|()| 0),
        Command::MutateModel(args) => mutate_model::run(&args).map(|()| 0),
        Command::MutateProtocol(args) => mutate_protocol::run(&args).map(|()| 0),
        Command::Verdicts(args) => verdicts::run(&args).map(|()| 0),
        Command::Boot(args) => boot::run(&args),
    };
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
