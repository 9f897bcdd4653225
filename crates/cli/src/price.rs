//! `lazytlb price`: what each policy would have cost on a recorded workload.

use lazytlb::Quirks;
use lazytlb_price::{Costs, Counts, PcidsOn, Replayed, Standing, price_replayed};
use lazytlb_trace::Summary;
use serde::Serialize;

use crate::arguments::Price;
use crate::choice::Choice;
use crate::idle::{IdleRecord, idle_ipis};
use crate::numbers::{counted, grouped, megacycles, millions};
use crate::pcids::what_pcids_bring;
use crate::policies::named_here;
use crate::report::{Ending, Report, table};
use crate::workload::{self, Workload};

/// Runs the command.
pub(crate) fn run(options: &Price) -> anyhow::Result<Ending> {
    let costs = options.pricing.costs()?;
    let mut report = Report::open(&options.output)?;
    let (policies, pcids) = (&options.policy.0, options.pcids.settings(options.cpu)?);
    let models = [options.cpu.quirks];
    let workload = workload::replay(
        Some(&options.trace),
        policies,
        pcids,
        options.cpu.quirks,
        &options.recording,
    )?;
    let yardstick = options.pricing.yardstick(&workload.summary, &costs);
    let choices = pcids.iter().filter_map(|&pcids| {
        let of_kind = |one: &&Replayed| one.pcids == pcids;
        let replayed = workload.replayed.iter().filter(of_kind).copied();
        let choice = Choice::among(replayed.collect(), &costs, yardstick, &models)?;
        Some((pcids, choice))
    });
    let choices: Vec<(PcidsOn, Choice<'_>)> = choices.collect();
    if options.output.json {
        for replayed in &workload.replayed {
            let record = PriceRecord::new(replayed, &workload.summary, &costs);
            report.json(&PriceLine::new(
                record,
                standing(&choices, replayed),
                &workload,
            ))?;
        }
        report.finish()?;
        return Ok(Ending::Good);
    }
    for (pcids, choice) in &choices {
        for line in choice.lines(&format!("PCIDs {}, safe or not", pcids.name())) {
            report.line(line)?;
        }
    }
    report.line(yardstick.sentence(costs.reference_ghz()))?;
    report.line(describe(&workload))?;
    report.line(rows(&workload, &choices, &models, &costs))?;
    report.line(
        "Cost: low / typical / high. Regret: the most that it is dearer than the best policy here on such CPUs, safe or \
         not, over all\ncosts within their ranges; typical loss: how much dearer with typical costs; both in Mcycles. IPIs by \
         what the target did: ran a\ntask, was lazy on a kernel thread, was lazy and idle; of all, those elsewhere: it had \
         another space loaded. CR3 loads that flush\nand change the space, and those that keep what is cached; full flushes \
         reload the same space.",
    )?;
    if let Some(lines) = idle_ipis(&workload.replayed, workload.summary.idle_states.as_ref()) {
        report.line(lines)?;
    }
    if let Some(line) = what_pcids_bring(&workload.replayed, &costs) {
        report.line(line)?;
    }
    report.finish()?;
    Ok(Ending::Good)
}

/// How a policy stands among those on CPUs of its kind.
fn standing<'c>(choices: &'c [(PcidsOn, Choice<'_>)], one: &Replayed) -> Option<&'c Standing> {
    let mut own = choices.iter();
    let (_, choice) = own.find(|(pcids, _)| *pcids == one.pcids)?;
    choice.decision.standing(one.policy)
}

/// Makes the table of what each policy did, and what that costs.
fn rows(
    workload: &Workload,
    choices: &[(PcidsOn, Choice<'_>)],
    models: &[Quirks],
    costs: &Costs,
) -> comfy_table::Table {
    let header = [
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
    let mut rows = table(&header, 2..15);
    for replayed in &workload.replayed {
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
        let policy = named_here(replayed.policy, models);
        let mut row = vec![policy, replayed.pcids.name().to_owned()];
        row.extend(counts.map(|of| counted(replayed, of)));
        row.push(megacycles(price_replayed(replayed, costs)));
        let standing = standing(choices, replayed);
        let losses = standing.map(|one| [one.regret, one.loss_typical].map(millions));
        row.extend(losses.unwrap_or_default());
        rows.add_row(row);
    }
    rows
}

/// Describes a workload: what was read, and what the reader has doubts about.
pub(crate) fn describe(workload: &Workload) -> String {
    let summary = &workload.summary;
    let mut text = format!(
        "Workload: {}\n  {} events on {} CPUs; {} operations replayed, open loop",
        workload.name,
        grouped(summary.events),
        summary.cpus().count(),
        grouped(summary.operations.total()),
    );
    text.push_str("\n  ");
    text.push_str(&workload.agreement.summary());
    for warning in summary.warnings() {
        text.push_str("\n  warning: ");
        text.push_str(&warning);
    }
    text
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
    /// The counts if all flushes free page tables of which it is unknown; `counts` are as if they keep them.
    #[serde(skip_serializing_if = "Option::is_none")]
    counts_if_freed: Option<Counts>,
    /// Of the IPIs to idle CPUs, those priced by the idle state that each was in.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    idle_ipis: Vec<IdleRecord>,
    cost_cycles: f64,
    cost_cycles_low: f64,
    cost_cycles_high: f64,
}

impl PriceRecord {
    pub(crate) fn new(replayed: &Replayed, summary: &Summary, costs: &Costs) -> PriceRecord {
        let cost = price_replayed(replayed, costs);
        PriceRecord {
            policy: replayed.policy.name(),
            pcids: replayed.pcids.name(),
            events: summary.events,
            counts: replayed.counts,
            counts_if_freed: replayed.counts_if_freed,
            idle_ipis: IdleRecord::all(replayed, summary.idle_states.as_ref()),
            cost_cycles: cost.typical,
            cost_cycles_low: cost.low,
            cost_cycles_high: cost.high,
        }
    }
}

/// A price as a line of its own.
#[derive(Serialize)]
struct PriceLine {
    #[serde(flatten)]
    price: PriceRecord,
    /// What it can lose against the best policy here, safe or not, and loses with typical costs.
    regret_cycles: Option<f64>,
    loss_typical: Option<f64>,
    /// What the reader of the recording has doubts about.
    warnings: Vec<String>,
}

impl PriceLine {
    fn new(price: PriceRecord, standing: Option<&Standing>, workload: &Workload) -> PriceLine {
        PriceLine {
            price,
            regret_cycles: standing.map(|standing| standing.regret),
            loss_typical: standing.map(|standing| standing.loss_typical),
            warnings: workload.summary.warnings(),
        }
    }
}
