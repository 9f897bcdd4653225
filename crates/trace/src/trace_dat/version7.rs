//! Version 7: sections, found through options, each perhaps compressed.

use super::buffer::{BufferPlace, CpuPlace};
use super::codec::Codec;
use super::layout::{Layout, MAX_SECTION_BYTES};
use super::options::{OptionId, Options};
use crate::bytes::{Bytes, Fault};
use crate::cursor::{FileCursor, Short, Slice};
use crate::dat_problem::TraceDatProblem;
use crate::limits::MAX_CPUS;
use crate::records::FormatTexts;

/// Sections of options that a file may chain; real ones have three or so.
const MAX_OPTION_SECTIONS: usize = 1024;

const COMPRESSED: u16 = 1;
const FLYRECORD: u16 = 3;

/// Reads the chain of options, and what they lead to.
///
/// # Errors
/// If a part is cut or damaged.
pub(crate) fn read(bytes: &Bytes, mut at: FileCursor<'_>, page_size: u32) -> Result<Layout, Fault> {
    let begin = at.offset;
    let compression = at.string()?;
    at.string()?;
    let first = at.u64()?;
    let codec = Codec::named(&compression).map_err(|problem| Fault::Dat(begin, problem))?;
    let mut sections = Sections { bytes, codec };
    let mut found = Found::default();
    let mut next = first;
    for round in 0.. {
        if round == MAX_OPTION_SECTIONS {
            let problem = TraceDatProblem::Damaged("the chain of options does not end");
            return Err(Fault::Dat(next, problem));
        }
        next = match found.take_section(&mut sections, next)? {
            0 => break,
            next => next,
        };
    }
    let (header_page, header_event) = sections.header(found.header)?;
    let mut formats = FormatTexts::default();
    sections.ftrace_formats(found.ftrace, &mut formats)?;
    sections.event_formats(found.events, &mut formats)?;
    if found.buffers.is_empty() {
        let problem = match found.latency {
            true => TraceDatProblem::Latency,
            false => TraceDatProblem::NoBuffer,
        };
        return Err(Fault::Dat(first, problem));
    }
    Ok(Layout {
        codec: sections.codec,
        header_page,
        header_event,
        formats,
        options: found.options,
        buffers: found.buffers,
        page_size,
    })
}

/// What the options lead to.
#[derive(Default)]
struct Found {
    options: Options,
    header: Option<u64>,
    ftrace: Option<u64>,
    events: Option<u64>,
    buffers: Vec<BufferPlace>,
    latency: bool,
}

impl Found {
    /// Takes one section of options, and returns where the next one is.
    fn take_section(&mut self, sections: &mut Sections<'_>, offset: u64) -> Result<u64, Fault> {
        let data = sections.unpack("the options", offset, 0)?;
        let damaged = |_| Fault::Dat(offset, TraceDatProblem::Damaged("an option is cut"));
        let mut rest = Slice::new(&data);
        loop {
            let id = rest.u16().map_err(damaged)?;
            let size = rest.u32().map_err(damaged)?;
            let data = rest.bytes(size.into()).map_err(damaged)?;
            let place = || Slice::new(data).u64().map_err(damaged);
            match OptionId::of(id) {
                OptionId::Done => return place(),
                OptionId::HeaderInfo => self.header = Some(place()?),
                OptionId::FtraceEvents => self.ftrace = Some(place()?),
                OptionId::EventFormats => self.events = Some(place()?),
                OptionId::Latency => self.latency = true,
                OptionId::Buffer => {
                    if self.buffers.len() as u64 >= super::buffer::MAX_BUFFERS {
                        let problem = super::buffer::too_many_buffers();
                        return Err(Fault::Dat(offset, problem));
                    }
                    let buffer = buffer(data, offset, sections)?;
                    self.buffers.push(buffer);
                }
                _ => self
                    .options
                    .take(id, data)
                    .map_err(|problem| Fault::Dat(offset, problem))?,
            }
        }
    }
}

/// Reads a buffer's option, and whether its section is compressed.
fn buffer(data: &[u8], offset: u64, sections: &Sections<'_>) -> Result<BufferPlace, Fault> {
    let damaged = |_: Short| Fault::Dat(offset, TraceDatProblem::Damaged("a buffer's option"));
    let mut data = Slice::new(data);
    let section = data.u64().map_err(damaged)?;
    let name = data.string().map_err(damaged)?;
    let clock = data.string().map_err(damaged)?;
    let page_size = data.u32().map_err(damaged)?;
    let count = data.u32().map_err(damaged)?;
    if u64::from(count) > MAX_CPUS {
        let problem = TraceDatProblem::TooLarge {
            what: "the list of CPUs",
            size: count.into(),
            limit: MAX_CPUS,
        };
        return Err(Fault::Dat(offset, problem));
    }
    let mut cpus = Vec::new();
    for _ in 0..count {
        cpus.push(CpuPlace {
            cpu: data.u32().map_err(damaged)?,
            offset: data.u64().map_err(damaged)?,
            size: data.u64().map_err(damaged)?,
        });
    }
    let (flags, _, _) = sections.head("a buffer's section", section, FLYRECORD)?;
    Ok(BufferPlace {
        name,
        clock: Some(clock),
        page_size,
        compressed: flags & COMPRESSED != 0,
        cpus,
    })
}

struct Sections<'a> {
    bytes: &'a Bytes,
    codec: Codec,
}

impl Sections<'_> {
    /// Reads a section's head: its flags, where its content is, and its size.
    fn head(&self, what: &'static str, offset: u64, id: u16) -> Result<(u16, u64, u64), Fault> {
        let mut head = FileCursor::new(self.bytes, offset, what);
        let found = head.u16()?;
        let flags = head.u16()?;
        let _description = head.u32()?;
        let size = head.u64()?;
        if found != id || flags & !COMPRESSED != 0 {
            let problem = TraceDatProblem::Damaged("a section is not where it should be");
            return Err(Fault::Dat(offset, problem));
        }
        Ok((flags, head.offset, size))
    }

    /// Returns a section's content.
    fn unpack(&mut self, what: &'static str, offset: u64, id: u16) -> Result<Vec<u8>, Fault> {
        let (flags, begin, size) = self.head(what, offset, id)?;
        if flags & COMPRESSED == 0 {
            return self.bytes.read_vec(what, begin, size, MAX_SECTION_BYTES);
        }
        let mut at = FileCursor::new(self.bytes, begin, what);
        let (packed, length) = (u64::from(at.u32()?), u64::from(at.u32()?));
        let limit = MAX_SECTION_BYTES;
        if length > limit {
            let size = length;
            let problem = TraceDatProblem::TooLarge { what, size, limit };
            return Err(Fault::Dat(begin, problem));
        }
        let packed = at.vec(packed, MAX_SECTION_BYTES)?;
        let mut content = Vec::new();
        self.codec
            .unpack(&packed, length as usize, &mut content)
            .map_err(|problem| Fault::Dat(begin, problem))?;
        Ok(content)
    }

    fn header(&mut self, offset: Option<u64>) -> Result<(Vec<u8>, Vec<u8>), Fault> {
        let offset = found(offset, "no option says where header_page is")?;
        let data = self.unpack("header_page and header_event", offset, 16)?;
        let damaged = |_| {
            let problem = TraceDatProblem::Damaged("header_page or header_event");
            Fault::Dat(offset, problem)
        };
        let mut rest = Slice::new(&data);
        let mut text = |name: &[u8]| {
            if rest.bytes(name.len() as u64)? != name {
                return Err(Short);
            }
            let size = rest.u64()?;
            Ok(rest.bytes(size)?.to_vec())
        };
        let page = text(b"header_page\0").map_err(damaged)?;
        Ok((page, text(b"header_event\0").map_err(damaged)?))
    }

    /// Reads the formats of ftrace's own events; a file may have none.
    fn ftrace_formats(
        &mut self,
        offset: Option<u64>,
        formats: &mut FormatTexts,
    ) -> Result<(), Fault> {
        let Some(offset) = offset else {
            return Ok(());
        };
        let data = self.unpack("the formats of ftrace's events", offset, 17)?;
        group(&mut Slice::new(&data), "ftrace", formats).map_err(|_| cut_formats(offset))
    }

    fn event_formats(
        &mut self,
        offset: Option<u64>,
        formats: &mut FormatTexts,
    ) -> Result<(), Fault> {
        let offset = found(offset, "no option says where the events' formats are")?;
        let data = self.unpack("the events' formats", offset, 18)?;
        let mut rest = Slice::new(&data);
        let mut groups = || {
            for _ in 0..rest.u32()? {
                let name = rest.string()?;
                group(&mut rest, &name, formats)?;
            }
            Ok(())
        };
        groups().map_err(|_: Short| cut_formats(offset))
    }
}

fn group(rest: &mut Slice<'_>, name: &str, formats: &mut FormatTexts) -> Result<(), Short> {
    let name = name.into();
    for _ in 0..rest.u32()? {
        let size = rest.u64()?;
        formats
            .push(&name, rest.bytes(size)?.to_vec())
            .map_err(|_| Short)?;
    }
    Ok(())
}

fn cut_formats(offset: u64) -> Fault {
    Fault::Dat(offset, TraceDatProblem::Damaged("the events' formats"))
}

fn found(offset: Option<u64>, missing: &'static str) -> Result<u64, Fault> {
    offset.ok_or(Fault::Dat(0, TraceDatProblem::Damaged(missing)))
}
