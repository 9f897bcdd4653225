//! Scripts: tiny programs without branches, as plain data that both models can run and tests can shrink.

use std::fmt;

use lazytlb::{CpuId, CpuSet, Cr3Load, Entry, Hw, Memory, PhysAddr, VirtAddr};
use lazytlb_check::{ModelHw, Program};
use lazytlb_model::entry::bits;
use lazytlb_model::{
    AtomicCell, Call, Cr4, FAULT, Features, FrameUse, LocalCell, Privilege, Property, Rmw,
};

use crate::setting::Setting;

/// What each CPU calls, in order, whatever the answers are, and the machine that it does it on.
///
/// Frames are fixed: [`FRAMES`]. Each answer goes to a cell of its own ([`answer_cell`]).
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Script {
    pub(crate) setting: Setting,
    pub(crate) features: Features,
    pub(crate) cr4: Cr4,
    pub(crate) ignored: Vec<Property>,
    pub(crate) first_entries: Vec<(PhysAddr, u16, Entry)>,
    pub(crate) cpus: [Vec<Call>; 2],
    /// What the flush interrupt runs; empty means that no handler is installed.
    pub(crate) handler: Vec<Call>,
    /// What an NMI runs; empty likewise.
    pub(crate) nmi: Vec<Call>,
}

/// What each frame is, by its number.
pub(crate) const FRAMES: [FrameUse; 8] = [
    FrameUse::Table,
    FrameUse::Table,
    FrameUse::Table,
    FrameUse::Table,
    FrameUse::Table,
    FrameUse::Page,
    FrameUse::Page,
    FrameUse::Device,
];
/// The roots of two spaces; every CPU starts in the first.
pub(crate) const ROOTS: [PhysAddr; 2] = [frame(1), frame(2)];
/// Tables below a root.
pub(crate) const TABLES: [PhysAddr; 2] = [frame(3), frame(4)];
/// Ordinary pages.
pub(crate) const PAGES: [PhysAddr; 2] = [frame(5), frame(6)];
/// A device's memory.
pub(crate) const DEVICE: PhysAddr = frame(7);
/// Words of memory: those at the start of each page and of the device, and one besides.
pub(crate) const WORDS: usize = 4;
/// A word that no page holds.
pub(crate) const FLAG: AtomicCell = AtomicCell(3);
/// What the words hold at the start.
pub(crate) const FIRST_WORDS: [u64; WORDS] = [1, 2, 3, 0];
/// The most calls that a CPU has, and that a handler has.
pub(crate) const MOST_CALLS: usize = 5;
pub(crate) const MOST_HANDLER_CALLS: usize = 2;
/// Cells for answers that each CPU has.
pub(crate) const ANSWERS: usize = MOST_CALLS + 2 * MOST_HANDLER_CALLS;

/// Who makes a call.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Routine {
    Operation,
    Handler,
    Nmi,
}

const fn frame(number: u64) -> PhysAddr {
    PhysAddr(number << 12)
}

/// Returns the cell for the answer to a routine's call.
pub(crate) const fn answer_cell(routine: Routine, position: usize) -> usize {
    position
        + match routine {
            Routine::Operation => 0,
            Routine::Handler => MOST_CALLS,
            Routine::Nmi => MOST_CALLS + MOST_HANDLER_CALLS,
        }
}

/// Returns the word at the start of a page or a device.
pub(crate) fn word_of_frame(frame: u8) -> Option<usize> {
    usize::from(frame).checked_sub(5)
}

impl Script {
    /// Makes the program that the checker runs.
    pub(crate) fn program(&self, ignored: &[Property]) -> Program {
        let mut program = Program::new("script", 2);
        for (word, &value) in FIRST_WORDS.iter().enumerate() {
            program.atomic(format!("word {word}"), value);
        }
        for (number, frame_use) in FRAMES.iter().enumerate().skip(1) {
            let frame = match frame_use {
                FrameUse::Table => program.table(),
                FrameUse::Page => program.page(),
                _ => program.device(),
            };
            if let Some(word) = word_of_frame(number as u8) {
                program.give_word(frame, AtomicCell(word as u8));
            }
        }
        program.start_with_root(ROOTS[0]);
        for &(table, index, entry) in &self.first_entries {
            program.first_entry(table, index, entry);
        }
        for (table, index) in self.places() {
            program.watch_entry(table, index);
        }
        if self.features.tags {
            program.start_with_cr4(self.cr4);
        }
        for &property in ignored {
            program.ignore(property);
        }
        // Where no interrupt comes, they may as well be off: then more calls are merged.
        let is_undisturbed = self.handler.is_empty() && self.nmi.is_empty();
        for cpu in 0..2 {
            for answer in 0..ANSWERS {
                program.local(cpu, format!("answer {answer}"), 0);
            }
            let calls = self.cpus[usize::from(cpu)].clone();
            program.operation(cpu, "script", move |hw| {
                let former = is_undisturbed.then(|| hw.disable_interrupts());
                run(hw, &calls, Routine::Operation);
                if let Some(former) = former {
                    hw.restore_interrupts(former);
                }
            });
        }
        if !self.handler.is_empty() {
            let calls = self.handler.clone();
            program.on_flush_interrupt(move |hw| run(hw, &calls, Routine::Handler));
        }
        if !self.nmi.is_empty() {
            let calls = self.nmi.clone();
            program.on_nmi(move |hw| run(hw, &calls, Routine::Nmi));
        }
        *program.features() = self.features;
        program
    }

    /// Returns the level of a table.
    pub(crate) fn level_of(&self, table: PhysAddr) -> u8 {
        match TABLES.iter().position(|&known| known == table) {
            None => self.features.levels,
            Some(_) if self.features.levels == 2 => 1,
            Some(number) => 2 - number as u8,
        }
    }

    /// Returns the lists of calls: of each CPU, then the handlers'.
    pub(crate) fn lists(&mut self) -> [&mut Vec<Call>; 4] {
        let [first, second] = &mut self.cpus;
        [first, second, &mut self.handler, &mut self.nmi]
    }

    /// Says whether what the script sends has a handler.
    pub(crate) fn has_handlers(&self) -> bool {
        self.calls().all(|call| match call {
            Call::SendIpi(_) => !self.handler.is_empty(),
            Call::SendNmi(_) => !self.nmi.is_empty(),
            _ => true,
        })
    }

    /// Returns every call.
    pub(crate) fn calls(&self) -> impl Iterator<Item = &Call> {
        let lists = [&self.cpus[0], &self.cpus[1], &self.handler, &self.nmi];
        lists.into_iter().flatten()
    }

    /// Returns the places of all page-table entries that the script ever gives a value, sorted.
    pub(crate) fn places(&self) -> Vec<(PhysAddr, u16)> {
        let first = self.first_entries.iter();
        let first = first.map(|&(table, index, _)| (table, index));
        let written = self.calls().filter_map(|call| match *call {
            Call::WriteEntry(table, index, _)
            | Call::WriteEntryBytes { table, index, .. }
            | Call::RmwEntry(table, index, ..)
            | Call::RmwEntryBytes { table, index, .. }
            | Call::ReadEntry(table, index) => Some((table, index)),
            _ => None,
        });
        let mut places: Vec<(PhysAddr, u16)> = first.chain(written).collect();
        places.sort_unstable();
        places.dedup();
        places
    }
}

/// Says whether a call answers anything.
pub(crate) fn has_answer(call: &Call) -> bool {
    matches!(
        call,
        Call::Load(_)
            | Call::RmwBytes { .. }
            | Call::ReadEntry(..)
            | Call::RmwEntry(..)
            | Call::RmwEntryBytes { .. }
            | Call::LoadVirtual(..)
            | Call::StoreVirtual { .. }
            | Call::RmwVirtual { .. }
            | Call::Fetch(..)
    )
}

/// Makes the calls of a routine, and notes their answers.
fn run(hw: &ModelHw, calls: &[Call], routine: Routine) {
    for (position, call) in calls.iter().enumerate() {
        let answer = perform(hw, call);
        // The cell holds 0 already, unless a handler runs again.
        if has_answer(call) && (answer != 0 || routine != Routine::Operation) {
            let cell = LocalCell {
                owner: hw.cpu().0 as u8,
                index: answer_cell(routine, position) as u8,
            };
            hw.store_local(&cell, answer);
        }
    }
}

/// Makes one call on the checker's machine; returns its answer, 0 for nothing.
fn perform(hw: &ModelHw, call: &Call) -> u64 {
    match *call {
        Call::Load(cell) => return hw.load(&cell),
        Call::Store(cell, value) => hw.store(&cell, value),
        Call::StoreBytes { cell, bytes, value } => hw.store_bytes(&cell, bytes, value),
        Call::RmwBytes {
            cell,
            bytes,
            rmw,
            operand,
        } => return hw.locked_rmw(&cell, bytes, rmw, operand),
        Call::ReadEntry(table, index) => return hw.read_entry(table, index).0,
        Call::WriteEntry(table, index, entry) => hw.write_entry(table, index, entry),
        Call::RmwEntry(table, index, rmw, operand) => {
            return hw.rmw_entry(table, index, rmw, Entry(operand)).0;
        }
        Call::WriteEntryBytes {
            table,
            index,
            bytes,
            value,
        } => hw.write_entry_bytes(table, index, bytes, value),
        Call::RmwEntryBytes {
            table,
            index,
            bytes,
            rmw,
            operand,
        } => return hw.rmw_entry_bytes(table, index, bytes, rmw, operand),
        Call::LoadVirtual(addr, privilege) => {
            return hw.load_virtual(addr, privilege).unwrap_or(FAULT);
        }
        Call::StoreVirtual {
            addr,
            bytes,
            value,
            privilege,
            non_temporal,
        } => {
            let done = hw.store_virtual(addr, bytes, value, privilege, non_temporal);
            return done.map_or(FAULT, |()| 0);
        }
        Call::RmwVirtual {
            addr,
            bytes,
            rmw,
            operand,
            privilege,
        } => {
            let old = hw.rmw_virtual(addr, bytes, rmw, operand, privilege);
            return old.unwrap_or(FAULT);
        }
        Call::Fetch(addr, privilege) => {
            return hw.fetch(addr, privilege).map_or(FAULT, |()| 0);
        }
        Call::Fence => hw.fence(),
        Call::StoreFence => hw.store_fence(),
        Call::Serialize => hw.serialize(),
        Call::SendIpi(targets) => {
            let mut set = CpuSet::<1>::EMPTY;
            for cpu in (0..2u16).filter(|cpu| targets >> cpu & 1 != 0) {
                set.insert(CpuId(cpu));
            }
            hw.send_ipi(&set);
        }
        Call::SendNmi(targets) => hw.send_nmi(targets),
        Call::LoadCr3(cr3, load) => {
            let root = PhysAddr(cr3.0 & !0xfff);
            hw.load_cr3_with_pcid(root, (cr3.0 & 0xfff) as u16, load);
        }
        Call::Invlpg(addr) => hw.invlpg(addr),
        Call::Invpcid(what) => hw.invpcid(what),
        Call::WriteCr4(cr4) => hw.write_cr4(cr4),
        Call::Invlpgb(what) => hw.invlpgb(what),
        Call::Tlbsync => hw.tlbsync(),
        other => unreachable!("no script has {other:?}"),
    }
    0
}

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "  on {}", self.setting)?;
        writeln!(f, "  {:?}", self.features)?;
        writeln!(
            f,
            "  CR4 = {}, ignored: {:?}",
            told_cr4(self.cr4),
            self.ignored
        )?;
        for &(table, index, entry) in &self.first_entries {
            writeln!(
                f,
                "  at first {}[{index}] = {}",
                name_of(table),
                told_entry(entry)
            )?;
        }
        let named = [
            ("CPU 0", &self.cpus[0]),
            ("CPU 1", &self.cpus[1]),
            ("handler", &self.handler),
            ("NMI", &self.nmi),
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
    let by = |privilege| match privilege {
        Privilege::User => "user",
        Privilege::Supervisor => "supervisor",
    };
    match *call {
        Call::WriteEntry(table, index, entry) => {
            format!("{}[{index}] = {}", name_of(table), told_entry(entry))
        }
        Call::ReadEntry(table, index) => format!("read {}[{index}]", name_of(table)),
        Call::RmwEntry(table, index, Rmw::And, operand) => {
            format!("locked {}[{index}] &= !{:#x}", name_of(table), !operand)
        }
        Call::RmwEntry(table, index, rmw, operand) => {
            let operand = told_entry(Entry(operand));
            format!("locked {}[{index}] {rmw:?} {operand}", name_of(table))
        }
        Call::WriteEntryBytes {
            table,
            index,
            bytes,
            value,
        } => format!("{}[{index}], bytes {bytes:#b} = {value:#x}", name_of(table)),
        Call::RmwEntryBytes {
            table,
            index,
            bytes,
            rmw,
            operand,
        } => {
            let table = name_of(table);
            format!("locked {table}[{index}], bytes {bytes:#b}, {rmw:?} {operand:#x}")
        }
        Call::LoadCr3(cr3, load) => {
            let (root, pcid) = (PhysAddr(cr3.0 & !0xfff), cr3.0 & 0xfff);
            let keep = if load == Cr3Load::Keep { ", keep" } else { "" };
            format!("CR3 = {}, PCID {pcid}{keep}", name_of(root))
        }
        Call::WriteCr4(cr4) => format!("CR4 = {}", told_cr4(cr4)),
        Call::Invlpg(VirtAddr(addr)) => format!("invlpg {addr:#x}"),
        Call::LoadVirtual(VirtAddr(addr), privilege) => {
            format!("{} load from {addr:#x}", by(privilege))
        }
        Call::StoreVirtual {
            addr: VirtAddr(addr),
            bytes,
            value,
            privilege,
            non_temporal,
        } => {
            let non_temporal = if non_temporal { "non-temporal " } else { "" };
            let by = by(privilege);
            format!("{by} {non_temporal}store of {value:#x} (bytes {bytes:#b}) to {addr:#x}")
        }
        Call::RmwVirtual {
            addr: VirtAddr(addr),
            bytes,
            rmw,
            operand,
            privilege,
        } => {
            let by = by(privilege);
            format!("{by} locked {rmw:?} {operand} of bytes {bytes:#b} at {addr:#x}")
        }
        Call::Fetch(VirtAddr(addr), privilege) => {
            format!("{} fetch from {addr:#x}", by(privilege))
        }
        other => format!("{other:?}"),
    }
}

fn told_cr4(cr4: Cr4) -> String {
    let names = [
        (Cr4::PGE, "PGE"),
        (Cr4::PCIDE, "PCIDE"),
        (Cr4::SMEP, "SMEP"),
    ];
    let set = names.iter().filter(|(bit, _)| cr4.has(*bit));
    format!("{:?}", set.map(|(_, name)| *name).collect::<Vec<_>>())
}

pub(crate) fn told_entry(entry: Entry) -> String {
    if !entry.is_present() {
        return "absent".to_owned();
    }
    let names = [
        (bits::WRITABLE, "w"),
        (bits::USER, "u"),
        (bits::WRITE_THROUGH, "pwt"),
        (bits::CACHE_DISABLE, "pcd"),
        (bits::ACCESSED, "a"),
        (bits::DIRTY, "d"),
        (bits::LARGE, "large"),
        (bits::GLOBAL, "g"),
        (bits::NO_EXECUTE, "nx"),
    ];
    let set = names.iter().filter(|(bit, _)| entry.0 & bit != 0);
    let set: Vec<&str> = set.map(|(_, name)| *name).collect();
    format!("{} ({})", name_of(entry.frame()), set.join(" "))
}

fn name_of(frame: PhysAddr) -> String {
    let among = |frames: &[PhysAddr]| frames.iter().position(|&known| known == frame);
    match (among(&ROOTS), among(&TABLES), among(&PAGES)) {
        (Some(number), ..) => format!("root{number}"),
        (_, Some(number), _) => format!("table{number}"),
        (_, _, Some(number)) => format!("page{number}"),
        _ if frame == DEVICE => "device".to_owned(),
        _ => format!("frame {}", frame.0 >> 12),
    }
}
