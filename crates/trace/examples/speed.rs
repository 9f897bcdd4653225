//! Measures events per second, from a recording of any format to operations.
//!
//! `cargo run --release -p lazytlb-trace --example speed -- FILE...`
//!
//! A plain file is read again and again in place; a compressed one is decompressed into a temporary file before. With `--once`
//! each is read once, for whoever measures the process: `cargo xtask bench --recordings` does.

use std::io::{Read, Write};
use std::path::Path;
use std::time::Instant;

use lazytlb_trace::{Compression, TraceError, TraceReader};

const ROUNDS: u32 = 10;

/// Reads to the end, also of a recording without kprobes, and returns the numbers of events and operations.
fn read<R: Read>(mut reader: TraceReader<R>) -> Result<(u64, u64), TraceError> {
    loop {
        match reader.next_operation() {
            Ok(Some(operation)) => {
                std::hint::black_box(operation);
            }
            Ok(None) | Err(TraceError::NoEvents { .. }) => break,
            Err(error) => return Err(error),
        }
    }
    let summary = reader.summary();
    Ok((summary.events, summary.operations.total()))
}

fn decompress(path: &str, compression: Compression) -> std::io::Result<Vec<u8>> {
    let file = std::fs::File::open(path)?;
    let mut bytes = Vec::new();
    match compression {
        Compression::Xz => liblzma::read::XzDecoder::new(file).read_to_end(&mut bytes)?,
        Compression::Gzip => flate2::read::MultiGzDecoder::new(file).read_to_end(&mut bytes)?,
        Compression::Zstd => zstd::Decoder::new(file)?.read_to_end(&mut bytes)?,
        Compression::Plain => { file }.read_to_end(&mut bytes)?,
    };
    Ok(bytes)
}

/// Seconds of a processor that this process used: other programs' load does not count. Elapsed ones where Linux does not tell.
fn seconds(begin: Instant) -> f64 {
    let on_cpu = || {
        let schedstat = std::fs::read_to_string("/proc/self/schedstat").ok()?;
        schedstat.split(' ').next()?.parse::<f64>().ok()
    };
    on_cpu().map_or_else(|| begin.elapsed().as_secs_f64(), |ns| ns / 1e9)
}

/// Returns the seconds of the fastest of some rounds.
fn fastest(mut round: impl FnMut() -> Result<(u64, u64), TraceError>) -> Result<f64, TraceError> {
    let mut best = f64::INFINITY;
    let begin = Instant::now();
    for _ in 0..ROUNDS {
        let before = seconds(begin);
        round()?;
        best = best.min(seconds(begin) - before);
    }
    Ok(best)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut paths: Vec<String> = std::env::args().skip(1).collect();
    if paths.first().is_some_and(|first| first == "--once") {
        for path in paths.drain(..).skip(1) {
            let (events, operations) = read(TraceReader::open(&path)?)?;
            println!("{events} events, {operations} operations");
        }
    }
    for path in paths {
        let begin = Instant::now();
        let reader = TraceReader::open(&path)?;
        let compression = reader.compression();
        let (events, operations) = read(reader)?;
        let from_file = begin.elapsed().as_secs_f64();
        let mut temporary = tempfile::NamedTempFile::new()?;
        let (best, bytes) = match compression {
            Compression::Plain => {
                let best = fastest(|| read(TraceReader::open(&path)?))?;
                (best, Path::new(&path).metadata()?.len())
            }
            _ => {
                let bytes = decompress(&path, compression)?;
                temporary.write_all(&bytes)?;
                let best = fastest(|| read(TraceReader::open(temporary.path())?))?;
                (best, bytes.len() as u64)
            }
        };
        println!(
            "{path}: {events} events, {operations} operations; from the file {from_file:.2} s; decompressed, one processor, best of \
             {ROUNDS}: {:.2} M events/s, {:.0} MB/s",
            events as f64 / best / 1e6,
            bytes as f64 / best / 1e6,
        );
    }
    Ok(())
}
