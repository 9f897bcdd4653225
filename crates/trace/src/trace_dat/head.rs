//! The first bytes of a file, which say how the rest is to be read.

use super::layout::Layout;
use super::{version6, version7};
use crate::bytes::{Bytes, Fault};
use crate::cursor::FileCursor;
use crate::dat_problem::TraceDatProblem;

/// How every trace.dat begins.
pub(crate) const MAGIC: &[u8; 10] = b"\x17\x08\x44tracing";

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
    let machine = head.take()?;
    let version = match version.as_str() {
        "6" => 6,
        "7" => 7,
        other => {
            let name = other.chars().take(16).collect();
            return Err(at_start(TraceDatProblem::Version(name)));
        }
    };
    check_machine(machine).map_err(at_start)?;
    let page_size = head.u32()?;
    match version {
        6 => version6::read(bytes, head, page_size),
        _ => version7::read(bytes, head, page_size),
    }
}

/// Checks the byte order, and the bytes of a long.
///
/// # Errors
/// If they are not those of a 64-bit x86.
pub(super) fn check_machine(machine: [u8; 2]) -> Result<(), TraceDatProblem> {
    match machine {
        [0, 8] => Ok(()),
        [0, 4] => Err(TraceDatProblem::Machine("a 32-bit machine")),
        [1, _] => Err(TraceDatProblem::Machine("a big-endian machine")),
        _ => Err(TraceDatProblem::Damaged("byte order and size of a long")),
    }
}
