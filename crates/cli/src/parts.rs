//! `price --by`: what of a price is whose, or when it was paid. The parts add up to what `price` tells without it.

use anyhow::ensure;
use lazytlb_price::{Costs, Counts, Received, Replayed, Replays, Split, price_replayed};
use lazytlb_trace::{Kind, Snapshot, Step};
use serde::Serialize;

use crate::arguments::Price;
use crate::by::By;
use crate::numbers::{between, counted, grouped, millions};
use crate::owners::{Known, Owned, Owners, does_nothing};
use crate::policies::named_here;
use crate::processes::{Number, Process, Whose};
use crate::report::{Report, table};
use crate::workload::{Asked, Workload};
use crate::workload_words::describe;

/// Intervals of a recording at most: more would be no plot, and take memory without bound.
const MOST_INTERVALS: u64 = 10_000;

/// A part of a price.
struct Part {
    what: What,
    /// One for each policy, without PCIDs and with, in the order of the whole.
    replayed: Vec<Replayed>,
    /// The same of what it received; none of intervals.
    received: Vec<Received>,
}

impl Part {
    fn of(owned: Owned) -> Part {
        Part {
            what: What::Whose(owned.whose, owned.known),
            replayed: owned.replayed,
            received: owned.received,
        }
    }
}

/// What is told of a part under one policy.
struct Row {
    what: What,
    replayed: Replayed,
    /// The IPIs that interrupted it; those that it sent are in the counts.
    received: Option<Received>,
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
            let mut owners = Owners::default();
            let workload = replay(&mut |step, replays| owners.step(step, replays))?;
            let given = asked.recording.tasks.as_ref().map(Snapshot::open);
            let given = given.transpose()?;
            let tasks = given.as_ref().or(workload.summary.tasks.as_ref());
            let owned = owners.finish(&workload, tasks).into_iter();
            let parts = owned.map(Part::of).collect();
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
                None => whole.iter().map(does_nothing).collect(),
            },
            received: Vec::new(),
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
                "IPIs and cost are of what each process asked for, with the handlers on the CPUs that it interrupts; received are the \
                 IPIs\nthat interrupted it. Cost: low / typical / high, in Mcycles. kernel: what lazy CPUs and kernel threads did, and \
                 received;\nidle: the idle tasks; unknown: the recording does not tell."
            }
            By::Time { .. } => {
                "Seconds are of the recording's clock. Cost: low / typical / high, in Mcycles."
            }
        })
    }

    fn json(&self, report: &mut Report, by: By, mut parts: Vec<Part>) -> anyhow::Result<()> {
        for place in 0..self.workload.replayed.len() {
            for row in self.of_policy(by, &mut parts, place) {
                let recording = &self.workload.recording;
                report.json(&PartRecord::new(recording, &row, self.costs))?;
            }
        }
        Ok(())
    }

    /// The parts of one policy: all intervals, or the dearest processes, the kernel's and the idle tasks, and the rest.
    fn of_policy(&self, by: By, parts: &mut [Part], place: usize) -> Vec<Row> {
        // What they receive is told all the same: they may ask for nothing.
        let is_no_process =
            |part: &Part| matches!(part.what, What::Whose(Whose::Kernel | Whose::Idle, _));
        let most = match by {
            By::Process => {
                let cost = |part: &Part| price_replayed(&part.replayed[place], self.costs).typical;
                parts.sort_by(|a, b| cost(b).total_cmp(&cost(a)));
                parts.sort_by_key(is_no_process);
                usize::try_from(self.options.top).unwrap_or(usize::MAX)
            }
            By::Time { .. } => usize::MAX,
        };
        let processes = parts.partition_point(|part| !is_no_process(part));
        let (parts, no_processes) = parts.split_at(processes);
        let (told, rest) = parts.split_at(most.min(parts.len()));
        let row = |part: &Part| Row {
            what: part.what.clone(),
            replayed: part.replayed[place],
            received: part.received.get(place).copied(),
        };
        let mut rows: Vec<_> = told.iter().chain(no_processes).map(row).collect();
        let tables = rest.iter().map(|part| &part.replayed[place..=place]);
        let sum = Replayed::sum(&tables.collect::<Vec<_>>()).into_iter();
        let received = rest.iter().filter_map(|part| part.received.get(place));
        let received = received.copied().reduce(|mut sum, one| {
            sum += one;
            sum
        });
        rows.extend(sum.map(|replayed| Row {
            what: What::Rest(rest.len()),
            replayed,
            received,
        }));
        rows
    }

    fn rows(&self, by: By, told: &[Row], whole: &Replayed) -> comfy_table::Table {
        let counts: [(&str, Count); 6] = [
            ("operations", |counts| counts.operations),
            ("IPIs", |counts| counts.ipis),
            ("to idle", |counts| counts.ipis_to_idle),
            ("CR3 loads", |counts| counts.cr3_flush + counts.cr3_keep),
            ("full flushes", |counts| counts.full_flushes),
            ("INVLPG", |counts| counts.invlpg),
        ];
        let (what, received): (&[&str], &[&str]) = match by {
            By::Process => (&["process", "name"], &["received"]),
            By::Time { .. } => (&["from s", "to s"], &[]),
        };
        let names: Vec<&str> = counts.iter().map(|(name, _)| *name).collect();
        let columns = [what, &names, received, &["cost"]].concat();
        let left = match by {
            By::Process => 2,
            By::Time { .. } => 0,
        };
        let mut rows = table(&columns, left..columns.len());
        let all = Received {
            kept: whole.counts.ipis,
            freed: whole.counts_if_freed.map(|counts| counts.ipis),
        };
        let all = Some(all).filter(|_| !received.is_empty());
        let whole = [("all".to_owned(), String::new(), whole, all)];
        let told = told.iter().map(|row| {
            let [first, second] = row.what.cells();
            (first, second, &row.replayed, row.received)
        });
        for (first, second, replayed, received) in told.chain(whole) {
            let cost = price_replayed(replayed, self.costs);
            let cost = [cost.low, cost.typical, cost.high]
                .map(millions)
                .join(" / ");
            let counts = counts.iter().map(|(_, of)| counted(replayed, of));
            let received = received.map(|one| between(one.kept, one.freed.unwrap_or(one.kept)));
            let cells = [first, second].into_iter().chain(counts);
            rows.add_row(cells.chain(received).chain([cost]));
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
            What::Whose(Whose::Idle, _) => ["idle".to_owned(), String::new()],
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
            What::Whose(Whose::Idle, _) => ("idle", None, None),
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
        /// `process`, `kernel`, `idle`, `unknown` or `others`.
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
    /// The IPIs that interrupted it; not of intervals.
    #[serde(skip_serializing_if = "Option::is_none")]
    ipis_received: Option<u64>,
    /// The same, as if flushes freed page tables of which it is unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    ipis_received_if_freed: Option<u64>,
    cost_cycles: f64,
    cost_cycles_low: f64,
    cost_cycles_high: f64,
}

impl<'a> PartRecord<'a> {
    fn new(recording: &'a str, row: &'a Row, costs: &Costs) -> PartRecord<'a> {
        let replayed = &row.replayed;
        let cost = price_replayed(replayed, costs);
        PartRecord {
            policy: replayed.policy.name(),
            pcids: replayed.pcids.name(),
            recording,
            what: row.what.record(),
            counts: replayed.counts,
            counts_if_freed: replayed.counts_if_freed,
            ipis_received: row.received.map(|received| received.kept),
            ipis_received_if_freed: row.received.and_then(|received| received.freed),
            cost_cycles: cost.typical,
            cost_cycles_low: cost.low,
            cost_cycles_high: cost.high,
        }
    }
}
