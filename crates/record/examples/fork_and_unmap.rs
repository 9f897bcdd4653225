//! A load to measure recorders with: shells that fork, and two threads that unmap what each other may have cached.
//!
//! `cargo run --release -p lazytlb-record --example fork_and_unmap -- ROUNDS`
//!
//! The amount of work is fixed by the rounds. The elapsed seconds go to standard output: of the work alone, so that a recorder's way in
//! and out does not count.

use std::process::Command;
use std::thread;
use std::time::Instant;

/// Mappings of each thread in a round, each of so many pages.
const MAPPINGS: u64 = 100;
const PAGES: usize = 8;
const PAGE_BYTES: usize = 4096;
/// Subshells of a round. A shell's `(…)` is a fork that copies page tables; what Rust starts processes by is none.
const FORKS: &str = "for n in 1 2 3 4 5; do (true); done";

/// Maps, writes to each page, so that it is cached, and unmaps.
fn unmap(rounds: u64) -> std::io::Result<()> {
    for _ in 0..rounds * MAPPINGS {
        let mut mapping = memmap2::MmapMut::map_anon(PAGES * PAGE_BYTES)?;
        mapping
            .iter_mut()
            .step_by(PAGE_BYTES)
            .for_each(|byte| *byte = 1);
    }
    Ok(())
}

fn fork(rounds: u64) -> std::io::Result<()> {
    for _ in 0..rounds {
        let status = Command::new("sh").args(["-c", FORKS]).status()?;
        if !status.success() {
            return Err(std::io::Error::other("the shell failed"));
        }
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let rounds = std::env::args().nth(1).ok_or("give a number of rounds")?;
    let rounds: u64 = rounds.parse()?;
    let begin = Instant::now();
    thread::scope(|scope| {
        let threads = [
            scope.spawn(|| unmap(rounds)),
            scope.spawn(|| unmap(rounds)),
            scope.spawn(|| fork(rounds)),
        ];
        let ended = threads.map(|thread| thread.join().expect("it does not panic"));
        ended.into_iter().collect::<std::io::Result<()>>()
    })?;
    println!("{:.6} s", begin.elapsed().as_secs_f64());
    Ok(())
}
