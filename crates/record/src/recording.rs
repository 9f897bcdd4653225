//! A recording: an instance of tracefs of its own, drained as it fills, and cleaned up however it ends.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sys::utsname::uname;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::drain::Drain;
use crate::error::RecordError;
use crate::events::TRACEPOINTS;
use crate::idle_states::idle_states;
use crate::plan::Plan;
use crate::probes::Probe;
use crate::snapshot;
use crate::trace_dat::{self, About, System, formats_in};
use crate::tracefs::Tracefs;

/// How long to let buffers fill before they are looked at again.
const PAUSE: Duration = Duration::from_millis(50);
/// The page of a buffer where the kernel does not say: older than Linux 6.8.
const PAGE_BYTES: u64 = 4096;

/// Whether the kernel turns breakpoints of kprobes into jumps. A jump's handler can be interrupted, and a probe that is hit then is missed;
/// a breakpoint's cannot.
const OPTIMIZATION: &str = "/proc/sys/debug/kprobes-optimization";

/// A recording under way. Dropping it ends tracing, and removes the instance and the kprobes.
pub struct Recording {
    tracefs: Tracefs,
    plan: Plan,
    /// The instance, below tracefs.
    instance: PathBuf,
    output: PathBuf,
    /// What was armed.
    probes: Vec<Probe>,
    missed_before: u64,
    /// Whether kprobes were optimized, and are to be again.
    was_optimized: bool,
    notes: Vec<String>,
    drain: Option<Drain>,
    /// What the recording cannot tell by itself, a line each.
    snapshot: Vec<String>,
    stop: Arc<AtomicBool>,
    begin: Instant,
}

/// How far a recording is.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Since it began.
    pub time: Duration,
    /// Bytes of pages so far.
    pub bytes: u64,
}

/// What came of a recording.
#[derive(Debug)]
pub struct Finished {
    /// How long it recorded.
    pub time: Duration,
    /// Events that are in the file.
    pub events: u64,
    /// Events that are not: overruns, dropped ones, and hits of kprobes that were missed.
    pub lost: u64,
    /// CPUs that have a buffer.
    pub cpus: usize,
    /// Kprobes that were armed.
    pub probes: Vec<&'static str>,
    /// What a reader will not be able to tell, and why.
    pub notes: Vec<String>,
    /// How the command ended, if there was one.
    pub status: Option<ExitStatus>,
    /// Whether a signal ended it.
    pub interrupted: bool,
}

impl Recording {
    /// Makes the instance and arms everything; nothing is recorded yet.
    ///
    /// # Errors
    /// Those of files; what was made is removed again.
    pub fn prepare(tracefs: Tracefs, plan: Plan, output: &Path) -> Result<Recording, RecordError> {
        let instance = tracefs.path("instances").join(&plan.name);
        fs::create_dir(&instance).map_err(RecordError::at(&instance, "making an instance"))?;
        let mut recording = Recording {
            notes: plan.notes.clone(),
            missed_before: missed(&tracefs, &plan.probes),
            tracefs,
            plan,
            instance,
            output: output.to_owned(),
            probes: Vec::new(),
            was_optimized: false,
            drain: None,
            snapshot: Vec::new(),
            stop: Arc::default(),
            begin: Instant::now(),
        };
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            signal_hook::flag::register(signal, Arc::clone(&recording.stop))
                .map_err(RecordError::at(output, "waiting for signals"))?;
        }
        recording.set("tracing_on", "0")?;
        for (file, value) in recording.plan.settings.clone() {
            recording.set(file, &value)?;
        }
        recording.arm_probes();
        let cpus = recording.count_cpus()?;
        recording.drain = Some(Drain::open(&recording.instance, cpus, output)?);
        Ok(recording)
    }

    /// Records until the command ends, the time is over, or a signal comes; until a signal, if there is neither. A signal ends
    /// the command too.
    ///
    /// # Errors
    /// If the command does not start, and those of files.
    pub fn run(
        mut self,
        command: &[String],
        limit: Option<Duration>,
        mut progress: impl FnMut(Progress),
    ) -> Result<Finished, RecordError> {
        self.snapshot = idle_states();
        match snapshot::numbers_are_the_kernels() {
            true => self.snapshot.extend(snapshot::tasks()),
            false => self.notes.push(
                "tasks have other numbers in this container than in the kernel: which of those that run already have a \
                 space stays unknown; record on the host"
                    .to_owned(),
            ),
        }
        // Last: to list the tasks takes its time, and whatever is counted in it is not recorded.
        self.snapshot.extend(snapshot::interrupts("start"));
        self.set("tracing_on", "1")?;
        self.begin = Instant::now();
        let mut child = start(command)?;
        let mut status = None;
        let hurry = self.plan.buffer_kib * 1024 / 4;
        while !self.stop.load(Ordering::Relaxed) && limit.is_none_or(|it| self.begin.elapsed() < it)
        {
            if let Some(child) = &mut child {
                status = child
                    .try_wait()
                    .map_err(RecordError::at(Path::new(&command[0]), "waiting"))?;
                if status.is_some() {
                    break;
                }
            }
            let read = self.drain()?;
            let bytes = self.drain.as_ref().map_or(0, Drain::bytes);
            progress(Progress {
                time: self.begin.elapsed(),
                bytes,
            });
            // Whoever looks too often gets pages that are hardly begun, and is part of the workload.
            if read < hurry {
                std::thread::sleep(PAUSE);
            }
        }
        if let (Some(mut child), None) = (child, status) {
            // It has got the terminal's signal; whatever else ended this, it ends now.
            let _ = child.kill();
            status = child.wait().ok();
        }
        self.finish(status)
    }

    fn finish(mut self, status: Option<ExitStatus>) -> Result<Finished, RecordError> {
        self.set("tracing_on", "0")?;
        self.snapshot.extend(snapshot::interrupts("end"));
        let time = self.begin.elapsed();
        while self.drain()? > 0 {}
        let about = self.about()?;
        let pages = match &self.drain {
            Some(drain) => drain.pages()?,
            None => Vec::new(),
        };
        let cpus = pages.len();
        trace_dat::write(&self.output, &self.tracefs, &about, pages)?;
        let sum = |name: &str| -> u64 {
            let all = about.statistics.iter();
            all.map(|of_cpu| statistic(of_cpu, name)).sum()
        };
        let missed = missed(&self.tracefs, &self.probes).saturating_sub(self.missed_before);
        Ok(Finished {
            time,
            events: sum("read events") + sum("entries"),
            lost: sum("overrun") + sum("commit overrun") + sum("dropped events") + missed,
            cpus,
            probes: self.probes.iter().map(|probe| probe.name).collect(),
            notes: std::mem::take(&mut self.notes),
            status,
            interrupted: self.stop.load(Ordering::Relaxed),
        })
    }

    fn drain(&mut self) -> Result<u64, RecordError> {
        self.drain.as_mut().map_or(Ok(0), Drain::run)
    }

    fn set(&self, file: impl AsRef<Path>, value: &str) -> Result<(), RecordError> {
        let path = self.instance.join(file);
        fs::write(&path, value).map_err(RecordError::at(&path, "writing"))
    }

    /// Arms what the kernel takes, and notes what it does not.
    fn arm_probes(&mut self) {
        let is_optimized = || fs::read(OPTIMIZATION).is_ok_and(|value| value.starts_with(b"1"));
        self.was_optimized =
            !self.plan.probes.is_empty() && is_optimized() && fs::write(OPTIMIZATION, "0").is_ok();
        for probe in self.plan.probes.clone() {
            match self.arm(&probe) {
                Ok(()) => self.probes.push(probe),
                Err(error) => self.notes.push(format!(
                    "kprobe {} was refused ({error}): what it tells is reconstructed, or stays unknown",
                    probe.name
                )),
            }
        }
    }

    fn arm(&self, probe: &Probe) -> Result<(), RecordError> {
        let group = &self.plan.name;
        let has_endbr = self.define(&probe.trial(group)).is_ok();
        if has_endbr {
            self.define(&format!("-:{group}/trial"))?;
        }
        let [best, other] = Probe::places(has_endbr);
        self.define(&probe.definition(group, best))
            .or_else(|_| self.define(&probe.definition(group, other)))?;
        self.set(format!("events/{group}/{}/enable", probe.name), "1")
    }

    fn define(&self, line: &str) -> Result<(), RecordError> {
        let path = self.tracefs.path("kprobe_events");
        let write = || {
            let mut file = OpenOptions::new().append(true).open(&path)?;
            file.write_all(format!("{line}\n").as_bytes())
        };
        write().map_err(RecordError::at(&path, "defining a kprobe"))
    }

    fn count_cpus(&self) -> Result<usize, RecordError> {
        let directory = self.instance.join("per_cpu");
        let entries = fs::read_dir(&directory).map_err(RecordError::at(&directory, "reading"))?;
        Ok(entries.flatten().count())
    }

    fn about(&self) -> Result<About, RecordError> {
        let read = |file: &str| {
            let path = self.instance.join(file);
            fs::read_to_string(&path).map_err(RecordError::at(&path, "reading"))
        };
        let cpus = self.count_cpus()?;
        let statistics = (0..cpus).map(|cpu| {
            let of_cpu = read(&format!("per_cpu/cpu{cpu}/stats"))?;
            Ok(format!("CPU: {cpu}\n{of_cpu}"))
        });
        let kib = read("buffer_subbuf_size_kb").ok();
        let kib = kib.and_then(|kib| kib.trim().parse::<u64>().ok());
        Ok(About {
            systems: self.systems()?,
            clocks: read("trace_clock")?.into_bytes(),
            kernel: uname().map_or_else(
                |_| String::new(),
                |name| {
                    let parts = [
                        name.sysname(),
                        name.nodename(),
                        name.release(),
                        name.version(),
                    ];
                    let parts = parts.map(|part| part.to_string_lossy().into_owned());
                    format!("{} {}", parts.join(" "), name.machine().to_string_lossy())
                },
            ),
            snapshot: self.snapshot.join("\n"),
            statistics: statistics.collect::<Result<_, RecordError>>()?,
            page_bytes: kib.map_or(PAGE_BYTES, |kib| kib * 1024),
        })
    }

    /// The formats of the systems that have events here.
    fn systems(&self) -> Result<Vec<System>, RecordError> {
        let names = TRACEPOINTS.iter().map(|it| it.name.split('/').next());
        let mut names: Vec<&str> = names.flatten().collect();
        names.sort_unstable();
        names.dedup();
        if !self.probes.is_empty() {
            names.push(&self.plan.name);
        }
        let there = |name: &&str| self.tracefs.has(format!("events/{name}"));
        let names = names.into_iter().filter(there);
        names
            .map(|name| {
                Ok(System {
                    name: name.to_owned(),
                    formats: formats_in(&self.tracefs, name)?,
                })
            })
            .collect()
    }
}

impl Drop for Recording {
    /// Whatever fails here was not made, or is somebody else's by now.
    fn drop(&mut self) {
        let _ = self.set("tracing_on", "0");
        self.drain = None;
        let _ = self.set("events/enable", "0");
        let _ = fs::remove_dir(&self.instance);
        let names: Vec<&str> = self.plan.probes.iter().map(|probe| probe.name).collect();
        for name in names.into_iter().chain(["trial"]) {
            let _ = self.define(&format!("-:{}/{name}", self.plan.name));
        }
        if self.was_optimized {
            let _ = fs::write(OPTIMIZATION, "1");
        }
    }
}

fn start(command: &[String]) -> Result<Option<Child>, RecordError> {
    let Some((program, arguments)) = command.split_first() else {
        return Ok(None);
    };
    let child = Command::new(program).args(arguments).spawn();
    child.map(Some).map_err(|source| RecordError::Command {
        command: program.clone(),
        source,
    })
}

/// Reads a number of a buffer's statistics; 0 if it has none.
fn statistic(statistics: &str, name: &str) -> u64 {
    let lines = statistics.lines();
    let value = lines.filter_map(|line| line.split_once(": "));
    let mut value = value.filter(|(its_name, _)| *its_name == name);
    value
        .next()
        .and_then(|(_, value)| value.trim().parse().ok())
        .unwrap_or(0)
}

/// Reads how many hits of these kprobes were missed so far.
fn missed(tracefs: &Tracefs, probes: &[Probe]) -> u64 {
    let profile = tracefs.read("kprobe_profile").unwrap_or_default();
    let profile = String::from_utf8_lossy(&profile);
    let of_line = |line: &str| {
        let mut words = line.split_whitespace();
        let (name, _, missed) = (words.next()?, words.next()?, words.next()?);
        let is_own = probes.iter().any(|probe| probe.name == name);
        is_own.then(|| missed.parse::<u64>().ok()).flatten()
    };
    profile.lines().filter_map(of_line).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_are_read_by_name() {
        let stats = "entries: 3\noverrun: 0\ncommit overrun: 7\nnow ts:  1.5\ndropped events: 1\n";
        let read = [
            "entries",
            "overrun",
            "commit overrun",
            "dropped events",
            "read events",
        ];
        assert_eq!(read.map(|name| statistic(stats, name)), [3, 0, 7, 1, 0]);
    }
}
