//! The values of `check --pcids`: how many slots for PCIDs a checked CPU has.

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};

/// How many slots for PCIDs a checked CPU has: the protocol is generic over it, and these are compiled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Slots {
    One,
    Two,
    Three,
}

impl Slots {
    pub(crate) const ALL: [Slots; 3] = [Slots::One, Slots::Two, Slots::Three];

    /// Returns the number.
    pub(crate) const fn number(self) -> u8 {
        match self {
            Slots::One => 1,
            Slots::Two => 2,
            Slots::Three => 3,
        }
    }

    /// Returns the number, as people type it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Slots::One => "1",
            Slots::Two => "2",
            Slots::Three => "3",
        }
    }
}

/// Reads a number of slots.
pub(crate) fn slots() -> impl TypedValueParser<Value = Slots> {
    let names = Slots::ALL.map(|slots| PossibleValue::new(slots.name()));
    PossibleValuesParser::new(names).map(|name| {
        let mut all = Slots::ALL.into_iter();
        let named = all.find(|slots| slots.name() == name);
        named.expect("no other number is possible")
    })
}
