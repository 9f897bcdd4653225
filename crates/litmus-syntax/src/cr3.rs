//! What CR3 holds, as a literal: `CR3(B, pcid:2, keep)`.

use crate::entry::refuse_duplicate;
use crate::error::SyntaxError;
use crate::lexer::Lexer;
use crate::position::Position;

/// Gives a value of CR3.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Cr3Literal {
    /// The address space whose root it is.
    pub space: String,
    /// The PCID; `None` if not named.
    pub pcid: Option<u16>,
    /// Bit 63: a load of it invalidates nothing.
    pub keep: bool,
}

/// The last PCID that the model has.
const PCID_LIMIT: u64 = 255;

/// Reads `(B, pcid:2, keep)`.
pub(crate) fn literal(lexer: &mut Lexer<'_>) -> Result<Cr3Literal, SyntaxError> {
    const ADVICE: &str = "write `$CR3(A)`, `$CR3(B, pcid:2)` or `$CR3(B, pcid:2, keep)`";
    lexer.expect("(", ADVICE)?;
    let space = lexer.name("the name of an address space", ADVICE)?.0.into();
    let mut pcid = None;
    let mut keep = false;
    let mut seen = Vec::new();
    while lexer.eat(",")? {
        let (key, at) = lexer.name("`pcid` or `keep`", ADVICE)?;
        refuse_duplicate(&mut seen, key, key, at)?;
        match key {
            "keep" => keep = true,
            "pcid" => pcid = Some(key_pcid(lexer)?),
            _ => return Err(unknown_key(at, key, ADVICE)),
        }
    }
    lexer.expect(")", ADVICE)?;
    Ok(Cr3Literal { space, pcid, keep })
}

/// Reads `:2` behind `pcid`.
pub(crate) fn key_pcid(lexer: &mut Lexer<'_>) -> Result<u16, SyntaxError> {
    lexer.expect(":", "write `pcid:2`")?;
    pcid(lexer)
}

pub(crate) fn pcid(lexer: &mut Lexer<'_>) -> Result<u16, SyntaxError> {
    let at = lexer.peek()?.1;
    let number = lexer.number("a PCID", PCID_LIMIT)?;
    u16::try_from(number)
        .map_err(|_| SyntaxError::new(at, number, "a PCID", "write a number below 4096"))
}

pub(crate) fn unknown_key(at: Position, key: &str, advice: &str) -> SyntaxError {
    SyntaxError::new(
        at,
        format_args!("`{key}`"),
        "a key that this operand has",
        advice,
    )
}
