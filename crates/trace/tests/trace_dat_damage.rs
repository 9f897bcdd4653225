//! Whatever happens to the bytes of a trace.dat, the reader ends with events or an error, in bounded memory.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod dat_writer;
mod fixture;
mod peak_memory;

use dat_writer::{File, Pack, specs};
use lazytlb_trace::{Step, TraceError, TraceReader};
use proptest::prelude::*;

/// A small file: few formats, small pages.
fn file() -> File {
    let mut reader = TraceReader::new(fixture::TRACE.as_bytes(), "t").unwrap();
    let mut events = Vec::new();
    while let Some(step) = reader.next_step().unwrap() {
        events.extend(match step {
            Step::Event(event) => Some(*event),
            Step::Operation(_) => None,
        });
    }
    let mut specs = specs();
    let few = [
        "print",
        "switch_mm",
        "enter_lazy",
        "flush_mm_range",
        "sched_switch",
    ];
    specs.retain(|spec| few.contains(&spec.name.as_str()));
    events.retain(|event| {
        use lazytlb_trace::Kind;
        matches!(
            event.kind,
            Kind::SwitchMm(_)
                | Kind::EnterLazy { .. }
                | Kind::FlushMmRange(_)
                | Kind::SchedSwitch { .. }
        )
    });
    let mut file = File::of(512, specs, &events);
    let statistics = b"CPU: 0\nentries: 9\noverrun: 0\n\0".to_vec();
    file.options.push((2, statistics));
    file.options
        .push((14, [1, 1, 0, 0].map(u32::to_le_bytes).concat()));
    file
}

fn files() -> [(Vec<u8>, &'static [u8]); 4] {
    const ALL_BITS: &[u8] = &[1, 2, 4, 8, 16, 32, 64, 128, 255];
    const SOME_BITS: &[u8] = &[1, 128];
    let file = file();
    [
        (file.version6(), ALL_BITS),
        (file.version7(Pack::None), ALL_BITS),
        (file.version7(Pack::Zstd), SOME_BITS),
        (file.version7(Pack::Zlib), SOME_BITS),
    ]
}

/// Reads to the end or to an error; after that, nothing more comes.
fn read(bytes: &[u8]) -> Result<u64, TraceError> {
    let mut reader = TraceReader::new(bytes, "t")?;
    loop {
        match reader.next_operation() {
            Ok(Some(_)) => {}
            Ok(None) => return Ok(reader.summary().events),
            Err(error) => {
                assert!(!error.to_string().is_empty());
                let again = reader.next_operation();
                assert!(matches!(again, Err(TraceError::Ended { .. })));
                return Err(error);
            }
        }
    }
}

#[test]
fn a_cut_at_any_byte_is_an_error() {
    for (bytes, _) in files() {
        assert!(read(&bytes).unwrap() > 20);
        for length in 0..bytes.len() {
            assert!(
                read(&bytes[..length]).is_err(),
                "{length} of {}",
                bytes.len()
            );
        }
    }
    peak_memory::assert_small();
}

#[test]
fn any_changed_byte_ends_in_events_or_an_error() {
    for (bytes, masks) in files() {
        for at in 0..bytes.len() {
            for mask in masks {
                let mut changed = bytes.clone();
                changed[at] ^= mask;
                let _ = read(&changed);
            }
        }
    }
    peak_memory::assert_small();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn many_changed_bytes_end_in_events_or_an_error(
        version in 0..4_usize,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
    ) {
        let (mut bytes, _) = files()[version].clone();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let _ = read(&bytes);
    }
}
