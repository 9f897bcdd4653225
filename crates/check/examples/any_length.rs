//! A protocol that is nobody's: CPU 1 flushes when it begins to work and the generation is not the one that it saw last; it
//! works, and CPU 0 unmaps, any number of times. `cargo run --release -p lazytlb-check --example any_length`

use lazytlb::{Access, Entry, FlushRange, FrameKind, Hw, Memory, Until, ValueKind, VirtAddr};
use lazytlb::{Cr3Load, PhysAddr};
use lazytlb_check::{CheckError, Checker, MenuItem, Program, Verdict};

const PAGE: VirtAddr = VirtAddr(0);

/// Checks every program of any length over the two menus, given how CPU 1 compares what it saw with what is.
pub(crate) fn check(is_behind: fn(u64, u64) -> bool) -> Result<Verdict, CheckError> {
    let mut program = Program::new("generations", 2);
    let (root, table) = (program.table(), program.table());
    program.free_frames(1);
    program.first_entry(root, 0, Entry::to(table));
    program.start_with_root(root);
    let generation = program.atomic_of_kind(ValueKind::Generation, "generation", 1);
    let seen = program.local_of_kind(1, ValueKind::Generation, "seen", 1);
    let works = program.atomic_of_kind(ValueKind::Flag, "works", 0);
    let map_and_unmap = move |hw: &lazytlb_check::ModelHw| {
        let page: PhysAddr = hw.alloc_frame(FrameKind::Page);
        hw.write_entry(table, 0, Entry::to(page));
        hw.write_entry(table, 0, Entry::ABSENT);
        hw.flush_begins(root, FlushRange::page(PAGE));
        // Locked: CPU 1 sees the absent entry, too, or is seen to work.
        hw.fetch_add(&generation, 1);
        hw.pause_until(&works, Until::Zero);
        hw.flush_returned(root);
        hw.free_frame(page);
    };
    program.offer(0, MenuItem::new("map and unmap", map_and_unmap));
    let work = move |hw: &lazytlb_check::ModelHw| {
        hw.swap(&works, 1);
        let now = hw.load(&generation);
        if is_behind(hw.load_local(&seen), now) {
            hw.load_cr3(root, Cr3Load::Flush);
            hw.store_local(&seen, now);
        }
        hw.touch(PAGE, Access::Load);
        hw.store(&works, 0);
    };
    program.offer(1, MenuItem::new("work", work));
    Checker::new().try_check(&program, |_| {})
}

fn main() {
    let compares: fn(u64, u64) -> bool = |seen, now| seen != now;
    let subtracts: fn(u64, u64) -> bool = |seen, now| (1..40).contains(&(now - seen));
    for is_behind in [compares, subtracts] {
        match check(is_behind) {
            Ok(verdict) => println!(
                "{}: {}",
                verdict.name(),
                verdict.statement.unwrap_or_default()
            ),
            Err(error) => println!("refused: {error}"),
        }
    }
}
