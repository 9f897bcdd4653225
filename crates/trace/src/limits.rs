//! How much a recording may ask for: memory stays bounded, whatever the input.

/// Longest line that the reader accepts, in bytes. Event lines have some 140, at most a page.
pub const MAX_LINE_BYTES: usize = 64 * 1024;

/// Number of CPUs that a trace may name: CPU numbers are below it. Linux builds allow 8192 at
/// most; the largest x86 machines have fewer than 2000.
pub const MAX_CPUS: u64 = 4096;

/// Number of address spaces that may be alive at once.
///
/// Linux allows 4 Mi tasks, so real machines stay far below. It bounds the reader's memory to
/// some 40 MiB against traces that are not real.
pub const MAX_LIVE_MMS: usize = 1 << 20;

/// Memory that an xz stream may ask for, in MiB.
///
/// `xz -9` needs 65 MiB. A crafted stream can ask for 4 GiB, which would break the promise of
/// bounded memory.
pub const XZ_MEMORY_LIMIT_MIB: u64 = 256;

/// Memory that a zstd stream may ask for, in MiB: what `zstd -d` grants by itself.
pub const ZSTD_MEMORY_LIMIT_MIB: u32 = 128;
