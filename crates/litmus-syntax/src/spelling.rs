//! How answers spell what a test asks: conditions and locations, as herd prints them.

use std::fmt;

use crate::atom::{Atom, FieldValue, Relation};
use crate::condition::{Condition, Quantifier};
use crate::expr::Expr;
use crate::location::Location;
use crate::place::{EntryName, Place, TableIndex};
use crate::test::Arch;
use crate::value::Value;

/// Spells the parts of a test as the tests of its architecture do: `0:EAX` in the one, `0:eax` in the
/// other.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Spelling {
    arch: Arch,
}

impl Spelling {
    /// Spells for an architecture.
    pub fn of(arch: Arch) -> Spelling {
        Spelling { arch }
    }

    /// Spells a whole condition: `exists (0:rax=1 /\ [x]=2)`.
    pub fn condition(self, condition: &Condition) -> String {
        let quantifier = match condition.quantifier {
            Quantifier::Exists | Quantifier::Final => "exists",
            Quantifier::NotExists => "~exists",
            Quantifier::Forall => "forall",
        };
        format!("{quantifier} ({})", Spelled(&condition.expr, self))
    }

    /// Spells a location: `0:rax`, `[x]`, `[PTE(x)]`.
    pub fn location(self, location: &Location) -> String {
        match (location, self.arch) {
            (Location::Register { thread, register }, Arch::X86) => {
                format!("{thread}:{register}").to_uppercase()
            }
            (Location::Register { thread, register }, Arch::X86_64) => {
                format!("{thread}:{register}")
            }
            (Location::Memory(place), _) => format!("[{}]", place_name(place)),
        }
    }

    fn atom(self, atom: &Atom) -> String {
        match atom {
            Atom::Compare {
                location,
                relation,
                value,
            } => {
                let (location, relation) = (self.location(location), relation_sign(*relation));
                format!("{location}{relation}{}", value_name(value))
            }
            Atom::Field {
                field,
                location,
                relation,
                value,
            } => {
                let value = match value {
                    FieldValue::Bit(bit) => u8::from(*bit).to_string(),
                    FieldValue::Frame(_) => "(frame)".to_owned(),
                    FieldValue::Type(caching) => caching.name().to_owned(),
                };
                let (location, relation) = (self.location(location), relation_sign(*relation));
                format!("{}({location}){relation}{value}", field.name())
            }
            Atom::Fault {
                thread,
                label,
                variable,
            } => {
                let label = label.as_ref().map(|label| format!(":{label}"));
                let variable = variable.as_ref().map(|name| format!(",{name}"));
                let (label, variable) = (label.unwrap_or_default(), variable.unwrap_or_default());
                format!("fault(P{thread}{label}{variable})")
            }
            Atom::Violation(name) => format!("violation({name})"),
        }
    }
}

/// Prints an expression.
struct Spelled<'e>(&'e Expr, Spelling);

impl Spelled<'_> {
    /// Prints parts with their operator, and with parentheses around those that have one of their own.
    fn joined(&self, f: &mut fmt::Formatter<'_>, parts: &[Expr], by: &str) -> fmt::Result {
        for (number, part) in parts.iter().enumerate() {
            if number > 0 {
                write!(f, " {by} ")?;
            }
            let part_spelled = Spelled(part, self.1);
            match part {
                Expr::And(_) | Expr::Or(_) => write!(f, "({part_spelled})")?,
                Expr::True | Expr::False | Expr::Not(_) | Expr::Atom(_) => {
                    write!(f, "{part_spelled}")?;
                }
            }
        }
        Ok(())
    }
}

impl fmt::Display for Spelled<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Expr::True => f.write_str("true"),
            Expr::False => f.write_str("false"),
            Expr::Not(inner) => write!(f, "~({})", Spelled(inner, self.1)),
            Expr::And(parts) => self.joined(f, parts, "/\\"),
            Expr::Or(parts) => self.joined(f, parts, "\\/"),
            Expr::Atom(atom) => f.write_str(&self.1.atom(&atom.value)),
        }
    }
}

fn relation_sign(relation: Relation) -> &'static str {
    match relation {
        Relation::Equal => "=",
        Relation::Different => "!=",
    }
}

fn value_name(value: &Value) -> String {
    match value {
        Value::Number(number) => number.to_string(),
        Value::Address(name) => name.clone(),
        Value::EntryAddress(entry) => entry_name(entry),
        Value::Frame(_) => "(frame)".to_owned(),
        Value::Entry(_) => "(entry)".to_owned(),
        Value::Cr3(_) => "(CR3)".to_owned(),
    }
}

fn place_name(place: &Place) -> String {
    match place {
        Place::Variable(name) | Place::Frame(name) => name.clone(),
        Place::Entry(entry) => entry_name(entry),
        Place::Slot { table, index } => match index {
            TableIndex::Number(number) => format!("{table}[{number}]"),
            TableIndex::Variable(name) => format!("{table}[{name}]"),
        },
    }
}

fn entry_name(entry: &EntryName) -> String {
    let (level, variable) = (entry.level.entry_name(), &entry.variable);
    match &entry.space {
        Some(space) => format!("{level}({variable},{space})"),
        None => format!("{level}({variable})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parser::read;

    fn spelled(arch: &str, condition: &str) -> String {
        let text = format!("{arch} T\n{{}}\n P0 ;\n{condition}\n");
        let test = read(&text).expect("reads");
        Spelling::of(test.arch).condition(&test.condition)
    }

    #[test]
    fn a_condition_is_spelt_as_herd_prints_it() {
        for (written, expected) in [
            (
                "final (x=1 /\\ (0:RAX<>2 \\/ [PTE(y,B)]=(valid:0)))",
                "exists ([x]=1 /\\ (0:rax!=2 \\/ [PTE(y,B)]=(entry)))",
            ),
            (
                "~exists (a(T[3])=1 => fault(P0:L,x))",
                "~exists (~(a([T[3]])=1) \\/ fault(P0:L,x))",
            ),
            (
                "forall (type(T[x])=wc /\\ oa(0:rbx)=PA(y))",
                "forall (type([T[x]])=wc /\\ oa(0:rbx)=(frame))",
            ),
            (
                "exists not violation(multiple-match)",
                "exists (~(violation(multiple-match)))",
            ),
        ] {
            assert_eq!(spelled("X86_64", written), expected);
        }
    }

    #[test]
    fn registers_are_capitals_in_intel_syntax() {
        assert_eq!(spelled("X86", "exists (0:eax=x)"), "exists (0:EAX=x)");
    }
}
