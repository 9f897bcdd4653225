//! Measures lines per second, from text in memory to operations.
//!
//! `cargo run --release -p lazytlb-trace --example speed -- traces/*.trace.txt.xz`

use std::io::Read;
use std::time::Instant;

use lazytlb_trace::TraceReader;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    const ROUNDS: u32 = 10;
    for path in std::env::args().skip(1) {
        let begin = Instant::now();
        let mut reader = TraceReader::open(&path)?;
        while reader.next_operation()?.is_some() {}
        let from_file = begin.elapsed();
        let (lines, operations) = (reader.summary().lines, reader.summary().operations);

        let mut text = Vec::new();
        match reader.compression() {
            lazytlb_trace::Compression::Xz => {
                liblzma::read::XzDecoder::new(std::fs::File::open(&path)?).read_to_end(&mut text)?
            }
            lazytlb_trace::Compression::Gzip => {
                flate2::read::GzDecoder::new(std::fs::File::open(&path)?).read_to_end(&mut text)?
            }
            lazytlb_trace::Compression::Plain => {
                std::fs::File::open(&path)?.read_to_end(&mut text)?
            }
        };
        let mut best = f64::INFINITY;
        for _ in 0..ROUNDS {
            let begin = Instant::now();
            let mut reader = TraceReader::new(text.as_slice(), path.as_str())?;
            while let Some(operation) = reader.next_operation()? {
                std::hint::black_box(operation);
            }
            best = best.min(begin.elapsed().as_secs_f64());
        }
        println!(
            "{path}: {lines} lines, {} operations; from the file {:.2} s; text in memory, best of \
             {ROUNDS}: {:.2} M lines/s, {:.0} MB/s",
            operations.total(),
            from_file.as_secs_f64(),
            lines as f64 / best / 1e6,
            text.len() as f64 / best / 1e6,
        );
    }
    Ok(())
}
