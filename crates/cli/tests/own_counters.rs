//! The counters of interrupts that a recording brings along, in `validate` and `price`.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

#[path = "../../trace/tests/dat_writer/mod.rs"]
mod dat_writer;
mod program;

use dat_writer::{File, specs};
use lazytlb_trace::{Event, Step, TraceReader};
use program::{lazytlb, shipped_trace};
use serde_json::Value;

/// What the handlers of the shipped recording `mixed` are, by its own counters too.
const MIXED: u64 = 2159;
/// The option of `lazytlb record` in a trace.dat.
const SNAPSHOT: u16 = 0x4c54;

/// Writes the shipped recording `mixed` as a trace.dat whose counters rose by so many, over two CPUs.
fn recording(rose: u64) -> tempfile::NamedTempFile {
    let mut reader = TraceReader::open(shipped_trace("linux61-smp8-mixed.trace.txt.xz")).unwrap();
    let mut events: Vec<Event> = Vec::new();
    while let Some(step) = reader.next_step().unwrap() {
        if let Step::Event(event) = step {
            events.push(*event);
        }
    }
    let mut file = File::of(4096, specs(), &events);
    let lines = format!(
        "interrupts start RES 5 5\ninterrupts start TLB 17 4\ninterrupts end RES 6 6\ninterrupts end TLB 18 {}\0",
        4 + rose - 1
    );
    file.options.push((SNAPSHOT, lines.into_bytes()));
    let written = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(written.path(), file.version6()).unwrap();
    written
}

fn validated(arguments: &[&str]) -> Value {
    let run = lazytlb(&[&["validate", "--json"], arguments].concat());
    run.json().remove(0)
}

#[test]
fn the_recordings_own_counters_are_compared_and_given_ones_win() {
    let (right, wrong) = (recording(MIXED), recording(2 * MIXED));
    let record = validated(&[right.path().to_str().unwrap()]);
    assert_eq!(record["agree"], true, "{record}");
    assert_eq!(record["shootdowns"]["counted"], MIXED);

    let wrong = wrong.path().to_str().unwrap();
    let record = validated(&[wrong]);
    assert_eq!(record["agree"], false);
    let expected = "the interrupt counters say 4318 shootdowns, the recording has 2159";
    assert_eq!(record["contradictions"], serde_json::json!([expected]));

    let given = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(given.path(), "TLB: 0 0\nTLB: 2000 159\n").unwrap();
    let record = validated(&[wrong, "--counters", given.path().to_str().unwrap()]);
    assert_eq!(record["agree"], true, "{record}");
    assert_eq!(record["shootdowns"]["counted"], MIXED);
}

#[test]
fn a_recording_that_its_own_counters_contradict_is_not_priced_unless_told_so() {
    let wrong = recording(2 * MIXED);
    let price = ["price", wrong.path().to_str().unwrap(), "--policy", "ipi"];
    let run = lazytlb(&price);
    assert_eq!(run.exit_code, 2);
    assert!(
        run.stderr
            .contains("the interrupt counters say 4318 shootdowns"),
        "{}",
        run.stderr
    );
    let run = lazytlb(&[&price[..], &["--unvalidated"]].concat());
    assert_eq!(run.exit_code, 0);
    let told = "2,159 shootdowns (4,318 by the interrupt counters)";
    assert!(run.stdout.contains(told), "{}", run.stdout);
}
