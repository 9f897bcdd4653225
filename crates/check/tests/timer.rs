//! Timer interrupts: when they come, and whose wait they may end.
#![allow(missing_docs, clippy::expect_used, clippy::unwrap_used)]

use lazytlb::interrupts::InterruptsOff;
use lazytlb::{Access, CpuId, CpuSet, Entry, FlushRange, Hw, Memory, Poll, Until, VirtAddr};
use lazytlb_check::{Checker, EventKind, Finding, ModelHw, Program, Reduction};
use lazytlb_model::{AtomicCell, MemoryModel, Property, Ticks};

#[path = "../examples/tick.rs"]
#[expect(dead_code, reason = "it has a `main` of its own")]
mod tick;

const PAGE: VirtAddr = VirtAddr(0);
const SOME_TICKS: [Ticks; 3] = [Ticks::AtMost(1), Ticks::AtMost(2), Ticks::AnyNumber];

/// Checks a program on a memory model, with and without reduction: they must agree.
#[track_caller]
fn check_on(program: &Program, memory: MemoryModel) -> Option<Property> {
    let mut program = program.clone();
    program.proves("ticks come where they may, and whoever waits goes on");
    let [collapsed, plain] = [Reduction::CollapseLocal, Reduction::None].map(|reduction| {
        let checker = Checker::new().memory(memory).reduction(reduction);
        match checker.check(&program).finding {
            Finding::Safe => None,
            Finding::Violation { violation, .. } => Some(violation.property),
            Finding::Incomplete { why } => panic!("{why}"),
        }
    });
    assert_eq!(collapsed, plain, "{memory:?}");
    collapsed
}

#[track_caller]
fn finds(program: &Program, property: impl Into<Option<Property>>) {
    let property = property.into();
    for memory in [MemoryModel::Sc, MemoryModel::TSO] {
        assert_eq!(check_on(program, memory), property, "{memory:?}");
    }
}

/// When the frame of an unmapped page is freed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Free {
    AtOnce,
    WhenOneHasTicked,
    WhenAllHaveTicked,
}

/// CPU 0 unmaps a page that CPU 1 uses, and interrupts nobody: each CPU invalidates at its next tick.
fn free_at_next_tick(free: Free, invalidates_first: bool, ticks: Ticks) -> Program {
    let mut program = Program::new("free at the next tick", 2);
    let (root, table) = (program.table(), program.table());
    let page = program.page();
    program.first_entry(root, 0, Entry::to(table));
    program.first_entry(table, 0, Entry::to(page));
    program.start_with_root(root);
    let wanted = program.atomic("wanted", 0);
    let ticked = [program.atomic("ticked 0", 0), program.atomic("ticked 1", 0)];
    program.operation(0, "unmap", move |hw| {
        hw.write_entry(table, 0, Entry::ABSENT);
        hw.flush_begins(root, FlushRange::page(PAGE));
        hw.swap(&wanted, 1);
        let who = match free {
            Free::AtOnce => &[][..],
            Free::WhenOneHasTicked => &ticked[..1],
            Free::WhenAllHaveTicked => &ticked,
        };
        hw.poll_until_tick(|hw| who.iter().all(|word| hw.load(word) == 1).then_some(()));
        hw.flush_returned(root);
        hw.free_frame(page);
    });
    program.operation(1, "use it", |hw| {
        hw.touch(PAGE, Access::Load);
        hw.touch(PAGE, Access::Store);
    });
    program.on_timer(ticks, move |hw| {
        if hw.load(&wanted) == 0 {
            return;
        }
        let own = &ticked[usize::from(hw.cpu().0)];
        if invalidates_first {
            hw.invlpg(PAGE);
            hw.store(own, 1);
        } else {
            hw.swap(own, 1);
            hw.invlpg(PAGE);
        }
    });
    program
}

#[test]
fn a_page_may_be_freed_when_every_cpu_has_ticked() {
    for ticks in SOME_TICKS {
        finds(
            &free_at_next_tick(Free::WhenAllHaveTicked, true, ticks),
            None,
        );
    }
}

#[test]
fn the_example_is_proved_and_its_broken_form_is_found() {
    finds(&tick::program(2), None);
    finds(&tick::program(1), Property::StaleUse);
}

#[test]
fn a_page_must_not_be_freed_before() {
    for ticks in SOME_TICKS {
        let found = Property::StaleUse;
        finds(
            &free_at_next_tick(Free::WhenOneHasTicked, true, ticks),
            found,
        );
        finds(&free_at_next_tick(Free::AtOnce, true, ticks), found);
    }
}

#[test]
fn a_tick_that_says_so_before_it_invalidates_is_too_early_for_a_table() {
    // No user code runs in between, so no page is used: but a frame that is a table again is walked.
    let program = free_at_next_tick(Free::WhenAllHaveTicked, false, Ticks::AnyNumber);
    finds(&program, None);
}

/// How CPU 0 waits for CPU 1.
#[derive(Clone, Copy)]
enum Wait {
    Pause,
    Poll,
    PollUntilTick,
    Halt,
}

/// CPU 0 asks CPU 1 for something, and waits; the interrupt is lost, but every tick looks for requests.
fn lost_ipi(wait: Wait, is_lost: bool, ticks: Ticks) -> Program {
    let mut program = Program::new("lost", 2);
    let (request, done) = (program.atomic("request", 0), program.atomic("done", 0));
    let serve = move |hw: &ModelHw| {
        if hw.cpu() == CpuId(1) && hw.swap(&request, 0) == 1 {
            hw.swap(&done, 1);
            send(hw, 0);
        }
    };
    program.operation(0, "ask", move |hw| {
        hw.swap(&request, 1);
        let former = hw.disable_interrupts();
        if !is_lost {
            send(hw, 1);
        }
        match wait {
            Wait::Halt => {
                if hw.load(&done) == 0 {
                    hw.halt();
                }
                hw.restore_interrupts(former);
            }
            Wait::Pause => {
                hw.restore_interrupts(former);
                hw.pause_until(&done, Until::Equals(1));
            }
            Wait::Poll => {
                hw.restore_interrupts(former);
                hw.poll(|hw| (hw.load(&done) == 1).then_some(()));
            }
            Wait::PollUntilTick => {
                hw.restore_interrupts(former);
                hw.poll_until_tick(|hw| (hw.load(&done) == 1).then_some(()));
            }
        }
    });
    program.on_flush_interrupt(serve);
    program.on_timer(ticks, serve);
    program
}

fn send(hw: &ModelHw, cpu: u16) {
    let mut targets = CpuSet::<1>::EMPTY;
    targets.insert(CpuId(cpu));
    hw.send_ipi(&targets);
}

#[test]
fn a_lost_ipi_that_a_tick_would_repair_is_found() {
    for ticks in SOME_TICKS {
        finds(&lost_ipi(Wait::Pause, true, ticks), Property::Deadlock);
        finds(&lost_ipi(Wait::Poll, true, ticks), Property::Deadlock);
        finds(&lost_ipi(Wait::Halt, true, ticks), Property::LostWakeup);
        for wait in [Wait::Pause, Wait::Poll, Wait::Halt] {
            finds(&lost_ipi(wait, false, ticks), None);
        }
    }
}

#[test]
fn code_may_say_that_it_waits_for_a_tick() {
    for ticks in SOME_TICKS {
        finds(&lost_ipi(Wait::PollUntilTick, true, ticks), None);
    }
    let program = lost_ipi(Wait::PollUntilTick, true, Ticks::Never);
    finds(&program, Property::Deadlock);
}

#[test]
fn the_deadlock_says_how_to_wait_for_a_tick() {
    let verdict = Checker::new().check(&lost_ipi(Wait::Pause, true, Ticks::AnyNumber));
    let what = &verdict.violation().unwrap().what;
    for words in ["done = 1", "it is 0", "poll_until_tick"] {
        assert!(what.contains(words), "{words} is not in: {what}");
    }
}

#[test]
fn who_waits_for_ticks_that_change_nothing_waits_for_ever() {
    for ticks in SOME_TICKS {
        let mut program = Program::new("nothing", 2);
        let (word, seen) = (program.atomic("word", 0), program.atomic("seen", 0));
        program.operation(0, "wait for a tick", move |hw| {
            hw.poll_until_tick(|hw| (hw.load(&word) == 1).then_some(()));
        });
        let mut helped = program.clone();
        let mut late = program.clone();
        program.on_timer(ticks, move |hw| hw.store(&seen, 1));
        finds(&program, Property::Deadlock);
        helped.on_timer(ticks, move |hw| {
            if hw.load(&seen) == 0 {
                hw.store(&seen, 1);
            }
            if hw.cpu() == CpuId(1) {
                hw.store(&word, 1);
            }
        });
        finds(&helped, None);
        // Where ticks have a bound, they may all have come before the wait: no deadlock, but the bound.
        late.on_timer(ticks, move |hw| {
            if hw.swap(&seen, 1) == 1 {
                hw.store(&word, 1);
            }
        });
        finds(&late, None);
    }
}

#[test]
fn what_has_ended_may_leave_its_promises_to_the_next_tick() {
    for ticks in SOME_TICKS {
        let mut program = Program::new("left to a tick", 1);
        let root = program.first_root();
        let wanted = program.atomic("wanted", 0);
        program.operation(0, "begin", move |hw| {
            hw.flush_begins(root, FlushRange::page(PAGE));
            hw.swap(&wanted, 1);
        });
        let mut forgotten = program.clone();
        program.on_timer(ticks, move |hw| {
            if hw.swap(&wanted, 0) == 1 {
                hw.invlpg(PAGE);
                hw.flush_returned(root);
            }
        });
        finds(&program, None);
        forgotten.on_timer(ticks, |hw| hw.invlpg(PAGE));
        finds(&forgotten, Property::Panic);
    }
}

#[test]
fn a_tick_comes_only_with_interrupts_on() {
    for is_off in [true, false] {
        let mut program = Program::new("off", 1);
        let word = program.local(0, "own", 0);
        program.operation(0, "look twice", move |hw| {
            let _off = is_off.then(|| InterruptsOff::new(hw));
            let first = hw.load_local(&word);
            assert_eq!(hw.load_local(&word), first, "a tick came in between");
        });
        program.on_timer(Ticks::AtMost(2), move |hw| {
            hw.store_local(&word, hw.load_local(&word) + 1);
        });
        finds(&program, (!is_off).then_some(Property::Panic));
    }
}

#[test]
fn handlers_do_not_nest() {
    let mut program = Program::new("handlers", 1);
    let word = program.local(0, "own", 0);
    program.operation(0, "interrupt", |hw| send(hw, 0));
    let count = move |hw: &ModelHw| {
        let before = hw.load_local(&word);
        hw.store_local(&word, before + 1);
        assert_eq!(
            hw.load_local(&word),
            before + 1,
            "a handler was interrupted"
        );
    };
    program.on_flush_interrupt(count);
    program.on_timer(Ticks::AtMost(2), count);
    finds(&program, None);
}

#[test]
fn a_tick_drains_the_store_buffer_as_delivery_does() {
    let mut program = Program::new("drain", 2);
    let names = ["a", "b", "seen in the tick", "seen by CPU 1"];
    let [a, b, in_tick, by_other]: [AtomicCell; 4] =
        names.map(|name| program.atomic(name, if name.len() > 1 { 9 } else { 0 }));
    program.operation(0, "store", move |hw| hw.store(&a, 1));
    program.operation(1, "store and load", move |hw| {
        hw.store(&b, 1);
        hw.fence();
        hw.store(&by_other, hw.load(&a));
    });
    program.on_timer(Ticks::AtMost(1), move |hw| {
        if hw.cpu() == CpuId(0) && hw.load(&a) == 1 {
            hw.store(&in_tick, hw.load(&b));
        }
    });
    let outcomes = Checker::new().outcomes(&program).unwrap();
    let seen: Vec<_> = outcomes
        .ends
        .iter()
        .map(|end| [end.atomics[2], end.atomics[3]])
        .collect();
    assert!(
        seen.contains(&[0, 1]) && seen.contains(&[1, 0]) && !seen.contains(&[0, 0]),
        "{seen:?}"
    );
}

#[test]
fn a_program_ends_whether_ticks_are_left_or_not() {
    for (ticks, counts) in [
        (Ticks::Never, vec![0]),
        (Ticks::AtMost(0), vec![0]),
        (Ticks::AtMost(2), vec![0, 1, 2]),
        (Ticks::AnyNumber, vec![0, 1, 2, 3]),
    ] {
        for memory in [MemoryModel::Sc, MemoryModel::TSO] {
            let mut program = Program::new("count", 1);
            let count = program.atomic("count", 0);
            program.operation(0, "nothing much", move |hw| {
                hw.load(&count);
            });
            program.on_timer(ticks, move |hw| match hw.load(&count) {
                3 => {}
                count_so_far => hw.store(&count, count_so_far + 1),
            });
            let outcomes = Checker::new().memory(memory).outcomes(&program).unwrap();
            let ends: Vec<u64> = outcomes.ends.iter().map(|end| end.atomics[0]).collect();
            assert_eq!(ends, counts, "{ticks:?}");
            assert!(outcomes.violations.is_empty());
        }
    }
}

#[test]
fn a_tick_comes_through_a_window_in_a_poll_and_wakes_who_sleeps() {
    for sleeps in [true, false] {
        let mut program = Program::new("window", 1);
        let word = program.local(0, "own", 0);
        program.operation(0, "wait for a tick", move |hw| {
            let former = hw.disable_interrupts();
            hw.poll_until_tick(|hw| {
                if sleeps && hw.load_local(&word) == 0 {
                    hw.halt();
                } else {
                    hw.restore_interrupts(former);
                    hw.disable_interrupts();
                }
                (hw.load_local(&word) == 1).then_some(())
            });
            hw.restore_interrupts(former);
        });
        let mut useless = program.clone();
        program.on_timer(Ticks::AnyNumber, move |hw| hw.store_local(&word, 1));
        finds(&program, None);
        useless.on_timer(Ticks::AnyNumber, |_| {});
        let stuck = if sleeps {
            Property::LostWakeup
        } else {
            Property::Deadlock
        };
        finds(&useless, stuck);
    }
}

#[test]
fn a_timeline_shows_ticks() {
    let mut program = Program::new("shown", 1);
    program.operation(0, "look", |hw| hw.fence());
    program.on_timer(Ticks::AnyNumber, |_| panic!("ticked"));
    let verdict = Checker::new().check(&program);
    let Finding::Violation { timeline, .. } = &verdict.finding else {
        panic!("{verdict:?}")
    };
    let kinds: Vec<_> = timeline.events.iter().map(|event| event.kind).collect();
    assert!(kinds.contains(&EventKind::TimerInterrupt), "{kinds:?}");
    assert!(timeline.to_string().contains("timer interrupt"));
}

/// CPU 0 begins a promise; its handler counts ticks, and keeps the promise when so many have come, if ever.
fn kept_at_tick(number: Option<u64>, ticks: Ticks) -> Program {
    let mut program = Program::new("kept at a tick", 1);
    let (root, table, page) = (program.first_root(), program.table(), program.page());
    program.first_entry(root, 0, Entry::to(table));
    program.first_entry(table, 0, Entry::to(page));
    let (begun, jiffies) = (program.atomic("begun", 0), program.atomic("jiffies", 0));
    program.on_timer(ticks, move |hw| {
        let so_far = hw.fetch_add(&jiffies, 1) + 1;
        if number.is_some_and(|number| so_far >= number) && hw.swap(&begun, 0) == 1 {
            hw.flush_returned(root);
        }
    });
    program.operation(0, "unmap", move |hw| {
        hw.write_entry(table, 0, Entry::ABSENT);
        let former = hw.disable_interrupts();
        hw.flush_begins(root, FlushRange::page(PAGE));
        hw.swap(&begun, 1);
        hw.restore_interrupts(former);
        hw.invlpg(PAGE);
    });
    program
}

#[test]
fn a_promise_that_no_tick_keeps_is_found_although_ticks_change_something() {
    for most in [1, 2] {
        let ticks = Ticks::AtMost(most);
        finds(&kept_at_tick(None, ticks), Property::Panic);
        // One that the next tick, or a few, will keep is none, within the bound on their number and after it.
        for number in [1, 3] {
            finds(&kept_at_tick(Some(number), ticks), None);
        }
    }
}

/// CPU 0 sleeps unless the flag is set; CPU 1 sets it and interrupts CPU 0, by IPI or by NMI.
fn sleeper(are_on: bool, by_nmi: bool) -> Program {
    let mut program = Program::new("sleeper", 2);
    let flag = program.atomic("flag", 0);
    program.on_flush_interrupt(|_| {});
    if by_nmi {
        program.on_nmi(|_| {});
    }
    program.operation(0, "sleep", move |hw| {
        let former = (!are_on).then(|| hw.disable_interrupts());
        if hw.load(&flag) == 0 {
            hw.halt();
        }
        if let Some(former) = former {
            hw.restore_interrupts(former);
        }
    });
    program.operation(1, "wake", move |hw| {
        hw.swap(&flag, 1);
        match by_nmi {
            true => hw.send_nmi(1),
            false => send(hw, 0),
        }
    });
    program
}

/// Between the load and HLT the interrupt comes, and the CPU sleeps after it. With interrupts off until `STI; HLT`
/// it cannot; but nothing holds an NMI up.
#[test]
fn an_interrupt_that_comes_just_before_hlt_wakes_nobody() {
    finds(&sleeper(true, false), Property::LostWakeup);
    finds(&sleeper(false, false), None);
    finds(&sleeper(true, true), Property::LostWakeup);
    finds(&sleeper(false, true), Property::LostWakeup);
}
