//! Four-level page tables: finding entries, and making the tables on the way.

use core::sync::atomic::{AtomicU64, Ordering};

use lazytlb::{PhysAddr, VirtAddr};

use crate::{frames, large_frames};

/// Present, writable, for ring 3.
pub const TABLE: u64 = 0b111;
/// A page that ring 3 may read and write.
pub const WRITABLE: u64 = 0b111;
/// A page that ring 3 may read.
pub const READ_ONLY: u64 = 0b101;
/// A page that only the kernel may read and write.
pub const KERNEL_ONLY: u64 = 0b011;
/// In an entry of [`Level::Tables`]: it maps a page of 2 MiB.
pub const LARGE: u64 = 1 << 7;
/// The type of memory that is not cached, in an entry that maps a page.
pub const UNCACHED: u64 = 0b11 << 3;
/// The global bit of an entry that maps a page.
const GLOBAL: u64 = 1 << 8;
/// The bits of an entry that are a frame's address.
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
/// Entries of a table.
const ENTRIES: usize = 512;

/// A level of tables, by what its entries map.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Level {
    /// 4 KiB pages.
    Pages = 0,
    /// Tables of 2 MiB.
    Tables = 1,
    /// Directories of 1 GiB.
    Directories = 2,
    /// The root's, of 512 GiB.
    Root = 3,
}

unsafe extern "C" {
    static boot_pml4: [u64; 512];
    static mut boot_pd: [u64; 4 * 512];
}

/// Returns the kernel's own root, which the assembly filled.
pub fn kernel_root() -> PhysAddr {
    PhysAddr(&raw const boot_pml4 as u64)
}

/// Makes the kernel's pages ordinary ones: a global one stays cached whatever root is loaded, with page-table isolation too.
/// Before other CPUs start; flush everything afterwards.
pub fn make_kernel_pages_local() {
    let entries = (&raw mut boot_pd).cast::<u64>();
    for index in 0..4 * ENTRIES {
        // SAFETY: the assembly's directories, which no other CPU looks at yet; each entry is replaced by one that maps the same.
        unsafe {
            entries
                .add(index)
                .write_volatile(entries.add(index).read() & !GLOBAL)
        };
    }
}

/// Returns the root's entry that maps the kernel: every space has a copy.
pub fn kernel_root_entry() -> u64 {
    // SAFETY: written before Rust runs, and never again.
    unsafe { boot_pml4[0] }
}

fn index(addr: VirtAddr, level: Level) -> usize {
    (addr.0 >> (12 + 9 * level as u64)) as usize & 511
}

/// Returns the frame that an entry points to, if it is present.
pub fn target(entry: u64) -> Option<PhysAddr> {
    (entry & 1 != 0).then_some(PhysAddr(entry & ADDRESS))
}

/// Returns the frame of the page that an entry of [`Level::Tables`] maps, if it maps one.
pub fn large_page(entry: u64) -> Option<PhysAddr> {
    target(entry).filter(|_| entry & LARGE != 0)
}

/// Returns the entry for `addr` in a table whose entries are of `level`.
pub fn entry(table: PhysAddr, addr: VirtAddr, level: Level) -> &'static AtomicU64 {
    frames::word(table, index(addr, level))
}

/// Finds the entry for `addr` at `level`, or `None` if a table above is missing, or a large page stands there.
pub fn find(root: PhysAddr, addr: VirtAddr, level: Level) -> Option<&'static AtomicU64> {
    let mut table = root;
    for above in [Level::Root, Level::Directories, Level::Tables] {
        if above == level {
            break;
        }
        let entry = frames::word(table, index(addr, above)).load(Ordering::Relaxed);
        table = target(entry).filter(|_| entry & LARGE == 0)?;
    }
    Some(frames::word(table, index(addr, level)))
}

/// Returns the entries of a root but the kernel's: a space's other root has the same.
pub fn user_entries(root: PhysAddr) -> impl Iterator<Item = (usize, u64)> {
    (1..ENTRIES).map(move |index| (index, frames::word(root, index).load(Ordering::Relaxed)))
}

/// Frees a root and all below it but the kernel's part: tables and pages.
pub fn free_tree(root: PhysAddr) {
    user_entries(root)
        .filter_map(|(_, entry)| target(entry))
        .for_each(|table| free_table(table, Level::Directories));
    frames::free(root);
}

/// Frees a table whose entries are of a level, and all below it.
fn free_table(table: PhysAddr, level: Level) {
    for index in 0..ENTRIES {
        let entry = frames::word(table, index).load(Ordering::Relaxed);
        let Some(below) = target(entry) else {
            continue;
        };
        match level {
            Level::Root => unreachable!("a root lies below nothing"),
            Level::Directories => free_table(below, Level::Tables),
            Level::Tables if entry & LARGE != 0 => large_frames::free(below),
            Level::Tables => free_table(below, Level::Pages),
            // The program's pages are the kernel's.
            Level::Pages if !frames::is_one(below) => {}
            Level::Pages => frames::free(below),
        }
    }
    frames::free(table);
}

/// Finds the entry for a page, and makes the tables that are missing. No flush: nothing that was not
/// present can be cached (H21).
pub fn make(root: PhysAddr, addr: VirtAddr) -> &'static AtomicU64 {
    let mut table = root;
    for level in [Level::Root, Level::Directories, Level::Tables] {
        let entry = frames::word(table, index(addr, level));
        table = target(entry.load(Ordering::Relaxed)).unwrap_or_else(|| {
            let frame = frames::alloc();
            entry.store(frame.0 | TABLE, Ordering::Release);
            frame
        });
    }
    frames::word(table, index(addr, Level::Pages))
}
