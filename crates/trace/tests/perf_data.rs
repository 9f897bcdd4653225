//! perf.data: the same events as text, in the order of time; what is not whole is an error.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod all_events;
mod dat_writer;
mod fixture;
mod peak_memory;
mod perf_writer;

use std::io::Write;

use all_events::events;
use lazytlb_trace::{Context, Event, Kind, PerfDataProblem, TraceError, TraceReader};
use perf_writer::{CALLCHAIN, CPU, ID_INDEX, Perf, RAW, READ, record, words};

/// The fixture's events. Text has one event more that means nothing than the formats tell: all are read alike.
fn fixture_events() -> Vec<Event> {
    let mut events = events(fixture::TRACE.as_bytes()).unwrap();
    for event in &mut events {
        if event.context == Context::Unknown {
            event.context = Context::Task;
        }
    }
    events
}

fn problem(bytes: &[u8]) -> PerfDataProblem {
    match events(bytes).unwrap_err() {
        TraceError::PerfData { problem, .. } => problem,
        other => panic!("{other}"),
    }
}

#[test]
fn rounds_of_any_size_come_out_in_the_order_of_time() {
    let expected = fixture_events();
    for round in [1, 2, 3, 7, 20, 100] {
        for dummy in [false, true] {
            let mut perf = Perf::of(&expected, round);
            perf.dummy = dummy;
            assert_eq!(events(&perf.bytes()).unwrap(), expected, "{round} {dummy}");
            assert_eq!(events(&perf.compressed(81)).unwrap(), expected);
            assert_eq!(events(&perf.compressed(83)).unwrap(), expected);
        }
    }
    // A file without marks is one round.
    let mut perf = Perf::of(&expected, 100);
    perf.records.pop();
    assert_eq!(events(&perf.bytes()).unwrap(), expected);
    // A CPU whose samples are written one round late.
    let mut late = Perf::new();
    let (other, slow): (Vec<_>, Vec<_>) = expected.iter().partition(|event| event.cpu != 0);
    late.push_rounds(&other, 100);
    late.push_rounds(&slow, 100);
    assert_eq!(events(&late.bytes()).unwrap(), expected);
}

#[test]
fn what_stands_before_the_fields_is_passed_over() {
    let expected = fixture_events();
    for more in [CALLCHAIN, READ, READ | CALLCHAIN] {
        let mut perf = Perf::new();
        perf.sample_type |= more;
        perf.push_rounds(&expected, 9);
        assert_eq!(events(&perf.bytes()).unwrap(), expected);
    }
}

#[test]
fn the_file_tells_kernel_cpus_and_clock() {
    let expected = fixture_events();
    let read = |perf: &Perf| {
        let bytes = perf.bytes();
        let mut reader = TraceReader::new(bytes.as_slice(), "t").unwrap();
        while reader.next_step().unwrap().is_some() {}
        reader.summary().clone()
    };
    let mut perf = Perf::of(&expected, 9);
    let summary = read(&perf);
    assert_eq!(summary.cpus_announced, Some(4));
    assert_eq!(summary.kernel.as_deref(), Some("6.1.test"));
    assert_eq!(summary.clock.as_deref(), Some("perf"));
    assert_eq!(summary.resolution_ns, Some(1));
    assert_eq!(summary.cpus().count(), 4);
    (perf.flags, perf.clock) = (1 << 25, 1);
    assert_eq!(read(&perf).clock.as_deref(), Some("mono"));
}

#[test]
fn compressed_and_large_files_need_a_temporary_file() {
    let expected = fixture_events();
    let bytes = Perf::of(&expected, 9).bytes();
    let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 1);
    xz.write_all(&bytes).unwrap();
    assert_eq!(events(&xz.finish().unwrap()).unwrap(), expected);
    let zstd = zstd::encode_all(bytes.as_slice(), 1).unwrap();
    assert_eq!(events(&zstd).unwrap(), expected);
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&bytes).unwrap();
    let mut reader = TraceReader::open(file.path()).unwrap();
    let mut read = 0;
    while reader.next_step().unwrap().is_some() {
        read += 1;
    }
    assert!(read > expected.len() && reader.summary().temporary_file.is_none());
}

#[test]
fn lost_samples_are_an_error() {
    let whole = Perf::of(&fixture_events(), 9);
    let with = |records: &[Vec<u8>]| {
        let data = [records, &whole.records].concat().concat();
        problem(&whole.bytes_with(&data))
    };
    let lost = |cpu, count| PerfDataProblem::Lost { cpu, count };
    let index = record(
        ID_INDEX,
        &words(&[2, 100, 0, 0, u64::MAX, 102, 2, 2, u64::MAX]),
    );
    assert_eq!(with(&[record(2, &words(&[102, 7]))]), lost(None, 7));
    assert_eq!(
        with(&[index.clone(), record(2, &words(&[102, 7]))]),
        lost(Some(2), 7)
    );
    assert_eq!(with(&[record(13, &words(&[9]))]), lost(None, 9));
    assert_eq!(with(&[record(2, &[])]), lost(None, 1));
    assert_eq!(
        with(&[record(5, &words(&[1, 102, 0]))]),
        PerfDataProblem::Throttled
    );
    let one_task = record(ID_INDEX, &words(&[1, 102, 0, 0, 555]));
    assert_eq!(with(&[one_task]), PerfDataProblem::SomeTasks);
    // None lost, another's throttling, records that are not known.
    let fine = [
        record(13, &words(&[0])),
        record(2, &words(&[102, 0])),
        record(5, &words(&[1, 202, 0])),
        record(77, &[1, 2, 3]),
        record(3, &[]),
        index,
    ];
    let data = [&fine[..], &whole.records].concat().concat();
    assert_eq!(events(&whole.bytes_with(&data)).unwrap(), fixture_events());
}

#[test]
fn recordings_that_hold_a_part_of_the_events_are_refused() {
    let expected = fixture_events();
    let change = |change: &dyn Fn(&mut Perf)| {
        let mut perf = Perf::new();
        change(&mut perf);
        perf.push_rounds(&expected, 9);
        problem(&perf.bytes())
    };
    assert_eq!(change(&|perf| perf.period = 3), PerfDataProblem::Sampled(3));
    assert_eq!(
        change(&|perf| perf.flags = 1 << 10),
        PerfDataProblem::Frequency
    );
    assert_eq!(
        change(&|perf| perf.sample_type ^= CPU),
        PerfDataProblem::NoField("CPU")
    );
    assert_eq!(
        change(&|perf| perf.sample_type ^= RAW),
        PerfDataProblem::NoField("fields (raw data)")
    );
    let whole = Perf::of(&expected, 9).bytes();
    let with = |at: usize, value: u64| {
        let mut bytes = whole.clone();
        bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
        problem(&bytes)
    };
    assert_eq!(with(8, 16), PerfDataProblem::Pipe);
    assert_eq!(with(48, 0), PerfDataProblem::Unfinished);
    assert_eq!(with(72, 0), PerfDataProblem::NoTracepoints);
    assert_eq!(problem(b"2ELIFREP\0\0\0\0"), PerfDataProblem::BigEndian);
}

#[test]
fn a_sample_that_comes_too_late_is_an_error() {
    let expected = fixture_events();
    let mut perf = Perf::of(&expected, 5);
    let late = perf.sample(&expected[0]);
    perf.records.push(late);
    let found = events(&perf.bytes()).unwrap_err();
    assert!(
        matches!(found, TraceError::Sample { cpu: 0, .. }),
        "{found}"
    );
    assert!(found.to_string().contains("time runs backwards"), "{found}");
}

#[test]
fn a_task_that_runs_twice_at_once_shows_that_the_clocks_differ() {
    let switch = |cpu: u16, time_ns: u64, next| Event {
        cpu,
        time_ns,
        pid: 0,
        context: Context::Task,
        kind: Kind::SchedSwitch { next },
    };
    let mut apart = Vec::new();
    for round in 0..50_u64 {
        let time = round * 10;
        apart.extend([switch(0, time, 7), switch(1, time + 1, 7)]);
        apart.extend([switch(0, time + 2, 0), switch(1, time + 3, 0)]);
    }
    let mut perf = Perf::of(&apart, 10);
    assert!(
        problem(&perf.bytes())
            .to_string()
            .contains("was not in step")
    );
    (perf.flags, perf.clock) = (1 << 25, 1);
    assert!(!matches!(
        events(&perf.bytes()),
        Err(TraceError::PerfData { .. })
    ));
}

/// Reads to the end or to an error.
fn read(bytes: &[u8]) -> Result<usize, String> {
    events(bytes)
        .map(|events| events.len())
        .map_err(|error| error.to_string())
}

fn small() -> Perf {
    let mut expected = fixture_events();
    let mut perf = Perf::new();
    let few = ["switch_mm", "enter_lazy", "flush_mm_range", "sched_switch"];
    perf.specs.retain(|spec| few.contains(&spec.name.as_str()));
    expected.retain(|event| {
        matches!(
            event.kind,
            Kind::SwitchMm(_)
                | Kind::EnterLazy { .. }
                | Kind::FlushMmRange(_)
                | Kind::SchedSwitch { .. }
        )
    });
    perf.push_rounds(&expected, 9);
    let index = [2, 100, 0, 0, u64::MAX, 101, 0, 1, u64::MAX];
    perf.records.insert(0, record(ID_INDEX, &words(&index)));
    perf
}

#[test]
fn a_cut_at_any_byte_is_an_error() {
    for bytes in [small().bytes(), small().compressed(81)] {
        assert!(read(&bytes).is_ok());
        // What stands last says nothing here: the names of functions, and the numbers of CPUs are needed.
        for length in 0..bytes.len() {
            assert!(
                read(&bytes[..length]).is_err(),
                "{length} of {}",
                bytes.len()
            );
        }
    }
}

#[test]
fn any_changed_byte_ends_in_events_or_an_error() {
    for bytes in [
        small().bytes(),
        small().compressed(81),
        small().compressed(83),
    ] {
        let mut changed = bytes.clone();
        for at in 0..bytes.len() {
            for mask in [1, 2, 0x10, 0x80, 0xff] {
                changed[at] ^= mask;
                if let Err(error) = read(&changed) {
                    assert!(!error.is_empty());
                }
                changed[at] ^= mask;
            }
        }
    }
    peak_memory::assert_small();
}

#[test]
fn a_compressed_record_that_grows_without_end_is_read_in_little_memory() {
    let perf = Perf::of(&fixture_events(), 9);
    // Records that mean nothing, 200 MB of them, in a few KB.
    let nothing = record(77, &[0; 60_000]);
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
    for _ in 0..3300 {
        encoder.write_all(&nothing).unwrap();
    }
    let packed = encoder.finish().unwrap();
    let mut data: Vec<u8> = packed
        .chunks(60_000)
        .flat_map(|part| record(81, part))
        .collect();
    let rest = zstd::encode_all(perf.records.concat().as_slice(), 1).unwrap();
    data.extend(record(81, &rest));
    assert_eq!(read(&perf.bytes_with(&data)), Ok(fixture_events().len()));
}
