//! `lazytlb validate`, and what `price` says of a recording that contradicts itself.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn shipped(workload: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../traces");
    root.join(format!("linux61-smp8-{workload}.trace.txt.xz"))
}

fn lazytlb(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lazytlb"));
    command.args(arguments).output().unwrap()
}

#[test]
fn the_shipped_recordings_agree() {
    for workload in ["threads", "mixed"] {
        let path = shipped(workload);
        let output = lazytlb(&["validate", "--json", path.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(0));
        let record: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(record["agree"], true);
        assert_eq!(record["rule"], "Linux to 6.13, trim backported");
        assert_eq!(record["decisions"].as_array().unwrap().len(), 6);
    }
}

#[test]
fn a_wrong_probe_offset_is_not_priced_unless_told_so() {
    let mut text = String::new();
    let file = File::open(shipped("mixed")).unwrap();
    let mut reader = liblzma::read::XzDecoder::new(file);
    reader.read_to_string(&mut text).unwrap();
    let broken: Vec<String> = text
        .lines()
        .map(|line| match line.split_once("ctx=") {
            Some((before, after)) => {
                let rest = after.trim_start_matches(|digit: char| digit.is_ascii_digit());
                format!("{before}ctx=58{rest}\n")
            }
            None => format!("{line}\n"),
        })
        .collect();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("broken.txt");
    std::fs::write(&path, broken.concat()).unwrap();
    let path = path.to_str().unwrap();
    let output = lazytlb(&["validate", path]);
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        told.contains("the offset of `ctx` in the kprobes is wrong"),
        "{told}"
    );
    let output = lazytlb(&["price", path, "--policy", "ipi"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--unvalidated"));
    let output = lazytlb(&["price", path, "--policy", "ipi", "--unvalidated"]);
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn counters_need_two_rows() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("counters.txt");
    std::fs::write(&path, "TLB: 1 2 TLB shootdowns\n").unwrap();
    let counters = path.to_str().unwrap();
    let trace = shipped("mixed");
    let trace = trace.to_str().unwrap();
    let output = lazytlb(&["validate", trace, "--counters", counters]);
    assert_eq!(output.status.code(), Some(2));
    std::fs::write(&path, "TLB: 1 2 TLB shootdowns\nTLB: 1000 1162 TLB\n").unwrap();
    let output = lazytlb(&["validate", trace, "--counters", counters]);
    assert_eq!(output.status.code(), Some(0));
    std::fs::write(&path, "TLB: 1 2 TLB shootdowns\nTLB: 9000 1162 TLB\n").unwrap();
    let output = lazytlb(&["validate", trace, "--counters", counters]);
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn what_would_change_nothing_here_is_refused() {
    let path = shipped("mixed");
    let command = [
        "validate",
        path.to_str().unwrap(),
        "--idle-states",
        "/dev/null",
    ];
    let output = lazytlb(&command);
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("--idle-states changes prices"), "{said}");
}
