//! Opens a recording: finds out by its first bytes how it is compressed, and decompresses it.

use std::io::{self, BufRead, BufReader, Chain, Cursor, Read};

use flate2::bufread::MultiGzDecoder;
use liblzma::bufread::XzDecoder;
use liblzma::stream::{CONCATENATED, Stream};
use zstd::stream::read::Decoder as ZstdDecoder;

use crate::compression::Compression;
use crate::error::{BinaryKind, TraceError};
use crate::limits::{XZ_MEMORY_LIMIT_MIB, ZSTD_MEMORY_LIMIT_MIB};

/// Bytes that tell the formats apart; the longest magic, trace.dat's, has 10.
const MAGIC_BYTES: usize = 16;

/// Size of the buffer in front of a decompressor, in bytes.
const INPUT_BUFFER_BYTES: usize = 64 * 1024;

/// A recording's text, decompressed as it is read.
pub(crate) struct Source<R> {
    decoder: Decoder<R>,
    /// Decompressed bytes that were looked at and are still to be read.
    peeked: Vec<u8>,
}

/// The decoders are boxed so that the plain case, the fast one, stays small.
enum Decoder<R> {
    Plain(Input<R>),
    Gzip(Box<MultiGzDecoder<Input<R>>>),
    Xz(Box<XzDecoder<Input<R>>>),
    Zstd(Box<ZstdDecoder<'static, Input<R>>>),
}

impl<R: Read> Source<R> {
    /// Reads the first bytes and picks the decompressor.
    ///
    /// # Errors
    /// Those of the first read.
    pub(crate) fn new(mut read: R) -> io::Result<Self> {
        let mut head = Vec::with_capacity(MAGIC_BYTES);
        read.by_ref()
            .take(MAGIC_BYTES as u64)
            .read_to_end(&mut head)?;
        let format = Compression::of(&head);
        let input = Input {
            buffered: BufReader::with_capacity(INPUT_BUFFER_BYTES, Cursor::new(head).chain(read)),
            consumed: 0,
        };
        let decoder = match format {
            Compression::Plain => Decoder::Plain(input),
            Compression::Gzip => Decoder::Gzip(Box::new(MultiGzDecoder::new(input))),
            Compression::Xz => {
                let limit = XZ_MEMORY_LIMIT_MIB << 20;
                let stream = Stream::new_stream_decoder(limit, CONCATENATED)
                    .map_err(|error| io::Error::new(io::ErrorKind::OutOfMemory, error))?;
                Decoder::Xz(Box::new(XzDecoder::new_stream(input, stream)))
            }
            Compression::Zstd => {
                let mut decoder = ZstdDecoder::with_buffer(input)?;
                decoder.window_log_max(20 + ZSTD_MEMORY_LIMIT_MIB.ilog2())?;
                Decoder::Zstd(Box::new(decoder))
            }
        };
        Ok(Source {
            decoder,
            peeked: Vec::new(),
        })
    }

    /// Returns the first `length` bytes, or fewer if there are no more; they are read again later.
    ///
    /// # Errors
    /// Those of reading.
    pub(crate) fn peek(&mut self, length: usize) -> io::Result<&[u8]> {
        let missing = length.saturating_sub(self.peeked.len()) as u64;
        let mut peeked = std::mem::take(&mut self.peeked);
        let result = self.by_ref().take(missing).read_to_end(&mut peeked);
        self.peeked = peeked;
        result.map(|_| self.peeked.as_slice())
    }

    /// Returns how the file is compressed.
    pub(crate) fn compression(&self) -> Compression {
        match &self.decoder {
            Decoder::Plain(_) => Compression::Plain,
            Decoder::Gzip(_) => Compression::Gzip,
            Decoder::Xz(_) => Compression::Xz,
            Decoder::Zstd(_) => Compression::Zstd,
        }
    }

    /// Returns the bytes of the file that were used so far.
    pub(crate) fn offset(&self) -> u64 {
        match &self.decoder {
            Decoder::Plain(input) => input.consumed,
            Decoder::Gzip(decoder) => decoder.get_ref().consumed,
            Decoder::Xz(decoder) => decoder.get_ref().consumed,
            Decoder::Zstd(decoder) => decoder.get_ref().consumed,
        }
    }

    /// Turns a failed read into the error that says whose fault it is.
    ///
    /// The decompressors report a cut file as `UnexpectedEof` and a damaged one as invalid data;
    /// errors of the system pass through them unchanged.
    pub(crate) fn explain(&self, file: &str, source: io::Error) -> TraceError {
        let (file, offset, format) = (file.to_owned(), self.offset(), self.compression());
        if format == Compression::Plain {
            return TraceError::Read {
                file,
                offset,
                source,
            };
        }
        let xz_error = source.get_ref().and_then(|inner| inner.downcast_ref());
        match (source.kind(), xz_error) {
            (_, Some(liblzma::stream::Error::MemLimit)) => TraceError::XzMemory { file, offset },
            (_, None) if is_zstd_memory_limit(format, &source) => {
                TraceError::ZstdMemory { file, offset }
            }
            (io::ErrorKind::UnexpectedEof, _) => TraceError::Truncated {
                file,
                format,
                offset,
            },
            // zstd reports damage as `Other`, which the system never does.
            (io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput, _) | (_, Some(_)) => {
                TraceError::Corrupt {
                    file,
                    format,
                    offset,
                    source,
                }
            }
            (io::ErrorKind::Other, _) if format == Compression::Zstd => TraceError::Corrupt {
                file,
                format,
                offset,
                source,
            },
            _ => TraceError::Read {
                file,
                offset,
                source,
            },
        }
    }
}

/// The library tells the errors of zstd apart by their text only.
fn is_zstd_memory_limit(format: Compression, error: &io::Error) -> bool {
    format == Compression::Zstd && error.to_string().contains("too much memory")
}

impl<R: Read> Read for Source<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if !self.peeked.is_empty() {
            let length = buffer.len().min(self.peeked.len());
            buffer[..length].copy_from_slice(&self.peeked[..length]);
            self.peeked.drain(..length);
            return Ok(length);
        }
        match &mut self.decoder {
            Decoder::Plain(input) => input.read(buffer),
            Decoder::Gzip(decoder) => decoder.read(buffer),
            Decoder::Xz(decoder) => decoder.read(buffer),
            Decoder::Zstd(decoder) => decoder.read(buffer),
        }
    }
}

impl BinaryKind {
    /// Recognises content that is not text by its first bytes.
    ///
    /// A NUL byte is the general sign: a trace may hold any other byte (in task names), but the
    /// kernel's text has no NUL.
    pub(crate) fn of(head: &[u8]) -> Option<Self> {
        const MAGICS: [(&[u8], BinaryKind); 7] = [
            (b"PERFFILE", BinaryKind::PerfData),
            (b"\x7fELF", BinaryKind::Elf),
            (b"\x1f\x8b", BinaryKind::Compressed),
            (b"\xfd7zXZ\0", BinaryKind::Compressed),
            (b"\x28\xb5\x2f\xfd", BinaryKind::Compressed),
            (b"BZh", BinaryKind::Compressed),
            (b"PK\x03\x04", BinaryKind::Compressed),
        ];
        let known = MAGICS.iter().find(|(magic, _)| head.starts_with(magic));
        match known {
            Some((_, kind)) => Some(*kind),
            None => memchr::memchr(0, head).map(|_| BinaryKind::Other),
        }
    }
}

/// Buffers the file and counts the bytes that were used, for the errors' offsets.
struct Input<R> {
    buffered: BufReader<Chain<Cursor<Vec<u8>>, R>>,
    consumed: u64,
}

impl<R: Read> Read for Input<R> {
    /// Reads past the buffer where the caller's is larger: the plain case copies once.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.buffered.read(buffer)?;
        self.consumed += read as u64;
        Ok(read)
    }
}

impl<R: Read> BufRead for Input<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.buffered.fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        self.consumed += amount as u64;
        self.buffered.consume(amount);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::write::GzEncoder;
    use liblzma::write::XzEncoder;
    use std::io::Write;

    fn text_of(bytes: &[u8]) -> (Compression, String) {
        let mut source = Source::new(bytes).unwrap();
        let mut text = String::new();
        source.read_to_string(&mut text).unwrap();
        (source.compression(), text)
    }

    #[test]
    fn the_format_is_found_by_content() {
        let mut gz = GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gz.write_all(b"hello").unwrap();
        let gz = gz.finish().unwrap();
        let mut xz = XzEncoder::new(Vec::new(), 1);
        xz.write_all(b"hello").unwrap();
        let xz = xz.finish().unwrap();
        assert_eq!(text_of(b"hello"), (Compression::Plain, "hello".to_owned()));
        assert_eq!(text_of(&gz), (Compression::Gzip, "hello".to_owned()));
        assert_eq!(text_of(&xz), (Compression::Xz, "hello".to_owned()));
        let twice = [gz.clone(), gz].concat();
        assert_eq!(
            text_of(&twice),
            (Compression::Gzip, "hellohello".to_owned())
        );
        let twice = [xz.clone(), xz].concat();
        assert_eq!(text_of(&twice), (Compression::Xz, "hellohello".to_owned()));
        let zstd = zstd::encode_all(b"hello".as_slice(), 1).unwrap();
        assert_eq!(text_of(&zstd), (Compression::Zstd, "hello".to_owned()));
        let twice = [zstd.clone(), zstd].concat();
        assert_eq!(
            text_of(&twice),
            (Compression::Zstd, "hellohello".to_owned())
        );
        assert_eq!(text_of(b""), (Compression::Plain, String::new()));
    }

    #[test]
    fn what_was_looked_at_is_read_again() {
        let mut source = Source::new(b"hello".as_slice()).unwrap();
        assert_eq!(source.peek(2).unwrap(), b"he");
        assert_eq!(source.peek(3).unwrap(), b"hel");
        let mut text = String::new();
        source.read_to_string(&mut text).unwrap();
        assert_eq!(text, "hello");
        assert_eq!(Source::new(b"a".as_slice()).unwrap().peek(9).unwrap(), b"a");
    }

    #[test]
    fn binary_content_is_named() {
        assert_eq!(BinaryKind::of(b"\x7fELF\x02\x01"), Some(BinaryKind::Elf));
        assert_eq!(BinaryKind::of(b"t\0e\0x\0t\0"), Some(BinaryKind::Other));
        assert_eq!(BinaryKind::of(b"# tracer: nop\n"), None);
        assert_eq!(BinaryKind::of(b""), None);
    }
}
