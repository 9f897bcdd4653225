//! Counts the protocol's own instructions, with callgrind: `cargo xtask bench --instructions`.
//!
//! `benches/instructions` runs an operation on a machine whose instructions do nothing. Callgrind counts inside one
//! function, and a run is compared with one of twice the count, so that nothing of the set-up is in the figures. They
//! are the same on every run: what changes them is the code and the compiler.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use cargo_metadata::Metadata;

use crate::{cargo, packages};

/// The program's manifest: it is a workspace of its own, for it is built as a kernel is.
pub(crate) const MANIFEST: &str = "benches/instructions/Cargo.toml";
/// Operations of a run: a multiple of 6 and 7, the spaces that a CPU goes round.
const COUNT: u32 = 42 * 12;

/// An operation that is counted.
pub(crate) struct Operation {
    name: &'static str,
    title: &'static str,
    /// What Linux 6.1 takes, counted by hand on its compiled paths: `None` where nobody counted.
    linux: Option<u32>,
    /// What it may take on sets of one word, and of eight: `None` for a figure of its own.
    targets: Option<[u32; 2]>,
    /// The machines on which there is such an operation.
    machines: &'static [&'static str],
}

/// PCIDs are off: because the machine has none (a constant), or has a field that says so; or on.
const ANY: &[&str] = &["without", "off", "on"];
const OFF: &[&str] = &["without", "off"];
const ON: &[&str] = &["on"];

/// Words of a CPU set, and those in use.
const SETS: [[&str; 2]; 3] = [["1", "1"], ["8", "1"], ["8", "8"]];

pub(crate) const OPERATIONS: [Operation; 12] = [
    operation("switch", "switch", Some(130), Some([45, 45]), OFF),
    operation(
        "switch-kept",
        "switch, hit that is current",
        None,
        Some([45, 45]),
        ON,
    ),
    operation("switch-behind", "switch, hit but behind", None, None, ON),
    operation(
        "switch-recycled",
        "switch, miss with recycling",
        None,
        None,
        ON,
    ),
    operation("same", "same space", Some(29), Some([15, 15]), ANY),
    operation("resume", "resume", Some(38), Some([26, 26]), ANY),
    operation("enter-lazy", "enter lazy", Some(6), Some([15, 15]), ANY),
    operation(
        "local-flush",
        "local flush of a page",
        Some(200),
        Some([100, 150]),
        ANY,
    ),
    operation(
        "shootdown",
        "add, send and wait: a page, one target",
        None,
        None,
        ANY,
    ),
    operation("handler", "handler, one page", None, Some([110, 140]), ANY),
    operation(
        "serve-nobody",
        "`serve_inbox` of an empty inbox",
        None,
        None,
        ANY,
    ),
    operation(
        "retire",
        "retire, no other CPU in the space",
        None,
        None,
        ANY,
    ),
];

const fn operation(
    name: &'static str,
    title: &'static str,
    linux: Option<u32>,
    targets: Option<[u32; 2]>,
    machines: &'static [&'static str],
) -> Operation {
    Operation {
        name,
        title,
        linux,
        targets,
        machines,
    }
}

/// Counts everything, and prints the table.
pub(crate) fn count(workspace: &Metadata) -> Result<()> {
    packages::need(&["valgrind"], &["valgrind"])?;
    let target = workspace.target_directory.join("instructions");
    let arguments = ["--manifest-path", MANIFEST, "--target-dir", target.as_str()];
    cargo::run(
        workspace,
        &[&["build", "--release"][..], &arguments].concat(),
    )?;
    let program = target.join("release/lazytlb-instructions");
    println!("\n| instructions | Linux 6.1 | PCIDs | 64 CPUs | 64 of 512 | 512 CPUs |");
    println!("| --- | ---: | --- | ---: | ---: | ---: |");
    for operation in &OPERATIONS {
        for machine in operation.machines {
            let mut cells = String::new();
            for set in SETS {
                let figure = operation.figure(program.as_std_path(), set, machine)?;
                let target = operation.target(set);
                let missed = target.is_some_and(|target| figure > f64::from(target));
                let mark = if missed { " (!)" } else { "" };
                cells += &format!(" {figure:.0}{mark} |");
            }
            let linux = operation
                .linux
                .map_or("—".into(), |linux| linux.to_string());
            println!("| {} | {linux} | {machine} |{cells}", operation.title);
        }
    }
    println!("\n(!) over its target. Where each of six slots is used in turn, the mean.");
    Ok(())
}

/// Runs every operation for a moment: each asserts that the protocol did what it is counted for.
pub(crate) fn run_each(workspace: &Metadata, target: &str) -> Result<()> {
    let run = [
        "run",
        "--release",
        "--quiet",
        "--manifest-path",
        MANIFEST,
        "--target-dir",
        target,
        "--",
    ];
    for operation in &OPERATIONS {
        for machine in operation.machines {
            for [words, in_use] in SETS {
                let arguments = [operation.name, words, in_use, machine, "42"];
                cargo::run_quietly(workspace, &[&run[..], &arguments].concat())?;
            }
        }
    }
    Ok(())
}

impl Operation {
    fn target(&self, [words, _]: [&str; 2]) -> Option<u32> {
        let [one_word, eight] = self.targets?;
        Some(if words == "1" { one_word } else { eight })
    }

    /// Counts the instructions of one operation.
    fn figure(&self, program: &Path, [words, in_use]: [&str; 2], machine: &str) -> Result<f64> {
        let collected = |count: u32| {
            let output = Command::new("valgrind")
                .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
                .args(["--collect-atstart=no", "--toggle-collect=*measured::*"])
                .arg(program)
                .args([self.name, words, in_use, machine, &count.to_string()])
                .output()
                .context("cannot run valgrind")?;
            let text = String::from_utf8_lossy(&output.stderr);
            ensure!(output.status.success(), "{} failed:\n{text}", self.name);
            instructions(&text).with_context(|| format!("callgrind did not count:\n{text}"))
        };
        let (once, twice) = (collected(COUNT)?, collected(2 * COUNT)?);
        ensure!(
            once > 0 && twice > once,
            "nothing was counted of {}: is its function inlined?",
            self.name
        );
        Ok((twice - once) as f64 / f64::from(COUNT))
    }
}

/// Finds in what callgrind prints how many instructions it counted.
fn instructions(printed: &str) -> Option<u64> {
    let line = printed.lines().find(|line| line.contains("Collected :"))?;
    line.rsplit(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_is_found_in_what_callgrind_prints() {
        let printed =
            "==7== Events    : Ir\n==7== Collected : 14000\n==7== \n==7== I   refs: 14,000\n";
        assert_eq!(instructions(printed), Some(14_000));
        assert_eq!(instructions("==7== Events    : Ir\n"), None);
    }

    #[test]
    fn every_round_of_spaces_is_whole() {
        assert!(COUNT.is_multiple_of(6) && COUNT.is_multiple_of(7));
    }
}
