//! How a thread's instructions access memory: the machine's call for each kind of place.
//!
//! An access that takes a page fault returns `None`, and its instruction is skipped.

use lazytlb::{Entry, Hw, Memory as _, VirtAddr};
use lazytlb_check::ModelHw;
use lazytlb_litmus_syntax::{Position, SyntaxError, Width};
use lazytlb_model::{Privilege, Rmw};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::code::Hint;
use crate::loops::Effect;
use crate::page_tables::Slot;
use crate::registers::mask;
use crate::world::{Target, World};

/// What the threads of a test have in common.
#[derive(Debug)]
pub(crate) struct Common {
    pub(crate) world: World,
    /// Whether every access to a word is of this width, at its start: then a store writes all of it.
    pub(crate) only_width: Option<Width>,
    /// What some execution does that no machine could: then the test has no answer.
    pub(crate) nonsense: OnceLock<SyntaxError>,
    /// Whether executions were left out whose ends others have: a round of a loop in them changed nothing.
    pub(crate) leaves_out: AtomicBool,
    /// Where a loop was cut that would have gone on: then not everything is explored.
    pub(crate) cut: OnceLock<Position>,
}

/// The memory as one instruction of a thread sees it.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    pub(crate) hw: &'a ModelHw,
    pub(crate) common: &'a Common,
    pub(crate) privilege: Privilege,
    /// Where the instruction stands.
    pub(crate) at: Position,
}

/// Some bytes of a word.
#[derive(Clone, Copy)]
pub(crate) struct Part {
    pub(crate) target: Target,
    /// How far into its word they begin.
    pub(crate) offset: u32,
    pub(crate) width: Width,
}

impl Part {
    fn bytes(self) -> u8 {
        let bytes = ((1_u16 << self.width.bytes()) - 1) << self.offset;
        bytes as u8
    }

    /// Returns what a load of it may do to the machine: past all translations, nothing.
    pub(crate) fn effect_of_load(self) -> Effect {
        match self.target {
            Target::Cell(_) => Effect::None,
            Target::Virtual(_) | Target::Entry(_) => Effect::Possible,
        }
    }

    /// Returns what a locked read-modify-write of it may have done: nothing, if it wrote what was there.
    pub(crate) fn effect_of_locked(self, old: u64, new: u64) -> Effect {
        match old == new {
            true => self.effect_of_load(),
            false => Effect::Possible,
        }
    }

    fn shift(self) -> u32 {
        8 * self.offset
    }
}

impl View<'_> {
    /// Gives up an execution that no machine could take, and with it the test.
    pub(crate) fn refuse(&self, found: String, expected: &str, advice: &str) -> ! {
        let error = SyntaxError::new(self.at, found, expected, advice);
        let told = error.to_string();
        // One is enough, whichever execution is the first to find one.
        let _ = self.common.nonsense.set(error);
        panic!("{told}")
    }

    /// Ends an execution all of whose ends others have.
    pub(crate) fn leave_out(&self) -> ! {
        self.common.leaves_out.store(true, Ordering::Relaxed);
        panic!("a round of a loop has changed nothing")
    }

    /// Ends an execution in which a loop goes on too long.
    pub(crate) fn cut(&self) -> ! {
        let _ = self.common.cut.set(self.at);
        panic!("a loop goes on too long")
    }

    /// Finds what an address in a register points to.
    pub(crate) fn at_address(&self, address: VirtAddr, width: Width) -> Part {
        let Some(target) = self.common.world.at_address(address) else {
            let advice = "give the register an address in the init section: `0:rbx=x;`";
            let found = format!("the address {:#x} in a register", address.0);
            self.refuse(found, "the address of a variable or an entry", advice)
        };
        let offset = (address.0 % 8) as u32;
        if offset + width.bytes() > 8 {
            let found = format!("{} bytes at the address {:#x}", width.bytes(), address.0);
            let advice = "the model has no access that crosses into the next word";
            self.refuse(found, "an access inside one word of 8 bytes", advice)
        }
        Part {
            target,
            offset,
            width,
        }
    }

    /// Loads some bytes.
    #[inline]
    pub(crate) fn load(&self, part: Part) -> Option<u64> {
        let word = match part.target {
            Target::Cell(cell) => self.hw.load(&cell),
            Target::Virtual(addr) => self.hw.load_virtual(addr, self.privilege)?,
            Target::Entry(slot) => self.hw.read_entry(slot.table, slot.index).0,
        };
        Some(word >> part.shift() & mask(part.width))
    }

    /// Stores some bytes.
    #[inline]
    pub(crate) fn store(&self, part: Part, value: u64, hint: Hint) -> Option<()> {
        let placed = value << part.shift();
        let is_whole = self.common.only_width == Some(part.width) && part.offset == 0;
        match part.target {
            Target::Cell(_) | Target::Entry(_)
                if hint == Hint::NonTemporal && self.common.world.is_translated =>
            {
                let found = "a non-temporal store without translation".to_owned();
                let advice = "write `movnti $1,(x)`: the model has them by virtual address only";
                self.refuse(found, "a virtual address", advice)
            }
            Target::Cell(cell) if is_whole => self.hw.store(&cell, value),
            Target::Cell(cell) => self.hw.store_bytes(&cell, part.bytes(), placed),
            Target::Virtual(addr) => {
                let bytes = if is_whole { 0 } else { part.bytes() };
                let (hw, privilege) = (self.hw, self.privilege);
                let is_non_temporal = hint == Hint::NonTemporal;
                hw.store_virtual(addr, bytes, placed, privilege, is_non_temporal)?;
            }
            Target::Entry(slot) => match part.width {
                Width::Quad => self.hw.write_entry(slot.table, slot.index, Entry(placed)),
                Width::Long | Width::Word | Width::Byte => {
                    let bytes = part.bytes();
                    self.hw
                        .write_entry_bytes(slot.table, slot.index, bytes, placed);
                }
            },
        }
        Some(())
    }

    /// Reads, modifies and writes some bytes as one. Returns what was there.
    #[inline]
    pub(crate) fn locked(&self, part: Part, rmw: Rmw, operand: u64) -> Option<u64> {
        match part.target {
            Target::Cell(cell) => Some(self.hw.locked_rmw(&cell, part.bytes(), rmw, operand)),
            Target::Entry(Slot { table, index }) => Some(match part.width {
                Width::Quad => self.hw.rmw_entry(table, index, rmw, Entry(operand)).0,
                Width::Long | Width::Word | Width::Byte => {
                    let bytes = part.bytes();
                    self.hw.rmw_entry_bytes(table, index, bytes, rmw, operand)
                }
            }),
            Target::Virtual(addr) => {
                let (hw, privilege) = (self.hw, self.privilege);
                hw.rmw_virtual(addr, part.bytes(), rmw, operand, privilege)
            }
        }
    }
}
