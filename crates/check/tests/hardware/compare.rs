//! Whether two explorations of one script agree; and a smallest script on which they do not.

use std::collections::BTreeSet;

use lazytlb::PhysAddr;
use lazytlb_check::{End, Outcomes};
use lazytlb_model::entry::bits;
use lazytlb_model::{Call, Property};

use crate::naive::{Caching, Found, Naive};
use crate::script::{ANSWERS, Routine, Script, answer_cell};

/// What came of comparing the may-cache model with the naive one.
pub(crate) enum Compared {
    /// They agree on what the naive one found.
    Agree(Found),
    /// They do not, in this way.
    Disagree(String),
    /// A model has more states, or more entries, than a test has time for.
    TooLarge,
}

/// Properties that the may-cache model looks at when an entry *may* be cached: its path ends there, where
/// the naive one also has the paths on which the entry is not.
const BY_PRESENCE: [Property; 2] = [Property::MultipleMatch, Property::StaleSpeculation];

/// The may-cache model gives up at this many states.
const MOST_MAY_CACHE_STATES: u64 = 200_000;

/// Compares the models on a script.
pub(crate) fn compare(script: &Script, most_states: usize) -> Compared {
    compare_ignoring(script, &script.ignored, most_states)
}

/// Compares the models. Where an entry's presence violates a property, they are compared once more without
/// that property: then all paths go on.
fn compare_ignoring(script: &Script, ignored: &[Property], most_states: usize) -> Compared {
    let naive = Naive::new(script, ignored, Caching::Anything).explore(most_states);
    let Some(naive) = naive else {
        return Compared::TooLarge;
    };
    let checker = script.setting.checker().max_states(MOST_MAY_CACHE_STATES);
    let may_cache = match checker.outcomes(&script.program(ignored)) {
        Err(error) if error.to_string().contains("no room") => return Compared::TooLarge,
        Err(error) => return Compared::Disagree(format!("the checker fails: {error}")),
        Ok(outcomes) if outcomes.incomplete.is_some() => return Compared::TooLarge,
        Ok(outcomes) => outcomes,
    };
    if let Err(how) = agree(script, &naive, &may_cache) {
        return Compared::Disagree(format!("ignoring {ignored:?}, {how}"));
    }
    for property in BY_PRESENCE {
        if naive.violated.contains(&property) {
            let mut fewer = ignored.to_vec();
            fewer.push(property);
            match compare_ignoring(script, &fewer, most_states) {
                Compared::Agree(_) => {}
                other => return other,
            }
        }
    }
    Compared::Agree(naive)
}

fn agree(script: &Script, naive: &Found, may_cache: &Outcomes) -> Result<(), String> {
    let violated: BTreeSet<Property> = may_cache.violations.keys().copied().collect();
    let by_presence = |set: &BTreeSet<Property>| BY_PRESENCE.iter().any(|one| set.contains(one));
    let ends_early = by_presence(&naive.violated);
    let same_properties = match ends_early {
        true => by_presence(&violated) && violated.is_subset(&naive.violated),
        false => violated == naive.violated,
    };
    if !same_properties {
        return Err(format!(
            "the may-cache model violates {violated:?}, the naive one {:?}",
            naive.violated
        ));
    }
    if let Some(end) = may_cache.ends.iter().find(|end| !naive.ends.contains(end)) {
        if !script.features.accessed_dirty {
            return Err(format!("only the may-cache model ends in {}", told(end)));
        }
        only_together(script, naive, may_cache)?;
    }
    match naive.ends.iter().find(|end| !may_cache.ends.contains(end)) {
        Some(end) if !ends_early => Err(format!("only the naive model ends in {}", told(end))),
        _ => Ok(()),
    }
}

/// Allows the may-cache model what it over-approximates: each Accessed bit is 0, 1 or *maybe* by itself,
/// and which of them go together is not known. So the ends must agree but for all Accessed bits; and for
/// each bit, but for the others, unless the entry lies below one that changes: then the bit may stay
/// *maybe* although an access has used what was cached of it.
fn only_together(script: &Script, naive: &Found, may_cache: &Outcomes) -> Result<(), String> {
    let exact = exact_values(script);
    let whole = exact.len();
    for kept in (0..=whole).filter(|&kept| kept == whole || exact[kept]) {
        let told_of = |end: &End| {
            let mut end = end.clone();
            let cells = end.own_cells.iter_mut().flatten();
            for (at, value) in cells.chain(&mut end.entries).enumerate() {
                if at != kept && *value >= LEAST_ENTRY {
                    *value &= !bits::ACCESSED;
                }
            }
            end
        };
        let real: BTreeSet<End> = naive.ends.iter().map(told_of).collect();
        let mut may = may_cache.ends.iter().map(|end| (end, told_of(end)));
        if let Some((end, _)) = may.find(|(_, told)| !real.contains(told)) {
            return Err(format!(
                "only the may-cache model ends in {}, with A of value {kept}",
                told(end)
            ));
        }
    }
    Ok(())
}

/// Page-table entries are at least this large, and words are smaller.
const LEAST_ENTRY: u64 = 0x1000;

/// Says for each value of an end, the CPUs' cells and then the page-table entries, whether an Accessed bit
/// in it is exact by itself.
fn exact_values(script: &Script) -> Vec<bool> {
    let changed = script.calls().filter_map(|call| match call {
        Call::WriteEntry(table, ..) | Call::RmwEntry(table, ..) => Some(script.level_of(*table)),
        Call::WriteEntryBytes { table, .. } | Call::RmwEntryBytes { table, .. } => {
            Some(script.level_of(*table))
        }
        _ => None,
    });
    let highest = changed.max().unwrap_or(0);
    let is_exact = |table: PhysAddr| script.level_of(table) >= highest;
    let mut exact = Vec::new();
    for cpu in &script.cpus {
        let mut cells = [true; ANSWERS];
        let lists = [
            (cpu, Routine::Operation),
            (&script.handler, Routine::Handler),
            (&script.nmi, Routine::Nmi),
        ];
        for (calls, routine) in lists {
            for (position, call) in calls.iter().enumerate() {
                if let Call::ReadEntry(table, _)
                | Call::RmwEntry(table, ..)
                | Call::RmwEntryBytes { table, .. } = call
                {
                    cells[answer_cell(routine, position)] = is_exact(*table);
                }
            }
        }
        exact.extend(cells);
    }
    exact.extend(script.places().iter().map(|(table, _)| is_exact(*table)));
    exact
}

fn told(end: &End) -> String {
    let hex = |values: &Vec<u64>| {
        let values: Vec<String> = values.iter().map(|value| format!("{value:x}")).collect();
        values.join(" ")
    };
    let own: Vec<String> = end.own_cells.iter().map(hex).collect();
    format!(
        "words {}, answers {own:?}, entries {}",
        hex(&end.atomics),
        hex(&end.entries)
    )
}

/// Removes calls, first entries and ignored properties, one at a time, as long as the script still fails.
pub(crate) fn shrink(script: &Script, fails: impl Fn(&Script) -> bool) -> Script {
    let mut smallest = script.clone();
    while let Some(smaller) = smaller_than(&smallest).into_iter().find(&fails) {
        smallest = smaller;
    }
    smallest
}

fn smaller_than(script: &Script) -> Vec<Script> {
    let mut all = Vec::new();
    for list in 0..4 {
        for at in 0..script.clone().lists()[list].len() {
            let mut smaller = script.clone();
            smaller.lists()[list].remove(at);
            all.push(smaller);
        }
    }
    for at in 0..script.first_entries.len() {
        let mut smaller = script.clone();
        smaller.first_entries.remove(at);
        all.push(smaller);
    }
    for at in 0..script.ignored.len() {
        let mut smaller = script.clone();
        smaller.ignored.remove(at);
        all.push(smaller);
    }
    // An interrupt that nobody would take is a mistake of the program.
    all.retain(Script::has_handlers);
    all
}
