//! Locked instructions and fences.

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::time::{Duration, Instant};

use crate::samples::{Samples, Span};

const EACH: u32 = 2000;
const ROUNDS: u32 = 50;

/// Measures a locked instruction on a word that nobody else uses, in nanoseconds.
pub(crate) fn locked() -> Span {
    let word = AtomicU64::new(0);
    each(|| {
        black_box(&word).fetch_add(1, Ordering::SeqCst);
    })
}

/// Measures a full fence behind one store, in nanoseconds.
pub(crate) fn fences() -> Span {
    let word = AtomicU64::new(0);
    each(|| {
        black_box(&word).store(1, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    })
}

/// Times one of many in a row. The loop around them is no part that can be told from them: both overlap.
fn each(what: impl Fn()) -> Span {
    let samples = Samples::of((0..ROUNDS).map(|_| {
        let begin = Instant::now();
        (0..EACH).for_each(|_| what());
        begin.elapsed()
    }));
    let nothing = Samples::of([Duration::ZERO]);
    samples.beyond(&nothing).times(1.0 / f64::from(EACH))
}
