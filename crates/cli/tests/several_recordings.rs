//! Several recordings in one call: each by itself, and their sum.

#![allow(clippy::unwrap_used)] // A test that fails is to panic.

mod program;

use std::path::PathBuf;

use program::{lazytlb, shipped_trace};
use serde_json::Value;
use tempfile::TempDir;

/// A recording with kprobes on two CPUs: one idles on a space while the other flushes it so many times.
fn recording(flushes: u32) -> String {
    let mut text = "\
  <idle>-0 [001] d.Z1. 1.000001: switch_mm: (f+0x35/0x470) next=0xf0 tsk=0xe0 nctx=7\n\
      sh-9 [001] d.Z1. 1.000002: enter_lazy: (f+0xd/0x30) mm=0xf0 tsk=0xe8 loaded=0xf0\n"
        .to_owned();
    for number in 0..flushes {
        text += &format!(
            "      sh-9 [000] d.Z.. 1.{:06}: flush_mm_range: (f+0x5/0x170) mm=0xf0 start=0x1000 end=0x3000 stride=12 freed=1 ctx=7\n",
            3 + number
        );
    }
    text
}

/// Two recordings, `a/one.txt` and `b/two.txt`.
fn two() -> (TempDir, [String; 2]) {
    let directory = tempfile::tempdir().unwrap();
    let file = |folder: &str, name: &str, flushes| {
        let folder = directory.path().join(folder);
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.join(name);
        std::fs::write(&file, recording(flushes)).unwrap();
        file.to_str().unwrap().to_owned()
    };
    let files = [file("a", "one.txt", 1), file("b", "two.txt", 3)];
    (directory, files)
}

fn json(arguments: &[&str]) -> Vec<Value> {
    let run = lazytlb(&[arguments, &["--json"]].concat());
    assert_eq!(run.exit_code, 0, "{}", run.stderr);
    run.json()
}

/// Numbers of a record, in the same order for each: all but those that say how certain or how dear something is.
fn counts(record: &Value) -> Vec<(String, u64)> {
    let fields = record.as_object().unwrap().iter();
    let numbers = fields.filter_map(|(name, value)| Some((name.clone(), value.as_u64()?)));
    numbers.collect()
}

#[test]
fn counts_of_the_sum_are_those_of_the_recordings_added_up() {
    let (_kept, [one, two]) = two();
    let rows = json(&["price", &one, &two, "--policy", "ipi"]);
    assert_eq!(rows.len(), 6, "three times with and without PCIDs");
    let named: Vec<&Value> = rows.iter().map(|row| &row["recording"]).collect();
    let (one_name, two_name) = (Value::from(&*one), Value::from(&*two));
    assert_eq!(
        named,
        [
            &one_name,
            &one_name,
            &two_name,
            &two_name,
            &Value::Null,
            &Value::Null
        ]
    );
    for kind in 0..2 {
        let [one, two, sum] = [0, 2, 4].map(|first| counts(&rows[first + kind]));
        assert!(sum.len() > 15, "{sum:?}");
        for ((one, two), (name, sum)) in one.iter().zip(&two).zip(&sum) {
            assert_eq!(one.1 + two.1, *sum, "{name}");
        }
        assert_eq!(rows[4 + kind]["ipis_to_lazy"], 2, "{sum:?}");
    }
}

#[test]
fn each_recording_has_the_rows_of_a_call_of_its_own() {
    let (_kept, [one, two]) = two();
    let together = json(&["price", &one, &two]);
    let alone = [json(&["price", &one]), json(&["price", &two])].concat();
    assert_eq!(together[..alone.len()], alone);
    assert_eq!(together.len(), alone.len() * 3 / 2);
}

#[test]
fn the_sum_of_the_shipped_recordings_is_chosen_for_and_each_has_its_choice() {
    let names = [
        "linux61-smp8-threads.trace.txt.xz",
        "linux61-smp8-mixed.trace.txt.xz",
    ];
    let files = names.map(|name| shipped_trace(name).to_str().unwrap().to_owned());
    let decide = ["decide", &files[0], &files[1], "--program", "smoke"];
    let records = json(&decide);
    let choices: Vec<&Value> = records
        .iter()
        .filter(|record| record.get("choice").is_some())
        .collect();
    let recordings: Vec<Option<&str>> = choices
        .iter()
        .map(|one| one["recording"].as_str())
        .collect();
    let [threads, mixed] = [Some(&*files[0]), Some(&*files[1])];
    assert_eq!(recordings, [threads, threads, mixed, mixed, None, None]);
    let regret = |place: usize| choices[place]["regret_cycles"].as_f64().unwrap();
    for kind in 0..2 {
        // Where all choose one policy against the same other one, what it can lose adds up.
        assert_eq!(choices[kind]["choice"], choices[4 + kind]["choice"]);
        assert_eq!(choices[2 + kind]["choice"], choices[4 + kind]["choice"]);
        let apart = regret(kind) + regret(2 + kind);
        assert!(regret(4 + kind) <= apart * (1.0 + 1e-12), "{choices:?}");
        // All are emulated.
        assert!(choices[4 + kind]["regret_per_1000_operations"].is_f64());
    }
    let proofs = records.iter().filter(|record| record.get("menu").is_some());
    assert_eq!(proofs.count(), 12, "proofs are made once");
    let last = records.last().unwrap();
    assert_eq!(last["verdicts"], records.len() - 1);
    let told = lazytlb(&decide).stdout;
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!(lines[0], "The sum of 2 recordings:");
    assert!(
        lines[1].starts_with("Without PCIDs, of the safe policies: "),
        "{told}"
    );
    for name in names {
        let rows = lines
            .iter()
            .filter(|line| line.trim_start().starts_with(name));
        assert_eq!(rows.count(), 2, "{name}: {told}");
    }
}

#[test]
fn cpu_times_add_up_unless_one_is_emulated() {
    let (_kept, [one, two]) = two();
    let sum = |arguments: &[&str]| {
        let decide = [
            &["decide", "--program", "smoke", "--pcids", "off"],
            arguments,
        ]
        .concat();
        let records = json(&decide);
        let choices = records.into_iter();
        let choices: Vec<Value> = choices
            .filter(|record| record.get("choice").is_some())
            .collect();
        choices.last().unwrap().clone()
    };
    let real = sum(&[&one, &two]);
    // Two CPUs for 2 us, and two for 4 us, at 3 GHz.
    let share = real["regret_cycles"].as_f64().unwrap() / ((2.0 * 2e3 + 2.0 * 4e3) * 3.0);
    let told = real["regret_share"].as_f64().unwrap();
    assert!((told - share).abs() <= 1e-9 * share, "{real}");
    let mixed = shipped_trace("linux61-smp8-mixed.trace.txt.xz");
    let mixed = sum(&[&one, mixed.to_str().unwrap()]);
    assert!(mixed.get("regret_share").is_none(), "{mixed}");
    assert!(mixed["regret_per_1000_operations"].is_f64(), "{mixed}");
}

#[test]
fn a_recording_that_cannot_be_read_is_named_and_nothing_is_answered() {
    let (kept, [one, two]) = two();
    let broken = kept.path().join("broken.txt");
    std::fs::write(
        &broken,
        "  <idle>-0 [001] d.Z1. 1.000001: switch_mm: next=\n",
    )
    .unwrap();
    let missing = kept.path().join("missing.txt");
    for bad in [broken, missing] {
        let bad = bad.to_str().unwrap();
        for command in ["price", "decide", "validate"] {
            let run = lazytlb(&[command, &one, &two, bad]);
            assert_eq!(run.exit_code, 2, "{command} {bad}");
            assert_eq!(run.stdout, "", "{command} {bad}");
            assert!(run.stderr.contains(bad), "{command}: {}", run.stderr);
        }
    }
}

#[test]
fn one_recording_under_two_names_is_refused() {
    let (kept, [one, two]) = two();
    let link: PathBuf = kept.path().join("link.txt");
    std::os::unix::fs::symlink(&one, &link).unwrap();
    let link = link.to_str().unwrap();
    for arguments in [[&one, &two, &one], [&one, &two, &link.to_owned()]] {
        for command in ["price", "decide", "validate"] {
            let arguments = arguments.map(String::as_str);
            let run = lazytlb(&[&[command], &arguments[..]].concat());
            assert_eq!(run.exit_code, 2);
            assert!(
                run.stderr.contains("would count it twice"),
                "{}",
                run.stderr
            );
        }
    }
    let run = lazytlb(&["price", "-", "-"]);
    assert_eq!(run.exit_code, 2);
    assert!(
        run.stderr.contains("standard input and standard input"),
        "{}",
        run.stderr
    );
}

#[test]
fn what_is_known_of_one_recording_is_not_taken_for_all() {
    let (_kept, [one, two]) = two();
    for (command, option) in [
        ("price", "--tasks"),
        ("decide", "--tasks"),
        ("validate", "--tasks"),
        ("validate", "--counters"),
    ] {
        let run = lazytlb(&[command, &one, &two, option, &one]);
        assert_eq!(run.exit_code, 2);
        assert!(run.stderr.contains("a call of its own"), "{}", run.stderr);
    }
}

#[test]
fn each_recording_is_validated_and_all_are_counted_together() {
    let names = [
        "linux61-smp8-threads.trace.txt.xz",
        "linux61-smp8-mixed.trace.txt.xz",
    ];
    let files = names.map(|name| shipped_trace(name).to_str().unwrap().to_owned());
    let records = json(&["validate", &files[0], &files[1]]);
    assert_eq!(records.len(), 2);
    for (record, file) in records.iter().zip(&files) {
        assert_eq!(record["recording"], **file);
        assert_eq!(record["agree"], true);
    }
    let told = lazytlb(&["validate", &files[0], &files[1]]).stdout;
    let last = told.lines().last().unwrap();
    assert!(
        last.starts_with("All together: 2 of 2 recordings agree"),
        "{told}"
    );
}

#[test]
fn a_page_of_several_has_a_row_and_a_section_for_each() {
    let (kept, [one, two]) = two();
    let page = kept.path().join("page.html");
    let page = page.to_str().unwrap();
    let run = lazytlb(&["decide", &one, &two, "--program", "smoke", "--html", page]);
    assert_eq!(run.exit_code, 0, "{}", run.stderr);
    let html = std::fs::read_to_string(page).unwrap();
    let (_, data) = html.split_once("type=\"application/json\">").unwrap();
    let (data, _) = data.split_once("</script>").unwrap();
    let page: Value = serde_json::from_str(data).unwrap();
    let sections = page["sections"].as_array().unwrap();
    let of_recordings = sections
        .iter()
        .filter(|section| section["heading"].as_str() == Some("The recording"));
    assert_eq!(of_recordings.count(), 2);
    let decision = sections[0]["blocks"].as_array().unwrap();
    let table = decision.last().unwrap();
    assert_eq!(table["rows"].as_array().unwrap().len(), 4, "{table}");
    assert!(data.contains("in the first of the recordings"), "{data}");
}
