//! Splits the text into lines within a fixed buffer.

use std::io::{self, Read};

use crate::limits::MAX_LINE_BYTES;
use memchr::memchr;

/// Size of the buffer in bytes: large enough that moving a partial line to the front is rare.
const BUFFER_BYTES: usize = 4 * MAX_LINE_BYTES;

/// Hands out one line after the other, in constant memory.
pub(crate) struct Lines {
    buffer: Vec<u8>,
    /// First byte that was not handed out.
    start: usize,
    /// End of the bytes that were read.
    end: usize,
    reached_end: bool,
    /// Lines handed out, so the number of the latest one.
    pub(crate) count: u64,
}

/// What the next line is.
pub(crate) enum Next<'a> {
    /// A complete line, without its line feed.
    Line(&'a [u8]),
    /// The last bytes of the text, which lack a line feed.
    Cut(&'a [u8]),
    /// More than [`MAX_LINE_BYTES`] without a line feed.
    TooLong,
    /// The text is over.
    End,
}

impl Lines {
    /// Makes an empty buffer.
    pub(crate) fn new() -> Self {
        Lines {
            buffer: vec![0; BUFFER_BYTES],
            start: 0,
            end: 0,
            reached_end: false,
            count: 0,
        }
    }

    /// Reads the first bytes and returns them, so that their kind can be judged.
    pub(crate) fn head(&mut self, source: &mut impl Read) -> io::Result<&[u8]> {
        const HEAD_BYTES: usize = 512;
        while self.end - self.start < HEAD_BYTES && !self.reached_end {
            self.fill(source)?;
        }
        Ok(&self.buffer[self.start..self.end])
    }

    /// Returns the next line and counts it.
    #[inline]
    pub(crate) fn next(&mut self, source: &mut impl Read) -> io::Result<Next<'_>> {
        if let Some(length) = memchr(b'\n', &self.buffer[self.start..self.end]) {
            return Ok(self.take(length));
        }
        self.next_after_filling(source)
    }

    /// The rare case: the buffer's last line is not complete.
    #[cold]
    fn next_after_filling(&mut self, source: &mut impl Read) -> io::Result<Next<'_>> {
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        loop {
            let searched = self.end;
            if searched > MAX_LINE_BYTES {
                self.count += 1;
                return Ok(Next::TooLong);
            }
            if self.reached_end && searched == 0 {
                return Ok(Next::End);
            }
            if self.reached_end {
                self.start = self.end;
                self.count += 1;
                return Ok(Next::Cut(&self.buffer[..self.end]));
            }
            self.fill(source)?;
            if let Some(length) = memchr(b'\n', &self.buffer[searched..self.end]) {
                return Ok(self.take(searched + length));
            }
        }
    }

    #[inline]
    fn take(&mut self, length: usize) -> Next<'_> {
        let line = self.start..self.start + length;
        self.start = line.end + 1;
        self.count += 1;
        if length > MAX_LINE_BYTES {
            return Next::TooLong;
        }
        match &self.buffer[line] {
            [text @ .., b'\r'] => Next::Line(text),
            text => Next::Line(text),
        }
    }

    fn fill(&mut self, source: &mut impl Read) -> io::Result<()> {
        loop {
            match source.read(&mut self.buffer[self.end..]) {
                Ok(read) => {
                    self.end += read;
                    self.reached_end = read == 0;
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Delivers one byte a read, the worst that a pipe can do.
    struct Drip<'a>(&'a [u8]);

    impl Read for Drip<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.0.read(&mut buffer[..1])
        }
    }

    fn all(mut source: impl Read) -> Vec<String> {
        let mut lines = Lines::new();
        let mut seen = Vec::new();
        loop {
            match lines.next(&mut source).unwrap() {
                Next::Line(line) => seen.push(String::from_utf8_lossy(line).into_owned()),
                Next::Cut(line) => seen.push(format!("cut {}", String::from_utf8_lossy(line))),
                Next::TooLong => {
                    seen.push("too long".to_owned());
                    return seen;
                }
                Next::End => return seen,
            }
        }
    }

    #[test]
    fn lines_are_the_same_however_the_bytes_arrive() {
        let text = b"a\n\nbc\r\nd".as_slice();
        let expected = ["a", "", "bc", "cut d"];
        assert_eq!(all(text), expected);
        assert_eq!(all(Drip(text)), expected);
    }

    #[test]
    fn lines_across_the_buffers_end_are_whole() {
        let line = [b'x'; 1000];
        let text = [line.as_slice(), b"\n"].concat().repeat(2000);
        let lines = all(text.as_slice());
        assert_eq!(lines.len(), 2000);
        assert!(lines.iter().all(|line| line.len() == 1000));
    }

    #[test]
    fn a_line_beyond_the_bound_ends_the_reading() {
        let fits = [vec![b'x'; MAX_LINE_BYTES], b"\n".to_vec()].concat();
        assert_eq!(all(fits.as_slice()).len(), 1);
        let long = [vec![b'x'; MAX_LINE_BYTES + 1], b"\n".to_vec()].concat();
        assert_eq!(all(long.as_slice()), ["too long"]);
        let endless = vec![b'x'; 10 * MAX_LINE_BYTES];
        assert_eq!(all(endless.as_slice()), ["too long"]);
    }
}
