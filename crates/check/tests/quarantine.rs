//! `quarantine`: page tables that a lazy CPU may walk are held back, and it is not interrupted.
//!
//! Each check looks at every property, `lazy-interrupted` and `leaked-frame` among them. Larger menus, and 3 CPUs, by
//! `lazytlb check --policy quarantine --any MENUS`.

#![allow(clippy::unwrap_used)] // A test that fails is to panic.

use lazytlb::Policy;
use lazytlb_check::{Checker, LazyTlb, Menus, Protocol, ShippedProgram, Verdict, WithPcids};

fn check<P: Protocol>(menus: &str) -> Verdict {
    let menus: Menus = menus.parse().unwrap();
    Checker::new().check(&menus.program::<P>(Policy::Quarantine))
}

#[test]
fn every_program_of_two_cpus_is_safe() {
    for menus in [
        "map,unmap,free,switch,touch,lazy/switch,touch,lazy",
        "map,free,touch,switch,release,reclaim/touch,switch,lazy",
    ] {
        let verdict = check::<LazyTlb>(menus);
        assert!(verdict.is_safe(), "{menus}: {verdict:?}");
        assert!(verdict.rests_on.tables_freed > 0, "{menus}: {verdict:?}");
    }
}

#[test]
fn so_it_is_where_pcids_keep_what_a_cpu_has_left() {
    let each = check::<WithPcids<2>>("map,unmap,free/touch,switch,switch:2");
    assert!(each.is_safe(), "{each:?}");
    let shared =
        check::<WithPcids<1>>("map,free,release,reclaim/touch,touch:2,switch,switch:2,lazy");
    assert!(shared.is_safe(), "{shared:?}");
}

#[test]
fn so_it_is_with_two_roots() {
    for menus in ["map,free/switch,load", "map,free,release/switch,lazy"] {
        let menus: Menus = menus.parse().unwrap();
        let program = menus.isolated().program::<WithPcids<1>>(Policy::Quarantine);
        let verdict = Checker::new().check(&program);
        assert!(verdict.is_safe(), "{verdict:?}");
    }
}

#[test]
fn so_it_is_with_three_cpus() {
    let verdict = check::<LazyTlb>("map,free/switch,lazy/switch");
    assert!(verdict.is_safe(), "{verdict:?}");
}

/// Checks shipped programs, but for some: those that are not safe come to what they come to where lazy CPUs are interrupted.
fn come_to_the_same<P: Protocol>(but_for: &[&str]) {
    let programs = ShippedProgram::<P>::all().into_iter();
    for program in programs.filter(|program| !but_for.contains(&program.name)) {
        let check = |policy| {
            let verdict = Checker::new().check(&program.build(policy));
            let violation = verdict.violation().map(|violation| violation.property);
            (verdict.name(), violation)
        };
        let holding = check(Policy::Quarantine);
        if holding != ("safe", None) {
            assert_eq!(holding, check(Policy::IpiOnTableFree), "{}", program.name);
        }
    }
}

#[test]
fn every_shipped_program_comes_to_what_interrupting_comes_to() {
    // `reference-3` is checked with the mutants; a fourth CPU is more than is proved of any policy.
    come_to_the_same::<LazyTlb>(&["reference-3", "reference-4"]);
}

#[test]
fn with_pcids_too() {
    // The last three free no tables, and take longer than all others together.
    come_to_the_same::<WithPcids<1>>(&[
        "reference-3",
        "reference-4",
        "no-table-free",
        "two-initiators",
        "lazy-between-spaces",
    ]);
}
