//! Runs every check of the workspace, in order: `cargo xtask test`.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail};
use cargo_metadata::Metadata;
use clap::builder::PossibleValuesParser;

use crate::{
    arrows, boot, cargo, instructions, protocol_source, record, report, rules, structure,
    test_programs,
};

/// One check with a name of its own.
struct Step {
    /// The name that `--only` takes.
    name: &'static str,
    /// What it shows when it passes, for the announcement and for `--list`.
    shows: &'static str,
    /// Runs it; an error says what failed.
    run: fn(&Metadata) -> Result<()>,
}

/// The steps, cheapest first, so that a slip is reported before anything long is built.
const STEPS: [Step; 14] = [
    Step {
        name: "fmt",
        shows: "every file is formatted",
        run: fmt,
    },
    Step {
        name: "arrows",
        shows: "crates depend along the allowed arrows, and the protocol is plain `core` code",
        run: check_arrows,
    },
    Step {
        name: "structure",
        shows: "functions and files are short, no files stand in a circle, indices have types",
        run: structure::test,
    },
    Step {
        name: "rules",
        shows: "every hardware rule is encoded and tested",
        run: rules::test,
    },
    Step {
        name: "clippy",
        shows: "no warnings from the compiler or from clippy",
        run: clippy,
    },
    Step {
        name: "build",
        shows: "all tests build, optimised",
        run: build,
    },
    Step {
        name: "test",
        shows: "unit, integration and documentation tests pass",
        run: test,
    },
    Step {
        name: "doc",
        shows: "the documentation builds, and all its links lead somewhere",
        run: doc,
    },
    Step {
        name: "boot",
        shows: "the test kernel passes its storms under QEMU, and notices every broken promise",
        run: boot::test,
    },
    Step {
        name: "peers",
        shows: "the Stateright peer is formatted, has no warnings, and comes to the known verdicts",
        run: peers,
    },
    Step {
        name: "instructions",
        shows: "the program whose instructions are counted is clean, and does what it is counted for",
        run: counted,
    },
    Step {
        name: "demo",
        shows: "`lazytlb decide` comes to its answer",
        run: demo,
    },
    Step {
        name: "record",
        shows: "`lazytlb record` loses nothing, leaves nothing behind, and trace-cmd reads it",
        run: record::test,
    },
    Step {
        name: "report",
        shows: "the pages of `--html` work in a browser: no complaints, the stepper steps, nothing overflows",
        run: report::test,
    },
];

/// The peer model for Stateright, a workspace of its own.
const PEER_MANIFEST: &str = "benches/peers/stateright/Cargo.toml";
/// What it must come to, as the checker does.
const PEER_VERDICTS: [(&str, &str); 4] = [
    ("ipi", "safe"),
    ("ipi-on-table-free", "safe"),
    ("init-mm", "safe"),
    ("defer", "violation"),
];

/// Holds the arguments of `cargo xtask test`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Run only this step (may be given several times)
    #[arg(long, value_name = "NAME", value_parser = step_names())]
    only: Vec<String>,
    /// List the steps, and run nothing
    #[arg(long, conflicts_with = "only")]
    list: bool,
}

/// Makes clap accept the names of the steps, and suggest one for a slip of the keyboard.
fn step_names() -> PossibleValuesParser {
    PossibleValuesParser::new(STEPS.map(|step| step.name))
}

/// Runs the chosen steps up to the first that fails, and prints what each took.
///
/// # Errors
/// If a step fails: the error names it, and gives the command that repeats just it.
pub(crate) fn run(args: &Args) -> Result<()> {
    if args.list {
        for step in &STEPS {
            println!("{:<10}{}", step.name, step.shows);
        }
        return Ok(());
    }
    let workspace = cargo::metadata()?;
    let chosen = |step: &&Step| args.only.is_empty() || args.only.iter().any(|n| n == step.name);

    let mut timings = Vec::new();
    let mut outcome = Ok(());
    for step in STEPS.iter().filter(chosen) {
        println!("==> {}: {}", step.name, step.shows);
        let start = Instant::now();
        let result = (step.run)(&workspace);
        timings.push(Timing {
            step: step.name,
            passed: result.is_ok(),
            taken: start.elapsed(),
        });
        if let Err(error) = result {
            eprintln!("{error:#}");
            let name = step.name;
            outcome = Err(anyhow!(
                "step `{name}` failed; to repeat just it:\n    cargo xtask test --only {name}"
            ));
            break;
        }
    }
    print_summary(&timings);
    outcome
}

/// Says how one step ended, and after how long.
struct Timing {
    /// The step's name.
    step: &'static str,
    /// Whether it passed.
    passed: bool,
    /// The time from its announcement to its end.
    taken: Duration,
}

/// Prints a line for each step that ran, and the total.
fn print_summary(timings: &[Timing]) {
    println!("==> summary");
    for Timing {
        step,
        passed,
        taken,
    } in timings
    {
        let verdict = if *passed { "ok" } else { "FAILED" };
        println!("{step:<10}{:>8.1} s  {verdict}", taken.as_secs_f64());
    }
    let total: Duration = timings.iter().map(|timing| timing.taken).sum();
    println!("{:<10}{:>8.1} s", "total", total.as_secs_f64());
}

/// Compares the formatting of both workspaces with rustfmt's.
fn fmt(workspace: &Metadata) -> Result<()> {
    cargo::run(workspace, &["fmt", "--all", "--check"])?;
    let kernel = ["fmt", "--manifest-path", boot::MANIFEST, "--check"];
    cargo::run(workspace, &kernel)
}

/// Checks the arrows between the crates, and the sources of the one at their bottom.
fn check_arrows(workspace: &Metadata) -> Result<()> {
    let mut problems: Vec<String> = arrows::check(workspace)
        .iter()
        .map(ToString::to_string)
        .collect();

    let root = workspace.workspace_root.as_std_path();
    let findings = protocol_source::check(root, Path::new("crates/lazytlb"))?;
    problems.extend(findings.iter().map(ToString::to_string));

    if !problems.is_empty() {
        bail!("{}", problems.join("\n"));
    }
    Ok(())
}

/// Lints every target of both workspaces.
fn clippy(workspace: &Metadata) -> Result<()> {
    let deny = ["--", "-D", "warnings"];
    let all = ["clippy", "--workspace", "--all-targets"];
    cargo::run(workspace, &[&all[..], &cargo::PROFILE, &deny].concat())?;
    let target = boot::target(workspace);
    let arguments = [
        "clippy",
        "--release",
        "--manifest-path",
        boot::MANIFEST,
        "--target-dir",
        &target,
    ];
    cargo::run(workspace, &[&arguments, &deny[..]].concat())
}

/// The call of cargo that runs all tests.
const TESTS: [&str; 4] = ["test", "--workspace", cargo::PROFILE[0], cargo::PROFILE[1]];

/// Builds the tests, optimised: the exhaustive checks among them are heavy.
fn build(workspace: &Metadata) -> Result<()> {
    cargo::run(workspace, &[&TESTS[..], &["--no-run"]].concat())
}

/// Runs the tests, and says which programs took longest.
fn test(workspace: &Metadata) -> Result<()> {
    test_programs::run(workspace, &TESTS)
}

/// Builds the documentation, and fails on a broken link.
///
/// The binary `lazytlb` and the library `lazytlb` are documented under the same name. One call
/// for both would warn of that and mix the pages; with two, the library's are the ones that stay.
fn doc(workspace: &Metadata) -> Result<()> {
    let env = [("RUSTDOCFLAGS", "-D warnings")];
    for which in ["--bins", "--lib"] {
        let doc = ["doc", "--workspace", "--no-deps", which];
        cargo::run_with_env(workspace, &[&doc[..], &cargo::PROFILE].concat(), &env)?;
    }
    Ok(())
}

/// Checks the peer that needs nothing but cargo: SPIN's is checked by `cargo xtask bench`.
fn peers(workspace: &Metadata) -> Result<()> {
    let target = workspace.target_directory.join("peers");
    format_and_lint(workspace, PEER_MANIFEST, target.as_str())?;
    let run = [
        "run",
        "--release",
        "--quiet",
        "--manifest-path",
        PEER_MANIFEST,
        "--target-dir",
        target.as_str(),
        "--",
    ];
    for (policy, verdict) in PEER_VERDICTS {
        let arguments = ["--policy", policy, "--variant", "best"];
        let printed = cargo::output(workspace, &[&run[..], &arguments].concat())?;
        if !printed.contains(&format!("\"verdict\":\"{verdict}\"")) {
            bail!("the peer does not find `{policy}` {verdict}: {printed}");
        }
    }
    Ok(())
}

/// Checks the program whose instructions `cargo xtask bench` counts.
fn counted(workspace: &Metadata) -> Result<()> {
    let target = workspace.target_directory.join("instructions");
    format_and_lint(workspace, instructions::MANIFEST, target.as_str())?;
    instructions::run_each(workspace, target.as_str())
}

/// Checks the format, and for warnings, of a workspace of its own.
fn format_and_lint(workspace: &Metadata, manifest: &str, target: &str) -> Result<()> {
    let manifest = ["--manifest-path", manifest];
    cargo::run(workspace, &["fmt", manifest[0], manifest[1], "--check"])?;
    let clippy = [
        "clippy",
        manifest[0],
        manifest[1],
        "--target-dir",
        target,
        "--all-targets",
    ];
    cargo::run(
        workspace,
        &[&clippy[..], &["--", "-D", "warnings"]].concat(),
    )
}

/// Runs what the README begins with, as it is called there but for the profile (with the release's, all that it stands on would be built
/// once more) and for the proofs, which the README's own test waits for.
/// `lazytlb-cli` is the default member.
fn demo(workspace: &Metadata) -> Result<()> {
    let decide = ["--", "decide", "--program", "smoke"];
    let arguments = [&["run"][..], &cargo::PROFILE, &decide].concat();
    cargo::run_quietly(workspace, &arguments)
}
