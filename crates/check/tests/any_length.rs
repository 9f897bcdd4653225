//! Programs without end: every program over the CPUs' menus, of any length.

#![allow(clippy::unwrap_used)] // A test that fails is to panic.

use lazytlb::{Hw, Policy, Poll, ValueKind};
use lazytlb_check::{CheckError, Checker, LazyTlb, MenuItem, Menus, Mode, Program, Verdict};
use lazytlb_model::{MemoryModel, Property};

fn check(menus: &str, policy: Policy, memory: MemoryModel) -> Verdict {
    let menus: Menus = menus.parse().unwrap();
    let program = menus.program::<LazyTlb>(policy);
    Checker::new().memory(memory).check(&program)
}

/// One CPU maps, unmaps and frees tables; both come and go, lazily, for ever.
#[test]
fn every_program_of_two_cpus_is_safe_under_the_safe_policies_and_no_other() {
    let menus = "map,unmap,free,switch,touch,lazy/switch,touch,lazy";
    for memory in [MemoryModel::Sc, MemoryModel::TSO] {
        for policy in [Policy::Ipi, Policy::InitMm, Policy::IpiOnTableFree] {
            let verdict = check(menus, policy, memory);
            assert!(verdict.is_safe(), "{policy:?} {memory:?}: {verdict:?}");
        }
        let mut all = Policy::ALL.into_iter();
        let defer = all.find(|policy| policy.name() == "defer").unwrap();
        let verdict = check(menus, defer, memory);
        let violated = verdict.violation().map(|violation| violation.property);
        assert_eq!(violated, Some(Property::TableUseAfterFree), "{verdict:?}");
    }
}

/// Both change page tables, under a lock that they spin for with interrupts on.
#[test]
fn two_cpus_that_change_page_tables_take_the_lock() {
    let menus = "map,unmap,free,switch,touch,lazy/map,unmap,free,switch,touch,lazy";
    let verdict = check(menus, Policy::IpiOnTableFree, MemoryModel::Sc);
    assert!(verdict.is_safe(), "{verdict:?}");
}

/// A stranger's protocol: it counts, copies what the count is, and acts on how far the copy is behind.
fn behind_by(is_behind: fn(u64, u64) -> bool) -> Result<Verdict, CheckError> {
    let mut program = Program::new("behind", 2);
    let count = program.atomic_of_kind(ValueKind::Generation, "count", 1);
    let copy = program.local_of_kind(1, ValueKind::Generation, "copy", 1);
    let caught_up = program.atomic("caught up", 0);
    program.offer(
        0,
        MenuItem::new("count", move |hw| {
            hw.fetch_add(&count, 1);
        }),
    );
    program.offer(
        1,
        MenuItem::new("catch up", move |hw| {
            let now = hw.load(&count);
            if is_behind(hw.load_local(&copy), now) {
                hw.store_local(&copy, now);
                hw.store(&caught_up, 1);
            } else {
                hw.store(&caught_up, 0);
            }
        }),
    );
    program.proves("that it ends");
    Checker::new().try_check(&program, |_| {})
}

#[test]
fn code_that_does_more_than_compare_generations_is_refused_with_its_place() {
    assert!(behind_by(|copy, now| copy != now).unwrap().is_safe());
    assert!(behind_by(|copy, now| copy < now).unwrap().is_safe());
    let Err(CheckError::FalseClaim(how)) = behind_by(|copy, now| now - copy >= 3) else {
        panic!("differences of generations mean nothing")
    };
    assert!(how.contains("CPU 1 in \"catch up\""), "{how}");
}

/// A stranger's protocol: CPU 1 waits until what CPU 0 counts has come to where it will be next.
fn wait_for_the_next(is_next: fn(u64) -> u64) -> Result<Verdict, CheckError> {
    let mut program = Program::new("wait", 2);
    let count = program.atomic_of_kind(ValueKind::Generation, "count", 1);
    program.offer(
        0,
        MenuItem::new("count", move |hw| {
            hw.fetch_add(&count, 1);
        }),
    );
    program.offer(
        1,
        MenuItem::new("wait", move |hw| {
            let now = hw.load(&count);
            hw.pause_until(&count, lazytlb::Until::AtLeast(is_next(now)));
        }),
    );
    program.proves("that it ends");
    Checker::new().try_check(&program, |_| {})
}

#[test]
fn a_wait_is_for_a_generation_that_was_read_or_the_next() {
    assert!(wait_for_the_next(|now| now).unwrap().is_safe());
    // CPU 0 need not count once more.
    let waits = wait_for_the_next(|now| now + 1).unwrap();
    let violated = waits.violation().map(|violation| violation.property);
    assert_eq!(violated, Some(Property::Deadlock), "{waits:?}");
    let further = wait_for_the_next(|now| now + 2);
    assert!(matches!(further, Err(CheckError::FalseClaim(_))));
}

/// Messages that are read after their operation are read: poison is no value.
#[test]
fn a_message_that_is_read_late_is_read_as_it_was_sent() {
    let mut program = Program::new("late", 2);
    let kind = ValueKind::Message(lazytlb::Payload::Other);
    let message = program.atomic_of_kind(kind, "message", 3);
    program.offer(0, MenuItem::new("send", move |hw| hw.store(&message, 4)));
    program.offer(
        1,
        MenuItem::new("receive", move |hw| {
            assert!([3, 4].contains(&hw.load(&message)));
            hw.pause_until(&message, lazytlb::Until::AtLeast(3));
        }),
    );
    program.proves("what is received");
    for memory in [MemoryModel::Sc, MemoryModel::TSO] {
        let verdict = Checker::new().memory(memory).check(&program);
        assert!(verdict.is_safe(), "{verdict:?}");
    }
}

/// Nobody sets the flag: an operation that waits for it first has started all the same.
#[test]
fn an_operation_whose_first_call_blocks_has_started() {
    let mut program = Program::new("first call", 1);
    let flag = program.atomic_of_kind(ValueKind::Flag, "flag", 0);
    program.offer(
        0,
        MenuItem::new("wait", move |hw| {
            hw.pause_until(&flag, lazytlb::Until::Equals(1));
        }),
    );
    program.proves("that nobody waits for ever");
    let verdict = Checker::new().check(&program);
    let violated = verdict.violation().map(|violation| violation.property);
    assert_eq!(violated, Some(Property::Deadlock), "{verdict:?}");
}

/// A lock that is taken with interrupts off, while its holder waits for an interrupt to be served.
fn lock_and_wait(serves: bool) -> Verdict {
    let mut program = Program::new("lock and wait", 2);
    let lock = program.atomic_of_kind(ValueKind::Lock, "lock", 0);
    let asked = program.atomic_of_kind(ValueKind::Flag, "asked", 0);
    for cpu in 0..2 {
        program.offer(
            cpu,
            MenuItem::new("lock, ask the other", move |hw| {
                let former = hw.disable_interrupts();
                hw.poll(|hw| {
                    if serves && hw.load(&asked) == 1 {
                        hw.swap(&asked, 0);
                    }
                    (hw.swap(&lock, 1) == 0).then_some(())
                });
                hw.restore_interrupts(former);
                hw.swap(&asked, 1);
                let mut other = lazytlb::CpuSet::<1>::EMPTY;
                other.insert(lazytlb::CpuId(1 - u16::from(cpu)));
                hw.send_ipi(&other);
                hw.pause_until(&asked, lazytlb::Until::Zero);
                hw.store(&lock, 0);
            }),
        );
    }
    program.on_flush_interrupt(move |hw| {
        hw.swap(&asked, 0);
    });
    program.proves("nobody waits for ever");
    Checker::new().check(&program)
}

#[test]
fn who_spins_with_interrupts_off_must_serve_whoever_holds_the_lock() {
    assert!(lock_and_wait(true).is_safe());
    let stuck = lock_and_wait(false);
    let violated = stuck.violation().map(|violation| violation.property);
    assert_eq!(violated, Some(Property::Deadlock), "{stuck:?}");
}

/// An operation that sleeps, on a CPU that another one's next start would wake: that is no rescue.
#[test]
fn a_start_that_may_never_come_rescues_nobody() {
    let mut program = Program::new("sleeper", 2);
    program.on_flush_interrupt(|_| {});
    program.offer(0, MenuItem::new("sleep", |hw| hw.halt()));
    program.offer(
        1,
        MenuItem::new("wake", |hw| {
            let mut sleeper = lazytlb::CpuSet::<1>::EMPTY;
            sleeper.insert(lazytlb::CpuId(0));
            hw.send_ipi(&sleeper);
        }),
    );
    program.proves("whoever sleeps wakes");
    let verdict = Checker::new().check(&program);
    let violated = verdict.violation().map(|violation| violation.property);
    assert_eq!(violated, Some(Property::LostWakeup), "{verdict:?}");
}

#[test]
fn a_mode_says_what_may_start() {
    let run = |goes_lazy: bool| {
        let mut program = Program::new("modes", 1);
        let (task, lazy) = (Mode::FIRST, Mode::new(1));
        let was_lazy = program.atomic("was lazy", 0);
        let item = MenuItem::new("go lazy", move |hw| hw.store(&was_lazy, 1));
        let item = item.starts_in([task]);
        program.offer(0, if goes_lazy { item.leads_to(lazy) } else { item });
        program.offer(
            0,
            MenuItem::new("run lazily", move |hw| {
                assert_eq!(hw.load(&was_lazy), 2, "nobody gets here");
            })
            .starts_in([lazy]),
        );
        program.proves("what may start");
        Checker::new().check(&program)
    };
    assert!(run(false).is_safe());
    assert!(run(true).violation().is_some());
}

#[test]
fn a_lock_that_is_taken_at_rest_is_found() {
    let mut program = Program::new("forgotten", 1);
    let lock = program.atomic_of_kind(ValueKind::Lock, "lock", 0);
    program.offer(
        0,
        MenuItem::new("take, and forget", move |hw| {
            if hw.load(&lock) == 0 {
                hw.swap(&lock, 1);
            }
        }),
    );
    program.proves("that locks are released");
    let verdict = Checker::new().check(&program);
    let violated = verdict.violation().map(|violation| violation.property);
    assert_eq!(violated, Some(Property::Deadlock), "{verdict:?}");
}
