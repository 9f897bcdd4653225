//! Reads a file of costs, and says precisely what is wrong with it.

use std::ops::Range;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::cost_argument::{CLOCK, CLOCK_RANGE, known_names};
use crate::costs::{Costs, Figure, MAX_FIGURE_CYCLES, Parameter};

/// The figures that are shipped.
const SHIPPED: &str = include_str!("../costs/default.toml");

/// Says what is wrong with a file of costs.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CostsError {
    /// The file cannot be read.
    #[error("{file}: cannot be read: {source}; check the path and its permissions")]
    Read {
        /// The file's name, as it was given.
        file: String,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A line is wrong.
    #[error("{file}:{line}: {problem}")]
    Line {
        /// The file's name, as it was given.
        file: String,
        /// The line's number, from 1.
        line: usize,
        /// What is wrong with it.
        problem: CostsProblem,
    },
    /// A whole table or the clock is missing.
    #[error(
        "{file}: `{key}` is missing (the file ends at line {last_line}): copy it from the shipped \
         file, costs/default.toml"
    )]
    Missing {
        /// The file's name, as it was given.
        file: String,
        /// The number of the last line.
        last_line: usize,
        /// The key.
        key: &'static str,
    },
}

/// Says what is wrong with a line of a file of costs.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CostsProblem {
    /// The text is no TOML.
    #[error("this is not TOML: {message}; correct the line")]
    Syntax {
        /// What the parser says.
        message: String,
    },
    /// There is no such key.
    #[error("unknown key `{key}`: remove it, or correct it to one of {expected}")]
    UnknownKey {
        /// The key.
        key: String,
        /// The keys that may stand there.
        expected: String,
    },
    /// A parameter's table lacks a key.
    #[error("`{parameter}` has no `{key}`: add it below this line")]
    MissingKey {
        /// The parameter.
        parameter: &'static str,
        /// The missing key.
        key: &'static str,
    },
    /// A value has the wrong type.
    #[error("`{key}` is {found}: write {expected}")]
    WrongType {
        /// The key.
        key: String,
        /// What it is.
        found: &'static str,
        /// What it must be.
        expected: &'static str,
    },
    /// A number is negative, too great, or none.
    #[error("`{key}` is {value}: write a number of {unit} {range}")]
    OutOfRange {
        /// The key.
        key: String,
        /// The value as it was written.
        value: String,
        /// What the number counts.
        unit: &'static str,
        /// What is allowed.
        range: &'static str,
    },
    /// The figures of a range are not in order.
    #[error("`{parameter}`: {smaller} is greater than {greater}: exchange or correct them")]
    Order {
        /// The parameter.
        parameter: &'static str,
        /// The key that should hold the smaller number.
        smaller: &'static str,
        /// The key that should hold the greater one.
        greater: &'static str,
    },
    /// An origin is empty.
    #[error("the origin is empty: say where the figures come from, or `ASSUMED:` and why")]
    EmptyOrigin,
}

/// The reading of files.
impl Costs {
    /// Returns the figures that are shipped, `costs/default.toml`.
    pub fn shipped() -> Self {
        let costs = Self::parse("costs/default.toml", SHIPPED);
        costs.expect("the shipped figures are right: a test reads them")
    }

    /// Returns the text of the shipped figures, to start a file of one's own from.
    pub fn shipped_text() -> &'static str {
        SHIPPED
    }

    /// Loads figures from a TOML file.
    ///
    /// # Errors
    /// If the file cannot be read or is not of the form of the shipped one: [`CostsError`]
    /// names the line, and what to do.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, CostsError> {
        let file = path.as_ref().display().to_string();
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&file, &text),
            Err(source) => Err(CostsError::Read { file, source }),
        }
    }

    /// Reads figures from a TOML text; `file` is what errors call it.
    ///
    /// # Errors
    /// As [`Costs::load`].
    pub fn parse(file: &str, text: &str) -> Result<Self, CostsError> {
        let document = Document { file, text };
        let table = DeTable::parse(text).map_err(|error| {
            let message = error.message().trim_end().replace('\n', "; ");
            let problem = CostsProblem::Syntax { message };
            document.error(error.span().unwrap_or(0..0), problem)
        })?;
        let table = table.get_ref();
        for key in table.keys() {
            let known = |parameter: &Parameter| parameter.name() == key.get_ref();
            if key.get_ref() != CLOCK && !Parameter::ALL.iter().any(known) {
                return Err(document.unknown_key(key, known_names()));
            }
        }
        let clock = find(table, CLOCK).ok_or_else(|| document.missing(CLOCK))?;
        let reference_ghz = document.number(CLOCK, clock, "GHz", CLOCK_RANGE)?;
        let mut figures = Vec::with_capacity(Parameter::ALL.len());
        for parameter in Parameter::ALL {
            let entry = find(table, parameter.name());
            let entry = entry.ok_or_else(|| document.missing(parameter.name()))?;
            figures.push(document.figure(parameter.name(), entry)?);
        }
        let figures = <[Figure; Parameter::ALL.len()]>::try_from(figures);
        let figures = figures.expect("one figure was read for each parameter");
        Ok(Costs::new(reference_ghz, figures))
    }
}

type Value<'a> = Spanned<DeValue<'a>>;

fn find<'t, 'a>(table: &'t DeTable<'a>, name: &str) -> Option<&'t Value<'a>> {
    let entry = table.iter().find(|(key, _)| key.get_ref() == name);
    entry.map(|(_, value)| value)
}

/// The text, to turn places in it into lines.
struct Document<'a> {
    file: &'a str,
    text: &'a str,
}

impl Document<'_> {
    fn figure(&self, name: &'static str, entry: &Value<'_>) -> Result<Figure, CostsError> {
        let Some(table) = entry.get_ref().as_table() else {
            return Err(self.wrong_type(name, entry, "a table with low, typical, high and origin"));
        };
        const KEYS: [&str; 4] = ["low", "typical", "high", "origin"];
        for key in table.keys() {
            if !KEYS.contains(&key.get_ref().as_ref()) {
                return Err(self.unknown_key(key, KEYS.join(", ")));
            }
        }
        let get = |key| {
            find(table, key).ok_or_else(|| {
                let parameter = name;
                self.error(entry.span(), CostsProblem::MissingKey { parameter, key })
            })
        };
        let cycles = |key| self.number(key, get(key)?, "cycles", 0.0..=MAX_FIGURE_CYCLES);
        let (low, typical, high) = (cycles("low")?, cycles("typical")?, cycles("high")?);
        let origin = get("origin")?;
        let Some(text) = origin.get_ref().as_str() else {
            return Err(self.wrong_type("origin", origin, "a text in quotes"));
        };
        if text.trim().is_empty() {
            return Err(self.error(origin.span(), CostsProblem::EmptyOrigin));
        }
        for (smaller, greater, in_order) in [
            ("low", "typical", low <= typical),
            ("typical", "high", typical <= high),
        ] {
            if !in_order {
                let parameter = name;
                let problem = CostsProblem::Order {
                    parameter,
                    smaller,
                    greater,
                };
                return Err(self.error(get(smaller)?.span(), problem));
            }
        }
        Ok(Figure {
            low,
            typical,
            high,
            origin: text.to_owned(),
        })
    }

    fn number(
        &self,
        key: &str,
        value: &Value<'_>,
        unit: &'static str,
        allowed: std::ops::RangeInclusive<f64>,
    ) -> Result<f64, CostsError> {
        let written = match value.get_ref() {
            // A TOML integer may be hexadecimal, octal or binary.
            DeValue::Integer(integer) => {
                let digits = integer.as_str();
                let parsed = i128::from_str_radix(digits, integer.radix());
                parsed.map_or_else(|_| digits.to_owned(), |number| number.to_string())
            }
            DeValue::Float(float) => float.as_str().to_owned(),
            _ => return Err(self.wrong_type(key, value, "a number")),
        };
        let number: f64 = written.parse().unwrap_or(f64::NAN);
        if allowed.contains(&number) {
            return Ok(number);
        }
        let problem = CostsProblem::OutOfRange {
            key: key.to_owned(),
            value: written,
            unit,
            range: if unit == "GHz" {
                "from 0.001 to 1000"
            } else {
                "from 0 to 1e12"
            },
        };
        Err(self.error(value.span(), problem))
    }

    fn unknown_key(
        &self,
        key: &Spanned<std::borrow::Cow<'_, str>>,
        expected: String,
    ) -> CostsError {
        let problem = CostsProblem::UnknownKey {
            key: key.get_ref().to_string(),
            expected,
        };
        self.error(key.span(), problem)
    }

    fn wrong_type(&self, key: &str, value: &Value<'_>, expected: &'static str) -> CostsError {
        let problem = CostsProblem::WrongType {
            key: key.to_owned(),
            found: value.get_ref().type_str(),
            expected,
        };
        self.error(value.span(), problem)
    }

    fn missing(&self, key: &'static str) -> CostsError {
        CostsError::Missing {
            file: self.file.to_owned(),
            last_line: self.text.lines().count(),
            key,
        }
    }

    fn error(&self, at: Range<usize>, problem: CostsProblem) -> CostsError {
        let before = self.text.as_bytes().iter().take(at.start);
        CostsError::Line {
            file: self.file.to_owned(),
            line: 1 + before.filter(|byte| **byte == b'\n').count(),
            problem,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shipped_with(from: &str, to: &str) -> String {
        let text = Costs::shipped_text();
        assert!(text.contains(from), "{from}");
        let changed = text.replacen(from, to, 1);
        Costs::parse("my.toml", &changed).unwrap_err().to_string()
    }

    fn line_of(needle: &str) -> usize {
        let mut lines = Costs::shipped_text().lines();
        1 + lines.position(|line| line.starts_with(needle)).unwrap()
    }

    #[test]
    fn each_fault_is_named_with_its_line_and_a_way_out() {
        let invlpg = line_of("[invlpg]");
        for (from, to, line, message) in [
            ("[invlpg]", "[invlpeg]", invlpg, "unknown key `invlpeg`"),
            ("[invlpg]", "[invlpg", invlpg, "not TOML"),
            (
                "[invlpg] ",
                "[invlpg]\nmean = 3\n#",
                invlpg + 1,
                "unknown key `mean`",
            ),
            (
                "low = 100\ntypical = 300\nhigh = 420",
                "typical = 300\nhigh = 420",
                invlpg,
                "`invlpg` has no `low`: add it",
            ),
            (
                "high = 420",
                "high = 42",
                invlpg + 2,
                "typical is greater than high",
            ),
            ("high = 420", "high = -420", invlpg + 3, "`high` is -420"),
            ("high = 420", "high = nan", invlpg + 3, "`high` is nan"),
            ("high = 420", "high = +inf", invlpg + 3, "`high` is +inf"),
            (
                "high = 420",
                "high = 0x1_0000_0000_0000",
                invlpg + 3,
                "from 0 to 1e12",
            ),
            ("high = 420", "high = '420'", invlpg + 3, "write a number"),
            (
                "high = 420",
                "high = 420\nhigh = 430",
                invlpg + 4,
                "duplicate key",
            ),
            (
                "origin = \"Typical: 100",
                "origin = \" \"#",
                invlpg + 4,
                "origin is empty",
            ),
            (
                "origin = \"Typical: 100",
                "origin = 5#",
                invlpg + 4,
                "a text in quotes",
            ),
            (
                "reference_ghz = 3.0",
                "reference_ghz = 0",
                line_of("reference_ghz"),
                "GHz",
            ),
        ] {
            let error = shipped_with(from, to);
            let place = format!("my.toml:{line}: ");
            assert!(
                error.starts_with(&place) && error.contains(message),
                "{to}: {error}"
            );
        }
    }

    #[test]
    fn a_missing_table_is_named() {
        let text = Costs::shipped_text();
        let (before, _) = text.split_once("[remote_read]").unwrap();
        let error = Costs::parse("my.toml", before).unwrap_err().to_string();
        assert!(
            error.contains("my.toml: `remote_read` is missing"),
            "{error}"
        );
        let error = Costs::parse("my.toml", "").unwrap_err().to_string();
        assert!(error.contains("`reference_ghz` is missing"), "{error}");
        let error = shipped_with(
            "reference_ghz = 3.0",
            "reference_ghz = 3.0\ninvlpg = 4\n[[x]]",
        );
        assert!(error.contains("my.toml:"), "{error}");
    }

    #[test]
    fn integers_of_every_base_are_read() {
        let text = Costs::shipped_text().replacen("high = 420", "high = 0x1_A4", 1);
        assert_eq!(Costs::parse("my.toml", &text).unwrap(), Costs::shipped());
    }

    #[test]
    fn a_file_that_does_not_exist_is_named() {
        let error = Costs::load("no/such/file.toml").unwrap_err().to_string();
        assert!(
            error.starts_with("no/such/file.toml: cannot be read"),
            "{error}"
        );
    }
}
