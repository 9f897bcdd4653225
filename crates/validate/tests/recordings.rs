//! The project's own recordings, whole, without their kprobes, and broken.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod compared;
mod kprobes;

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

use compared::{compared, percent};
use kprobes::is_kprobe;
use lazytlb_validate::{Agreement, Decision, KernelRule};

fn text(workload: &str) -> String {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
    let name = format!("linux61-smp8-{workload}.trace.txt.xz");
    let mut text = Vec::new();
    let file = File::open(root.join("traces").join(name)).unwrap();
    let mut reader = liblzma::read::XzDecoder::new(file);
    reader.read_to_end(&mut text).unwrap();
    String::from_utf8_lossy(&text).into_owned()
}

/// Keeps the lines that `keep` wants, as it changes them; the header's count would be wrong.
fn changed(text: &str, keep: impl Fn(&str) -> Option<String>) -> String {
    let lines = text
        .lines()
        .filter(|line| !line.contains("entries-in-buffer"));
    lines.filter_map(keep).map(|line| line + "\n").collect()
}

fn without_kprobes(text: &str) -> String {
    changed(text, |line| (!is_kprobe(line)).then(|| line.to_owned()))
}

fn compare(text: &str) -> Agreement {
    compared(text.as_bytes(), None)
}

#[test]
fn the_shipped_recordings_do_what_their_kernel_does() {
    for (workload, recorded, within) in [("threads", 9545, 20), ("mixed", 2159, 20)] {
        let mut agreement = compare(&text(workload));
        agreement.count(recorded);
        assert_eq!(agreement.rule, KernelRule::LinuxTo613TrimBackported);
        assert!(!agreement.pcids);
        assert_eq!(
            agreement.contradictions(),
            Vec::<String>::new(),
            "{workload}"
        );
        assert!(percent(&agreement, Decision::Switch) > 99.5);
        assert!(percent(&agreement, Decision::Path) > 99.8);
        assert!(percent(&agreement, Decision::Targets) >= 96.5);
        let shootdowns = agreement.shootdowns;
        assert_eq!(shootdowns.recorded, recorded);
        assert!(shootdowns.replayed.abs_diff(recorded) < within);
        assert!((shootdowns.lowest..=shootdowns.highest).contains(&recorded));
        for kind in &agreement.kinds {
            assert_eq!(kind.unexplained(), 0, "{kind:?}");
        }
    }
}

/// Leaves out each hundredth handler that serves another CPU.
fn without_some_arrivals(text: &str) -> String {
    let of_itself = |line: &str| {
        let (_, cpu) = line.split_once('[').unwrap();
        let cpu = cpu.split(']').next().unwrap().parse::<u32>().unwrap();
        line.contains(&format!("initcpu={cpu} "))
    };
    let arrivals = std::cell::Cell::new(0_u32);
    changed(text, |line| {
        if line.contains(": flush_func: ") && !of_itself(line) {
            arrivals.set(arrivals.get() + 1);
            if arrivals.get().is_multiple_of(100) {
                return None;
            }
        }
        Some(line.to_owned())
    })
}

#[test]
fn no_class_explains_interrupts_that_did_not_arrive() {
    for (workload, lost) in [("threads", 95), ("mixed", 21)] {
        let whole = text(workload);
        let of = |agreement: Agreement| {
            let mut kinds = agreement.kinds.into_iter();
            let kind = kinds.find(|kind| kind.decision == Decision::Interrupted);
            let kind = kind.unwrap();
            (kind.compared - kind.agreed, kind.unexplained())
        };
        let (before, _) = of(compare(&whole));
        let (after, unexplained) = of(compare(&without_some_arrivals(&whole)));
        // The rest had a switch to another state in their window by chance.
        assert!(after - before >= lost * 9 / 10, "{workload}");
        assert!(unexplained >= (after - before) * 3 / 4, "{workload}");
    }
}

#[test]
fn without_kprobes_switches_agree_and_bounds_hold_the_truth() {
    for (workload, truth, switches) in [("threads", 9545, 99.1), ("mixed", 2159, 99.6)] {
        let agreement = compare(&without_kprobes(&text(workload)));
        assert_eq!(agreement.rule, KernelRule::LinuxTo613);
        assert_eq!(
            agreement.contradictions(),
            Vec::<String>::new(),
            "{workload}"
        );
        assert!(
            percent(&agreement, Decision::Switch) > switches,
            "{workload}"
        );
        let shootdowns = agreement.shootdowns;
        assert!(!shootdowns.recorded_all && shootdowns.recorded < truth);
        assert!(shootdowns.replayed.abs_diff(truth) <= truth / 50);
        assert!((shootdowns.lowest..=shootdowns.highest).contains(&truth));
        // What lazy CPUs do tells whether tables are freed, so it is not counted as agreement.
        let of = |decision| {
            agreement
                .kinds
                .iter()
                .find(|kind| kind.decision == decision)
        };
        assert_eq!(of(Decision::Skipped).unwrap().compared, 0);
    }
}

#[test]
fn broken_recordings_are_refused() {
    let (mixed, threads) = (text("mixed"), text("threads"));
    let constant_ctx = |line: &str| match line.split_once("ctx=") {
        Some((before, after)) => {
            let after = after.trim_start_matches(|digit: char| digit.is_ascii_digit());
            Some(format!("{before}ctx=58{after}"))
        }
        None => Some(line.to_owned()),
    };
    let without_cpu = |line: &str| (!line.contains("[003]")).then(|| line.to_owned());
    let inverted = |line: &str| {
        let line = line.replace("freed=1", "freed=x");
        let line = line.replace("freed=0", "freed=1");
        Some(line.replace("freed=x", "freed=0"))
    };
    let never_freed = |line: &str| Some(line.replace("freed=1", "freed=0"));
    let no_flags = |line: &str| Some(line.replace(" d.h", " d.."));
    let no_tasks = |line: &str| {
        let tasks = line.contains("task_newtask") || line.contains("sched_process_exec");
        (!tasks).then(|| line.to_owned())
    };
    for (what, broken) in [
        ("a wrong offset of ctx", changed(&mixed, constant_ctx)),
        ("a CPU's events missing", changed(&mixed, without_cpu)),
        ("freed inverted", changed(&mixed, inverted)),
        ("freed never", changed(&threads, never_freed)),
        (
            "a CPU missing, tracepoints",
            without_kprobes(&changed(&threads, without_cpu)),
        ),
        (
            "flags hidden, tracepoints",
            without_kprobes(&changed(&mixed, no_flags)),
        ),
        (
            "no tasks, tracepoints",
            without_kprobes(&changed(&mixed, no_tasks)),
        ),
    ] {
        assert_ne!(
            compare(&broken).contradictions(),
            Vec::<String>::new(),
            "{what}"
        );
    }
}
