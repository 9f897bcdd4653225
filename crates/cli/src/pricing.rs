//! What a price is made with: the costs, and what a loss is measured by.

use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, ValueEnum};
use lazytlb_price::Costs;
use lazytlb_trace::Summary;

use crate::numbers::{cycles, grouped};

/// The options of prices.
#[derive(Args, Debug)]
pub(crate) struct Pricing {
    /// Costs to price with: a file like that which `lazytlb costs` prints
    #[arg(long, value_name = "FILE")]
    costs: Option<PathBuf>,
    /// One cost, in cycles, in place of what the file has; may be repeated: `--cost idle_wait=3000`, or with a range,
    /// `--cost idle_wait=1000,3000,9000`
    #[arg(long, value_name = "NAME=VALUE|NAME=LOW,TYPICAL,HIGH")]
    cost: Vec<String>,
    /// Whether the recording's times are those of a real machine, so that a loss is a share of its CPU time. Emulated
    /// if not given for the recordings that ship with the program, else real
    #[arg(long, value_enum)]
    times: Option<Times>,
    /// Say `undecided` where even the policy of the least regret may lose more than this share of the machine's CPU time
    #[arg(long, value_name = "PERCENT", default_value = "0.5", value_parser = percent)]
    undecided_above: f64,
}

/// What a recording's times are.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Times {
    /// Of a real machine
    Real,
    /// Of an emulator
    Emulated,
}

fn percent(text: &str) -> Result<f64, String> {
    let number = text.trim_end_matches('%').trim().parse::<f64>().ok();
    let number = number.filter(|number| (0.0..=100.0).contains(number));
    number.ok_or_else(|| "write a number of percent from 0 to 100".to_owned())
}

impl Pricing {
    /// Loads the costs.
    ///
    /// # Errors
    /// If the file, or a cost that was given by itself, is not right.
    pub(crate) fn costs(&self) -> anyhow::Result<Costs> {
        let shipped = || Ok(Costs::shipped());
        let costs = self.costs.as_ref().map_or_else(shipped, Costs::load);
        let mut costs = costs.context("reading the costs")?;
        for argument in &self.cost {
            costs.set(argument).context("`--cost`")?;
        }
        Ok(costs)
    }

    /// Returns what a loss on a recording is measured by, or on several together: their CPU times add up. Where the time
    /// of one means nothing, so does that of the sum: its losses would be shares of what others took.
    pub(crate) fn yardstick(&self, recordings: &[&Summary], costs: &Costs) -> Yardstick {
        let operations = recordings.iter().map(|one| one.operations.total()).sum();
        let is_emulated =
            |one: &&Summary| self.times.unwrap_or_else(|| times_of(one)) == Times::Emulated;
        let emulated = recordings.iter().filter(|one| is_emulated(one)).count();
        let only_some = emulated < recordings.len();
        let machines = recordings.iter().map(|one| Machine::recorded(one));
        let machine = machines.reduce(|sum, one| Some(sum?.and(one?))).flatten();
        let why = match (emulated, recordings.len(), machine) {
            (0, _, Some(machine)) => {
                return Yardstick::CpuTime {
                    cycles: machine.nanoseconds * costs.reference_ghz(),
                    machine,
                    undecided_above: self.undecided_above / 100.0,
                };
            }
            (0, 1, None) => "the recording lasts no time",
            (0, _, None) => "one of the recordings lasts no time",
            (_, 1, _) => "the recording's times are emulated",
            _ if only_some => "the times of some recordings are emulated",
            _ => "the recordings' times are emulated",
        };
        Yardstick::Operations { operations, why }
    }
}

/// The shipped recordings, of an emulated machine, by what stays the same however they are packed: the number of events,
/// and the times of the first and the last one.
const EMULATED: [(u64, u64, u64); 2] = [
    (302_390, 7_873_724_000, 25_546_132_000),
    (173_627, 8_120_688_000, 26_997_257_000),
];

fn times_of(summary: &Summary) -> Times {
    let known = |&(events, first, last): &(u64, u64, u64)| {
        let times = (summary.first_time_ns, summary.last_time_ns);
        summary.events == events && times == (Some(first), Some(last))
    };
    match EMULATED.iter().any(known) {
        true => Times::Emulated,
        false => Times::Real,
    }
}

/// The machine of a recording, or the machines of several.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub(crate) struct Machine {
    /// The recordings besides the first one.
    others: u64,
    cpus: u64,
    seconds: f64,
    /// Of all CPUs together.
    nanoseconds: f64,
}

impl Machine {
    /// `None` if the recording lasts no time.
    fn recorded(summary: &Summary) -> Option<Machine> {
        let (first, last) = (summary.first_time_ns?, summary.last_time_ns?);
        let duration = last.checked_sub(first).filter(|duration| *duration > 0)?;
        let seen = summary.cpus().count() as u64;
        let online = summary.header.and_then(|header| header.online_cpus);
        let cpus = online.unwrap_or(0).max(seen);
        Some(Machine {
            others: 0,
            cpus,
            seconds: duration as f64 / 1e9,
            nanoseconds: duration as f64 * cpus as f64,
        })
    }

    fn and(self, other: Machine) -> Machine {
        Machine {
            others: self.others + 1 + other.others,
            cpus: self.cpus + other.cpus,
            seconds: self.seconds + other.seconds,
            nanoseconds: self.nanoseconds + other.nanoseconds,
        }
    }
}

/// What a loss is measured by.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Yardstick {
    /// The CPU time of the whole machine.
    CpuTime {
        cycles: f64,
        machine: Machine,
        /// The share that matters.
        undecided_above: f64,
    },
    /// The number of operations, where times are not known.
    Operations { operations: u64, why: &'static str },
}

impl Yardstick {
    /// The share of the machine's CPU time that a loss is, if that is known.
    pub(crate) fn share(&self, loss: f64) -> Option<f64> {
        match self {
            Yardstick::CpuTime { cycles, .. } => Some(loss / cycles),
            Yardstick::Operations { .. } => None,
        }
    }

    /// The cycles that are lost in a thousand operations, where there is no share.
    pub(crate) fn per_1000_operations(&self, loss: f64) -> Option<f64> {
        match self {
            Yardstick::CpuTime { .. } => None,
            // Who does nothing loses nothing.
            Yardstick::Operations { operations, .. } => {
                Some(loss * 1e3 / (*operations).max(1) as f64)
            }
        }
    }

    /// The share above which a loss matters, if this one does.
    pub(crate) fn exceeded_by(&self, loss: f64) -> Option<f64> {
        match self {
            Yardstick::CpuTime {
                undecided_above, ..
            } => self
                .share(loss)
                .filter(|share| share > undecided_above)
                .map(|_| *undecided_above),
            Yardstick::Operations { .. } => None,
        }
    }

    /// Tells a loss: `318 Mcycles, 0.12 % of the CPU time`.
    pub(crate) fn told(&self, loss: f64) -> String {
        if loss == 0.0 {
            return "nothing".to_owned();
        }
        let relative = match (self.share(loss), self.per_1000_operations(loss)) {
            (Some(share), _) => format!("{} % of the CPU time", as_percent(share)),
            (None, per_1000) => {
                let number = grouped(per_1000.unwrap_or(0.0).round() as u64);
                format!("{number} cycles per 1,000 operations")
            }
        };
        format!("{} ({relative})", cycles(loss))
    }

    /// Says what the losses are measured by.
    pub(crate) fn sentence(&self, ghz: f64) -> String {
        match self {
            Yardstick::CpuTime { machine, .. } if machine.others > 0 => format!(
                "The CPU time is the sum of the recordings': {:.1} s on all CPUs together, at {ghz} GHz (`--times emulated` \
                 if an emulator made one).",
                machine.nanoseconds / 1e9
            ),
            Yardstick::CpuTime { machine, .. } => format!(
                "The CPU time is that of the recording: {} CPUs for {} at {ghz} GHz (`--times emulated` if an emulator made it).",
                machine.cpus,
                match machine.seconds < 0.1 {
                    true => format!("{:.0} us", machine.seconds * 1e6),
                    false => format!("{:.1} s", machine.seconds),
                }
            ),
            Yardstick::Operations { why, .. } => {
                format!("Losses are for each 1,000 operations, and not shares of CPU time: {why}.")
            }
        }
    }
}

/// Three digits of a share as percents, or what it is less than.
pub(crate) fn as_percent(share: f64) -> String {
    let percent = share * 100.0;
    match percent {
        0.0 => "0".to_owned(),
        _ if percent < 0.001 => "less than 0.001".to_owned(),
        _ if percent < 0.1 => format!("{percent:.3}"),
        _ if percent < 10.0 => format!("{percent:.2}"),
        _ => grouped(percent.round() as u64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_a_second(undecided_above: f64) -> Yardstick {
        let machine = Machine {
            others: 0,
            cpus: 2,
            seconds: 1.0,
            nanoseconds: 2e9,
        };
        Yardstick::CpuTime {
            cycles: 6e9,
            machine,
            undecided_above,
        }
    }

    #[test]
    fn a_loss_is_a_share_of_the_cpu_time_or_one_for_each_operation() {
        let real = of_a_second(0.005);
        assert_eq!(real.share(30e6), Some(0.005));
        assert_eq!(real.told(30e6), "30 Mcycles (0.50 % of the CPU time)");
        assert_eq!(real.exceeded_by(30e6), None);
        assert_eq!(real.exceeded_by(30_000_001.0), Some(0.005));
        assert_eq!(real.told(0.0), "nothing");
        let why = "of a test";
        let emulated = Yardstick::Operations {
            operations: 2000,
            why,
        };
        assert_eq!(emulated.per_1000_operations(30e6), Some(15e6));
        assert_eq!(emulated.exceeded_by(f64::MAX), None);
        let nothing_done = Yardstick::Operations { operations: 0, why };
        assert_eq!(nothing_done.per_1000_operations(0.0), Some(0.0));
    }

    #[test]
    fn percents_are_numbers_from_0_to_100() {
        assert_eq!(percent("0.5"), Ok(0.5));
        assert_eq!(percent("2 %"), Ok(2.0));
        for bad in ["nan", "-1", "101", "inf", "", "half"] {
            assert!(percent(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_small_share_is_not_told_as_nothing() {
        let told = [0.0, 1e-7, 2e-4, 0.005, 0.25].map(as_percent);
        assert_eq!(told, ["0", "less than 0.001", "0.020", "0.50", "25"]);
    }
}
