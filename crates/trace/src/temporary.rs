//! Temporary files that are removed however the program ends.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use tempfile::NamedTempFile;

/// Those that there are now.
static LIVING: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// A temporary file; it is removed when this is dropped.
pub(crate) struct Temporary {
    file: NamedTempFile,
}

impl Temporary {
    /// Makes one.
    ///
    /// # Errors
    /// If the folder for temporary files takes none.
    pub(crate) fn make() -> io::Result<Temporary> {
        let mut living = LIVING.lock().unwrap_or_else(PoisonError::into_inner);
        let mut named = tempfile::Builder::new();
        let file = named.prefix("lazytlb-").suffix(".recording").tempfile()?;
        living.insert(file.path().to_owned());
        Ok(Temporary { file })
    }

    pub(crate) fn path(&self) -> &Path {
        self.file.path()
    }

    pub(crate) fn as_file(&self) -> &File {
        self.file.as_file()
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let mut living = LIVING.lock().unwrap_or_else(PoisonError::into_inner);
        living.remove(self.file.path());
    }
}

/// Removes the temporary files of all readers, which go on reading them. For a program that a signal ends: what is dropped
/// otherwise is not dropped then.
pub fn remove_temporary_files() {
    let living = LIVING.lock().unwrap_or_else(PoisonError::into_inner);
    for path in living.iter() {
        // Nobody is left to tell.
        let _ = fs::remove_file(path);
    }
}
