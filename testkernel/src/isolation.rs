//! Page-table isolation: ring 3 runs under a root of its own, which has of the kernel only what an entry touches before it
//! has loaded the other one.
//!
//! A space's two roots share every table below them but the kernel's. So pages and tables come and go in both at once; an
//! entry of the root itself must go from both ([`crate::space`]). In the user root, the kernel's entry leads to tables that
//! every space shares: they map the sections `.entry` and `.entry_data`, and the highest page of each interrupt stack.
//!
//! The assembly loads the halves (`trap.s`): no Rust runs under the user half. What it loads is asked of the protocol
//! here, last of all, with interrupts off.

use core::sync::atomic::{AtomicU64, Ordering};

use lazytlb::{Cr3, Cr3Load, Kernel, MmHandle, PhysAddr, VirtAddr};
use spin::Once;
use x86_64::instructions::interrupts;

use crate::breaks::Break;
use crate::machine::{self, PcidsUsed, hw, tlb};
use crate::{breaking, cpu, ending, frames, options, paging, tags, user_tags};

/// How often CPUs have loaded user halves.
pub struct Loads {
    pub kept: AtomicU64,
    pub flushed: AtomicU64,
    /// Those of the flushed that the same space had under the same PCID before: something had been removed.
    pub due: AtomicU64,
}

pub static LOADS: Loads = Loads {
    kept: AtomicU64::new(0),
    flushed: AtomicU64::new(0),
    due: AtomicU64::new(0),
};

/// Bit 63 of a CR3 value that is to keep what is cached.
const KEEP: u64 = 1 << 63;

/// The bits of a CR3 value that are a root.
const ROOT: u64 = !(KEEP | 0xfff);
/// The bit of an entry that the CPU sets as it uses it.
const ACCESSED: u64 = 1 << 5;

/// The entry of every user root that leads to what is left of the kernel; nothing without isolation.
static ENTRY: Once<u64> = Once::new();

/// Makes what all user roots share, if isolation is wanted: on the first CPU, before it starts others.
pub fn set_up() {
    if !options::get().isolation {
        return;
    }
    unsafe extern "C" {
        static entry_start: u8;
        static entry_end: u8;
        static entry_data_start: u8;
        static entry_data_end: u8;
    }
    paging::make_kernel_pages_local();
    cpu::flip_pge();
    let sections = [
        &raw const entry_start as u64..&raw const entry_end as u64,
        &raw const entry_data_start as u64..&raw const entry_data_end as u64,
    ];
    let root = frames::alloc();
    let pages = sections.into_iter().flat_map(|pages| pages.step_by(4096));
    for page in pages.chain(cpu::entry_stack_pages()) {
        paging::make(root, VirtAddr(page)).store(page | paging::KERNEL_ONLY, Ordering::Relaxed);
    }
    ENTRY.call_once(|| frames::word(root, 0).swap(0, Ordering::Relaxed));
    frames::free(root);
}

/// Makes the user root of a space whose other root is filled, if there is isolation.
pub fn user_root_of(root: PhysAddr) -> Option<PhysAddr> {
    let kernel_entry = *ENTRY.get()?;
    let user_root = frames::alloc();
    frames::word(user_root, 0).store(kernel_entry, Ordering::Relaxed);
    for (index, entry) in paging::user_entries(root) {
        frames::word(user_root, index).store(entry, Ordering::Relaxed);
    }
    Some(user_root)
}

/// What the assembly loads into CR3: for ring 3, and when that traps. Both are 0 without isolation.
#[derive(Clone, Copy, Debug)]
pub struct Halves {
    pub user: u64,
    pub kernel: u64,
}

/// Returns what to load to go to ring 3 in the space that is loaded. Interrupts are off, and stay so until ring 3.
pub fn halves(mm: MmHandle) -> Halves {
    let (Some(kernel), Some(user)) = (tlb().kernel_half(hw()), tlb().user_half(hw())) else {
        return Halves { user: 0, kernel: 0 };
    };
    if breaking::is(Break::AskUserHalfEarly) {
        interrupts::enable();
        machine::widen_window();
        interrupts::disable();
    }
    if kernel.root != machine::loaded_root() || !tags::is_loaded(kernel.pcid) {
        let (cpu, root, pcid) = (cpu::current(), kernel.root.0, kernel.pcid.number());
        ending::violation(format_args!(
            "CPU {cpu} is to come back from ring 3 to root {root:#x} and PCID {pcid}, which it has not loaded"
        ));
    }
    Halves {
        user: word(user.root, user.pcid, note(mm, user)),
        kernel: word(kernel.root, kernel.pcid, kernel.load),
    }
}

/// Takes note of the load of a user half, which comes next; returns whether it keeps, after what may be broken.
fn note(
    mm: MmHandle,
    Cr3 {
        root, pcid, load, ..
    }: Cr3,
) -> Cr3Load {
    let id = tlb().kernel().mm(mm).id();
    let was_here = user_tags::is_of(pcid, id);
    let load = match load {
        Cr3Load::Flush if was_here && breaking::is(Break::ForgetUserHalf) => Cr3Load::Keep,
        load => load,
    };
    let count = |counter: &AtomicU64| _ = counter.fetch_add(1, Ordering::Relaxed);
    match load {
        Cr3Load::Keep => count(&LOADS.kept),
        Cr3Load::Flush => count(&LOADS.flushed),
    }
    if hw().board().pcids == PcidsUsed::No {
        return load;
    }
    if load == Cr3Load::Flush && was_here {
        count(&LOADS.due);
    }
    user_tags::load(mm, id, root, pcid, load);
    load
}

/// Writes a CR3 value as far as there are PCIDs.
fn word(root: PhysAddr, pcid: lazytlb::Pcid, load: Cr3Load) -> u64 {
    let keep = match load {
        Cr3Load::Keep => KEEP,
        Cr3Load::Flush => 0,
    };
    match hw().board().pcids {
        PcidsUsed::Yes => root.0 | u64::from(pcid.number()) | keep,
        PcidsUsed::No | PcidsUsed::Pretended => root.0,
    }
}

/// Ends the run unless ring 3 ran under its half, as the entry found CR3, and this code runs under the other.
pub fn check_entry(halves: Halves) {
    if halves.user == 0 {
        return;
    }
    let (cpu, left, now) = (cpu::current(), cpu::left_cr3(), machine::loaded_root().0);
    let Halves { user, kernel } = halves;
    if left != user & !KEEP || now != kernel & ROOT {
        ending::violation(format_args!(
            "CPU {cpu} loaded {user:#x} for ring 3 and {kernel:#x} after it, but had {left:#x} and has root {now:#x}"
        ));
    }
}

/// Ends the run unless both roots of a space, which is about to be freed, lead to the same.
pub fn check_same(root: PhysAddr, user_root: PhysAddr) {
    // The CPU sets A in either root's entry when it walks that.
    let differs = |((index, one), (_, other))| (one != other).then_some((index, one, other));
    let without_accessed =
        |root| paging::user_entries(root).map(|(i, entry)| (i, entry & !ACCESSED));
    let mut both = without_accessed(root).zip(without_accessed(user_root));
    if let Some((index, entry, user_entry)) = both.find_map(differs) {
        ending::violation(format_args!(
            "CPU {} frees root {:#x} with {entry:#x} in word {index}, and its user root with {user_entry:#x}",
            cpu::current(),
            root.0
        ));
    }
}
