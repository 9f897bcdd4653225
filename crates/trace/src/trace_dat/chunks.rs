//! A window on each CPU's pages: memory is bounded whatever the number of CPUs.

use super::buffer::{BufferPlace, CpuPlace};
use super::codec::Codec;
use crate::bytes::{Bytes, Fault};
use crate::cursor::FileCursor;
use crate::dat_problem::TraceDatProblem;
use crate::error::TraceError;
use crate::limits::MAX_CPUS;
use crate::records::SLACK_BYTES;

/// What all windows may have together, in bytes, as long as one page a CPU is less.
const WINDOWS_BYTES: usize = 16 << 20;

/// What one window has at most: those of eight CPUs stay in a core's second cache.
const WINDOW_BYTES: usize = 32 << 10;

/// The largest chunk that is read; trace-cmd makes chunks of 10 pages.
const MAX_CHUNK_BYTES: u64 = 8 << 20;

/// One CPU's pages, of which some are in memory.
pub(crate) struct Window {
    /// Whole pages, then [`SLACK_BYTES`].
    pub(crate) bytes: Vec<u8>,
    /// Bytes of pages.
    pub(crate) filled: usize,
    /// Where they are in the file: themselves, or the chunk that they come from.
    pub(crate) offset: u64,
    /// Whether `offset` is a chunk's.
    pub(crate) is_chunk: bool,
    rest: Rest,
}

/// What is still in the file.
#[derive(Clone, Copy)]
enum Rest {
    Pages { next: u64, left: u64, size: usize },
    Chunks { next: u64, left: u32 },
}

/// Fills windows.
pub(crate) struct Supply {
    bytes: Bytes,
    codec: Codec,
    packed: Vec<u8>,
    /// Bytes of the file that were used.
    pub(crate) consumed: u64,
}

impl Supply {
    /// Begins to read.
    pub(crate) fn new(bytes: Bytes, codec: Codec) -> Self {
        Supply {
            bytes,
            codec,
            packed: Vec::new(),
            consumed: 0,
        }
    }

    /// The bytes that the windows are on.
    pub(crate) fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Opens a window for each CPU, with nothing in it yet.
    ///
    /// # Errors
    /// If a CPU's pages are not all in the file, or are too large.
    pub(crate) fn windows(
        &self,
        buffer: &BufferPlace,
        page: usize,
    ) -> Result<Vec<(u16, Window)>, Fault> {
        let size = window_size(buffer.cpus.len(), page);
        let mut windows = Vec::new();
        for place in &buffer.cpus {
            let cpu = checked_cpu(place)?;
            self.bytes
                .check("a CPU's events", place.offset, place.size)?;
            let rest = match buffer.compressed && place.size > 0 {
                true => Rest::Chunks {
                    next: place.offset + 4,
                    left: self.check_chunks(place, page)?.0,
                },
                false => Rest::Pages {
                    next: place.offset,
                    left: checked_pages(place, page)?,
                    size,
                },
            };
            let window = Window {
                bytes: Vec::new(),
                filled: 0,
                offset: place.offset,
                is_chunk: buffer.compressed,
                rest,
            };
            windows.push((cpu, window));
        }
        Ok(windows)
    }

    /// Puts the next pages into a window; `false` if there are none.
    ///
    /// # Errors
    /// If they cannot be read or decompressed.
    pub(crate) fn refill(&mut self, window: &mut Window) -> Result<bool, Fault> {
        match &mut window.rest {
            Rest::Pages { left: 0, .. } | Rest::Chunks { left: 0, .. } => return Ok(false),
            Rest::Pages { next, left, size } => {
                let length = (*size as u64).min(*left) as usize;
                window.bytes.resize(length + SLACK_BYTES, 0);
                let bytes = &mut window.bytes[..length];
                self.bytes.read("a CPU's events", *next, bytes)?;
                window.offset = *next;
                window.filled = length;
                *next += length as u64;
                *left -= length as u64;
                self.consumed += length as u64;
            }
            Rest::Chunks { next, left } => {
                let mut at = FileCursor::new(&self.bytes, *next, "a chunk of events");
                let (packed, length) = (at.u32()?, at.u32()? as usize);
                self.packed.resize(packed as usize, 0);
                self.bytes
                    .read("a chunk of events", at.offset, &mut self.packed)?;
                self.codec
                    .unpack(&self.packed, length, &mut window.bytes)
                    .map_err(|problem| Fault::Dat(*next, problem))?;
                window.bytes.extend_from_slice(&[0; SLACK_BYTES]);
                window.offset = *next;
                window.filled = length;
                *next = at.offset + u64::from(packed);
                *left -= 1;
                self.consumed += 8 + u64::from(packed);
            }
        }
        Ok(true)
    }

    /// Decompresses a buffer into a file of its own if one chunk of each CPU would be too much memory.
    ///
    /// # Errors
    /// If a chunk is damaged, or the temporary file cannot be written.
    pub(crate) fn shrink(
        &mut self,
        file: &str,
        buffer: &mut BufferPlace,
        page: usize,
    ) -> Result<(), TraceError> {
        if !buffer.compressed {
            return Ok(());
        }
        let mut all = 0;
        for place in buffer.cpus.iter().filter(|place| place.size > 0) {
            self.bytes
                .check("a CPU's events", place.offset, place.size)
                .and_then(|()| self.check_chunks(place, page))
                .map(|(_, largest)| all += largest)
                .map_err(|fault| fault.of(file))?;
        }
        if all <= WINDOWS_BYTES as u64 {
            return Ok(());
        }
        let windows = self.windows(buffer, page);
        let windows = windows.map_err(|fault| fault.of(file))?;
        let mut cpus = Vec::new();
        let bytes = Bytes::spooled(file, |spool| {
            let mut offset = 0;
            for (cpu, mut window) in windows {
                let mut size = 0;
                while self.refill(&mut window).map_err(|fault| fault.of(file))? {
                    spool.take(&window.bytes[..window.filled])?;
                    size += window.filled as u64;
                }
                let cpu = cpu.into();
                cpus.push(CpuPlace { cpu, offset, size });
                offset += size;
            }
            Ok(())
        })?;
        self.bytes = bytes;
        self.consumed = 0;
        buffer.cpus = cpus;
        buffer.compressed = false;
        Ok(())
    }

    /// Checks that all chunks of a CPU are there and of pages, and returns their number and the size of the largest.
    fn check_chunks(&self, place: &CpuPlace, page: usize) -> Result<(u32, u64), Fault> {
        let damaged = |offset, what| Fault::Dat(offset, TraceDatProblem::Damaged(what));
        // The recorded size leaves out the number of chunks, which stands before them.
        let end = place.offset + place.size + 4;
        let mut at = FileCursor::new(&self.bytes, place.offset, "a chunk of events");
        let chunks = at.u32()?;
        let mut largest = 0;
        for _ in 0..chunks {
            let begin = at.offset;
            let (packed, length) = (u64::from(at.u32()?), u64::from(at.u32()?));
            let size = packed.max(length);
            if size > MAX_CHUNK_BYTES {
                let (what, limit) = ("a chunk of events", MAX_CHUNK_BYTES);
                let problem = TraceDatProblem::TooLarge { what, size, limit };
                return Err(Fault::Dat(begin, problem));
            }
            if length == 0 || length % page as u64 != 0 {
                return Err(damaged(begin, "a chunk that is not made of pages"));
            }
            at.skip(packed)?;
            if at.offset > end {
                return Err(damaged(
                    begin,
                    "a chunk that is longer than its CPU's events",
                ));
            }
            largest = largest.max(length);
        }
        Ok((chunks, largest))
    }
}

/// Divides the memory by the CPUs; a page is the least.
fn window_size(cpus: usize, page: usize) -> usize {
    let size = (WINDOWS_BYTES / cpus.max(1)).min(WINDOW_BYTES);
    (size / page).max(1) * page
}

fn checked_cpu(place: &CpuPlace) -> Result<u16, Fault> {
    let problem = TraceDatProblem::TooLarge {
        what: "the number of a CPU",
        size: place.cpu.into(),
        limit: MAX_CPUS - 1,
    };
    match u16::try_from(place.cpu) {
        Ok(cpu) if u64::from(cpu) < MAX_CPUS => Ok(cpu),
        _ => Err(Fault::Dat(place.offset, problem)),
    }
}

fn checked_pages(place: &CpuPlace, page: usize) -> Result<u64, Fault> {
    if place.size.is_multiple_of(page as u64) {
        return Ok(place.size);
    }
    let problem = TraceDatProblem::Damaged("a CPU's events end within a page");
    Err(Fault::Dat(place.offset, problem))
}
