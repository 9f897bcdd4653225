//! Which test programs take longest: what `cargo test` prints, passed on and timed.

use std::io::{BufRead, BufReader};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use cargo_metadata::Metadata;

use crate::cargo;

/// Programs that are named at the end.
const NAMED: usize = 8;

/// A test program, and how long it ran.
struct Program {
    name: String,
    taken: Duration,
}

/// Runs `cargo` with `args`, a call that runs tests; then names the programs that took longest.
///
/// # Errors
/// If cargo cannot be started, or exits with a failure.
pub(crate) fn run(workspace: &Metadata, args: &[&str]) -> Result<()> {
    let shown = cargo::shown(args);
    println!("    {shown}");
    let (reader, writer) = std::io::pipe().context("cannot make a pipe")?;
    let mut command = cargo::command(workspace, args);
    command.stdout(writer.try_clone().context("cannot copy a pipe")?);
    command.stderr(writer);
    let mut child = command
        .spawn()
        .with_context(|| format!("cannot start `{shown}`; is cargo installed?"))?;
    // It holds the pipe's other ends; while we did, too, the pipe would never end.
    drop(command);
    let mut programs: Vec<Program> = Vec::new();
    let mut started = Instant::now();
    for line in BufReader::new(reader).lines() {
        let line = line.context("cannot read what cargo prints")?;
        println!("{line}");
        if let Some(name) = program_in(&line) {
            end(&mut programs, started);
            let taken = Duration::ZERO;
            programs.push(Program { name, taken });
            started = Instant::now();
        }
    }
    end(&mut programs, started);
    let status = child.wait().context("cannot wait for cargo")?;
    if !status.success() {
        bail!("`{shown}` failed ({status})");
    }
    programs.sort_by_key(|program| std::cmp::Reverse(program.taken));
    println!("    slowest test programs:");
    for Program { name, taken } in programs.iter().take(NAMED) {
        println!("    {:>8.1} s  {name}", taken.as_secs_f64());
    }
    Ok(())
}

/// Notes how long the program ran that was named last.
fn end(programs: &mut [Program], started: Instant) {
    if let Some(last) = programs.last_mut() {
        last.taken = started.elapsed();
    }
}

/// Returns the program that cargo says, in this line, it is about to run.
fn program_in(line: &str) -> Option<String> {
    let line = line.trim_start();
    if let Some(documented) = line.strip_prefix("Doc-tests ") {
        return Some(format!("documentation of {documented}"));
    }
    let (source, program) = line.strip_prefix("Running ")?.rsplit_once(" (")?;
    let file = program.rsplit('/').next()?;
    let name = file.rsplit_once('-').map_or(file, |(name, _)| name);
    Some(format!("{name} ({source})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_in_which_cargo_names_a_program_are_known() {
        let running = "     Running tests/proofs.rs (target/release/deps/proofs-0123456789abcdef)";
        assert_eq!(
            program_in(running).as_deref(),
            Some("proofs (tests/proofs.rs)")
        );
        let unit = "     Running unittests src/lib.rs (target/release/deps/lazytlb_x86-00ff)";
        assert_eq!(
            program_in(unit).as_deref(),
            Some("lazytlb_x86 (unittests src/lib.rs)")
        );
        let documented = "   Doc-tests lazytlb";
        assert_eq!(
            program_in(documented).as_deref(),
            Some("documentation of lazytlb")
        );
        assert_eq!(program_in("running 3 tests"), None);
    }
}
