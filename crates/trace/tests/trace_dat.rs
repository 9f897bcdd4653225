//! trace.dat files that the tests' own writer makes, against the text of the same events.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod dat_writer;
mod fixture;

use std::io::{Read, Write};

use dat_writer::{File, Pack, Pages, Spec, cpus_of, record_of, specs};
use lazytlb_trace::{
    Compression, CountedShootdowns, Event, IdleStateIndex, Kind, SnapshotTask, Step, Summary,
    TraceError, TraceReader,
};

/// Reads all events; a recording without kprobes is whole, too.
fn events<R: Read>(mut reader: TraceReader<R>) -> Result<(Vec<Event>, Summary), TraceError> {
    let mut events = Vec::new();
    loop {
        match reader.next_step() {
            Ok(Some(Step::Event(event))) => events.push(*event),
            Ok(Some(Step::Operation(_))) => {}
            Ok(None) | Err(TraceError::NoEvents { .. } | TraceError::MissingEvents { .. }) => break,
            Err(error) => return Err(error),
        }
    }
    Ok((events, reader.summary().clone()))
}

fn read(bytes: &[u8]) -> (Vec<Event>, Summary) {
    events(TraceReader::new(bytes, "t.dat").unwrap()).unwrap()
}

fn error(bytes: &[u8]) -> String {
    let result = TraceReader::new(bytes, "t.dat").and_then(events);
    result.map(|_| ()).unwrap_err().to_string()
}

fn of_text() -> Vec<Event> {
    read(fixture::TRACE.as_bytes()).0
}

fn file() -> File {
    File::of(4096, specs(), &of_text())
}

fn all_versions(file: &File) -> [Vec<u8>; 4] {
    [
        file.version6(),
        file.version7(Pack::None),
        file.version7(Pack::Zstd),
        file.version7(Pack::Zlib),
    ]
}

#[test]
fn every_version_has_the_events_of_the_text() {
    let expected = of_text();
    assert_eq!(expected.len(), 52);
    for page in [512, 4096, 65536] {
        let file = File::of(page, specs(), &expected);
        for bytes in all_versions(&file) {
            let (found, summary) = read(&bytes);
            assert_eq!(found, expected);
            assert_eq!(summary.operations.total(), 19);
            assert_eq!(summary.events_named("switch_mm"), 8);
            assert_eq!(summary.cpus_announced, Some(4));
            assert_eq!(summary.kernel.as_deref(), Some("6.1.0-test"));
            assert_eq!(summary.clock.as_deref(), Some("mono"));
            assert_eq!(summary.resolution_ns, Some(1));
            assert_eq!(summary.buffer.as_deref(), Some(""));
            // The fixture's own: a switch is missing.
            assert_eq!(summary.warnings(), text_warnings());
        }
    }
}

fn text_warnings() -> Vec<String> {
    read(fixture::TRACE.as_bytes()).1.warnings()
}

#[test]
fn fields_are_where_the_format_says() {
    let mut specs = specs();
    for spec in &mut specs {
        spec.fields.reverse();
        spec.gap = 3;
    }
    let expected = of_text();
    for bytes in all_versions(&File::of(4096, specs, &expected)) {
        assert_eq!(read(&bytes).0, expected);
    }
}

#[test]
fn a_missing_field_is_an_error_or_none() {
    let without = |event: &str, field: &str| {
        let mut specs = specs();
        let spec = specs.iter_mut().find(|spec| spec.name == event).unwrap();
        spec.fields.retain(|known| known.name != field);
        File::of(4096, specs, &of_text()).version6()
    };
    let (found, _) = read(&without("switch_mm", "lazy"));
    let lazy = found.iter().filter_map(|event| match event.kind {
        Kind::SwitchMm(switch) => Some(switch.lazy),
        _ => None,
    });
    assert_eq!(lazy.collect::<Vec<_>>(), [None; 8]);
    let message = error(&without("switch_mm", "nctx"));
    assert!(
        message.starts_with("t.dat: CPU 1, in the page at byte ")
            && message.contains("switch_mm has no field `nctx=`"),
        "{message}"
    );
}

#[test]
fn compressed_files_are_read_through_a_temporary_file() {
    let file = file();
    let expected = of_text();
    // Larger than what is kept in memory.
    let mut large = file.clone();
    large.options.push((99, vec![7; 3 << 20]));
    for bytes in [large.version6(), large.version7(Pack::None)] {
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gz.write_all(&bytes).unwrap();
        let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 0);
        xz.write_all(&bytes).unwrap();
        let zstd = zstd::encode_all(bytes.as_slice(), 1).unwrap();
        for (compression, packed) in [
            (Compression::Gzip, gz.finish().unwrap()),
            (Compression::Xz, xz.finish().unwrap()),
            (Compression::Zstd, zstd),
        ] {
            let reader = TraceReader::new(packed.as_slice(), "t").unwrap();
            assert_eq!(reader.compression(), compression);
            let path = reader.summary().temporary_file.clone().unwrap();
            assert_eq!(path.metadata().unwrap().len(), bytes.len() as u64);
            assert_eq!(events(reader).unwrap().0, expected);
            assert!(!path.exists());
        }
    }
    let (found, summary) = read(&file.version6());
    assert_eq!((found, summary.temporary_file), (expected, None));
}

#[test]
fn a_plain_file_is_read_in_place() {
    let mut plain = tempfile::NamedTempFile::new().unwrap();
    plain.write_all(&file().version7(Pack::None)).unwrap();
    let mut reader = TraceReader::open(plain.path()).unwrap();
    assert_eq!(reader.summary().temporary_file, None);
    assert_eq!(reader.bytes_read(), 0);
    while reader.next_operation().unwrap().is_some() {}
    assert_eq!(reader.bytes_read(), plain.path().metadata().unwrap().len());
}

#[test]
fn times_follow_deltas_extensions_stamps_and_padding() {
    let specs = specs();
    let print = record_of(&specs, &of_text()[0]);
    let mut pages = Pages::new(4096);
    pages.push(1_000, &print);
    pages.push(1_000 + (5 << 27), &print);
    // Absolute: 2^40 + 7.
    pages.word(31 | 7 << 5);
    pages.word(1 << (40 - 27));
    pages.time_is((1 << 40) + 7);
    pages.push((1 << 40) + 9, &print);
    // A record that was taken back, of 12 bytes and 4 ns.
    pages.word(29 | 4 << 5);
    pages.word(8);
    pages.word(0xffff_ffff);
    pages.time_is((1 << 40) + 13);
    pages.push((1 << 40) + 20, &print);
    // The rest of the page is nothing.
    pages.word(29);
    pages.word(0);
    pages.end_page(0);
    pages.push(1 << 41, &[print[0], print[1], 0, 0, 1, 0, 0, 0].repeat(30));
    let mut file = File::of(4096, specs, &[]);
    file.cpus = vec![(0, pages.finish())];
    for bytes in all_versions(&file) {
        let times: Vec<_> = read(&bytes).0.iter().map(|event| event.time_ns).collect();
        let expected = [
            1_000,
            1_000 + (5 << 27),
            (1 << 40) + 9,
            (1 << 40) + 20,
            1 << 41,
        ];
        assert_eq!(times, expected);
    }
}

#[test]
fn lost_events_are_an_error() {
    let specs = specs();
    let print = record_of(&specs, &of_text()[0]);
    for (flags, count) in [(1_u64 << 31, "lost events"), (3 << 30, "lost 12 events")] {
        let mut pages = Pages::new(4096);
        pages.push(1_000, &print);
        pages.end_page(0);
        pages.push(2_000, &print);
        let at = 4096 + 16 + 4 + print.len().next_multiple_of(4);
        pages.end_page(flags);
        pages.done[at..at + 8].copy_from_slice(&12_u64.to_le_bytes());
        let mut file = File::of(4096, specs.clone(), &[]);
        file.cpus = (0..3).map(|cpu| (cpu, Vec::new())).collect();
        file.cpus.push((3, pages.finish()));
        for bytes in all_versions(&file) {
            let message = error(&bytes);
            assert!(message.contains(&format!("CPU 3 {count}")), "{message}");
        }
    }
    let mut file = file();
    let statistics = b"CPU: 2\nentries: 9\noverrun: 0\ncommit overrun: 0\ndropped events: 4\n\0";
    file.options.push((2, statistics.to_vec()));
    for bytes in all_versions(&file) {
        let message = error(&bytes);
        assert!(
            message.contains("CPU 2 has 4 events lost (dropped events)"),
            "{message}"
        );
    }
}

#[test]
fn other_groups_and_markers_forge_nothing() {
    let mut specs = specs();
    specs.push(Spec::new("mine", "sched_switch", 900, "pid_t next_pid"));
    specs.push(Spec::new("mmap", "exit_mmap", 901, "u64 mm;u64 ctx"));
    let mut events = of_text();
    let mut file = File::of(4096, specs.clone(), &events);
    let mut pages = Pages::new(4096);
    let forged = &specs[specs.len() - 2];
    pages.push(6_000_000_000, &forged.record(0, 8, &[("next_pid", 66)]));
    let forged = &specs[specs.len() - 1];
    pages.push(6_000_000_000, &forged.record(0, 8, &[("ctx", 66)]));
    let mut marker = specs[0].record(0, 8, &[]);
    marker.truncate(16);
    marker.extend(b"sh-1 [000] d..2. 9.000000: mmdrop: mm=0x1 ctx=7\n\0");
    pages.push(6_000_000_000, &marker);
    file.cpus.push((4, pages.finish()));
    for bytes in all_versions(&file) {
        let (found, summary) = read(&bytes);
        events.truncate(52);
        assert_eq!(found[..52], events);
        let kinds: Vec<_> = found[52..].iter().map(|event| event.kind).collect();
        assert_eq!(kinds, [Kind::Other; 3]);
        assert_eq!(summary.events_named("mine:sched_switch"), 1);
        assert_eq!(summary.events_named("mmap:exit_mmap"), 1);
    }
}

#[test]
fn two_groups_of_one_meaning_are_refused_where_both_have_events() {
    let mut specs = specs();
    specs.push(Spec::new("mine", "mmdrop", 900, "u64 mm;u64 ctx"));
    let mut file = File::of(4096, specs.clone(), &of_text());
    assert_eq!(read(&file.version6()).0, of_text());
    let mut pages = Pages::new(4096);
    let second = specs[specs.len() - 1].record(0, 8, &[("mm", 1), ("ctx", 66)]);
    pages.push(6_000_000_000, &second);
    file.cpus.push((4, pages.finish()));
    let message = error(&file.version6());
    assert!(
        message.contains("events named mmdrop come from two groups, tlbk and mine"),
        "{message}"
    );
}

#[test]
fn the_instance_that_has_the_events_is_read_and_named() {
    let specs = specs();
    let mut file = File::of(4096, specs.clone(), &of_text()[..1]);
    let instance = cpus_of(4096, &specs, &of_text());
    file.instances.push(("flushes".to_owned(), instance));
    file.cpus.resize(4, (0, Vec::new()));
    for (cpu, place) in (0..).zip(&mut file.cpus) {
        place.0 = cpu;
    }
    for bytes in all_versions(&file) {
        let (found, summary) = read(&bytes);
        assert_eq!(found, of_text());
        assert_eq!(summary.buffer.as_deref(), Some("flushes"));
        let warning = "the file holds several instances; read: flushes; not read: the top instance";
        assert_eq!(summary.warnings()[0], warning);
    }
}

#[test]
fn clocks_count() {
    let mut file = file();
    file.clock = "counter".to_owned();
    for bytes in all_versions(&file) {
        let message = error(&bytes);
        assert!(message.contains("trace clock `counter`"), "{message}");
    }
    file.clock = "x86-tsc".to_owned();
    assert!(error(&file.version6()).contains("trace clock `x86-tsc`"));
    let scale = [1 << 31, 32, 0, 0].map(u32::to_le_bytes).concat();
    file.options.push((14, scale));
    file.options.push((7, b"-17\0".to_vec()));
    for bytes in all_versions(&file) {
        let expected = of_text()[0].time_ns / 2 - 17;
        assert_eq!(read(&bytes).0[0].time_ns, expected);
    }
}

#[test]
fn what_is_not_read_says_why() {
    let plain = file().version7(Pack::None);
    let changed = |at: usize, byte: u8| {
        let mut bytes = plain.clone();
        bytes[at] = byte;
        error(&bytes)
    };
    assert!(changed(10, b'5').contains("version \"5\" of the format"));
    assert!(changed(12, 1).contains("a big-endian machine"));
    assert!(changed(13, 4).contains("a 32-bit machine"));
    assert!(changed(18, b'l').contains("compressed by \"lone\""));
    let version6 = file().version6();
    let at = version6.windows(10).position(|part| part == b"flyrecord\0");
    let mut latency = version6.clone();
    latency[at.unwrap()..][..10].copy_from_slice(b"latency  \0");
    assert!(error(&latency).contains("a latency tracer's text"));
}

#[test]
fn an_unknown_number_is_told() {
    let mut file = file();
    let mut pages = Pages::new(4096);
    pages.push(6_000_000_000, &[0xee, 0xee, 0, 0, 9, 0, 0, 0]);
    file.cpus.push((4, pages.finish()));
    let (found, summary) = read(&file.version7(Pack::Zlib));
    assert_eq!((found.len(), found[52].pid), (53, 9));
    let warning = "1 events have no format in the file and were not understood";
    assert_eq!(summary.warnings()[0], warning);
}

#[test]
fn thousands_of_cpus_cost_no_memory() {
    let specs = specs();
    let events = of_text();
    let mut file = File::of(4096, specs.clone(), &events);
    for cpu in 4..4096 {
        let mut pages = Pages::new(4096);
        for page in 0..10 {
            pages.push(6_000_000_000 + page, &record_of(&specs, &events[0]));
            pages.end_page(0);
        }
        file.cpus.push((cpu, pages.finish()));
    }
    let bytes = file.version7(Pack::Zstd);
    drop(file);
    let before = peak_kib();
    let reader = TraceReader::new(bytes.as_slice(), "t").unwrap();
    assert!(reader.summary().temporary_file.is_some());
    assert_eq!(events_count(reader), 52 + 4092 * 10);
    let grown = peak_kib().saturating_sub(before);
    assert!(grown < 64 << 10, "{grown} KiB");
}

fn events_count<R: Read>(mut reader: TraceReader<R>) -> u64 {
    while reader.next_operation().unwrap().is_some() {}
    reader.summary().events
}

/// The most memory that this process had; 0 where Linux does not tell.
fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.unwrap_or(0)
}

/// The shared recordings as trace.dat: event by event what the text has, times to the microsecond.
#[test]
fn recordings_have_the_events_of_their_text() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    for workload in ["forkexec", "threads", "mixed"] {
        let name = format!("linux61-smp8-{workload}.trace");
        let at = |end| {
            root.join("../shared/traces")
                .join(format!("{name}.{end}.xz"))
        };
        if !at("dat").exists() {
            eprintln!("skipped: {} is not there", at("dat").display());
            continue;
        }
        let (text, _) = events(TraceReader::open(at("txt")).unwrap()).unwrap();
        let (dat, summary) = events(TraceReader::open(at("dat")).unwrap()).unwrap();
        assert_eq!(summary.cpus_announced, Some(8));
        assert_eq!(summary.warnings(), Vec::<String>::new());
        assert_eq!(text.len(), dat.len());
        for (text, dat) in text.iter().zip(&dat) {
            assert!(
                dat.time_ns.abs_diff(text.time_ns) < 1000,
                "{dat:?}, {text:?}"
            );
            let rounded = Event {
                time_ns: text.time_ns,
                ..*dat
            };
            assert_eq!(rounded, *text);
        }
    }
}

/// Recorded in a guest of QEMU (Linux 6.1, 8 CPUs; the first pages of each), written by Debian's trace-cmd 3.1.6 with zstd.
#[test]
fn a_file_of_trace_cmd_is_read() {
    let bytes = include_bytes!("fixture/qemu-v7-zstd.trace.dat");
    let (events, summary) = read(bytes);
    assert_eq!(events.len(), 1190);
    let (first, last) = (events[0], events[events.len() - 1]);
    assert_eq!((first.cpu, first.time_ns), (3, 8_120_687_839));
    assert_eq!((last.cpu, last.time_ns), (5, 8_605_974_556));
    assert_eq!(summary.cpus().count(), 8);
    assert_eq!(summary.clock.as_deref(), Some("local"));
}

#[test]
fn a_recording_may_bring_the_tasks_that_ran_before() {
    let mut file = file();
    let snapshot =
        b"idle-state 1 C1 2\ntask 1 1 init 1\ntask 2 2 kthreadd 0\ninterrupts start TLB 17 4\n\
          interrupts start RES 8 9\ninterrupts end TLB 19 9\ninterrupts end RES 9 9\0";
    file.options.push((0x4c54, snapshot.to_vec()));
    for bytes in all_versions(&file) {
        let (found, summary) = read(&bytes);
        assert_eq!(found, of_text());
        let task = |tid, has_mm| SnapshotTask {
            tid,
            tgid: tid,
            has_mm,
        };
        let tasks = summary.tasks.unwrap();
        assert_eq!(tasks.tasks(), [task(1, true), task(2, false)]);
        assert_eq!(
            summary.counted_shootdowns,
            Some(CountedShootdowns::Known(7))
        );
        let states = summary.idle_states.unwrap();
        let state = states.state(0, IdleStateIndex::new(1).unwrap()).unwrap();
        assert_eq!(
            (state.name.as_str(), state.exit_latency_us),
            ("C1", Some(2))
        );
    }
    file.options.last_mut().unwrap().1 = b"idle-state 1 C1 2\0".to_vec();
    assert_eq!(read(&file.version6()).1.tasks, None);
    file.options.last_mut().unwrap().1 = b"idle-state one\0".to_vec();
    assert!(error(&file.version6()).contains("the snapshot of idle states"));
    file.options.last_mut().unwrap().1 = b"task one\0".to_vec();
    assert!(error(&file.version6()).contains("the snapshot of tasks"));
    file.options.last_mut().unwrap().1 = b"idle-state 1 C1 2\ninterrupts end TLB 1 x\0".to_vec();
    let error = error(&file.version6());
    assert!(error.contains("line 2 of the snapshot"), "{error}");
    assert!(error.contains("\"interrupts end TLB 1 x\""), "{error}");
}

#[test]
fn counters_of_interrupts_that_were_read_once_are_a_warning() {
    let mut file = file();
    let snapshot = b"interrupts start TLB 17 4\0";
    file.options.push((0x4c54, snapshot.to_vec()));
    let warnings = read(&file.version6()).1.warnings();
    let expected = "the recording's counters of interrupts are compared with nothing: they were not read both at its start \
                    and at its end";
    assert!(warnings.iter().any(|it| it == expected), "{warnings:?}");
}
