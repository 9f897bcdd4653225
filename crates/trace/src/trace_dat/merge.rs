//! All CPUs' records in the order of time; those of one time in the order of CPUs.

use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;

use super::chunks::Supply;
use super::pages::{RecordFault, Stream};

/// The CPUs' streams, and which of them has the earliest record.
pub(crate) struct Merge {
    streams: Vec<Stream>,
    /// The others' records, the earliest on top.
    waiting: BinaryHeap<Waiting>,
    current: Current,
}

#[derive(Clone, Copy)]
enum Current {
    /// No record was asked for.
    Begin,
    /// The stream that has the latest record.
    Stream(usize),
    End,
}

/// A record that is not yet its turn; ordered so that the earliest is the greatest.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Waiting {
    time: u64,
    cpu: u16,
    stream: usize,
}

impl Ord for Waiting {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        let key = |waiting: &Self| (waiting.time, waiting.cpu, waiting.stream);
        key(other).cmp(&key(self))
    }
}

impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Merge {
    /// Stands before the first record.
    pub(crate) fn new(streams: Vec<Stream>) -> Self {
        Merge {
            streams,
            waiting: BinaryHeap::new(),
            current: Current::Begin,
        }
    }

    /// Goes to the next record and returns its CPU's stream.
    ///
    /// # Errors
    /// With the stream that cannot go on.
    #[inline]
    pub(crate) fn next(
        &mut self,
        supply: &mut Supply,
    ) -> Result<Option<&Stream>, (usize, RecordFault)> {
        match self.current {
            Current::Stream(index) => self.go_on(index, supply)?,
            Current::Begin => self.begin(supply)?,
            Current::End => {}
        }
        match self.current {
            Current::Stream(index) => Ok(Some(&self.streams[index])),
            Current::Begin | Current::End => Ok(None),
        }
    }

    /// Returns the stream of the latest record.
    pub(crate) fn latest(&self) -> Option<&Stream> {
        match self.current {
            Current::Stream(index) => Some(&self.streams[index]),
            Current::Begin | Current::End => None,
        }
    }

    /// Returns a stream that an error named.
    pub(crate) fn stream(&self, index: usize) -> &Stream {
        &self.streams[index]
    }

    #[cold]
    fn begin(&mut self, supply: &mut Supply) -> Result<(), (usize, RecordFault)> {
        for (index, stream) in self.streams.iter_mut().enumerate() {
            if stream.advance(supply).map_err(|fault| (index, fault))? {
                self.waiting.push(Waiting {
                    time: stream.time,
                    cpu: stream.cpu,
                    stream: index,
                });
            }
        }
        self.take_earliest();
        Ok(())
    }

    #[inline]
    fn go_on(&mut self, index: usize, supply: &mut Supply) -> Result<(), (usize, RecordFault)> {
        let stream = &mut self.streams[index];
        if !stream.advance(supply).map_err(|fault| (index, fault))? {
            self.take_earliest();
            return Ok(());
        }
        let own = Waiting {
            time: stream.time,
            cpu: stream.cpu,
            stream: index,
        };
        // A place that may be written is put in order again, written or not: it is asked for only to be written.
        if self.waiting.peek().is_some_and(|earliest| *earliest > own)
            && let Some(mut earliest) = self.waiting.peek_mut()
        {
            self.current = Current::Stream(earliest.stream);
            *earliest = own;
        }
        Ok(())
    }

    fn take_earliest(&mut self) {
        self.current = match self.waiting.peek_mut() {
            Some(earliest) => Current::Stream(PeekMut::pop(earliest).stream),
            None => Current::End,
        };
    }
}
