//! Conditions and places, printed as herd does.

use std::fmt;

use crate::world::caching;
use lazytlb_litmus_syntax::Arch;
use lazytlb_litmus_syntax::Location;
use lazytlb_litmus_syntax::Value;
use lazytlb_litmus_syntax::{Atom, Expr, FieldValue, Quantifier, Relation};
use lazytlb_litmus_syntax::{Level, Place, TableIndex};

/// Returns the word that a quantifier is printed as.
pub(crate) fn quantifier(quantifier: Quantifier) -> &'static str {
    match quantifier {
        Quantifier::Exists | Quantifier::Final => "exists",
        Quantifier::NotExists => "~exists",
        Quantifier::Forall => "forall",
    }
}

/// Returns a place as it is written.
pub(crate) fn told_place(place: &Place) -> String {
    match place {
        Place::Variable(name) | Place::Frame(name) => name.clone(),
        Place::Entry(entry) => {
            let level = match entry.level {
                Level::Pte => "PTE",
                Level::Pde => "PDE",
                Level::Pdpte => "PDPTE",
                Level::Pml4e => "PML4E",
                Level::Pml5e => "PML5E",
            };
            match &entry.space {
                Some(space) => format!("{level}({},{space})", entry.variable),
                None => format!("{level}({})", entry.variable),
            }
        }
        Place::Slot { table, index } => match index {
            TableIndex::Number(number) => format!("{table}[{number}]"),
            TableIndex::Variable(name) => format!("{table}[{name}]"),
        },
    }
}

/// Prints an expression as herd does.
pub(crate) struct Told<'e>(pub(crate) &'e Expr, pub(crate) Arch);

impl fmt::Display for Told<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let joined = |f: &mut fmt::Formatter<'_>, all: &[Expr], by: &str| {
            for (number, inner) in all.iter().enumerate() {
                if number > 0 {
                    write!(f, " {by} ")?;
                }
                match inner {
                    Expr::And(_) | Expr::Or(_) => write!(f, "({})", Told(inner, self.1))?,
                    _ => write!(f, "{}", Told(inner, self.1))?,
                }
            }
            Ok(())
        };
        match self.0 {
            Expr::True => f.write_str("true"),
            Expr::False => f.write_str("false"),
            Expr::Not(inner) => write!(f, "~({})", Told(inner, self.1)),
            Expr::And(all) => joined(f, all, "/\\"),
            Expr::Or(all) => joined(f, all, "\\/"),
            Expr::Atom(atom) => f.write_str(&told_atom(&atom.value, self.1)),
        }
    }
}

fn told_atom(atom: &Atom, arch: Arch) -> String {
    let told_location = |location: &Location| match location {
        Location::Register { thread, register } => {
            spelled(format!("{thread}:{register}"), location, arch)
        }
        Location::Memory(place) => format!("[{}]", told_place(place)),
    };
    let told_relation = |relation: &Relation| match relation {
        Relation::Equal => "=",
        Relation::Different => "!=",
    };
    match atom {
        Atom::Compare {
            location,
            relation,
            value,
        } => {
            let value = match value {
                Value::Number(number) => number.to_string(),
                Value::Address(name) => name.clone(),
                Value::EntryAddress(entry) => told_place(&Place::Entry(entry.clone())),
                Value::Frame(_) => "(frame)".to_owned(),
                Value::Entry(_) => "(entry)".to_owned(),
            };
            format!(
                "{}{}{value}",
                told_location(location),
                told_relation(relation)
            )
        }
        Atom::Field {
            field,
            location,
            relation,
            value,
        } => {
            let field = field.name();
            let value = match value {
                FieldValue::Bit(bit) => u8::from(*bit).to_string(),
                FieldValue::Frame(_) => "(frame)".to_owned(),
                FieldValue::Type(memory_type) => caching(*memory_type).name().to_owned(),
            };
            format!(
                "{field}({}){}{value}",
                told_location(location),
                told_relation(relation)
            )
        }
        Atom::Fault {
            thread,
            label,
            variable,
        } => {
            let label = label
                .as_ref()
                .map(|label| format!(":{label}"))
                .unwrap_or_default();
            let variable = variable
                .as_ref()
                .map(|name| format!(",{name}"))
                .unwrap_or_default();
            format!("fault(P{thread}{label}{variable})")
        }
        Atom::Violation(name) => format!("violation({name})"),
    }
}

/// Spells a register as the architecture's tests do: `EAX` in the one, `eax` in the other.
pub(crate) fn spelled(name: String, location: &Location, arch: Arch) -> String {
    match (location, arch) {
        (Location::Register { .. }, Arch::X86) => name.to_uppercase(),
        _ => name,
    }
}
