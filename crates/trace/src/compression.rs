//! How a recording is compressed, by its first bytes.

use std::fmt;

/// Says how a recording is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    Plain,
    /// gzip; several members in a row are one text.
    Gzip,
    /// xz; several streams in a row are one text.
    Xz,
    /// zstd; several frames in a row are one text.
    Zstd,
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Compression::Plain => "plain",
            Compression::Gzip => "gzip",
            Compression::Xz => "xz",
            Compression::Zstd => "zstd",
        })
    }
}

impl Compression {
    /// Tells the format by a file's first bytes.
    pub(crate) fn of(head: &[u8]) -> Self {
        if head.starts_with(b"\x1f\x8b") {
            Compression::Gzip
        } else if head.starts_with(b"\xfd7zXZ\0") {
            Compression::Xz
        } else if head.starts_with(b"\x28\xb5\x2f\xfd") {
            Compression::Zstd
        } else {
            Compression::Plain
        }
    }
}
