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

/// Reads the sections behind the table, in any order, each at most once but for `locations`, up to the end of the
/// file.
fn sections(lexer: &mut Lexer<'_>) -> Result<Sections, SyntaxError> {
    let mut filter = None;
    let mut locations: Option<Vec<(Location, Position)>> = None;
    let mut condition: Option<Condition> = None;
    loop {
        let before = *lexer;
        match lexer.peek()? {
            (Token::Name("locations"), _) => {
                self::locations(lexer, locations.get_or_insert_default())?;
            }
            (Token::Name("filter"), at) => {
                if filter.is_some() {
                    return Err(twice(at, "`filter`"));
                }
                lexer.next()?;
                filter = Some(expr::expr(lexer)?);
            }
            (_, at) if condition::starts_here(before) => {
                if condition.is_some() {
                    return Err(twice(at, "a condition"));
                }
                condition = Some(condition::condition(lexer)?);
                lexer.eat(";")?;
                kinds(lexer)?;
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
    end(lexer)?;
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

/// Reads what herd expects of other models, `with tso: ~exists; pso: exists;`, of which nothing here hangs on
/// anything.
fn kinds(lexer: &mut Lexer<'_>) -> Result<(), SyntaxError> {
    const ADVICE: &str = "write `with tso: ~exists;`";
    if !lexer.eat_word("with")? {
        return Ok(());
    }
    loop {
        let (token, at) = lexer.next()?;
        if !matches!(token, Token::Name(_)) {
            return Err(SyntaxError::new(at, token, "the name of a model", ADVICE));
        }
        lexer.expect(":", ADVICE)?;
        condition::quantifier_alone(lexer)?;
        let goes_on = lexer.eat(";")?;
        if !goes_on || !matches!(lexer.peek(), Ok((Token::Name(name), _)) if !is_section(name)) {
            return Ok(());
        }
    }
}

fn is_section(name: &str) -> bool {
    matches!(name, "locations" | "filter")
}

/// Reads to the end of the file. All that may stand there are blocks `<< >>`: what a line means that stands too
/// low, as a setting of the machine, must not be lost.
fn end(lexer: &mut Lexer<'_>) -> Result<(), SyntaxError> {
    while lexer.peek()?.0 == Token::Symbol("<<") {
        lexer.skip_block()?;
    }
    let (token, at) = lexer.peek()?;
    if token == Token::End {
        return Ok(());
    }
    let advice = match is_key(*lexer) {
        true => "lines `Key=Value` stand before the init section",
        false => "join propositions with `/\\` or `\\/`, and put other text into a comment `(* *)`",
    };
    Err(SyntaxError::new(at, token, "the end of the test", advice))
}

/// Says whether a name follows, and then what makes it a key: `PCIDs=on`, `Expect@amd-k10: Allowed`.
fn is_key(mut ahead: Lexer<'_>) -> bool {
    let is_name = matches!(ahead.next(), Ok((Token::Name(_), _)));
    let line = ahead.take_while(|character| character != '\n');
    is_name && line.contains(['=', ':'])
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
    fn what_herd_knows_may_stand_behind_the_condition() {
        for rest in [
            "",
            ";",
            "\n<<\nany @ text {{{\n>>\n",
            "\n<< (* open >>\n(* closed *)\n<<>>",
            "\n(* comment \u{2014} Expect=Forbidden *)\n",
            " with tso: ~exists; pso: exists;",
            "\nwith tso: exists; locations [x;]",
            "\nlocations [x;]\nfilter (x=1)\n",
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
    fn other_text_behind_the_condition_is_an_error_with_its_line() {
        let keys = [
            "Expect=Forbidden",
            "PCIDs = on",
            "Expect: Forbidden",
            "Expect@amd-k10=Forbidden",
            "Observed=1",
            "kind: Allow \u{2014} perhaps",
        ];
        let others = [
            "Observed\n 0:rax=1; x=2;\nand 0:rax=2;",
            "filter is a word too",
            "locations are listed below",
            "with PCIDs=on",
            "with tso: PCIDs=on;",
            "with tso: exists; PCIDs=on",
            "@@@",
            "*** 3",
            "99999999999999999999999999",
            "<< open",
            "<<\n>> PCIDs=on",
            "(* open",
            "{ x=1; }",
        ];
        for rest in keys.into_iter().chain(others) {
            for condition in ["exists (x=1)", "locations [x;]\nexists (x=1);"] {
                let text = format!("{SB}{condition}\n{rest}\n");
                let error = read(&text).expect_err(rest);
                let first = 1 + text
                    .find(rest)
                    .map_or(0, |at| text[..at].matches('\n').count());
                let lines = first..first + 1 + rest.matches('\n').count();
                assert!(lines.contains(&error.line), "{text}{error}");
            }
        }
        for key in keys {
            let error = with(&format!("exists (x=1)\n{key}\n")).expect_err(key);
            assert!(
                error.to_string().contains("before the init section"),
                "{error}"
            );
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
