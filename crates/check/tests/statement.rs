//! What a proof of a program without end says: what was explored, and nothing else.

#![allow(clippy::unwrap_used)] // A test that fails is to panic.

use lazytlb::{Entry, Hw, Interrupts, Memory, PhysAddr, Policy, Poll, ValueKind};
use lazytlb_check::{Checker, LazyTlb, MenuItem, Menus, Mode, Program, Storage, Verdict};
use lazytlb_model::{AtomicCell, CpuModel, MemoryModel, Property};

/// Proves a program, and returns the sentence.
fn proved(checker: &Checker, program: &Program) -> String {
    let verdict = checker.check(program);
    assert!(verdict.is_safe(), "{verdict:?}");
    verdict.statement.unwrap()
}

fn check(menus: &str, policy: Policy) -> Verdict {
    let menus: Menus = menus.parse().unwrap();
    let program = menus.program::<LazyTlb>(policy);
    let checker = Checker::new().memory(MemoryModel::Sc);
    checker.check(&program)
}

#[test]
fn it_names_all_that_the_proof_holds_within() {
    let menus = "map,unmap,free,switch,touch,lazy/switch,touch,lazy";
    let menus: Menus = menus.parse().unwrap();
    let program = menus.program::<LazyTlb>(Policy::Ipi);
    let checker = Checker::new().memory(MemoryModel::TSO);
    let verdict = checker.check(&program);
    let stretched = verdict.rests_on.stretched.unwrap();
    assert!(stretched.places > 100 && stretched.runs > stretched.places);
    let statement = verdict.statement.unwrap();
    let (what, within) = statement.split_once(": ").unwrap();
    assert_eq!(
        what,
        "where CPU 0 starts map, unmap, free and switch, and touch and lazy in the mode that switch leads to; CPU 1 \
         starts switch, and touch and lazy in the mode that switch leads to; each whenever the CPU has none under way, \
         in any order, any number of times; no execution of any length violates a property"
    );
    let within: Vec<&str> = within.split("; ").collect();
    let generations = format!(
        "generations are only compared, and those that count from \"mm1.tlb_gen\", \"cpu0.requests.begun\" with \
         \"cpu0.requests.done\" and \"cpu1.requests.begun\" with \"cpu1.requests.done\" each with no others, checked at {} \
         places, by {} runs with others that compare alike",
        stretched.places, stretched.runs
    );
    assert_eq!(
        within,
        [
            "CPU 0 alone changes page tables",
            "1 space (root in frame 1) beside the one that every CPU starts in (root in frame 0)",
            "1 page accessed (0x0), under 1 table of the lowest of 2 levels",
            "4 frames (at the start 2 of page tables, 2 free), of which the lowest free one is always taken",
            "x86-TSO with store buffers of 2 stores",
            "CPU model weakest (ASSUMED: mfence-orders-ipis, uncached-stores-at-once, read-back-pushes-all)",
            &generations,
        ]
    );
}

#[test]
fn what_is_no_proof_or_has_an_end_has_no_sentence() {
    let mut policies = Policy::ALL.iter().copied();
    let defer = policies.find(|policy| policy.name() == "defer").unwrap();
    let violated = check("map,free/switch,touch,lazy", defer);
    assert!(violated.violation().is_some() && violated.statement.is_none());
    let incomplete = Checker::new().max_states(10);
    let menus: Menus = "map,free/switch,touch,lazy".parse().unwrap();
    let incomplete = incomplete.check(&menus.program::<LazyTlb>(Policy::Ipi));
    assert!(!incomplete.is_safe() && incomplete.statement.is_none());
    let mut program = Program::new("ends", 1);
    program.operation(0, "fence", |hw| hw.fence());
    program.proves("nothing much");
    let verdict = Checker::new().check(&program);
    assert!(verdict.is_safe() && verdict.statement.is_none());
    assert_eq!(verdict.rests_on.stretched, None);
}

#[test]
fn what_could_never_start_is_not_said_to_be_proved_and_told_to_have_never_happened() {
    // CPU 1 never switches to the space.
    let verdict = check("map,unmap,switch,touch/touch,flush-all", Policy::Ipi);
    assert!(verdict.is_safe(), "{verdict:?}");
    assert!(verdict.unreached.contains(&"CPU 1: touch".to_owned()));
    assert!(!verdict.unreached.contains(&"CPU 0: touch".to_owned()));
    let statement = verdict.statement.unwrap();
    assert!(
        statement.contains("; CPU 1 starts flush-all; each"),
        "{statement}"
    );

    let mut program = Program::new("idle", 2);
    for cpu in 0..2 {
        program.offer(cpu, MenuItem::new("fence", |hw| hw.fence()));
        let asleep = Mode::new(3);
        program.offer(
            cpu,
            MenuItem::new("wake", |hw| hw.fence()).starts_in([asleep]),
        );
    }
    program.proves("that fences end");
    let verdict = Checker::new().check(&program);
    assert_eq!(verdict.unreached, ["CPU 0: wake", "CPU 1: wake"]);
    let statement = verdict.statement.unwrap();
    assert!(
        statement.starts_with("where each of CPUs 0 and 1 starts fence; each"),
        "{statement}"
    );
    assert!(!statement.contains("wake"), "{statement}");
    assert!(statement.contains("no CPU changes page tables"));
    assert!(statement.contains("no code reads a generation"));
}

#[test]
fn what_never_found_anything_to_do_is_told() {
    // There is never a page to unmap.
    let verdict = check("unmap,switch/switch,lazy", Policy::Ipi);
    let told = "CPU 0: an effect of \"unmap\", which always found nothing to do";
    assert!(
        verdict.never_happened.contains(&told.to_owned()),
        "{verdict:?}"
    );
    let others = |what: &String| what.contains("an effect of") && !what.contains("unmap");
    assert!(!verdict.never_happened.iter().any(others), "{verdict:?}");
    // With a lock that they take for nothing.
    let verdict = check("unmap,switch/unmap,lazy", Policy::Ipi);
    assert!(
        verdict.never_happened.contains(&told.to_owned()),
        "{verdict:?}"
    );
}

/// Two CPUs write to a table, each under the lock that it is given, if it is given one.
fn writers(locks: [Option<usize>; 2], interrupts: Interrupts, held: bool) -> String {
    let mut program = Program::new("writers", 2);
    let cells =
        ["first lock", "second lock"].map(|name| program.atomic_of_kind(ValueKind::Lock, name, 0));
    let root = program.first_root();
    for (cpu, lock) in (0..).zip(locks) {
        let lock = lock.map(|lock| cells[lock]);
        program.offer(
            cpu,
            MenuItem::new("write", move |hw| {
                let mut former = None;
                if let Some(lock) = &lock {
                    if interrupts == Interrupts::Disabled {
                        former = Some(hw.disable_interrupts());
                    }
                    hw.poll(|hw| (hw.swap(lock, 1) == 0).then_some(()));
                    if !held {
                        hw.store(lock, 0);
                    }
                }
                write(hw, root, lock.as_ref().filter(|_| held));
                if let Some(former) = former {
                    hw.restore_interrupts(former);
                }
            }),
        );
    }
    program.proves("that it ends");
    proved(&Checker::new().memory(MemoryModel::Sc), &program)
}

fn write(hw: &lazytlb_check::ModelHw, root: PhysAddr, held: Option<&AtomicCell>) {
    hw.write_entry(root, 0, Entry::ABSENT);
    if let Some(lock) = held {
        hw.store(lock, 0);
    }
}

#[test]
fn a_lock_is_named_where_all_hold_it_and_nowhere_else() {
    use Interrupts::{Disabled, Enabled};
    let locked = |name: &str, how: &str| {
        format!("2 CPUs (CPUs 0 and 1) change page tables, under \"{name}\", which is taken {how};")
    };
    let without = "2 CPUs (CPUs 0 and 1) change page tables, without a lock in common;";
    for (locks, interrupts, held, expected) in [
        (
            [Some(0); 2],
            Enabled,
            true,
            locked("first lock", "with interrupts on"),
        ),
        (
            [Some(1); 2],
            Disabled,
            true,
            locked("second lock", "with interrupts off"),
        ),
        ([Some(0); 2], Enabled, false, without.to_owned()),
        ([Some(0), Some(1)], Enabled, true, without.to_owned()),
        ([Some(0), None], Enabled, true, without.to_owned()),
        ([None; 2], Enabled, true, without.to_owned()),
    ] {
        let statement = writers(locks, interrupts, held);
        assert!(
            statement.contains(&expected),
            "{locks:?} {held}: {statement}"
        );
    }
}

/// CPU 0 writes under the lock, and CPU 1 as well, if it does not release what CPU 0 holds before.
#[test]
fn a_lock_that_somebody_else_releases_protects_nothing() {
    let mut program = Program::new("released", 2);
    let lock = program.atomic_of_kind(ValueKind::Lock, "lock", 0);
    let root = program.first_root();
    for cpu in 0..2 {
        program.offer(
            cpu,
            MenuItem::new("write", move |hw| {
                hw.poll(|hw| (hw.swap(&lock, 1) == 0).then_some(()));
                write(hw, root, Some(&lock));
            }),
        );
    }
    let release = MenuItem::new("release", move |hw| hw.store(&lock, 0));
    program.offer(1, release);
    program.proves("that it ends");
    let statement = proved(&Checker::new().memory(MemoryModel::Sc), &program);
    assert!(
        statement.contains("change page tables, without a lock in common;"),
        "{statement}"
    );
}

#[test]
fn menus_that_change_page_tables_on_two_cpus_say_so() {
    let verdict = check("map,unmap,switch/map,unmap,touch,switch", Policy::Ipi);
    let statement = verdict.statement.unwrap();
    let expected = "2 CPUs (CPUs 0 and 1) change page tables, under \"page-table lock of space 1\", which is taken with \
                    interrupts on, and under which flushes begin;";
    assert!(statement.contains(expected), "{statement}");
}

#[test]
fn bounds_and_what_nobody_looked_at_are_said() {
    let mut program = Program::new("fences", 1);
    program.operation(0, "begin", |hw| hw.fence());
    program.offer(0, MenuItem::new("fence", |hw| hw.fence()));
    program.ignore(Property::StaleUse);
    program.features().accessed_dirty = true;
    program.proves("that fences end");
    let checker = Checker::new()
        .memory(MemoryModel::Sc)
        .cpu_model(CpuModel::AMD_ZEN3)
        .storage(Storage::Fingerprints);
    let statement = proved(&checker, &program);
    for expected in [
        "CPU 0 starts fence, once it has run begin;",
        "violates a property but stale-use, which nobody looked at:",
        "no page is accessed, in page tables of 2 levels",
        "sequential consistency, without store buffers",
        "CPU model amd-zen3 (ASSUMED: ",
        "with A and D bits",
        "states are told apart by 128 bits",
    ] {
        assert!(statement.contains(expected), "{expected}: {statement}");
    }
}
