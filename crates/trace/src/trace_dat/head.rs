//! The first bytes of a file, which say how the rest is to be read.

use super::bytes::{Bytes, Fault, MAGIC};
use super::cursor::FileCursor;
use super::layout::Layout;
use super::{version6, version7};
use crate::dat_problem::TraceDatProblem;

/// Reads the head.
///
/// # Errors
/// If the file is cut or damaged, or of a version or machine that is not read.
pub(crate) fn read(bytes: &Bytes) -> Result<Layout, Fault> {
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
