//! How wide a variable is: what a condition compares of its word, and how it is printed.
//!
//! A C type in the init section says it; else it is as wide as the widest instruction that names it, and
//! where none does, as wide as the architecture's words.

use crate::init::InitItem;
use crate::instruction::Instruction;
use crate::location::Location;
use crate::operand::Memory;
use crate::place::Place;
use crate::register::Width;
use crate::test::{Arch, LitmusTest};
use crate::value::Value;

impl LitmusTest {
    /// Returns how wide a variable is: its C type says it, else the widest instruction that names it.
    pub fn width_of(&self, variable: &str) -> Width {
        let mut first = None;
        for item in &self.init {
            if let InitItem::Set {
                ctype,
                location: Location::Memory(Place::Variable(name) | Place::Frame(name)),
                value,
            } = &item.value
                && name == variable
            {
                if let Some(width) = ctype.as_deref().and_then(of_ctype) {
                    return width;
                }
                first = first.or(value.as_ref());
            }
        }
        let instructions = self.threads.iter().flat_map(|thread| &thread.instructions);
        let named = instructions.filter_map(|located| of_access(&located.value, variable));
        let usual = match self.arch {
            Arch::X86 => Width::Long,
            Arch::X86_64 => Width::Quad,
        };
        let widest = named.max_by_key(|width| width.bytes()).unwrap_or(usual);
        match first {
            None => widest,
            Some(Value::Number(number)) if widest.holds(*number) => widest,
            Some(_) => usual,
        }
    }
}

/// Returns the width of an instruction's access to a variable that it names.
fn of_access(instruction: &Instruction, variable: &str) -> Option<Width> {
    let (Instruction::Mov { width, .. }
    | Instruction::Xchg { width, .. }
    | Instruction::Alu { width, .. }
    | Instruction::Compare { width, .. }
    | Instruction::Movnti { width, .. }) = instruction
    else {
        return None;
    };
    match instruction.accessed()? {
        Memory::Place(Place::Variable(name) | Place::Frame(name)) => {
            (name == variable).then_some(*width)
        }
        Memory::Place(Place::Entry(_) | Place::Slot { .. }) | Memory::Register { .. } => None,
    }
}

/// Returns the width of a C type; `None` if it is not known.
fn of_ctype(ctype: &str) -> Option<Width> {
    if ctype.contains('*') {
        return Some(Width::Quad);
    }
    ctype.split_whitespace().rev().find_map(|word| match word {
        "char" | "int8_t" | "uint8_t" => Some(Width::Byte),
        "short" | "int16_t" | "uint16_t" => Some(Width::Word),
        "int" | "unsigned" | "int32_t" | "uint32_t" => Some(Width::Long),
        "long" | "int64_t" | "uint64_t" | "intptr_t" | "uintptr_t" => Some(Width::Quad),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn width(init: &str, cell: &str) -> Width {
        let text = format!("X86_64 T\n{{ {init} }}\n P0 ;\n {cell} ;\nexists (x=1)\n");
        crate::read(&text).expect("reads").width_of("x")
    }

    #[test]
    fn a_type_decides_then_the_widest_access() {
        assert_eq!(width("int8_t x;", "movl $1,(x)"), Width::Byte);
        assert_eq!(width("uint64_t x; int y;", "movl $1,(x)"), Width::Quad);
        assert_eq!(width("long long x=1;", "nop"), Width::Quad);
        assert_eq!(width("int *x=y;", "nop"), Width::Quad);
        assert_eq!(width("x=1;", "movl $1,(x)"), Width::Long);
        assert_eq!(width("", "lock incw (x)"), Width::Word);
        assert_eq!(width("x=0x100000000;", "movl $1,(x)"), Width::Quad);
        assert_eq!(width("x=y;", "movl $1,(x)"), Width::Quad);
        assert_eq!(width("0:rbx=x;", "movl $1,(%rbx)"), Width::Quad);
    }
}
