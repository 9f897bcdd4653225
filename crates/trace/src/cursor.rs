//! Takes the parts of a file's head one after the other.

use crate::bytes::{Bytes, Fault};
use crate::dat_problem::TraceDatProblem;

/// Longest string in a file's head; names have some 40 bytes.
const MAX_STRING_BYTES: usize = 4096;

/// A place in a file, for what is read once and in small pieces.
pub(crate) struct FileCursor<'a> {
    bytes: &'a Bytes,
    /// Where the next piece stands.
    pub(crate) offset: u64,
    /// What it is, for errors.
    what: &'static str,
}

impl<'a> FileCursor<'a> {
    /// Begins at `offset`.
    pub(crate) fn new(bytes: &'a Bytes, offset: u64, what: &'static str) -> Self {
        FileCursor {
            bytes,
            offset,
            what,
        }
    }

    /// Takes `N` bytes.
    ///
    /// # Errors
    /// If the file is over.
    pub(crate) fn take<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let mut taken = [0; N];
        self.bytes.read(self.what, self.offset, &mut taken)?;
        self.offset += N as u64;
        Ok(taken)
    }

    /// Takes a number of two bytes.
    ///
    /// # Errors
    /// If the file is over.
    pub(crate) fn u16(&mut self) -> Result<u16, Fault> {
        Ok(u16::from_le_bytes(self.take()?))
    }

    /// Takes a number of four bytes.
    ///
    /// # Errors
    /// If the file is over.
    pub(crate) fn u32(&mut self) -> Result<u32, Fault> {
        Ok(u32::from_le_bytes(self.take()?))
    }

    /// Takes a number of eight bytes.
    ///
    /// # Errors
    /// If the file is over.
    pub(crate) fn u64(&mut self) -> Result<u64, Fault> {
        Ok(u64::from_le_bytes(self.take()?))
    }

    /// Takes a string and the NUL after it.
    ///
    /// # Errors
    /// If the file is over, or no NUL comes.
    pub(crate) fn string(&mut self) -> Result<String, Fault> {
        let begin = self.offset;
        let mut string = Vec::new();
        loop {
            match self.take::<1>()? {
                [0] => return Ok(String::from_utf8_lossy(&string).into_owned()),
                [byte] => string.push(byte),
            }
            if string.len() > MAX_STRING_BYTES {
                let problem = TraceDatProblem::Damaged("a string without an end");
                return Err(Fault::Dat(begin, problem));
            }
        }
    }

    /// Takes `length` bytes.
    ///
    /// # Errors
    /// If they are more than `limit`, or not all there.
    pub(crate) fn vec(&mut self, length: u64, limit: u64) -> Result<Vec<u8>, Fault> {
        let taken = self.bytes.read_vec(self.what, self.offset, length, limit)?;
        self.offset += length;
        Ok(taken)
    }

    /// Passes over `length` bytes.
    ///
    /// # Errors
    /// If they are not all there.
    pub(crate) fn skip(&mut self, length: u64) -> Result<(), Fault> {
        self.bytes.check(self.what, self.offset, length)?;
        self.offset += length;
        Ok(())
    }
}

/// The same within bytes in memory, where no offset of the file is known: a section that was compressed.
pub(crate) struct Slice<'a> {
    rest: &'a [u8],
}

/// The bytes are over.
#[derive(Debug)]
pub(crate) struct Short;

impl<'a> Slice<'a> {
    /// Begins at the first byte.
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Slice { rest: bytes }
    }

    /// Takes `length` bytes.
    ///
    /// # Errors
    /// If there are fewer.
    pub(crate) fn bytes(&mut self, length: u64) -> Result<&'a [u8], Short> {
        let length = usize::try_from(length).map_err(|_| Short)?;
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(Short)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Short> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(Short)?;
        self.rest = rest;
        Ok(*taken)
    }

    /// Takes a number of two bytes.
    ///
    /// # Errors
    /// If there are fewer.
    pub(crate) fn u16(&mut self) -> Result<u16, Short> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    /// Takes a number of four bytes.
    ///
    /// # Errors
    /// If there are fewer.
    pub(crate) fn u32(&mut self) -> Result<u32, Short> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    /// Takes a number of eight bytes.
    ///
    /// # Errors
    /// If there are fewer.
    pub(crate) fn u64(&mut self) -> Result<u64, Short> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// Takes a string and the NUL after it.
    ///
    /// # Errors
    /// If no NUL comes.
    pub(crate) fn string(&mut self) -> Result<String, Short> {
        let end = memchr::memchr(0, self.rest).ok_or(Short)?;
        let string = String::from_utf8_lossy(&self.rest[..end]).into_owned();
        self.rest = &self.rest[end + 1..];
        Ok(string)
    }
}
