//! `price --by`: what of a price is whose, or when it was paid. The parts add up to what `price` tells without it.

use anyhow::ensure;
use lazytlb_price::{Costs, Counts, Replayed, Replays, Split, price_replayed};
use lazytlb_trace::{Kind, Snapshot, Step, Summary};
use serde::Serialize;

use crate::arguments::Price;
use crate::by::By;
use crate::numbers::{counted, grouped, millions};
use crate::policies::named_here;
use crate::processes::{Number, Process, Processes, Whose};
use crate::report::{Report, table};
use crate::workload::{Asked, Workload};
use crate::workload_words::describe;

/// Intervals of a recording at most: more would be no plot, and take memory without bound.
const MOST_INTERVALS: u64 = 10_000;
/// Processes that are counted one by one at most, for the same reason.
const MOST_PROCESSES: usize = 20_000;

/// A part of a price.
struct Part {
    what: What,
    /// One for each policy, without PCIDs and with, in the order of the whole.
    replayed: Vec<Replayed>,
}

/// What a part is of.
#[derive(Clone)]
enum What {
    Whose(Whose, Known),
    /// In seconds of the recording's clock.
    Interval {
        from: f64,
        to: f64,
    },
    /// So many processes together.
    Rest(usize),
}

/// Replays a recording, and tells its price in parts.
///
/// # Errors
/// If there are several recordings, or too many intervals, or the recording cannot be priced.
pub(crate) fn tell_parts(
    report: &mut Report,
    options: &Price,
    asked: &Asked<'_>,
    (by, costs): (By, &Costs),
) -> anyhow::Result<()> {
    let [trace] = &options.traces[..] else {
        ensure!(
            false,
            "--by splits the price of one recording, and {} are named: ask for each by itself",
            options.traces.len()
        );
        return Ok(());
    };
    let replay = |watch: &mut dyn FnMut(Step<'_>, &Replays<'_>)| {
        Workload::replay(Some(trace), asked, "", Some(watch))
    };
    let (workload, parts) = match by {
        By::Time { interval_ns } => {
            let mut intervals = Intervals::of(interval_ns);
            let workload = replay(&mut |step, replays| intervals.step(step, replays))?;
            let parts = intervals.finish(&workload.replayed)?;
            (workload, parts)
        }
        By::Process => {
            let (mut processes, mut split) = (Processes::default(), Split::default());
            let workload = replay(&mut |step, replays| {
                if let Some(whose) = processes.step(step) {
                    let is_one_too_many = split.len() >= MOST_PROCESSES && !split.has(&whose);
                    let key = if is_one_too_many { Whose::Rest } else { whose };
                    split.add(key, replays);
                }
            })?;
            let given = asked.recording.tasks.as_ref().map(Snapshot::open);
            let given = given.transpose()?;
            let tasks = given.as_ref().or(workload.summary.tasks.as_ref());
            let parts = split.into_parts(&workload.replayed).into_iter();
            let known = |whose| match whose {
                Whose::Process(process) => Known::of(process, &processes, tasks, &workload.summary),
                Whose::Kernel | Whose::Unknown | Whose::Rest => Known::default(),
            };
            let parts = parts.map(|(whose, replayed)| Part {
                what: What::Whose(whose, known(whose)),
                replayed,
            });
            let parts = parts.collect();
            (workload, parts)
        }
    };
    let teller = Teller {
        options,
        asked,
        costs,
        workload: &workload,
    };
    match options.output.json {
        true => teller.json(report, by, parts),
        false => teller.tell(report, by, parts),
    }
}

/// What else is known of a process.
#[derive(Clone, Default)]
struct Known {
    tgid: Option<u32>,
    name: Option<String>,
}

impl Known {
    /// Asks the list of the tasks that ran before the recording, and what tasks were called when they left their CPUs.
    fn of(
        process: Process,
        processes: &Processes,
        tasks: Option<&Snapshot>,
        summary: &Summary,
    ) -> Known {
        let listed = |task: u32| {
            let mut all = tasks?.tasks().iter();
            all.find(|one| one.tid == task)
        };
        let (tgid, task) = match process.number {
            Number::Tgid(tgid) => (Some(tgid), tgid),
            Number::Task(task) => (listed(task).map(|own| own.tgid), task),
        };
        let seen = |task| {
            summary
                .task_name(task)
                .filter(|_| processes.is_last(process))
        };
        // The name of a process is that of its first thread.
        let name = tgid.and_then(seen).or_else(|| seen(task));
        let in_list = || match process.number {
            Number::Task(task) => tasks?.name(task).map(str::to_owned),
            Number::Tgid(_) => None,
        };
        Known {
            tgid,
            name: name.or_else(in_list),
        }
    }
}

/// Splits by intervals, of which the first one begins with the first event.
struct Intervals {
    split: Split<u64>,
    length_ns: u64,
    start_ns: Option<u64>,
    last_ns: u64,
}

impl Intervals {
    fn of(length_ns: u64) -> Intervals {
        Intervals {
            split: Split::default(),
            length_ns,
            start_ns: None,
            last_ns: 0,
        }
    }

    fn step(&mut self, step: Step<'_>, replays: &Replays<'_>) {
        match step {
            Step::Event(event) => {
                self.start_ns.get_or_insert(event.time_ns);
                self.last_ns = self.last_ns.max(event.time_ns);
                // A CPU that falls asleep may leave its space first.
                if matches!(event.kind, Kind::CpuIdle { .. }) {
                    self.add(event.time_ns, replays);
                }
            }
            Step::Operation(operation) => self.add(operation.time_ns, replays),
        }
    }

    fn add(&mut self, time_ns: u64, replays: &Replays<'_>) {
        let start = *self.start_ns.get_or_insert(time_ns);
        let interval = time_ns.saturating_sub(start) / self.length_ns;
        // One too many is an error at the end, when it is known how long the recording is.
        self.split.add(interval.min(MOST_INTERVALS), replays);
    }

    /// Returns the parts, also those in which nothing was done.
    fn finish(self, whole: &[Replayed]) -> anyhow::Result<Vec<Part>> {
        let start = self.start_ns.unwrap_or(0);
        let lasts_ns = self.last_ns.saturating_sub(start);
        let number = lasts_ns / self.length_ns + 1;
        let least = (lasts_ns / (MOST_INTERVALS - 1) + 1) as f64 / 1e9;
        ensure!(
            number <= MOST_INTERVALS,
            "the recording lasts {:.3} s, {} intervals of {} s, and {} are the most: give --by time={least}, or more",
            lasts_ns as f64 / 1e9,
            grouped(number),
            self.length_ns as f64 / 1e9,
            grouped(MOST_INTERVALS)
        );
        let mut found = self.split.into_parts(whole).into_iter().peekable();
        let nothing = |one: &Replayed| Replayed {
            counts: Counts::default(),
            counts_if_freed: one.counts_if_freed.map(|_| Counts::default()),
            ..*one
        };
        let at = |interval: u64| {
            let ns = start.saturating_add(interval.saturating_mul(self.length_ns));
            ns as f64 / 1e9
        };
        let parts = (0..number).map(|interval| Part {
            what: What::Interval {
                from: at(interval),
                to: at(interval + 1),
            },
            replayed: match found.next_if(|(key, _)| *key == interval) {
                Some((_, replayed)) => replayed,
                None => whole.iter().map(nothing).collect(),
            },
        });
        Ok(parts.collect())
    }
}

/// What parts are told with.
struct Teller<'a> {
    options: &'a Price,
    asked: &'a Asked<'a>,
    costs: &'a Costs,
    workload: &'a Workload,
}

impl Teller<'_> {
    fn tell(&self, report: &mut Report, by: By, mut parts: Vec<Part>) -> anyhow::Result<()> {
        report.line(describe(self.workload))?;
        let models = [self.asked.quirks];
        for (place, whole) in self.workload.replayed.iter().enumerate() {
            let policy = named_here(whole.policy, &models);
            report.line(format_args!("{policy}, PCIDs {}:", whole.pcids.name()))?;
            let told = self.of_policy(by, &mut parts, place);
            report.line(self.rows(by, &told, whole))?;
        }
        report.line(match by {
            By::Process => {
                "IPIs and cost are of what each process asked for, with the handlers on the CPUs that it interrupts. Cost: low / \
                 typical /\nhigh, in Mcycles. kernel: what lazy CPUs and kernel threads did; unknown: the recording does not tell."
            }
            By::Time { .. } => {
                "Seconds are of the recording's clock. Cost: low / typical / high, in Mcycles."
            }
        })
    }

    fn json(&self, report: &mut Report, by: By, mut parts: Vec<Part>) -> anyhow::Result<()> {
        for place in 0..self.workload.replayed.len() {
            for (what, replayed) in self.of_policy(by, &mut parts, place) {
                let recording = &self.workload.recording;
                report.json(&PartRecord::new(recording, &what, &replayed, self.costs))?;
            }
        }
        Ok(())
    }

    /// The parts of one policy: all intervals, or the dearest processes and the rest.
    fn of_policy(&self, by: By, parts: &mut [Part], place: usize) -> Vec<(What, Replayed)> {
        let most = match by {
            By::Process => {
                let cost = |part: &Part| price_replayed(&part.replayed[place], self.costs).typical;
                parts.sort_by(|a, b| cost(b).total_cmp(&cost(a)));
                usize::try_from(self.options.top).unwrap_or(usize::MAX)
            }
            By::Time { .. } => usize::MAX,
        };
        let (told, rest) = parts.split_at(most.min(parts.len()));
        let row = |part: &Part| (part.what.clone(), part.replayed[place]);
        let mut rows: Vec<_> = told.iter().map(row).collect();
        let tables = rest.iter().map(|part| &part.replayed[place..=place]);
        let sum = Replayed::sum(&tables.collect::<Vec<_>>()).into_iter();
        rows.extend(sum.map(|sum| (What::Rest(rest.len()), sum)));
        rows
    }

    fn rows(&self, by: By, told: &[(What, Replayed)], whole: &Replayed) -> comfy_table::Table {
        let counts: [(&str, Count); 6] = [
            ("operations", |counts| counts.operations),
            ("IPIs", |counts| counts.ipis),
            ("to idle", |counts| counts.ipis_to_idle),
            ("CR3 loads", |counts| counts.cr3_flush + counts.cr3_keep),
            ("full flushes", |counts| counts.full_flushes),
            ("INVLPG", |counts| counts.invlpg),
        ];
        let what: &[&str] = match by {
            By::Process => &["process", "name"],
            By::Time { .. } => &["from s", "to s"],
        };
        let names: Vec<&str> = counts.iter().map(|(name, _)| *name).collect();
        let columns = [what, &names, &["cost"]].concat();
        let left = match by {
            By::Process => 2,
            By::Time { .. } => 0,
        };
        let mut rows = table(&columns, left..columns.len());
        let whole = [("all".to_owned(), String::new(), whole)];
        let told = told.iter().map(|(what, replayed)| {
            let [first, second] = what.cells();
            (first, second, replayed)
        });
        for (first, second, replayed) in told.chain(whole) {
            let cost = price_replayed(replayed, self.costs);
            let cost = [cost.low, cost.typical, cost.high]
                .map(millions)
                .join(" / ");
            let counts = counts.iter().map(|(_, of)| counted(replayed, of));
            rows.add_row([first, second].into_iter().chain(counts).chain([cost]));
        }
        rows
    }
}

/// One of what is counted.
type Count = fn(&Counts) -> u64;

impl What {
    /// What it is, in two columns.
    fn cells(&self) -> [String; 2] {
        match self {
            What::Whose(Whose::Process(process), known) => {
                let number = match (process.number, known.tgid) {
                    (Number::Tgid(tgid), _) | (_, Some(tgid)) => tgid.to_string(),
                    (Number::Task(task), None) => format!("of task {task}"),
                };
                let number = match process.before {
                    0 => number,
                    before => format!("{number}, given again ({before})"),
                };
                [number, known.name.clone().unwrap_or_default()]
            }
            What::Whose(Whose::Kernel, _) => ["kernel".to_owned(), String::new()],
            What::Whose(Whose::Unknown, _) => ["unknown".to_owned(), String::new()],
            What::Whose(Whose::Rest, _) => ["others".to_owned(), String::new()],
            What::Rest(number) => [format!("{} others", grouped(*number as u64)), String::new()],
            What::Interval { from, to } => [from, to].map(|seconds| format!("{seconds:.6}")),
        }
    }

    fn record(&self) -> WhatRecord<'_> {
        let (whose, process, known) = match self {
            What::Interval { from, to } => {
                return WhatRecord::Interval {
                    from_seconds: *from,
                    to_seconds: *to,
                };
            }
            What::Whose(Whose::Process(process), known) => ("process", Some(process), Some(known)),
            What::Whose(Whose::Kernel, _) => ("kernel", None, None),
            What::Whose(Whose::Unknown, _) => ("unknown", None, None),
            What::Whose(Whose::Rest, _) | What::Rest(_) => ("others", None, None),
        };
        WhatRecord::new(whose, process, known)
    }
}

/// What a part is of, as JSON.
#[derive(Serialize)]
#[serde(untagged)]
enum WhatRecord<'a> {
    Whose {
        /// `process`, `kernel`, `unknown` or `others`.
        whose: &'static str,
        /// The process's number; null if only one of its tasks is known.
        tgid: Option<u32>,
        /// The first of its tasks that was seen, if it is older than the recording.
        task: Option<u32>,
        /// How many processes had its number before it in the recording.
        given_before: Option<u32>,
        name: Option<&'a str>,
    },
    Interval {
        from_seconds: f64,
        to_seconds: f64,
    },
}

impl<'a> WhatRecord<'a> {
    fn new(
        whose: &'static str,
        process: Option<&Process>,
        known: Option<&'a Known>,
    ) -> WhatRecord<'a> {
        let (tgid, task) = match process.map(|process| process.number) {
            Some(Number::Tgid(tgid)) => (Some(tgid), None),
            Some(Number::Task(task)) => (known.and_then(|known| known.tgid), Some(task)),
            None => (None, None),
        };
        WhatRecord::Whose {
            whose,
            tgid,
            task,
            given_before: process.map(|process| process.before),
            name: known.and_then(|known| known.name.as_deref()),
        }
    }
}

/// A part of a policy's price, as JSON.
#[derive(Serialize)]
struct PartRecord<'a> {
    policy: &'static str,
    /// `on` or `off`.
    pcids: &'static str,
    /// The file's name.
    recording: &'a str,
    #[serde(flatten)]
    what: WhatRecord<'a>,
    #[serde(flatten)]
    counts: Counts,
    /// As in the rows without `--by`.
    #[serde(skip_serializing_if = "Option::is_none")]
    counts_if_freed: Option<Counts>,
    cost_cycles: f64,
    cost_cycles_low: f64,
    cost_cycles_high: f64,
}

impl<'a> PartRecord<'a> {
    fn new(
        recording: &'a str,
        what: &'a What,
        replayed: &Replayed,
        costs: &Costs,
    ) -> PartRecord<'a> {
        let cost = price_replayed(replayed, costs);
        PartRecord {
            policy: replayed.policy.name(),
            pcids: replayed.pcids.name(),
            recording,
            what: what.record(),
            counts: replayed.counts,
            counts_if_freed: replayed.counts_if_freed,
            cost_cycles: cost.typical,
            cost_cycles_low: cost.low,
            cost_cycles_high: cost.high,
        }
    }
}
