//! The formats of tracepoints as perf.data holds them: the beginning of a trace.dat.

use super::head::{MAGIC, check_machine};
use super::version6;
use crate::bytes::{Bytes, Fault};
use crate::cursor::FileCursor;
use crate::dat_problem::TraceDatProblem;
use crate::records::FormatTexts;

/// Reads the formats that begin at `offset`.
///
/// # Errors
/// If they are cut or damaged.
pub(crate) fn read_tracing_data(bytes: &Bytes, offset: u64) -> Result<FormatTexts, Fault> {
    let mut at = FileCursor::new(bytes, offset, "the events' formats");
    if at.take()? != *MAGIC {
        let problem = TraceDatProblem::Damaged("the first bytes of the events' formats");
        return Err(Fault::Dat(offset, problem));
    }
    let _version = at.string()?;
    let machine = at.take()?;
    check_machine(machine).map_err(|problem| Fault::Dat(offset, problem))?;
    let _page_size = at.u32()?;
    version6::named_text(&mut at, b"header_page\0")?;
    version6::named_text(&mut at, b"header_event\0")?;
    version6::formats(&mut at)
}
