//! Files of tracefs.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;

use crate::error::RecordError;

/// Bytes to ask for at a time.
const READ_BYTES: usize = 64 * 1024;

/// Where tracefs is mounted.
#[derive(Clone, Debug)]
pub struct Tracefs {
    root: PathBuf,
}

impl Tracefs {
    /// Finds out where tracefs is mounted.
    ///
    /// # Errors
    /// [`RecordError::NotRoot`], [`RecordError::NoTracefs`].
    pub fn find() -> Result<Tracefs, RecordError> {
        let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
        let root = root_among(&mounts).ok_or(RecordError::NoTracefs);
        match geteuid().is_root() {
            true => Ok(Tracefs { root: root? }),
            false => Err(RecordError::NotRoot),
        }
    }

    /// Takes a directory as tracefs, whoever asks.
    pub fn at(root: impl Into<PathBuf>) -> Tracefs {
        Tracefs { root: root.into() }
    }

    /// Returns a path below it.
    pub(crate) fn path(&self, file: impl AsRef<Path>) -> PathBuf {
        self.root.join(file)
    }

    /// Says whether there is such a file.
    pub(crate) fn has(&self, file: impl AsRef<Path>) -> bool {
        self.path(file).exists()
    }

    /// Reads a file.
    ///
    /// In large pieces: `events/header_page` answers one read only, however small.
    ///
    /// # Errors
    /// Those of reading, with the file's name.
    pub(crate) fn read(&self, file: impl AsRef<Path>) -> Result<Vec<u8>, RecordError> {
        let path = self.path(file);
        let read = || {
            let mut file = BufReader::with_capacity(READ_BYTES, File::open(&path)?);
            let mut bytes = Vec::new();
            loop {
                let piece = file.fill_buf()?;
                let length = piece.len();
                bytes.extend_from_slice(piece);
                file.consume(length);
                if length == 0 {
                    return Ok(bytes);
                }
            }
        };
        read().map_err(RecordError::at(&path, "reading"))
    }
}

/// Finds tracefs, or the debugfs that has it, in a table of mounts.
fn root_among(mounts: &str) -> Option<PathBuf> {
    let of_type = |kind: &str| {
        mounts.lines().find_map(|line| {
            let mut words = line.split(' ').skip(1);
            let (place, its_kind) = (words.next()?, words.next()?);
            (its_kind == kind).then(|| PathBuf::from(place))
        })
    };
    let inside = of_type("debugfs").map(|debugfs| debugfs.join("tracing"));
    of_type("tracefs").or(inside)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tracefs_is_found_where_it_is_mounted() {
        let root = |mounts| root_among(mounts).map(|root| root.display().to_string());
        let both = "proc /proc proc rw 0 0\ndebugfs /sys/kernel/debug debugfs rw 0 0\ntracefs \
                    /sys/kernel/tracing tracefs rw 0 0\n";
        assert_eq!(root(both).as_deref(), Some("/sys/kernel/tracing"));
        let old = "debugfs /sys/kernel/debug debugfs rw 0 0\n";
        assert_eq!(root(old).as_deref(), Some("/sys/kernel/debug/tracing"));
        assert_eq!(root("tmpfs /tmp tmpfs rw 0 0\n"), None);
    }
}
