//! The instructions of translation tests. AT&T syntax only.

use crate::cr3::{self, Cr3Literal, key_pcid, pcid, unknown_key};
use crate::entry::{bit, refuse_duplicate};
use crate::error::SyntaxError;
use crate::instruction::{Instruction, InvpcidType, Stride};
use crate::lexer::{Lexer, Token};
use crate::location;
use crate::operand::{self, Dialect, Memory};
use crate::register::{self, Width};

const MNEMONICS: [&str; 13] = [
    "invlpg", "invpcid", "invlpgb", "tlbsync", "cpuid", "cli", "sti", "hlt", "ipi", "nmi", "wait",
    "fetch", "iretq",
];

/// Tells whether a mnemonic in lower case is one of these.
pub(crate) fn is_mnemonic(mnemonic: &str) -> bool {
    MNEMONICS.contains(&mnemonic)
}

/// Reads the operands of one of these instructions; `None` if the mnemonic is another.
pub(crate) fn instruction(
    mnemonic: &str,
    lexer: &mut Lexer<'_>,
) -> Result<Option<Instruction>, SyntaxError> {
    let instruction = match mnemonic {
        "invlpg" => Instruction::Invlpg(memory(lexer)?),
        "invpcid" => invpcid(lexer)?,
        "invlpgb" => invlpgb(lexer)?,
        "tlbsync" => Instruction::Tlbsync,
        "cpuid" => Instruction::Cpuid,
        "cli" => Instruction::Cli,
        "sti" => Instruction::Sti,
        "hlt" => Instruction::Hlt,
        "iretq" => Instruction::Iretq,
        "ipi" => Instruction::Ipi {
            thread: location::thread(lexer)?.0,
        },
        "nmi" => Instruction::Nmi {
            thread: location::thread(lexer)?.0,
        },
        "wait" => {
            let memory = memory(lexer)?;
            lexer.expect(",", "write `wait (x), $1`")?;
            Instruction::Wait {
                memory,
                value: operand::immediate(lexer)?,
            }
        }
        "fetch" => Instruction::Fetch(memory(lexer)?),
        _ => return Ok(None),
    };
    Ok(Some(instruction))
}

/// Reads the rest of a `mov` to CR3 or CR4; `None`, and nothing taken, if it is another `mov`.
pub(crate) fn control_register(lexer: &mut Lexer<'_>) -> Result<Option<Instruction>, SyntaxError> {
    let mut ahead = *lexer;
    if !ahead.eat("$")? {
        return Ok(None);
    }
    let (instruction, register) = if ahead.eat_word("cr3")? && ahead.peek()?.0 == OPEN {
        let Cr3Literal { space, pcid, keep } = cr3::literal(&mut ahead)?;
        if goes_to_a_general_register(ahead) {
            return Ok(None);
        }
        (Instruction::MovCr3 { space, pcid, keep }, "cr3")
    } else if ahead.eat_word("cr4")? && ahead.peek()?.0 == OPEN {
        (cr4(&mut ahead)?, "cr4")
    } else {
        return Ok(None);
    };
    if ahead.eat(",")? {
        ahead.expect("%", "write the control register last, `%cr3` or `%cr4`")?;
        let at = ahead.peek()?.1;
        if !ahead.eat_word(register)? {
            let found = "another destination";
            let advice = "`$CR3(…)` goes to `%cr3`, `$CR4(…)` to `%cr4`";
            return Err(SyntaxError::new(
                at,
                found,
                format_args!("`{register}`"),
                advice,
            ));
        }
    }
    *lexer = ahead;
    Ok(Some(instruction))
}

/// Tells whether the text goes on with `, %rax`: then `$CR3(…)` is a value like others.
fn goes_to_a_general_register(mut ahead: Lexer<'_>) -> bool {
    let found = |ahead: &mut Lexer<'_>| -> Result<bool, SyntaxError> {
        Ok(ahead.eat(",")? && register::register(ahead).is_ok())
    };
    // What is no token is refused by whoever reads it.
    found(&mut ahead).unwrap_or(false)
}

/// Reads the rest of a `mov` from a general register to CR3; `None`, and nothing taken, if it is another `mov`.
pub(crate) fn register_to_cr3(lexer: &mut Lexer<'_>) -> Result<Option<Instruction>, SyntaxError> {
    let mut ahead = *lexer;
    if ahead.peek()?.0 != Token::Symbol("%") {
        return Ok(None);
    }
    let at = ahead.peek()?.1;
    let Ok(register) = register::register(&mut ahead) else {
        return Ok(None);
    };
    if !(ahead.eat(",")? && ahead.eat("%")? && ahead.eat_word("cr3")?) {
        return Ok(None);
    }
    if register.width != Width::Quad {
        let found = format_args!("the register `{register}`");
        let advice = "CR3 has 64 bits: `movq %rax,%cr3`";
        return Err(SyntaxError::new(at, found, "a register of 8 bytes", advice));
    }
    *lexer = ahead;
    Ok(Some(Instruction::MovCr3From { register }))
}

const OPEN: Token<'_> = Token::Symbol("(");

fn memory(lexer: &mut Lexer<'_>) -> Result<Memory, SyntaxError> {
    operand::memory(lexer, Dialect::Att)
}

/// Reads `(pge:0, pcide:1, smep:1)`.
fn cr4(lexer: &mut Lexer<'_>) -> Result<Instruction, SyntaxError> {
    const ADVICE: &str = "write `$CR4(pge:0)`; the bits are `pge`, `pcide` and `smep`";
    let (mut pge, mut pcide, mut smep) = (None, None, None);
    let mut seen = Vec::new();
    lexer.expect("(", ADVICE)?;
    loop {
        let (key, at) = lexer.name("a bit of CR4", ADVICE)?;
        refuse_duplicate(&mut seen, key, key, at)?;
        let target = match key {
            "pge" => &mut pge,
            "pcide" => &mut pcide,
            "smep" => &mut smep,
            _ => return Err(unknown_key(at, key, ADVICE)),
        };
        lexer.expect(":", ADVICE)?;
        *target = Some(bit(lexer)?);
        if !lexer.eat(",")? {
            break;
        }
    }
    lexer.expect(")", ADVICE)?;
    Ok(Instruction::MovCr4 { pge, pcide, smep })
}

/// Reads `$0, $1, (x)`.
fn invpcid(lexer: &mut Lexer<'_>) -> Result<Instruction, SyntaxError> {
    const ADVICE: &str = "write `invpcid $type, $pcid, (x)`, or `invpcid $2`";
    lexer.expect("$", ADVICE)?;
    let at = lexer.peek()?.1;
    let kind = match lexer.number("a type of INVPCID", 3)? {
        0 => InvpcidType::Address,
        1 => InvpcidType::SingleContext,
        2 => InvpcidType::AllWithGlobal,
        _ => InvpcidType::AllExceptGlobal,
    };
    let names_no_pcid = matches!(
        kind,
        InvpcidType::AllWithGlobal | InvpcidType::AllExceptGlobal
    );
    if names_no_pcid && lexer.peek()?.0 != Token::Symbol(",") {
        return Ok(Instruction::Invpcid {
            kind,
            pcid: 0,
            address: None,
        });
    }
    lexer.expect(",", ADVICE)?;
    lexer.expect("$", ADVICE)?;
    let pcid = pcid(lexer)?;
    let address = match lexer.eat(",")? {
        true => Some(memory(lexer)?),
        false => None,
    };
    if kind == InvpcidType::Address && address.is_none() {
        let found = "`invpcid` of type 0 without address";
        return Err(SyntaxError::new(at, found, "an address", ADVICE));
    }
    Ok(Instruction::Invpcid {
        kind,
        pcid,
        address,
    })
}

/// Reads `$(va:x, pcid:1, global:1, final:1, stride:2m)`.
fn invlpgb(lexer: &mut Lexer<'_>) -> Result<Instruction, SyntaxError> {
    const ADVICE: &str = "write `invlpgb $(va:x, pcid:1, global:0, final:0, stride:4k)`";
    let (mut variable, mut pcid) = (None, None);
    let (mut global, mut final_only, mut stride) = (false, false, Stride::Page4K);
    let mut seen = Vec::new();
    lexer.expect("$", ADVICE)?;
    lexer.expect("(", ADVICE)?;
    while lexer.peek()?.0 != Token::Symbol(")") {
        let (key, at) = lexer.name("a field of `invlpgb`", ADVICE)?;
        refuse_duplicate(&mut seen, key, key, at)?;
        match key {
            "pcid" => pcid = Some(key_pcid(lexer)?),
            "va" | "global" | "final" | "stride" => {
                lexer.expect(":", ADVICE)?;
                match key {
                    "va" => variable = Some(lexer.name("a variable", ADVICE)?.0.into()),
                    "global" => global = bit(lexer)?,
                    "final" => final_only = bit(lexer)?,
                    _ => stride = read_stride(lexer)?,
                }
            }
            _ => return Err(unknown_key(at, key, ADVICE)),
        }
        if !lexer.eat(",")? {
            break;
        }
    }
    lexer.expect(")", ADVICE)?;
    Ok(Instruction::Invlpgb {
        variable,
        pcid,
        global,
        final_only,
        stride,
    })
}

fn read_stride(lexer: &mut Lexer<'_>) -> Result<Stride, SyntaxError> {
    let (token, at) = lexer.next()?;
    match token {
        Token::Name(word) if word.eq_ignore_ascii_case("4k") => Ok(Stride::Page4K),
        Token::Name(word) if word.eq_ignore_ascii_case("2m") => Ok(Stride::Page2M),
        other => Err(SyntaxError::new(
            at,
            other,
            "a stride",
            "write `4k` or `2m`",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::place::Place;
    use crate::value::Value;

    fn read(text: &str) -> Result<Instruction, SyntaxError> {
        let mut lexer = Lexer::new(text);
        let read = match lexer.name("", "")?.0 {
            "mov" | "movq" => control_register(&mut lexer),
            mnemonic => instruction(mnemonic, &mut lexer),
        };
        read.map(|read| read.expect("one of these"))
    }

    fn x() -> Memory {
        Memory::Place(Place::Variable("x".into()))
    }

    #[test]
    fn control_registers_take_named_values() {
        let expected = Instruction::MovCr3 {
            space: "B".into(),
            pcid: Some(2),
            keep: true,
        };
        assert_eq!(read("movq $CR3(B, pcid:2, keep), %cr3"), Ok(expected));
        let expected = Instruction::MovCr3 {
            space: "A".into(),
            pcid: None,
            keep: false,
        };
        assert_eq!(read("mov $CR3(A),%cr3"), Ok(expected));
        let expected = Instruction::MovCr4 {
            pge: Some(false),
            pcide: None,
            smep: None,
        };
        assert_eq!(read("movq $CR4(pge:0)"), Ok(expected.clone()));
        assert_eq!(read("movq $CR4(pge:0), %cr4"), Ok(expected));
    }

    #[test]
    fn invpcid_needs_an_address_for_type_0_only() {
        let kind = InvpcidType::Address;
        let expected = Instruction::Invpcid {
            kind,
            pcid: 1,
            address: Some(x()),
        };
        assert_eq!(read("invpcid $0, $1, (x)"), Ok(expected));
        let kind = InvpcidType::AllWithGlobal;
        let expected = Instruction::Invpcid {
            kind,
            pcid: 0,
            address: None,
        };
        assert_eq!(read("invpcid $2, $0"), Ok(expected.clone()));
        assert_eq!(read("invpcid $2"), Ok(expected));
        for text in ["invpcid $0, $1", "invpcid $4, $1, (x)", "invpcid $1, $4096"] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn invlpgb_has_fields_with_defaults() {
        let expected = Instruction::Invlpgb {
            variable: Some("x".into()),
            pcid: Some(1),
            global: true,
            final_only: true,
            stride: Stride::Page2M,
        };
        assert_eq!(
            read("invlpgb $(va:x, pcid:1, global:1, final:1, stride:2m)"),
            Ok(expected)
        );
        let expected = Instruction::Invlpgb {
            variable: None,
            pcid: None,
            global: false,
            final_only: false,
            stride: Stride::Page4K,
        };
        assert_eq!(read("invlpgb $()"), Ok(expected));
        assert!(read("invlpgb $(pcid:1, pcid:2)").is_err());
        assert!(read("invlpgb $(stride:1g)").is_err());
    }

    #[test]
    fn threads_wait_and_interrupt_each_other() {
        assert_eq!(read("ipi P1"), Ok(Instruction::Ipi { thread: 1 }));
        assert_eq!(read("nmi P0"), Ok(Instruction::Nmi { thread: 0 }));
        let value = Value::Number(1);
        assert_eq!(
            read("wait (x), $1"),
            Ok(Instruction::Wait { memory: x(), value })
        );
        assert_eq!(read("fetch (x)"), Ok(Instruction::Fetch(x())));
        assert_eq!(read("invlpg (x)"), Ok(Instruction::Invlpg(x())));
        assert!(read("ipi 1").is_err());
    }

    #[test]
    fn every_mnemonic_is_known_and_listed() {
        for text in ["tlbsync", "cpuid", "cli", "sti", "hlt", "iretq"] {
            assert!(read(text).is_ok() && is_mnemonic(text), "{text}");
        }
        for mnemonic in MNEMONICS {
            let read = instruction(mnemonic, &mut Lexer::new(""));
            assert_ne!(read, Ok(None), "{mnemonic}");
        }
    }

    #[test]
    fn a_general_register_may_hold_what_goes_to_cr3() {
        let mut lexer = Lexer::new("%rbx, %cr3");
        let register = crate::register::Register::named("rbx").expect("a register");
        let expected = Instruction::MovCr3From { register };
        assert_eq!(register_to_cr3(&mut lexer), Ok(Some(expected)));
        assert_eq!(register_to_cr3(&mut Lexer::new("%rbx, %rax")), Ok(None));
        assert!(register_to_cr3(&mut Lexer::new("%ebx, %cr3")).is_err());
        let value = control_register(&mut Lexer::new("$CR3(B, pcid:1, keep), %rbx"));
        assert_eq!(value, Ok(None));
    }

    #[test]
    fn wrong_control_registers_are_errors() {
        for text in [
            "movq $CR3(A), %cr4",
            "movq $CR3(A), %cr2",
            "movq $CR3(A, pcid:4096)",
            "movq $CR4(pse:1)",
            "movq $CR4()",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
