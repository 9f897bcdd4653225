//! Calls and declarations that mean nothing on the program's machine: what they name is not there.
//!
//! The model's numbers are small, so a wrong one often stands for something else that does exist, or for
//! nothing at all, and a search would end as safe without a word. So each is an error before it is made, and
//! says what to do. What only a *wrong execution* does (a private word of another CPU, an IPI to a CPU that is not
//! there) is a violation instead, and has a counterexample.

use lazytlb::{FlushRange, PhysAddr, Spaces, VirtAddr};
use lazytlb_model::{
    AtomicCell, Breach, Broadcast, Call, Cr4, FrameUse, Invpcid, LocalCell, Property, TableIndex,
};

use crate::program::Program;
use crate::routine::Routine;

/// A mistake in a sentence: what is wrong, and what to do.
type Mistake = String;

impl Program {
    /// Looks at what the program declares, before anything runs.
    pub(crate) fn test_declarations(&self) -> Result<(), Mistake> {
        if let Some(mistake) = &self.mistake {
            return Err(mistake.clone());
        }
        if self.operations.is_empty() {
            return Err(
                "the program has 0 CPUs, on which nothing happens: give `Program::new` 1 to 8"
                    .into(),
            );
        }
        for &(table, index, _) in &self.entries {
            self.test_entry(table, index)?;
            self.test_is_table(table)?;
        }
        for &(table, index) in &self.watched_entries {
            self.test_entry(table, index)?;
        }
        for &cell in self.page_words.iter().flatten() {
            self.test_atomic(cell)?;
        }
        if self.features.levels < 2 {
            return Err(format!(
                "the program has page tables of {} levels: give `features().levels` 2 to 5",
                self.features.levels
            ));
        }
        self.test_ignored()?;
        self.test_frame("the first root", self.root)
    }

    /// Fails if a property is to be ignored after which no execution goes on.
    fn test_ignored(&self) -> Result<(), Mistake> {
        let ends = [Property::Panic, Property::GeneralProtection];
        match self.ignored.iter().find(|property| ends.contains(property)) {
            None => Ok(()),
            Some(property) => Err(format!(
                "the program ignores `{property}`, which cannot be left out: an execution that violates it does \
                 not go on. Remove the call of `Program::ignore`"
            )),
        }
    }

    /// Looks at a call that the code of a CPU is about to make.
    pub(crate) fn test_call(&self, routine: Routine, call: &Call) -> Result<(), Mistake> {
        match *call {
            Call::Halt => test_sleep(routine),
            Call::Load(cell) | Call::Store(cell, _) | Call::Rmw(cell, ..) => self.test_atomic(cell),
            Call::PauseUntil(cell, _) => self.test_atomic(cell),
            Call::StoreBytes { cell, bytes, .. } => {
                Bytes(bytes).test_some()?;
                self.test_atomic(cell)
            }
            Call::RmwBytes { cell, bytes, .. } => {
                Bytes(bytes).test_some()?;
                Bytes(bytes).test_adjacent()?;
                self.test_atomic(cell)
            }
            Call::LoadLocal(cell) | Call::StoreLocal(cell, _) => self.test_local(cell),
            Call::SendIpi(targets) if targets != 0 && self.handler.is_none() => {
                Err(no_handler("an IPI", "Program::on_flush_interrupt"))
            }
            Call::SendNmi(targets) if targets != 0 && self.nmi_handler.is_none() => {
                Err(no_handler("an NMI", "Program::on_nmi"))
            }
            _ => self.test_call_of_tables(call),
        }
    }

    /// Looks at a call that names page tables, frames or spaces.
    fn test_call_of_tables(&self, call: &Call) -> Result<(), Mistake> {
        match *call {
            Call::ReadEntry(table, index)
            | Call::WriteEntry(table, index, _)
            | Call::RmwEntry(table, index, ..) => self.test_entry(table, index),
            Call::WriteEntryBytes {
                table,
                index,
                bytes,
                ..
            }
            | Call::RmwEntryBytes {
                table,
                index,
                bytes,
                ..
            } => {
                Bytes(bytes).test_some()?;
                Bytes(bytes).test_adjacent()?;
                self.test_entry(table, index)
            }
            Call::LoadCr3(root, _) => {
                self.test_pcid((root.0 & PCID_BITS) as u16)?;
                self.test_frame_at("the root", page_of(root))
            }
            Call::PromiseBegins(spaces, range) => {
                self.test_range(range)?;
                self.test_spaces(spaces)
            }
            Call::FlushBegins(root, range) => {
                self.test_range(range)?;
                self.test_frame_at("the root", page_of(root))
            }
            Call::FreeFrame(frame) => self.test_frame("the frame to free", frame),
            Call::Breaks(Breach::Loses(frame)) => self.test_frame("the lost frame", frame),
            Call::ReadDevice(frame) => self.test_frame("the device", frame),
            Call::WriteCr4(cr4) => self.test_cr4(cr4),
            Call::ChangeCr4 { set, clear } => self.test_cr4(set.with(clear, true)),
            Call::Invpcid(what) => self.test_invpcid(what),
            _ => self.test_call_of_address(call),
        }
    }

    /// Looks at a call that names a virtual address.
    fn test_call_of_address(&self, call: &Call) -> Result<(), Mistake> {
        match *call {
            Call::Invlpgb(Broadcast { addr, pcid, .. }) => {
                self.test_pcid(pcid.unwrap_or(0))?;
                self.test_addr(addr.unwrap_or(VirtAddr(0)))
            }
            Call::Invlpg(addr) => self.test_addr(addr),
            Call::Touch(addr, _) | Call::LoadVirtual(addr, _) | Call::Fetch(addr, _) => {
                self.test_addr(addr)
            }
            Call::TouchNonTemporal(addr) => {
                self.test_non_temporal()?;
                self.test_addr(addr)
            }
            Call::StoreVirtual {
                addr, non_temporal, ..
            } => {
                if non_temporal {
                    self.test_non_temporal()?;
                }
                self.test_addr(addr)
            }
            Call::RmwVirtual { addr, bytes, .. } => {
                Bytes(bytes).test_adjacent()?;
                self.test_addr(addr)
            }
            // They name nothing, or a CPU, which is a violation where it is not there.
            _ => Ok(()),
        }
    }

    fn test_atomic(&self, cell: AtomicCell) -> Result<(), Mistake> {
        let count = self.atomics.len();
        match usize::from(cell.0) < count {
            true => Ok(()),
            false => Err(format!(
                "the shared cell {} is of another program: this one has made {count} with `Program::atomic`, \
                 and its operations may use those only",
                cell.0
            )),
        }
    }

    fn test_local(&self, cell: LocalCell) -> Result<(), Mistake> {
        let own = self.own_cells.get(usize::from(cell.owner)).map(Vec::len);
        match own {
            Some(count) if usize::from(cell.index) < count => Ok(()),
            _ => Err(format!(
                "the private cell {} of CPU {} is of another program: this one has made {} there with \
                 `Program::local`, and its operations may use those only",
                cell.index,
                cell.owner,
                own.unwrap_or(0)
            )),
        }
    }

    fn test_entry(&self, table: PhysAddr, index: u16) -> Result<(), Mistake> {
        if index >= TableIndex::COUNT {
            return Err(format!(
                "index {index} lies past the end of a page table: it has entries 0 to {}",
                TableIndex::COUNT - 1
            ));
        }
        self.test_frame("the table", table)
    }

    /// Fails if a frame, which the program has, is no page table at the start.
    fn test_is_table(&self, frame: PhysAddr) -> Result<(), Mistake> {
        let number = (frame.0 >> PAGE_SHIFT) as usize;
        let what = match self.frames.get(number) {
            Some(FrameUse::Table) | None => return Ok(()),
            Some(FrameUse::Page) => "a page's",
            Some(FrameUse::Device) => "a device's",
            Some(FrameUse::Free) => "free",
        };
        Err(format!(
            "frame {number} is given a page-table entry at the start, and is {what}: `Program::table` makes a page table"
        ))
    }

    fn test_spaces(&self, spaces: Spaces) -> Result<(), Mistake> {
        let Spaces::Roots(roots) = spaces else {
            return Ok(());
        };
        let mut roots = roots.into_iter().flatten();
        roots.try_for_each(|root| self.test_frame_at("the root", page_of(root)))
    }

    /// Fails if a range lies past what the page tables translate: one that only ends there is for what they do.
    fn test_range(&self, range: FlushRange) -> Result<(), Mistake> {
        match range {
            FlushRange::All => Ok(()),
            FlushRange::Pages(pages) => self.test_addr(pages.start),
        }
    }

    fn test_invpcid(&self, what: Invpcid) -> Result<(), Mistake> {
        match what {
            Invpcid::Address(pcid, addr) => {
                self.test_pcid(pcid)?;
                self.test_addr(addr)
            }
            Invpcid::Pcid(pcid) => self.test_pcid(pcid),
            Invpcid::AllWithGlobals | Invpcid::AllNonGlobal => Ok(()),
        }
    }

    fn test_frame(&self, what: &str, addr: PhysAddr) -> Result<(), Mistake> {
        if page_of(addr) != addr {
            let base = page_of(addr).0;
            return Err(format!(
                "{what} is at {:#x}, which is no frame's start: did you mean {base:#x}?",
                addr.0
            ));
        }
        self.test_frame_at(what, addr)
    }

    fn test_frame_at(&self, what: &str, addr: PhysAddr) -> Result<(), Mistake> {
        let (number, count) = (addr.0 >> PAGE_SHIFT, self.frames.len());
        match number < count as u64 {
            true => Ok(()),
            false => Err(format!(
                "{what} is frame {number}, and the program has the frames 0 to {}: make them with \
                 `Program::table`, `Program::page`, `Program::device` or `Program::free_frames`",
                count - 1
            )),
        }
    }

    fn test_addr(&self, addr: VirtAddr) -> Result<(), Mistake> {
        let levels = self.features.levels;
        let bits = PAGE_SHIFT + 9 * u32::from(levels);
        match addr.0 >> bits {
            0 => Ok(()),
            _ => Err(format!(
                "the address {:#x} lies past what page tables of {levels} levels translate: they have {bits} bits, \
                 and the model does not extend their sign. Every access there would fault, and nothing there is \
                 ever cached: choose a lower address, or more `features().levels`",
                addr.0
            )),
        }
    }

    fn test_pcid(&self, pcid: u16) -> Result<(), Mistake> {
        match u8::try_from(pcid) {
            Err(_) if self.features.tags => Err(format!(
                "PCID {pcid}: the model has the PCIDs 0 to {}, which are as good as any others",
                u8::MAX
            )),
            _ => Ok(()),
        }
    }

    fn test_non_temporal(&self) -> Result<(), Mistake> {
        match self.features.write_combining {
            0 => Err(
                "a non-temporal store is made, and the program's CPUs have no write-combining buffers that it \
                 would wait in: say `features().write_combining = 1`"
                    .into(),
            ),
            _ => Ok(()),
        }
    }

    fn test_cr4(&self, bits: Cr4) -> Result<(), Mistake> {
        let known = Cr4::PGE.with(Cr4::PCIDE, true).with(Cr4::SMEP, true);
        if !known.has(bits) {
            return Err(format!(
                "the model does not know all bits of CR4 in {bits:?}: PGE, PCIDE and SMEP are there"
            ));
        }
        match self.features.tags {
            true => Ok(()),
            false => Err(
                "CR4 is written, which this program's CPUs do not have: say `features().tags = true`".into(),
            ),
        }
    }
}

const PAGE_SHIFT: u32 = 12;
/// The bits of CR3 below a root's address.
const PCID_BITS: u64 = (1 << PAGE_SHIFT) - 1;

/// Returns the start of the frame that an address lies in: the bits below it are a PCID, or mean nothing.
fn page_of(addr: PhysAddr) -> PhysAddr {
    PhysAddr(addr.0 >> PAGE_SHIFT << PAGE_SHIFT)
}

/// Fails if a handler goes to sleep: an interrupt that comes then would have to end a sleep amid another's handler.
fn test_sleep(routine: Routine) -> Result<(), Mistake> {
    match routine {
        Routine::Operation(_) => Ok(()),
        Routine::Handler | Routine::Nmi | Routine::Timer => Err(
            "a handler executes STI; HLT, in which no interrupt would reach it: only operations sleep \
             (`ModelHw::halt`), and take interrupts meanwhile"
                .into(),
        ),
    }
}

fn no_handler(what: &str, setter: &str) -> Mistake {
    format!(
        "{what} is sent, and the program has no handler for it: nobody would ever take it. Set one with `{setter}`"
    )
}

/// Bytes of a word, a bit each, as a program gives them.
#[derive(Clone, Copy)]
struct Bytes(u8);

impl Bytes {
    fn test_some(self) -> Result<(), Mistake> {
        match self.0 {
            0 => Err(
                "0 bytes of a word are accessed: a bit each says which; 0xff are all eight".into(),
            ),
            _ => Ok(()),
        }
    }

    /// An instruction accesses bytes that lie side by side.
    fn test_adjacent(self) -> Result<(), Mistake> {
        let low = self.0 >> self.0.trailing_zeros().min(7);
        match low & low.wrapping_add(1) {
            0 => Ok(()),
            _ => Err(format!(
                "one instruction accesses the bytes {:#010b}, which are not side by side: 0xff are all eight",
                self.0
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_one_instruction_lie_side_by_side() {
        for bytes in [0, 1, 0b110, 0x80, 0xf0, 0xff] {
            assert!(Bytes(bytes).test_adjacent().is_ok(), "{bytes:#b}");
        }
        for bytes in [0b101, 0b1001, 0x81, 0b1011_0000] {
            assert!(Bytes(bytes).test_adjacent().is_err(), "{bytes:#b}");
        }
    }
}
