//! What each policy promises of one flush, one by one: whom it interrupts, whom it skips.
//!
//! CPU 1 is told what to be, and CPU 0 flushes; so there are no races, and the numbers are exact.

use core::sync::atomic::Ordering;

use lazytlb::{
    Batch, Fetched, FlushRange, Flushed, FrameSink, Hw, Kernel, MmHandle, PageRange, Pcids, Policy,
    SizeChange, Switched, Tables, Undrained, VirtAddr,
};
use spin::Mutex;

use crate::console::println;
use crate::freeing::Frame;
use crate::limits::HELD_OF_A_SPACE;
use crate::machine::{EFFECTS, hw, tlb};
use crate::page_id::PAGES;
use crate::shared::{Few, Shared};
use crate::space::{SPACES, Space};
use crate::{ending, ends, frames, freeing, options};

/// What CPU 1 is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Order {
    Wait,
    Run,
    /// In another space.
    RunElsewhere,
    GoLazy,
    Leave,
}

impl Few for Order {
    const ALL: &'static [Order] = &[
        Order::Wait,
        Order::Run,
        Order::RunElsewhere,
        Order::GoLazy,
        Order::Leave,
    ];
}

/// How CPU 1's last switch found it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Found {
    /// Not lazy in the space, and nothing of it was cached.
    Elsewhere,
    UpToDate,
    Behind,
    /// Elsewhere, and what was cached of the space stayed.
    Kept,
    /// Elsewhere, and what was cached of the space was flushed.
    KeptBehind,
}

impl Few for Found {
    const ALL: &'static [Found] = &[
        Found::Elsewhere,
        Found::UpToDate,
        Found::Behind,
        Found::Kept,
        Found::KeptBehind,
    ];
}

static ORDER: Shared<Order> = Shared::first();
static FOUND: Shared<Found> = Shared::first();

fn tell(order: Order) {
    ORDER.store(order);
    while ORDER.load() != Order::Wait {
        core::hint::spin_loop();
    }
}

/// Does what CPU 0 says, until it says to leave.
fn obey() {
    loop {
        match ORDER.load() {
            Order::Run => run_in(&SPACES[0]),
            Order::RunElsewhere => run_in(&SPACES[1]),
            Order::GoLazy => {
                tlb().enter_lazy(hw());
            }
            Order::Leave => {
                tlb().enter_lazy(hw());
                tlb().switch_mm(hw(), MmHandle(0));
                ORDER.store(Order::Wait);
                return;
            }
            Order::Wait => {
                core::hint::spin_loop();
                continue;
            }
        }
        ORDER.store(Order::Wait);
    }
}

/// Switches to a space, and tells how that was found.
fn run_in(space: &Space) {
    FOUND.store(match tlb().switch_mm(hw(), space.handle()) {
        Switched::ResumedUpToDate => Found::UpToDate,
        Switched::ResumedBehind => Found::Behind,
        Switched::Kept => Found::Kept,
        Switched::LoadedBehind => Found::KeptBehind,
        Switched::AlreadyRunning | Switched::Loaded => Found::Elsewhere,
        other => unreachable!("this kernel knows no {other:?}"),
    });
}

/// Runs the test; every CPU calls it.
pub fn run(cpu: usize) {
    if options::get().cpus < 2 || options::get().broken.is_some() {
        return;
    }
    match cpu {
        0 => expect(),
        1 => obey(),
        _ => {}
    }
}

/// A lazy CPU's lot: interrupted, skipped, or not lazy in a user space at all.
#[derive(Clone, Copy)]
enum Lot {
    Interrupted,
    Skipped,
    NotThere,
}

fn expect() {
    let policy = options::get().policy;
    let quirk = lazytlb::Hw::quirks(hw()).garbage_walk_is_fatal();
    let (kept, freed) = match policy {
        Policy::Defer(_) => (Lot::Skipped, Lot::Skipped),
        Policy::DeferUnlessQuirk if quirk => (Lot::Interrupted, Lot::Interrupted),
        Policy::DeferUnlessQuirk => (Lot::Skipped, Lot::Skipped),
        Policy::InitMm => (Lot::NotThere, Lot::NotThere),
        Policy::Ipi => (Lot::Interrupted, Lot::Interrupted),
        // Under `quarantine`, a flush that is not a gather's cannot hold anything back.
        Policy::IpiOnTableFree | Policy::Quarantine => (Lot::Skipped, Lot::Interrupted),
        unknown => panic!("nobody has said what a flush does to lazy CPUs under {unknown}"),
    };
    SPACES[0].create();
    for (tables, lot) in [(Tables::Kept, kept), (Tables::Freed, freed)] {
        tell(Order::Run);
        check("a running CPU", tables, 1, 0);
        tell(Order::GoLazy);
        let (interrupted, skipped) = match lot {
            Lot::Interrupted => (1, 0),
            Lot::Skipped => (0, 1),
            Lot::NotThere => (0, 0),
        };
        check("a lazy CPU", tables, interrupted, skipped);
        // A second flush: whoever was interrupted while lazy has left, and is spared.
        let again = if matches!(lot, Lot::Skipped) { 1 } else { 0 };
        check("a lazy CPU, again", tables, 0, again);
        tell(Order::Run);
        check_found(match lot {
            Lot::Skipped => Found::Behind,
            Lot::Interrupted | Lot::NotThere => with_pcids(Found::KeptBehind),
        });
        // Nothing missed: nothing to catch up on.
        tell(Order::GoLazy);
        tell(Order::Run);
        check_found(match lot {
            Lot::Skipped | Lot::Interrupted => Found::UpToDate,
            Lot::NotThere => with_pcids(Found::Kept),
        });
    }
    if hw().pcids_are_on() {
        expect_elsewhere();
    }
    if policy == Policy::Quarantine {
        expect_held();
    }
    expect_changes(kept);
    tell(Order::Run);
    expect_one_shootdown_of_many_pages();
    tell(Order::Leave);
    check("nobody", Tables::Freed, 0, 0);
    ends::end_now(&SPACES[0]);
    expect_kernel_ranges();
    println!("counters: every flush interrupted and skipped whom {policy} promises");
}

/// What a gather releases, counted.
#[derive(Default)]
struct Released {
    items: usize,
    undrained: usize,
    flushes: u32,
    interrupted: u32,
}

impl FrameSink for Released {
    type Item = usize;
    fn flushed(&mut self, report: Flushed) {
        self.flushes += 1;
        self.interrupted += report.interrupted;
        freeing::count(report);
    }
    fn release(&mut self, _item: usize) {
        self.items += 1;
    }
    fn release_device(&mut self, device: Undrained<usize>) {
        // There is no device to read from.
        device.read_back(|_| ());
        self.undrained += 1;
    }
}

/// As many pages as a table maps are one shootdown, if the kernel's storage holds them.
fn expect_one_shootdown_of_many_pages() {
    const MANY: usize = 512;
    static STORAGE: Mutex<Batch<usize, MANY>> = Mutex::new(Batch::new());
    let mut storage = STORAGE.lock();
    let sink = Released::default();
    let mut gather = tlb().gather(hw(), SPACES[0].handle(), &mut *storage, sink);
    for page in 0..MANY {
        // Nothing is mapped there: what is counted is what the flush costs.
        gather.unmapped(PageRange::page(VirtAddr(PAGES + (page as u64) * 0x1000)));
        gather.free(hw(), page);
    }
    let (released, _) = gather.finish(hw());
    if (released.items, released.flushes, released.interrupted) != (MANY, 1, 1) {
        let (flushes, interrupted) = (released.flushes, released.interrupted);
        ending::violation(format_args!(
            "a gather of {MANY} pages, with storage for all: {} came back after {flushes} flushes with {interrupted} IPIs; \
             promised one each",
            released.items
        ));
    }
}

/// Page tables that are freed beside a lazy CPU: none interrupts it until one more would be too many, then all come back; and those
/// that it has flushed past come back, too.
fn expect_held() {
    tell(Order::Run);
    tell(Order::GoLazy);
    for held in 1..=HELD_OF_A_SPACE {
        expect_of_a_table("a lazy CPU", 0, held);
    }
    expect_of_a_table("a lazy CPU, beyond the bound", 1, 0);
    tell(Order::Run);
    check_found(with_pcids(Found::KeptBehind));
    tell(Order::GoLazy);
    expect_of_a_table("a lazy CPU that came back", 0, 1);
    tell(Order::Run);
    check_found(Found::Behind);
    freeing::release_held();
    expect_of_a_table("a running CPU", 1, 0);
}

/// Frees a table of the space beside CPU 1, and compares the IPIs, and what is held then, with what was promised.
fn expect_of_a_table(whom: &str, interrupted: u64, held: u64) {
    let (mm, addr) = (SPACES[0].handle(), VirtAddr(PAGES));
    let before = EFFECTS.ipis.load(Ordering::SeqCst);
    freeing::gather(mm, |gather| {
        // Nothing leads to it: what is counted is what the flush does.
        let table = frames::alloc();
        frames::hold(1);
        gather.unhooked(PageRange::page(addr));
        gather.free(hw(), Frame::Table(table));
    });
    let ipis = EFFECTS.ipis.load(Ordering::SeqCst) - before;
    let found = tlb().kernel().mm(mm).held_tables(hw());
    if (ipis, found) != (interrupted, held) {
        ending::violation(format_args!(
            "a page table is freed beside {whom}: {ipis} IPIs, and {found} are held; promised {interrupted} and {held}"
        ));
    }
}

/// Changes that a lazy CPU must hear of interrupt it under every policy: of type, of a device's memory, and of size where a quirk forbids
/// two sizes. Where none does, a change of size is one more flush.
fn expect_changes(kept: Lot) {
    let changed = match options::get().policy {
        Policy::InitMm => Lot::NotThere,
        _ => Lot::Interrupted,
    };
    let resized = match hw().quirks().forbid_two_sizes(Fetched::Perhaps) {
        true => changed,
        false => kept,
    };
    let changes: [(&str, Change, Lot); 3] = [
        ("of type", change_type, changed),
        ("of a device's memory", unmap_device, changed),
        ("of size", change_size, resized),
    ];
    for (what, change, lot) in changes {
        tell(Order::Run);
        expect_of_a_change("a running CPU", what, change, 1);
        tell(Order::GoLazy);
        let ipis = match lot {
            Lot::Interrupted => 1,
            Lot::Skipped | Lot::NotThere => 0,
        };
        expect_of_a_change("a lazy CPU", what, change, ipis);
    }
}

/// A change of a page of the space that CPU 1 is in; returns how many CPUs it says that it interrupted.
type Change = fn() -> u64;

fn expect_of_a_change(whom: &str, what: &str, change: Change, promised: u64) {
    let before = EFFECTS.ipis.load(Ordering::SeqCst);
    let interrupted = change();
    let ipis = EFFECTS.ipis.load(Ordering::SeqCst) - before;
    if (interrupted, ipis) != (promised, promised) {
        ending::violation(format_args!(
            "a change {what} beside {whom}: interrupted {interrupted} with {ipis} IPIs; promised {promised}"
        ));
    }
}

// Nothing is mapped there: what is counted is what the flushes do.

fn change_type() -> u64 {
    let mappings = [(SPACES[0].handle(), PageRange::page(VirtAddr(PAGES)))];
    let ((), report) = tlb().change_type(hw(), &mappings, || {}, |_| {});
    freeing::count(report);
    report.interrupted.into()
}

fn unmap_device() -> u64 {
    let (mm, page) = (SPACES[0].handle(), PageRange::page(VirtAddr(PAGES)));
    let storage = Batch::<usize, 1>::new();
    let mut gather = tlb().gather(hw(), mm, storage, Released::default());
    gather.unmapped_device(hw(), page, 0);
    let (released, _) = gather.finish(hw());
    if (released.items, released.undrained) != (0, 1) {
        ending::violation(format_args!(
            "a device's memory was unmapped: {} came back undrained, {} otherwise",
            released.undrained, released.items
        ));
    }
    released.interrupted.into()
}

fn change_size() -> u64 {
    let (storage, sink) = (Batch::<usize, 1>::new(), Released::default());
    let mut gather = tlb().gather(hw(), SPACES[0].handle(), storage, sink);
    let change = SizeChange {
        pages: PageRange::page(VirtAddr(PAGES)),
        fetched: Fetched::Perhaps,
        tables: Tables::Kept,
    };
    gather.change_size(hw(), change, || {}, || {});
    gather.finish(hw()).0.interrupted.into()
}

/// A flush of what the kernel maps interrupts every other CPU that is online, whatever the policy.
fn expect_kernel_ranges() {
    let others = options::get().cpus as u32 - 1;
    for tables in [Tables::Kept, Tables::Freed] {
        let range = FlushRange::page(VirtAddr(0x10_0000));
        let interrupted = tlb().flush_kernel(hw(), range, tables).interrupted;
        if interrupted != others {
            ending::violation(format_args!(
                "a flush of a kernel page ({tables:?}) interrupted {interrupted} CPUs: {others} others are online"
            ));
        }
    }
}

/// Returns how a CPU finds a space that it comes back to: as told with PCIDs, with nothing cached without.
fn with_pcids(found: Found) -> Found {
    match hw().pcids_are_on() {
        true => found,
        false => Found::Elsewhere,
    }
}

/// A CPU that kept one space's translations, and left another's behind: it is spared until tables are freed, is then
/// interrupted once, and finds out what it missed when it comes back.
fn expect_elsewhere() {
    SPACES[1].create();
    tell(Order::RunElsewhere);
    check_found(Found::Elsewhere);
    tell(Order::Run);
    check_found(Found::Kept);
    tell(Order::RunElsewhere);
    check_found(Found::Kept);
    check("a CPU that is elsewhere", Tables::Kept, 0, 0);
    check("a CPU that is elsewhere, again", Tables::Kept, 0, 0);
    check("a CPU that is elsewhere", Tables::Freed, 1, 0);
    check("a CPU that is elsewhere, again", Tables::Freed, 0, 0);
    tell(Order::Run);
    check_found(Found::KeptBehind);
    ends::end_now(&SPACES[1]);
}

/// Compares how CPU 1's last switch found it with what was promised.
fn check_found(promised: Found) {
    let found = FOUND.load();
    if found != promised {
        ending::violation(format_args!(
            "CPU 1 came back, and its space was {found:?}; promised {promised:?}"
        ));
    }
}

/// Flushes, and compares the report and the IPIs with what was promised.
fn check(whom: &str, tables: Tables, interrupted: u32, lazy_skipped: u32) {
    let before = EFFECTS.ipis.load(Ordering::SeqCst);
    let range = FlushRange::page(VirtAddr(PAGES));
    let report = tlb().flush(hw(), SPACES[0].handle(), range, tables);
    let ipis = EFFECTS.ipis.load(Ordering::SeqCst) - before;
    freeing::count(report);
    let Flushed {
        interrupted: found,
        lazy_skipped: skipped,
        ..
    } = report;
    if (found, skipped, ipis) != (interrupted, lazy_skipped, u64::from(interrupted)) {
        ending::violation(format_args!(
            "a flush of {whom}, tables {tables:?}: interrupted {found} with {ipis} IPIs and skipped {skipped}; \
             promised {interrupted} and {lazy_skipped}"
        ));
    }
}
