//! The general-purpose registers.

use lazytlb_litmus_syntax::{GeneralRegister, Register, Width};

use crate::memory::Bytes;

/// The registers of a thread.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Registers {
    values: [u64; 16],
}

impl Registers {
    /// Reads a whole register.
    pub(crate) fn whole(&self, register: GeneralRegister) -> u64 {
        self.values[register as usize]
    }

    /// Reads the low part of a register.
    pub(crate) fn get(&self, register: Register) -> u64 {
        low(register.width).of(self.whole(register.general))
    }

    /// Writes the low part of a register: four bytes clear the upper half, one or two keep the rest.
    pub(crate) fn set(&mut self, register: Register, value: u64) {
        let slot = &mut self.values[register.general as usize];
        let bytes = low(register.width);
        *slot = match register.width {
            Width::Long | Width::Quad => bytes.of(value),
            Width::Byte | Width::Word => bytes.replaced(*slot, value),
        };
    }
}

/// Returns the bytes of a register that a width takes.
pub(crate) fn low(width: Width) -> Bytes {
    Bytes {
        offset: 0,
        count: width.bytes(),
    }
}
