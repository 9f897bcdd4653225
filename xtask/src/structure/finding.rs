//! What a check of the sources' shape has found.

use std::fmt;
use std::path::PathBuf;

/// What is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Check {
    /// A function is too long.
    FunctionLength,
    /// A file has too many lines of code.
    FileLength,
    /// Files use each other.
    Circle,
    /// A crate's table of files leaves one out.
    Table,
    /// A signature takes or returns a bare integer for an index.
    BareIndex,
}

/// Something that is wrong at a place.
#[derive(Debug)]
pub(super) struct Finding {
    pub(super) check: Check,
    pub(super) file: PathBuf,
    pub(super) line: usize,
    /// The function, or what else it is about; the name by which an exception is made.
    pub(super) name: String,
    pub(super) complaint: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Finding {
            file,
            line,
            complaint,
            ..
        } = self;
        write!(f, "{}:{line}: {complaint}", file.display())
    }
}
