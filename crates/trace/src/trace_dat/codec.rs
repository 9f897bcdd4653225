//! Decompresses sections and chunks.

use std::io::Read;

use flate2::read::ZlibDecoder;
use zstd::bulk::Decompressor;

use crate::dat_problem::TraceDatProblem;

/// How the sections of a file are compressed.
pub(crate) enum Codec {
    /// Not at all.
    None,
    /// zstd, each section and chunk a frame of its own.
    Zstd(Decompressor<'static>),
    /// zlib, likewise.
    Zlib,
}

impl Codec {
    /// Picks the one that the file names.
    ///
    /// # Errors
    /// If it is none of these.
    pub(crate) fn named(name: &str) -> Result<Self, TraceDatProblem> {
        match name {
            "none" | "" => Ok(Codec::None),
            "zstd" => match Decompressor::new() {
                Ok(decompressor) => Ok(Codec::Zstd(decompressor)),
                Err(error) => Err(TraceDatProblem::Decompress(error.to_string())),
            },
            "zlib" => Ok(Codec::Zlib),
            other => Err(TraceDatProblem::Compression(
                other.escape_debug().to_string(),
            )),
        }
    }

    /// Decompresses `packed` into `into`, to the `length` bytes that it must be.
    ///
    /// # Errors
    /// If it is damaged, or has another length.
    pub(crate) fn unpack(
        &mut self,
        packed: &[u8],
        length: usize,
        into: &mut Vec<u8>,
    ) -> Result<(), TraceDatProblem> {
        let failed = |why: String| TraceDatProblem::Decompress(why);
        into.clear();
        into.reserve(length);
        let unpacked = match self {
            Codec::None => {
                return Err(TraceDatProblem::Damaged(
                    "compressed data in a file that says it has none",
                ));
            }
            Codec::Zstd(decompressor) => decompressor
                .decompress_to_buffer(packed, into)
                .map_err(|error| failed(error.to_string()))?,
            Codec::Zlib => ZlibDecoder::new(packed)
                .take(length as u64 + 1)
                .read_to_end(into)
                .map_err(|error| failed(error.to_string()))?,
        };
        if unpacked == length {
            Ok(())
        } else {
            Err(failed(format!("{unpacked} bytes instead of {length}")))
        }
    }
}
