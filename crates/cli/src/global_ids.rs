//! The values of `check --global-ids`: how many PCIDs that are the same on every CPU a checked kernel has.

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};

/// How many global ids a checked kernel has: the protocol is compiled for these.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum GlobalIds {
    One,
    Two,
}

impl GlobalIds {
    pub(crate) const ALL: [GlobalIds; 2] = [GlobalIds::One, GlobalIds::Two];

    /// Returns the number.
    pub(crate) const fn number(self) -> u8 {
        match self {
            GlobalIds::One => 1,
            GlobalIds::Two => 2,
        }
    }

    /// Returns the number, as people type it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            GlobalIds::One => "1",
            GlobalIds::Two => "2",
        }
    }
}

/// Reads a number of global ids.
pub(crate) fn global_ids() -> impl TypedValueParser<Value = GlobalIds> {
    let names = GlobalIds::ALL.map(|ids| PossibleValue::new(ids.name()));
    PossibleValuesParser::new(names).map(|name| {
        let mut all = GlobalIds::ALL.into_iter();
        let named = all.find(|ids| ids.name() == name);
        named.expect("no other number is possible")
    })
}
