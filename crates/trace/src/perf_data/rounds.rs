//! Samples in the order of time.
//!
//! perf empties the CPUs' buffers one after the other, and writes a mark after each round. A sample is written at latest in the round
//! after that in which others of its time are: so after a mark, all up to the latest time of the round before can go.
//! Source: perf's `util/ordered-events.c`, `util/session.c` (`process_finished_round`).

use crate::perf_problem::PerfDataProblem;
use crate::records::SLACK_BYTES;

/// What two rounds may have. With buffers of 512 KiB a CPU, perf's own size, this is enough for some 250 CPUs.
const MAX_BYTES: usize = 64 << 20;
const MAX_SAMPLES: usize = 2 << 20;

/// Sorts samples, in bounded memory.
#[derive(Default)]
pub(super) struct Rounds {
    /// The samples' bytes, then [`SLACK_BYTES`].
    bytes: Vec<u8>,
    /// Buffer to move them to.
    spare: Vec<u8>,
    waiting: Vec<Waiting>,
    /// Samples before it are gone; those up to `ready` are in order.
    next: usize,
    ready: usize,
    /// The latest time of the round before, and of all.
    before_ns: u64,
    latest_ns: u64,
    /// Where the round that is being read begins among those that wait.
    ended: bool,
}

/// One sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Waiting {
    pub(super) time: u64,
    at: u32,
    length: u16,
    pub(super) cpu: u16,
}

impl Rounds {
    /// Returns the next sample; `None` if a round must be read before.
    #[inline]
    pub(super) fn next(&mut self) -> Option<Waiting> {
        if self.next == self.ready {
            return None;
        }
        let waiting = self.waiting[self.next];
        self.next += 1;
        Some(waiting)
    }

    /// The bytes of a sample and those after it, and how many are its own.
    #[inline]
    pub(super) fn bytes(&self, sample: Waiting) -> (&[u8], usize) {
        (&self.bytes[sample.at as usize..], sample.length.into())
    }

    /// Whether all samples were read and returned.
    pub(super) fn is_over(&self) -> bool {
        self.ended && self.next == self.waiting.len()
    }

    /// Takes a sample.
    ///
    /// # Errors
    /// If it is one too many.
    #[inline]
    pub(super) fn push(&mut self, time: u64, cpu: u16, raw: &[u8]) -> Result<(), PerfDataProblem> {
        if self.bytes.len() + raw.len() > MAX_BYTES || self.waiting.len() == MAX_SAMPLES {
            return Err(PerfDataProblem::LongRound {
                limit: MAX_BYTES >> 20,
                records: MAX_SAMPLES,
            });
        }
        self.bytes
            .truncate(self.bytes.len().saturating_sub(SLACK_BYTES));
        // Both fit: a record has less than 2^16 bytes, and all have at most 2^26.
        let (at, length) = (self.bytes.len() as u32, raw.len() as u16);
        self.bytes.extend_from_slice(raw);
        self.bytes.extend_from_slice(&[0; SLACK_BYTES]);
        self.latest_ns = self.latest_ns.max(time);
        self.waiting.push(Waiting {
            time,
            at,
            length,
            cpu,
        });
        Ok(())
    }

    /// Begins to read a round: what was returned is forgotten.
    pub(super) fn begin(&mut self) {
        self.waiting.drain(..self.next);
        self.ready -= self.next;
        self.next = 0;
        self.spare.clear();
        for sample in &mut self.waiting {
            let begin = sample.at as usize;
            sample.at = self.spare.len() as u32;
            let bytes = &self.bytes[begin..begin + usize::from(sample.length)];
            self.spare.extend_from_slice(bytes);
        }
        self.spare.extend_from_slice(&[0; SLACK_BYTES]);
        std::mem::swap(&mut self.bytes, &mut self.spare);
    }

    /// Ends a round.
    pub(super) fn end(&mut self) {
        self.sort();
        let before_ns = std::mem::replace(&mut self.before_ns, self.latest_ns);
        self.ready = self
            .waiting
            .partition_point(|sample| sample.time <= before_ns);
    }

    /// Ends the last round.
    pub(super) fn end_all(&mut self) {
        self.sort();
        self.ready = self.waiting.len();
        self.ended = true;
    }

    /// Samples of one time stay in the order of the file. Each CPU's are nearly sorted, which this sort makes use of.
    fn sort(&mut self) {
        self.waiting.sort_by_key(|sample| sample.time);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(rounds: &mut Rounds) -> Vec<(u64, u8)> {
        let mut taken = Vec::new();
        while let Some(sample) = rounds.next() {
            let (bytes, length) = rounds.bytes(sample);
            assert!(length == 1 && bytes.len() > SLACK_BYTES);
            taken.push((sample.time, bytes[0]));
        }
        taken
    }

    /// The example of perf's own source.
    #[test]
    fn samples_go_once_nothing_earlier_can_come() {
        let mut rounds = Rounds::default();
        let mut round = |times: &[(u16, u64)], is_last| {
            rounds.begin();
            for (cpu, time) in times {
                let byte = [*time as u8 * 10 + *cpu as u8];
                rounds.push(*time, *cpu, &byte).unwrap();
            }
            match is_last {
                true => rounds.end_all(),
                false => rounds.end(),
            }
            take(&mut rounds)
        };
        assert_eq!(round(&[(0, 1), (0, 2), (1, 2), (1, 3), (1, 4)], false), []);
        assert_eq!(
            round(&[(0, 3), (0, 4), (0, 5), (1, 5), (1, 6), (1, 7)], false),
            [
                (1, 10),
                (2, 20),
                (2, 21),
                (3, 31),
                (3, 30),
                (4, 41),
                (4, 40)
            ]
        );
        assert_eq!(
            round(&[(0, 6), (0, 7), (1, 8)], false),
            [(5, 50), (5, 51), (6, 61), (6, 60), (7, 71), (7, 70)]
        );
        assert_eq!(round(&[(1, 9)], true), [(8, 81), (9, 91)]);
        assert!(rounds.is_over());
    }

    #[test]
    fn memory_is_bounded() {
        let mut rounds = Rounds::default();
        rounds.begin();
        let raw = [0; 60_000];
        let mut pushed = 0;
        while rounds.push(1, 0, &raw).is_ok() {
            pushed += raw.len();
        }
        assert!(pushed > MAX_BYTES - 100_000 && pushed <= MAX_BYTES);
    }
}
