//! Tells what was held back under `quarantine`: how many page tables, how often that was too many.

use lazytlb::Policy;
use lazytlb_price::{Counts, Replayed};

use crate::numbers::counted;
use crate::report::table;

/// What the columns are.
pub(crate) const COLUMNS: [&str; 8] = [
    "policy",
    "PCIDs",
    "tables held",
    "most at one time",
    "of one space",
    "batches back",
    "fallbacks",
    "remote reads",
];

/// What the rows mean.
pub(crate) const HELD: &str = "Held: page tables that lazy CPUs may walk. No recording tells how many a flush frees of which it tells \
that it frees some: one\nend is one table; the other, one for each piece of 2 MiB, 1 GiB and 512 GiB that its range touches, and of a \
flush of everything\nmore than may be held. Held are at most 64 of a space and 1,024 in all; beyond, a flush interrupts lazy CPUs: a \
fallback. A CPU\ngives back what nobody may walk any more when it goes lazy, and before a flush of its own that frees page tables. \
Remote reads: of\nwhat other CPUs write, on the way to a space, on the way to targets, and as tables are given back; each is paid for.";

/// Makes a row for each replay in which tables may be held.
pub(crate) fn held_rows<'a>(
    replayed: impl Iterator<Item = &'a Replayed>,
) -> impl Iterator<Item = [String; COLUMNS.len()]> {
    let holding = replayed.filter(|one| one.policy == Policy::Quarantine);
    holding.map(|one| {
        let count = |of: fn(&Counts) -> u64| counted(one, of);
        [
            one.policy.to_string(),
            one.pcids.name().to_owned(),
            count(|counts| counts.tables_held),
            count(|counts| counts.tables_held_peak),
            count(|counts| counts.tables_held_peak_of_a_space),
            count(|counts| counts.batches_released),
            count(|counts| counts.hold_fallbacks),
            count(|counts| counts.remote_reads),
        ]
    })
}

/// Makes the table of what was held, on each recording and on all together. A single recording is not named in each row.
pub(crate) fn held_table<'a, R: Iterator<Item = &'a Replayed>>(
    named: impl IntoIterator<Item = (&'a str, R)>,
) -> comfy_table::Table {
    let named: Vec<(&str, R)> = named.into_iter().collect();
    let (columns, are_several) = match named.len() {
        1 => (COLUMNS.to_vec(), false),
        _ => ([&["recording"], &COLUMNS[..]].concat(), true),
    };
    let mut rows = table(&columns, columns.len() - 6..columns.len());
    for (name, replayed) in named {
        for row in held_rows(replayed) {
            let name = are_several.then(|| name.to_owned());
            rows.add_row(name.into_iter().chain(row));
        }
    }
    rows
}
