//! Runs one operation of the protocol so often, on a machine whose instructions do nothing.
//!
//! `lazytlb-instructions OPERATION WORDS IN_USE without|off|on COUNT`: to be run under callgrind, which counts inside
//! `measured::` only; what set-up costs drops out where a run of twice the count is compared. `cargo xtask bench
//! --instructions` does both, and prints the table.
//!
//! | file | what |
//! | --- | --- |
//! | [`operation`] | the operations, and what must come before each |
//! | [`measured`] | the calls inside which is counted |
//! | [`null`] | the machine and its kernel |
#![forbid(unsafe_code)]

mod measured;
mod null;
mod operation;

use std::process::ExitCode;

use null::{Off, On, Without};
use operation::Operation;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let done = run(&arguments);
    if done.is_none() {
        eprintln!("usage: lazytlb-instructions OPERATION WORDS IN_USE without|off|on COUNT");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// Does what the command line says; `None` if it says nothing known.
fn run(arguments: &[String]) -> Option<()> {
    let [name, words, in_use, pcids, count] = arguments else {
        return None;
    };
    let operation = Operation::named(name)?;
    let count = count.parse().ok()?;
    let run = match (words.as_str(), in_use.as_str(), pcids.as_str()) {
        ("1", "1", "without") => operation::run::<Without, 1, 1>,
        ("1", "1", "off") => operation::run::<Off, 1, 1>,
        ("1", "1", "on") => operation::run::<On, 1, 1>,
        ("8", "1", "without") => operation::run::<Without, 8, 1>,
        ("8", "1", "off") => operation::run::<Off, 8, 1>,
        ("8", "1", "on") => operation::run::<On, 8, 1>,
        ("8", "8", "without") => operation::run::<Without, 8, 8>,
        ("8", "8", "off") => operation::run::<Off, 8, 8>,
        ("8", "8", "on") => operation::run::<On, 8, 8>,
        _ => return None,
    };
    run(operation, count);
    Some(())
}
