//! Translations that are walked again after everything was flushed.

use std::time::{Duration, Instant};

use memmap2::{Advice, MmapMut, MmapOptions};

use crate::error::CalibrateError;
use crate::samples::{Samples, Span};

const PAGE_BYTES: usize = 4096;
/// Pages that are used between two flushes: few, a first-level TLB's worth, a second-level TLB's.
const WORKING_SETS: [usize; 3] = [50, 300, 1536];
/// More pages than the kernel invalidates one by one (33).
const FLUSHED_PAGES: usize = 64;
const ROUNDS: usize = 100;

/// Measures what a full flush costs by the walks after it, in nanoseconds: the least with few pages, the most with many.
///
/// # Errors
/// If memory cannot be mapped.
pub(crate) fn measure() -> Result<Span, CalibrateError> {
    let [few, some, many] = WORKING_SETS.map(walked_again);
    Ok(Span {
        low: few?,
        typical: some?,
        high: many?,
    })
}

fn walked_again(pages: usize) -> Result<f64, CalibrateError> {
    let mut used = anonymous(pages)?;
    touch(&mut used);
    let warm = Samples::of((0..ROUNDS).map(|_| timed_touch(&mut used)));
    let mut cold = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        touch(&mut used);
        let mut flushed = anonymous(FLUSHED_PAGES)?;
        touch(&mut flushed);
        touch(&mut used);
        drop(flushed);
        cold.push(timed_touch(&mut used));
    }
    Ok(Samples::of(cold).beyond(&warm).typical)
}

fn anonymous(pages: usize) -> Result<MmapMut, CalibrateError> {
    let memory = MmapOptions::new().len(pages * PAGE_BYTES).map_anon();
    let memory = memory.map_err(CalibrateError::Map)?;
    let _ = memory.advise(Advice::NoHugePage);
    Ok(memory)
}

/// Reads a byte of each page, of another cache line each.
fn touch(memory: &mut [u8]) {
    for (number, page) in memory.chunks_mut(PAGE_BYTES).enumerate() {
        let place = number * 64 % PAGE_BYTES;
        page[place] = page[place].wrapping_add(1);
    }
}

fn timed_touch(memory: &mut [u8]) -> Duration {
    let begin = Instant::now();
    touch(std::hint::black_box(memory));
    begin.elapsed()
}
