//! The project's own recordings, whole, without their kprobes, and broken.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

use lazytlb_trace::TraceReader;
use lazytlb_validate::{Agreement, Class, Decision, KernelRule, Validation};

const KPROBES: [&str; 8] = [
    ": switch_mm: ",
    ": enter_lazy: ",
    ": flush_mm_range: ",
    ": flush_multi: ",
    ": flush_func: ",
    ": exit_mmap: ",
    ": mmdrop: ",
    ": leave_mm: ",
];

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
    let is_kprobe = |line: &str| KPROBES.iter().any(|name| line.contains(name));
    changed(text, |line| (!is_kprobe(line)).then(|| line.to_owned()))
}

fn compare(text: &str) -> Agreement {
    let mut reader = TraceReader::new(text.as_bytes(), "test").unwrap();
    let mut validation = Validation::new();
    while let Some(step) = reader.next_step().unwrap() {
        validation.step(&step);
    }
    validation.finish()
}

fn percent(agreement: &Agreement, decision: Decision) -> f64 {
    let kind = agreement
        .kinds
        .iter()
        .find(|kind| kind.decision == decision);
    100.0 * kind.unwrap().share()
}

#[test]
fn the_shipped_recordings_do_what_their_kernel_does() {
    for (workload, recorded, within) in [("threads", 9545, 100), ("mixed", 2159, 30)] {
        let mut agreement = compare(&text(workload));
        agreement.count(recorded);
        assert_eq!(agreement.rule, KernelRule::LinuxTo613TrimBackported);
        assert!(!agreement.pcids);
        assert_eq!(
            agreement.contradictions(),
            Vec::<String>::new(),
            "{workload}"
        );
        assert!(percent(&agreement, Decision::Switch) > 99.3);
        assert!(percent(&agreement, Decision::Path) > 99.8);
        assert!(percent(&agreement, Decision::Targets) >= 96.0);
        let shootdowns = agreement.shootdowns;
        assert_eq!(shootdowns.recorded, recorded);
        assert!(shootdowns.replayed.abs_diff(recorded) < within);
        assert!((shootdowns.lowest..=shootdowns.highest).contains(&recorded));
        for kind in &agreement.kinds {
            assert!(
                kind.unexplained() as f64 <= 0.01 * kind.compared as f64,
                "{kind:?}"
            );
        }
    }
}

#[test]
fn without_kprobes_switches_agree_and_bounds_hold_the_truth() {
    for (workload, truth, switches) in [("threads", 9545, 99.0), ("mixed", 2159, 99.0)] {
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

/// CPU 0 runs space 7 and flushes; CPU 1 runs it, or is lazy on it.
fn two_cpus(rest: &str) -> Agreement {
    let begin = "\
  <idle>-0 [000] d.Z1. 1.000001: switch_mm: () next=0xf0 tsk=0xe0 loaded=0xc0 lazy=0 nctx=7 ngen=1
  <idle>-0 [000] d..1. 1.000002: tlb_flush: pages:-1 reason:flush on task switch (0)
  <idle>-0 [001] d.Z1. 1.000003: switch_mm: () next=0xf0 tsk=0xe8 loaded=0xc0 lazy=0 nctx=7 ngen=1
  <idle>-0 [001] d..1. 1.000004: tlb_flush: pages:-1 reason:flush on task switch (0)
  b-9 [001] ..... 1.000005: sched_process_fork: child_pid=11
";
    let end = "\
  a-8 [000] d.Z1. 1.900000: enter_lazy: () mm=0xf0 tsk=0xd0 loaded=0xf0
";
    compare(&format!("{begin}{rest}{end}"))
}

/// A flush of CPU 0 at 1.5 s whose interrupts are sent to the CPUs in `sent`.
fn flush(mask: &str, sent: &str, more: &str) -> String {
    format!(
        "  a-8 [000] d.Z.. 1.500000: flush_mm_range: () mm=0xf0 start=0x1000 end=0x2000 stride=12 freed=0 ctx=7 gen=1 \
         mask={mask}\n  a-8 [000] d.Z.. 1.500001: flush_multi: () cpumask0={sent} mm=0xf0 newgen=2 initcpu=0 freed=0 \
         {more}\n  a-8 [000] d..1. 1.500002: tlb_flush: pages:1 reason:remote ipi send (4)\n  a-8 [000] d.Z.. \
         1.500003: flush_func: () mm=0xf0 newgen=2 initcpu=0 loaded=0xf0 localgen=1 mmgen=2\n"
    )
}

const ARRIVES: &str = "  b-9 [001] d.Z.. 1.500009: flush_func: () mm=0xf0 newgen=2 initcpu=0 loaded=0xf0 localgen=1 mmgen=2
";

fn classes(agreement: &Agreement, decision: Decision) -> Vec<(Class, u64)> {
    let kind = agreement
        .kinds
        .iter()
        .find(|kind| kind.decision == decision);
    kind.unwrap().classes.clone()
}

#[test]
fn each_class_has_its_evidence() {
    let interrupted = Decision::Interrupted;
    let good = two_cpus(&(flush("0x3", "0x3", "trim=0") + ARRIVES));
    assert_eq!(classes(&good, interrupted), []);
    assert_eq!(percent(&good, interrupted), 100.0);
    let silent = two_cpus(&flush("0x3", "0x3", "trim=0"));
    assert_eq!(classes(&silent, interrupted), [(Class::Unexplained, 1)]);
    let skipped = two_cpus(&flush("0x3", "0x1", "trim=0"));
    assert_eq!(
        classes(&skipped, interrupted),
        [(Class::ParavirtualSkip, 1)]
    );
    let goes = "  b-9 [001] d.Z1. 1.500004: enter_lazy: () mm=0xf0 tsk=0xd8 loaded=0xf0\n";
    let switched = two_cpus(&(flush("0x3", "0x3", "trim=0") + goes));
    assert_eq!(
        classes(&switched, interrupted),
        [(Class::SwitchInWindow, 1)]
    );
    let elsewhere = "\
  b-9 [001] d.Z1. 1.400000: switch_mm: () next=0xf8 tsk=0xe9 loaded=0xf0 lazy=0 nctx=8 ngen=1
  b-9 [001] d..1. 1.400001: tlb_flush: pages:-1 reason:flush on task switch (0)
  c-10 [001] ..... 1.400002: sched_process_fork: child_pid=12
";
    let trimmed = two_cpus(&format!(
        "{elsewhere}{}{ARRIVES}",
        flush("0x3", "0x3", "trim=1")
    ));
    assert_eq!(classes(&trimmed, interrupted), [(Class::Trim, 1)]);
}
