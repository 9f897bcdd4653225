//! What can go wrong, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};

/// Says why nothing is recorded, or not all.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// Only root may trace.
    #[error(
        "only root may trace: run it by sudo, or let root run the script of `lazytlb record --dry-run`"
    )]
    NotRoot,
    /// tracefs is mounted nowhere.
    #[error(
        "tracefs is not mounted: run `mount -t tracefs nodev /sys/kernel/tracing` as root. If that says \"unknown \
         filesystem type\", this kernel cannot trace (CONFIG_FTRACE)"
    )]
    NoTracefs,
    /// This kernel lacks events that nothing can stand in for.
    #[error(
        "this kernel does not offer {missing}: without it, who runs where is unknown. It needs CONFIG_FTRACE and \
         CONFIG_SCHED_TRACER or CONFIG_EVENT_TRACING"
    )]
    NoEvents {
        /// The event.
        missing: &'static str,
    },
    /// The recording has no place to go to.
    #[error("{}: nothing can be written there: {source}; choose another place with -o", .folder.display())]
    Output {
        /// The folder.
        folder: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A file cannot be read or written.
    #[error("{}: {what} failed: {source}{}", .file.display(), advice(.file, .source))]
    File {
        /// The file.
        file: PathBuf,
        /// What was tried.
        what: &'static str,
        /// The system's reason.
        source: io::Error,
    },
    /// The command does not start.
    #[error("{command}: cannot be started: {source}; check the name and PATH")]
    Command {
        /// Its name.
        command: String,
        /// The system's reason.
        source: io::Error,
    },
}

impl RecordError {
    /// Returns a function that says which file it was, and what was tried with it.
    pub(crate) fn at(file: &Path, what: &'static str) -> impl FnOnce(io::Error) -> RecordError {
        let file = file.to_owned();
        move |source| RecordError::File { file, what, source }
    }
}

fn advice(file: &Path, source: &io::Error) -> &'static str {
    let name = file.file_name().and_then(|name| name.to_str());
    match (source.kind(), name) {
        (io::ErrorKind::PermissionDenied, _) => {
            "; a locked-down kernel (Secure Boot) refuses tracing even to root"
        }
        (io::ErrorKind::OutOfMemory, Some("buffer_size_kb")) => "; choose a smaller --buffer-kib",
        (io::ErrorKind::StorageFull, _) => "; make room, or record to another disk",
        (io::ErrorKind::NotFound, Some("instances")) => {
            "; this kernel is older than 3.10, whose tracefs has no instances"
        }
        _ => "",
    }
}
