//! `quarantine`: page tables that a lazy CPU may walk are held back, and it is not interrupted.

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
    let shared = check::<WithPcids<1>>("map,free,touch,switch/touch,touch:2,switch,switch:2,lazy");
    assert!(shared.is_safe(), "{shared:?}");
}

#[test]
fn so_it_is_with_two_roots() {
    let menus: Menus = "map,free/switch,touch,lazy".parse().unwrap();
    let program = menus.isolated().program::<WithPcids<1>>(Policy::Quarantine);
    let verdict = Checker::new().check(&program);
    assert!(verdict.is_safe(), "{verdict:?}");
}

fn comes_to_the_same<P: Protocol>() {
    // `reference-3` is checked with the mutants; a fourth CPU is more than is proved of any policy.
    let is_large = |name: &str| name.starts_with("reference-");
    let programs = ShippedProgram::<P>::all().into_iter();
    for program in programs.filter(|program| !is_large(program.name)) {
        let [interrupting, holding] = [Policy::IpiOnTableFree, Policy::Quarantine]
            .map(|policy| Checker::new().check(&program.build(policy)));
        let violated = |verdict: &Verdict| verdict.violation().map(|violation| violation.property);
        assert_eq!(
            (holding.name(), violated(&holding)),
            (interrupting.name(), violated(&interrupting)),
            "{}",
            program.name
        );
    }
}

#[test]
fn every_shipped_program_comes_to_what_interrupting_comes_to() {
    comes_to_the_same::<LazyTlb>();
}

#[test]
fn with_pcids_too() {
    comes_to_the_same::<WithPcids<1>>();
}
