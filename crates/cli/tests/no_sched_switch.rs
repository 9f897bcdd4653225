//! Recordings with kprobes and without `sched_switch`: whether a lazy CPU idles.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod program;

use program::lazytlb;
use serde_json::Value;

/// CPU 1 goes lazy in a space; CPU 0 flushes it, and frees tables.
const TRACE: &str = "\
 sh-100 [000] d.Z1. 10.000001: switch_mm: next=0xf0 tsk=0xe0 nctx=7
 job-101 [001] d.Z1. 10.000002: switch_mm: next=0xf0 tsk=0xe8 nctx=7
 job-101 [001] d.Z1. 10.000004: enter_lazy: mm=0xf0 tsk=0xd0 loaded=0xf0
 sh-100 [000] d.Z.. 10.000009: flush_mm_range: mm=0xf0 start=0x1000 end=0x3000 stride=12 freed=1 ctx=7
";

fn priced(text: &str) -> Value {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    let path = file.path().to_str().unwrap();
    let run = lazytlb(&["price", "--json", path, "--policy", "ipi-on-table-free"]);
    assert_eq!(run.exit_code, 0, "{}", run.stderr);
    run.json().remove(0)
}

/// IPIs to CPUs on kernel threads, and to idle ones.
fn lazy_and_idle(counts: &Value) -> (u64, u64) {
    let of = |name: &str| counts[name].as_u64().unwrap();
    (of("ipis_to_lazy"), of("ipis_to_idle"))
}

#[test]
fn an_ipi_to_a_cpu_of_which_nothing_tells_is_a_range_with_a_warning() {
    let record = priced(TRACE);
    assert_eq!(lazy_and_idle(&record), (1, 0), "{record}");
    assert_eq!(lazy_and_idle(&record["counts_if_freed"]), (0, 1));
    assert!(
        record["warnings"].to_string().contains("1 of 1 times"),
        "{record}"
    );
}

#[test]
fn an_event_of_the_idle_task_leaves_no_range() {
    let idles = " <idle>-0 [001] d..1. 10.000012: cpu_idle: state=1 cpu_id=1\n";
    let record = priced(&format!("{TRACE}{idles}"));
    assert_eq!(lazy_and_idle(&record), (0, 1), "{record}");
    assert!(record.get("counts_if_freed").is_none_or(Value::is_null));
    let told = "no sched_switch event: whether a lazy CPU idles is told by its next event";
    let warnings = record["warnings"].as_array().unwrap();
    assert!(warnings.iter().any(|warning| warning == told), "{record}");
}
