//! The kinds of events of one recording: what a record's number means.

use super::decoders::Decoder;
use super::fields::{Field, Finder, Record, TextField};
use super::formats::{Format, FormatTexts};
use crate::dat_problem::TraceDatProblem;
use crate::error::LineProblem;
use crate::event::{Context, Event};
use crate::known_events::{is_reserved, meaning};
use crate::summary::{NameIndex, Summary};

/// Which kind of event a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TypeIndex(u16);

impl TypeIndex {
    /// A record whose number has no format in the file.
    const UNKNOWN: TypeIndex = TypeIndex(0);
}

/// All kinds of events.
pub(crate) struct Types {
    /// Where a record has its number: two bytes, the same in all formats.
    number_at: usize,
    /// By a record's number.
    by_number: Vec<TypeIndex>,
    types: Vec<EventType>,
}

/// One kind of event.
pub(crate) struct EventType {
    /// What it means here, for errors.
    pub(crate) event: &'static str,
    /// Bytes that a record of it has at least.
    pub(crate) length: usize,
    /// `common_flags`.
    flags: Option<Field>,
    /// `common_pid` and what the fields mean; or why that cannot be said.
    decoder: Result<(Field, Decoder), Box<LineProblem>>,
    /// What the task is called that a `sched_switch` leaves.
    prev_comm: Option<TextField>,
    /// Where its records are counted, once one has come.
    pub(crate) counted: Option<NameIndex>,
    group: Box<str>,
    name: Box<[u8]>,
    has_meaning: bool,
}

/// Bits of `common_flags`: Linux `TRACE_FLAG_HARDIRQ`, `_SOFTIRQ`, `_NMI`.
const HARDIRQ: u64 = 0x08;
const SOFTIRQ: u64 = 0x10;
const NMI: u64 = 0x40;

#[inline]
fn context(flags: Option<u64>) -> Context {
    match flags {
        None => Context::Unknown,
        Some(flags) if flags & NMI != 0 => Context::Nmi,
        Some(flags) if flags & HARDIRQ != 0 => Context::Hardirq,
        Some(flags) if flags & SOFTIRQ != 0 => Context::Softirq,
        Some(_) => Context::Task,
    }
}

impl Types {
    /// Reads all formats.
    ///
    /// # Errors
    /// If there is none, or they contradict each other.
    pub(crate) fn read(texts: &FormatTexts) -> Result<Self, TraceDatProblem> {
        let mut number_at = None;
        let mut types = Vec::new();
        let mut by_number = Vec::new();
        for (group, text) in &texts.texts {
            let damaged = TraceDatProblem::Damaged("the format of an event");
            let format = Format::read(text).ok_or(damaged.clone())?;
            let mut common = format.fields.iter();
            let number = common.find(|field| field.name == b"common_type");
            let at = number
                .filter(|field| field.size == 2)
                .ok_or(damaged)?
                .offset;
            if *number_at.get_or_insert(at) != at {
                let problem = "formats that have common_type in different places";
                return Err(TraceDatProblem::Damaged(problem));
            }
            if types.is_empty() {
                types.push(EventType::unknown(&format));
            }
            let id = usize::from(format.id);
            if id >= by_number.len() {
                by_number.resize(id + 1, TypeIndex::UNKNOWN);
            }
            if by_number[id] != TypeIndex::UNKNOWN {
                // Some writers list a system twice.
                let before: &EventType = &types[usize::from(by_number[id].0)];
                if *before.group == **group && *before.name == *format.name {
                    continue;
                }
                return Err(TraceDatProblem::Damaged("two formats with one number"));
            }
            // Each format has another of the 2^16 numbers; only all of them and the unknown one are too many.
            let index = u16::try_from(types.len());
            let index = index.map_err(|_| TraceDatProblem::Damaged("more formats than numbers"))?;
            by_number[id] = TypeIndex(index);
            types.push(EventType::of(group, &format));
        }
        let number_at = number_at.ok_or(TraceDatProblem::Damaged("no event has a format"))?;
        if number_at > 4096 {
            return Err(TraceDatProblem::Damaged("a format without common_type"));
        }
        Ok(Types {
            number_at: number_at as usize,
            by_number,
            types,
        })
    }

    /// Tells the kind of a record; `None` if it is too short to have one.
    #[inline]
    pub(crate) fn of(&self, record: &[u8], length: usize) -> Option<TypeIndex> {
        if length < self.number_at + 2 {
            return None;
        }
        let number = [record[self.number_at], record[self.number_at + 1]];
        let number = usize::from(u16::from_le_bytes(number));
        let known = self.by_number.get(number);
        Some(known.copied().unwrap_or(TypeIndex::UNKNOWN))
    }

    /// Returns one kind.
    #[inline]
    pub(crate) fn get(&self, index: TypeIndex) -> &EventType {
        &self.types[usize::from(index.0)]
    }

    /// Says whether records of this kind mean something here.
    pub(crate) fn has_meaning(&self, index: TypeIndex) -> bool {
        self.get(index).has_meaning
    }

    /// Begins to count the records of this kind.
    ///
    /// # Errors
    /// If another group's records, which mean the same, were counted before.
    #[cold]
    pub(crate) fn first_use(
        &mut self,
        index: TypeIndex,
        summary: &mut Summary,
    ) -> Result<NameIndex, TraceDatProblem> {
        let this = self.get(index);
        let same = |other: &&EventType| {
            other.counted.is_some() && other.has_meaning && other.event == this.event
        };
        if this.has_meaning
            && let Some(other) = self.types.iter().find(same)
        {
            return Err(TraceDatProblem::TwoGroups {
                name: this.event.to_owned(),
                one: other.group.escape_debug().to_string(),
                other: this.group.escape_debug().to_string(),
            });
        }
        let counted = summary.name_index(&this.counted_as());
        self.types[usize::from(index.0)].counted = Some(counted);
        Ok(counted)
    }
}

impl EventType {
    /// Reads who ran, in which context, and what happened.
    ///
    /// # Errors
    /// If the format lacks a field that is needed, or a field cannot be right.
    #[inline]
    pub(crate) fn decode(&self, bytes: &[u8], into: &mut Event) -> Result<(), LineProblem> {
        let (pid, decoder) = match &self.decoder {
            Ok(found) => found,
            Err(problem) => return Err((**problem).clone()),
        };
        let record = Record::new(bytes, self.event);
        into.pid = record.small(*pid)?;
        into.context = context(record.optional(self.flags));
        decoder.read(&record, &mut into.kind)
    }

    /// Returns what the task is called that a `sched_switch` leaves.
    #[inline]
    pub(crate) fn prev_comm<'b>(&self, bytes: &'b [u8]) -> Option<&'b [u8]> {
        let field = self.prev_comm?;
        Some(Record::new(bytes, self.event).text(field))
    }

    fn of(group: &str, format: &Format<'_>) -> Self {
        let event = meaning(group, format.name);
        let name = event.unwrap_or("event");
        let mut find = Finder::new(format, name);
        let flags = find.optional("common_flags");
        let decoder = find.needed("common_pid").and_then(|pid| {
            let decoder = Decoder::of(event.unwrap_or_default(), &mut find)?;
            Ok((pid, decoder))
        });
        let prev_comm = match event {
            Some("sched_switch") => find.task_name("prev_comm"),
            _ => None,
        };
        EventType {
            prev_comm,
            event: name,
            length: find.length,
            flags,
            decoder: decoder.map_err(Box::new),
            counted: None,
            group: group.into(),
            name: format.name.into(),
            has_meaning: event.is_some(),
        }
    }

    /// A kind of which only what all records have is known.
    fn unknown(any: &Format<'_>) -> Self {
        let mut unknown = EventType::of("", any);
        if let Ok((_, decoder)) = &mut unknown.decoder {
            *decoder = Decoder::Other;
        }
        EventType {
            event: "event",
            name: (*b"(no format)").into(),
            has_meaning: false,
            ..unknown
        }
    }

    /// The name that the records are counted under: where another group has a known name, with the group.
    fn counted_as(&self) -> Vec<u8> {
        if !self.has_meaning && is_reserved(&self.name) {
            return [self.group.as_bytes(), b":", &self.name].concat();
        }
        self.name.to_vec()
    }
}
