//! Code that keeps state outside of the program's words is refused: a search runs code in an order of its own, and
//! would call it safe.
#![allow(missing_docs, clippy::expect_used)]

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lazytlb::{Access, CpuId, CpuSet, Cr3Load, Entry, FlushRange, Hw, Memory, Until, VirtAddr};
use lazytlb_check::{CheckError, Checker, ModelHw, Program, Reduction};
use lazytlb_model::MemoryModel;

/// Whether the program is given as it is, or as the function that builds it.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Given {
    AsItIs,
    AsItsFunction,
}

const BOTH: [Given; 2] = [Given::AsItIs, Given::AsItsFunction];

/// Checks that a program is refused, and that the error names the routine, and says what to do.
#[track_caller]
fn is_refused(given: &[Given], named: &[&str], build: fn() -> Program) {
    for &given in given {
        for checker in [
            Checker::new(),
            Checker::new().memory(MemoryModel::Sc),
            Checker::new().threads(2),
            Checker::new().reduction(Reduction::None),
        ] {
            let checker = checker.max_time(Duration::from_secs(5));
            let checked = match given {
                Given::AsItIs => checker.try_check(&build(), |_| {}),
                Given::AsItsFunction => checker.try_check_built(build, |_| {}),
            };
            let error = match checked {
                Err(error) => error,
                Ok(verdict) => panic!("{given:?}: {}", verdict.name()),
            };
            let CheckError::Nondeterminism(message) = &error else {
                panic!("{error:?}");
            };
            for text in ["Program::atomic", "captured"].iter().chain(named) {
                assert!(
                    message.contains(text),
                    "{given:?}: {text} is not in: {message}"
                );
            }
        }
    }
}

fn to_cpu_0(hw: &ModelHw) {
    let mut target = CpuSet::<1>::EMPTY;
    target.insert(CpuId(0));
    hw.send_ipi(&target);
}

/// Two CPUs and a handler, which CPU 1 calls on CPU 0.
fn interrupted(
    operation: impl Fn(&ModelHw) + Send + Sync + 'static,
    handler: impl Fn(&ModelHw) + Send + Sync + 'static,
) -> Program {
    let mut program = Program::new("interrupted", 2);
    program.proves("nothing: it is to be refused");
    program.operation(0, "work", operation);
    program.operation(1, "interrupt", to_cpu_0);
    program.on_flush_interrupt(handler);
    program
}

/// The first run of the code sets the flag, and sees only how that begins.
#[test]
fn a_flag_that_is_set_before_the_first_seam_call() {
    is_refused(
        &[Given::AsItsFunction],
        &["CPU 0", "\"once\"", "word = 2"],
        || {
            let mut program = Program::new("flag", 1);
            program.proves("nothing: it is to be refused");
            let (word, was_here) = (program.atomic("word", 0), AtomicBool::new(false));
            program.operation(0, "once", move |hw| {
                let is_first = !was_here.swap(true, Ordering::Relaxed);
                hw.store(&word, 1);
                if is_first {
                    hw.store(&word, 2);
                }
            });
            program
        },
    );
}

/// As the search unwinds the code at every call, the guard has dropped when the handler runs.
#[test]
fn a_guard_that_takes_its_flag_back_when_it_drops() {
    struct Busy<'a>(&'a AtomicBool);
    impl Drop for Busy<'_> {
        fn drop(&mut self) {
            self.0.store(false, Ordering::Relaxed);
        }
    }
    is_refused(
        &BOTH,
        &["\"flush interrupt\"", "\"work\" is suspended"],
        || {
            let busy = Arc::new(AtomicBool::new(false));
            let seen = Arc::clone(&busy);
            interrupted(
                move |hw| {
                    busy.store(true, Ordering::Relaxed);
                    let _busy = Busy(&busy);
                    hw.invlpg(VirtAddr(0));
                    hw.fence();
                },
                move |hw| {
                    if !seen.load(Ordering::Relaxed) {
                        hw.invlpg(VirtAddr(0));
                    }
                },
            )
        },
    );
}

/// A handler would wait for ever for the lock that the code holds under it.
#[test]
fn a_captured_lock() {
    let checker = Checker::new().max_time(Duration::from_secs(1));
    let build = || {
        let lock = Arc::new(Mutex::new(()));
        let same = Arc::clone(&lock);
        interrupted(
            move |hw| {
                let _held = lock.lock().unwrap_or_else(PoisonError::into_inner);
                hw.invlpg(VirtAddr(0));
            },
            move |hw| {
                let _held = same.lock().unwrap_or_else(PoisonError::into_inner);
                hw.invlpg(VirtAddr(0));
            },
        )
    };
    for checked in [
        checker.try_check(&build(), |_| {}),
        checker.try_check_built(build, |_| {}),
    ] {
        let error = checked.expect_err("the handler never gets the lock");
        let CheckError::Nondeterminism(message) = &error else {
            panic!("{error:?}");
        };
        for text in [
            "\"flush interrupt\"",
            "does not come back",
            "lock",
            "\"work\"",
        ] {
            assert!(message.contains(text), "{text} is not in: {message}");
        }
    }
}

#[test]
fn a_thread_local_variable() {
    thread_local! {
        static WAS_HERE: Cell<bool> = const { Cell::new(false) };
    }
    is_refused(&BOTH, &["CPU 0", "\"once\""], || {
        let mut program = Program::new("thread-local", 1);
        program.proves("nothing: it is to be refused");
        let word = program.atomic("word", 0);
        program.operation(0, "once", move |hw| {
            let was_here = WAS_HERE.replace(true);
            hw.store(&word, 1);
            if !was_here {
                hw.store(&word, 2);
            }
        });
        program
    });
}

/// All of the operation is known before the handler comes for the first time.
#[test]
fn a_counter_that_an_operation_shares_with_its_handler() {
    is_refused(&BOTH, &["CPU 0", "\"work\""], || {
        let count = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&count);
        interrupted(
            move |hw| {
                hw.invlpg(VirtAddr(0));
                if counted.load(Ordering::Relaxed) == 0 {
                    hw.fence();
                }
            },
            move |hw| {
                count.fetch_add(1, Ordering::Relaxed);
                hw.invlpg(VirtAddr(0));
            },
        )
    });
}

/// CPU 1 says that it is lazy, and CPU 0 then spares it: the bug, if it comes back and does not catch up.
fn lazy_flag(
    set: impl Fn(&ModelHw, u64) + Clone + Send + Sync + 'static,
    get: impl Fn(&ModelHw) -> u64 + Send + Sync + 'static,
    mut program: Program,
) -> Program {
    let page = VirtAddr(0);
    let (root, table, frame) = (program.table(), program.table(), program.page());
    program.first_entry(root, 0, Entry::to(table));
    program.first_entry(table, 0, Entry::to(frame));
    let pending = program.atomic("pending", 0);
    program.operation(0, "unmap", move |hw| {
        hw.write_entry(table, 0, Entry::ABSENT);
        hw.flush_begins(root, FlushRange::page(page));
        hw.fence();
        if get(hw) == 0 {
            hw.fetch_add(&pending, 1);
            let mut target = CpuSet::<1>::EMPTY;
            target.insert(CpuId(1));
            hw.send_ipi(&target);
            hw.pause_until(&pending, Until::Zero);
        }
        hw.flush_returned(root);
    });
    program.operation(1, "use the page", move |hw| {
        hw.load_cr3(root, Cr3Load::Flush);
        hw.touch(page, Access::Load);
    });
    let (lazy, awake) = (set.clone(), set);
    program.operation(1, "go lazy", move |hw| lazy(hw, 1));
    program.operation(1, "come back", move |hw| {
        awake(hw, 0);
        hw.touch(page, Access::Load);
    });
    program.on_flush_interrupt(move |hw| {
        hw.invlpg(page);
        hw.store(&pending, 0);
    });
    program
}

#[test]
fn a_captured_lazy_flag() {
    let mut in_a_word = Program::new("lazy flag", 2);
    let word = in_a_word.atomic("is_lazy", 0);
    let in_a_word = lazy_flag(
        move |hw, value| {
            hw.swap(&word, value);
        },
        move |hw| hw.load(&word),
        in_a_word,
    );
    assert_eq!(Checker::new().check(&in_a_word).name(), "violation");
    is_refused(&BOTH, &["CPU 0", "\"unmap\""], || {
        let flag = Arc::new(AtomicU64::new(0));
        let read = Arc::clone(&flag);
        lazy_flag(
            move |_, value| flag.store(value, Ordering::SeqCst),
            move |_| read.load(Ordering::SeqCst),
            Program::new("lazy flag", 2),
        )
    });
}

/// The flag is set by an operation without a call, taken back by the next one, and read by the handler alone.
#[test]
fn a_captured_flag_that_lives_from_one_operation_to_the_next() {
    is_refused(
        &BOTH,
        &["\"flush interrupt\"", "right after \"go lazy\""],
        || {
            let flag = Arc::new(AtomicU64::new(0));
            let [lazy, awake] = [0, 1].map(|_| Arc::clone(&flag));
            let mut program = Program::new("two operations", 2);
            program.proves("nothing: it is to be refused");
            program.operation(0, "go lazy", move |_| lazy.store(1, Ordering::Relaxed));
            program.operation(0, "come back", move |hw| {
                awake.store(0, Ordering::Relaxed);
                hw.invlpg(VirtAddr(0));
            });
            program.operation(1, "interrupt", to_cpu_0);
            program.on_flush_interrupt(move |hw| {
                if flag.load(Ordering::Relaxed) == 0 {
                    hw.invlpg(VirtAddr(0));
                }
            });
            program
        },
    );
}

#[test]
fn a_function_that_builds_another_program_each_time() {
    let built = AtomicU64::new(0);
    let build = || {
        let mut program = Program::new("counted", 1);
        program.proves("nothing: it is to be refused");
        let word = program.atomic("word", built.fetch_add(1, Ordering::Relaxed));
        program.operation(0, "read", move |hw| {
            hw.load(&word);
        });
        program
    };
    let error = Checker::new()
        .try_check_built(build, |_| {})
        .expect_err("the word begins as another value");
    let message = error.to_string();
    assert!(
        message.contains("\"counted\"") && message.contains("shared cells"),
        "{message}"
    );
}

/// State that no call depends on is nobody's business; nor is a lock that is not held across a call.
#[test]
fn what_has_no_influence_is_no_error() {
    let build = || {
        let log = Arc::new(Mutex::new(Vec::new()));
        let also = Arc::clone(&log);
        interrupted(
            move |hw| {
                log.lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push("work");
                hw.invlpg(VirtAddr(0));
            },
            move |hw| {
                also.lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push("handler");
                hw.invlpg(VirtAddr(0));
            },
        )
    };
    assert!(Checker::new().check_built(build).is_safe());
    assert!(Checker::new().check(&build()).is_safe());
}
