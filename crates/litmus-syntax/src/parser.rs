//! A whole file: header, init, table, `locations`, `filter` and condition, and what may follow.

use crate::condition::{self, Condition, Quantifier};
use crate::error::SyntaxError;
use crate::expr::{self, Expr};
use crate::header::{self, Header};
use crate::init;
use crate::lexer::{Lexer, Token};
use crate::location::{self, Location};
use crate::position::Position;
use crate::table;
use crate::test::LitmusTest;

/// Reads a litmus test.
///
/// A test with `locations` but no condition gets the condition `forall (true)`, as in herd.
///
/// # Errors
/// [`SyntaxError`] at the first place that is no litmus test, or has syntax that is not supported.
pub fn read(text: &str) -> Result<LitmusTest, SyntaxError> {
    let mut lexer = Lexer::new(text);
    let Header {
        arch,
        name,
        title,
        metadata,
        metadata_positions,
        free_text,
    } = header::header(&mut lexer)?;
    let init = init::init(&mut lexer)?;
    let threads = table::table(&mut lexer, arch)?;
    let Sections {
        filter,
        locations,
        location_positions,
        condition,
    } = sections(&mut lexer)?;
    Ok(LitmusTest {
        arch,
        name,
        title,
        metadata,
        metadata_positions,
        free_text,
        init,
        threads,
        filter,
        locations,
        location_positions,
        condition,
    })
}

/// Reads a litmus test from the bytes of a file.
///
/// # Errors
/// As [`read`]; and if the bytes are not UTF-8, with the position of the first that is not.
pub fn read_bytes(bytes: &[u8]) -> Result<LitmusTest, SyntaxError> {
    let error = match str::from_utf8(bytes) {
        Ok(text) => return read(text),
        Err(error) => error,
    };
    let valid = bytes.get(..error.valid_up_to()).unwrap_or_default();
    let mut at = Position::START;
    for character in String::from_utf8_lossy(valid).chars() {
        at.step(character);
    }
    let byte = bytes.get(error.valid_up_to()).copied().unwrap_or_default();
    let found = format_args!("the byte {byte:#04x}");
    Err(SyntaxError::new(
        at,
        found,
        "UTF-8",
        "convert the file to UTF-8 or remove the byte",
    ))
}

/// What stands behind the table.
struct Sections {
    filter: Option<Expr>,
    locations: Vec<Location>,
    location_positions: Vec<Position>,
    condition: Condition,
}

/// Reads the sections behind the table, in any order, each at most once but for `locations`.
fn sections(lexer: &mut Lexer<'_>) -> Result<Sections, SyntaxError> {
    let mut filter = None;
    let mut locations: Option<Vec<(Location, Position)>> = None;
    let mut condition: Option<Condition> = None;
    loop {
        let before = *lexer;
        // Behind the condition anything may follow, also what is no token.
        let ahead = match lexer.peek() {
            Err(_) if condition.is_some() => break,
            ahead => ahead?,
        };
        match ahead {
            (Token::Name("locations"), _) if opens_list(before) => {
                self::locations(lexer, locations.get_or_insert_default())?;
            }
            (Token::Name("filter"), at) if condition.is_none() || opens_expr(before) => {
                if filter.is_some() {
                    return Err(twice(at, "`filter`"));
                }
                lexer.next()?;
                filter = Some(expr::expr(lexer)?);
                refuse_rest_of_line(*lexer)?;
            }
            _ if condition.is_none() && condition::starts_here(before) => {
                condition = Some(condition::condition(lexer)?);
                eat_semicolon(lexer);
                refuse_rest_of_line(*lexer)?;
            }
            (_, at) if condition.is_some() && condition::starts_here(before) => {
                return Err(twice(at, "a condition"));
            }
            _ => break,
        }
    }
    let condition = match (condition, &locations) {
        (Some(condition), _) => condition,
        (None, Some(_)) if is_end(*lexer) => Condition {
            quantifier: Quantifier::Forall,
            expr: Expr::True,
        },
        (None, _) => condition::condition(lexer)?,
    };
    let (locations, location_positions) = locations.unwrap_or_default().into_iter().unzip();
    Ok(Sections {
        filter,
        locations,
        location_positions,
        condition,
    })
}

fn twice(at: Position, what: &str) -> SyntaxError {
    let found = format_args!("{what} for the second time");
    SyntaxError::new(at, found, "only one", "join them, or make two tests")
}

/// Tells whether nothing follows that belongs to the test.
fn is_end(lexer: Lexer<'_>) -> bool {
    matches!(lexer.peek(), Ok((Token::End | Token::Symbol("<<"), _)))
}

fn opens_list(mut ahead: Lexer<'_>) -> bool {
    ahead.next().is_ok() && matches!(ahead.peek(), Ok((Token::Symbol("["), _)))
}

fn opens_expr(mut ahead: Lexer<'_>) -> bool {
    ahead.next().is_ok() && matches!(ahead.peek(), Ok((Token::Symbol("(" | "~" | "["), _)))
}

fn eat_semicolon(lexer: &mut Lexer<'_>) {
    // What is no token is no semicolon either, and may follow.
    let _ = lexer.eat(";");
}

/// Reads `locations [x; 0:EAX;]`; types behind the names are skipped.
fn locations(
    lexer: &mut Lexer<'_>,
    list: &mut Vec<(Location, Position)>,
) -> Result<(), SyntaxError> {
    const ADVICE: &str = "write `locations [x; 0:rax;]`";
    lexer.eat_word("locations")?;
    lexer.expect("[", ADVICE)?;
    loop {
        while lexer.eat(";")? {}
        if lexer.eat("]")? {
            return Ok(());
        }
        let at = lexer.peek()?.1;
        list.push((location::location(lexer)?, at));
        while matches!(lexer.peek()?.0, Token::Name(_) | Token::Symbol("*")) {
            lexer.next()?;
        }
        let (token, at) = lexer.peek()?;
        if !matches!(token, Token::Symbol(";" | "]")) {
            return Err(SyntaxError::new(at, token, "`;` or `]`", ADVICE));
        }
    }
}

/// Refuses text that looks like more of an expression: to ignore it would weaken the question.
///
/// On the next lines words may follow (`Observed …`), on the same line only another section.
fn refuse_rest_of_line(lexer: Lexer<'_>) -> Result<(), SyntaxError> {
    const ADVICE: &str =
        "join propositions with `/\\` or `\\/`, and start other text on a new line";
    let line = lexer.position().line;
    let (token, at) = match lexer.peek() {
        Ok(ahead) => ahead,
        Err(error) if error.line == line => return Err(error),
        Err(_) => return Ok(()),
    };
    let allowed = match token {
        Token::End | Token::Symbol("<<") => true,
        Token::Name("with" | "locations" | "filter") => true,
        Token::Symbol("~") => condition::starts_here(lexer),
        Token::Name(_) if condition::starts_here(lexer) => true,
        Token::Symbol(symbol) => at.line != line && !OPERATORS.contains(&symbol),
        Token::Name(_) | Token::Number(_) => at.line != line,
    };
    match allowed {
        true => Ok(()),
        false => Err(SyntaxError::new(
            at,
            token,
            "the end of the condition",
            ADVICE,
        )),
    }
}

/// Symbols that nobody starts a line of prose with.
const OPERATORS: [&str; 12] = [
    "&", "&&", "|", "||", "=", "==", "!=", "<>", "=>", ",", ")", "]",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::atom::Atom;
    use crate::place::Place;
    use crate::position::Located;
    use crate::test::Arch;

    const SB: &str = "X86_64 SB\n{ }\n P0 | P1 ;\n movl $1,(x) | movl $1,(y) ;\n \
        movl (y),%eax | movl (x),%eax ;\n";

    fn with(sections: &str) -> Result<LitmusTest, SyntaxError> {
        read(&format!("{SB}{sections}"))
    }

    #[test]
    fn a_test_has_all_its_parts() {
        let test = read(
            "X86_64 SB\n\"store buffering\"\nCom=Fr Fr\nRule=H1\n{ uint64_t x; x=0; 0:rbx=y }\n\
             P0 | P1 ;\n movq $1,(x) | movq $1,(y) ;\n movq (%rbx),%rax | movq (x),%rax ;\n\
             locations [x; 0:rax;]\nfilter (x=1)\nexists (0:rax=0 /\\ 1:rax=0)\n",
        )
        .expect("reads");
        assert_eq!((test.arch, test.name.as_str()), (Arch::X86_64, "SB"));
        assert_eq!(test.title.as_deref(), Some("store buffering"));
        assert_eq!(test.metadata("Rule"), Some("H1"));
        assert_eq!(test.metadata("rule"), None);
        assert_eq!(
            (test.init.len(), test.threads.len(), test.locations.len()),
            (3, 2, 2)
        );
        assert!(test.filter.is_some());
        assert_eq!(test.condition.quantifier, Quantifier::Exists);
    }

    #[test]
    fn intel_syntax_goes_with_the_header_x86() {
        let text = "X86 SB\r\n{x=0; y=0;}\r\n P0 | P1 ;\r\n MOV [x],$1 | MOV [y],$1 ;\r\n \
            MOV EAX,[y] | MOV EAX,[x] ;\r\nexists (0:EAX=0 /\\ 1:EAX=0)\r\n";
        let test = read(text).expect("reads");
        assert_eq!(test.arch, Arch::X86);
        assert_eq!(test.threads[1].instructions.len(), 2);
    }

    #[test]
    fn locations_may_stand_before_or_behind_the_condition() {
        for sections in [
            "locations [x; 0:EAX;]\nexists (x=1)",
            "exists (x=1)\nlocations [x; 0:EAX]",
            "locations [x; [y] int;] exists x=1",
            "exists (x=1) locations [x;y]",
        ] {
            let test = with(sections).expect(sections);
            assert_eq!(test.locations.len(), 2, "{sections}");
        }
        let test = with("locations [x;]\n<<cfg>>").expect("herd allows it");
        assert_eq!(test.condition.expr, Expr::True);
    }

    #[test]
    fn text_behind_the_condition_is_ignored() {
        for rest in [
            "",
            ";",
            "\nObserved\n 0:rax=1; x=2;\nand 0:rax=2;",
            "\n<<\nany @ text {{{\n>>\n",
            "\n<< (* open",
            "\n(* comment *)\nkind: Allow \u{2014} perhaps",
            "\n@@@",
            "\n*** 3",
            " with tso: ~exists; pso: exists;",
            "\nfilter is a word too",
            "\nlocations are listed below",
            "\n99999999999999999999999999",
        ] {
            let test = with(&format!("exists (x=1){rest}")).expect(rest);
            assert!(matches!(
                &test.condition.expr,
                Expr::Atom(Located { value: Atom::Compare { location, .. }, .. })
                    if *location == Location::Memory(Place::Variable("x".into()))
            ));
        }
    }

    #[test]
    fn text_that_looks_like_more_condition_is_not_ignored() {
        for sections in [
            "exists (x=1) && (y=1)",
            "exists (x=1) and (y=1)",
            "exists (x=1)\n && (y=1)",
            "exists (x=1))",
            "exists (x=1) @",
            "exists (x=1) (y=1)",
            "exists (x=1)\nforall (y=1)",
            "filter (x=1) filter (x=1) exists (x=1)",
        ] {
            assert!(with(sections).is_err(), "{sections}");
        }
    }

    #[test]
    fn a_test_without_condition_is_an_error() {
        for sections in ["", "filter (x=1)", "\nObserved\n", "locations [x;", "<<x>>"] {
            assert!(with(sections).is_err(), "{sections}");
        }
    }

    #[test]
    fn a_byte_that_is_not_utf_8_is_reported_where_it_stands() {
        let error = read_bytes(b"X86 SB\n\xc3\xa9 \xff{}").expect_err("not UTF-8");
        assert_eq!((error.line, error.column), (2, 3));
        assert!(error.message.contains("0xff"), "{error}");
        assert!(read_bytes(format!("\u{feff}{SB}exists (x=1)").as_bytes()).is_ok());
    }
}
