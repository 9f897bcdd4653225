//! Writes small recordings of each binary format and of text: what the fuzz targets begin with.
//!
//! `cargo run -p lazytlb-trace --example fuzz_seeds -- FOLDER`
#![allow(
    clippy::unwrap_used,
    reason = "the writers are the tests', where a panic is how one fails"
)]

#[path = "../tests/all_events/mod.rs"]
mod all_events;
#[path = "../tests/dat_writer/mod.rs"]
mod dat_writer;
#[path = "../tests/fixture/mod.rs"]
mod fixture;
#[allow(dead_code, reason = "the tests use more of it")]
#[path = "../tests/perf_writer/mod.rs"]
mod perf_writer;

use std::path::Path;

use dat_writer::{File, Pack};
use perf_writer::Perf;

fn main() -> std::io::Result<()> {
    let folder = std::env::args_os().nth(1);
    let folder = folder.ok_or_else(|| std::io::Error::other("give a folder to write to"))?;
    std::fs::create_dir_all(&folder)?;
    let write = |name: &str, bytes: &[u8]| std::fs::write(Path::new(&folder).join(name), bytes);
    let events = all_events::events(fixture::TRACE.as_bytes()).unwrap();
    // Small pages: most changes of a byte then change what is read.
    let file = File::of(512, dat_writer::specs(), &events);
    write("text", fixture::TRACE.as_bytes())?;
    write("version6.dat", &file.version6())?;
    write("version7.dat", &file.version7(Pack::None))?;
    write("version7-zstd.dat", &file.version7(Pack::Zstd))?;
    write("version7-zlib.dat", &file.version7(Pack::Zlib))?;
    let perf = Perf::of(&events, 8);
    write("perf.data", &perf.bytes())?;
    for kind in [81, 83] {
        write(&format!("perf-{kind}.data"), &perf.compressed(kind))?;
    }
    Ok(())
}
