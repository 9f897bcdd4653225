//! A search that exhausts all states proves nothing about flushes unless a promise was kept that covered an entry
//! which some CPU might have cached; and a verdict says what it rests on.
#![allow(missing_docs, clippy::expect_used)]

use lazytlb::{
    Access, Cr3Load, Entry, FlushRange, Hw, Memory, PhysAddr, Policy, Promises, Spaces, VirtAddr,
};
use lazytlb_check::{
    Checker, Finding, LazyTlb, ModelHw, Program, Reduction, ShippedProgram, Verdict,
};
use lazytlb_model::{MemoryModel, MemoryType, Property};

const PAGE: VirtAddr = VirtAddr(0);

/// Whether CPU 0 has the space loaded in which it unmaps a page.
#[derive(Clone, Copy)]
enum Space {
    Loaded,
    NotLoaded,
}

/// A page is mapped at the start; CPU 0 does something with its table, and touches the page.
fn program(
    space: Space,
    run: impl Fn(&ModelHw, PhysAddr, PhysAddr) + Send + Sync + 'static,
) -> Program {
    let mut program = Program::new("unmap", 1);
    let (root, table, page) = (program.table(), program.table(), program.page());
    program.first_entry(root, 0, Entry::to(table));
    program.first_entry(table, 0, Entry::to(page));
    program.operation(0, "unmap", move |hw| {
        if let Space::Loaded = space {
            hw.load_cr3(root, Cr3Load::Flush);
        }
        run(hw, root, table);
        hw.touch(PAGE, Access::Load);
    });
    program
}

/// Unmaps the page, and flushes it.
fn unmap(hw: &ModelHw, root: PhysAddr, table: PhysAddr) {
    hw.write_entry(table, 0, Entry::ABSENT);
    hw.flush_begins(root, FlushRange::page(PAGE));
    hw.invlpg(PAGE);
    hw.flush_returned(root);
}

#[track_caller]
fn verdicts(program: &Program) -> Verdict {
    let verdict = Checker::new().check(program);
    for other in [
        Checker::new().memory(MemoryModel::Sc),
        Checker::new().reduction(Reduction::None),
        Checker::new().threads(2),
    ] {
        let other = other.check(program);
        assert_eq!(other.name(), verdict.name());
        assert_eq!(other.rests_on, verdict.rests_on);
        assert_eq!(other.never_happened, verdict.never_happened);
    }
    verdict
}

#[track_caller]
fn proves_nothing(program: &Program) {
    let verdict = verdicts(program);
    assert_eq!(verdict.name(), "nothing proved");
    assert!(verdict.nothing_proved() && !verdict.is_safe());
    let Finding::Incomplete { why } = &verdict.finding else {
        panic!("{:?}", verdict.finding);
    };
    assert!(
        why.starts_with("nothing proved: ") && why.contains("Program::proves"),
        "{why}"
    );
    assert_eq!(verdict.rests_on.promises_kept, 0);
    let missing = "a kept promise that covered a cached entry";
    assert!(verdict.never_happened.iter().any(|what| what == missing));
}

#[test]
fn a_kept_promise_that_covers_a_cached_entry_is_a_proof() {
    let verdict = verdicts(&program(Space::Loaded, unmap));
    assert!(
        verdict.is_safe() && !verdict.nothing_proved(),
        "{verdict:?}"
    );
    assert_eq!(verdict.rests_on.promises_kept, 1);
}

#[test]
fn a_program_without_promises_proves_nothing() {
    proves_nothing(&program(Space::Loaded, |hw, _, table| {
        hw.write_entry(table, 0, Entry::ABSENT);
        hw.invlpg(PAGE);
    }));
}

#[test]
fn a_promise_about_a_range_that_holds_nothing_proves_nothing() {
    proves_nothing(&program(Space::Loaded, |hw, root, table| {
        hw.write_entry(table, 0, Entry::ABSENT);
        hw.flush_begins(root, FlushRange::page(VirtAddr(1 << 12)));
        hw.invlpg(PAGE);
        hw.flush_returned(root);
    }));
}

/// The entry is covered: memory holds it while the store waits. But no CPU walks that space.
#[test]
fn a_promise_about_a_space_that_no_cpu_uses_proves_nothing() {
    proves_nothing(&program(Space::NotLoaded, unmap));
}

#[test]
fn a_promise_about_what_stays_mapped_proves_nothing() {
    proves_nothing(&program(Space::Loaded, |hw, root, _| {
        hw.flush_begins(root, FlushRange::page(PAGE));
        hw.flush_returned(root);
    }));
}

#[test]
fn a_declared_purpose_is_proved_without_promises_and_is_told() {
    let mut declared = program(Space::NotLoaded, unmap);
    declared.proves("nothing is stale where nothing is cached");
    let verdict = verdicts(&declared);
    assert!(verdict.is_safe());
    assert_eq!(
        verdict.proves.as_deref(),
        Some("nothing is stale where nothing is cached")
    );
    assert_eq!(verdict.rests_on.promises_kept, 0);
}

#[test]
fn a_declared_purpose_hides_no_violation_and_no_limit() {
    let mut stale = program(Space::Loaded, |hw, root, table| {
        hw.write_entry(table, 0, Entry::ABSENT);
        hw.flush_begins(root, FlushRange::page(PAGE));
        hw.flush_returned(root);
    });
    stale.proves("anything");
    assert_eq!(Checker::new().check(&stale).name(), "violation");
    let early = Checker::new()
        .max_states(1)
        .check(&program(Space::NotLoaded, unmap));
    assert_eq!(early.name(), "incomplete");
    assert!(!early.nothing_proved());
}

/// Counted are places in the code: so they do not hang on which steps a search merges.
#[test]
fn what_the_shipped_proofs_rest_on_does_not_hang_on_merging() {
    for shipped in ShippedProgram::<LazyTlb>::all() {
        let is_large = [
            "reference-3",
            "reference-4",
            "no-table-free",
            "two-initiators",
            "two-initiators-one-target",
            "lazy-initiator",
            "lazy-between-spaces",
            "two-adds",
            "shootdown-in-a-handler",
            "waits-with-interrupts-off",
        ];
        if is_large.contains(&shipped.name) {
            continue;
        }
        for policy in [Policy::InitMm, Policy::IpiOnTableFree] {
            let program = shipped.build(policy);
            let checker = Checker::new().memory(MemoryModel::Sc);
            let merged = checker.check(&program);
            if !merged.is_safe() {
                continue;
            }
            let single = checker.reduction(Reduction::None).check(&program);
            assert_eq!(
                merged.rests_on, single.rests_on,
                "{} under {policy}",
                shipped.name
            );
            assert_eq!(
                merged.never_happened, single.never_happened,
                "{} under {policy}",
                shipped.name
            );
            let promises = merged.rests_on.promises_kept;
            // What is kept of a space that has ended no promise about a flush is of.
            assert_eq!(
                promises == 0 || shipped.name == "recycled-id",
                merged.proves.is_some(),
                "{} under {policy}",
                shipped.name
            );
        }
    }
}

#[test]
fn a_verdict_names_what_never_happened() {
    let mut program = program(Space::Loaded, unmap);
    program.on_flush_interrupt(|hw| hw.fence());
    program.on_nmi(|hw| hw.fence());
    let verdict = verdicts(&program);
    assert!(verdict.is_safe());
    assert_eq!(
        verdict.never_happened,
        ["CPU 0: flush interrupt", "CPU 0: NMI", "a freed page table"]
    );
}

/// The promise is kept, and the page used after it without a flush. With stale uses not looked at, that promise says
/// nothing about anything.
#[test]
fn a_promise_bears_no_weight_where_stale_uses_are_not_looked_at() {
    let broken = |hw: &ModelHw, root, table| {
        hw.write_entry(table, 0, Entry::ABSENT);
        hw.flush_begins(root, FlushRange::page(PAGE));
        hw.flush_returned(root);
    };
    let mut ignores = program(Space::Loaded, broken);
    ignores.ignore(Property::StaleUse);
    let verdict = verdicts(&ignores);
    assert!(verdict.nothing_proved() && !verdict.is_safe());
    assert_eq!(verdict.rests_on.promises_kept, 0);
    let Finding::Incomplete { why } = &verdict.finding else {
        panic!("{:?}", verdict.finding);
    };
    assert!(why.contains("stale uses are not looked at"), "{why}");
    let named = |what: &String| what.contains("stale uses are not looked at");
    assert!(verdict.never_happened.iter().any(named));

    let mut declared = program(Space::Loaded, broken);
    declared.ignore(Property::StaleUse);
    declared.proves("nothing but that it ends");
    assert!(verdicts(&declared).is_safe());

    let mut ignores_another = program(Space::Loaded, unmap);
    ignores_another.ignore(Property::StaleSpeculation);
    assert!(verdicts(&ignores_another).is_safe());
}

/// A device's page is unmapped; the store to it has arrived when the promise is kept, unless it does so too late.
fn unmaps_a_device(waits: bool) -> Program {
    let mut program = Program::new("device", 1);
    program.features().write_combining = 1;
    let (root, table, device) = (program.first_root(), program.table(), program.device());
    let combining = Entry(Entry::to(device).0 | MemoryType::WriteCombining.bits());
    program.first_entry(root, 0, Entry::to(table));
    program.first_entry(table, 0, combining);
    program.operation(0, "write to the device, and unmap it", move |hw| {
        hw.touch(PAGE, Access::Store);
        hw.write_entry(table, 0, Entry::ABSENT);
        hw.flush_begins(root, FlushRange::page(PAGE));
        hw.invlpg(PAGE);
        if waits {
            hw.read_device(device);
        }
        hw.flush_returned(root);
    });
    program.ignore(Property::StaleUse);
    program
}

#[test]
fn a_promise_about_a_device_bears_weight_without_stale_uses() {
    let late = Checker::new().check(&unmaps_a_device(false));
    let violation = late.violation().expect("the store arrives too late");
    assert_eq!(violation.property, Property::DeviceWriteAfterFlush);
    let mut program = unmaps_a_device(true);
    let verdict = verdicts(&program);
    assert!(verdict.is_safe(), "{verdict:?}");
    assert_eq!(verdict.rests_on.promises_kept, 1);
    program.ignore(Property::DeviceWriteAfterFlush);
    assert!(verdicts(&program).nothing_proved());
}

/// Beside a good promise, one about nothing would go unnoticed: the proof rests on the good one.
#[test]
fn a_promise_that_never_covers_anything_is_named_beside_a_good_one() {
    type About = fn(PhysAddr, PhysAddr) -> (Spaces, FlushRange);
    let cases: [(&str, About, bool); 6] = [
        (
            "right",
            |root, _| (Spaces::one(root), FlushRange::page(OTHER)),
            false,
        ),
        ("all spaces", |_, _| (Spaces::All, FlushRange::All), false),
        (
            "4 KiB from 0x5000 on",
            |root, _| (Spaces::one(root), FlushRange::page(VirtAddr(0x5000))),
            true,
        ),
        ("in no space", |_, _| (none(), FlushRange::All), true),
        (
            "root frame 2)",
            |_, table| (Spaces::one(table), FlushRange::All),
            true,
        ),
        (
            "root frame 0)",
            |_, _| (Spaces::one(PhysAddr(0)), FlushRange::All),
            true,
        ),
    ];
    for (name, about, is_named) in cases {
        let mut program = program(Space::Loaded, move |hw, root, table| {
            unmap(hw, root, table);
            hw.write_entry(table, 1, Entry::ABSENT);
            let (spaces, range) = about(root, table);
            let promise = hw.promise_begins(spaces, range);
            hw.invlpg(OTHER);
            hw.promise_kept(promise);
        });
        let other = program.page();
        program.first_entry(PhysAddr(2 << 12), 1, Entry::to(other));
        let verdict = verdicts(&program);
        assert!(verdict.is_safe(), "{name}: {verdict:?}");
        let begun =
            "CPU 0, \"unmap\": the promise begun there never covered a cached entry (seam call 6: ";
        let named: Vec<&String> = verdict
            .never_happened
            .iter()
            .filter(|what| what.contains("never covered"))
            .collect();
        assert_eq!(named.len(), usize::from(is_named), "{name}: {named:?}");
        let tells = |what: &&String| what.starts_with(begun) && what.contains(name);
        assert!(named.iter().all(tells), "{named:?}");
    }
}

/// The page after the one that `unmap` unmaps.
const OTHER: VirtAddr = VirtAddr(1 << 12);

fn none() -> Spaces {
    Spaces::several(&[]).expect("no roots are few")
}
