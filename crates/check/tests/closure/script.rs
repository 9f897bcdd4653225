//! Scripts: tiny programs without branches, as plain data that both models can run and tests can shrink.

use std::fmt;

use lazytlb::{
    Access, CpuSet, Entry, FlushRange, FrameKind, Hw, Interrupts, Memory, PhysAddr, Promise,
    Promises, VirtAddr,
};
use lazytlb_check::{ModelHw, Program};
use lazytlb_model::{AtomicCell, Call, LocalCell, Rmw};

/// What each CPU and the flush interrupt's handler call, in order, whatever the answers are.
///
/// Frames are fixed: [`FRAMES`]. CPUs start with [`IDLE_ROOT`] in CR3, and all entries absent.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Script {
    pub(crate) cpus: [Vec<Call>; 2],
    /// Empty means that no handler is installed.
    pub(crate) handler: Vec<Call>,
}

/// What each frame is at the start, by its number.
pub(crate) const FRAMES: [FrameKind; 7] = [
    FrameKind::Table,
    FrameKind::Table,
    FrameKind::Table,
    FrameKind::Table,
    FrameKind::Table,
    FrameKind::Page,
    FrameKind::Page,
];
/// The root that every CPU starts with.
pub(crate) const IDLE_ROOT: PhysAddr = frame(0);
/// The roots of two user spaces.
pub(crate) const ROOTS: [PhysAddr; 2] = [frame(1), frame(2)];
/// Tables below a root.
pub(crate) const TABLES: [PhysAddr; 2] = [frame(3), frame(4)];
/// Pages.
pub(crate) const PAGES: [PhysAddr; 2] = [frame(5), frame(6)];
/// The addresses that scripts use.
pub(crate) const PLACES: [VirtAddr; 3] = [VirtAddr(0), VirtAddr(0x1000), VirtAddr(0x20_0000)];
/// The atomics' first values.
pub(crate) const ATOMICS: [u64; 2] = [0, 0];
/// A handler tells by it that it has run.
pub(crate) const ACK: AtomicCell = AtomicCell(0);
/// Means nothing: to be read, set and cleared.
pub(crate) const WORD: AtomicCell = AtomicCell(1);

const fn frame(number: u64) -> PhysAddr {
    PhysAddr(number << 12)
}

impl Script {
    /// Makes the program that the checker runs.
    pub(crate) fn program(&self, name: &str) -> Program {
        let mut program = Program::new(name, 2);
        program.proves("the naive model agrees");
        for kind in &FRAMES[1..] {
            match kind {
                FrameKind::Table => program.table(),
                FrameKind::Page => program.page(),
            };
        }
        assert_eq!(program.atomic("ack", ATOMICS[0]), ACK);
        assert_eq!(program.atomic("word", ATOMICS[1]), WORD);
        for cpu in 0..2 {
            program.local(cpu, "word", 0);
            let calls = self.cpus[usize::from(cpu)].clone();
            program.operation(cpu, "script", move |hw| run(hw, &calls));
        }
        let mut calls = self.cpus.iter().flatten();
        let sends = calls.any(|call| matches!(call, Call::SendIpi(_)));
        if sends || !self.handler.is_empty() {
            let calls = self.handler.clone();
            program.on_flush_interrupt(move |hw| run(hw, &calls));
        }
        program
    }

    /// Returns the script without the calls that `keep` rejects.
    pub(crate) fn filtered(&self, keep: impl Fn(&Call) -> bool) -> Script {
        let mut script = self.clone();
        for calls in script.lists() {
            calls.retain(&keep);
        }
        script
    }

    /// Returns the lists of calls: of each CPU, then the handler's.
    pub(crate) fn lists(&mut self) -> [&mut Vec<Call>; 3] {
        let [first, second] = &mut self.cpus;
        [first, second, &mut self.handler]
    }

    /// Says whether flushes, and sections with interrupts off, begin and end in pairs.
    pub(crate) fn is_paired(&self) -> bool {
        let mut script = self.clone();
        script.lists().into_iter().all(|calls| {
            let (mut open, mut off) = (0, false);
            calls.iter().all(|call| match call {
                Call::FlushBegins(..) | Call::PromiseBegins(..) => {
                    open += 1;
                    open <= 2
                }
                Call::DisableInterrupts => !std::mem::replace(&mut off, true),
                Call::RestoreInterrupts(_) => std::mem::replace(&mut off, false),
                _ => true,
            }) && !off
        })
    }
}

fn run(hw: &ModelHw, calls: &[Call]) {
    let mut former = hw.interrupts();
    for call in calls {
        match call {
            Call::DisableInterrupts => former = hw.disable_interrupts(),
            // A handler's interrupts are off anyhow, and stay so.
            Call::RestoreInterrupts(_) => hw.restore_interrupts(former),
            _ => perform(hw, call),
        }
    }
}

/// Makes one call on the checker's machine.
fn perform(hw: &ModelHw, call: &Call) {
    let own = |cell: &LocalCell| LocalCell {
        owner: hw.cpu().0 as u8,
        ..*cell
    };
    match *call {
        Call::Load(cell) => {
            hw.load(&cell);
        }
        Call::Store(cell, value) => hw.store(&cell, value),
        Call::Rmw(cell, Rmw::Add, value) => {
            hw.fetch_add(&cell, value);
        }
        Call::Rmw(cell, Rmw::And, value) => {
            hw.fetch_and(&cell, value);
        }
        Call::Rmw(cell, Rmw::Or, value) => {
            hw.fetch_or(&cell, value);
        }
        Call::Rmw(cell, _, value) => {
            hw.swap(&cell, value);
        }
        Call::LoadLocal(cell) => {
            hw.load_local(&own(&cell));
        }
        Call::StoreLocal(cell, value) => hw.store_local(&own(&cell), value),
        Call::Fence => hw.fence(),
        Call::DisableInterrupts | Call::RestoreInterrupts(_) => unreachable!("see above"),
        Call::SendIpi(targets) => {
            let mut set = CpuSet::<1>::EMPTY;
            for cpu in (0..2u16).filter(|cpu| targets >> cpu & 1 != 0) {
                set.insert(lazytlb::CpuId(cpu));
            }
            hw.send_ipi(&set);
        }
        Call::PauseUntil(cell, until) => hw.pause_until(&cell, until),
        Call::LoadCr3(root, load) => hw.load_cr3(root, load),
        Call::Invlpg(addr) => hw.invlpg(addr),
        Call::ReadEntry(table, index) => {
            hw.read_entry(table, index);
        }
        Call::WriteEntry(table, index, entry) => hw.write_entry(table, index, entry),
        Call::AllocFrame(kind) => {
            hw.alloc_frame(kind);
        }
        Call::FreeFrame(frame) => hw.free_frame(frame),
        Call::Touch(addr, access) => hw.touch(addr, access),
        Call::FlushBegins(root, range) => hw.flush_begins(root, range),
        Call::FlushReturned(root) => hw.flush_returned(root),
        Call::PromiseBegins(spaces, range) => {
            let _ = hw.promise_begins(spaces, range);
        }
        Call::PromiseKept(word) => hw.promise_kept(Promise(word)),
        other => unreachable!("no script has {other:?}"),
    }
}

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = [
            ("CPU 0", &self.cpus[0]),
            ("CPU 1", &self.cpus[1]),
            ("handler", &self.handler),
        ];
        for (name, calls) in named.into_iter().filter(|(_, calls)| !calls.is_empty()) {
            writeln!(f, "  {name}:")?;
            for call in calls {
                writeln!(f, "    {}", told(call))?;
            }
        }
        Ok(())
    }
}

/// Tells a call for people: frames by what they are for.
fn told(call: &Call) -> String {
    match *call {
        Call::WriteEntry(table, index, entry) => {
            let target = match (entry.is_present(), entry.is_writable()) {
                (false, _) => "absent".to_owned(),
                (true, true) => name_of(entry.frame()),
                (true, false) => format!("{} (read-only)", name_of(entry.frame())),
            };
            format!("{}[{index}] = {target}", name_of(table))
        }
        Call::LoadCr3(root, _) => format!("CR3 = {}", name_of(root)),
        Call::Invlpg(VirtAddr(addr)) => format!("invlpg {addr:#x}"),
        Call::Touch(VirtAddr(addr), Access::Load) => format!("load from {addr:#x}"),
        Call::Touch(VirtAddr(addr), Access::Store) => format!("store to {addr:#x}"),
        Call::FlushBegins(root, FlushRange::All) => format!("flush of {} begins", name_of(root)),
        Call::FlushBegins(root, FlushRange::Pages(pages)) => {
            format!("flush of {:#x} in {} begins", pages.start.0, name_of(root))
        }
        Call::FlushReturned(root) => format!("flush of {} returned", name_of(root)),
        Call::FreeFrame(frame) => format!("free {}", name_of(frame)),
        other => format!("{other:?}"),
    }
}

fn name_of(frame: PhysAddr) -> String {
    let among = |frames: &[PhysAddr]| frames.iter().position(|&known| known == frame);
    match (among(&ROOTS), among(&TABLES), among(&PAGES)) {
        (Some(number), ..) => format!("root{number}"),
        (_, Some(number), _) => format!("table{number}"),
        (_, _, Some(number)) => format!("page{number}"),
        _ => "idle root".to_owned(),
    }
}

/// Shorthands in which named scripts are written.
pub(crate) fn map(table: PhysAddr, index: u16, to: PhysAddr) -> Call {
    Call::WriteEntry(table, index, Entry::to(to))
}

/// See [`map`].
pub(crate) fn unmap(table: PhysAddr, index: u16) -> Call {
    Call::WriteEntry(table, index, Entry::ABSENT)
}

/// The end of a section that [`Call::DisableInterrupts`] begins.
pub(crate) const RESTORE: Call = Call::RestoreInterrupts(Interrupts::Enabled);
