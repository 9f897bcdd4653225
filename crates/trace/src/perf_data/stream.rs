//! The records one after the other; those that are compressed in others, too.

use zstd::stream::raw::{DParameter, Decoder, InBuffer, Operation, OutBuffer};

use super::attribute::{u32_at, u64_at};
use super::fault::PerfFault;
use super::head::Section;
use crate::bytes::Bytes;
use crate::perf_problem::PerfDataProblem;

/// Bytes of the file in memory; a record has less than 2^16.
const WINDOW_BYTES: usize = 256 << 10;

/// Base-2 logarithm of what zstd may look back on: that of its level 19 is 23.
const ZSTD_WINDOW_LOG: u32 = 24;

const HEAD_BYTES: usize = 8;
const COMPRESSED: u32 = 81;
const COMPRESSED2: u32 = 83;
const AUXTRACE: u32 = 71;

/// Reads records.
pub(super) struct Stream {
    bytes: Bytes,
    /// Where the window ends, and where the records do.
    next: u64,
    end: u64,
    plain: Window,
    inflate: Option<Box<Inflate>>,
}

/// Records in memory: bytes from `start` to `filled` are still to be read.
#[derive(Default)]
struct Window {
    bytes: Vec<u8>,
    start: usize,
    filled: usize,
}

/// What compressed records hold: one zstd stream over all of them.
struct Inflate {
    decoder: Decoder<'static>,
    packed: Vec<u8>,
    used: usize,
    window: Window,
}

/// One record.
pub(super) struct Record<'a> {
    /// `PERF_RECORD_*`.
    pub(super) kind: u32,
    /// All after its head.
    pub(super) body: &'a [u8],
}

/// Where the next record is.
struct Found {
    kind: u32,
    start: usize,
    end: usize,
}

impl Stream {
    /// Begins at the first record.
    pub(super) fn new(bytes: Bytes, data: Section) -> Self {
        Stream {
            bytes,
            next: data.offset,
            end: data.offset + data.size,
            plain: Window::with_room(),
            inflate: None,
        }
    }

    /// The file.
    pub(super) fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Where in the file the next record is, or that which holds it.
    pub(super) fn offset(&self) -> u64 {
        self.next - (self.plain.filled - self.plain.start) as u64
    }

    /// Returns the next record; `None` at the end.
    ///
    /// # Errors
    /// If one is cut or damaged.
    #[inline]
    pub(super) fn next(&mut self) -> Result<Option<Record<'_>>, PerfFault> {
        loop {
            if self.inflate.is_some()
                && let Some(found) = self.next_inflated()?
            {
                let window = &self.inflate.as_ref().expect("looked at").window;
                return Ok(Some(found.within(window)));
            }
            let Some(found) = self.next_plain()? else {
                return self.check_end().map(|()| None);
            };
            match found.kind {
                COMPRESSED | COMPRESSED2 => self.unpack(&found)?,
                AUXTRACE => self.skip_auxtrace(&found)?,
                _ => return Ok(Some(found.within(&self.plain))),
            }
        }
    }

    #[inline]
    fn next_plain(&mut self) -> Result<Option<Found>, PerfFault> {
        let damaged = |stream: &Self| {
            PerfFault::damaged(
                stream.offset(),
                "a record's size, or the last record is cut",
            )
        };
        loop {
            match self.plain.take() {
                Ok(Some(found)) => return Ok(Some(found)),
                Ok(None) => {}
                Err(()) => return Err(damaged(self)),
            }
            if self.next == self.end {
                return match self.plain.is_empty() {
                    true => Ok(None),
                    false => Err(damaged(self)),
                };
            }
            self.fill()?;
        }
    }

    #[cold]
    fn fill(&mut self) -> Result<(), PerfFault> {
        let room = self.plain.make_room();
        let length = (room as u64).min(self.end - self.next) as usize;
        let begin = self.plain.filled;
        let buffer = &mut self.plain.bytes[begin..begin + length];
        self.bytes.read("the records", self.next, buffer)?;
        self.plain.filled += length;
        self.next += length as u64;
        Ok(())
    }

    /// Finds the next record that was compressed; `None` if the packed bytes are used up.
    fn next_inflated(&mut self) -> Result<Option<Found>, PerfFault> {
        let offset = self.offset();
        let Some(inflate) = &mut self.inflate else {
            return Ok(None);
        };
        loop {
            match inflate.window.take() {
                Ok(Some(found)) => return Ok(Some(found)),
                Ok(None) => {}
                Err(()) => return Err(PerfFault::damaged(offset, "a compressed record's size")),
            }
            let more = inflate.more();
            if !more.map_err(|problem| PerfFault::Problem(offset, problem))? {
                return Ok(None);
            }
        }
    }

    /// Takes what a compressed record holds.
    #[cold]
    fn unpack(&mut self, found: &Found) -> Result<(), PerfFault> {
        let offset = self.offset();
        let body = &self.plain.bytes[found.start..found.end];
        let packed = match found.kind {
            COMPRESSED => Some(body),
            _ => u64_at(body, 0)
                .and_then(|size| usize::try_from(size).ok())
                .and_then(|size| body[8..].get(..size)),
        };
        let packed =
            packed.ok_or_else(|| PerfFault::damaged(offset, "a compressed record's size"))?;
        let inflate = match &mut self.inflate {
            Some(inflate) => inflate,
            none => {
                let new = Inflate::new();
                let new = new.map_err(|problem| PerfFault::Problem(offset, problem))?;
                none.insert(Box::new(new))
            }
        };
        inflate.packed.clear();
        inflate.packed.extend_from_slice(packed);
        inflate.used = 0;
        Ok(())
    }

    /// Passes over the bytes of a processor's own trace, which follow their record.
    #[cold]
    fn skip_auxtrace(&mut self, found: &Found) -> Result<(), PerfFault> {
        let size = u64_at(&self.plain.bytes[found.start..found.end], 0);
        let begin = self.offset();
        let end = size.and_then(|size| begin.checked_add(size));
        match end.filter(|end| *end <= self.end) {
            Some(end) => {
                self.next = end;
                self.plain.start = self.plain.filled;
                Ok(())
            }
            None => Err(PerfFault::damaged(begin, "a processor's trace is cut")),
        }
    }

    fn check_end(&self) -> Result<(), PerfFault> {
        match &self.inflate {
            Some(inflate) if !inflate.window.is_empty() => Err(PerfFault::damaged(
                self.end,
                "the last compressed record is cut",
            )),
            _ => Ok(()),
        }
    }
}

impl Found {
    fn within<'a>(&self, window: &'a Window) -> Record<'a> {
        Record {
            kind: self.kind,
            body: &window.bytes[self.start..self.end],
        }
    }
}

impl Window {
    fn with_room() -> Self {
        Window {
            bytes: vec![0; WINDOW_BYTES],
            start: 0,
            filled: 0,
        }
    }

    fn is_empty(&self) -> bool {
        self.start == self.filled
    }

    /// Takes the next record, if all of it is here; an error if its size cannot be right.
    #[inline]
    fn take(&mut self) -> Result<Option<Found>, ()> {
        let here = &self.bytes[self.start..self.filled];
        let (Some(kind), Some(misc_and_size)) = (u32_at(here, 0), u32_at(here, 4)) else {
            return Ok(None);
        };
        let size = (misc_and_size >> 16) as usize;
        if size < HEAD_BYTES {
            return Err(());
        }
        if size > here.len() {
            return Ok(None);
        }
        let start = self.start;
        self.start += size;
        Ok(Some(Found {
            kind,
            start: start + HEAD_BYTES,
            end: start + size,
        }))
    }

    /// Moves what is still to be read to the front, and returns how many bytes fit behind it.
    fn make_room(&mut self) -> usize {
        self.bytes.copy_within(self.start..self.filled, 0);
        self.filled -= self.start;
        self.start = 0;
        self.bytes.len() - self.filled
    }
}

impl Inflate {
    fn new() -> Result<Self, PerfDataProblem> {
        let explain = |error: std::io::Error| PerfDataProblem::Decompress(error.to_string());
        let mut decoder = Decoder::new().map_err(explain)?;
        decoder
            .set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW_LOG))
            .map_err(explain)?;
        Ok(Inflate {
            decoder,
            packed: Vec::new(),
            used: 0,
            window: Window::with_room(),
        })
    }

    /// Decompresses as much as there is room for; `false` if nothing more comes.
    fn more(&mut self) -> Result<bool, PerfDataProblem> {
        self.window.make_room();
        let filled = self.window.filled;
        let mut input = InBuffer::around(&self.packed[self.used..]);
        let mut output = OutBuffer::around(&mut self.window.bytes[filled..]);
        let result = self.decoder.run(&mut input, &mut output);
        let (used, written) = (input.pos(), output.pos());
        result.map_err(|error| PerfDataProblem::Decompress(error.to_string()))?;
        self.used += used;
        self.window.filled += written;
        Ok(used > 0 || written > 0)
    }
}
