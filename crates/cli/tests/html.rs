//! `--html`: the page is written beside what is printed, and has what was found.

#![allow(clippy::unwrap_used)] // A test that fails is to panic.

mod program;

use std::path::{Path, PathBuf};

use program::lazytlb;
use serde_json::Value;

/// Runs the program with `--html`, and returns how it ended, what it printed, and the data of the page.
fn page_of(arguments: &[&str]) -> (i32, String, Value) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("page.html");
    let run = lazytlb(&[arguments, &["--html", file.to_str().unwrap()]].concat());
    let html =
        std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{error}: {}", run.stderr));
    let (_, data) = html.split_once("type=\"application/json\">").unwrap();
    let (data, _) = data.split_once("</script>").unwrap();
    (
        run.exit_code,
        run.stdout,
        serde_json::from_str(data).unwrap(),
    )
}

fn blocks<'a>(page: &'a Value, kind: &str) -> Vec<&'a Value> {
    let sections = page["sections"].as_array().unwrap().iter();
    let blocks = sections.flat_map(|section| section["blocks"].as_array().unwrap());
    blocks.filter(|block| block["kind"] == kind).collect()
}

#[test]
fn a_violation_is_an_execution_with_what_each_cpu_may_cache() {
    let check = ["check", "--policy", "defer", "--program", "reference-3"];
    let (exit_code, printed, page) = page_of(&check);
    assert_eq!(exit_code, 1);
    let plain = lazytlb(&check).stdout;
    assert_eq!(printed.lines().count(), plain.lines().count());
    let steps = blocks(&page, "steps");
    let [steps] = steps[..] else {
        panic!("one policy, one execution: {page}");
    };
    let events = steps["events"].as_array().unwrap();
    let last = events
        .iter()
        .filter_map(|event| event["machine"].as_object())
        .next_back()
        .unwrap();
    let of_freed = |cpu: &Value| {
        let cached = cpu["cached"].as_array().unwrap();
        cached
            .iter()
            .any(|held| held["danger"] == "of a freed table")
    };
    let cpus = last["cpus"].as_array().unwrap();
    assert_eq!(
        cpus.iter().map(of_freed).collect::<Vec<_>>(),
        [false, true, false]
    );
    assert_eq!(cpus[1]["lazy"], true);
    assert_eq!(events[0]["heading"], "switch to the space");
    assert!(
        steps["story"][0]
            .as_str()
            .unwrap()
            .starts_with("table-use-after-free")
    );
}

#[test]
fn a_decision_has_its_choices_its_timeline_and_every_policy() {
    let (exit_code, _, page) = page_of(&["decide", "--program", "smoke"]);
    assert_eq!(exit_code, 0);
    let answers = blocks(&page, "answer")
        .into_iter()
        .map(|answer| &answer["answer"]);
    assert_eq!(answers.collect::<Vec<_>>(), ["quarantine", "init-mm"]);
    let lanes = blocks(&page, "lanes");
    let [timeline] = lanes[..] else {
        panic!("one recording, one timeline");
    };
    assert_eq!(timeline["lanes"].as_array().unwrap().len(), 8);
    assert_eq!(
        timeline["ipis_of"][timeline["first"].as_u64().unwrap() as usize],
        "quarantine, PCIDs off"
    );
    let [side_by_side, held, ..] = blocks(&page, "table")[..] else {
        panic!("two tables stand side by side");
    };
    assert_eq!(side_by_side["rows"].as_array().unwrap().len(), 12);
    assert_eq!(
        held["rows"].as_array().unwrap().len(),
        2,
        "quarantine alone holds tables back"
    );
    assert_eq!(
        blocks(&page, "steps").len(),
        2,
        "equal policies share one, without and with PCIDs"
    );
}

fn litmus(name: &str) -> PathBuf {
    let suite = Path::new(env!("CARGO_MANIFEST_DIR")).join("../model/litmus");
    suite.join(name)
}

#[test]
fn a_litmus_test_has_its_witness_though_none_is_printed() {
    let file = litmus("tso/SB+sfences.litmus");
    let (exit_code, printed, page) = page_of(&["litmus", file.to_str().unwrap()]);
    assert_eq!(exit_code, 0);
    assert!(!printed.contains("Witness, replayed"), "{printed}");
    assert_eq!(blocks(&page, "steps").len(), 1);
}

#[test]
fn a_page_that_cannot_be_is_refused_before_the_work() {
    let file = litmus("tso/SB+sfences.litmus");
    let file = file.to_str().unwrap();
    for (arguments, reason) in [
        (
            &["check", "--html", "/none/page.html"][..],
            "choose another --html",
        ),
        (
            &["check", "--html", "/tmp/same", "--output", "/tmp/same"],
            "--html and --output name the same file",
        ),
        (
            &["litmus", "--cpu", "all", file, "--html", "page.html"],
            "--witness, --html and --kinds are about one CPU model",
        ),
    ] {
        let run = lazytlb(arguments);
        assert_eq!(run.exit_code, 2, "{arguments:?}");
        assert!(run.stderr.contains(reason), "{}", run.stderr);
    }
}
