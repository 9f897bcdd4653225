//! What the seam answers while code unwinds: guards drop, and what they ask is no part of any execution.
//!
//! A run ends by unwinding the code. A guard's `Drop` may then make seam calls, which all answer 0. One that
//! polls wants an answer which ends its loop, and nobody knows which: so some are tried.

use std::cell::Cell;

/// The answers that come next.
#[derive(Clone, Copy, Debug)]
enum Answers {
    /// This one, to every call.
    Same(u64),
    /// Small ones at random, from this seed.
    Mixed(u64),
}

thread_local! {
    static ANSWERS: Cell<Answers> = const { Cell::new(Answers::Same(0)) };
}

/// Returns what the seam answers now.
pub(crate) fn answer() -> u64 {
    match ANSWERS.get() {
        Answers::Same(answer) => answer,
        Answers::Mixed(seed) => {
            // Source: Knuth's MMIX generator; its high bits are the good ones.
            let seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            ANSWERS.set(Answers::Mixed(seed));
            seed >> 62
        }
    }
}

/// Runs the body of a poll until it finds something.
pub(crate) fn poll(finds: impl Fn() -> bool) {
    let same = (0..256).chain([u64::MAX]).map(Answers::Same);
    for answers in same.chain((0..100_000).map(Answers::Mixed)) {
        ANSWERS.set(answers);
        let found = finds();
        ANSWERS.set(Answers::Same(0));
        if found {
            return;
        }
    }
    // A panic would abort without a word: the code unwinds already.
    eprintln!(
        "a guard polls when it is dropped, and nothing ends its loop while the checker unwinds the code: \
         let the guard poll only if `std::thread::panicking()` is false"
    );
    std::process::abort()
}
