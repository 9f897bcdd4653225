//! Writes small perf.data files. Independent of the reader's code.

use crate::dat_writer::{File, Spec, record_of, specs};
use lazytlb_trace::Event;

const IP: u64 = 1;
const TID: u64 = 1 << 1;
const TIME: u64 = 1 << 2;
pub(crate) const READ: u64 = 1 << 4;
pub(crate) const CALLCHAIN: u64 = 1 << 5;
pub(crate) const CPU: u64 = 1 << 7;
const PERIOD: u64 = 1 << 8;
pub(crate) const RAW: u64 = 1 << 10;
const IDENTIFIER: u64 = 1 << 16;

pub(crate) const FINISHED_ROUND: u32 = 68;
pub(crate) const ID_INDEX: u32 = 69;

/// A recording to be written.
pub(crate) struct Perf {
    pub(crate) specs: Vec<Spec>,
    pub(crate) sample_type: u64,
    pub(crate) period: u64,
    /// Flags of the attribute.
    pub(crate) flags: u64,
    pub(crate) clock: u32,
    /// Whether perf's own event, which is no tracepoint, is in it, so that ids tell samples apart.
    pub(crate) dummy: bool,
    pub(crate) cpus: u32,
    /// Records, in the order of the file.
    pub(crate) records: Vec<Vec<u8>>,
}

pub(crate) fn words(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

pub(crate) fn record(kind: u32, body: &[u8]) -> Vec<u8> {
    let mut bytes = kind.to_le_bytes().to_vec();
    bytes.extend(0_u16.to_le_bytes());
    bytes.extend((8 + body.len() as u16).to_le_bytes());
    bytes.extend(body);
    bytes
}

impl Perf {
    pub(crate) fn new() -> Self {
        Perf {
            specs: specs(),
            sample_type: IDENTIFIER | IP | TID | TIME | CPU | PERIOD | RAW,
            period: 1,
            flags: 0,
            clock: 0,
            dummy: true,
            cpus: 4,
            records: Vec::new(),
        }
    }

    /// Events in rounds of `round`: within one, CPU after CPU, as perf empties its buffers.
    pub(crate) fn of(events: &[Event], round: usize) -> Self {
        let mut perf = Perf::new();
        perf.push_rounds(events, round);
        perf
    }

    pub(crate) fn push_rounds(&mut self, events: &[Event], round: usize) {
        for events in events.chunks(round) {
            // The first of a round are written in the round before where they can be: perf promises no more than that.
            for cpu in 0..8 {
                for event in events.iter().filter(|event| event.cpu == cpu) {
                    let sample = self.sample(event);
                    self.records.push(sample);
                }
            }
            self.records.push(record(FINISHED_ROUND, &[]));
        }
    }

    pub(crate) fn sample(&self, event: &Event) -> Vec<u8> {
        let raw = record_of(&self.specs, event);
        let cpu = u64::from(event.cpu);
        let mut body = words(&[100 + cpu, 0xffff, 0, event.time_ns, cpu, 1]);
        if self.sample_type & CPU == 0 {
            body.drain(32..40);
        }
        if self.sample_type & READ != 0 {
            body.extend(words(&[77]));
        }
        if self.sample_type & CALLCHAIN != 0 {
            body.extend(words(&[2, 0xf1, 0xf2]));
        }
        body.extend((raw.len() as u32).to_le_bytes());
        body.extend(raw);
        body.resize(body.len().next_multiple_of(8), 0);
        record(9, &body)
    }

    fn attribute(&self, kind: u32, sample_type: u64, ids: (u64, u64)) -> Vec<u8> {
        let mut attr = kind.to_le_bytes().to_vec();
        attr.extend(128_u32.to_le_bytes());
        attr.extend(words(&[9, self.period, sample_type, 0, self.flags]));
        attr.resize(92, 0);
        attr.extend(self.clock.to_le_bytes());
        attr.resize(128, 0);
        attr.extend(words(&[ids.0, ids.1]));
        attr
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.bytes_with(&self.records.concat())
    }

    /// All records in compressed ones of few bytes, so that records go across their ends.
    pub(crate) fn compressed(&self, kind: u32) -> Vec<u8> {
        let packed = zstd::encode_all(self.records.concat().as_slice(), 3).unwrap();
        let records: Vec<_> = packed
            .chunks(50)
            .flat_map(|part| match kind {
                81 => record(81, part),
                _ => record(
                    83,
                    &[words(&[part.len() as u64]), part.to_vec(), vec![0; 6]].concat(),
                ),
            })
            .collect();
        self.bytes_with(&records)
    }

    pub(crate) fn bytes_with(&self, data: &[u8]) -> Vec<u8> {
        let ids: Vec<_> = (100..108).flat_map(u64::to_le_bytes).collect();
        let dummy_ids: Vec<_> = (200..208).flat_map(u64::to_le_bytes).collect();
        let mut attributes = Vec::new();
        let begin = 104;
        if self.dummy {
            attributes.extend(self.attribute(
                1,
                IDENTIFIER | IP | TID | TIME | CPU,
                (begin + 64, 64),
            ));
        }
        attributes.extend(self.attribute(2, self.sample_type, (begin, 64)));
        let attributes_at = begin + 128;
        let data_at = attributes_at + attributes.len() as u64;
        let data_bytes = data.len() as u64;
        let mut bytes = b"PERFILE2".to_vec();
        bytes.extend(words(&[104, 144, attributes_at, attributes.len() as u64]));
        bytes.extend(words(&[data_at, data_bytes, 0, 0]));
        bytes.extend(words(&[1 << 1 | 1 << 4 | 1 << 7, 0, 0, 0]));
        bytes.extend(ids);
        bytes.extend(dummy_ids);
        bytes.extend(attributes);
        bytes.extend(data);
        let formats = File::of(4096, self.specs.clone(), &[]).tracing_data();
        let mut release = 8_u32.to_le_bytes().to_vec();
        release.extend(b"6.1.test");
        let mut cpus = self.cpus.to_le_bytes().to_vec();
        cpus.extend(self.cpus.to_le_bytes());
        let features = [formats, release, cpus];
        let mut at = data_at + data_bytes + 16 * features.len() as u64;
        for feature in &features {
            bytes.extend(words(&[at, feature.len() as u64]));
            at += feature.len() as u64;
        }
        bytes.extend(features.concat());
        bytes
    }
}
