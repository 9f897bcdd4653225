//! What was recorded, and how its samples are laid out: `struct perf_event_attr`, `PERF_RECORD_SAMPLE`.

use crate::perf_problem::PerfDataProblem;

const TYPE_TRACEPOINT: u32 = 2;

/// Bits of `sample_type`: parts of a sample, in the order of a sample.
const IDENTIFIER: u64 = 1 << 16;
const IP: u64 = 1;
const TID: u64 = 1 << 1;
const TIME: u64 = 1 << 2;
const ADDR: u64 = 1 << 3;
const ID: u64 = 1 << 6;
const STREAM_ID: u64 = 1 << 9;
const CPU: u64 = 1 << 7;
const PERIOD: u64 = 1 << 8;
const READ: u64 = 1 << 4;
const CALLCHAIN: u64 = 1 << 5;
const RAW: u64 = 1 << 10;

/// Parts that have eight bytes each.
const FIXED: [u64; 9] = [IDENTIFIER, IP, TID, TIME, ADDR, ID, STREAM_ID, CPU, PERIOD];

/// Bits of `read_format`.
const READ_GROUP: u64 = 1 << 3;

/// Bits of the flags.
const FREQUENCY: u64 = 1 << 10;
const USE_CLOCK: u64 = 1 << 25;

/// One kind of sample.
#[derive(Debug)]
pub(super) struct Attribute {
    pub(super) is_tracepoint: bool,
    pub(super) layout: SampleLayout,
    /// The clock that was asked for: Linux `CLOCK_*`.
    pub(super) clock: Option<u32>,
    /// Its ids, one for each CPU.
    pub(super) ids: Vec<u64>,
    period: u64,
    is_frequency: bool,
}

/// Where what stands in a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SampleLayout {
    sample_type: u64,
    read_format: u64,
    time: usize,
    cpu: usize,
    /// Where what has no fixed size begins.
    variable: usize,
}

/// A tracepoint's sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sample<'a> {
    pub(super) time: u64,
    pub(super) cpu: u32,
    /// The event, as its format says.
    pub(super) raw: &'a [u8],
}

impl Attribute {
    /// Reads an attribute and its ids; `None` if it is too short.
    pub(super) fn read(attr: &[u8], ids: &[u8]) -> Option<Self> {
        let flags = u64_at(attr, 40)?;
        let clock = match flags & USE_CLOCK {
            0 => None,
            _ => Some(u32_at(attr, 92)?),
        };
        let ids = ids.chunks_exact(8);
        Some(Attribute {
            is_tracepoint: u32_at(attr, 0)? == TYPE_TRACEPOINT,
            layout: SampleLayout::new(u64_at(attr, 24)?, u64_at(attr, 32)?),
            clock,
            ids: ids.filter_map(|id| u64_at(id, 0)).collect(),
            period: u64_at(attr, 16)?,
            is_frequency: flags & FREQUENCY != 0,
        })
    }

    /// Checks that all events of a tracepoint were recorded, with what is needed.
    ///
    /// # Errors
    /// What is missing.
    pub(super) fn check(&self) -> Result<(), PerfDataProblem> {
        for (bit, name) in [(TIME, "time"), (CPU, "CPU"), (RAW, "fields (raw data)")] {
            if self.layout.sample_type & bit == 0 {
                return Err(PerfDataProblem::NoField(name));
            }
        }
        match self.period {
            _ if self.is_frequency => Err(PerfDataProblem::Frequency),
            0 | 1 => Ok(()),
            period => Err(PerfDataProblem::Sampled(period)),
        }
    }
}

impl SampleLayout {
    fn new(sample_type: u64, read_format: u64) -> Self {
        let (mut time, mut cpu, mut at) = (0, 0, 0);
        for part in FIXED {
            if sample_type & part != 0 {
                match part {
                    TIME => time = at,
                    CPU => cpu = at,
                    _ => {}
                }
                at += 8;
            }
        }
        SampleLayout {
            sample_type,
            read_format,
            time,
            cpu,
            variable: at,
        }
    }

    /// Says whether samples begin with their id.
    pub(super) fn has_identifier(&self) -> bool {
        self.sample_type & IDENTIFIER != 0
    }

    /// Reads a sample; `None` if it is too short.
    #[inline]
    pub(super) fn sample<'a>(&self, body: &'a [u8]) -> Option<Sample<'a>> {
        let mut at = self.variable;
        if self.sample_type & READ != 0 {
            at = self.after_values(body, at)?;
        }
        if self.sample_type & CALLCHAIN != 0 {
            at = after_words(at + 8, u64_at(body, at)?)?;
        }
        let size = u32_at(body, at)? as usize;
        Some(Sample {
            time: u64_at(body, self.time)?,
            cpu: u32_at(body, self.cpu)?,
            raw: body.get(at + 4..)?.get(..size)?,
        })
    }

    /// Passes over the counters' values: `struct read_format`.
    #[cold]
    fn after_values(&self, body: &[u8], at: usize) -> Option<usize> {
        let times = u64::from((self.read_format & 3).count_ones());
        // The id, and the number of lost samples.
        let others = u64::from((self.read_format & (1 << 2 | 1 << 4)).count_ones());
        if self.read_format & READ_GROUP == 0 {
            return after_words(at, 1 + times + others);
        }
        let values = u64_at(body, at)?.checked_mul(1 + others)?;
        after_words(at, values.checked_add(1 + times)?)
    }
}

/// A place some words further on, if that is within any record.
fn after_words(at: usize, words: u64) -> Option<usize> {
    let words = usize::from(u16::try_from(words).ok()?);
    Some(at + 8 * words)
}

#[inline]
pub(super) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    let word = bytes.get(at..)?.first_chunk()?;
    Some(u64::from_le_bytes(*word))
}

#[inline]
pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let word = bytes.get(at..)?.first_chunk()?;
    Some(u32::from_le_bytes(*word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[u64]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    #[test]
    fn what_stands_before_the_raw_data_is_passed_over() {
        let raw = [3, 0, 0, 0, 7, 8, 9, 0];
        let sample = Sample {
            time: 33,
            cpu: 5,
            raw: &[7, 8, 9],
        };
        let all = IDENTIFIER | IP | TID | TIME | CPU | PERIOD | RAW;
        let fixed = [1, 2, 3, 33, 5, 1];
        let plain = [words(&fixed), raw.to_vec()].concat();
        assert_eq!(SampleLayout::new(all, 0).sample(&plain), Some(sample));
        let chain = [words(&fixed), words(&[2, 0xf, 0xf]), raw.to_vec()].concat();
        let layout = SampleLayout::new(all | CALLCHAIN, 0);
        assert_eq!(layout.sample(&chain), Some(sample));
        // One value with time, id and lost samples; then a group of two with ids.
        let values = [words(&fixed), words(&[9; 4]), raw.to_vec()].concat();
        let layout = SampleLayout::new(all | READ, 1 | 1 << 2 | 1 << 4);
        assert_eq!(layout.sample(&values), Some(sample));
        let group = [words(&fixed), words(&[2, 9, 9, 9, 9]), raw.to_vec()].concat();
        let layout = SampleLayout::new(all | READ, READ_GROUP | 1 << 2);
        assert_eq!(layout.sample(&group), Some(sample));
        for body in [plain, chain, values, group] {
            for length in 0..body.len() - 1 {
                assert_eq!(layout.sample(&body[..length]), None);
            }
        }
        let endless = [words(&fixed), words(&[u64::MAX])].concat();
        assert_eq!(layout.sample(&endless), None);
        assert_eq!(SampleLayout::new(all | CALLCHAIN, 0).sample(&endless), None);
    }
}
