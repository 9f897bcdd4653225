//! Runs the workspace's test programs, two at a time: most end with one long test, beside which a CPU would have nothing to do.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cargo_metadata::{Artifact, Message, Metadata};

use crate::cargo;

/// Programs that run at once.
const AT_ONCE: usize = 2;
/// Programs that are begun first, for they take longest: what is printed in the end says which do.
const FIRST: [&str; 8] = [
    "claims",
    "hardware",
    "closure",
    "pcids",
    "verdicts",
    "proofs",
    "shootdowns",
    "global_ids",
];
/// Programs that are named at the end.
const NAMED: usize = 8;

/// A test program.
struct Program {
    /// The target's name.
    name: String,
    /// The target, as an argument of cargo's.
    target: String,
    package: String,
    /// The folder of its package, in which cargo would run it.
    folder: PathBuf,
    file: PathBuf,
}

/// A test program that has run.
struct Ran {
    program: Program,
    taken: Duration,
    passed: bool,
}

/// Runs the tests of the workspace that `args`, a call of cargo, would run: its programs, then its documentation's tests. Prints all that a
/// program said if it fails, and names those that took longest.
///
/// # Errors
/// If a program cannot be built or started, or a test fails: after all have run.
pub(crate) fn run(workspace: &Metadata, args: &[&str]) -> Result<()> {
    let programs = programs(workspace, args)?;
    println!("    {} test programs, {AT_ONCE} at a time", programs.len());
    let waiting = Mutex::new(VecDeque::from(programs));
    let ran = Mutex::new(Vec::new());
    let work = || -> Result<()> {
        loop {
            let next = waiting
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .pop_front();
            let Some(program) = next else {
                return Ok(());
            };
            let one = run_one(program)?;
            ran.lock().unwrap_or_else(PoisonError::into_inner).push(one);
        }
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(work)).collect();
        let ended = workers.into_iter().map(|worker| match worker.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        ended.collect::<Result<()>>()
    })?;
    let mut ran = ran.into_inner().unwrap_or_else(PoisonError::into_inner);
    ran.sort_by_key(|ran| std::cmp::Reverse(ran.taken));
    println!("    slowest test programs:");
    for Ran { program, taken, .. } in ran.iter().take(NAMED) {
        println!("    {:>8.1} s  {}", taken.as_secs_f64(), program.shown());
    }
    let failed: Vec<String> = ran
        .iter()
        .filter(|ran| !ran.passed)
        .map(|ran| format!("    {}", ran.program.call(args)))
        .collect();
    ensure!(
        failed.is_empty(),
        "tests failed; to repeat just them:\n{}",
        failed.join("\n")
    );
    cargo::run(workspace, &[args, &["--doc", "--quiet"]].concat())
}

/// Builds the test programs, and lists them in the order in which they are begun.
fn programs(workspace: &Metadata, args: &[&str]) -> Result<Vec<Program>> {
    let format = "--message-format=json-render-diagnostics";
    let printed = cargo::output(workspace, &[args, &["--no-run", format]].concat())?;
    let mut programs = Vec::new();
    for message in Message::parse_stream(printed.as_bytes()) {
        if let Message::CompilerArtifact(artifact) = message.context("cargo printed no JSON")?
            && artifact.profile.test
            && let Some(file) = artifact.executable.clone()
        {
            programs.push(Program::new(workspace, &artifact, file.into())?);
        }
    }
    for name in FIRST {
        ensure!(
            programs.iter().any(|program| program.name == name),
            "no test program is called `{name}` any more: mend the list in xtask/src/test_programs.rs"
        );
    }
    let place = |program: &Program| FIRST.iter().position(|name| *name == program.name);
    programs.sort_by_key(|program| place(program).unwrap_or(FIRST.len()));
    Ok(programs)
}

impl Program {
    fn new(workspace: &Metadata, artifact: &Artifact, file: PathBuf) -> Result<Program> {
        let package = workspace.packages.iter();
        let package = package
            .clone()
            .find(|package| package.id == artifact.package_id)
            .with_context(|| format!("{} is of no package", artifact.target.name))?;
        let folder = package.manifest_path.parent();
        let target = &artifact.target;
        let kind = |kind: &str| target.kind.iter().any(|its| its.to_string() == kind);
        Ok(Program {
            name: target.name.clone(),
            target: match (kind("test"), kind("bin"), kind("example")) {
                (true, _, _) => format!("--test {}", target.name),
                (_, true, _) => format!("--bin {}", target.name),
                (_, _, true) => format!("--example {}", target.name),
                _ => "--lib".to_owned(),
            },
            package: package.name.to_string(),
            folder: folder.context("a manifest lies in a folder")?.into(),
            file,
        })
    }

    fn shown(&self) -> String {
        format!("{} {}", self.package, self.target)
    }

    /// Returns the call that runs just this one.
    fn call(&self, args: &[&str]) -> String {
        format!("{} {}", cargo::shown(args), self.target)
    }
}

/// Runs a program as cargo would, and prints what it came to.
fn run_one(program: Program) -> Result<Ran> {
    let started = Instant::now();
    let (reader, writer) = std::io::pipe().context("cannot make a pipe")?;
    let mut command = Command::new(&program.file);
    command
        .current_dir(&program.folder)
        .env("CARGO_MANIFEST_DIR", &program.folder)
        .stdin(Stdio::null())
        .stdout(writer.try_clone().context("cannot copy a pipe")?)
        .stderr(writer);
    let mut child = command
        .spawn()
        .with_context(|| format!("cannot start {}", program.file.display()))?;
    // It holds the pipe's other ends; while we did, too, the pipe would never end.
    drop(command);
    let printed = std::io::read_to_string(reader);
    let printed = printed.with_context(|| format!("cannot read what {} says", program.shown()))?;
    let status = child
        .wait()
        .with_context(|| format!("cannot wait for {}", program.shown()))?;
    let taken = started.elapsed();
    println!("{}", told(&program.shown(), &printed, status, taken));
    Ok(Ran {
        program,
        taken,
        passed: status.success(),
    })
}

/// Returns what is told of a program: a line, and if it failed, all that it said.
fn told(shown: &str, printed: &str, status: ExitStatus, taken: Duration) -> String {
    let taken = taken.as_secs_f64();
    if !status.success() {
        return format!("{printed}\n{shown} FAILED ({status}) after {taken:.1} s");
    }
    let results = printed.lines().rev();
    let mut results = results.filter_map(|line| line.strip_prefix("test result: "));
    let result = results.next().unwrap_or("no tests");
    let result = result.split("; finished").next().unwrap_or(result);
    format!("{taken:>8.1} s  {shown}: {result}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(of: &str) -> ExitStatus {
        Command::new(of).status().unwrap()
    }

    #[test]
    fn of_what_passed_a_line_is_told_and_all_of_what_failed() {
        let printed = "running 2 tests\ntest a ... ok\n\ntest result: ok. 2 passed; 0 failed; finished in 0.01s\n";
        let second = Duration::from_secs(1);
        assert_eq!(
            told("a --lib", printed, status("true"), second),
            "     1.0 s  a --lib: ok. 2 passed; 0 failed"
        );
        let failed = told("a --lib", printed, status("false"), second);
        assert!(failed.starts_with(printed), "{failed}");
        assert!(
            failed.ends_with("a --lib FAILED (exit status: 1) after 1.0 s"),
            "{failed}"
        );
    }
}
