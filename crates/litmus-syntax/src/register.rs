//! The general-purpose registers and their widths.

use std::fmt;

use crate::error::SyntaxError;
use crate::lexer::{Lexer, Token};

/// Gives the number of bytes that an instruction reads or writes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Width {
    /// One byte, suffix `b`.
    Byte,
    /// Two bytes, suffix `w`.
    Word,
    /// Four bytes, suffix `l`.
    Long,
    /// Eight bytes, suffix `q`.
    Quad,
}

impl Width {
    /// Counts the bytes.
    pub fn bytes(self) -> u32 {
        match self {
            Width::Byte => 1,
            Width::Word => 2,
            Width::Long => 4,
            Width::Quad => 8,
        }
    }

    /// Tells whether `number` fits, signed or unsigned.
    pub fn holds(self, number: i128) -> bool {
        let bits = 8 * self.bytes();
        number >= -(1_i128 << (bits - 1)) && number < (1_i128 << bits)
    }

    /// Reads the suffix of an AT&T mnemonic.
    pub(crate) fn of_suffix(suffix: &str) -> Option<Width> {
        match suffix {
            "b" => Some(Width::Byte),
            "w" => Some(Width::Word),
            "l" => Some(Width::Long),
            "q" => Some(Width::Quad),
            _ => None,
        }
    }
}

/// Names a general-purpose register, whatever part of it an instruction uses.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum GeneralRegister {
    /// `rax`
    Rax,
    /// `rbx`
    Rbx,
    /// `rcx`
    Rcx,
    /// `rdx`
    Rdx,
    /// `rsi`
    Rsi,
    /// `rdi`
    Rdi,
    /// `rbp`
    Rbp,
    /// `rsp`
    Rsp,
    /// `r8`
    R8,
    /// `r9`
    R9,
    /// `r10`
    R10,
    /// `r11`
    R11,
    /// `r12`
    R12,
    /// `r13`
    R13,
    /// `r14`
    R14,
    /// `r15`
    R15,
}

/// Names the low bytes of a general-purpose register: `eax` is `rax` with [`Width::Long`].
///
/// The second bytes (`ah`, `bh`, `ch`, `dh`) are not part of the syntax.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Register {
    /// The whole register.
    pub general: GeneralRegister,
    /// How much of it.
    pub width: Width,
}

/// The names of each register, by width: 1, 2, 4 and 8 bytes.
const NAMES: [(GeneralRegister, [&str; 4]); 16] = [
    (GeneralRegister::Rax, ["al", "ax", "eax", "rax"]),
    (GeneralRegister::Rbx, ["bl", "bx", "ebx", "rbx"]),
    (GeneralRegister::Rcx, ["cl", "cx", "ecx", "rcx"]),
    (GeneralRegister::Rdx, ["dl", "dx", "edx", "rdx"]),
    (GeneralRegister::Rsi, ["sil", "si", "esi", "rsi"]),
    (GeneralRegister::Rdi, ["dil", "di", "edi", "rdi"]),
    (GeneralRegister::Rbp, ["bpl", "bp", "ebp", "rbp"]),
    (GeneralRegister::Rsp, ["spl", "sp", "esp", "rsp"]),
    (GeneralRegister::R8, ["r8b", "r8w", "r8d", "r8"]),
    (GeneralRegister::R9, ["r9b", "r9w", "r9d", "r9"]),
    (GeneralRegister::R10, ["r10b", "r10w", "r10d", "r10"]),
    (GeneralRegister::R11, ["r11b", "r11w", "r11d", "r11"]),
    (GeneralRegister::R12, ["r12b", "r12w", "r12d", "r12"]),
    (GeneralRegister::R13, ["r13b", "r13w", "r13d", "r13"]),
    (GeneralRegister::R14, ["r14b", "r14w", "r14d", "r14"]),
    (GeneralRegister::R15, ["r15b", "r15w", "r15d", "r15"]),
];

const WIDTHS: [Width; 4] = [Width::Byte, Width::Word, Width::Long, Width::Quad];

impl Register {
    /// Finds the register called `name`, in any case and without `%`.
    pub fn named(name: &str) -> Option<Register> {
        NAMES.iter().find_map(|(general, names)| {
            names
                .iter()
                .zip(WIDTHS)
                .find(|(known, _)| known.eq_ignore_ascii_case(name))
                .map(|(_, width)| Register {
                    general: *general,
                    width,
                })
        })
    }
}

impl fmt::Display for Register {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = NAMES
            .iter()
            .find(|(general, _)| *general == self.general)
            .and_then(|(_, names)| {
                names
                    .iter()
                    .zip(WIDTHS)
                    .find(|(_, width)| *width == self.width)
                    .map(|(name, _)| *name)
            });
        f.write_str(name.unwrap_or_default())
    }
}

/// Reads a register's name, with or without `%`.
pub(crate) fn register(lexer: &mut Lexer<'_>) -> Result<Register, SyntaxError> {
    lexer.eat("%")?;
    let (token, at) = lexer.next()?;
    let found = match token {
        Token::Name(word) => Register::named(word),
        _ => None,
    };
    found.ok_or_else(|| {
        SyntaxError::new(
            at,
            token,
            "a register",
            "write one of rax rbx rcx rdx rsi rdi rbp rsp r8 to r15, or its low part (eax, ax, al)",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_register_is_found_by_the_name_it_prints() {
        for (general, names) in NAMES {
            for (name, width) in names.into_iter().zip(WIDTHS) {
                let register = Register { general, width };
                assert_eq!(Register::named(&name.to_uppercase()), Some(register));
                assert_eq!(register.to_string(), name);
            }
        }
        assert_eq!(Register::named("ah"), None);
    }

    #[test]
    fn a_width_holds_its_signed_and_its_unsigned_numbers() {
        assert!(Width::Byte.holds(255) && Width::Byte.holds(-128));
        assert!(!Width::Byte.holds(256) && !Width::Byte.holds(-129));
        assert!(Width::Quad.holds(i128::from(u64::MAX)) && Width::Quad.holds(i128::from(i64::MIN)));
    }
}
