//! A litmus test as data.

use crate::condition::Condition;
use crate::expr::Expr;
use crate::init::InitItem;
use crate::instruction::Instruction;
use crate::location::Location;
use crate::position::{Located, Position};

/// Names the architecture of the header, and with it the syntax of the instructions.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Arch {
    /// `X86`: Intel syntax, 32 bits.
    X86,
    /// `X86_64`: AT&T syntax, 64 bits.
    X86_64,
}

/// Says what starts a handler's instructions.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Handler {
    /// `P1.ipi`: an interrupt that another CPU sends.
    Ipi,
    /// `P1.nmi`: a non-maskable interrupt.
    Nmi,
}

/// Holds a column of the table.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Thread {
    /// The number in `P0`.
    pub id: u32,
    /// `None`: the thread itself; else a handler that runs on its CPU.
    pub handler: Option<Handler>,
    /// The column's instructions and labels, without the empty cells.
    pub instructions: Vec<Located<Instruction>>,
}

/// Holds a litmus test as it was written; nothing is resolved or given a default, but for the fields
/// of page-table entries.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct LitmusTest {
    /// The architecture.
    pub arch: Arch,
    /// The name.
    pub name: String,
    /// The quoted title; several are joined by line feeds.
    pub title: Option<String>,
    /// The lines `Key=Value`, in order. Values are trimmed.
    pub metadata: Vec<(String, String)>,
    /// Where the key of each of these lines stands, in the same order.
    pub metadata_positions: Vec<Position>,
    /// The lines of the header that are neither title nor metadata: nothing is read from them.
    pub free_text: Vec<Located<String>>,
    /// The entries between the braces.
    pub init: Vec<Located<InitItem>>,
    /// The columns, in order.
    pub threads: Vec<Thread>,
    /// `filter`: only final states that fulfil it count.
    pub filter: Option<Expr>,
    /// `locations`: what a report shows besides what the condition reads.
    pub locations: Vec<Location>,
    /// Where each of these stands, in the same order.
    pub location_positions: Vec<Position>,
    /// The question.
    pub condition: Condition,
}

/// A line `Key=Value` of the header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Metadata<'t> {
    /// Before the `=`.
    pub key: &'t str,
    /// Behind it.
    pub value: &'t str,
    /// Where the key stands.
    pub position: Position,
}

impl LitmusTest {
    /// Lists the lines `Key=Value`, in order.
    pub fn metadata_lines(&self) -> impl Iterator<Item = Metadata<'_>> {
        let lines = self.metadata.iter().enumerate();
        lines.map(|(number, (key, value))| Metadata {
            key,
            value,
            position: position_of(&self.metadata_positions, number),
        })
    }

    /// Lists what a report shows besides what the condition reads, with its place in the file.
    pub fn located_locations(&self) -> impl Iterator<Item = (&Location, Position)> {
        let locations = self.locations.iter().enumerate();
        locations.map(|(number, location)| {
            let position = position_of(&self.location_positions, number);
            (location, position)
        })
    }

    /// Finds the first value of a metadata key. Case counts.
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.metadata
            .iter()
            .find(|(known, _)| known == key)
            .map(|(_, value)| value.as_str())
    }
}

/// Returns a place out of many; the file's first if there are fewer, in a test that nobody read from a file.
fn position_of(positions: &[Position], number: usize) -> Position {
    positions.get(number).copied().unwrap_or(Position::START)
}
