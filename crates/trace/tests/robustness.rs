//! Whatever the bytes are, the reader ends with operations or with an error: it never panics.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod fixture;

use std::io::Write;

use flate2::write::GzEncoder;
use lazytlb_trace::{TraceError, TraceReader};
use liblzma::write::XzEncoder;
use proptest::prelude::*;

fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn xz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = XzEncoder::new(Vec::new(), 0);
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Reads all, and returns the number of operations or the error's text.
fn read(bytes: &[u8]) -> Result<u64, String> {
    let mut reader = TraceReader::new(bytes, "t").map_err(|error| error.to_string())?;
    let mut operations = 0;
    loop {
        match reader.next_operation() {
            Ok(Some(_)) => operations += 1,
            Ok(None) => {
                assert_eq!(operations, reader.summary().operations.total());
                return Ok(operations);
            }
            Err(error) => {
                let again = reader.next_operation();
                assert!(matches!(again, Err(TraceError::Ended { .. })));
                return Err(error.to_string());
            }
        }
    }
}

/// One way in which a copy of a trace can go wrong.
#[derive(Clone, Debug)]
enum Damage {
    CutEnd(usize),
    CutMiddle(usize, usize),
    Flip(usize, u8),
    RepeatLine(usize),
    SwapLines(usize, usize),
    Insert(usize, Vec<u8>),
}

fn damage() -> impl Strategy<Value = Damage> {
    let place = || 0..fixture::TRACE.len();
    prop_oneof![
        place().prop_map(Damage::CutEnd),
        (place(), 0..300_usize).prop_map(|(at, length)| Damage::CutMiddle(at, length)),
        (place(), 1..=255_u8).prop_map(|(at, mask)| Damage::Flip(at, mask)),
        (0..64_usize).prop_map(Damage::RepeatLine),
        (0..64_usize, 0..64_usize).prop_map(|(one, other)| Damage::SwapLines(one, other)),
        (place(), prop::collection::vec(any::<u8>(), 1..20))
            .prop_map(|(at, bytes)| Damage::Insert(at, bytes)),
    ]
}

fn apply(text: &mut Vec<u8>, damage: &Damage) {
    let length = text.len();
    let mut on_lines = |change: &dyn Fn(&mut Vec<Vec<u8>>)| {
        let mut lines: Vec<_> = text
            .split_inclusive(|byte| *byte == b'\n')
            .map(<[u8]>::to_vec)
            .collect();
        change(&mut lines);
        *text = lines.concat();
    };
    match damage {
        Damage::RepeatLine(at) => on_lines(&|lines| {
            if let Some(line) = lines.get(*at).cloned() {
                lines.insert(*at, line);
            }
        }),
        Damage::SwapLines(one, other) => on_lines(&|lines| {
            if *one < lines.len() && *other < lines.len() {
                lines.swap(*one, *other);
            }
        }),
        Damage::CutEnd(at) => text.truncate(*at),
        Damage::CutMiddle(at, cut) => {
            text.drain((*at).min(length)..(at + cut).min(length));
        }
        Damage::Flip(at, mask) => {
            if let Some(byte) = text.get_mut(*at) {
                *byte ^= mask;
            }
        }
        Damage::Insert(at, bytes) => {
            let at = (*at).min(length);
            text.splice(at..at, bytes.iter().copied());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        prop_assume!(!bytes.starts_with(b"\x1f\x8b"));
        let plain = read(&bytes);
        prop_assert_eq!(&read(&gz(&bytes)), &plain);
        prop_assert_eq!(&read(&xz(&bytes)), &plain);
        for magic in [b"\x1f\x8b\x08".as_slice(), b"\xfd7zXZ\0"] {
            prop_assert!(read(&[magic, &bytes].concat()).is_err());
        }
    }

    #[test]
    fn arbitrary_event_like_text_never_panics(
        text in r"( {0,3}[a<\[-]{1,3}-[0-9]{1,11} \[[0-9]{1,5}\] (d\.\.2\. )?[0-9]{1,3}\.[0-9]{5,9}: (switch_mm|enter_lazy|flush_mm_range|flush_func|mmdrop|sched_switch): ((mm|ctx|next|tsk|nctx|loaded|lazy|start|end|stride|freed|mask|initcpu| next_pid)=(0x)?[0-9a-f]{0,20} ?){0,7}\n){1,4}"
    ) {
        let _ = read(text.as_bytes());
    }

    #[test]
    fn damaged_text_never_panics(damages in prop::collection::vec(damage(), 1..4)) {
        let mut text = fixture::TRACE.as_bytes().to_vec();
        for damage in &damages {
            apply(&mut text, damage);
        }
        let plain = read(&text);
        prop_assert_eq!(&read(&gz(&text)), &plain);
        prop_assert_eq!(&read(&xz(&text)), &plain);
    }

    #[test]
    fn damaged_compressed_files_never_panic(damages in prop::collection::vec(damage(), 1..3)) {
        for mut bytes in [gz(fixture::TRACE.as_bytes()), xz(fixture::TRACE.as_bytes())] {
            for damage in &damages {
                apply(&mut bytes, damage);
            }
            let _ = read(&bytes);
        }
    }
}

#[test]
fn a_cut_at_any_byte_is_noticed() {
    let text = fixture::TRACE.as_bytes();
    for length in 0..text.len() {
        assert!(
            read(&text[..length]).is_err(),
            "{length} of {} bytes",
            text.len()
        );
    }
    for compressed in [gz(text), xz(text)] {
        for length in 0..compressed.len() {
            assert!(
                read(&compressed[..length]).is_err(),
                "{length} of {}",
                compressed.len()
            );
        }
        assert_eq!(read(&compressed), Ok(19));
    }
}

#[test]
fn long_hostile_lines_are_judged_in_linear_time() {
    for pattern in [
        "[",
        "-1 [1] ",
        "-1 [1] 1.000000: ",
        "(-1 [1] )",
        "a-1 (",
        " next_pid",
        "=",
    ] {
        let mut line = " sh-1 [001] d..2. 1.000001: sched_switch: ".to_owned();
        line.push_str(&pattern.repeat(60_000 / pattern.len()));
        let _ = read(format!("{line}\n").repeat(20).as_bytes());
        let _ = read(
            format!("{}\n", pattern.repeat(60_000 / pattern.len()))
                .repeat(20)
                .as_bytes(),
        );
    }
}
