//! CPUs that go on for ever and come to no rest are found; and what only looks like them is proved.
#![allow(missing_docs, clippy::expect_used, clippy::unwrap_used)]

use lazytlb::{Hw, Poll, Until, ValueKind};
use lazytlb_check::{Checker, Finding, MenuItem, ModelHw, Program};
use lazytlb_model::{AtomicCell, Property};

use rest::{is_safe, livelock, waits};

mod rest;

fn take(hw: &ModelHw, lock: &AtomicCell) {
    hw.poll(|hw| (hw.swap(lock, 1) == 0).then_some(()));
}

/// Takes one lock and tries the other; frees the first and begins anew if that is taken.
fn take_both(hw: &ModelHw, [first, second]: [AtomicCell; 2]) {
    hw.poll(|hw| {
        take(hw, &first);
        if hw.swap(&second, 1) == 0 {
            return Some(());
        }
        hw.store(&first, 0);
        None
    });
    hw.store(&second, 0);
    hw.store(&first, 0);
}

#[derive(Clone, Copy)]
enum Kind {
    Written,
    Menu,
}

/// A program in which each CPU does something with two locks.
fn with_locks(
    kind: Kind,
    cpus: u8,
    run: impl Fn(&ModelHw, u8, [AtomicCell; 2]) + Copy + Send + Sync + 'static,
) -> Program {
    let mut program = Program::new("locks", cpus);
    let locks = ["a", "b"].map(|name| program.atomic_of_kind(ValueKind::Lock, name, 0));
    for cpu in 0..cpus {
        let run = move |hw: &ModelHw| run(hw, cpu, locks);
        match kind {
            Kind::Written => program.operation(cpu, format!("work {cpu}"), run),
            Kind::Menu => program.offer(cpu, MenuItem::new(format!("work {cpu}"), run)),
        }
    }
    program
}

#[test]
fn two_cpus_that_take_two_locks_both_ways_and_give_them_back_are_found() {
    for kind in [Kind::Written, Kind::Menu] {
        let both_ways = with_locks(kind, 2, |hw, cpu, [a, b]| match cpu {
            0 => take_both(hw, [a, b]),
            _ => take_both(hw, [b, a]),
        });
        let what = livelock(&both_ways);
        assert!(
            what.starts_with("CPU 0 and CPU 1 go on for ever, and neither comes to rest")
                && what.contains("\"work 0\"")
                && what.contains("\"work 1\""),
            "{what}"
        );
        is_safe(&with_locks(kind, 2, |hw, _, locks| take_both(hw, locks)));
    }
}

#[test]
fn neither_operations_that_may_start_nor_a_third_cpu_rescue_them() {
    let both_ways = |hw: &ModelHw, cpu: u8, [a, b]: [AtomicCell; 2]| match cpu {
        0 => take_both(hw, [a, b]),
        _ => take_both(hw, [b, a]),
    };
    let mut program = with_locks(Kind::Menu, 2, both_ways);
    let word = program.atomic("word", 0);
    let other = MenuItem::new("else", move |hw: &ModelHw| hw.store(&word, 0));
    program.offer(0, other);
    livelock(&program);
    livelock(&with_locks(Kind::Written, 3, both_ways));
}

#[test]
fn one_cpu_that_toggles_a_word_for_ever_is_found_whatever_the_others_did() {
    let toggles = |others: u8| {
        let mut program = Program::new("toggles", 1 + others);
        let (word, end) = (program.atomic("word", 0), program.atomic("end", 0));
        program.operation(0, "toggle", move |hw| {
            hw.poll(|hw| {
                hw.fetch_add(&word, 1);
                hw.fetch_add(&word, u64::MAX);
                (hw.load(&end) == 7).then_some(())
            });
        });
        for cpu in 1..=others {
            program.operation(cpu, "end", move |hw| hw.store(&end, cpu.into()));
        }
        program
    };
    let what = livelock(&toggles(2));
    assert!(
        what.starts_with("CPU 0 goes on for ever, and does not come to rest: CPU 0 in \"toggle\""),
        "{what}"
    );
}

/// CPU 0 toggles a word until another CPU says that it ends; that does something before.
fn until_told(before: impl Fn(&ModelHw, AtomicCell) + Send + Sync + 'static) -> Program {
    let mut program = Program::new("until told", 2);
    let (word, end) = (program.atomic("word", 0), program.atomic("end", 0));
    program.operation(0, "toggle", move |hw| {
        hw.poll(|hw| {
            hw.store(&word, 1);
            hw.store(&word, 0);
            (hw.load(&end) == 1).then_some(())
        });
    });
    program.operation(1, "say end", move |hw| {
        before(hw, word);
        hw.store(&end, 1);
    });
    program
}

#[test]
fn whoever_can_go_on_does_and_its_stores_become_visible() {
    is_safe(&until_told(|_, _| {}));
    is_safe(&until_told(|hw, _| hw.fence()));
}

#[test]
fn whoever_waits_for_a_word_that_toggles_may_miss_it_for_ever() {
    let misses = until_told(|hw, word| hw.pause_until(&word, Until::Equals(1)));
    let what = livelock(&misses);
    assert!(what.contains("CPU 1 waits in \"say end\""), "{what}");
    livelock(&until_told(|hw, word| {
        hw.poll(|hw| (hw.load(&word) == 1).then_some(()));
    }));
}

#[test]
fn spin_locks_whose_holders_go_on_are_no_livelock() {
    for kind in [Kind::Written, Kind::Menu] {
        is_safe(&with_locks(kind, 2, |hw, _, [lock, _]| {
            take(hw, &lock);
            hw.store(&lock, 0);
        }));
        is_safe(&with_locks(kind, 2, |hw, _, [lock, _]| {
            hw.poll(|hw| {
                hw.poll(|hw| (hw.load(&lock) == 0).then_some(()));
                (hw.swap(&lock, 1) == 0).then_some(())
            });
            hw.store(&lock, 0);
        }));
        is_safe(&with_locks(kind, 3, |hw, _, [lock, _]| {
            take(hw, &lock);
            hw.store(&lock, 0);
        }));
    }
}

#[test]
fn tickets_are_served_in_turn() {
    let mut program = Program::new("tickets", 3);
    let (next, served) = (program.atomic("next", 0), program.atomic("served", 0));
    for cpu in 0..3 {
        program.operation(cpu, "take a ticket", move |hw| {
            let own = hw.fetch_add(&next, 1);
            hw.poll(|hw| (hw.load(&served) == own).then_some(()));
            hw.store(&served, own + 1);
        });
    }
    is_safe(&program);
}

#[test]
fn a_lock_that_is_given_back_again_and_again_may_be_missed_but_a_ticket_is_not() {
    // CPU 0 looks at a word under the lock, again and again; CPU 1 sets it under the same lock.
    livelock(&with_locks(Kind::Written, 2, |hw, cpu, [lock, word]| {
        if cpu == 0 {
            hw.poll(|hw| {
                take(hw, &lock);
                let is_set = hw.load(&word) == 1;
                hw.store(&lock, 0);
                is_set.then_some(())
            });
            hw.store(&word, 0);
        } else {
            take(hw, &lock);
            hw.swap(&word, 1);
            hw.store(&lock, 0);
        }
    }));
    let mut program = Program::new("turns", 2);
    let (turn, word) = (program.atomic("turn", 0), program.atomic("word", 0));
    program.operation(0, "look", move |hw| {
        hw.poll(|hw| {
            hw.poll(|hw| (hw.load(&turn) == 0).then_some(()));
            let is_set = hw.load(&word) == 1;
            hw.store(&turn, 1);
            is_set.then_some(())
        });
    });
    program.operation(1, "set", move |hw| {
        hw.poll(|hw| (hw.load(&turn) == 1).then_some(()));
        hw.store(&word, 1);
        hw.store(&turn, 0);
    });
    is_safe(&program);
}

#[test]
fn a_retry_with_a_bound_ends() {
    is_safe(&with_locks(Kind::Written, 2, |hw, cpu, [a, b]| {
        let [first, second] = if cpu == 0 { [a, b] } else { [b, a] };
        for _ in 0..3 {
            take(hw, &first);
            let has_both = hw.swap(&second, 1) == 0;
            if has_both {
                hw.store(&second, 0);
            }
            hw.store(&first, 0);
            if has_both {
                return;
            }
        }
    }));
}

#[test]
fn a_poll_sees_what_its_own_cpu_or_another_has_stored() {
    let mut program = Program::new("drains", 2);
    let (word, seen) = (program.atomic("word", 0), program.atomic("seen", 0));
    program.operation(0, "store, then poll", move |hw| {
        hw.store(&word, 1);
        hw.poll(|hw| (hw.load(&seen) == 1).then_some(()));
    });
    program.operation(1, "poll, then store", move |hw| {
        hw.poll(|hw| (hw.load(&word) == 1).then_some(()));
        hw.store(&seen, 1);
    });
    is_safe(&program);
}

/// Two CPUs with an inbox each: who gets a message answers it.
fn answers(ends: u64) -> Program {
    let mut program = Program::new("answers", 2);
    let inboxes = ["inbox 0", "inbox 1"].map(|name| program.atomic(name, 0));
    for cpu in 0..2 {
        let (own, other) = (inboxes[cpu], inboxes[1 - cpu]);
        program.operation(cpu as u8, format!("answer {cpu}"), move |hw| {
            if cpu == 0 {
                hw.swap(&other, 1);
            }
            hw.poll(|hw| {
                let message = hw.swap(&own, 0);
                match message {
                    0 => None,
                    _ if message == ends => Some(()),
                    1 => {
                        hw.swap(&other, 2);
                        None
                    }
                    _ => {
                        hw.swap(&other, 1);
                        None
                    }
                }
            });
        });
    }
    program
}

#[test]
fn cpus_that_answer_each_other_for_ever_are_found() {
    let what = livelock(&answers(7));
    assert!(what.contains("neither comes to rest"), "{what}");
    // One of them ends; the other waits quietly then.
    let what = waits(&answers(2));
    assert!(what.contains("no CPU can go on"), "{what}");
}

#[test]
fn generations_that_count_on_for_ever_come_round_under_new_names() {
    let mut program = Program::new("counts", 2);
    let generation = program.atomic_of_kind(ValueKind::Generation, "generation", 1);
    let end = program.atomic_of_kind(ValueKind::Flag, "end", 0);
    program.offer(
        0,
        MenuItem::new("count", move |hw: &ModelHw| {
            hw.poll(|hw| {
                hw.fetch_add(&generation, 1);
                (hw.load(&end) == 1).then_some(())
            });
        }),
    );
    program.offer(
        1,
        MenuItem::new("look", move |hw: &ModelHw| {
            let seen = hw.load(&generation);
            if hw.load(&generation) == seen {
                hw.load(&end);
            }
        }),
    );
    let what = livelock(&program);
    assert!(what.contains("CPU 0 in \"count\""), "{what}");
}

#[test]
fn what_is_ignored_is_not_looked_for() {
    let mut program = answers(7);
    program.ignore(Property::Deadlock);
    is_safe(&program);
}

#[test]
fn a_search_that_meets_its_limit_while_it_looks_for_livelocks_proves_nothing() {
    let mut program = with_locks(Kind::Written, 3, |hw, _, [lock, _]| {
        take(hw, &lock);
        hw.store(&lock, 0);
    });
    program.proves("all come to rest");
    let whole = Checker::new().check(&program);
    assert!(whole.is_safe());
    let bytes = whole.effort.memory_bytes;
    let verdict = Checker::new().max_memory_bytes(bytes + 1).check(&program);
    let Finding::Incomplete { why } = &verdict.finding else {
        panic!("{}", verdict.name());
    };
    assert!(why.contains("looking for livelocks"), "{why}");
}
