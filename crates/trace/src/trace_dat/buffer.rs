//! Where the pages of each buffer are.

use crate::dat_problem::TraceDatProblem;

/// Buffers that a file may have: one for each tracing instance.
pub(crate) const MAX_BUFFERS: u64 = 64;

/// One buffer: that of the top instance, or of another.
pub(crate) struct BufferPlace {
    /// The instance's name; the top one has none.
    pub(crate) name: String,
    /// Its clock, if the file says so for each buffer.
    pub(crate) clock: Option<String>,
    /// Its page size.
    pub(crate) page_size: u32,
    /// Whether its pages come in compressed chunks.
    pub(crate) compressed: bool,
    /// Its CPUs.
    pub(crate) cpus: Vec<CpuPlace>,
}

/// Where one CPU's pages are.
#[derive(Clone, Copy)]
pub(crate) struct CpuPlace {
    /// The CPU.
    pub(crate) cpu: u32,
    /// The first byte in the file.
    pub(crate) offset: u64,
    /// Bytes in the file.
    pub(crate) size: u64,
}

/// Says that a file has more.
#[cold]
pub(crate) fn too_many_buffers() -> TraceDatProblem {
    TraceDatProblem::TooLarge {
        what: "the list of buffers",
        size: MAX_BUFFERS + 1,
        limit: MAX_BUFFERS,
    }
}
