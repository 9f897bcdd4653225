//! What of the kernel is mapped in ring 3: nearly nothing with page-table isolation, and everything without.
//!
//! Ring 3 reads addresses; the error code of the page fault tells what is mapped for the kernel alone from what is not there.

use lazytlb::MmHandle;

use crate::console::println;
use crate::machine::{hw, tlb};
use crate::space::{BOARD, SPACES};
use crate::user::{self, Found};
use crate::{cpu, ending, ends, options, paging};

/// Runs the test on this CPU.
pub fn run() {
    unsafe extern "C" {
        static trap_stubs: u8;
    }
    let space = &SPACES[0];
    space.create();
    tlb().switch_mm(hw(), space.handle());
    let kernel = match options::get().isolation {
        true => Found::Nothing,
        false => Found::Forbidden,
    };
    let on_stack = 0;
    let entry_stack = cpu::entry_stack_pages().next().expect("there are some");
    let expected = [
        ("the board", BOARD, Found::Readable),
        ("this function", run as fn() as usize as u64, kernel),
        ("the spaces", space as *const _ as u64, kernel),
        ("the kernel's stack", &raw const on_stack as u64, kernel),
        ("the space's root", space.root().0, kernel),
        ("the kernel's root", paging::kernel_root().0, kernel),
        ("below the entry stack", entry_stack - 1, kernel),
        ("the entry stack", entry_stack, Found::Forbidden),
        (
            "the entry code",
            &raw const trap_stubs as u64,
            Found::Forbidden,
        ),
        ("descriptor tables", cpu::descriptors(), Found::Forbidden),
    ];
    for (what, addr, promised) in expected {
        let found = user::probe(space, addr);
        if found != promised {
            ending::violation(format_args!(
                "CPU 0 read {what} at {addr:#x} in ring 3: {found:?}; promised {promised:?}"
            ));
        }
    }
    println!(
        "isolation: ring 3 finds of the kernel what it must, at {} addresses",
        expected.len()
    );
    tlb().enter_lazy(hw());
    tlb().switch_mm(hw(), MmHandle(0));
    ends::end_now(space);
}
