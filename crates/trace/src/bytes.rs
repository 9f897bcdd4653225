//! Positioned reads: of a plain file in its place, of any other input from memory or a temporary file.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::dat_problem::TraceDatProblem;
use crate::error::TraceError;
use crate::temporary::Temporary;

/// Bytes that tell the formats apart: trace.dat's magic is the longest.
pub(crate) const MAGIC_BYTES: usize = 10;

/// What is no longer than this is kept in memory instead of a temporary file.
const IN_MEMORY_BYTES: u64 = 1 << 20;

/// The bytes of a recording, or of its decompressed pages.
pub(crate) struct Bytes {
    store: Store,
    length: u64,
}

enum Store {
    Plain(File),
    Memory(Vec<u8>),
    Temporary(Temporary),
}

/// Why bytes are not to be had.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The system failed.
    Read(u64, io::Error),
    /// The recording is not what it should be.
    Dat(u64, TraceDatProblem),
}

impl Fault {
    /// Names the file.
    pub(crate) fn of(self, file: &str) -> TraceError {
        let file = file.to_owned();
        match self {
            Fault::Read(offset, source) => TraceError::Read {
                file,
                offset,
                source,
            },
            Fault::Dat(offset, problem) => TraceError::TraceDat {
                file,
                offset,
                problem,
            },
        }
    }
}

impl Bytes {
    /// Takes a plain file in place if `format` knows its first bytes; `None` if it is anything else, a pipe for example.
    pub(crate) fn in_place<T>(
        file: &File,
        format: impl FnOnce(&[u8]) -> Option<T>,
    ) -> Option<(T, Self)> {
        let metadata = file.metadata().ok().filter(|metadata| metadata.is_file())?;
        let mut head = [0; MAGIC_BYTES];
        let length = file.read_at(&mut head, 0).ok()?;
        let format = format(&head[..length])?;
        let bytes = Bytes {
            store: Store::Plain(file.try_clone().ok()?),
            length: metadata.len(),
        };
        Some((format, bytes))
    }

    /// Takes all bytes that `write` delivers: into memory if they are few, else into a temporary file.
    ///
    /// # Errors
    /// Those of `write`; [`TraceError::Spool`] if the temporary file cannot take them.
    pub(crate) fn spooled(
        file: &str,
        write: impl FnOnce(&mut Spool<'_>) -> Result<(), TraceError>,
    ) -> Result<Self, TraceError> {
        let mut spool = Spool {
            file,
            store: Store::Memory(Vec::new()),
            length: 0,
        };
        write(&mut spool)?;
        Ok(Bytes {
            store: spool.store,
            length: spool.length,
        })
    }

    /// The number of bytes.
    pub(crate) fn len(&self) -> u64 {
        self.length
    }

    /// Where the temporary file is, if there is one.
    pub(crate) fn temporary_file(&self) -> Option<&Path> {
        match &self.store {
            Store::Temporary(file) => Some(file.path()),
            Store::Plain(_) | Store::Memory(_) => None,
        }
    }

    /// Fills `buffer` from `offset`; `what` says in an error what stands there.
    ///
    /// # Errors
    /// If there are fewer bytes, or the system fails.
    pub(crate) fn read(
        &self,
        what: &'static str,
        offset: u64,
        buffer: &mut [u8],
    ) -> Result<(), Fault> {
        self.check(what, offset, buffer.len() as u64)?;
        let result = match &self.store {
            Store::Plain(file) => file.read_exact_at(buffer, offset),
            Store::Temporary(file) => file.as_file().read_exact_at(buffer, offset),
            Store::Memory(bytes) => {
                // In range: checked above.
                buffer.copy_from_slice(&bytes[offset as usize..][..buffer.len()]);
                Ok(())
            }
        };
        result.map_err(|error| Fault::Read(offset, error))
    }

    /// Checks that `length` bytes are there.
    ///
    /// # Errors
    /// If not.
    pub(crate) fn check(&self, what: &'static str, offset: u64, length: u64) -> Result<(), Fault> {
        match offset.checked_add(length) {
            Some(end) if end <= self.length => Ok(()),
            end => {
                let needed = end.unwrap_or(u64::MAX);
                let length = self.length;
                Err(Fault::Dat(
                    offset,
                    TraceDatProblem::Cut {
                        what,
                        needed,
                        length,
                    },
                ))
            }
        }
    }

    /// Reads `length` bytes, which a limit bounds.
    ///
    /// # Errors
    /// If they are more than the limit, or not all there.
    pub(crate) fn read_vec(
        &self,
        what: &'static str,
        offset: u64,
        length: u64,
        limit: u64,
    ) -> Result<Vec<u8>, Fault> {
        if length > limit {
            let size = length;
            return Err(Fault::Dat(
                offset,
                TraceDatProblem::TooLarge { what, size, limit },
            ));
        }
        self.check(what, offset, length)?;
        let mut bytes = vec![0; length as usize];
        self.read(what, offset, &mut bytes)?;
        Ok(bytes)
    }
}

/// Takes bytes one after the other.
pub(crate) struct Spool<'a> {
    file: &'a str,
    store: Store,
    length: u64,
}

impl Spool<'_> {
    /// Takes all that `source` has; its own errors are explained by `explain`.
    ///
    /// # Errors
    /// Those, and the temporary file's.
    pub(crate) fn take_all<S: Read>(
        &mut self,
        source: &mut S,
        explain: impl Fn(&S, io::Error) -> TraceError,
    ) -> Result<(), TraceError> {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            match source.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(read) => self.take(&buffer[..read])?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(explain(source, error)),
            }
        }
    }

    /// Takes some bytes.
    ///
    /// # Errors
    /// If the temporary file cannot be made, or is full.
    pub(crate) fn take(&mut self, bytes: &[u8]) -> Result<(), TraceError> {
        self.length += bytes.len() as u64;
        if let Store::Memory(memory) = &mut self.store {
            memory.extend_from_slice(bytes);
            if self.length <= IN_MEMORY_BYTES {
                return Ok(());
            }
            let begun = std::mem::take(memory);
            let temporary = Temporary::make()
                .map_err(|source| self.failed(std::env::temp_dir().as_path(), source))?;
            self.store = Store::Temporary(temporary);
            return self.write(&begun);
        }
        self.write(bytes)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), TraceError> {
        let Store::Temporary(temporary) = &mut self.store else {
            return Ok(());
        };
        let result = temporary.as_file().write_all(bytes);
        let path = temporary.path().to_owned();
        result.map_err(|source| self.failed(&path, source))
    }

    fn failed(&self, path: &Path, source: io::Error) -> TraceError {
        TraceError::Spool {
            file: self.file.to_owned(),
            path: path.to_owned(),
            source,
        }
    }
}
