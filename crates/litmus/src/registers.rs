//! The registers of a thread, running.

use lazytlb_litmus_syntax::{GeneralRegister, Register, Width};

/// What the general-purpose registers hold.
#[derive(Clone, PartialEq, Eq, Default)]
pub(crate) struct Registers([u64; 16]);

impl Registers {
    /// Reads a register.
    pub(crate) fn get(&self, register: Register, width: Width) -> u64 {
        self.0[index_of(register.general)] & mask(width)
    }

    /// Writes a register: 32 bits clear those above, fewer leave them.
    pub(crate) fn set(&mut self, register: Register, width: Width, value: u64) {
        let whole = &mut self.0[index_of(register.general)];
        *whole = match width {
            Width::Quad | Width::Long => value & mask(width),
            Width::Word | Width::Byte => *whole & !mask(width) | value & mask(width),
        };
    }
}

/// Returns the bits of a width.
pub(crate) fn mask(width: Width) -> u64 {
    u64::MAX >> (64 - 8 * width.bytes())
}

fn index_of(register: GeneralRegister) -> usize {
    register as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn narrow_writes_keep_the_upper_bytes_and_32_bits_clear_them() {
        let rax = Register::named("rax").expect("a register");
        let mut registers = Registers::default();
        registers.set(rax, Width::Quad, u64::MAX);
        registers.set(rax, Width::Byte, 0x100);
        assert_eq!(registers.get(rax, Width::Quad), u64::MAX - 0xff);
        registers.set(rax, Width::Long, 1);
        assert_eq!(registers.get(rax, Width::Quad), 1);
    }
}
