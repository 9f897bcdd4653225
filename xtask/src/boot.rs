//! Boots the test kernel under an emulator, and tells how it ended: `cargo xtask boot`.
//!
//! - [`plan`]: what one boot is told; [`emulator`]: how it is started; [`install`]: what that needs;
//! - [`watch`]: reading what the kernel prints; [`end`]: judging it; [`sources`]: comparing hashes.

mod emulator;
mod end;
mod install;
mod plan;
mod sources;
mod watch;

use std::path::PathBuf;
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use cargo_metadata::Metadata;
use clap::builder::PossibleValue;
use clap::builder::PossibleValuesParser;
use serde_json::json;

use crate::cargo;
use end::End;
use plan::{Apic, BREAKS, BREAKS_OF_PCIDS, Boot, Emulator, POLICIES, Pcids, TESTS, Threads};

/// The kernel's manifest, from the workspace's root.
pub(crate) const MANIFEST: &str = "testkernel/Cargo.toml";
/// What stands for every policy, or every break.
const ALL: &str = "all";
/// CPUs, threads and seeds of `--matrix`.
const MATRIX_CPUS: [u8; 3] = [2, 4, 8];
const MATRIX_SEEDS: u64 = 10;
/// Lines that are shown of a boot that went wrong.
const LAST_LINES: usize = 25;

const CODES: &str = "\
Exit codes:
   0  every check held (with `--break all`: every break was caught)
   1  not set up: build failed, emulator missing, command line refused by the kernel;
      or, with `--break all`, a break that did not end as it must
   2  wrong usage
  10  coherence was violated, or a counter broke a promise
  11  the kernel panicked
  12  triple fault: the CPU reset itself
  13  hang: no progress for 20 s of emulated time
  14  the emulator crashed
With several boots the first bad end counts. Each prints its last lines and the command that repeats it.";

/// Holds the arguments of `cargo xtask boot`.
#[derive(clap::Args)]
#[command(after_help = CODES)]
pub(crate) struct Args {
    /// The emulator
    #[arg(long, value_enum, default_value_t = Emulator::Qemu)]
    emulator: Emulator,
    /// CPUs to start, 1 to 16
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=16))]
    cpus: u8,
    /// How lazy CPUs are treated; `all` boots once for each. A break of held tables is booted under quarantine
    #[arg(long, default_value = "ipi-on-table-free", value_parser = policies())]
    policy: String,
    /// What to run
    #[arg(long, default_value = "all", value_parser = described(&TESTS, None))]
    test: String,
    /// Where the kernel's random choices start [default: the time]
    #[arg(long)]
    seed: Option<u64>,
    /// Boot with so many seeds, one after the other
    #[arg(long, default_value_t = 1, conflicts_with = "matrix")]
    seeds: u64,
    /// Emulated seconds of each storm
    #[arg(long, default_value_t = 2)]
    seconds: u32,
    /// Break a promise, and see the storm notice; `all` demands that each is caught
    #[arg(long = "break", value_name = "NAME", value_parser = described(&BREAKS, Some((ALL, "every one of them"))))]
    broken: Option<String>,
    /// How QEMU runs the CPUs
    #[arg(long, value_enum, default_value_t = Threads::Multi)]
    threads: Threads,
    /// Which APIC driver the kernel uses
    #[arg(long, value_enum, default_value_t = Apic::Auto)]
    apic: Apic,
    /// Whether the protocol uses PCIDs; what is left open suits the break
    #[arg(long, value_enum, default_value_t = Pcids::Auto)]
    pcids: Pcids,
    /// Page-table isolation: ring 3 runs under roots of its own; what is left open suits the break
    #[arg(long)]
    isolation: bool,
    /// Tell the protocol of erratum 383, as a kernel does that expects CPUs with it to come online later
    #[arg(long)]
    expect_erratum_383: bool,
    /// All policies, 2, 4 and 8 CPUs, both ways of threading, ten seeds each
    #[arg(long, conflicts_with_all = ["cpus", "policy", "threads", "broken"])]
    matrix: bool,
    /// Go on after a bad end
    #[arg(long)]
    keep_going: bool,
    /// Print a line for each boot only
    #[arg(long)]
    quiet: bool,
    /// Print one JSON object for each boot, with the kernel's figures
    #[arg(long)]
    json: bool,
}

fn policies() -> PossibleValuesParser {
    PossibleValuesParser::new(POLICIES.into_iter().chain([ALL]))
}

/// Accepts the names of a list, and shows what each is.
fn described(
    list: &[(&'static str, &'static str)],
    more: Option<(&'static str, &'static str)>,
) -> PossibleValuesParser {
    let value = |(name, about): (&'static str, &'static str)| PossibleValue::new(name).help(about);
    PossibleValuesParser::new(
        list.iter()
            .copied()
            .chain(more)
            .map(value)
            .collect::<Vec<_>>(),
    )
}

/// Boots as often as was asked for; returns the exit code.
///
/// # Errors
/// If the kernel does not build, or the emulator cannot be had.
pub(crate) fn run(args: &Args) -> Result<u8> {
    let workspace = cargo::metadata()?;
    let kernel = Kernel::build(&workspace)?;
    emulator::prepare(args.emulator)?;
    let (boots, caught_is_good) = (planned_boots(args), args.broken.as_deref() == Some(ALL));
    let mut code = 0;
    for boot in &boots {
        let shows = !args.quiet && !args.json && boots.len() == 1;
        let watched = kernel.boot(boot, |line| {
            if shows {
                println!("{line}");
            }
        })?;
        let wanted = match &boot.broken {
            Some(broken) if caught_is_good => plan::end_of(broken),
            _ => End::Passed,
        };
        let good = watched.end == wanted;
        report(args, boot, &watched, shows);
        if !good {
            code = if code == 0 {
                bad_code(watched.end)
            } else {
                code
            };
            if !args.keep_going {
                break;
            }
        }
    }
    Ok(code)
}

/// Returns the exit code of an end that is not the wanted one.
fn bad_code(end: End) -> u8 {
    match end {
        // A break that nobody noticed.
        End::Passed => 1,
        end => end.exit_code(),
    }
}

/// Lists the boots that the arguments ask for.
fn planned_boots(args: &Args) -> Vec<Boot> {
    let clock = || {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(1, |now| now.as_secs())
    };
    let first_seed = args.seed.unwrap_or_else(clock);
    let policies: Vec<&str> = match args.policy.as_str() {
        _ if args.matrix => POLICIES.to_vec(),
        ALL => POLICIES.to_vec(),
        policy => vec![policy],
    };
    let breaks: Vec<Option<&str>> = match args.broken.as_deref() {
        Some(ALL) => BREAKS.iter().map(|(name, _)| Some(*name)).collect(),
        broken => vec![broken],
    };
    let (cpus, threads, seeds) = match args.matrix {
        true => (
            MATRIX_CPUS.to_vec(),
            vec![Threads::Multi, Threads::Single],
            MATRIX_SEEDS,
        ),
        false => (vec![args.cpus], vec![args.threads], args.seeds),
    };
    let mut boots = Vec::new();
    for policy in policies {
        for &cpus in &cpus {
            for &threads in &threads {
                for &broken in &breaks {
                    boots.extend((0..seeds).map(|n| Boot {
                        emulator: args.emulator,
                        threads,
                        apic: args.apic,
                        pcids: args.pcids.for_break(broken, args.emulator),
                        isolation: plan::isolation_for_break(args.isolation, broken),
                        expects_erratum_383: args.expect_erratum_383,
                        cpus,
                        policy: plan::policy_for_break(policy, broken).to_owned(),
                        test: test_of(args, broken),
                        seed: first_seed.wrapping_add(n),
                        seconds: args.seconds,
                        broken: broken.map(str::to_owned),
                    }));
                }
            }
        }
    }
    boots
}

/// Returns what a boot runs: with `--break all`, the storm that shows the break, unless one is asked for.
fn test_of(args: &Args, broken: Option<&str>) -> String {
    match broken {
        Some(broken) if args.broken.as_deref() == Some(ALL) && args.test == ALL => {
            plan::storm_for(broken).to_owned()
        }
        _ => args.test.clone(),
    }
}

/// Prints how a boot ended: a line, and after a bad end what led to it.
fn report(args: &Args, boot: &Boot, watched: &watch::Watched, shown: bool) {
    let seconds = watched.taken.as_secs_f64();
    if args.json {
        let figures = watched.lines.iter().filter_map(|line| {
            let (name, value) = line.strip_prefix("figure ")?.split_once('=')?;
            Some((name.to_owned(), value.parse::<u64>().ok()?.into()))
        });
        let figures: serde_json::Map<String, serde_json::Value> = figures.collect();
        let record = json!({
            "boot": boot.kernel_line(), "command": boot.command(), "end": watched.end.to_string(),
            "exit_code": watched.end.exit_code(), "seconds": seconds, "figures": figures,
        });
        println!("{record}");
        return;
    }
    println!("{}: {} after {seconds:.1} s", boot.title(), watched.end);
    if watched.end == End::Passed {
        return;
    }
    let tail = watched.lines.len().saturating_sub(LAST_LINES);
    let caught = watched.lines.iter().filter(|line| is_report(line));
    match watched.end {
        _ if shown => {}
        End::Violation | End::Hang if caught.clone().next().is_some() => {
            caught.for_each(|line| println!("    {line}"))
        }
        _ => watched.lines[tail..]
            .iter()
            .for_each(|line| println!("    {line}")),
    }
    println!("  to repeat it: {}", boot.command());
}

/// Says whether a line of the kernel's reports a broken promise.
fn is_report(line: &str) -> bool {
    line.starts_with("VIOLATION") || line.starts_with("HANG")
}

/// Names the kernel's build directory, inside that of the workspace.
pub(crate) fn target(workspace: &Metadata) -> String {
    workspace.target_directory.join("testkernel").to_string()
}

/// The kernel's image.
pub(crate) struct Kernel(PathBuf);

impl Kernel {
    /// Builds it.
    ///
    /// # Errors
    /// If it does not build.
    pub(crate) fn build(workspace: &Metadata) -> Result<Kernel> {
        let target = target(workspace);
        let build = ["build", "--quiet", "--release", "--manifest-path", MANIFEST];
        cargo::run_quietly(
            workspace,
            &[&build[..], &["--target-dir", &target]].concat(),
        )?;
        Ok(Kernel(PathBuf::from(target).join("release/testkernel")))
    }

    fn boot(&self, boot: &Boot, show: impl FnMut(&str)) -> Result<watch::Watched> {
        let scratch = tempfile::tempdir().context("cannot make a temporary folder")?;
        watch::run(emulator::emulated(boot, &self.0, scratch.path())?, show)
    }

    /// Boots with a promise broken, and demands a report that says what was noticed.
    fn expect_break(&self, boot: &Boot, broken: &str) -> Result<()> {
        let watched = self.expect(boot, plan::end_of(broken))?;
        let message = watched.lines.iter().find(|line| is_report(line));
        let message = message.with_context(|| format!("{broken}: an end without a report"))?;
        if !says_what_and_where(broken, message) {
            bail!("the report must name CPU, address, what was wrong there, and seed: {message}");
        }
        Ok(())
    }

    fn expect(&self, boot: &Boot, wanted: End) -> Result<watch::Watched> {
        let watched = self.boot(boot, |_| {})?;
        println!(
            "    {}: {} after {:.1} s",
            boot.title(),
            watched.end,
            watched.taken.as_secs_f64()
        );
        if watched.end != wanted {
            let tail = watched.lines.len().saturating_sub(LAST_LINES);
            let lines = watched.lines[tail..].join("\n    ");
            bail!(
                "this must end as {wanted}:\n    {lines}\nto repeat it:\n    {}",
                boot.command()
            );
        }
        Ok(watched)
    }
}

/// Boots as CI does: QEMU with every policy, once with PCIDs that it only pretends to have, twice with page-table isolation,
/// every break and every bad end; Bochs, for the instructions, the PCIDs and the APIC mode that QEMU lacks, while QEMU
/// hangs, and once more with isolation; and the comparison of sources.
///
/// # Errors
/// If one of them does not end as it must.
pub(crate) fn test(workspace: &Metadata) -> Result<()> {
    let kernel = Kernel::build(workspace)?;
    emulator::prepare(Emulator::Qemu)?;
    for policy in POLICIES {
        kernel.expect(&boot(policy, "all", None), End::Passed)?;
    }
    let pretended = Boot {
        pcids: Pcids::Pretend,
        ..boot("init-mm", "all", None)
    };
    kernel.expect(&pretended, End::Passed)?;
    let isolated = |pcids, test| Boot {
        pcids,
        isolation: true,
        ..boot("ipi-on-table-free", test, None)
    };
    kernel.expect(&isolated(Pcids::Off, "tables"), End::Passed)?;
    kernel.expect(&isolated(Pcids::Pretend, "all"), End::Passed)?;
    for policy in ["ipi-on-table-free", "quarantine"] {
        let sizes_break = Boot {
            expects_erratum_383: true,
            ..boot(policy, "changes", None)
        };
        kernel.expect(&sizes_break, End::Passed)?;
    }
    let broken = |wanted: End| -> Result<()> {
        for (broken, _) in BREAKS {
            if plan::end_of(broken) == wanted {
                let storm = plan::storm_for(broken);
                let policy = plan::policy_for_break("ipi-on-table-free", Some(broken));
                kernel.expect_break(&boot(policy, storm, Some(broken)), broken)?;
            }
        }
        Ok(())
    };
    broken(End::Violation)?;
    kernel.expect(&boot("ipi", "panic", None), End::Panic)?;
    kernel.expect(&boot("ipi", "triple-fault", None), End::TripleFault)?;
    emulator::prepare(Emulator::Bochs)?;
    let bochs = |boot: Boot| Boot {
        emulator: Emulator::Bochs,
        cpus: 2,
        ..boot
    };
    let with_pcids = Boot {
        pcids: Pcids::On,
        ..boot("ipi-on-table-free", "all", None)
    };
    thread::scope(|scope| -> Result<()> {
        let hanging = scope.spawn(|| -> Result<()> {
            broken(End::Hang)?;
            kernel.expect(&boot("ipi", "hang", None), End::Hang)?;
            Ok(())
        });
        kernel.expect(&bochs(with_pcids), End::Passed)?;
        kernel.expect(&bochs(isolated(Pcids::On, "tables")), End::Passed)?;
        hanging.join().expect("a boot that fails is an error")
    })?;
    let booted = kernel.expect(&boot("ipi", "sources", None), End::Passed)?;
    compare_sources(workspace, &booted.lines)
}

/// Returns a boot of the step: under QEMU, with 4 CPUs.
fn boot(policy: &str, test: &str, broken: Option<&str>) -> Boot {
    Boot {
        emulator: Emulator::Qemu,
        threads: Threads::Multi,
        apic: Apic::Auto,
        pcids: Pcids::Auto.for_break(broken, Emulator::Qemu),
        isolation: plan::isolation_for_break(false, broken),
        expects_erratum_383: false,
        cpus: 4,
        policy: policy.to_owned(),
        test: test.to_owned(),
        seed: 1,
        // A break is caught within a second or so; it has a minute.
        seconds: if broken.is_some() { 60 } else { 1 },
        broken: broken.map(str::to_owned),
    }
}

/// Compares what booted with what is checked.
fn compare_sources(workspace: &Metadata, kernel_lines: &[String]) -> Result<()> {
    let check = [
        "--",
        "check",
        "--json",
        "--program",
        "smoke",
        "--policy",
        "ipi",
    ];
    let run = [&["run", "--quiet"][..], &cargo::PROFILE, &check].concat();
    let checked = cargo::output(workspace, &run)?;
    let files = sources::compare(&checked, kernel_lines)?;
    println!("    {files} source files: what boots is what is checked");
    Ok(())
}

/// Says whether a report of a broken promise has what is needed to understand it.
fn says_what_and_where(broken: &str, message: &str) -> bool {
    // A page's version, or a free frame that was written to; or whose translations a PCID has.
    let what: &[&str] = match broken {
        _ if BREAKS_OF_PCIDS.contains(&broken) => &["PCID "],
        _ if plan::end_of(broken) == End::Hang => &["has waited"],
        "free-on-retire" => &["has root 0x"],
        "free-held-at-once" => &["may walk"],
        "forget-hold-bound" => &["are held, more than"],
        "deny-hold-room" => &["lazy CPUs for"],
        "forget-errata" => &["errata"],
        "walk-unguarded" => &["finds the table"],
        _ => &["version", "free frame"],
    };
    let has = |word: &&str| message.contains(*word);
    let where_it_is: &[&str] = match plan::end_of(broken) {
        End::Hang => &["CPU ", "seed "],
        _ if broken == "forget-errata" => &["CPU ", "seed "],
        _ => &["CPU ", "0x", "seed "],
    };
    where_it_is.iter().all(has) && what.iter().any(has)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_names_cpu_address_what_was_wrong_and_seed() {
        let late = "VIOLATION: CPU 2 found word 9 of the free frame 0x104e000 changed to 0x3001c00000001; seed 1";
        assert!(says_what_and_where("do-not-wait", late));
        let read = "VIOLATION: CPU 1 read an old version at 0x8000: saw page version 3; seed 1";
        assert!(says_what_and_where("skip-ipis", read));
        let kept = "VIOLATION: CPU 0 loaded root 0x1008000 and kept what PCID 1 has cached; seed 1";
        assert!(says_what_and_where("keep-on-recycling", kept));
        let root =
            "VIOLATION: CPU 0 has root 0x1000000 loaded, which CPU 2 is about to free; seed 1";
        assert!(says_what_and_where("free-on-retire", root));
        let walked = "VIOLATION: CPU 0 is about to free the page table 0x1008000, which CPU 3 may walk: it is lazy; seed 1";
        assert!(says_what_and_where("free-held-at-once", walked));
        let many = "VIOLATION: CPU 1 holds the page table 0x1008000 back: 5 of its space are held, more than 4; seed 1";
        assert!(says_what_and_where("forget-hold-bound", many));
        assert!(!says_what_and_where("forget-hold-bound", walked));
        let late = "VIOLATION: CPU 1 must not come online: it has errata of which the protocol was not told; seed 1";
        assert!(says_what_and_where("forget-errata", late));
        assert!(!says_what_and_where("retype-in-place", late));
        let walked = "VIOLATION: CPU 0 walks the page tables of space 1 by software, and finds the table 0x1021000 freed; seed 1";
        assert!(says_what_and_where("walk-unguarded", walked));
        let hang = "HANG: CPU 3 has waited 5 s for another one; seed 1";
        assert!(says_what_and_where("lock-without-serving", hang));
        assert!(!says_what_and_where("lose-add", hang));
        // What another break shows, and reports that lack something.
        assert!(!says_what_and_where("keep-on-recycling", read));
        assert!(!says_what_and_where("skip-ipis", kept));
        for word in ["CPU 1 ", "0x8000", "version", "seed 1"] {
            assert!(
                !says_what_and_where("skip-ipis", &read.replace(word, "")),
                "{word}"
            );
        }
    }
}
