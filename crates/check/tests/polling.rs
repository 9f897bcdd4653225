//! Code that polls: proved like code that waits, and found where it waits for ever.
#![allow(missing_docs, clippy::expect_used, clippy::unwrap_used)]

use lazytlb::{CpuId, CpuSet, Entry, Hw, Memory, Poll, Until, VirtAddr};
use lazytlb_check::{CheckError, Checker, Finding, ModelHw, Program, Reduction, Verdict};
use lazytlb_model::{AtomicCell, MemoryModel, Privilege, Property};

use setters::with_setters;

#[path = "../examples/polling_loop.rs"]
#[expect(dead_code, reason = "it has a `main` of its own")]
mod polling_loop;
mod setters;

/// Checks a program on both memory models, with and without reduction: they must agree.
#[track_caller]
fn try_check(program: &Program) -> Result<Option<Property>, CheckError> {
    let [sc, tso] = [MemoryModel::Sc, MemoryModel::TSO].map(|memory| check_on(program, memory));
    assert_eq!(sc, tso);
    sc
}

/// Checks a program on a memory model, with and without reduction: they must agree.
#[track_caller]
fn check_on(program: &Program, memory: MemoryModel) -> Result<Option<Property>, CheckError> {
    let mut program = program.clone();
    program.proves("who polls goes on, and sees what it polled for");
    let [collapsed, plain] = [Reduction::CollapseLocal, Reduction::None].map(|reduction| {
        let checker = Checker::new().memory(memory).reduction(reduction);
        let verdict = checker.try_check(&program, |_| {})?;
        Ok(property(&verdict))
    });
    assert_eq!(collapsed, plain, "{memory:?}");
    collapsed
}

fn property(verdict: &Verdict) -> Option<Property> {
    match &verdict.finding {
        Finding::Safe => None,
        Finding::Violation { violation, .. } => Some(violation.property),
        Finding::Incomplete { why } => panic!("{why}"),
    }
}

#[track_caller]
fn is_safe(program: &Program) {
    assert_eq!(try_check(program), Ok(None));
}

#[track_caller]
fn deadlocks(program: &Program) {
    assert_eq!(try_check(program), Ok(Some(Property::Deadlock)));
}

#[test]
fn a_poll_for_two_words_is_proved_and_returns_what_its_last_iteration_found() {
    is_safe(&with_setters(
        |hw, words| {
            let sum = hw.poll(|hw| match (hw.load(&words[0]), hw.load(&words[1])) {
                (0, _) | (_, 0) => None,
                (a, b) => Some(a + b),
            });
            assert_eq!(sum, 3);
        },
        2,
    ));
}

#[test]
fn what_an_iteration_finds_may_depend_on_answers_that_change_under_it() {
    // It may read the first word before both were set, and the second one after that.
    let program = with_setters(
        |hw, words| {
            let found = hw.poll(|hw| match (hw.load(&words[0]), hw.load(&words[1])) {
                (0, 0) => None,
                found => Some(found),
            });
            assert!(found != (0, 2), "the second word came first");
        },
        2,
    );
    assert_eq!(try_check(&program), Ok(Some(Property::Panic)));
}

#[test]
fn cpus_that_poll_for_each_other_for_ever_are_a_deadlock() {
    let mut program = Program::new("each other", 2);
    let words = [program.atomic("a", 0), program.atomic("b", 0)];
    for cpu in 0..2 {
        let (own, other) = (words[cpu], words[1 - cpu]);
        program.operation(cpu as u8, "wait, then say so", move |hw| {
            hw.poll(|hw| (hw.load(&other) != 0).then_some(()));
            hw.store(&own, 1);
        });
    }
    deadlocks(&program);
}

#[test]
fn a_poll_that_nothing_can_end_is_a_deadlock_whatever_others_wait_by() {
    deadlocks(&with_setters(
        |hw, words| hw.poll(|hw| (hw.load(&words[0]) == 7).then_some(())),
        1,
    ));
    let mut program = Program::new("wait and poll", 2);
    let word = program.atomic("word", 0);
    program.operation(0, "poll", move |hw| {
        hw.poll(|hw| (hw.load(&word) == 1).then_some(()))
    });
    program.operation(1, "wait", move |hw| hw.pause_until(&word, Until::Equals(2)));
    deadlocks(&program);
}

#[test]
fn the_deadlock_names_the_words_that_are_polled() {
    let program = with_setters(
        |hw, words| {
            hw.poll(|hw| (hw.load(&words[0]) + hw.load(&words[1]) == 7).then_some(()));
        },
        2,
    );
    let verdict = Checker::new().check(&program);
    let what = &verdict.violation().unwrap().what;
    assert!(
        what.contains("word 0 → 1") && what.contains("word 1 → 2"),
        "{what}"
    );
}

#[test]
fn an_iteration_that_stores_what_is_there_changes_nothing() {
    deadlocks(&with_setters(
        |hw, words| {
            hw.poll(|hw| {
                hw.store(&words[0], 1);
                (hw.load(&words[0]) == 7).then_some(())
            });
        },
        1,
    ));
}

#[test]
fn iterations_that_change_something_for_ever_are_a_deadlock() {
    deadlocks(&with_setters(
        |hw, words| {
            hw.poll(|hw| {
                hw.swap(&words[0], 5);
                (hw.swap(&words[0], 6) == 7).then_some(())
            });
        },
        1,
    ));
}

#[test]
fn two_cpus_poll_their_inboxes_with_interrupts_off() {
    is_safe(&polling_loop::program(true));
    deadlocks(&polling_loop::program(false));
}

#[test]
fn a_poll_serves_interrupts_like_a_wait_and_its_own_handler_ends_it() {
    for has_handler in [true, false] {
        let mut program = Program::new("own word", 2);
        let word = program.local(0, "own", 0);
        program.operation(0, "poll", move |hw| {
            hw.poll(|hw| (hw.load_local(&word) == 1).then_some(()));
        });
        program.operation(1, "interrupt", move |hw| {
            let mut targets = CpuSet::<1>::EMPTY;
            targets.insert(CpuId(0));
            hw.send_ipi(&targets);
        });
        if has_handler {
            program.on_flush_interrupt(move |hw| hw.store_local(&word, 1));
            is_safe(&program);
        } else {
            program.on_flush_interrupt(|_| {});
            deadlocks(&program);
        }
    }
}

#[test]
fn an_iteration_may_let_interrupts_in_while_the_rest_of_the_poll_keeps_them_off() {
    for lets_in in [true, false] {
        let mut program = Program::new("window", 2);
        let word = program.local(0, "own", 0);
        program.operation(0, "poll", move |hw| {
            let former = hw.disable_interrupts();
            hw.poll(|hw| {
                if lets_in {
                    hw.restore_interrupts(former);
                    hw.disable_interrupts();
                }
                (hw.load_local(&word) == 1).then_some(())
            });
            hw.restore_interrupts(former);
        });
        program.operation(1, "interrupt", move |hw| {
            let mut targets = CpuSet::<1>::EMPTY;
            targets.insert(CpuId(0));
            hw.send_ipi(&targets);
        });
        program.on_flush_interrupt(move |hw| hw.store_local(&word, 1));
        match lets_in {
            true => is_safe(&program),
            false => deadlocks(&program),
        }
    }
}

#[test]
fn a_handler_may_poll_and_a_poll_of_private_words_alone_ends_the_search() {
    let mut program = Program::new("in a handler", 2);
    let (go, own) = (program.atomic("go", 0), program.local(0, "own", 0));
    program.operation(0, "interrupt myself", move |hw| {
        let mut targets = CpuSet::<1>::EMPTY;
        targets.insert(CpuId(0));
        hw.send_ipi(&targets);
    });
    program.operation(1, "go", move |hw| hw.store(&go, 1));
    let mut hopeless = program.clone();
    program.on_flush_interrupt(move |hw| hw.poll(|hw| (hw.load(&go) == 1).then_some(())));
    is_safe(&program);
    hopeless.on_flush_interrupt(move |hw| hw.poll(|hw| (hw.load_local(&own) == 1).then_some(())));
    deadlocks(&hopeless);
}

#[test]
fn polls_nest() {
    let nested = |wanted| {
        with_setters(
            move |hw, words| {
                let sum = hw.poll(|hw| {
                    let first = hw.poll(|hw| match hw.load(&words[0]) {
                        0 => None,
                        first => Some(first),
                    });
                    match hw.load(&words[1]) {
                        second if second == wanted => Some(first + second),
                        _ => None,
                    }
                });
                assert_eq!(sum, 3);
            },
            2,
        )
    };
    is_safe(&nested(2));
    deadlocks(&nested(7));
}

#[test]
fn a_poll_reads_entries_and_virtual_addresses() {
    const PAGE: VirtAddr = VirtAddr(0);
    let mut program = Program::new("entries", 2);
    let word = program.atomic("word", 0);
    let (root, table) = (program.table(), program.table());
    let page = program.page_with_word(word);
    program.first_entry(root, 0, Entry::to(table));
    program.start_with_root(root);
    program.operation(0, "wait until it is mapped, then for its word", move |hw| {
        hw.poll(|hw| hw.read_entry(table, 0).is_present().then_some(()));
        let word = hw.poll(|hw| {
            hw.load_virtual(PAGE, Privilege::Supervisor)
                .filter(|&w| w != 0)
        });
        assert_eq!(word, 5);
    });
    let mut unmapped = program.clone();
    program.operation(1, "map", move |hw| {
        hw.write_entry(table, 0, Entry::to(page));
        hw.store(&word, 5);
    });
    is_safe(&program);
    unmapped.operation(1, "do not map", move |hw| hw.store(&word, 5));
    deadlocks(&unmapped);
}

#[test]
fn a_poll_through_a_translation_that_may_stay_cached_may_wait_for_ever() {
    const PAGE: VirtAddr = VirtAddr(0);
    for flushes in [true, false] {
        let mut program = Program::new("stale", 2);
        let (old, new) = (program.atomic("old", 0), program.atomic("new", 1));
        let root = program.table();
        let table = program.table();
        let old_page = program.page_with_word(old);
        let new_page = program.page_with_word(new);
        program.first_entry(root, 0, Entry::to(table));
        program.first_entry(table, 0, Entry::to(old_page));
        program.start_with_root(root);
        program.operation(1, "map another page", move |hw| {
            hw.write_entry(table, 0, Entry::to(new_page));
        });
        program.operation(0, "poll", move |hw| {
            hw.poll(|hw| {
                if flushes {
                    hw.invlpg(PAGE);
                }
                hw.load_virtual(PAGE, Privilege::Supervisor)
                    .filter(|&word| word == 1)
            });
        });
        match flushes {
            true => is_safe(&program),
            false => deadlocks(&program),
        }
    }
}

/// CPU 0 stores, says so and polls until CPU 1 has said so too; whoever sees that the other one has not yet
/// said anything goes first.
fn dekker(has_fence: bool, polls: bool) -> Program {
    let mut program = Program::new("dekker", 2);
    let flags = [program.atomic("flag 0", 0), program.atomic("flag 1", 0)];
    let inside = program.atomic("inside", 0);
    for me in 0..2 {
        let (own, other) = (flags[me], flags[1 - me]);
        program.operation(me as u8, "enter", move |hw| {
            hw.store(&own, 1);
            if has_fence {
                hw.fence();
            }
            if polls {
                hw.poll(|hw| match hw.load(&other) {
                    0 => Some(()),
                    // It gives way, and tries again.
                    _ => {
                        hw.store(&own, 0);
                        hw.store(&own, 1);
                        if has_fence {
                            hw.fence();
                        }
                        None
                    }
                });
            } else if hw.load(&other) != 0 {
                return;
            }
            assert_eq!(hw.fetch_add(&inside, 1), 0, "two are inside");
            hw.fetch_add(&inside, u64::MAX);
            hw.store(&own, 0);
        });
    }
    program
}

#[test]
fn a_lost_fence_is_found_through_a_poll_as_without() {
    for polls in [true, false] {
        // Who gives way may do so for ever, in step with the other one.
        let rests = |program: &Program, memory| {
            let expected = polls.then_some(Property::Deadlock);
            assert_eq!(check_on(program, memory), Ok(expected));
            let mut program = program.clone();
            program.ignore(Property::Deadlock);
            assert_eq!(check_on(&program, memory), Ok(None));
        };
        rests(&dekker(true, polls), MemoryModel::TSO);
        rests(&dekker(false, polls), MemoryModel::Sc);
        let found = check_on(&dekker(false, polls), MemoryModel::TSO);
        assert_eq!(found, Ok(Some(Property::Panic)));
    }
}

#[test]
fn a_store_that_waits_in_another_buffer_will_end_a_poll() {
    let mut program = Program::new("buffered", 2);
    let (word, done) = (program.atomic("word", 0), program.atomic("done", 0));
    program.operation(0, "poll", move |hw| {
        hw.poll(|hw| (hw.load(&word) == 1).then_some(()));
        hw.store(&done, 1);
    });
    program.operation(1, "store, then poll", move |hw| {
        hw.store(&word, 1);
        hw.poll(|hw| (hw.load(&done) == 1).then_some(()));
    });
    is_safe(&program);
}

/// Waits for a word when it is dropped: in an execution, and while the checker unwinds the code.
struct WaitsOnDrop<'a>(&'a ModelHw, AtomicCell);

impl Drop for WaitsOnDrop<'_> {
    fn drop(&mut self) {
        let WaitsOnDrop(hw, word) = *self;
        hw.poll(|hw| (hw.load(&word) == 1).then_some(()));
    }
}

#[test]
fn a_guard_may_poll_when_it_is_dropped() {
    let drops = |polls: bool| {
        with_setters(
            move |hw, words| {
                let _guard = WaitsOnDrop(hw, words[0]);
                if polls {
                    hw.poll(|hw| (hw.load(&words[1]) == 2).then_some(()));
                }
                hw.load(&words[0]);
            },
            2,
        )
    };
    is_safe(&drops(false));
    is_safe(&drops(true));
}

#[test]
fn notes_of_iterations_that_find_nothing_count_as_reached() {
    let mut program = with_setters(
        |hw, words| {
            hw.poll(|hw| match hw.load(&words[0]) {
                0 => {
                    hw.note("went round");
                    None
                }
                _ => Some(()),
            });
        },
        1,
    );
    program.expect_notes(["went round", "never"]);
    let verdict = Checker::new().check(&program);
    assert_eq!(verdict.unreached, ["never"]);
}
