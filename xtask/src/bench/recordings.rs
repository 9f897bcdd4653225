//! Reading and pricing recordings, beside trace-cmd and perf: `cargo xtask bench --recordings`.
//!
//! One load is recorded by `lazytlb record` and `perf record` at once, so that their files are of the same events, or nearly. What a program took is
//! its time on the processor, from its start to its end; text goes to `/dev/null`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use cargo_metadata::Metadata;

use super::process::{self, Output, Ran};
use super::programs::{Programs, Recorder, events_read};
use super::repeated;
use crate::record;

/// Rounds of the load: some 2 million events on two CPUs.
const ROUNDS: u32 = 2000;
/// How long the long recording is.
const LONG_BYTES: u64 = 1_000_000_000;

/// Measures a recording of this machine, and those that are named.
///
/// # Errors
/// If a program fails, or does not read what another reads.
pub(super) fn measure(workspace: &Metadata, recordings: &[PathBuf], runs: u8) -> Result<()> {
    let programs = Programs::build(workspace)?;
    let mut rows = Rows { programs, runs };
    println!("\n| recording | what | events | s | M events/s | peak memory |");
    println!("| --- | --- | ---: | ---: | ---: | ---: |");
    match record::tracefs()? {
        Some(_) => rows.this_machine()?,
        None => println!(
            "NOT MEASURED on a recording of this machine: tracefs cannot be mounted (it takes root, and a kernel that traces)"
        ),
    }
    for recording in recordings {
        let name = recording.file_name().unwrap_or(recording.as_os_str());
        rows.trace_dat(&name.display().to_string(), recording)?;
    }
    println!();
    Ok(())
}

struct Rows {
    programs: Programs,
    runs: u8,
}

impl Rows {
    fn this_machine(&mut self) -> Result<()> {
        let file = |name: &str| self.programs.files.join(name);
        let (dat, perf, long) = (
            file("recorded.dat"),
            file("recorded.perf.data"),
            file("long.dat"),
        );
        let load = self.programs.load(ROUNDS);
        let ours = self.programs.record(Recorder::Lazytlb, &dat, &load)?;
        let both = self.programs.record(Recorder::Perf, &perf, &ours)?;
        process::quietly(both)?;
        let events = self.trace_dat("a load on this machine, trace.dat", &dat)?;
        let in_perf = self.perf_data("the same, perf.data", &perf)?;
        // perf begins a little earlier and ends a little later, and on some kernels drops events of interrupts without a word: rates are
        // by each file's own events, which have to be about the same.
        ensure!(
            in_perf.abs_diff(events) < events / 10,
            "trace.dat has {events} events, and perf.data, recorded at once, {in_perf}"
        );
        let recording = fs::read(&dat).with_context(|| dat.display().to_string())?;
        repeated::write_trace_dat(&recording, LONG_BYTES, &long)?;
        let measured = self.ours("the first, repeated to 1 GB", &long, 1);
        for file in [&dat, &perf, &long] {
            fs::remove_file(file).with_context(|| file.display().to_string())?;
        }
        measured.map(|_| ())
    }

    /// Measures all that reads a trace.dat.
    fn trace_dat(&mut self, name: &str, file: &Path) -> Result<u64> {
        let mut report = Command::new("trace-cmd");
        report.args(["report", "-i"]).arg(file);
        let theirs = process::fastest(self.runs, &report, Output::Dropped)?;
        let (events, rate) = self.ours(name, file, self.runs)?;
        self.beside(name, "`trace-cmd report`", events, &theirs, rate);
        Ok(events)
    }

    /// Measures all that reads a perf.data.
    fn perf_data(&mut self, name: &str, file: &Path) -> Result<u64> {
        let mut script = Command::new("perf");
        script.args(["script", "-i"]).arg(file);
        let theirs = process::fastest(self.runs, &script, Output::Dropped)?;
        let (events, rate) = self.ours(name, file, self.runs)?;
        self.beside(name, "`perf script`", events, &theirs, rate);
        Ok(events)
    }

    /// Measures ours; returns the number of events, and how many are read in a second.
    fn ours(&self, name: &str, file: &Path, runs: u8) -> Result<(u64, f64)> {
        let read = process::fastest(runs, &self.programs.read(file), Output::Kept)?;
        let events = events_read(&read.output)?;
        row(name, "read and reconstructed", events, &read);
        let mut price = Command::new(&self.programs.lazytlb);
        // What is repeated contradicts itself where it begins again, and so does a recording whose first tasks are not known.
        price
            .arg("price")
            .arg(file)
            .args(["--json", "--unvalidated"]);
        let priced = process::fastest(runs, &price, Output::Kept)?;
        let rows = priced.output.lines().count();
        let what = format!("all policies priced, PCIDs on and off: {rows} rows");
        row(name, &what, events, &priced);
        Ok((events, events as f64 / read.seconds))
    }

    /// A row for another program, which tells how many times its rate ours is.
    fn beside(&self, name: &str, program: &str, events: u64, ran: &Ran, rate: f64) {
        let times = rate * ran.seconds / events as f64;
        let what = format!("{program}; ours reads at {times:.0} times its rate");
        row(name, &what, events, ran);
    }
}

fn row(name: &str, what: &str, events: u64, ran: &Ran) {
    println!(
        "| {name} | {what} | {events} | {:.3} | {:.2} | {:.1} MiB |",
        ran.seconds,
        events as f64 / ran.seconds / 1e6,
        ran.peak_kib as f64 / 1024.0,
    );
}
