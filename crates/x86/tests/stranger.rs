//! A protocol that the checker proves (`crates/check/examples/stranger`) runs on this machine as it was checked: the
//! same file, whose functions are generic over the seam. Privileged instructions are replaced, one method each.
#![allow(clippy::undocumented_unsafe_blocks)] // No privileged instruction is executed.

use std::cell::{Cell, RefCell};
use std::num::NonZeroU16;
use std::sync::atomic::{AtomicU64, Ordering};

use lazytlb::{
    CompareExchange, CpuId, CpuSet, Invlpgb, PageRange, PageSize, Quirks, Until, VirtAddr,
};
use lazytlb_x86::{Board, X86};

#[path = "../../check/examples/stranger/protocol.rs"]
#[allow(dead_code)] // What is left out on purpose, where it is checked.
mod protocol;

use protocol::{LeftOut, Shootdown};

const PAGES: PageRange = PageRange {
    start: VirtAddr(0x5000),
    len_pages: 3,
    size: PageSize::Size4K,
};

/// Notes what would be executed, and runs the other CPU when this one waits for it.
#[derive(Default)]
struct Notes {
    executed: RefCell<Vec<String>>,
    cpu: Cell<u16>,
}

impl Notes {
    fn note(&self, what: String) {
        self.executed.borrow_mut().push(what);
    }
}

impl Board for &Notes {
    fn cpu(&self) -> CpuId {
        CpuId(self.cpu.get())
    }
    fn send_flush_ipi<const WORDS: usize>(&self, targets: &CpuSet<WORDS>) {
        self.note(format!("IPI to {} CPU", targets.len()));
    }
    fn invlpg(&self, addr: VirtAddr) {
        self.note(format!("CPU {}: INVLPG {:#x}", self.cpu.get(), addr.0));
    }
    fn pause_until(&self, atomic: &AtomicU64, _until: Until) {
        self.note(format!("waits for {:#b}", atomic.load(Ordering::Acquire)));
    }
    unsafe fn invlpgb(&self, what: Invlpgb) {
        let named = what.addresses.expect("the protocol names addresses");
        let first = named.start.0;
        self.note(format!("INVLPGB {first:#x}, {} addresses", named.count));
    }
    unsafe fn tlbsync(&self) {
        self.note("TLBSYNC".to_owned());
    }
}

fn words() -> Shootdown<AtomicU64> {
    Shootdown {
        lock: AtomicU64::new(0),
        request: AtomicU64::new(0),
        pending: AtomicU64::new(0),
        left_out: LeftOut::Nothing,
    }
}

fn other_cpu() -> CpuSet<1> {
    let mut set = CpuSet::EMPTY;
    set.insert(CpuId(1));
    set
}

#[test]
fn where_the_cpu_broadcasts_the_protocol_does() {
    let (notes, shootdown) = (Notes::default(), words());
    let two = NonZeroU16::new(2).expect("it is 2");
    let machine = unsafe { X86::new(&notes, Quirks::NONE).with_broadcasts(two) };
    shootdown.lock(&machine);
    assert_eq!(shootdown.lock.load(Ordering::SeqCst), 1);
    shootdown.flush(&machine, &other_cpu(), PAGES);
    shootdown.unlock(&machine);
    assert_eq!(shootdown.lock.load(Ordering::SeqCst), 0);
    let expected = [
        "INVLPGB 0x5000, 2 addresses",
        "INVLPGB 0x7000, 1 addresses",
        "TLBSYNC",
    ];
    assert_eq!(*notes.executed.borrow(), expected);
}

#[test]
fn elsewhere_it_interrupts() {
    let (notes, shootdown) = (Notes::default(), words());
    let machine = unsafe { X86::new(&notes, Quirks::NONE) };
    shootdown.flush(&machine, &other_cpu(), PAGES);
    notes.cpu.set(1);
    shootdown.handle(&machine);
    assert_eq!(shootdown.pending.load(Ordering::SeqCst), 0);
    shootdown.handle(&machine);
    let expected = [
        "IPI to 1 CPU",
        "CPU 0: INVLPG 0x5000",
        "CPU 0: INVLPG 0x6000",
        "CPU 0: INVLPG 0x7000",
        "waits for 0b10",
        "CPU 1: INVLPG 0x5000",
        "CPU 1: INVLPG 0x6000",
        "CPU 1: INVLPG 0x7000",
    ];
    assert_eq!(*notes.executed.borrow(), expected);
}

#[test]
fn a_compare_exchange_tells_what_the_word_held_and_writes_only_if_that_was_expected() {
    let notes = Notes::default();
    let machine = unsafe { X86::new(&notes, Quirks::NONE) };
    let word = AtomicU64::new(3);
    assert_eq!(machine.compare_exchange(&word, 2, 9), Err(3));
    assert_eq!(word.load(Ordering::SeqCst), 3);
    assert_eq!(machine.compare_exchange(&word, 3, 9), Ok(3));
    assert_eq!(word.load(Ordering::SeqCst), 9);
}

#[test]
#[should_panic(expected = "one INVLPGB names 2 addresses at most")]
fn more_addresses_than_one_instruction_may_name_are_refused() {
    use lazytlb::{Broadcast, Strides};
    let notes = Notes::default();
    let two = NonZeroU16::new(2).expect("it is 2");
    let machine = unsafe { X86::new(&notes, Quirks::NONE).with_broadcasts(two) };
    let three = Strides::over(PAGES, NonZeroU16::MAX).next();
    machine.invlpgb(Invlpgb {
        addresses: three,
        ..Invlpgb::EVERYTHING
    });
}

#[test]
#[should_panic(expected = "broadcasts are off")]
fn a_machine_without_broadcasts_executes_none() {
    use lazytlb::Broadcast;
    let notes = Notes::default();
    unsafe { X86::new(&notes, Quirks::NONE) }.tlbsync();
}
