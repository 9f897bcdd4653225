//! Where what stands in the file.

use super::buffer::BufferPlace;
use super::bytes::{Bytes, Fault};
use super::codec::Codec;
use super::cursor::FileCursor;
use super::formats::FormatTexts;
use super::options::Options;
use super::{version6, version7};
use crate::dat_problem::TraceDatProblem;

/// How every trace.dat begins.
pub(crate) const MAGIC: &[u8; 10] = b"\x17\x08\x44tracing";

/// What a section of formats may have: all events of a kernel have some 5 MiB.
pub(crate) const MAX_SECTION_BYTES: u64 = 32 << 20;

/// The head of a file, and where the events are.
pub(crate) struct Layout {
    /// How sections and chunks are compressed.
    pub(crate) codec: Codec,
    /// The text of `events/header_page`.
    pub(crate) header_page: Vec<u8>,
    /// The text of `events/header_event`.
    pub(crate) header_event: Vec<u8>,
    /// The text of each event's `format`, with its group.
    pub(crate) formats: FormatTexts,
    /// What the recorder noted.
    pub(crate) options: Options,
    /// The buffers: that of the top instance, and of others.
    pub(crate) buffers: Vec<BufferPlace>,
    /// The page size by the file's head.
    pub(crate) page_size: u32,
}

impl Layout {
    /// Reads the head.
    ///
    /// # Errors
    /// If the file is cut or damaged, or of a version or machine that is not read.
    pub(crate) fn read(bytes: &Bytes) -> Result<Self, Fault> {
        let at_start = |problem| Fault::Dat(0, problem);
        let mut head = FileCursor::new(bytes, 0, "the file's head");
        if head.take()? != *MAGIC {
            return Err(at_start(TraceDatProblem::Damaged("the file's first bytes")));
        }
        let version = head.string()?;
        let [big_endian, long_bytes] = head.take()?;
        let version = match version.as_str() {
            "6" => 6,
            "7" => 7,
            other => {
                let name = other.chars().take(16).collect();
                return Err(at_start(TraceDatProblem::Version(name)));
            }
        };
        match (big_endian, long_bytes) {
            (0, 8) => {}
            (0, 4) => return Err(at_start(TraceDatProblem::Machine("a 32-bit machine"))),
            (1, _) => return Err(at_start(TraceDatProblem::Machine("a big-endian machine"))),
            _ => {
                return Err(at_start(TraceDatProblem::Damaged(
                    "byte order and size of a long",
                )));
            }
        }
        let page_size = head.u32()?;
        match version {
            6 => version6::read(bytes, head, page_size),
            _ => version7::read(bytes, head, page_size),
        }
    }
}
