//! What the programs start from: a space with one mapped page.

use lazytlb::{Access, CpuId, Entry, Hw, Memory, PhysAddr, VirtAddr};
use lazytlb_check::{ModelHw, Program};

/// The page that every space maps at first.
pub(crate) const PAGE: VirtAddr = VirtAddr(0);

/// A space whose root has one table, which maps [`PAGE`].
#[derive(Clone, Copy)]
pub(crate) struct Mapped {
    pub(crate) root: PhysAddr,
    pub(crate) table: PhysAddr,
    pub(crate) page: PhysAddr,
}

/// Makes a space whose frames are named after it.
pub(crate) fn mapped(program: &mut Program, name: &str) -> Mapped {
    let (root, table) = (program.table(), program.table());
    let page = program.page();
    program.first_entry(root, 0, Entry::to(table));
    program.first_entry(table, 0, Entry::to(page));
    for (frame, what) in [(root, "root"), (table, "table"), (page, "page")] {
        program.name_frame(frame, format!("{name}'s {what}"));
    }
    Mapped { root, table, page }
}

/// Names the root that maps nothing, and returns it.
pub(crate) fn root_of_no_user(program: &mut Program, name: &str) -> PhysAddr {
    let root = program.first_root();
    program.name_frame(root, format!("{name}'s root"));
    root
}

/// Returns the bit of a CPU in a word.
pub(crate) fn bit(cpu: CpuId) -> u64 {
    1 << cpu.0
}

/// Returns a CPU's place in an array of words, one for each CPU.
pub(crate) fn index(cpu: CpuId) -> usize {
    usize::from(cpu.0)
}

/// Runs code with interrupts off, and returns what it does.
pub(crate) fn without_interrupts<H: Hw, R>(hw: &H, code: impl FnOnce() -> R) -> R {
    let former = hw.disable_interrupts();
    let done = code();
    hw.restore_interrupts(former);
    done
}

/// Lets a CPU use a page, in user mode.
pub(crate) fn uses(program: &mut Program, cpu: u8, page: VirtAddr) {
    program.operation(cpu, "use the page", move |hw: &ModelHw| {
        hw.touch(page, Access::Load);
    });
}
