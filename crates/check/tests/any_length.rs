//! Programs without end: every program over the CPUs' menus, of any length.

#![allow(clippy::unwrap_used)] // A test that fails is to panic.

use std::sync::Arc;

use lazytlb::{CpuId, CpuSet, FlushRange, Hw, Policy, Poll, Tables, Until, ValueKind};
use lazytlb_check::{
    CheckError, Checker, LazyTlb, MenuItem, Menus, Mode, ModelHw, PageTableLock, Program, Protocol,
    Space, Verdict,
};
use lazytlb_model::{AtomicCell, MemoryModel, Property};

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
        let mut all = Policy::ALL.iter().copied();
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

/// One CPU counts by one or by two under a lock; the other says under it what it thinks of the count.
fn counts_by(step: u64, is_right: fn(u64) -> bool) -> Result<Verdict, CheckError> {
    let mut program = Program::new("counts", 2);
    let lock = program.atomic_of_kind(ValueKind::Lock, "lock", 0);
    let count = program.atomic_of_kind(ValueKind::Generation, "count", 2);
    let copy = program.local_of_kind(1, ValueKind::Generation, "copy", 0);
    let locked = move |hw: &ModelHw, run: &dyn Fn(&ModelHw)| {
        hw.poll(|hw| (hw.swap(&lock, 1) == 0).then_some(()));
        run(hw);
        hw.store(&lock, 0);
    };
    program.offer(
        0,
        MenuItem::new("count", move |hw| {
            locked(hw, &|hw| {
                for _ in 0..step {
                    hw.fetch_add(&count, 1);
                }
            });
        }),
    );
    program.offer(
        1,
        MenuItem::new("look", move |hw| {
            locked(hw, &|hw| {
                let now = hw.load(&count);
                assert!(is_right(now), "the count is wrong");
                hw.store_local(&copy, now);
            });
        }),
    );
    program.proves("that the count is right");
    Checker::new().try_check(&program, |_| {})
}

/// A violation is replayed with the numbers as they count: so it is one, whatever else the code does with them.
#[test]
fn a_bug_in_code_that_does_more_than_compare_is_found_and_none_is_invented() {
    let verdict = counts_by(1, |count| count % 4 != 0).unwrap();
    let violated = verdict.violation().map(|violation| violation.property);
    assert_eq!(violated, Some(Property::Panic), "{verdict:?}");
    // The count is even for ever; the new names for it are not.
    let refused = counts_by(2, |count| count % 2 == 0);
    assert!(
        matches!(refused, Err(CheckError::FalseClaim(_))),
        "{refused:?}"
    );
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
                hw.send_ipi(&only(CpuId(1 - u16::from(cpu))));
                hw.pause_until(&asked, Until::Zero);
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

/// How code spins for a lock that others hold while they wait for an interrupt to be served: with interrupts on or off.
#[derive(Clone, Copy, Debug)]
enum Spins {
    On,
    Off,
    OffAndServes,
}

/// Two CPUs in a space flush it under one lock, with the real protocol. Who spins does it as it is told; who has the
/// lock has interrupts on.
fn flush_under_a_lock(spins: Spins) -> Verdict {
    let mut program = Program::new("flush under a lock", 2);
    let lock = program.atomic_of_kind(ValueKind::Lock, "lock", 0);
    let root = program.table();
    let protocol = Arc::new(LazyTlb::new(&mut program, Policy::Ipi, &[root]));
    let (user, space) = (Mode::new(1), Space(1));
    for cpu in 0..2 {
        let its = Arc::clone(&protocol);
        let switch = MenuItem::new("switch", move |hw| its.switch_mm(hw, space));
        program.offer(cpu, switch.leads_to(user));
        let its = Arc::clone(&protocol);
        let flush = MenuItem::new("flush", move |hw| {
            let try_lock = |hw: &ModelHw| (hw.swap(&lock, 1) == 0).then_some(());
            match spins {
                Spins::On => hw.poll(try_lock),
                Spins::Off | Spins::OffAndServes => {
                    let former = hw.disable_interrupts();
                    hw.poll(|hw| {
                        if matches!(spins, Spins::OffAndServes) {
                            its.handle_flush_ipi(hw);
                        }
                        try_lock(hw)
                    });
                    hw.restore_interrupts(former);
                }
            }
            its.flush(hw, space, FlushRange::All, Tables::Kept);
            hw.store(&lock, 0);
        });
        program.offer(cpu, flush);
    }
    program.on_flush_interrupt(move |hw| protocol.handle_flush_ipi(hw));
    program.proves("nobody waits for ever");
    Checker::new().check(&program)
}

#[test]
fn an_initiator_waits_for_whoever_spins_for_its_lock_with_interrupts_off() {
    for spins in [Spins::On, Spins::OffAndServes] {
        let verdict = flush_under_a_lock(spins);
        assert!(verdict.is_safe(), "{spins:?}: {verdict:?}");
    }
    let stuck = flush_under_a_lock(Spins::Off);
    let violated = stuck.violation().map(|violation| violation.property);
    assert_eq!(violated, Some(Property::Deadlock), "{stuck:?}");
}

/// Both CPUs change page tables, under a lock that is taken as it says.
fn check_locked(menus: &str, lock: PageTableLock, policy: Policy, memory: MemoryModel) -> Verdict {
    let menus: Menus = menus.parse().unwrap();
    let program = menus.lock(lock).program::<LazyTlb>(policy);
    Checker::new().memory(memory).check(&program)
}

#[test]
fn a_flush_under_the_lock_is_safe_however_the_lock_is_taken_and_so_is_one_after_it() {
    let (menus, policy) = ("map,unmap,switch,touch/map,unmap,switch", Policy::Ipi);
    for memory in [MemoryModel::Sc, MemoryModel::TSO] {
        for lock in PageTableLock::ALL {
            let verdict = check_locked(menus, lock, policy, memory);
            assert!(verdict.is_safe(), "{lock:?} {memory:?}: {verdict:?}");
        }
        // What is flushed and freed after the unlock is looked at as closely.
        let mut all = Policy::ALL.iter().copied();
        let defer = all.find(|policy| policy.name() == "defer").unwrap();
        let frees = "map,free/map,switch,touch,lazy";
        let walked = check_locked(frees, PageTableLock::FlushAfterUnlock, defer, memory);
        let violated = walked.violation().map(|violation| violation.property);
        assert_eq!(violated, Some(Property::TableUseAfterFree), "{walked:?}");
    }
}

fn only(cpu: CpuId) -> CpuSet<1> {
    let mut set = CpuSet::EMPTY;
    set.insert(cpu);
    set
}

/// Asks CPU 1 for something: sets a word, and interrupts it, in one order or the other.
fn ask_cpu_1(hw: &ModelHw, asked: &AtomicCell, interrupts_first: bool) {
    let target = only(CpuId(1));
    if interrupts_first {
        hw.send_ipi(&target);
    }
    hw.swap(asked, 1);
    if !interrupts_first {
        hw.send_ipi(&target);
    }
    hw.pause_until(asked, Until::Zero);
}

/// CPUs 0 and 2 ask CPU 1, whose handler serves all that it finds: each interrupt of CPU 2 makes up for one that CPU 0
/// has lost.
fn a_third_cpu_rescues(interrupts_first: bool) -> Verdict {
    let mut program = Program::new("rescue", 3);
    let [by_0, by_2] = ["asked by CPU 0", "asked by CPU 2"]
        .map(|name| program.atomic_of_kind(ValueKind::Flag, name, 0));
    let ask = move |hw: &ModelHw| ask_cpu_1(hw, &by_0, interrupts_first);
    program.offer(0, MenuItem::new("ask", ask));
    let ask = move |hw: &ModelHw| ask_cpu_1(hw, &by_2, false);
    program.offer(2, MenuItem::new("ask", ask));
    program.on_flush_interrupt(move |hw| {
        hw.swap(&by_0, 0);
        hw.swap(&by_2, 0);
    });
    program.proves("nobody waits for ever");
    Checker::new().check(&program)
}

#[test]
fn a_lost_interrupt_is_found_though_a_third_cpus_would_make_up_for_it() {
    assert!(a_third_cpu_rescues(false).is_safe());
    let stuck = a_third_cpu_rescues(true);
    let violated = stuck.violation().map(|violation| violation.property);
    assert_eq!(violated, Some(Property::Deadlock), "{stuck:?}");
}

/// Two CPUs ask each other, and wait with interrupts off: they may serve each other while they do.
fn both_poll_with_interrupts_off(serves: bool) -> Verdict {
    let mut program = Program::new("both poll", 2);
    let asked = ["asked: CPU 0", "asked: CPU 1"]
        .map(|name| program.atomic_of_kind(ValueKind::Flag, name, 0));
    for cpu in 0..2 {
        let (mine, others) = (asked[cpu], asked[1 - cpu]);
        let item = MenuItem::new("ask the other", move |hw| {
            let former = hw.disable_interrupts();
            hw.swap(&others, 1);
            hw.send_ipi(&only(CpuId(1 - cpu as u16)));
            hw.poll(|hw| {
                if serves && hw.load(&mine) == 1 {
                    hw.swap(&mine, 0);
                }
                (hw.load(&others) == 0).then_some(())
            });
            hw.restore_interrupts(former);
        });
        program.offer(cpu as u8, item);
    }
    program.on_flush_interrupt(move |hw| {
        hw.swap(&asked[usize::from(hw.cpu().0)], 0);
    });
    program.proves("nobody waits for ever");
    Checker::new().check(&program)
}

#[test]
fn two_cpus_that_poll_with_interrupts_off_must_serve_each_other() {
    assert!(both_poll_with_interrupts_off(true).is_safe());
    let stuck = both_poll_with_interrupts_off(false);
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
            hw.send_ipi(&only(CpuId(0)));
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
