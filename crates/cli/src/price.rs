//! `lazytlb price`: what each policy would have cost on a recorded workload.

use lazytlb::{Policy, Quirks};
use lazytlb_price::{Costs, Counts, PcidsOn, Replayed, Standing, price_replayed};
use lazytlb_trace::IdleStates;
use serde::Serialize;

use crate::arguments::Price;
use crate::by::By;
use crate::by_recording::{Choices, choices_by_recording};
use crate::choice::Choice;
use crate::holding::{HELD, held_table};
use crate::idle::IdleRecord;
use crate::numbers::{counted, megacycles, millions};
use crate::parts::tell_parts;
use crate::pcids::what_pcids_bring;
use crate::policies::named_here;
use crate::pricing::Yardstick;
use crate::report::{Ending, Report, table};
use crate::workload::{Asked, Names, Workload};
use crate::workload_words::{describe, idle_lines};
use crate::workloads::Workloads;

/// Runs the command.
pub(crate) fn run(options: &Price) -> anyhow::Result<Ending> {
    let costs = options.pricing.costs()?;
    let mut report = Report::open(&options.output)?;
    let asked = Asked {
        policies: &options.policy.0,
        pcids: options.pcids.settings(options.cpu)?,
        quirks: options.cpu.quirks,
        recording: &options.recording,
        names: match options.by {
            Some(By::Process) => Names::Kept,
            Some(By::Time { .. }) | None => Names::NotKept,
        },
    };
    if let Some(by) = options.by {
        tell_parts(&mut report, options, &asked, (by, &costs))?;
        report.finish()?;
        return Ok(Ending::Good);
    }
    let workloads = Workloads::replay(&options.traces, &asked, None)?;
    let models = [options.cpu.quirks];
    let pricer = Pricer {
        options,
        pcids: asked.pcids,
        costs: &costs,
        models: &models,
    };
    let each: Vec<Priced<'_>> = workloads.each.iter().map(|one| pricer.one(one)).collect();
    let sum = workloads.are_several().then(|| pricer.sum(&workloads));
    match options.output.json {
        true => {
            for priced in each.iter().chain(&sum) {
                priced.json(&mut report, &costs)?;
            }
        }
        false => tell(&mut report, &pricer, &workloads, (&each, sum.as_ref()))?,
    }
    report.finish()?;
    Ok(Ending::Good)
}

/// What prices are made with.
struct Pricer<'a> {
    options: &'a Price,
    pcids: &'a [PcidsOn],
    costs: &'a Costs,
    models: &'a [Quirks],
}

/// What the policies did on a recording, or on all together, and the choices among them.
struct Priced<'a> {
    /// The file's name; `None`: all together.
    recording: Option<&'a str>,
    events: u64,
    /// The machine's idle states; `None` if they are not known, or of all recordings together.
    idle_states: Option<&'a IdleStates>,
    replayed: &'a [Replayed],
    yardstick: Yardstick,
    choices: Vec<(PcidsOn, Choice<'a>)>,
    warnings: Vec<String>,
}

impl<'a> Pricer<'a> {
    fn one(&self, workload: &'a Workload) -> Priced<'a> {
        let pricing = &self.options.pricing;
        let yardstick = pricing.yardstick(&[&workload.summary], self.costs);
        Priced {
            recording: Some(&workload.recording),
            events: workload.summary.events,
            idle_states: workload.summary.idle_states.as_ref(),
            replayed: &workload.replayed,
            yardstick,
            choices: self.choices(&workload.replayed, yardstick),
            warnings: workload.warnings(),
        }
    }

    fn sum(&self, workloads: &'a Workloads) -> Priced<'a> {
        let pricing = &self.options.pricing;
        let yardstick = pricing.yardstick(&workloads.summaries(), self.costs);
        Priced {
            recording: None,
            events: workloads.events(),
            idle_states: None,
            replayed: &workloads.sum,
            yardstick,
            choices: self.choices(&workloads.sum, yardstick),
            warnings: workloads.warnings(),
        }
    }

    fn choices(&self, all: &[Replayed], yardstick: Yardstick) -> Vec<(PcidsOn, Choice<'a>)> {
        let choices = self.pcids.iter().filter_map(|&pcids| {
            let replayed = all.iter().filter(|one| one.pcids == pcids).copied();
            let choice = Choice::among(replayed.collect(), self.costs, yardstick, self.models)?;
            Some((pcids, choice))
        });
        choices.collect()
    }
}

impl<'a> Priced<'a> {
    fn json(&self, report: &mut Report, costs: &Costs) -> anyhow::Result<()> {
        for replayed in self.replayed {
            let price = PriceRecord::new(replayed, self.events, self.idle_states, costs);
            report.json(&PriceLine::new(price, self.standing(replayed), self))?;
        }
        Ok(())
    }

    /// How a policy stands among those on CPUs of its kind.
    fn standing(&self, one: &Replayed) -> Option<&Standing> {
        let mut own = self.choices.iter();
        let (_, choice) = own.find(|(pcids, _)| *pcids == one.pcids)?;
        choice.decision.standing(one.policy)
    }

    fn each_choice(&self) -> Choices<'_, 'a> {
        let choices = self.choices.iter();
        choices.map(|(pcids, choice)| (*pcids, choice)).collect()
    }
}

fn tell(
    report: &mut Report,
    pricer: &Pricer<'_>,
    workloads: &Workloads,
    (each, sum): (&[Priced<'_>], Option<&Priced<'_>>),
) -> anyhow::Result<()> {
    let (costs, labels) = (pricer.costs, workloads.labels());
    let main = sum.unwrap_or(&each[0]);
    if sum.is_some() {
        report.line(format_args!("The sum of {} recordings:", each.len()))?;
    }
    for (pcids, choice) in &main.choices {
        for line in choice.lines(&format!("PCIDs {}, safe or not", pcids.name())) {
            report.line(line)?;
        }
    }
    if sum.is_some() {
        let named = labels.iter().cloned();
        let choices = named.zip(each.iter().map(Priced::each_choice));
        let choices: Vec<_> = choices.collect();
        report.line(choices_by_recording(&main.each_choice(), &choices))?;
    }
    report.line(main.yardstick.sentence(costs.reference_ghz()))?;
    for workload in &workloads.each {
        report.line(describe(workload))?;
    }
    let labels = labels.iter().map(String::as_str);
    let named: Vec<(&str, &Priced<'_>)> = match sum {
        None => vec![("", main)],
        Some(sum) => labels.zip(each).chain([("sum", sum)]).collect(),
    };
    report.line(rows(&named, pricer))?;
    report.line(
        "Cost: low / typical / high. Regret: the most that it is dearer than the best policy here on such CPUs, safe or \
         not, over all\ncosts within their ranges; typical loss: how much dearer with typical costs; both in Mcycles. IPIs by \
         what the target did: ran a\ntask, was lazy on a kernel thread, was lazy and idle; of all, those elsewhere: it had \
         another space loaded. CR3 loads that flush\nand change the space, and those that keep what is cached; full flushes \
         reload the same space.",
    )?;
    if pricer.options.policy.0.contains(&Policy::Quarantine) {
        let named = named
            .iter()
            .map(|(name, priced)| (*name, priced.replayed.iter()));
        report.line(held_table(named))?;
        report.line(HELD)?;
    }
    for lines in idle_lines(workloads) {
        report.line(lines)?;
    }
    match what_pcids_bring(main.replayed, costs) {
        Some(line) => report.line(line),
        None => Ok(()),
    }
}

/// What the columns are, behind the recording's name where there are several.
const HEADER: [&str; 15] = [
    "policy",
    "PCIDs",
    "IPIs",
    "to running",
    "to lazy",
    "to idle",
    "elsewhere",
    "CR3 loads",
    "kept",
    "full flushes",
    "refills",
    "INVLPG",
    "cost (Mcycles)",
    "regret",
    "typical loss",
];

/// Makes the table of what each policy did, on each recording and on all together, and what that costs. A single
/// recording is not named in each row.
fn rows(named: &[(&str, &Priced<'_>)], pricer: &Pricer<'_>) -> comfy_table::Table {
    let (columns, are_several) = match named.len() {
        1 => (HEADER.to_vec(), false),
        _ => ([&["recording"], &HEADER[..]].concat(), true),
    };
    let mut rows = table(&columns, columns.len() - 13..columns.len());
    for (name, priced) in named {
        for replayed in priced.replayed {
            let name = are_several.then(|| (*name).to_owned());
            rows.add_row(name.into_iter().chain(row(replayed, priced, pricer)));
        }
    }
    rows
}

fn row(replayed: &Replayed, priced: &Priced<'_>, pricer: &Pricer<'_>) -> Vec<String> {
    let counts: [fn(&Counts) -> u64; 10] = [
        |counts| counts.ipis,
        |counts| counts.ipis_to_running,
        |counts| counts.ipis_to_lazy,
        |counts| counts.ipis_to_idle,
        |counts| counts.ipis_elsewhere,
        |counts| counts.cr3_flush,
        |counts| counts.cr3_keep,
        |counts| counts.full_flushes,
        |counts| counts.refills_after_load + counts.refills_after_flush,
        |counts| counts.invlpg,
    ];
    let policy = named_here(replayed.policy, pricer.models);
    let mut row = vec![policy, replayed.pcids.name().to_owned()];
    row.extend(counts.map(|of| counted(replayed, of)));
    row.push(megacycles(price_replayed(replayed, pricer.costs)));
    let standing = priced.standing(replayed);
    let losses = standing.map(|one| [one.regret, one.loss_typical].map(millions));
    row.extend(losses.unwrap_or_default());
    row
}

/// A price as JSON.
#[derive(Serialize)]
pub(crate) struct PriceRecord {
    policy: &'static str,
    /// `on` or `off`.
    pcids: &'static str,
    /// Events of the recording, of which the operations were made.
    events: u64,
    #[serde(flatten)]
    counts: Counts,
    /// The counts at the other end of what is unknown: flushes free page tables, and lazy CPUs idle; `counts` are as if they keep
    /// them, and run kernel threads.
    #[serde(skip_serializing_if = "Option::is_none")]
    counts_if_freed: Option<Counts>,
    /// Of the IPIs to idle CPUs, those priced by the idle state that each was in; of one recording.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    idle_ipis: Vec<IdleRecord>,
    cost_cycles: f64,
    cost_cycles_low: f64,
    cost_cycles_high: f64,
}

impl PriceRecord {
    pub(crate) fn new(
        replayed: &Replayed,
        events: u64,
        idle_states: Option<&IdleStates>,
        costs: &Costs,
    ) -> PriceRecord {
        let cost = price_replayed(replayed, costs);
        PriceRecord {
            policy: replayed.policy.name(),
            pcids: replayed.pcids.name(),
            events,
            counts: replayed.counts,
            counts_if_freed: replayed.counts_if_freed,
            idle_ipis: IdleRecord::all(replayed, idle_states),
            cost_cycles: cost.typical,
            cost_cycles_low: cost.low,
            cost_cycles_high: cost.high,
        }
    }
}

/// A price as a line of its own.
#[derive(Serialize)]
struct PriceLine<'a> {
    #[serde(flatten)]
    price: PriceRecord,
    /// The file's name; null in the rows of all recordings together.
    recording: Option<&'a str>,
    /// What it can lose against the best policy here, safe or not, and loses with typical costs.
    regret_cycles: Option<f64>,
    loss_typical: Option<f64>,
    /// What the reader of the recording has doubts about.
    warnings: &'a [String],
}

impl<'a> PriceLine<'a> {
    fn new(
        price: PriceRecord,
        standing: Option<&Standing>,
        priced: &'a Priced<'_>,
    ) -> PriceLine<'a> {
        PriceLine {
            recording: priced.recording,
            price,
            regret_cycles: standing.map(|standing| standing.regret),
            loss_typical: standing.map(|standing| standing.loss_typical),
            warnings: &priced.warnings,
        }
    }
}
