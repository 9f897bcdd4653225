//! A kernel says how many words of its CPU sets can have members: no other is looked at, and no other CPU gets in.
#![allow(missing_docs)]

use std::cell::{Cell, RefCell};

use lazytlb::{
    Broadcast, Cells, CpuId, CpuSet, Cr3Load, FlushRange, Flushed, Hw, Interrupts, Kernel, Mm,
    MmHandle, MmId, Pcids, PerCpu, PhysAddr, Policy, Poll, ProtocolWord, Quirks, Tables, Tlb,
    Until, VirtAddr,
};

/// A machine that runs the CPU that it is told, and remembers of which words of sets it was asked.
struct Machine {
    cpu: Cell<CpuId>,
    asked: RefCell<Vec<ProtocolWord>>,
    sent_to: RefCell<Vec<CpuId>>,
    all_have_answered: Cell<bool>,
}

struct Word {
    which: ProtocolWord,
    value: Cell<u64>,
}

impl Machine {
    fn change(&self, word: &Word, change: impl FnOnce(u64) -> u64) -> u64 {
        self.asked.borrow_mut().push(word.which);
        word.value.replace(change(word.value.get()))
    }
}

impl Hw for Machine {
    type Atomic = Word;
    type Local = Word;
    fn cpu(&self) -> CpuId {
        self.cpu.get()
    }
    fn load(&self, word: &Word) -> u64 {
        let value = self.change(word, |value| value);
        let is_answer = word.which == ProtocolWord::Inbox && self.all_have_answered.get();
        if is_answer { 0 } else { value }
    }
    fn store(&self, word: &Word, value: u64) {
        self.change(word, |_| value);
    }
    fn fetch_add(&self, word: &Word, more: u64) -> u64 {
        self.change(word, |value| value + more)
    }
    fn fetch_or(&self, word: &Word, bits: u64) -> u64 {
        self.change(word, |value| value | bits)
    }
    fn fetch_and(&self, word: &Word, bits: u64) -> u64 {
        self.change(word, |value| value & bits)
    }
    fn swap(&self, word: &Word, value: u64) -> u64 {
        self.change(word, |_| value)
    }
    fn load_local(&self, word: &Word) -> u64 {
        self.load(word)
    }
    fn store_local(&self, word: &Word, value: u64) {
        self.store(word, value);
    }
    fn fence(&self) {}
    fn interrupts(&self) -> Interrupts {
        match self.cpu.get() {
            HANDLING => Interrupts::Disabled,
            _ => Interrupts::Enabled,
        }
    }
    fn disable_interrupts(&self) -> Interrupts {
        self.interrupts()
    }
    fn restore_interrupts(&self, _former: Interrupts) {}
    fn send_ipi<const WORDS: usize>(&self, targets: &CpuSet<WORDS>) {
        self.sent_to.borrow_mut().extend(targets.iter());
    }
    fn pause_until(&self, _word: &Word, _until: Until) {}
    fn load_cr3(&self, _root: PhysAddr, _load: Cr3Load) {}
    fn invlpg(&self, _addr: VirtAddr) {}
    fn quirks(&self) -> Quirks {
        Quirks::default()
    }
}

impl Pcids for Machine {}
// Nor broadcasts.
impl Broadcast for Machine {}

impl Poll for Machine {
    /// Nobody is there to answer: a wait looks once, and finds what it looks for.
    fn poll<R>(&self, body: impl Fn(&Self) -> Option<R>) -> R {
        self.all_have_answered.set(true);
        let found = body(self).expect("every CPU has answered");
        self.all_have_answered.set(false);
        found
    }
}

struct Words;

impl Cells<Machine> for Words {
    fn atomic(&mut self, name: &'static str, _value: u64) -> Word {
        unreachable!("{name} is made without saying which word it is")
    }
    fn local(&mut self, name: &'static str, _value: u64) -> Word {
        unreachable!("{name} is made without saying which word it is")
    }
    fn protocol_atomic(&mut self, which: ProtocolWord, value: u64) -> Word {
        let value = Cell::new(value);
        Word { which, value }
    }
    fn protocol_local(&mut self, which: ProtocolWord, value: u64) -> Word {
        self.protocol_atomic(which, value)
    }
}

/// Sets for 512 CPUs, of which `in_use` words can have members.
struct Sets {
    in_use: usize,
    cpus: Vec<PerCpu<Machine>>,
    mms: Vec<Mm<Machine>>,
}

impl Kernel for Sets {
    type Hw = Machine;
    fn per_cpu(&self, cpu: CpuId) -> &PerCpu<Machine> {
        &self.cpus[usize::from(cpu.0)]
    }
    fn cpu_words(&self) -> usize {
        self.in_use
    }
    fn mm(&self, handle: MmHandle) -> &Mm<Machine> {
        &self.mms[handle.0 as usize]
    }
    fn init_mm(&self) -> MmHandle {
        MmHandle(0)
    }
}

const USER: MmHandle = MmHandle(1);
/// The CPU that is in its interrupt handler, always.
const HANDLING: CpuId = CpuId(63);

fn boot(in_use: usize) -> (Machine, Tlb<Sets>) {
    let machine = Machine {
        cpu: Cell::new(CpuId(0)),
        asked: RefCell::default(),
        sent_to: RefCell::default(),
        all_have_answered: Cell::new(false),
    };
    let mm = |n| Mm::new(MmId(n), PhysAddr(n << 12), &mut Words);
    let cpus = (0..130).map(|_| PerCpu::new(MmHandle(0), &mut Words));
    let kernel = Sets {
        in_use,
        cpus: cpus.collect(),
        mms: vec![mm(1), mm(2)],
    };
    (machine, Tlb::new(kernel, Policy::Ipi))
}

fn become_cpu(machine: &Machine, cpu: u16) {
    machine.cpu.set(CpuId(cpu));
}

fn flush(machine: &Machine, tlb: &Tlb<Sets>) -> Flushed {
    machine.asked.borrow_mut().clear();
    tlb.flush(machine, USER, FlushRange::All, Tables::Kept)
}

fn asked(machine: &Machine, which: ProtocolWord) -> usize {
    let asked = machine.asked.borrow();
    asked.iter().filter(|&&word| word == which).count()
}

#[test]
fn words_that_can_have_no_member_are_not_looked_at() {
    for in_use in [1, 3, 8, 99] {
        let (machine, tlb) = boot(in_use);
        tlb.switch_mm(&machine, USER);
        assert_eq!(flush(&machine, &tlb).interrupted, 0);
        assert_eq!(asked(&machine, ProtocolWord::Cpumask), in_use.min(8));
        become_cpu(&machine, HANDLING.0);
        tlb.handle_flush_ipi(&machine);
        assert_eq!(asked(&machine, ProtocolWord::Inbox), in_use.min(8));
    }
}

#[test]
fn a_flush_finds_who_is_in_any_word_in_use() {
    let (machine, tlb) = boot(3);
    for cpu in [129, 64, 3, 65] {
        become_cpu(&machine, cpu);
        tlb.switch_mm(&machine, USER);
    }
    let report = flush(&machine, &tlb);
    assert_eq!((report.interrupted, report.lazy_skipped), (3, 0));
    assert_eq!(*machine.sent_to.borrow(), [3, 64, 129].map(CpuId));
    // Told once, and waited for once.
    assert_eq!(asked(&machine, ProtocolWord::Inbox), 2 * 3);
}

#[test]
#[should_panic(expected = "Kernel::cpu_words")]
fn a_cpu_that_flushes_would_not_find_gets_into_no_space() {
    let (machine, tlb) = boot(1);
    become_cpu(&machine, 64);
    tlb.switch_mm(&machine, USER);
}

#[test]
#[should_panic(expected = "Kernel::cpu_words")]
fn a_cpu_whose_requests_would_not_be_found_sends_none() {
    let (machine, tlb) = boot(1);
    tlb.switch_mm(&machine, USER);
    become_cpu(&machine, 64);
    tlb.flush(&machine, USER, FlushRange::All, Tables::Kept);
}
