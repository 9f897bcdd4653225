//! Walks of page tables by software, without a lock, of spaces that this CPU need not have loaded.

use core::sync::atomic::{AtomicU64, Ordering};

use lazytlb::VirtAddr;
use x86_64::instructions::interrupts::without_interrupts;

use crate::breaks::Break;
use crate::machine::{hw, tlb};
use crate::page_id::Place;
use crate::paging::{self, Level};
use crate::space::Space;
use crate::{breaking, clock, cpu, ending, frames};

/// Walks that came to a page.
pub static CAME_TO_A_PAGE: AtomicU64 = AtomicU64::new(0);

/// How long a walk stays at each table: time enough for others to free it.
const DAWDLES_MICROSECONDS: u64 = 3;

/// Follows the entries to a page, as far as they go, under a guard; the space stays meanwhile. Ends the run where a table was freed: every
/// word of a free frame is poison.
pub fn walk(space: &Space, place: Place) {
    if breaking::is(Break::WalkUnguarded) {
        return without_interrupts(|| follow(space, place, breaking::WINDOW_MICROSECONDS));
    }
    let _guard = tlb().walk(hw());
    follow(space, place, DAWDLES_MICROSECONDS);
}

fn follow(space: &Space, place: Place, dawdles_microseconds: u64) {
    let mut table = space.root();
    for level in [Level::Root, Level::Directories, Level::Tables, Level::Pages] {
        clock::wait_microseconds(dawdles_microseconds);
        let entry = paging::entry(table, VirtAddr(place.address()), level).load(Ordering::Acquire);
        if entry == frames::POISON {
            ending::violation(format_args!(
                "CPU {} walks the page tables of space {} by software, and finds the table {:#x} freed",
                cpu::current(),
                space.index().0,
                table.0
            ));
        }
        match paging::target(entry) {
            Some(_) if level == Level::Pages || entry & paging::LARGE != 0 => {
                CAME_TO_A_PAGE.fetch_add(1, Ordering::Relaxed);
                return;
            }
            Some(below) => table = below,
            None => return,
        }
    }
}
