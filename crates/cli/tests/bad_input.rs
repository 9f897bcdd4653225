//! What a newcomer sees who gets something wrong: a clear error, exit code 2, never a panic.

#![allow(clippy::unwrap_used)] // A test that fails is to panic.

mod program;

use std::fs;
use std::io::Write;
use std::path::PathBuf;

use program::{lazytlb, shipped_trace};
use tempfile::TempDir;

/// A directory with the beginning of a real recording, as text.
struct Files {
    dir: TempDir,
    text: String,
}

impl Files {
    fn new() -> Files {
        let xz = fs::File::open(shipped_trace("linux61-smp8-mixed.trace.txt.xz")).unwrap();
        let text = std::io::read_to_string(liblzma::read::XzDecoder::new(xz)).unwrap();
        // Without the line that announces how many events there are: this is a piece.
        let lines = text
            .lines()
            .filter(|line| !line.contains("entries-in-buffer"))
            .take(4000);
        let text = lines.map(|line| format!("{line}\n")).collect();
        Files {
            dir: tempfile::tempdir().unwrap(),
            text,
        }
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    }
}

/// Prices a file that must be refused, and returns the error.
fn refused(path: &std::path::Path) -> String {
    for command in ["price", "decide"] {
        let run = lazytlb(&[command, path.to_str().unwrap()]);
        assert_eq!(
            run.exit_code,
            2,
            "{command} {}: {}{}",
            path.display(),
            run.stdout,
            run.stderr
        );
        assert!(!run.stderr.contains("panicked"), "{}", run.stderr);
        assert!(
            run.stdout.is_empty(),
            "nothing is printed as if it were a result"
        );
    }
    let stderr = lazytlb(&["price", path.to_str().unwrap()]).stderr;
    let name = path.file_name().unwrap().to_str().unwrap();
    assert!(
        stderr.starts_with("error: ") && stderr.contains(name),
        "it names the file: {stderr}"
    );
    stderr
}

#[test]
fn a_piece_of_a_recording_is_priced_as_text_gz_and_xz_whatever_its_name() {
    let files = Files::new();
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(files.text.as_bytes()).unwrap();
    let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 1);
    xz.write_all(files.text.as_bytes()).unwrap();
    let contents = [
        files.text.clone().into_bytes(),
        gz.finish().unwrap(),
        xz.finish().unwrap(),
    ];
    let priced = contents.map(|bytes| {
        let path = files.write("a.misleading.name.zip", bytes);
        let run = lazytlb(&["price", path.to_str().unwrap(), "--policy", "ipi", "--json"]);
        assert_eq!(run.exit_code, 0, "{}", run.stderr);
        run.stdout
    });
    assert!(priced.iter().all(|counts| *counts == priced[0]));
}

#[test]
fn truncated_compressed_files_say_so() {
    let files = Files::new();
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(files.text.as_bytes()).unwrap();
    let gz = gz.finish().unwrap();
    let xz = fs::read(shipped_trace("linux61-smp8-mixed.trace.txt.xz")).unwrap();
    for (name, bytes) in [("cut.gz", &gz), ("cut.xz", &xz)] {
        let error = refused(&files.write(name, &bytes[..bytes.len() * 2 / 3]));
        assert!(error.contains("cut off"), "{error}");
    }
}

#[test]
fn files_that_are_no_traces_are_refused_by_their_content() {
    let files = Files::new();
    let binary: Vec<u8> = (0..5000u32).map(|n| (n * 7919 % 251) as u8).collect();
    refused(&files.write("binary.txt", binary));
    let elf = fs::read(env!("CARGO_BIN_EXE_lazytlb")).unwrap();
    assert!(refused(&files.write("elf.txt", &elf[..100_000])).contains("ELF"));
    assert!(refused(&files.write("empty.txt", "")).contains("empty"));
    refused(&files.dir.path().join("there-is-no-such-file.txt"));
}

#[test]
fn a_trace_without_the_events_says_which_and_how_to_record_them() {
    let files = Files::new();
    let others: String = files
        .text
        .lines()
        .filter(|line| {
            !["switch_mm:", "enter_lazy:", "flush_mm_range:"]
                .iter()
                .any(|e| line.contains(e))
        })
        .map(|line| format!("{line}\n"))
        .collect();
    let error = refused(&files.write("others.txt", others));
    for words in ["switch_mm", "enter_lazy", "flush_mm_range", "kprobe_events"] {
        assert!(error.contains(words), "{words} is missing in: {error}");
    }
}

#[test]
fn a_cut_line_and_a_clock_that_runs_backwards_are_named_by_line() {
    let files = Files::new();
    let cut = &files.text[..files.text.len() - 20];
    let last_line = cut.lines().count();
    assert!(refused(&files.write("cut.txt", cut)).contains(&format!("cut.txt:{last_line}")));

    let mut lines: Vec<&str> = files.text.lines().collect();
    lines.swap(1000, 2000);
    let error = refused(&files.write("backwards.txt", lines.join("\n") + "\n"));
    assert!(
        error.contains("backwards.txt:") && error.contains("back"),
        "{error}"
    );
}

#[test]
fn unknown_names_get_the_nearest_one() {
    for (arguments, nearest) in [
        (["check", "--policy", "init-m"], "init-mm"),
        (["check", "--cpu", "amd-k1"], "amd-k10"),
        (["check", "--program", "reference3"], "reference-3"),
        (["decide", "--cpu", "weekest"], "weakest"),
    ] {
        let run = lazytlb(&arguments);
        assert_eq!(run.exit_code, 2);
        assert!(
            run.stderr.contains(&format!("'{nearest}'")),
            "{}",
            run.stderr
        );
    }
}

#[test]
fn an_unwritable_output_is_refused_before_the_work() {
    let dir = tempfile::tempdir().unwrap();
    let nowhere = dir.path().join("no-such-directory/out.json");
    let trace = shipped_trace("linux61-smp8-mixed.trace.txt.xz");
    let (nowhere, trace) = (nowhere.to_str().unwrap(), trace.to_str().unwrap());
    for arguments in [
        vec!["check", "--program", "smoke", "--output", nowhere],
        vec!["decide", "--output", nowhere],
        vec!["price", trace, "--output", nowhere],
    ] {
        let run = lazytlb(&arguments);
        assert_eq!(run.exit_code, 2, "{arguments:?}");
        assert!(
            run.stderr.contains("out.json") && run.stderr.contains("--output"),
            "{}",
            run.stderr
        );
    }
}

#[test]
fn a_full_disk_is_an_error_and_not_a_silent_loss() {
    if !std::path::Path::new("/dev/full").exists() {
        return;
    }
    let run = lazytlb(&["check", "--program", "smoke", "--output", "/dev/full"]);
    assert_eq!(run.exit_code, 2);
    assert!(run.stderr.contains("/dev/full"), "{}", run.stderr);
}

#[test]
fn a_file_of_costs_is_checked_line_by_line() {
    let files = Files::new();
    let trace = files.write("trace.txt", &files.text);
    for (text, words) in [
        ("reference_ghz = ", "costs.toml:1"),
        ("[no_such_figure]\nlow = 1\n", "no_such_figure"),
    ] {
        let costs = files.write("costs.toml", text);
        let run = lazytlb(&[
            "price",
            trace.to_str().unwrap(),
            "--costs",
            costs.to_str().unwrap(),
        ]);
        assert_eq!(run.exit_code, 2);
        assert!(run.stderr.contains(words), "{}", run.stderr);
    }
}

#[test]
fn a_cost_that_is_none_is_refused_with_those_that_there_are() {
    let files = Files::new();
    let trace = files.write("trace.txt", &files.text);
    let trace = trace.to_str().unwrap();
    for (cost, words) in [
        ("idle_weight=3", "take one of reference_ghz, ipi_send"),
        ("idle_wait=nan", "`nan` is no number of cycles"),
        ("idle_wait=3,2,1", "must not fall"),
        ("idle_wait", "write NAME=VALUE"),
    ] {
        for command in [
            &["price", trace][..],
            &["decide", trace, "--program", "smoke"],
        ] {
            let run = lazytlb(&[command, &["--cost", cost]].concat());
            assert_eq!(run.exit_code, 2, "{cost}");
            assert!(run.stderr.contains(words), "{cost}: {}", run.stderr);
        }
    }
}

#[test]
fn help_and_completions_are_there() {
    for arguments in [
        &["--help"][..],
        &["check", "--help"],
        &["price", "--help"],
        &["completions", "bash"],
        &["costs", "--help"],
    ] {
        let run = lazytlb(arguments);
        assert_eq!(run.exit_code, 0);
        assert!(run.stdout.contains("lazytlb"));
    }
}

#[test]
fn a_failing_run_leaves_a_former_output_as_it_was() {
    let files = Files::new();
    let (good, bad) = (
        files.write("good.txt", "a former result"),
        files.write("bad.txt", "nonsense"),
    );
    let run = lazytlb(&[
        "price",
        bad.to_str().unwrap(),
        "--output",
        good.to_str().unwrap(),
    ]);
    assert_eq!(run.exit_code, 2);
    assert_eq!(fs::read_to_string(&good).unwrap(), "a former result");

    // Even onto the recording itself: it is replaced by the whole result, or not at all.
    let trace = files.write("trace.txt", &files.text);
    let name = trace.to_str().unwrap();
    let run = lazytlb(&["price", name, "--output", name, "--json"]);
    assert_eq!(run.exit_code, 0, "{}", run.stderr);
    assert!(
        fs::read_to_string(&trace)
            .unwrap()
            .starts_with("{\"policy\"")
    );
}

#[test]
fn a_directory_is_no_trace_and_the_reason_is_told_once() {
    let files = Files::new();
    let error = refused(files.dir.path());
    assert_eq!(error.matches("os error").count(), 1, "{error}");
    let error = refused(&files.dir.path().join("nowhere.txt"));
    assert_eq!(error.matches("os error").count(), 1, "{error}");
}

#[test]
fn a_reader_that_goes_away_does_not_change_the_verdict() {
    use std::process::{Command, Stdio};

    for (policy, exit_code) in [("defer", 1), ("ipi", 0)] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_lazytlb"))
            .args(["check", "--program", "smoke", "--policy", policy])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        assert_eq!(child.wait().unwrap().code(), Some(exit_code), "{policy}");
    }
}

#[test]
fn a_trace_may_come_from_standard_input() {
    use std::process::{Command, Stdio};

    let files = Files::new();
    let trace = fs::File::open(files.write("trace.txt", &files.text)).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_lazytlb"))
        .args(["price", "-", "--policy", "ipi", "--json"])
        .stdin(Stdio::from(trace))
        .output()
        .unwrap();
    assert!(output.status.success() && output.stdout.starts_with(b"{\"policy\":\"ipi\""));
}
