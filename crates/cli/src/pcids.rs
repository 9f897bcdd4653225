//! What PCIDs bring. The mail of 2017 asked it of `init-mm`: how much less expensive is it with them?

use lazytlb::Policy;
use lazytlb_price::{Costs, Counts, Difference, Parameter, PcidsOn, Replayed, price};

use crate::numbers::{grouped, megacycles};

/// Compares `init-mm` with PCIDs to itself without, if both were replayed.
pub(crate) fn what_pcids_bring(replayed: &[Replayed], costs: &Costs) -> Option<String> {
    let of = |pcids| {
        let mut all = replayed.iter();
        let one = all.find(|one| one.policy == Policy::InitMm && one.pcids == pcids);
        one.map(|one| &one.counts)
    };
    let (off, on) = (of(PcidsOn::No)?, of(PcidsOn::Yes)?);
    let cost = |counts| megacycles(price(counts, costs));
    let difference = Difference::between(on, off, costs);
    let flushes = |counts| Parameter::Cr3LoadFlush.count(counts) as u64;
    let refills = |counts| Parameter::Refill.count(counts) as u64;
    let ipis = |counts: &Counts| counts.ipis;
    let changes = [
        changed("CR3 loads that flush", flushes(off), flushes(on)),
        changed("refills", refills(off), refills(on)),
        changed("INVLPGs", off.invlpg, on.invlpg),
        changed("IPIs", ipis(off), ipis(on)),
    ];
    Some(format!(
        "init-mm with PCIDs: {} Mcycles instead of {}: {}.\n  Over the whole range of every cost by itself, {} Mcycles.",
        cost(on),
        cost(off),
        changes.join(", "),
        range(difference.high / 1e6, difference.low / 1e6),
    ))
}

/// `12,548 refills fewer`.
fn changed(what: &str, from: u64, to: u64) -> String {
    let number = grouped(from.abs_diff(to));
    match to.cmp(&from) {
        std::cmp::Ordering::Less => format!("{number} {what} fewer"),
        std::cmp::Ordering::Equal => format!("as many {what}"),
        std::cmp::Ordering::Greater => format!("{number} {what} more"),
    }
}

/// `11 to 787 less`, `from 3 more to 787 less`.
fn range(most: f64, least: f64) -> String {
    let millions = |cycles: f64| grouped(cycles.abs().round() as u64);
    let (most_told, least_told) = (millions(most), millions(least));
    if most <= 0.0 {
        format!("{most_told} to {least_told} less")
    } else if least >= 0.0 {
        format!("{least_told} to {most_told} more")
    } else {
        format!("from {most_told} more to {least_told} less")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_says_on_which_side_of_nothing_it_lies() {
        assert_eq!(range(-11.0, -787.0), "11 to 787 less");
        assert_eq!(range(787.0, 11.0), "11 to 787 more");
        assert_eq!(range(3.0, -787.0), "from 3 more to 787 less");
    }

    #[test]
    fn without_both_there_is_nothing_to_compare() {
        let one = |pcids| Replayed {
            policy: Policy::InitMm,
            pcids,
            counts: Counts {
                refills_after_load: 7,
                ..Counts::default()
            },
            counts_if_freed: None,
        };
        let costs = Costs::shipped();
        assert_eq!(what_pcids_bring(&[one(PcidsOn::No)], &costs), None);
        let both = PcidsOn::ALL.map(one);
        let told = what_pcids_bring(&both, &costs).expect("both are there");
        assert!(
            told.contains("as many refills") && told.contains("0 to 0 less"),
            "{told}"
        );
    }
}
