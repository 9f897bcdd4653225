//! Writes `trace.dat`, version 6: the layout is that of trace-cmd.dat.v6(5).

use std::fs::{File, Permissions};
use std::io::{self, BufWriter, Read, Seek, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::error::RecordError;
use crate::tracefs::Tracefs;

/// Options of the header, by the numbers of trace-cmd.
#[derive(Clone, Copy)]
#[repr(u16)]
enum Setting {
    Done = 0,
    CpuStat = 2,
    TraceClock = 4,
    Uname = 5,
    CpuCount = 8,
    Version = 9,
    /// Ours: lines of `snapshot.rs`. Readers that do not know an option skip it.
    Snapshot = 0x4c54,
}

/// A system of events.
pub(crate) struct System {
    pub(crate) name: String,
    /// Each event's format.
    pub(crate) formats: Vec<Vec<u8>>,
}

/// What the file says beside the pages.
pub(crate) struct About {
    /// The systems that have events here.
    pub(crate) systems: Vec<System>,
    /// The kernel's clocks, the chosen one in brackets.
    pub(crate) clocks: Vec<u8>,
    /// `uname -a`, in short.
    pub(crate) kernel: String,
    /// What the recording cannot tell by itself.
    pub(crate) snapshot: String,
    /// Each CPU's statistics.
    pub(crate) statistics: Vec<String>,
    /// Bytes of a page of the buffer.
    pub(crate) page_bytes: u64,
}

/// Writes the file.
///
/// # Errors
/// Those of reading and writing files.
pub(crate) fn write(
    path: &Path,
    tracefs: &Tracefs,
    about: &About,
    pages: Vec<(File, u64)>,
) -> Result<(), RecordError> {
    // What stands there is replaced by a whole file only.
    let folder = folder_of(path);
    let whole = tempfile::Builder::new()
        .prefix(".lazytlb-")
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(folder)
        .map_err(RecordError::at(folder, "making a file"))?;
    let mut file = BufWriter::new(whole.as_file());
    let header_page = tracefs.read("events/header_page")?;
    let header_event = tracefs.read("events/header_event")?;
    let ftrace = formats_in(tracefs, "ftrace")?;
    let symbols = std::fs::read("/proc/kallsyms").unwrap_or_default();
    let printk = tracefs.read("printk_formats").unwrap_or_default();
    let names = tracefs.read("saved_cmdlines").unwrap_or_default();
    let write = || -> io::Result<()> {
        let file = &mut file;
        file.write_all(b"\x17\x08\x44tracing6\0\0\x08")?;
        file.write_all(&(about.page_bytes as u32).to_le_bytes())?;
        file.write_all(b"header_page\0")?;
        long(file, &header_page)?;
        file.write_all(b"header_event\0")?;
        long(file, &header_event)?;
        number(file, ftrace.len())?;
        ftrace.iter().try_for_each(|format| long(file, format))?;
        number(file, about.systems.len())?;
        for System { name, formats } in &about.systems {
            file.write_all(name.as_bytes())?;
            file.write_all(b"\0")?;
            number(file, formats.len())?;
            formats.iter().try_for_each(|format| long(file, format))?;
        }
        short(file, &symbols)?;
        short(file, &printk)?;
        long(file, &names)?;
        number(file, pages.len())?;
        options(file, about, pages.len())?;
        cpus(file, about, pages)?;
        file.flush()
    };
    write().map_err(RecordError::at(path, "writing"))?;
    drop(file);
    let replaced = whole.persist(path).map_err(io::Error::from);
    replaced
        .map(|_| ())
        .map_err(RecordError::at(path, "writing"))
}

/// The folder that a file is in, or is to be in.
pub(crate) fn folder_of(path: &Path) -> &Path {
    let folder = path.parent().filter(|it| !it.as_os_str().is_empty());
    folder.unwrap_or(Path::new("."))
}

fn options(file: &mut impl Write, about: &About, cpus: usize) -> io::Result<()> {
    file.write_all(b"options  \0")?;
    let mut option = |setting: Setting, data: &[u8]| {
        file.write_all(&(setting as u16).to_le_bytes())?;
        short(file, data)
    };
    for statistics in &about.statistics {
        option(Setting::CpuStat, &terminated(statistics))?;
    }
    let clocks = String::from_utf8_lossy(&about.clocks);
    option(Setting::TraceClock, &terminated(&clocks))?;
    option(Setting::Uname, &terminated(&about.kernel))?;
    option(Setting::CpuCount, &(cpus as u32).to_le_bytes())?;
    let version = concat!("lazytlb ", env!("CARGO_PKG_VERSION"));
    option(Setting::Version, &terminated(version))?;
    option(Setting::Snapshot, &terminated(&about.snapshot))?;
    file.write_all(&(Setting::Done as u16).to_le_bytes())
}

/// Writes the table of the CPUs' pages and the clock, then the pages, each CPU's from the beginning of a page.
fn cpus(file: &mut (impl Write + Seek), about: &About, pages: Vec<(File, u64)>) -> io::Result<()> {
    let page_bytes = about.page_bytes;
    file.write_all(b"flyrecord\0")?;
    let mut clock = Vec::new();
    // The option of the same content says that this is here.
    long(&mut clock, &about.clocks)?;
    let table_bytes = 16 * pages.len() as u64 + clock.len() as u64;
    let mut offset = (file.stream_position()? + table_bytes).next_multiple_of(page_bytes);
    let first = offset;
    for (_, bytes) in &pages {
        file.write_all(&offset.to_le_bytes())?;
        file.write_all(&bytes.to_le_bytes())?;
        offset += bytes.next_multiple_of(page_bytes);
    }
    file.write_all(&clock)?;
    let mut at = file.stream_position()?;
    let pad_to = |file: &mut _, end: u64, at: u64| {
        io::copy(&mut io::repeat(0).take(end - at), file).map(|_| ())
    };
    pad_to(file, first, at)?;
    at = first;
    for (mut pages, bytes) in pages {
        let copied = io::copy(&mut (&mut pages).take(bytes), file)?;
        if copied < bytes {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let end = (at + bytes).next_multiple_of(page_bytes);
        pad_to(file, end, at + bytes)?;
        at = end;
    }
    Ok(())
}

/// Reads the formats of all events of a system.
///
/// # Errors
/// Those of reading them.
pub(crate) fn formats_in(tracefs: &Tracefs, system: &str) -> Result<Vec<Vec<u8>>, RecordError> {
    let directory = tracefs.path(format!("events/{system}"));
    let entries = std::fs::read_dir(&directory).map_err(RecordError::at(&directory, "reading"))?;
    let mut formats: Vec<_> = entries
        .flatten()
        .map(|entry| entry.path().join("format"))
        .filter(|format| format.exists())
        .collect();
    formats.sort();
    formats.iter().map(|format| tracefs.read(format)).collect()
}

/// Writes bytes behind their number in eight bytes.
fn long(file: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    file.write_all(&(bytes.len() as u64).to_le_bytes())?;
    file.write_all(bytes)
}

/// Writes bytes behind their number in four bytes.
fn short(file: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    number(file, bytes.len())?;
    file.write_all(bytes)
}

fn number(file: &mut impl Write, number: usize) -> io::Result<()> {
    let number =
        u32::try_from(number).map_err(|_| io::Error::other("more than 4 GiB of one kind"))?;
    file.write_all(&number.to_le_bytes())
}

fn terminated(text: &str) -> Vec<u8> {
    [text.as_bytes(), b"\0"].concat()
}
