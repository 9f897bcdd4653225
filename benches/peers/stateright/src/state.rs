//! The state: five words, so that hashing it is five calls.

use std::hash::{Hash, Hasher};

use crate::memory::Memory;

/// The CPUs: number 0 maps, unmaps and flushes; the others run, go lazy and come back.
pub(crate) const CPUS: usize = 3;

/// Handle and identity of init_mm.
pub(crate) const INIT_MM: u8 = 0;
/// Handle and identity of the one user space.
pub(crate) const USER: u8 = 1;

/// The next seam call of a CPU.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub(crate) enum Pc {
    /// The first call of the next operation. Interrupts are on.
    Boundary,
    SwitchReadLoaded,
    ResumeReadLazy,
    ResumeClearLazy,
    ResumeFence,
    ResumeReadGen,
    ResumeReadFlushed,
    ResumeLoadCr3,
    ResumeSetFlushed,
    LoadReadLazy,
    LoadClearLazy,
    LoadJoin,
    LoadReadGen,
    LoadCr3,
    LoadSetLoaded,
    LoadSetFlushed,
    LoadLeave,
    LazyReadLoaded,
    LazySet,
    /// Interrupts come back on: the end of an operation, or of a flush's local part.
    Restore,
    TakeInbox,
    ReadRequestMm,
    ReadRequestGen,
    ReadRequestRange,
    ServeReadLoaded,
    ServeReadLazy,
    ServeReadFlushed,
    ServeReadGen,
    ServeInvlpg,
    ServeLoadCr3,
    ServeSetFlushed,
    Acknowledge,
    FlushReadMask,
    FlushReadLazy,
    PostMm,
    PostGen,
    PostRange,
    PostTargets,
    Notify,
    SendIpi,
    FlushDisable,
    Wait,
}

/// A shootdown request, in memory or in registers. The range is the scenario's one page.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Request {
    pub(crate) mm: u8,
    pub(crate) new_gen: u8,
    pub(crate) is_one_page: bool,
}

impl Request {
    const fn pack(self) -> u8 {
        self.mm | self.new_gen << 1 | (self.is_one_page as u8) << 7
    }
}

/// One CPU: where it is, its registers, and the words that only it and its handler access.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Cpu {
    /// The operation of its program.
    pub(crate) at: u8,
    pub(crate) pc: Pc,
    pub(crate) in_handler: bool,
    /// Register: the space that `load` loads.
    pub(crate) next: u8,
    /// Register: the generation that was read; 0 while none is held.
    pub(crate) current: u8,
    /// Registers: the request that is served.
    pub(crate) request: Request,
    pub(crate) loaded_mm: u8,
    pub(crate) flushed_to: u8,
}

impl Hash for Cpu {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let fields = [
            self.at,
            self.pc as u8,
            u8::from(self.in_handler),
            self.next,
            self.current,
            self.request.pack(),
            self.loaded_mm,
            self.flushed_to,
        ];
        state.write_u64(u64::from_le_bytes(fields));
    }
}

/// The words that CPUs share. Sets have a bit a CPU. Only CPU 0 sends requests, so its request,
/// its `unacknowledged`, and its bit in each inbox are the only ones.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Shared {
    /// The user space's. init_mm's stays 1 for ever: it is never flushed.
    pub(crate) tlb_gen: u8,
    pub(crate) cpumask: u8,
    pub(crate) is_lazy: u8,
    /// The CPUs in whose inbox CPU 0's bit is set.
    pub(crate) inbox: u8,
    /// The CPUs whose flush interrupt is pending.
    pub(crate) pending: u8,
    pub(crate) unacknowledged: u8,
    pub(crate) request: Request,
    /// CPU 0's registers: the targets chosen so far, four bits, and the CPUs that its loop has
    /// still to visit, four bits.
    pub(crate) targets: u8,
    pub(crate) left: u8,
}

impl Hash for Shared {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let fields = [
            self.tlb_gen,
            self.cpumask,
            self.is_lazy,
            self.inbox,
            self.pending,
            self.unacknowledged,
            self.request.pack(),
            self.targets | self.left << 4,
        ];
        state.write_u64(u64::from_le_bytes(fields));
    }
}

/// The whole system.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct State {
    pub(crate) cpus: [Cpu; CPUS],
    pub(crate) shared: Shared,
    pub(crate) memory: Memory,
}

impl State {
    /// Every CPU has init_mm loaded, and nothing is mapped.
    pub(crate) fn initial() -> Self {
        let cpu = Cpu {
            at: 0,
            pc: Pc::Boundary,
            in_handler: false,
            next: 0,
            current: 0,
            request: Request::default(),
            loaded_mm: INIT_MM,
            flushed_to: 0,
        };
        State {
            cpus: [cpu.clone(), cpu.clone(), cpu],
            shared: Shared {
                tlb_gen: 1,
                cpumask: 0,
                is_lazy: 0,
                inbox: 0,
                pending: 0,
                unacknowledged: 0,
                request: Request::default(),
                targets: 0,
                left: 0,
            },
            memory: Memory::default(),
        }
    }
}
