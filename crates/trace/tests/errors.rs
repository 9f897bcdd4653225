//! What a user sees when a recording is not what it should be.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::io::{self, Read, Write};

use flate2::write::GzEncoder;
use lazytlb_trace::{Compression, HOW_TO_RECORD, LineProblem, TraceError, TraceReader};
use liblzma::write::XzEncoder;

const SWITCH: &str = "  <idle>-0  [001] d.Z1.  1.000001: switch_mm: (f+0x35/0x470) next=0xf0 \
                      tsk=0xe0 loaded=0xf0 lazy=1 nctx=7\n";
const LAZY: &str =
    "      sh-9  [001] d.Z1.  1.000002: enter_lazy: (f+0xd/0x30) mm=0xf0 tsk=0xe8 loaded=0xf0\n";
const FLUSH: &str = "      sh-9  [001] d.Z..  1.000003: flush_mm_range: (f+0x5/0x170) mm=0xf0 \
                     start=0x1000 end=0x3000 stride=12 freed=0 ctx=7\n";

fn read(bytes: impl Read) -> Result<u64, TraceError> {
    let mut reader = TraceReader::new(bytes, "my.txt")?;
    while reader.next_operation()?.is_some() {}
    Ok(reader.summary().operations.total())
}

/// Reads text that has all needed events before it, and returns what the error says.
fn error_after_valid(text: &str) -> String {
    let text = [SWITCH, LAZY, FLUSH, text].concat();
    read(text.as_bytes()).unwrap_err().to_string()
}

fn error(bytes: &[u8]) -> String {
    read(bytes).unwrap_err().to_string()
}

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

/// Text that does not compress well, so that a cut falls into the data.
fn long_valid_text() -> Vec<u8> {
    let mut text = [SWITCH, LAZY, FLUSH].concat();
    for number in 0..20_000_u32 {
        let value = number.wrapping_mul(2_654_435_761);
        text += &format!(" sh-9 [001] d.Z.. 2.000000: mark: {value:x}\n");
    }
    text.into_bytes()
}

#[test]
fn the_valid_lines_are_valid() {
    assert_eq!(read([SWITCH, LAZY, FLUSH].concat().as_bytes()).unwrap(), 3);
    assert_eq!(read(long_valid_text().as_slice()).unwrap(), 3);
}

#[test]
fn a_missing_file_is_named() {
    let error = TraceReader::open("no/such/file").map(|_| ()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "no/such/file: cannot be opened: No such file or directory (os error 2); check the path \
         and its permissions"
    );
}

#[test]
fn truncated_gz_is_named() {
    let whole = gz(&long_valid_text());
    for length in [whole.len() / 2, whole.len() - 1, 5] {
        assert_eq!(
            error(&whole[..length]),
            format!(
                "my.txt: the gzip stream is cut off at byte {length}; copy the file again \
                 (`gzip -t my.txt` tests it)"
            )
        );
    }
}

#[test]
fn truncated_xz_is_named() {
    let whole = xz(&long_valid_text());
    for length in [whole.len() / 2, whole.len() - 1, 7] {
        assert_eq!(
            error(&whole[..length]),
            format!(
                "my.txt: the xz stream is cut off at byte {length}; copy the file again \
                 (`xz -t my.txt` tests it)"
            )
        );
    }
}

#[test]
fn damaged_compressed_files_are_named() {
    for (whole, format) in [
        (gz(&long_valid_text()), Compression::Gzip),
        (xz(&long_valid_text()), Compression::Xz),
    ] {
        let mut bytes = whole.clone();
        let middle = bytes.len() / 2;
        bytes[middle..middle + 40].fill(0xff);
        let found = read(bytes.as_slice()).unwrap_err();
        // A damaged gzip stream may still decompress to text that is no event.
        let damaged = match &found {
            TraceError::Corrupt { format: named, .. } => *named == format,
            other => format == Compression::Gzip && matches!(other, TraceError::Line { .. }),
        };
        assert!(damaged, "{found}");
        let garbage = [whole.as_slice(), b"garbage after the end"].concat();
        let found = read(garbage.as_slice()).unwrap_err();
        assert!(matches!(found, TraceError::Corrupt { .. }), "{found}");
    }
}

#[test]
fn an_xz_stream_that_wants_gigabytes_is_refused() {
    let mut bytes = xz(&long_valid_text());
    // After the stream header (12 bytes): size, flags, filter 0x21 (LZMA2), 1 property byte, the
    // dictionary's size (40 means 4 GiB - 1), padding, CRC-32.
    assert_eq!(bytes[14..16], [0x21, 1]);
    bytes[16] = 40;
    let end = 12 + usize::from(bytes[12]) * 4;
    let mut crc = flate2::Crc::new();
    crc.update(&bytes[12..end]);
    bytes[end..end + 4].copy_from_slice(&crc.sum().to_le_bytes());
    let text = error(&bytes);
    assert!(
        text.starts_with("my.txt: the xz stream near byte "),
        "{text}"
    );
    assert!(text.ends_with(
        " needs more than 256 MiB of memory; decompress it first (`xz -d`), or compress it with \
         `xz -9` at most"
    ), "{text}");
}

#[test]
fn damaged_and_greedy_zstd_is_named() {
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
    // As the program `zstd` does.
    encoder.include_checksum(true).unwrap();
    encoder.write_all(&long_valid_text()).unwrap();
    let whole = encoder.finish().unwrap();
    let cut = error(&whole[..whole.len() / 2]);
    assert!(cut.contains("the zstd stream is cut off at byte "), "{cut}");
    let mut damaged = whole.clone();
    let middle = damaged.len() / 2;
    damaged[middle..middle + 40].fill(0x55);
    let damaged = error(&damaged);
    assert!(
        damaged.contains("the zstd stream is damaged near byte "),
        "{damaged}"
    );
    // A frame whose window has 2^31 bytes, and an empty last block.
    let greedy = error(b"\x28\xb5\x2f\xfd\x00\xa8\x01\x00\x00");
    assert!(
        greedy.contains("needs more than 128 MiB of memory; decompress it first (`zstd -d`)"),
        "{greedy}"
    );
}

#[test]
fn binary_files_are_named_with_the_file_to_use() {
    let trace_dat = b"\x17\x08Dtracing6\0\0\x08".as_slice();
    let expected = "my.txt: trace.dat, at byte 14: the file's head should end at byte 18, but the \
                    file has 14: it was cut; copy it again";
    assert_eq!(error(trace_dat), expected);
    assert_eq!(error(&xz(trace_dat)), expected);
    assert_eq!(
        error(b"\x7fELF\x02\x01\x01\0\0"),
        "my.txt: an ELF file at byte 0, and no recording: name the recording, not a program"
    );
    assert_eq!(
        error(b"PERFILE2\x68\0\0"),
        "my.txt: perf.data, at byte 8: the file's head should end at byte 16, but the file has 11: it was cut; copy it again"
    );
    assert_eq!(
        error(b"PERFFILE\x68\0\0"),
        "my.txt: a perf.data file of the first version at byte 0, and no recording: record again with perf of Linux 2.6.36 or later"
    );
    assert_eq!(
        error(b"BZh91AY"),
        "my.txt: compressed data of another kind at byte 0, and no recording: decompress it \
         first: only gz, xz and zstd around a recording are read"
    );
    assert_eq!(
        error(b"\x28\xb5\x2f\xfd\x04"),
        "my.txt: the zstd stream is cut off at byte 5; copy the file again (`zstd -t my.txt` tests \
         it)"
    );
    assert_eq!(
        error(&gz(b"abc\0def\n")),
        "my.txt: binary data at byte 0, and no recording: trace.dat, perf.data and text are read (/sys/kernel/tracing/trace, or what \
         trace-cmd report or perf script prints)"
    );
}

#[test]
fn an_empty_file_is_named() {
    let expected = "my.txt: the file is empty (0 bytes of text); copy /sys/kernel/tracing/trace \
                    before the buffer is cleared";
    assert_eq!(error(b""), expected);
    assert_eq!(error(&gz(b"")), expected);
    assert_eq!(error(&xz(b"")), expected);
}

#[test]
fn a_trace_without_the_events_says_how_to_record_them() {
    let text = "# tracer: nop\n  sh-9 [001] ..... 1.000000: sys_enter: NR 1\n";
    assert_eq!(
        error(text.as_bytes()),
        format!(
            "my.txt: 2 lines and none of the events switch_mm, enter_lazy, flush_mm_range (kprobes), \
         nor sched_switch with tlb_flush (tracepoints).\n{HOW_TO_RECORD}"
        )
    );
    assert!(HOW_TO_RECORD.starts_with("To record: `sudo lazytlb record "));
    for event in [
        "switch_mm",
        "enter_lazy",
        "flush_mm_range",
        "flush_func",
        "mmdrop",
    ] {
        assert!(
            HOW_TO_RECORD.contains(&format!("\n  echo 'p:{event} ")),
            "{event}"
        );
    }
    assert!(
        HOW_TO_RECORD
            .lines()
            .any(|line| line.ends_with("' > kprobe_events"))
    );
}

#[test]
fn a_trace_that_lacks_an_essential_event_is_refused() {
    assert_eq!(
        error([SWITCH, LAZY].concat().as_bytes()),
        format!(
            "my.txt: 2 lines and not one of: flush_mm_range; a replay without them would be \
             wrong, so arm these kprobes too, or record a workload that uses them.\n\
             {HOW_TO_RECORD}"
        )
    );
    let found = read(SWITCH.as_bytes()).unwrap_err();
    let TraceError::MissingEvents { missing, .. } = found else {
        panic!("{found}")
    };
    assert_eq!(missing, ["enter_lazy", "flush_mm_range"]);
}

#[test]
fn a_trace_without_flush_func_and_mmdrop_is_read_with_warnings() {
    let text = [SWITCH, LAZY, FLUSH].concat();
    let mut reader = TraceReader::new(text.as_bytes(), "my.txt").unwrap();
    while reader.next_operation().unwrap().is_some() {}
    assert_eq!(
        reader.summary().warnings(),
        [
            "no flush_func event: the recorded kernel's own IPIs are unknown (0 is no count)",
            "no mmdrop event: address spaces are never retired",
            "no sched_switch event: whether a lazy CPU idles is told by its next event",
        ]
    );
}

#[test]
fn a_last_line_without_its_end_is_named() {
    assert_eq!(
        error_after_valid("  sh-9 [001] ..... 2.000000: sys_ent"),
        "my.txt:4: the last line has no end: \"  sh-9 [001] ..... 2.000000: sys_ent\"; the file \
         was cut while it was copied: copy it again, or delete this line"
    );
}

#[test]
fn a_line_cut_in_the_middle_of_the_file_is_named() {
    assert_eq!(
        error_after_valid("  sh-9 [001] ..... 2.00\n  sh-9 [001] ..... 2.000000: mark: x\n"),
        "my.txt:4: not an event line of the kernel's text trace, `COMM-PID [CPU] FLAGS SECONDS: EVENT: ...`: no time stamp \
         `SECONDS.MICROSECONDS:` after `[CPU]` in \"  sh-9 [001] ..... 2.00\"; use the file \
         /sys/kernel/tracing/trace itself, with trace_clock global or mono, current_tracer nop and \
         no stack traces; a line cut in the middle means a bad copy"
    );
    assert_eq!(
        error_after_valid(&LAZY.replace("1.000002: enter_lazy", "1.000003: flush_mm_range")),
        format!(
            "my.txt:4: flush_mm_range has no field `ctx=`: either the line was cut (copy the file \
             again), or the kprobe was defined without it.\n{HOW_TO_RECORD}"
        )
    );
}

#[test]
fn a_line_that_is_no_event_is_printed_safely() {
    let text = error_after_valid("\x1b[2Jrm\n");
    assert!(text.starts_with("my.txt:4: not an event line"), "{text}");
    assert!(text.contains("no `[CPU]` in \"\\x1b[2Jrm\""), "{text}");
}

#[test]
fn a_file_with_fewer_events_than_its_header_says_is_named() {
    let header = "# entries-in-buffer/entries-written: 9/9   #P:4\n";
    assert_eq!(
        error([header, SWITCH, LAZY, FLUSH].concat().as_bytes()),
        "my.txt: ends at line 4 with 3 events, but its header announces 9; the file was cut: copy \
         it again, or delete the line `# entries-in-buffer` to read the part"
    );
}

#[test]
fn lost_events_are_an_error() {
    assert_eq!(
        error(b"# entries-in-buffer/entries-written: 10/25   #P:4\n"),
        "my.txt:1: the buffer holds 10 of 25 written events, so the recording is incomplete and a \
         replay would be wrong; record again with a larger buffer_size_kb"
    );
    assert_eq!(
        error_after_valid("CPU:3 [LOST 12 EVENTS]\n"),
        "my.txt:4: CPU 3 lost 12 events, so the recording is incomplete and a replay would be \
         wrong; record again with a larger buffer_size_kb"
    );
    assert!(error_after_valid("CPU:3 [LOST EVENTS]\n").contains("CPU 3 lost events, so"));
}

#[test]
fn time_that_runs_backwards_is_an_error() {
    assert_eq!(
        error_after_valid("  sh-9 [001] ..... 1.000002: mark: x\n"),
        "my.txt:4: time runs backwards, from 1000003000 ns to 1000002000 ns; record with \
         trace_clock global or mono, and read one recording at a time"
    );
}

#[test]
fn absurd_cpu_numbers_are_an_error() {
    for cpu in ["4096", "70000", "18446744073709551615"] {
        assert_eq!(
            error_after_valid(&format!("  sh-9 [{cpu}] ..... 2.000000: mark: x\n")),
            format!("my.txt:4: CPU {cpu} is out of range (at most 4095); the line is damaged")
        );
    }
}

#[test]
fn endless_lines_are_an_error() {
    let expected = "my.txt:4: longer than 65536 bytes; no event line is: this is not the text of a \
                    recording";
    let long = "x".repeat(70_000);
    assert_eq!(error_after_valid(&format!("{long}\n")), expected);
    assert_eq!(error_after_valid(&long), expected);
    let endless = [SWITCH, LAZY, FLUSH].concat();
    let endless = endless.as_bytes().chain(io::repeat(b'x'));
    assert_eq!(read(endless).unwrap_err().to_string(), expected);
}

#[test]
fn numbers_that_overflow_are_an_error() {
    for (from, to) in [
        ("ctx=7", "ctx=18446744073709551616"),
        ("mm=0xf0", "mm=0x10000000000000000"),
    ] {
        let (key, value) = to.split_once('=').unwrap();
        assert_eq!(
            error_after_valid(&FLUSH.replace(from, to)),
            format!(
                "my.txt:4: flush_mm_range has {key}={value}, expected a number below 2^64; the \
                 line is damaged"
            )
        );
    }
    for (from, to, expected) in [
        ("stride=12", "stride=64", "a shift below 64"),
        ("stride=12", "stride=999", "a shift below 64"),
        ("freed=0", "freed=2", "0 or 1"),
        ("end=0x3000", "end=0x500", "an end after the start"),
    ] {
        let text = error_after_valid(&FLUSH.replace(from, to));
        assert!(
            text.contains(&format!("{to}, expected {expected}; ")),
            "{text}"
        );
    }
}

#[test]
fn a_failing_medium_is_named_and_reading_ends() {
    struct Failing;
    impl Read for Failing {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("the disk is gone"))
        }
    }
    let text = [SWITCH, LAZY, FLUSH].concat().repeat(3000);
    let same_time = text
        .replace("1.000001", "1.000003")
        .replace("1.000002", "1.000003");
    let mut reader = TraceReader::new(same_time.as_bytes().chain(Failing), "my.txt").unwrap();
    let found = loop {
        match reader.next_operation() {
            Ok(operation) => assert!(operation.is_some()),
            Err(found) => break found,
        }
    };
    assert_eq!(
        found.to_string(),
        format!(
            "my.txt: reading failed after byte {}: the disk is gone; check the medium, then try \
             again",
            same_time.len()
        )
    );
    let again = reader.next_operation().unwrap_err();
    assert_eq!(
        again.to_string(),
        "my.txt: reading ended with an error before; open the file again to read it"
    );
}

#[test]
fn problems_can_be_matched() {
    let text = [SWITCH, "CPU:1 [LOST 2 EVENTS]\n"].concat();
    let found = read(text.as_bytes()).unwrap_err();
    let TraceError::Line { at, problem } = found else {
        panic!("{found}")
    };
    assert_eq!((at.file.as_str(), at.line), ("my.txt", 2));
    assert_eq!(
        problem,
        LineProblem::LostEvents {
            cpu: 1,
            count: Some(2)
        }
    );
}
