//! `lazytlb record`: what this machine's kernel does about its TLBs, as a file.

use std::io::Write;
use std::time::Duration;

use anyhow::bail;
use lazytlb_record::{Finished, Options, Plan, Recording, Tracefs};

use crate::arguments::Record;
use crate::numbers::grouped;
use crate::progress::Display;
use crate::report::Ending;

/// Runs the command.
pub(crate) fn run(options: &Record) -> anyhow::Result<Ending> {
    let what = Options {
        name: format!("lazytlb_{}", std::process::id()),
        buffer_kib: options.buffer_kib,
        kprobes: !options.no_kprobes,
    };
    if options.dry_run {
        return dry_run(options, &what);
    }
    let tracefs = Tracefs::find()?;
    if options.output.exists() && !options.force {
        bail!(
            "{} is there already: choose another name with -o, or say --force",
            options.output.display()
        );
    }
    let plan = Plan::make(&tracefs, &what)?;
    let recording = Recording::prepare(tracefs, plan, &options.output)?;
    let finished = {
        let display = Display::new(format!("recording to {}", options.output.display()));
        let limit = options.seconds.map(Duration::from_secs);
        recording.run(&options.command, limit, |progress| {
            display.recording(progress);
        })?
    };
    tell(options, &finished)
}

/// Prints the script. For whoever may not look into tracefs, it looks itself.
fn dry_run(options: &Record, what: &Options) -> anyhow::Result<Ending> {
    let (tracefs, plan) = match Tracefs::find() {
        Ok(tracefs) => {
            let plan = Plan::make(&tracefs, what)?;
            (tracefs, plan)
        }
        Err(error) => {
            eprintln!(
                "note: tracefs cannot be looked into ({error}): the script takes it to be at /sys/kernel/tracing, and \
                 tries everything"
            );
            (Tracefs::at("/sys/kernel/tracing"), Plan::unseen(what))
        }
    };
    for note in plan.notes() {
        eprintln!("note: {note}");
    }
    let script = plan.script(&tracefs, &options.output, &options.command);
    std::io::stdout().write_all(script.as_bytes())?;
    Ok(Ending::Good)
}

fn tell(options: &Record, finished: &Finished) -> anyhow::Result<Ending> {
    for note in &finished.notes {
        eprintln!("note: {note}");
    }
    let file = options.output.display();
    eprintln!(
        "{file}: {} events of {} CPUs in {:.1} s{}",
        grouped(finished.events),
        finished.cpus,
        finished.time.as_secs_f64(),
        match finished.probes.len() {
            0 => ", from tracepoints alone".to_owned(),
            _ => format!(", with kprobes {}", finished.probes.join(", ")),
        }
    );
    if finished.lost > 0 {
        eprintln!(
            "error: {} events were lost, and a replay would be wrong: record again with --buffer-kib {}",
            grouped(finished.lost),
            options.buffer_kib.saturating_mul(4)
        );
        return Ok(Ending::Violation);
    }
    match finished.status {
        Some(status) if !status.success() && !finished.interrupted => {
            eprintln!("note: the command failed ({status}); what it did until then is recorded");
            Ok(Ending::Good)
        }
        _ => {
            eprintln!("next: lazytlb decide {file}");
            Ok(Ending::Good)
        }
    }
}
