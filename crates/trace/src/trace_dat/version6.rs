//! Version 6: one part after the other, the options last.

use super::buffer::{BufferPlace, CpuPlace};
use super::codec::Codec;
use super::layout::{Layout, MAX_SECTION_BYTES};
use super::options::{OptionId, Options};
use crate::bytes::{Bytes, Fault};
use crate::cursor::FileCursor;
use crate::dat_problem::TraceDatProblem;
use crate::limits::MAX_CPUS;
use crate::records::FormatTexts;

/// Reads all parts.
///
/// # Errors
/// If one is cut or damaged.
pub(crate) fn read(bytes: &Bytes, mut at: FileCursor<'_>, page_size: u32) -> Result<Layout, Fault> {
    let header_page = named_text(&mut at, b"header_page\0")?;
    let header_event = named_text(&mut at, b"header_event\0")?;
    let formats = formats(&mut at)?;
    for size_bytes in [4, 4, 8] {
        // The names of functions, of trace_printk formats, of tasks.
        let size = match size_bytes {
            4 => u64::from(at.u32()?),
            _ => at.u64()?,
        };
        at.skip(size)?;
    }
    let cpus_offset = at.offset;
    let cpus = at.u32()?;
    if u64::from(cpus) > MAX_CPUS {
        let problem = TraceDatProblem::TooLarge {
            what: "the list of CPUs",
            size: cpus.into(),
            limit: MAX_CPUS,
        };
        return Err(Fault::Dat(cpus_offset, problem));
    }
    let mut options = Options::default();
    let mut instances = Vec::new();
    let mut kind = at.take::<10>()?;
    if kind == *b"options  \0" {
        read_options(&mut at, &mut options, &mut instances)?;
        kind = at.take::<10>()?;
    }
    let mut buffers = vec![flyrecord(&mut at, kind, cpus, String::new(), page_size)?];
    if options.clock_follows {
        let size = at.u64()?;
        let text = at.vec(size, 4096)?;
        options.clock = Options::clock_of(&text);
    }
    for (offset, name) in instances {
        let mut at = FileCursor::new(bytes, offset, "an instance's buffer");
        let kind = at.take::<10>()?;
        buffers.push(flyrecord(&mut at, kind, cpus, name, page_size)?);
    }
    options.cpus = options.cpus.max(Some(cpus.into()));
    Ok(Layout {
        codec: Codec::None,
        header_page,
        header_event,
        formats,
        options,
        buffers,
        page_size,
    })
}

/// Reads a text that its name stands before.
///
/// # Errors
/// If it does not.
pub(super) fn named_text<const N: usize>(
    at: &mut FileCursor<'_>,
    name: &[u8; N],
) -> Result<Vec<u8>, Fault> {
    let begin = at.offset;
    if at.take::<N>()? != *name {
        let problem =
            TraceDatProblem::Damaged("header_page or header_event is not where it should be");
        return Err(Fault::Dat(begin, problem));
    }
    let size = at.u64()?;
    at.vec(size, 64 * 1024)
}

/// Reads the formats of ftrace's own events and of all groups.
///
/// # Errors
/// If they are cut or damaged.
pub(super) fn formats(at: &mut FileCursor<'_>) -> Result<FormatTexts, Fault> {
    let mut formats = FormatTexts::default();
    let mut left = MAX_SECTION_BYTES;
    let mut group = |at: &mut FileCursor<'_>, name: &str| {
        let name = name.into();
        for _ in 0..at.u32()? {
            let begin = at.offset;
            let size = at.u64()?;
            let text = at.vec(size, left)?;
            left -= size;
            formats
                .push(&name, text)
                .map_err(|problem| Fault::Dat(begin, problem))?;
        }
        Ok(())
    };
    group(at, "ftrace")?;
    for _ in 0..at.u32()? {
        let name = at.string()?;
        group(at, &name)?;
    }
    Ok(formats)
}

fn read_options(
    at: &mut FileCursor<'_>,
    options: &mut Options,
    instances: &mut Vec<(u64, String)>,
) -> Result<(), Fault> {
    loop {
        let begin = at.offset;
        let id = at.u16()?;
        if id == 0 {
            return Ok(());
        }
        let size = at.u32()?;
        let data = at.vec(size.into(), MAX_SECTION_BYTES)?;
        if OptionId::of(id) == OptionId::Buffer {
            let Some((offset, name)) = data.split_first_chunk() else {
                return Err(Fault::Dat(
                    begin,
                    TraceDatProblem::Damaged("a buffer's option"),
                ));
            };
            let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
            if instances.len() as u64 >= super::buffer::MAX_BUFFERS {
                let problem = super::buffer::too_many_buffers();
                return Err(Fault::Dat(begin, problem));
            }
            let name = String::from_utf8_lossy(name).into_owned();
            instances.push((u64::from_le_bytes(*offset), name));
        } else {
            options
                .take(id, &data)
                .map_err(|problem| Fault::Dat(begin, problem))?;
        }
    }
}

/// Reads where each CPU's pages are.
fn flyrecord(
    at: &mut FileCursor<'_>,
    kind: [u8; 10],
    cpus: u32,
    name: String,
    page_size: u32,
) -> Result<BufferPlace, Fault> {
    match &kind {
        b"flyrecord\0" => {}
        b"latency  \0" => return Err(Fault::Dat(at.offset, TraceDatProblem::Latency)),
        _ => {
            let problem = TraceDatProblem::Damaged("neither options nor flyrecord");
            return Err(Fault::Dat(at.offset, problem));
        }
    }
    let mut places = Vec::new();
    for cpu in 0..cpus {
        let (offset, size) = (at.u64()?, at.u64()?);
        places.push(CpuPlace { cpu, offset, size });
    }
    Ok(BufferPlace {
        name,
        clock: None,
        page_size,
        compressed: false,
        cpus: places,
    })
}
