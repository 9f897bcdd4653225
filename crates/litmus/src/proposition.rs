//! A condition with every name resolved: what it says of an end is true or false, and nothing else.

use lazytlb_check::{End, Outcome};
use lazytlb_model::{AtomicCell, LocalCell, Property};

/// What an execution came to.
#[derive(Clone, Copy)]
pub(crate) enum Ending<'e> {
    /// All threads ran to their ends.
    End(&'e End),
    /// It broke a property.
    Violation(Property),
}

impl<'e> From<Outcome<'e>> for Ending<'e> {
    fn from(outcome: Outcome<'e>) -> Ending<'e> {
        match outcome {
            Outcome::End(end) => Ending::End(end),
            Outcome::Violation(property) => Ending::Violation(property),
        }
    }
}

/// A proposition about an ending.
#[derive(Clone, Debug)]
pub(crate) enum Proposition {
    Constant(bool),
    Fact(Fact),
    Not(Box<Proposition>),
    All(Vec<Proposition>),
    Any(Vec<Proposition>),
}

/// A fact about an ending. One about values is false of a violation: it has none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fact {
    /// Some bits of a value are these.
    Equal(Bits),
    /// Some bits of a value are not these.
    Different(Bits),
    /// Of some lines of a thread, one took a page fault.
    Faulted(Faults),
    /// The execution broke this property.
    Broken(Property),
}

/// Bits that a value is compared with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Bits {
    pub(crate) value: Observed,
    /// The bits that are compared.
    pub(crate) mask: u64,
    pub(crate) wanted: u64,
}

/// Where a value stands in an end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Observed {
    /// In a cell that all CPUs share.
    Shared(AtomicCell),
    /// In a CPU's own cell.
    Own(LocalCell),
    /// In a page-table entry: the program's first watched one, the second, …
    Entry(usize),
}

/// Lines of a thread, a bit each, and the cell with a bit for each that faulted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Faults {
    pub(crate) cell: LocalCell,
    pub(crate) lines: u64,
}

impl Proposition {
    /// Says whether it is true of an ending.
    pub(crate) fn holds(&self, ending: Ending<'_>) -> bool {
        match self {
            Proposition::Constant(constant) => *constant,
            Proposition::Fact(fact) => fact.holds(ending),
            Proposition::Not(inner) => !inner.holds(ending),
            Proposition::All(parts) => parts.iter().all(|part| part.holds(ending)),
            Proposition::Any(parts) => parts.iter().any(|part| part.holds(ending)),
        }
    }
}

impl Fact {
    fn holds(&self, ending: Ending<'_>) -> bool {
        match (self, ending) {
            (Fact::Equal(bits), Ending::End(end)) => bits.are_in(end),
            (Fact::Different(bits), Ending::End(end)) => !bits.are_in(end),
            (Fact::Faulted(faults), Ending::End(end)) => faults.any(end),
            (Fact::Broken(property), Ending::Violation(broken)) => *property == broken,
            (Fact::Broken(_), Ending::End(_)) => false,
            (Fact::Equal(_) | Fact::Different(_) | Fact::Faulted(_), Ending::Violation(_)) => false,
        }
    }
}

impl Bits {
    fn are_in(&self, end: &End) -> bool {
        (self.value.read(end) ^ self.wanted) & self.mask == 0
    }
}

impl Faults {
    /// Says whether one of the lines faulted.
    pub(crate) fn any(&self, end: &End) -> bool {
        Observed::Own(self.cell).read(end) & self.lines != 0
    }
}

impl Observed {
    /// Returns the value in an end, which has one for each cell and watched entry of its program.
    pub(crate) fn read(self, end: &End) -> u64 {
        match self {
            Observed::Shared(cell) => end.atomics[usize::from(cell.0)],
            Observed::Own(cell) => end.own_cells[usize::from(cell.owner)][usize::from(cell.index)],
            Observed::Entry(number) => end.entries[number],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_a_violation_only_its_name_is_true() {
        let end = End {
            atomics: vec![5],
            own_cells: vec![],
            entries: vec![],
        };
        let bits = Bits {
            value: Observed::Shared(AtomicCell(0)),
            mask: 1,
            wanted: 1,
        };
        let broken = Fact::Broken(Property::MultipleMatch);
        let endings = [
            Ending::End(&end),
            Ending::Violation(Property::MultipleMatch),
            Ending::Violation(Property::Panic),
        ];
        for (fact, expected) in [
            (Fact::Equal(bits), [true, false, false]),
            (Fact::Different(bits), [false, false, false]),
            (broken, [false, true, false]),
        ] {
            let proposition = Proposition::Fact(fact);
            assert_eq!(endings.map(|ending| proposition.holds(ending)), expected);
            let opposite = Proposition::Not(Box::new(proposition));
            let expected = expected.map(|holds| !holds);
            assert_eq!(endings.map(|ending| opposite.holds(ending)), expected);
        }
    }
}
