//! `lazytlb zoo`: what it finds, how it ends, and that docs/zoo.md says the same.

#![allow(clippy::unwrap_used)] // A test that fails is to panic.

mod program;

use std::path::Path;

use program::lazytlb;
use serde_json::Value;

/// Runs the command, and takes away the last record, which says that the output is whole.
fn zoo(arguments: &[&str]) -> (i32, Vec<Value>) {
    let run = lazytlb(&[&["zoo", "--json"], arguments].concat());
    let mut records = run.json();
    let last = records.pop().unwrap();
    assert_eq!(last["complete"], true, "{}", run.stderr);
    (run.exit_code, records)
}

fn cases<'a>(exhibit: &'a Value, role: &str) -> Vec<&'a Value> {
    let all = exhibit["cases"].as_array().unwrap();
    all.iter().filter(|case| case["role"] == role).collect()
}

fn text<'a>(of: &'a Value, key: &str) -> &'a str {
    of[key].as_str().unwrap()
}

fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> = digits
        .as_bytes()
        .rchunks(3)
        .rev()
        .map(|group| std::str::from_utf8(group).unwrap())
        .collect();
    groups.join(",")
}

/// An exhibit's row in the table of docs/zoo.md.
fn row(exhibit: &Value) -> String {
    let (case, found, length) = match cases(exhibit, "bug")[..] {
        [bug] => (
            text(bug, "case"),
            text(bug, "property"),
            bug["length"].to_string(),
        ),
        _ => ("none found", "", String::new()),
    };
    let proofs = cases(exhibit, "proof");
    let states = proofs
        .iter()
        .map(|proof| grouped(proof["states"].as_u64().unwrap()));
    let states: Vec<String> = states.collect();
    let cells = [
        text(exhibit, "name"),
        text(exhibit, "kernel"),
        case,
        found,
        &length,
        &states.join(" / "),
    ];
    format!("| {} |", cells.join(" | "))
        .replace("|  |", "| |")
        .replace("|  |", "| |")
}

#[test]
fn every_bug_is_found_and_every_fix_proved_and_the_page_has_the_same_numbers() {
    let (exit_code, exhibits) = zoo(&[]);
    assert_eq!(exit_code, 0);
    assert_eq!(exhibits.len(), 16);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/zoo.md");
    let page = std::fs::read_to_string(path).unwrap();
    let rows: Vec<&str> = page
        .lines()
        .skip_while(|line| !line.starts_with("| name"))
        .skip(2)
        .take(16)
        .collect();
    for (exhibit, told) in exhibits.iter().zip(rows) {
        assert_eq!(exhibit["as_expected"], true, "{exhibit}");
        assert_eq!(told, row(exhibit));
        for key in ["story", "fix", "left_out", "source"] {
            let text = text(exhibit, key);
            assert!(page.contains(text), "{}: {key}: {text}", exhibit["name"]);
        }
    }
}

#[test]
fn the_fence_of_linux_6_15_is_missed_under_tso_only() {
    let (exit_code, exhibits) = zoo(&["z10"]);
    assert_eq!(exit_code, 0);
    let [exhibit] = &exhibits[..] else {
        panic!("one was asked for")
    };
    let bug = cases(exhibit, "bug")[0];
    assert_eq!(
        (text(bug, "memory"), text(bug, "property")),
        ("tso", "stale-use")
    );
    assert_eq!(bug["trace"].as_array().unwrap().len(), bug["length"]);
    let under_sc = cases(exhibit, "also")[0];
    assert_eq!(
        (text(under_sc, "memory"), text(under_sc, "verdict")),
        ("sc", "safe")
    );
    let broken = cases(exhibit, "broken on purpose");
    assert!(broken.len() > 1 && broken.iter().all(|case| case["verdict"] == "violation"));
}

#[test]
fn an_exhibit_is_told_with_its_counterexample_and_its_fix() {
    let run = lazytlb(&["zoo", "z5"]);
    assert_eq!(run.exit_code, 0, "{}", run.stderr);
    for told in [
        "fea4e317f9e7",
        "[switch to the space]",
        "stale-use: CPU 1",
        "The fix: ",
        "broken on purpose",
    ] {
        assert!(run.stdout.contains(told), "{told}: {}", run.stdout);
    }
}

#[test]
fn what_is_not_there_and_what_ends_early_have_exit_codes_of_their_own() {
    let run = lazytlb(&["zoo", "z99"]);
    assert_eq!(run.exit_code, 2);
    assert!(
        run.stderr.contains("asterinas"),
        "it lists the names: {}",
        run.stderr
    );
    let (exit_code, exhibits) = zoo(&["xen", "--max-states", "50"]);
    assert_eq!(
        (exit_code, &exhibits[0]["as_expected"]),
        (3, &Value::Bool(false))
    );
}
