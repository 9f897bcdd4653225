//! A long recording out of a short one, by repeating it later and later on the clock.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::{Context, Result, ensure};

/// How much later each repetition is: longer than any recording that is repeated. Were one longer, a reader would refuse the
/// result, for time would run backwards in it.
const SECONDS: u64 = 1000;

/// Writes a text recording several times over.
///
/// # Errors
/// If a line has no time, or the file cannot be written.
pub(super) fn write_text(text: &str, repetitions: u64, path: &Path) -> Result<()> {
    let file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
    let mut out = BufWriter::new(file);
    for repetition in 0..repetitions {
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let (before, at, after) = split_at_time(line).context("a line without a time")?;
            let at = at.parse::<u64>().context("a time that is no number")?;
            let seconds = at + SECONDS * repetition;
            writeln!(out, "{before}{seconds}{after}").context("writing the repeated recording")?;
        }
    }
    out.flush().context("writing the repeated recording")
}

/// Splits a line around the whole seconds of its time, which stand before `.micros: event:`.
fn split_at_time(line: &str) -> Option<(&str, &str, &str)> {
    let cpu_end = line.find("] ")? + 2;
    let dot = cpu_end + line[cpu_end..].find(": ")?;
    let dot = line[..dot].rfind('.')?;
    let start = line[..dot].rfind(' ')? + 1;
    Some((&line[..start], &line[start..dot], &line[dot..]))
}

/// Repeats a trace.dat of version 6 until it has at least so many bytes. Only absolute times are changed, which pages begin with, and
/// which the kernel writes where an interrupt's events came between: all others count from those.
///
/// # Errors
/// If it is no such file, or cannot be written.
pub(super) fn write_trace_dat(recording: &[u8], bytes: u64, path: &Path) -> Result<()> {
    let places = Places::find(recording).context("no trace.dat of version 6")?;
    let pages_bytes: u64 = places.cpus.iter().map(|pages| pages.len() as u64).sum();
    ensure!(pages_bytes > 0, "the recording has no pages");
    let repetitions = bytes.div_ceil(pages_bytes);
    let file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
    let mut out = BufWriter::new(file);
    out.write_all(&recording[..places.table])?;
    let mut offset = places.first_page;
    for pages in &places.cpus {
        let size = pages.len() as u64 * repetitions;
        out.write_all(&offset.to_le_bytes())?;
        out.write_all(&size.to_le_bytes())?;
        offset += size;
    }
    // What stands between the table and the pages stays: the clock's name, and what fills the page.
    let rest = places.table + 16 * places.cpus.len();
    out.write_all(&recording[rest..places.first_page as usize])?;
    for pages in &places.cpus {
        for repetition in 0..repetitions {
            for page in pages.chunks(places.page_bytes) {
                write_later(&mut out, page, repetition * SECONDS * 1_000_000_000)?;
            }
        }
    }
    out.flush().context("writing the repeated recording")
}

/// Writes a page, later by so many nanoseconds.
///
/// Source: Linux `include/linux/ring_buffer.h`: a page begins with a time and its used bytes, and a record's head has 5 bits of kind
/// and 27 of time.
fn write_later(out: &mut impl Write, page: &[u8], later_ns: u64) -> Result<()> {
    const DATA: usize = 16;
    let mut page = page.to_vec();
    let word = |page: &[u8], at: usize| {
        let bytes = page.get(at..).and_then(<[u8]>::first_chunk);
        let bytes = bytes.context("a record is longer than its page")?;
        anyhow::Ok(u32::from_le_bytes(*bytes))
    };
    let set = |page: &mut [u8], at: usize, value: u32| {
        page[at..at + 4].copy_from_slice(&value.to_le_bytes());
    };
    let time = u64::from(word(&page, 0)?) | u64::from(word(&page, 4)?) << 32;
    page[..8].copy_from_slice(&(time + later_ns).to_le_bytes());
    let end = DATA + (word(&page, 8)? & 0xf_ffff) as usize;
    let mut at = DATA;
    while at + 4 <= end {
        let head = word(&page, at)?;
        at += match head & 31 {
            // The length stands behind the head.
            0 => 4 + word(&page, at + 4)? as usize,
            29 if head >> 5 == 0 => end,
            29 => 4 + word(&page, at + 4)? as usize,
            30 => 8,
            31 => {
                let absolute = u64::from(head >> 5) | u64::from(word(&page, at + 4)?) << 27;
                let absolute = absolute + later_ns;
                set(&mut page, at, ((absolute & 0x7ff_ffff) << 5) as u32 | 31);
                set(&mut page, at + 4, (absolute >> 27) as u32);
                8
            }
            words => 4 + 4 * words as usize,
        };
    }
    Ok(out.write_all(&page)?)
}

/// Where the CPUs' pages are in a trace.dat of version 6.
struct Places<'r> {
    page_bytes: usize,
    /// The table of the CPUs.
    table: usize,
    first_page: u64,
    cpus: Vec<&'r [u8]>,
}

impl<'r> Places<'r> {
    fn find(file: &'r [u8]) -> Option<Places<'r>> {
        const MAGIC: &[u8] = b"\x17\x08\x44tracing6\0\0\x08";
        const BEFORE_TABLE: &[u8] = b"flyrecord\0";
        let page_bytes = file.strip_prefix(MAGIC)?.first_chunk()?;
        let page_bytes = u32::from_le_bytes(*page_bytes) as usize;
        // Text before it has line feeds, not this word with a zero behind it.
        let table = file
            .windows(BEFORE_TABLE.len())
            .position(|bytes| bytes == BEFORE_TABLE)?
            + BEFORE_TABLE.len();
        let number = |at: usize| Some(u64::from_le_bytes(*file.get(at..)?.first_chunk()?));
        let first_page = number(table)?;
        // The table has no length of its own: each CPU's pages begin where those of the CPU before end.
        let mut cpus = Vec::new();
        let mut next = first_page;
        let mut at = table;
        while number(at) == Some(next) {
            let size = number(at + 8)?;
            let begin = usize::try_from(next).ok()?;
            cpus.push(file.get(begin..begin + usize::try_from(size).ok()?)?);
            next += size.next_multiple_of(page_bytes as u64);
            at += 16;
        }
        Some(Places {
            page_bytes,
            table,
            first_page,
            cpus,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_split_around_its_seconds() {
        let line = "          <idle>-0       [005] d.h1.     7.896689: tlb_flush: pages:-1";
        let (before, at, after) = split_at_time(line).unwrap();
        assert_eq!((at, after), ("7", ".896689: tlb_flush: pages:-1"));
        assert_eq!(format!("{before}{at}{after}"), line);
    }

    #[test]
    fn a_repeated_trace_dat_has_each_cpus_pages_again_a_thousand_seconds_later() {
        let mut file = b"\x17\x08\x44tracing6\0\0\x08".to_vec();
        file.extend(32_u32.to_le_bytes());
        file.extend(b"flyrecord\0");
        file.extend([96_u64, 32, 128, 64].map(u64::to_le_bytes).concat());
        file.extend(b"clock");
        file.resize(96, 0);
        for time in 1..4_u64 {
            // A record of one word, then an absolute time.
            let records = [(5 << 5) | 1, 7, (time as u32) << 5 | 31, 0];
            file.extend(time.to_le_bytes());
            file.extend(16_u64.to_le_bytes());
            file.extend(records.map(u32::to_le_bytes).concat());
        }
        let out = tempfile::NamedTempFile::new().unwrap();
        write_trace_dat(&file, 97, out.path()).unwrap();
        let written = std::fs::read(out.path()).unwrap();
        let again = Places::find(&written).unwrap();
        let times = |pages: &[u8]| {
            let pages = pages.chunks(32);
            let time = |page: &[u8]| {
                let [head, high] =
                    [24, 28].map(|at| u32::from_le_bytes(page[at..at + 4].try_into().unwrap()));
                let begin = u64::from_le_bytes(page[..8].try_into().unwrap());
                assert_eq!(u64::from(head >> 5) | u64::from(high) << 27, begin);
                begin
            };
            pages.map(time).collect::<Vec<_>>()
        };
        let later = 1_000_000_000_000;
        assert_eq!(times(again.cpus[0]), [1, 1 + later]);
        assert_eq!(times(again.cpus[1]), [2, 3, 2 + later, 3 + later]);
        assert!(written[..96].ends_with(&file[again.table + 32..96]));
    }
}
