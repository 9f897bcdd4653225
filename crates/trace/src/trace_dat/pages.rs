//! The records of one CPU, page by page.
//!
//! Source: Linux `include/linux/ring_buffer.h`, `kernel/trace/ring_buffer.c`. A record's head has 5 bits of type and length
//! and 27 bits of time since the record before.

use super::chunks::{Supply, Window};
use super::header_page::PageLayout;
use crate::bytes::Fault;
use crate::dat_problem::TraceDatProblem;
use crate::error::LineProblem;

const PADDING: u32 = 29;
const TIME_EXTEND: u32 = 30;
const TIME_STAMP: u32 = 31;
const DELTA_BITS: u32 = 27;

/// An absolute time has 59 bits; those above are the time's before.
const ABSOLUTE_BITS: u32 = 59;

/// Flags in the number of used bytes: events are missing before this page, and how many stands behind its last record.
const MISSED: u64 = 1 << 31;
const MISSED_STORED: u64 = 1 << 30;

/// One CPU's records.
pub(crate) struct Stream {
    /// The CPU.
    pub(crate) cpu: u16,
    /// The latest record's time, in the clock's own unit.
    pub(crate) time: u64,
    /// The latest record.
    pub(crate) record: RecordPlace,
    window: Window,
    layout: PageLayout,
    /// Where the next page begins in the window.
    next_page: usize,
    /// Where the next record begins.
    at: usize,
    /// Where the page's records end.
    end: usize,
}

/// Where a record is in its window.
#[derive(Clone, Copy, Default)]
pub(crate) struct RecordPlace {
    start: usize,
    /// Its bytes, padded to four.
    pub(crate) length: usize,
}

/// What can go wrong with a CPU's records.
#[derive(Debug)]
pub(crate) enum RecordFault {
    /// The file.
    File(Fault),
    /// What it holds.
    Event(LineProblem),
}

impl From<Fault> for RecordFault {
    fn from(fault: Fault) -> Self {
        RecordFault::File(fault)
    }
}

impl Stream {
    /// Stands before the first record.
    pub(crate) fn new(cpu: u16, window: Window, layout: PageLayout) -> Self {
        Stream {
            cpu,
            time: 0,
            record: RecordPlace::default(),
            window,
            layout,
            next_page: 0,
            at: 0,
            end: 0,
        }
    }

    /// The bytes of the latest record, and all after them in memory.
    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.window.bytes[self.record.start..]
    }

    /// Where the latest page, or its chunk, is in the file.
    pub(crate) fn offset(&self) -> u64 {
        let page = self.next_page.saturating_sub(self.layout.size);
        match self.window.is_chunk {
            true => self.window.offset,
            false => self.window.offset + page as u64,
        }
    }

    /// Goes to the next record; `false` if there is none.
    ///
    /// # Errors
    /// If the pages are damaged, or events are missing.
    #[inline]
    pub(crate) fn advance(&mut self, supply: &mut Supply) -> Result<bool, RecordFault> {
        loop {
            if self.at + 4 > self.end {
                if !self.next_page(supply)? {
                    return Ok(false);
                }
                continue;
            }
            let head = self.word(self.at);
            let (kind, delta) = (head & 31, u64::from(head >> 5));
            if kind != 0 && kind < PADDING {
                let start = self.at + 4;
                self.time = self.time.saturating_add(delta);
                return self.take_record(start, 4 * kind as usize).map(|()| true);
            }
            if kind == PADDING && delta == 0 {
                self.at = self.end;
                continue;
            }
            if self.at + 8 > self.end {
                return Err(self.damaged("a record is longer than its page"));
            }
            let word = self.word(self.at + 4);
            match kind {
                PADDING => {
                    self.time = self.time.saturating_add(delta);
                    self.at = self.at.saturating_add(4 + word as usize);
                }
                TIME_EXTEND => {
                    let delta = delta + (u64::from(word) << DELTA_BITS);
                    self.time = self.time.saturating_add(delta);
                    self.at += 8;
                }
                TIME_STAMP => {
                    self.set_time(delta + (u64::from(word) << DELTA_BITS))?;
                    self.at += 8;
                }
                _ => {
                    self.time = self.time.saturating_add(delta);
                    let length = (word as usize).checked_sub(4);
                    let length = length.ok_or_else(|| self.damaged("a record without length"))?;
                    return self.take_record(self.at + 8, length).map(|()| true);
                }
            }
        }
    }

    #[inline]
    fn take_record(&mut self, start: usize, length: usize) -> Result<(), RecordFault> {
        let next = start.saturating_add(length.next_multiple_of(4));
        if next > self.end {
            return Err(self.damaged("a record is longer than its page"));
        }
        self.record = RecordPlace { start, length };
        self.at = next;
        Ok(())
    }

    #[inline]
    fn word(&self, at: usize) -> u32 {
        let bytes = self.window.bytes[at..at + 4].try_into();
        u32::from_le_bytes(bytes.expect("a range of four"))
    }

    fn long(&self, at: usize) -> u64 {
        let bytes = self.window.bytes[at..at + 8].try_into();
        u64::from_le_bytes(bytes.expect("a range of eight"))
    }

    /// Begins the next page.
    fn next_page(&mut self, supply: &mut Supply) -> Result<bool, RecordFault> {
        if self.next_page >= self.window.filled {
            if !supply.refill(&mut self.window)? {
                return Ok(false);
            }
            self.next_page = 0;
        }
        let page = self.next_page;
        self.next_page += self.layout.size;
        let commit = self.long(page + self.layout.commit);
        let used = commit & !(MISSED | MISSED_STORED);
        let begin = page + self.layout.data;
        if used > (self.layout.size - self.layout.data) as u64 {
            return Err(self.damaged("a page with more bytes used than it has"));
        }
        (self.at, self.end) = (begin, begin + used as usize);
        if commit & MISSED != 0 {
            let stored = commit & MISSED_STORED != 0 && self.end + 8 <= self.next_page;
            let count = stored.then(|| self.long(self.end));
            return Err(RecordFault::Event(LineProblem::LostEvents {
                cpu: self.cpu.into(),
                count: count.filter(|count| (1..u64::MAX).contains(count)),
            }));
        }
        if used > 0 {
            self.set_page_time(self.long(page + self.layout.timestamp))?;
        }
        Ok(true)
    }

    /// Takes an absolute time, whose highest bits are those before.
    fn set_time(&mut self, absolute: u64) -> Result<(), RecordFault> {
        let mut time = absolute | self.time >> ABSOLUTE_BITS << ABSOLUTE_BITS;
        if time < self.time {
            // The bits above have counted on, which happens every 18 years.
            time = time.saturating_add(1 << ABSOLUTE_BITS);
            if time - self.time > 1 << (ABSOLUTE_BITS - 1) {
                return self.set_page_time(time - (1 << ABSOLUTE_BITS));
            }
        }
        self.set_page_time(time)
    }

    fn set_page_time(&mut self, time: u64) -> Result<(), RecordFault> {
        if time < self.time {
            return Err(RecordFault::Event(LineProblem::TimeBackwards {
                before_ns: self.time,
                now_ns: time,
            }));
        }
        self.time = time;
        Ok(())
    }

    #[cold]
    fn damaged(&self, what: &'static str) -> RecordFault {
        RecordFault::File(Fault::Dat(self.offset(), TraceDatProblem::Damaged(what)))
    }
}
