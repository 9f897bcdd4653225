//! The recordings beside the checkout, if they are there: text and trace.dat, with kprobes and with tracepoints alone.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod compared;
mod kprobes;

use std::io::Read;
use std::path::PathBuf;

use compared::{compared, percent};
use kprobes::{KPROBES, is_kprobe};
use lazytlb_validate::Decision;

/// By the interrupt counters, which the recorded handlers equal.
const TRUTH: [(&str, u64); 3] = [("threads", 9545), ("mixed", 2159), ("forkexec", 72)];
/// Sets of interrupted CPUs that come out exact, of 100.
const EXACT: [f64; 3] = [96.5, 97.0, 99.1];

/// Returns a recording's bytes; `None` where they are not.
fn recording(workload: &str, kind: &str) -> Option<Vec<u8>> {
    let beside = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/traces");
    let name = format!("linux61-smp8-{workload}.trace.{kind}.xz");
    let file = std::fs::File::open(beside.join(name)).ok()?;
    let mut bytes = Vec::new();
    let mut decoder = liblzma::read::XzDecoder::new(file);
    decoder.read_to_end(&mut bytes).unwrap();
    Some(bytes)
}

/// Leaves the lines of the kprobes out.
fn without_lines(text: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(text);
    let is_left = |line: &&str| !line.contains("entries-in-buffer") && !is_kprobe(line);
    let left = text.lines().filter(is_left);
    left.flat_map(|line| [line, "\n"])
        .collect::<String>()
        .into()
}

/// Gives the kprobes of a trace.dat names of the same length that say nothing.
fn renamed(dat: &[u8]) -> Vec<u8> {
    let mut dat = dat.to_vec();
    for name in KPROBES {
        let wanted = format!("name: {name}\n");
        let at = dat
            .windows(wanted.len())
            .position(|window| window == wanted.as_bytes());
        dat[at.unwrap() + "name: ".len()] = b'z';
    }
    dat
}

#[test]
fn with_kprobes_the_rule_does_what_the_kernel_did() {
    for ((workload, truth), exact) in TRUTH.into_iter().zip(EXACT) {
        for kind in ["txt", "dat"] {
            let Some(bytes) = recording(workload, kind) else {
                continue;
            };
            let agreement = compared(&bytes, None);
            let found = agreement.contradictions();
            assert_eq!(found, Vec::<String>::new(), "{workload}.{kind}");
            assert!(percent(&agreement, Decision::Switch) >= 99.5, "{workload}");
            assert!(
                percent(&agreement, Decision::Targets) >= exact,
                "{workload}"
            );
            assert!(percent(&agreement, Decision::Path) >= 99.8, "{workload}");
            assert_eq!(agreement.shootdowns.recorded, truth);
            for kind in &agreement.kinds {
                assert_eq!(kind.unexplained(), 0, "{workload}: {kind:?}");
            }
        }
    }
}

#[test]
fn tracepoints_alone_tell_the_shootdowns_within_two_percent_or_five() {
    for (workload, truth) in TRUTH {
        for kind in ["txt", "dat"] {
            let Some(bytes) = recording(workload, kind) else {
                continue;
            };
            let agreement = match kind {
                "txt" => compared(&without_lines(&bytes), None),
                _ => compared(&renamed(&bytes), None),
            };
            let found = agreement.contradictions();
            assert_eq!(found, Vec::<String>::new(), "{workload}.{kind}");
            assert!(percent(&agreement, Decision::Switch) >= 99.0, "{workload}");
            let shootdowns = agreement.shootdowns;
            let off = shootdowns.replayed.abs_diff(truth);
            assert!(off <= (truth / 50).max(5), "{workload}: {shootdowns:?}");
            assert!((shootdowns.lowest..=shootdowns.highest).contains(&truth));
        }
    }
}
