//! The pages of each CPU's buffer, written to files as they fill.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tempfile::{NamedTempFile, TempDir};

use crate::error::RecordError;
use crate::trace_dat::folder_of;

/// Pages are handed out one at a time; no page of a buffer is larger.
const MOST_PAGE_BYTES: usize = 64 * 1024;
/// Linux `O_NONBLOCK` on x86: an empty buffer is an error, not a wait.
const O_NONBLOCK: i32 = 0o4000;
/// Files that are open beside two for each CPU.
const OTHER_FILES: u64 = 64;

/// The buffers, and where their pages go.
pub(crate) struct Drain {
    cpus: Vec<Cpu>,
    page: Vec<u8>,
    // Removed last.
    _files: TempDir,
}

struct Cpu {
    buffer: File,
    buffer_path: PathBuf,
    pages: NamedTempFile,
    bytes: u64,
}

impl Drain {
    /// Opens the buffers of an instance; pages go to a directory beside the output.
    ///
    /// # Errors
    /// Those of opening files.
    pub(crate) fn open(instance: &Path, cpus: usize, beside: &Path) -> Result<Drain, RecordError> {
        allow_files(2 * cpus as u64 + OTHER_FILES);
        let folder = folder_of(beside);
        let files = TempDir::with_prefix_in(".lazytlb-record-", folder);
        let files = files.map_err(|source| RecordError::Output {
            folder: folder.to_owned(),
            source,
        })?;
        let open = |cpu: usize| {
            let buffer_path = instance.join(format!("per_cpu/cpu{cpu}/trace_pipe_raw"));
            let buffer = OpenOptions::new()
                .read(true)
                .custom_flags(O_NONBLOCK)
                .open(&buffer_path)
                .map_err(RecordError::at(&buffer_path, "opening"))?;
            let pages = NamedTempFile::with_prefix_in(format!("cpu{cpu}-"), files.path())
                .map_err(RecordError::at(files.path(), "making a file"))?;
            Ok(Cpu {
                buffer,
                buffer_path,
                pages,
                bytes: 0,
            })
        };
        Ok(Drain {
            cpus: (0..cpus).map(open).collect::<Result<_, RecordError>>()?,
            page: vec![0; MOST_PAGE_BYTES],
            _files: files,
        })
    }

    /// Writes out what the buffers hold now; returns the bytes.
    ///
    /// # Errors
    /// Those of reading and writing.
    pub(crate) fn run(&mut self) -> Result<u64, RecordError> {
        let mut all = 0;
        for cpu in &mut self.cpus {
            loop {
                let read = match cpu.buffer.read(&mut self.page) {
                    Ok(0) => break,
                    Ok(read) => read,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Err(error) => {
                        return Err(RecordError::at(&cpu.buffer_path, "reading")(error));
                    }
                };
                let path = cpu.pages.path().to_owned();
                cpu.pages
                    .write_all(&self.page[..read])
                    .map_err(RecordError::at(&path, "writing"))?;
                cpu.bytes += read as u64;
                all += read as u64;
            }
        }
        Ok(all)
    }

    /// The bytes so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.cpus.iter().map(|cpu| cpu.bytes).sum()
    }

    /// Each CPU's pages, to be read from the beginning.
    ///
    /// # Errors
    /// Those of opening them.
    pub(crate) fn pages(&self) -> Result<Vec<(File, u64)>, RecordError> {
        let reopen = |cpu: &Cpu| {
            let file = cpu.pages.reopen();
            let file = file.map_err(RecordError::at(cpu.pages.path(), "opening"))?;
            Ok((file, cpu.bytes))
        };
        self.cpus.iter().map(reopen).collect()
    }
}

/// Asks for as many open files, as far as the hard limit goes; opening says if it was not far enough.
fn allow_files(number: u64) {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < number
    {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, number.min(hard), hard);
    }
}
