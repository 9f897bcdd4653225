//! Generations that are said to count apart: searched so while the code bears it out, and together where it compares them.

#![allow(clippy::unwrap_used)] // A test that fails is to panic.

use lazytlb::{Hw, Until, ValueKind};
use lazytlb_check::{CheckError, Checker, Finding, MenuItem, Program, Verdict};
use lazytlb_model::Property;

/// Two counts are said to count apart, and code looks at both.
fn looks_at_two(compares: fn(u64, u64) -> bool) -> Result<Verdict, CheckError> {
    let mut program = Program::new("two counts", 2);
    let [one, other] =
        ["one", "other"].map(|name| program.atomic_of_kind(ValueKind::Generation, name, 1));
    program.counts_apart(other);
    let outcome = program.atomic("outcome", 0);
    for count in [one, other] {
        let item = MenuItem::new("count", move |hw| {
            hw.fetch_add(&count, 1);
        });
        program.offer(0, item);
    }
    program.offer(
        1,
        MenuItem::new("look", move |hw| {
            let outcomes = compares(hw.load(&one), hw.load(&other));
            hw.store(&outcome, u64::from(outcomes));
        }),
    );
    program.proves("that it ends");
    Checker::new().try_check(&program, |_| {})
}

/// What a proof says of generations that are said to count apart.
const APART: &str = "those that count from \"other\" with no others";

/// In a range of its own, a generation is never equal to one of another, nor the next of it: the test must make them so.
#[test]
fn a_proof_claims_that_generations_count_apart_only_where_the_code_never_compares_them() {
    let claims = |verdict: Verdict| {
        assert!(verdict.is_safe(), "{verdict:?}");
        verdict.statement.unwrap().contains(APART)
    };
    assert!(claims(looks_at_two(|_, _| true).unwrap()));
    let compares: [fn(u64, u64) -> bool; 4] = [
        |one, other| one < other,
        |one, other| one == other,
        |one, other| one == other + 1,
        |one, other| one + 1 == other,
    ];
    for (index, compares) in compares.into_iter().enumerate() {
        assert!(!claims(looks_at_two(compares).unwrap()), "{index}");
    }
    let more: [fn(u64, u64) -> bool; 2] = [
        |one, other| one.abs_diff(other) >= 3,
        |one, other| one < other && other % 2 == 0,
    ];
    for (index, does_more) in more.into_iter().enumerate() {
        let refused = looks_at_two(does_more);
        let is_refused = matches!(refused, Err(CheckError::FalseClaim(_)));
        assert!(is_refused, "{index}: {refused:?}");
    }
}

/// One CPU raises a count and then another, which are said to count apart; the other CPU looks at the second, and then
/// at the first.
fn raises_both(is_right: fn(u64, u64) -> bool) -> Verdict {
    let mut program = Program::new("raised in turn", 2);
    let [one, other] =
        ["one", "other"].map(|name| program.atomic_of_kind(ValueKind::Generation, name, 1));
    program.counts_apart(other);
    let raise = MenuItem::new("raise", move |hw| {
        hw.fetch_add(&one, 1);
        hw.fetch_add(&other, 1);
    });
    program.offer(0, raise);
    let look = MenuItem::new("look", move |hw| {
        let other = hw.load(&other);
        assert!(is_right(hw.load(&one), other), "the counts are wrong");
    });
    program.offer(1, look);
    program.proves("that the counts are right");
    Checker::new().check(&program)
}

/// While they are believed to count apart, each generation of the one is below those of the other.
#[test]
fn code_that_compares_generations_which_are_said_to_count_apart_is_judged_as_if_they_did_not() {
    let safe = raises_both(|one, other| one >= other);
    assert!(safe.is_safe(), "{safe:?}");
    assert!(!safe.statement.unwrap().contains(APART));
    let wrong: [fn(u64, u64) -> bool; 4] = [
        |one, other| one < other,
        |one, other| one > other,
        |one, other| one != other,
        |one, other| one != other + 1,
    ];
    for (index, is_right) in wrong.into_iter().enumerate() {
        let verdict = raises_both(is_right);
        let found = verdict.violation().expect("it is wrong");
        assert_eq!(found.property, Property::Panic, "{index}: {verdict:?}");
    }
}

/// What holds of no numbers stands, whatever is claimed of them; its story tells the numbers that the words have.
#[test]
fn a_bug_is_told_with_generations_as_they_count() {
    let verdict = raises_both(|_, _| false);
    let Finding::Violation { timeline, .. } = &verdict.finding else {
        panic!("it is a bug: {verdict:?}");
    };
    let told = timeline.to_string();
    assert!(told.contains("other → 1"), "{told}");
}

/// A wait compares, too: for a count that has come as far as another one.
#[test]
fn a_wait_for_a_generation_that_is_said_to_count_apart_may_be_in_vain() {
    let waits = |for_another: bool| {
        let mut program = Program::new("waits for a count", 2);
        let [one, other] =
            ["one", "other"].map(|name| program.atomic_of_kind(ValueKind::Generation, name, 1));
        program.counts_apart(other);
        for count in [one, other] {
            let item = MenuItem::new("count", move |hw| {
                hw.fetch_add(&count, 1);
            });
            program.offer(0, item);
        }
        program.offer(
            1,
            MenuItem::new("wait", move |hw| {
                let now = hw.load(&one);
                let awaited = if for_another { &other } else { &one };
                hw.pause_until(awaited, Until::AtLeast(now));
            }),
        );
        program.proves("that it ends");
        Checker::new().try_check(&program, |_| {})
    };
    assert!(waits(false).unwrap().is_safe());
    let stuck = waits(true).unwrap();
    let violated = stuck.violation().map(|violation| violation.property);
    assert_eq!(violated, Some(Property::Deadlock), "{stuck:?}");
}
