//! Where what stands in the file.

use super::buffer::BufferPlace;
use super::codec::Codec;
use super::options::Options;
use crate::records::FormatTexts;

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
