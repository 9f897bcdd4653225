//! Renumbered states stand for plain ones: level by level, and on long ways.

use std::collections::BTreeSet;

use lazytlb::Policy;
use lazytlb_model::MemoryModel;

use super::*;
use crate::checker::Checker;
use crate::expand::{AfterViolation, expand};
use crate::explore::Ended;
use crate::program::Program;
use crate::programs::any_length::Menus;
use crate::protocol::{LazyTlb, WithPcids};
use crate::search::tests::Ignores;
use crate::step::Unwatched;
use crate::system::System;

type Level = BTreeSet<Vec<u8>>;

/// Returns the states that are first reached in so many steps, remembered in a form; level by level.
fn levels(system: &System<'_>, form: &Form<'_>, depth: usize) -> Vec<Level> {
    let initial = system.initial(&mut Unwatched).unwrap();
    let mut seen = BTreeSet::from([formed(system, form, &initial)]);
    let mut levels = vec![seen.clone()];
    for _ in 0..depth {
        let next = level_after(system, form, levels.last().unwrap(), &mut seen);
        levels.push(next);
    }
    levels
}

/// Returns the states that are first reached from those of a level, and counts them as seen.
fn level_after(system: &System<'_>, form: &Form<'_>, level: &Level, seen: &mut Level) -> Level {
    let mut next = Level::new();
    for state in level {
        let mut scratch = state.clone();
        let expanded = expand(
            system,
            form,
            state,
            &mut scratch,
            |_, state| {
                if seen.insert(state.to_vec()) {
                    next.insert(state.to_vec());
                }
            },
            |_, _| AfterViolation::Stop,
        );
        assert!(expanded.is_ok());
    }
    next
}

fn formed(system: &System<'_>, form: &Form<'_>, state: &[u8]) -> Vec<u8> {
    system.formed(form, state).unwrap()
}

/// Makes the program over menus.
type Build = fn(&Menus) -> Program;

const POLICY: Policy = Policy::IpiOnTableFree;
/// On CPUs whose PCIDs are off.
const OFF: Build = |menus| menus.program::<LazyTlb>(POLICY);
/// On CPUs with a slot for one PCID, and for two.
const ONE: Build = |menus| menus.program::<WithPcids<1>>(POLICY);
const TWO: Build = |menus| menus.program::<WithPcids<2>>(POLICY);

/// Plain states, renamed afterwards, are those of the search that renames after each step: level by level.
#[test]
fn renaming_afterwards_reaches_the_same_states_as_renaming_after_each_step() {
    for (build, menus, depth) in [
        (OFF, "map,unmap,switch,touch/switch,touch,lazy", 16),
        (OFF, "map,free,flush-all/switch,touch,lazy", 18),
        (
            OFF,
            "map,free,switch,touch,lazy/map,unmap,switch,touch,lazy",
            12,
        ),
        (OFF, "map,free/switch,touch,lazy/switch,touch,lazy", 11),
        (ONE, "map,free/switch,touch,switch:2,touch:2", 16),
        (TWO, "map,free/switch,touch,switch:2", 18),
    ] {
        for memory in [MemoryModel::Sc, MemoryModel::TSO] {
            let menus: Menus = menus.parse().unwrap();
            let program = build(&menus);
            let checker = Checker::new().memory(memory);
            // What is local is learnt by a search of all.
            let (exploration, ended) = checker
                .max_states(400_000)
                .explore(&program, &mut Ignores)
                .unwrap();
            assert_ne!(ended, Ended::AtViolation);
            let (system, renamed) = (&exploration.system, &exploration.form);
            let plain = levels(system, &Form::AsItIs, depth);
            let remembered = levels(system, renamed, depth);
            let mut before = Level::new();
            let mut reached = Level::new();
            for (steps, (plain, remembered)) in plain.iter().zip(&remembered).enumerate() {
                let plain = plain.iter().map(|state| formed(system, renamed, state));
                reached.extend(plain);
                before.extend(remembered.iter().cloned());
                assert_eq!(
                    reached.len(),
                    before.len(),
                    "{menus} {memory:?}: in {steps} steps"
                );
                assert!(reached == before, "{menus} {memory:?}: in {steps} steps");
            }
        }
    }
}

/// What a state leads to: its successors, in a form; what is possible; and what it violates.
#[derive(PartialEq, Eq, Debug)]
struct Onward {
    successors: Level,
    possible: BTreeSet<(u16, String)>,
    violations: BTreeSet<String>,
    is_end: bool,
}

/// Returns what a state leads to, with its plain successors.
fn onward(
    system: &System<'_>,
    form: &Form<'_>,
    state: &[u8],
) -> Result<(Onward, Vec<Vec<u8>>), StepError> {
    let mut scratch = state.to_vec();
    let (mut plain, mut possible, mut violations) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
    let is_end = expand(
        system,
        &Form::AsItIs,
        state,
        &mut scratch,
        |step, state| {
            possible.insert((step.cpu.0, format!("{:?}", step.action)));
            plain.push(state.to_vec());
        },
        |step, violation| {
            let cpu = step.map(|step| step.cpu.0);
            violations.insert(format!("{cpu:?} {:?}", violation.property));
            AfterViolation::GoOn
        },
    )?;
    let mut successors = Level::new();
    for state in &plain {
        successors.insert(system.formed(form, state)?);
    }
    let onward = Onward {
        successors,
        possible,
        violations,
        is_end,
    };
    Ok((onward, plain))
}

/// Plain states are without end; those of one form are a class, for which the first that is reached stands, as it is.
/// Level by level, until nothing is new, the classes are the states of the renumbered search, and each plain state
/// leads to what its renumbered self leads to.
fn close(system: &System<'_>, form: &Form<'_>) -> Level {
    let initial = system.initial(&mut Unwatched).unwrap();
    let mut classes = Level::from([formed(system, form, &initial)]);
    let (mut remembered, mut level) = (classes.clone(), classes.clone());
    let mut plain = vec![initial];
    while !plain.is_empty() || !level.is_empty() {
        let mut next = Vec::new();
        for state in &plain {
            let (of_plain, successors) = onward(system, form, state).unwrap();
            let renumbered = formed(system, form, state);
            let (of_renumbered, _) = onward(system, form, &renumbered).unwrap();
            assert!(of_plain == of_renumbered, "{of_plain:?} {of_renumbered:?}");
            for successor in successors {
                if classes.insert(formed(system, form, &successor)) {
                    next.push(successor);
                }
            }
        }
        plain = next;
        level = level_after(system, form, &level, &mut remembered);
        assert_eq!(classes.len(), remembered.len());
        assert!(classes == remembered);
    }
    classes
}

#[test]
fn plain_states_of_every_class_lead_where_the_closed_renumbered_search_does() {
    for (build, menus, states) in [
        (
            OFF,
            "map,unmap,switch,touch,lazy/switch,touch,lazy",
            [4538, 10151],
        ),
        (
            OFF,
            "map,unmap,free,switch,touch,lazy/switch,touch,lazy",
            [11554, 25267],
        ),
        (TWO, "map,unmap/switch,touch,switch:2", [8973, 33442]),
    ] {
        for (memory, states) in [MemoryModel::Sc, MemoryModel::TSO].into_iter().zip(states) {
            let menus: Menus = menus.parse().unwrap();
            let program = build(&menus);
            let checker = Checker::new().memory(memory);
            // What is local, and what is dead, is learnt by a search of all.
            let (exploration, ended) = checker.explore(&program, &mut Ignores).unwrap();
            assert_eq!(ended, Ended::Exhausted);
            let classes = close(&exploration.system, &exploration.form).len();
            assert_eq!(
                classes as u64, exploration.effort.states,
                "{menus} {memory:?}"
            );
            assert_eq!(classes, states, "{menus} {memory:?}");
        }
    }
}

/// A long way that was taken.
struct Way {
    steps: usize,
    /// The steps of the longest stretch of it without renumbering.
    longest: usize,
}

/// Takes one long way, renumbers now and then, and compares each state with its renumbered self. The way ends where a
/// number has no room any more.
fn walk(system: &System<'_>, form: &Form<'_>, random: &mut Random, most: usize) -> Way {
    let mut state = system.initial(&mut Unwatched).unwrap();
    let mut way = Way {
        steps: 0,
        longest: 0,
    };
    let mut since = 0;
    while way.steps < most {
        let renumbered = match system.formed(form, &state) {
            Ok(renumbered) => renumbered,
            // Learnt, and so not met again.
            Err(StepError::StoresUnstored) => continue,
            Err(StepError::Limit(_)) => return way,
            Err(error) => panic!("{error:?}"),
        };
        let both = onward(system, form, &state)
            .and_then(|plain| Ok((plain, onward(system, form, &renumbered)?)));
        let ((plain, successors), (of_renumbered, _)) = match both {
            Ok(both) => both,
            Err(StepError::StoresUnstored) => continue,
            Err(StepError::Limit(_)) => return way,
            Err(error) => panic!("{error:?}"),
        };
        assert!(plain == of_renumbered, "after {} steps", way.steps);
        way.steps += 1;
        since += 1;
        way.longest = way.longest.max(since);
        let next = random.below(successors.len());
        state.clone_from(&successors[next]);
        if random.below(RENUMBERED_ONCE_IN) == 0 {
            state = formed(system, form, &state);
            since = 0;
        }
    }
    way
}

/// Steps of the ways of each program, together.
const STEPS: usize = 10_000;
/// So many steps lie between two renumberings of a way, on average.
const RENUMBERED_ONCE_IN: usize = 12;

/// A breadth-first comparison never meets wide gaps, versions that have come far, or names that come again.
#[test]
fn a_state_and_its_renumbered_self_lead_to_the_same_on_long_ways() {
    for (build, menus) in [
        (
            OFF,
            "map,unmap,free,switch,touch,lazy/switch,touch,lazy,flush-all",
        ),
        (
            OFF,
            "map,unmap,free,protect,switch,touch,lazy/map,unmap,switch,touch,lazy",
        ),
        (
            OFF,
            "map,free,switch,touch,lazy,switch:2,unmap:2/switch,touch,lazy,switch:2,map:2,touch:2",
        ),
        (
            ONE,
            "map,unmap,free,switch,switch:2/switch,touch,lazy,switch:2,touch:2",
        ),
        (
            TWO,
            "map,unmap,free,switch,lazy,switch:2/switch,touch,lazy,switch:2,map:2,touch:2",
        ),
    ] {
        for memory in [MemoryModel::Sc, MemoryModel::TSO] {
            let menus: Menus = menus.parse().unwrap();
            let program = build(&menus);
            let checker = Checker::new().memory(memory).max_states(60_000);
            let mut random = Random(1);
            let (mut taken, mut longest) = (0, 0);
            while taken < STEPS {
                // Numbers that have no room any more have it in a new machine.
                let explored = checker.explore(&program, &mut Ignores);
                let (exploration, _) = explored.unwrap();
                let (system, form) = (&exploration.system, &exploration.form);
                let way = walk(system, form, &mut random, STEPS - taken);
                let steps = way.steps;
                assert!(steps > 100, "{menus} {memory:?}: room for {steps} steps");
                taken += steps;
                longest = longest.max(way.longest);
            }
            assert!(longest > 4 * RENUMBERED_ONCE_IN, "{longest}");
        }
    }
}

/// Numbers that follow from a seed (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }
}

#[test]
fn generations_keep_order_and_what_is_next() {
    let left = [0, 7, 8, 20, 1 << 31];
    let names = Names::lowest(&left.map(Generation::read));
    assert_eq!(left.map(|value| names.of(value)), [0, 2, 3, 5, 7]);
    assert!(Names::lowest(&[0, 1, 2, 4].map(Generation::read)).is_identity());
    // The next of 5 was made of it: what is beyond that is only greater.
    let apart = [1, 4, 2 << 32 | 7, 2 << 32 | 8];
    let names = Names::lowest(&apart.map(Generation::read));
    assert_eq!(
        apart.map(|value| names.of(value)),
        [1, 3, 2 << 32 | 1, 2 << 32 | 2]
    );
    let mut left = [5, 6, 9].map(Generation::read);
    left[1].may_be_raised = false;
    assert_eq!(Names::lowest(&left).of(9), 4);
}
