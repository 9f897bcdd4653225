//! One thing that happened in a counterexample: what it was, and how that reads.

use lazytlb::{CpuId, Cr3Load, Entry, Interrupts, PhysAddr, Until, VirtAddr};
use lazytlb_model::{AtomicCell, Breach, Call, Cr4, FAULT, Rmw, WaitingStore};

use crate::automaton::Routine;
use crate::hardware::number_for_people;
use crate::place_names::frame_number;
use crate::program::Program;

/// One thing that happened on one CPU. All but `kind` is read off it, and for people.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TimelineEvent {
    /// The CPU.
    pub cpu: u8,
    /// What it was.
    pub kind: EventKind,
    /// The operation that it belongs to, by the name that the program gave it.
    pub operation: String,
    /// What happened.
    pub what: String,
    /// Whether other CPUs can tell: calls on private words are left out of the printed timeline.
    pub visible: bool,
    /// The frame that this event frees.
    pub frees: Option<u8>,
    /// Whether the CPU has just started the operation, off its menu.
    pub starts: bool,
}

/// What happened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EventKind {
    /// The code of an operation or a handler made a seam call.
    Call {
        /// The call.
        call: Call,
        /// What it returned; `None` if a property was violated before it could.
        answer: Option<u64>,
    },
    /// The oldest store in the CPU's buffer became visible.
    StoreDrained,
    /// A write-combining store left its buffer, or arrived.
    CombiningStoreDrained,
    /// The CPU did an invalidation that was broadcast to it.
    BroadcastReceived,
    /// A flush interrupt was delivered.
    FlushInterrupt,
    /// An NMI was delivered.
    Nmi,
    /// A timer interrupt came.
    TimerInterrupt,
    /// The walk that a freed table invites: no step of a program, but the reason of the violation.
    GarbageWalk {
        /// The table's frame.
        frame: u8,
    },
}

impl EventKind {
    /// Says whether the CPU's own code, or an interrupt of it, did this.
    pub(crate) fn is_of_code(&self) -> bool {
        match self {
            EventKind::Call { .. }
            | EventKind::FlushInterrupt
            | EventKind::Nmi
            | EventKind::TimerInterrupt => true,
            EventKind::StoreDrained
            | EventKind::CombiningStoreDrained
            | EventKind::BroadcastReceived
            | EventKind::GarbageWalk { .. } => false,
        }
    }

    /// Says whether this came upon an operation from outside: then a printed timeline does not head it with
    /// a name.
    pub fn comes_from_outside(&self) -> bool {
        match self {
            EventKind::StoreDrained
            | EventKind::CombiningStoreDrained
            | EventKind::BroadcastReceived
            | EventKind::FlushInterrupt
            | EventKind::Nmi
            | EventKind::TimerInterrupt => true,
            EventKind::Call { .. } | EventKind::GarbageWalk { .. } => false,
        }
    }
}

impl TimelineEvent {
    /// Makes the event of a call, and says what it reads like.
    pub(crate) fn of_call(
        program: &Program,
        cpu: CpuId,
        routine: Routine,
        call: Call,
        answer: Option<u64>,
    ) -> Self {
        let operation = match routine {
            Routine::Operation(index) => program
                .operation_of(cpu, index)
                .map_or("", |operation| operation.name.as_str()),
            Routine::Handler => FLUSH_INTERRUPT,
            Routine::Nmi => NMI,
            Routine::Timer => TIMER,
        };
        TimelineEvent {
            cpu: number_for_people(cpu),
            kind: EventKind::Call { call, answer },
            operation: operation.to_owned(),
            what: Wording { program, answer }.of(&call),
            visible: is_visible(&call),
            frees: match call {
                Call::FreeFrame(frame) => Some(frame_number(frame) as u8),
                _ => None,
            },
            starts: false,
        }
    }

    /// Makes an event that is no call, and says what it reads like.
    pub(crate) fn of_machine(cpu: CpuId, kind: EventKind) -> Self {
        let (operation, what) = match kind {
            EventKind::Call { call, .. } => unreachable!("{call:?} is a call"),
            EventKind::StoreDrained => (STORE_BUFFER, "drains its oldest store".into()),
            EventKind::CombiningStoreDrained => (
                STORE_BUFFER,
                "a write-combining store leaves its buffer".into(),
            ),
            EventKind::BroadcastReceived => (
                "broadcast",
                "does an invalidation that was broadcast".into(),
            ),
            EventKind::FlushInterrupt => (FLUSH_INTERRUPT, "⚡ flush interrupt".into()),
            EventKind::Nmi => (NMI, "⚡ NMI".into()),
            EventKind::TimerInterrupt => (TIMER, "⚡ timer interrupt".into()),
            EventKind::GarbageWalk { frame } => {
                ("speculation", format!("✗ walk reads frame {frame}: freed"))
            }
        };
        TimelineEvent {
            cpu: number_for_people(cpu),
            kind,
            operation: operation.to_owned(),
            what,
            visible: true,
            frees: None,
            starts: false,
        }
    }

    /// Makes the event of a store that leaves a buffer, and says which it is.
    pub(crate) fn of_store(
        program: &Program,
        cpu: CpuId,
        kind: EventKind,
        store: WaitingStore,
    ) -> Self {
        let how = match store {
            WaitingStore::Translated { .. } => "gets translated late: ",
            WaitingStore::Accessed { .. } | WaitingStore::Dirty { .. } => "",
            _ if kind == EventKind::CombiningStoreDrained => "WC drains: ",
            _ => "drains: ",
        };
        TimelineEvent {
            what: format!("{how}{}", store_for_people(program, store)),
            ..TimelineEvent::of_machine(cpu, kind)
        }
    }
}

/// Returns how a store reads that waits in a buffer.
pub(crate) fn store_for_people(program: &Program, store: WaitingStore) -> String {
    let names = &program.place_names;
    match store {
        WaitingStore::Cell { cell, bytes, value }
        | WaitingStore::Translated { cell, bytes, value } => {
            let name = program.atomic_name(cell);
            match bytes {
                u8::MAX => format!("{name} = {value}"),
                _ => format!("{name}, bytes {bytes:#010b} = {value:#x}"),
            }
        }
        WaitingStore::Entry {
            table,
            index,
            entry,
        } => format!("{} = {}", names.entry_at(table, index), names.entry(entry)),
        WaitingStore::Accessed { table, index } => {
            format!("sets A in {}", names.entry_at(table, index))
        }
        WaitingStore::Dirty { table, index } => {
            format!("sets A and D in {}", names.entry_at(table, index))
        }
        WaitingStore::User => "a user store".to_owned(),
        WaitingStore::StoreFence => "SFENCE".to_owned(),
        WaitingStore::FullFence => "MFENCE".to_owned(),
    }
}

const FLUSH_INTERRUPT: &str = "flush interrupt";
const NMI: &str = "NMI";
const TIMER: &str = "timer interrupt";
const STORE_BUFFER: &str = "store buffer";

/// Says whether other CPUs, or people, care about a call.
fn is_visible(call: &Call) -> bool {
    !matches!(
        call,
        Call::LoadLocal(_)
            | Call::StoreLocal(..)
            | Call::DisableInterrupts
            | Call::RestoreInterrupts(_)
    )
}

/// Returns how a call reads whose answer does not matter.
pub(crate) fn call_for_people(program: &Program, call: &Call) -> String {
    let answer = None;
    let wording = Wording { program, answer }.of(call);
    wording.trim_end_matches(UNKNOWN).trim_end().to_owned()
}

/// Returns how a call reads, with its answer.
pub(crate) fn answered_call_for_people(program: &Program, call: &Call, answer: u64) -> String {
    let answer = Some(answer);
    Wording { program, answer }.of(call)
}

/// How an answer reads that is not known.
const UNKNOWN: &str = "→ ?";

/// How a call reads, with its answer if it has one.
struct Wording<'p> {
    program: &'p Program,
    answer: Option<u64>,
}

impl Wording<'_> {
    #[rustfmt::skip] // A table.
    fn of(&self, call: &Call) -> String {
        let answer = self.answer();
        match *call {
            Call::Load(cell) => format!("{} {answer}", self.atomic(cell)),
            Call::Store(cell, value) => format!("{} = {value}", self.atomic(cell)),
            Call::Rmw(cell, rmw, operand) => self.rmw(cell, rmw, operand),
            Call::LoadLocal(cell) => format!("{} {answer}", self.program.local_name(cell)),
            Call::StoreLocal(cell, value) => format!("{} = {value}", self.program.local_name(cell)),
            Call::Fence => "fence".to_owned(),
            Call::DisableInterrupts => "interrupts off".to_owned(),
            Call::RestoreInterrupts(Interrupts::Enabled) => "interrupts on".to_owned(),
            Call::RestoreInterrupts(Interrupts::Disabled) => "interrupts stay off".to_owned(),
            Call::SendIpi(targets) => format!("IPI to CPU {}", list_of_bits(targets)),
            Call::PauseUntil(cell, until) => format!("wait until {} {}", self.atomic(cell), condition(until)),
            Call::LoadCr3(root, load) => self.load_cr3(root, load),
            Call::Invlpg(addr) => format!("INVLPG {}", self.address(addr)),
            Call::ReadEntry(table, index) => format!("read {} {}", self.entry_at(table, index), self.answered_entry()),
            Call::WriteEntry(table, index, entry) => format!("{} = {}", self.entry_at(table, index), self.entry(entry)),
            Call::AllocFrame(kind) => format!("alloc a {} {}", in_small(kind), self.allocated()),
            Call::FreeFrame(frame) => format!("free frame {}", frame_number(frame)),
            Call::Touch(addr, access) => format!("user {} {}", in_small(access), self.address(addr)),
            Call::PromiseBegins(..) => format!("(promise {answer} begins)"),
            Call::PromiseKept(promise) => format!("(promise {promise} is kept)"),
            Call::FlushBegins(..) => "(flush begins)".to_owned(),
            Call::FlushReturned(_) => "(flush has returned)".to_owned(),
            Call::StoreBytes { cell, bytes, value } => format!("{}, bytes {bytes:#010b} = {value:#x}", self.atomic(cell)),
            Call::RmwBytes { cell, rmw, operand, .. } => format!("{} {rmw:?} {operand}, was {answer}", self.atomic(cell)),
            Call::RmwEntry(table, index, rmw, operand) => format!("{} {}, was {}", self.entry_at(table, index), self.entry_rmw(rmw, operand), self.answered_entry()),
            Call::WriteEntryBytes { table, index, bytes, value } => format!("{}, bytes {bytes:#010b} = {value:#x}", self.entry_at(table, index)),
            Call::RmwEntryBytes { table, index, rmw, operand, .. } => format!("{} {rmw:?} {operand:#x}, was {}", self.entry_at(table, index), self.answer()),
            Call::StoreFence => "SFENCE".to_owned(),
            Call::Serialize => "CPUID".to_owned(),
            Call::LoadFence => "LFENCE".to_owned(),
            Call::ChangeCr4 { set, clear } => format!("CR4: set {}, clear {}", bits_of_cr4(set), bits_of_cr4(clear)),
            Call::WriteCr4(cr4) => format!("MOV to CR4: {}", bits_of_cr4(cr4)),
            Call::Invpcid(what) => format!("INVPCID {what:?}"),
            Call::Invlpgb(what) => format!("INVLPGB {what:?}"),
            Call::Tlbsync => "TLBSYNC".to_owned(),
            Call::LoadVirtual(addr, _) => format!("load {} {answer}", self.address(addr)),
            Call::StoreVirtual { addr, value, .. } => format!("store {} = {value}{}", self.address(addr), self.fault()),
            Call::RmwVirtual { addr, rmw, operand, .. } => format!("locked {rmw:?} {operand} at {}, was {answer}", self.address(addr)),
            Call::Fetch(addr, _) => format!("fetch {}{}", self.address(addr), self.fault()),
            Call::TouchNonTemporal(addr) => format!("user non-temporal store {}", self.address(addr)),
            Call::ReadDevice(device) => format!("read back from the device, frame {}", frame_number(device)),
            Call::SendNmi(targets) => format!("NMI to CPUs {targets:#b}"),
            Call::Halt => "STI; HLT".to_owned(),
            Call::Breaks(Breach::InterruptsLazy(cpu)) => format!("(interrupts CPU {cpu}, which was lazy)"),
            Call::Breaks(Breach::Loses(frame)) => format!("(has lost frame {})", frame_number(frame)),
        }
    }

    fn answer(&self) -> String {
        match self.answer {
            Some(FAULT) => "→ page fault".to_owned(),
            Some(answer) => format!("→ {answer}"),
            None => UNKNOWN.to_owned(),
        }
    }

    /// Says that an access without an answer took a fault, if it did.
    fn fault(&self) -> &'static str {
        match self.answer {
            Some(FAULT) => " → page fault",
            Some(_) | None => "",
        }
    }

    fn entry_at(&self, table: PhysAddr, index: u16) -> String {
        self.program.place_names.entry_at(table, index)
    }

    fn entry(&self, entry: Entry) -> String {
        self.program.place_names.entry(entry)
    }

    /// Tells an answer that is a page-table entry.
    fn answered_entry(&self) -> String {
        match self.answer {
            Some(answer) => format!("→ {}", self.entry(Entry(answer))),
            None => self.answer(),
        }
    }

    fn entry_rmw(&self, rmw: Rmw, operand: u64) -> String {
        match rmw {
            Rmw::Swap => format!("swap {}", self.entry(Entry(operand))),
            Rmw::SwapIf(expected) => {
                let expected = self.entry(Entry(expected));
                format!("= {} if {expected}", self.entry(Entry(operand)))
            }
            Rmw::Add | Rmw::Or | Rmw::And | Rmw::Xor => format!("{rmw:?} {operand:#x}"),
        }
    }

    fn address(&self, addr: VirtAddr) -> String {
        self.program.place_names.address(addr)
    }

    fn load_cr3(&self, root: PhysAddr, load: Cr3Load) -> String {
        let pcid = match root.0 & 0xfff {
            0 => String::new(),
            pcid => format!(", PCID {pcid}"),
        };
        let keep = match load {
            Cr3Load::Keep => ", keep",
            Cr3Load::Flush => "",
        };
        format!(
            "load CR3: root in {}{pcid}{keep}",
            self.program.place_names.frame(root)
        )
    }

    fn allocated(&self) -> String {
        match self.answer {
            Some(frame) => format!("→ frame {}", frame_number(PhysAddr(frame))),
            None => UNKNOWN.to_owned(),
        }
    }

    fn atomic(&self, cell: AtomicCell) -> &str {
        self.program.atomic_name(cell)
    }

    fn rmw(&self, cell: AtomicCell, rmw: Rmw, operand: u64) -> String {
        let (name, was) = (self.atomic(cell), self.answer());
        match rmw {
            Rmw::Add => format!("{name} += {operand}, was {was}"),
            Rmw::Or => format!("{name} |= {operand:#b}, was {was}"),
            Rmw::And => format!("{name} &= !{:#b}, was {was}", !operand),
            Rmw::Xor => format!("{name} ^= {operand:#b}, was {was}"),
            Rmw::Swap => format!("{name} swap {operand}, was {was}"),
            Rmw::SwapIf(expected) => format!("{name} = {operand} if {expected}, was {was}"),
        }
    }
}

fn bits_of_cr4(cr4: Cr4) -> String {
    let names = [
        (Cr4::PGE, "PGE"),
        (Cr4::PCIDE, "PCIDE"),
        (Cr4::SMEP, "SMEP"),
    ];
    let set = names.iter().filter(|(bit, _)| cr4.has(*bit));
    let set: Vec<&str> = set.map(|(_, name)| *name).collect();
    match set.is_empty() {
        true => "nothing".to_owned(),
        false => set.join(", "),
    }
}

pub(crate) fn condition(until: Until) -> String {
    match until {
        Until::Zero => "= 0".to_owned(),
        Until::Equals(value) => format!("= {value}"),
        Until::AtLeast(value) => format!("≥ {value}"),
    }
}

fn in_small(word: impl std::fmt::Debug) -> String {
    format!("{word:?}").to_lowercase()
}

fn list_of_bits(bits: u64) -> String {
    let set = (0..u64::BITS).filter(|bit| bits >> bit & 1 != 0);
    let set: Vec<String> = set.map(|bit| bit.to_string()).collect();
    set.join(", ")
}
