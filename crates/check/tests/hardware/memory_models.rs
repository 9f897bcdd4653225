//! Store buffers add executions, and take none away: what is proved under TSO is proved under SC.
//!
//! Checks of bugs that are none, and of bugs that no program finds, rest on it: they are asked of TSO alone.

use std::collections::BTreeSet;

use lazytlb_check::Outcomes;
use lazytlb_model::{MemoryModel, Property};

use crate::random_program::random_script;
use crate::script::Script;

/// Random programs that are run under both.
const PROGRAMS: u64 = 4_000;
/// A program with more states is too large.
const MOST_STATES: u64 = 50_000;

#[test]
fn what_ends_or_fails_under_sc_does_under_tso() {
    let (mut compared, mut has_more) = (0, 0);
    for seed in 0..PROGRAMS {
        let script = random_script(seed).script;
        let sc = outcomes(&script, MemoryModel::Sc);
        let tso = outcomes(&script, MemoryModel::TSO);
        let (Some(sc), Some(tso)) = (sc, tso) else {
            continue;
        };
        let [in_sc, in_tso] = [&sc, &tso].map(|outcomes| -> BTreeSet<Property> {
            outcomes.violations.keys().copied().collect()
        });
        assert!(
            in_sc.is_subset(&in_tso),
            "seed {seed}: {in_sc:?} under SC, {in_tso:?} under TSO: {script}"
        );
        if let Some(end) = sc.ends.iter().find(|end| !tso.ends.contains(end)) {
            panic!("seed {seed}: under SC alone it ends in {end:?}: {script}");
        }
        compared += 1;
        has_more += u64::from(in_tso.len() > in_sc.len() || tso.ends.len() > sc.ends.len());
    }
    assert!(compared > PROGRAMS / 2, "{compared}");
    // The store buffers did something.
    assert!(has_more > PROGRAMS / 40, "{has_more}");
}

/// Explores all of a script, if it is not too large.
fn outcomes(script: &Script, memory: MemoryModel) -> Option<Outcomes> {
    let mut setting = script.setting;
    setting.memory = memory;
    let checker = setting.checker().max_states(MOST_STATES);
    match checker.outcomes(&script.program(&script.ignored)) {
        Err(error) if error.to_string().contains("no room") => None,
        Err(error) => panic!("{error}"),
        Ok(outcomes) => outcomes.incomplete.is_none().then_some(outcomes),
    }
}
