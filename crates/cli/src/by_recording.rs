//! The choice on each of several recordings, beside that of their sum: where one policy serves all hosts, and what it
//! costs those that would have another.

use lazytlb::Policy;
use lazytlb_price::PcidsOn;

use crate::choice::Choice;
use crate::policies::named_here;
use crate::report::table;

/// The choices on a recording, or on the sum of all: one for each kind of CPU on which there is one.
pub(crate) type Choices<'c, 'a> = Vec<(PcidsOn, &'c Choice<'a>)>;

/// Makes the table: a row for each recording, without PCIDs and then with.
pub(crate) fn choices_by_recording(
    sum: &Choices<'_, '_>,
    each: &[(String, Choices<'_, '_>)],
) -> comfy_table::Table {
    let mut rows = table(&HEADER, 3..5);
    for cells in cells(sum, each) {
        rows.add_row(cells);
    }
    rows
}

/// What the columns are.
pub(crate) const HEADER: [&str; 7] = [
    "recording",
    "PCIDs",
    "choice",
    "it loses at most",
    "with typical costs",
    "the sum's choice?",
    "which loses here at most",
];

/// The rows of the table.
pub(crate) fn cells(
    sum: &Choices<'_, '_>,
    each: &[(String, Choices<'_, '_>)],
) -> Vec<[String; HEADER.len()]> {
    let mut rows = Vec::new();
    for (pcids, of_sum) in sum {
        for (recording, choices) in each {
            let own = choices.iter().find(|(own, _)| own == pcids);
            rows.extend(own.map(|(_, choice)| row(recording, *pcids, choice, of_sum)));
        }
    }
    rows
}

fn row(
    recording: &str,
    pcids: PcidsOn,
    choice: &Choice<'_>,
    of_sum: &Choice<'_>,
) -> [String; HEADER.len()] {
    let (chosen, sum) = (&choice.decision.choice, of_sum.decision.choice.policy);
    let there = choice.decision.standing(sum);
    [
        recording.to_owned(),
        pcids.name().to_owned(),
        named_here(chosen.policy, choice.models),
        choice.yardstick.told(chosen.regret),
        choice.yardstick.told(chosen.loss_typical),
        likeness(chosen.policy == sum, &chosen.equal_to, sum).to_owned(),
        there.map_or_else(String::new, |there| choice.yardstick.told(there.regret)),
    ]
}

fn likeness(is_same: bool, equal_to: &[Policy], sum: Policy) -> &'static str {
    match (is_same, equal_to.contains(&sum)) {
        (true, _) => "yes",
        (false, true) => "costs the same",
        (false, false) => "no",
    }
}
