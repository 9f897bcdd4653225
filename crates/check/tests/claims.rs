//! What a word claims to hold is tested against what the code does with it, and never believed.
#![allow(missing_docs, clippy::expect_used, clippy::unwrap_used)]

use lazytlb::{Cells, Hw, Payload, Policy, ProtocolWord, Until, ValueKind};
use lazytlb_check::{CheckError, Checker, LazyTlb, ModelHw, Program, Reduction, ShippedProgram};
use lazytlb_model::{AtomicCell, Rmw};

const MESSAGE: ValueKind = ValueKind::Message(Payload::Other);
const NEW_GENERATION: ValueKind = ValueKind::Message(Payload::Generation);

/// Something to do with a word that claims something, and with another one that holds a generation.
type Run = fn(&ModelHw, &AtomicCell, &AtomicCell);

/// Two CPUs; the first does something with a word of a kind.
fn program(kind: ValueKind, first_value: u64, run: Run) -> Program {
    let mut program = Program::new("claims", 2);
    let word = program.atomic_of_kind(kind, "word", first_value);
    let other = program.atomic_of_kind(ValueKind::Generation, "other", 5);
    program.operation(0, "use", move |hw| run(hw, &word, &other));
    program
}

fn try_check(program: &Program) -> Result<(), CheckError> {
    let reduced = Checker::new().try_check(program, |_| {}).map(drop);
    let checker = Checker::new().reduction(Reduction::None).threads(2);
    let plain = checker.try_check(program, |_| {}).map(drop);
    assert_eq!(
        reduced, plain,
        "a claim does not hang on how the search goes"
    );
    reduced
}

/// Checks that a claim is false, and that the error names the word, the kind, the call and what to do.
#[track_caller]
fn is_false(kind: ValueKind, first_value: u64, named: &[&str], run: Run) {
    let error = try_check(&program(kind, first_value, run)).expect_err("the claim is false");
    let CheckError::FalseClaim(message) = error else {
        panic!("{error}");
    };
    for text in ["\"word\"", "ValueKind::Other"].iter().chain(named) {
        assert!(message.contains(text), "{text} is not in: {message}");
    }
    try_check(&program(ValueKind::Other, first_value, run)).expect("`Other` claims nothing");
}

#[track_caller]
fn is_true(kind: ValueKind, first_value: u64, run: Run) {
    try_check(&program(kind, first_value, run)).expect("the claim is true");
}

#[test]
fn a_generation_is_raised_by_one_or_copied() {
    let kind = ValueKind::Generation;
    is_true(kind, 1, |hw, word, other| {
        let next = hw.fetch_add(word, 1) + 1;
        hw.store(other, next);
        let read = hw.load(other);
        hw.store(word, read);
        hw.swap(word, read + 1);
        hw.locked_rmw(word, 0xff, Rmw::SwapIf(read + 1), read);
        hw.pause_until(word, Until::AtLeast(read));
    });
    let named = |call| ["a generation", "CPU 0", "\"use\"", call];
    is_false(kind, 1, &named("adds 0x2"), |hw, word, _| {
        hw.fetch_add(word, 2);
    });
    is_false(kind, 1, &named("stores 0x7"), |hw, word, other| {
        hw.store(word, hw.load(other) + 2);
    });
    is_false(kind, 1, &named("stores 0x1"), |hw, word, _| {
        hw.store(word, 1)
    });
    is_false(kind, 1, &named("exchanges it for 0x0"), |hw, word, _| {
        hw.swap(word, 0);
    });
    is_false(kind, 1, &named("sets the bits 0x1"), |hw, word, _| {
        hw.fetch_or(word, 1);
    });
    is_false(
        kind,
        1,
        &named("keeps only the bits 0xff"),
        |hw, word, _| {
            hw.fetch_and(word, 0xff);
        },
    );
    is_false(kind, 1, &named("inverts"), |hw, word, _| {
        hw.locked_rmw(word, 0xff, Rmw::Xor, 0);
    });
    is_false(
        kind,
        1,
        &named("waits until it is 0x1 or more"),
        |hw, word, _| {
            hw.pause_until(word, Until::AtLeast(1));
        },
    );
    is_false(kind, 0, &named("waits until it is 0"), |hw, word, _| {
        hw.pause_until(word, Until::Zero);
    });
    is_false(kind, 1, &named("accesses bytes"), |hw, word, _| {
        hw.store_bytes(word, 1, 0);
    });
}

#[test]
fn a_generation_that_the_handler_has_read_is_not_the_operations() {
    let mut program = Program::new("captured", 1);
    let word = program.atomic_of_kind(ValueKind::Generation, "word", 7);
    let own = program.local_of_kind(0, ValueKind::Generation, "own", 7);
    // As if the number had come by a captured variable.
    program.operation(0, "use", move |hw| hw.store_local(&own, 7));
    program.on_flush_interrupt(move |hw| {
        let _ = hw.load(&word);
    });
    let error = try_check(&program).expect_err("nothing was read");
    let CheckError::FalseClaim(message) = error else {
        panic!("{error}");
    };
    assert!(message.contains("\"own\""), "{message}");
}

#[test]
fn a_set_of_cpus_has_bits_of_the_programs_cpus() {
    let kind = ValueKind::CpuSet;
    is_true(kind, 0b10, |hw, word, _| {
        hw.fetch_or(word, 0b1);
        hw.fetch_and(word, !0b1);
        hw.store(word, 0b11);
        hw.swap(word, 0);
        hw.pause_until(word, Until::Zero);
    });
    let named = |call| ["a set of CPUs", call];
    is_false(kind, 0, &named("sets the bits 0x4"), |hw, word, _| {
        hw.fetch_or(word, 0b100);
    });
    is_false(kind, 0, &named("stores 0x4"), |hw, word, _| {
        hw.store(word, 4)
    });
    is_false(kind, 0, &named("adds 0x1"), |hw, word, _| {
        hw.fetch_add(word, 1);
    });
    is_false(
        kind,
        1,
        &named("waits until it is 0x1 or more"),
        |hw, word, _| {
            hw.pause_until(word, Until::AtLeast(1));
        },
    );
    is_false(kind, 4, &named("begins as 0x4"), |hw, word, _| {
        hw.load(word);
    });
}

#[test]
fn a_flag_is_0_or_1() {
    let kind = ValueKind::Flag;
    is_true(kind, 1, |hw, word, _| {
        hw.store(word, 0);
        hw.swap(word, 1);
        hw.fetch_and(word, !1);
        hw.locked_rmw(word, 0xff, Rmw::Xor, 1);
        hw.pause_until(word, Until::Equals(1));
    });
    let named = |call| ["a flag", call];
    is_false(kind, 2, &named("begins as 0x2"), |hw, word, _| {
        hw.load(word);
    });
    is_false(kind, 0, &named("stores 0x2"), |hw, word, _| {
        hw.store(word, 2)
    });
    is_false(kind, 0, &named("sets the bits 0x2"), |hw, word, _| {
        hw.fetch_or(word, 2);
    });
    is_false(kind, 0, &named("adds 0x1"), |hw, word, _| {
        hw.fetch_add(word, 1);
    });
    is_false(kind, 0, &named("accesses bytes of it"), |hw, word, _| {
        hw.store_bytes(word, 0b10, 0x100);
    });
}

#[test]
fn a_message_is_stored_as_a_whole() {
    is_true(MESSAGE, 0, |hw, word, _| {
        hw.store(word, 0x1234_5678);
        hw.load(word);
    });
    is_true(NEW_GENERATION, 0, |hw, word, other| {
        hw.store(word, hw.fetch_add(other, 1) + 1);
        // A message of this kind is a source of generations as well.
        let sent = hw.load(word);
        hw.store(other, sent);
    });
    for kind in [MESSAGE, NEW_GENERATION] {
        let named = ["a message", "exchanges it for 0x0"];
        is_false(kind, 0, &named, |hw, word, _| {
            hw.swap(word, 0);
        });
    }
    let named = ["a message that carries a generation", "stores 0x9"];
    is_false(NEW_GENERATION, 0, &named, |hw, word, _| hw.store(word, 9));
}

#[test]
fn a_lock_is_taken_by_a_locked_instruction() {
    let kind = ValueKind::Lock;
    is_true(kind, 0, |hw, word, _| {
        while hw.swap(word, 1) == 1 {
            hw.pause_until(word, Until::Zero);
        }
        hw.store(word, 0);
        hw.fetch_or(word, 1);
        hw.fetch_and(word, !1);
        hw.locked_rmw(word, 0xff, Rmw::SwapIf(0), 1);
    });
    let named = |call| ["a lock", call];
    is_false(kind, 0, &named("stores 0x1"), |hw, word, _| {
        hw.store(word, 1)
    });
    is_false(kind, 0, &named("exchanges it for 0x2"), |hw, word, _| {
        hw.swap(word, 2);
    });
    is_false(kind, 0, &named("adds 0x1"), |hw, word, _| {
        hw.fetch_add(word, 1);
    });
    is_false(kind, 3, &named("begins as 0x3"), |hw, word, _| {
        hw.load(word);
    });
}

#[test]
fn a_promise_is_copied_and_compared() {
    let kind = ValueKind::Promise;
    is_true(kind, 3, |hw, word, _| {
        let mine = hw.swap(word, 0);
        hw.store(word, mine);
        hw.pause_until(word, Until::Equals(mine));
    });
    let named = |call| ["a promise", call];
    is_false(kind, 3, &named("adds 0x1"), |hw, word, _| {
        hw.fetch_add(word, 1);
    });
    is_false(kind, 3, &named("keeps only the bits 0x1"), |hw, word, _| {
        hw.fetch_and(word, 1);
    });
    is_false(
        kind,
        3,
        &named("waits until it is 0x1 or more"),
        |hw, word, _| {
            hw.pause_until(word, Until::AtLeast(1));
        },
    );
}

#[test]
fn a_word_of_a_page_claims_nothing() {
    let mut program = program(ValueKind::Flag, 0, |hw, word, _| {
        hw.load(word);
    });
    program.page_with_word(AtomicCell(0));
    let error = try_check(&program).expect_err("user code may write anything");
    let CheckError::FalseClaim(message) = error else {
        panic!("{error}");
    };
    assert!(message.contains("\"word\" is made as a flag, but it lies in a page"));
}

/// A claim is tested where the code gets only by what another CPU does.
#[test]
fn a_claim_that_is_false_on_one_way_only_is_found() {
    let mut program = Program::new("one way", 2);
    let word = program.atomic_of_kind(ValueKind::Flag, "word", 0);
    let other = program.atomic("other", 0);
    program.operation(0, "tell", move |hw| hw.store(&other, 1));
    program.operation(1, "count", move |hw| {
        if hw.load(&other) == 1 {
            hw.store(&word, 2);
        }
    });
    let error = try_check(&program).expect_err("CPU 1 may see the store");
    let CheckError::FalseClaim(message) = error else {
        panic!("{error}");
    };
    assert!(
        message.contains("CPU 1 stores 0x2 in \"count\""),
        "{message}"
    );
}

/// The proofs test the claims of the shipped programs at every place; this looks at each program once.
#[test]
fn the_claims_of_the_shipped_programs_hold() {
    for shipped in ShippedProgram::<LazyTlb>::all() {
        for &policy in Policy::ALL {
            let program = shipped.build(policy);
            let checked = Checker::new()
                .max_states(20_000)
                .try_check(&program, |_| {});
            if let Err(error) = checked {
                panic!("{} under {policy}: {error}", shipped.name);
            }
        }
    }
}

/// Words of the protocol claim what they are: one that does not keep it is found.
#[test]
fn the_protocols_words_bring_their_claims() {
    let mut program = Program::new("words", 1);
    let lazy = program
        .cells("cpu0", 0)
        .protocol_atomic(ProtocolWord::IsLazy, 0);
    let flushed = program
        .cells("cpu0", 0)
        .protocol_local(ProtocolWord::FlushedTo, 0);
    let mut wrong_generation = program.clone();
    program.operation(0, "use", move |hw| hw.store(&lazy, 2));
    wrong_generation.operation(0, "use", move |hw| hw.store_local(&flushed, 3));
    for (program, named) in [
        (program, "\"cpu0.is_lazy\" is made as a flag"),
        (
            wrong_generation,
            "\"cpu0.flushed_to\" is made as a generation",
        ),
    ] {
        let error = try_check(&program)
            .expect_err("the claim is false")
            .to_string();
        assert!(error.contains(named), "{error}");
    }
}
