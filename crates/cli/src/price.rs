//! `lazytlb price`: what each policy would have cost on a recorded workload.

use lazytlb_price::{Cheapest, Costs, Counts, Difference, Parameter, Replayed, cheapest, price};
use serde::Serialize;

use crate::arguments::Price;
use crate::pcids::what_pcids_bring;
use crate::report::{Ending, Report, grouped, megacycles, table};
use crate::workload::{self, Workload};

/// Runs the command.
pub(crate) fn run(options: &Price) -> anyhow::Result<Ending> {
    let costs = workload::costs(options.costs.as_deref())?;
    let mut report = Report::open(&options.output)?;
    let (policies, pcids) = (&options.policy.0, options.pcids.settings(options.cpu)?);
    let workload = workload::replay(
        Some(&options.trace),
        policies,
        pcids,
        options.cpu.quirks,
        &options.recording,
    )?;
    if options.output.json {
        for replayed in &workload.replayed {
            report.json(&PriceRecord::new(replayed, workload.summary.events, &costs))?;
        }
        report.finish()?;
        return Ok(Ending::Good);
    }
    report.line(describe(&workload))?;
    report.line(counted(&workload, &costs))?;
    report.line(
        "Cost: low / typical / high. IPIs by what the target did: ran a task, was lazy on a kernel thread, \
         was lazy and idle;\nof all, those elsewhere: it had another space loaded. CR3 loads that flush and change the \
         space, and those that keep\nwhat is cached; full flushes reload the same space.",
    )?;
    for &pcids in pcids {
        let of_kind = |one: &&Replayed| one.pcids == pcids;
        let replayed: Vec<Replayed> = workload.replayed.iter().filter(of_kind).copied().collect();
        if let Some(cheapest) = cheapest(&replayed, &costs) {
            report.line(format_args!(
                "Cheapest with PCIDs {}, safe or not: {}",
                pcids.name(),
                sentence(&cheapest)
            ))?;
            for line in what_decides(&replayed, &cheapest, &costs) {
                report.line(line)?;
            }
        }
    }
    if let Some(line) = what_pcids_bring(&workload.replayed, &costs) {
        report.line(line)?;
    }
    report.finish()?;
    Ok(Ending::Good)
}

/// Makes the table of what each policy did, and what that costs.
fn counted(workload: &Workload, costs: &Costs) -> comfy_table::Table {
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
    ];
    let mut rows = table(&header, 2..13);
    for replayed in &workload.replayed {
        let Counts {
            ipis,
            ipis_to_running,
            ipis_to_lazy,
            ipis_to_idle,
            ipis_elsewhere,
            ..
        } = replayed.counts;
        let Counts {
            cr3_flush,
            cr3_keep,
            full_flushes,
            invlpg,
            refills_after_load,
            refills_after_flush,
            ..
        } = replayed.counts;
        let counts = [
            ipis,
            ipis_to_running,
            ipis_to_lazy,
            ipis_to_idle,
            ipis_elsewhere,
            cr3_flush,
            cr3_keep,
            full_flushes,
            refills_after_load + refills_after_flush,
            invlpg,
        ];
        let names = [replayed.policy.name(), replayed.pcids.name()];
        let mut row = names.map(str::to_owned).to_vec();
        row.extend(counts.map(grouped));
        row.push(megacycles(price(&replayed.counts, costs)));
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

/// Says which policy is cheapest, or between whom it is undecided.
pub(crate) fn sentence(cheapest: &Cheapest) -> String {
    let list = |policies: &[lazytlb::Policy]| {
        policies
            .iter()
            .map(|policy| policy.name())
            .collect::<Vec<_>>()
            .join(", ")
    };
    match cheapest {
        Cheapest::Policy(policy) => format!("{policy}, over the whole range of every cost"),
        Cheapest::Tie(policies) => {
            format!("{}: they cost the same, whatever the costs", list(policies))
        }
        Cheapest::Undecided { between } => {
            format!(
                "undecided between {}: it depends on the costs",
                list(between)
            )
        }
    }
}

/// Says, where it is undecided, which single figure would turn the typical answer over, and where.
pub(crate) fn what_decides(
    replayed: &[Replayed],
    cheapest: &Cheapest,
    costs: &Costs,
) -> Vec<String> {
    let Cheapest::Undecided { between } = cheapest else {
        return Vec::new();
    };
    let typical = |one: &Replayed| price(&one.counts, costs).typical;
    let unbeaten = || replayed.iter().filter(|one| between.contains(&one.policy));
    let leader = unbeaten().min_by(|a, b| typical(a).total_cmp(&typical(b)));
    let Some(leader) = leader else {
        return Vec::new();
    };
    let mut lines = vec![format!("  with typical figures: {}", leader.policy)];
    for other in unbeaten().filter(|other| other.policy != leader.policy) {
        let difference = Difference::between(&other.counts, &leader.counts, costs);
        let turns = Parameter::ALL.into_iter().filter_map(|parameter| {
            let (at, figure) = (
                difference.break_even(parameter, costs)?,
                costs.figure(parameter),
            );
            let leader_pays = difference.fewer.iter().any(|(paid, _)| *paid == parameter);
            let side = if leader_pays { "over" } else { "under" };
            (figure.low..=figure.high)
                .contains(&at)
                .then(|| format!("{} {side} {}", parameter.name(), grouped(at as u64)))
        });
        let turns: Vec<String> = turns.collect();
        let turns = match turns.is_empty() {
            true => "several figures away from typical together".to_owned(),
            false => format!("{} cycles, the rest typical", turns.join(", or ")),
        };
        lines.push(format!("  {} instead, with {turns}", other.policy));
    }
    lines
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
    cost_cycles: f64,
    cost_cycles_low: f64,
    cost_cycles_high: f64,
}

impl PriceRecord {
    pub(crate) fn new(replayed: &Replayed, events: u64, costs: &Costs) -> PriceRecord {
        let cost = price(&replayed.counts, costs);
        PriceRecord {
            policy: replayed.policy.name(),
            pcids: replayed.pcids.name(),
            events,
            counts: replayed.counts,
            cost_cycles: cost.typical,
            cost_cycles_low: cost.low,
            cost_cycles_high: cost.high,
        }
    }
}
