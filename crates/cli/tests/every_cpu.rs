//! `--cpu all` asks every CPU model; a verdict names the ASSUMED rules that it hangs on.

#![allow(clippy::unwrap_used)] // A test that fails is to panic.

mod program;

use program::lazytlb;
use serde_json::Value;

const MODELS: [&str; 6] = [
    "weakest",
    "amd-k10",
    "amd-zen3",
    "amd-zen5",
    "intel-skylake",
    "intel-alder-lake",
];

fn suite(test: &str) -> String {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../model/litmus/translation");
    format!("{folder}/{test}.litmus")
}

/// Returns the lines of JSON that have a key.
fn with_key(lines: Vec<Value>, key: &str) -> Vec<Value> {
    lines
        .into_iter()
        .filter(|line| !line[key].is_null())
        .collect()
}

#[test]
fn a_policy_that_asks_for_errata_is_proved_where_they_are_reported_and_the_worst_row_decides() {
    let arguments = ["check", "--cpu", "all", "--policy", "defer-unless-quirk"];
    let run = lazytlb(&[&arguments[..], &["--json"]].concat());
    assert_eq!(run.exit_code, 1, "{}", run.stderr);
    let rows = with_key(run.json(), "policy");
    let verdicts: Vec<(&str, &str)> = rows
        .iter()
        .map(|row| {
            (
                row["cpu"].as_str().unwrap(),
                row["verdict"].as_str().unwrap(),
            )
        })
        .collect();
    let expected = MODELS.map(|model| match model {
        "amd-k10" => (model, "safe"),
        _ => (model, "violation"),
    });
    assert_eq!(verdicts, expected);
    let table = lazytlb(&arguments);
    assert_eq!(table.exit_code, 1);
    let summary = "defer-unless-quirk: proved on amd-k10; not on weakest, amd-zen3";
    assert!(table.stdout.contains(summary), "{}", table.stdout);
    let replay = "check --policy defer-unless-quirk --program reference-3 --cpu amd-zen3";
    assert!(table.stdout.contains(replay), "{}", table.stdout);
}

#[test]
fn a_policy_that_is_safe_on_every_model_is_proved_on_every_model() {
    let arguments = [
        "check",
        "--cpu",
        "all",
        "--policy",
        "ipi",
        "--program",
        "smoke",
    ];
    let run = lazytlb(&arguments);
    assert_eq!(run.exit_code, 0, "{}", run.stderr);
    assert!(
        run.stdout.contains("ipi: proved on every model"),
        "{}",
        run.stdout
    );
    for model in MODELS {
        assert!(run.stdout.contains(model), "{}", run.stdout);
    }
}

#[test]
fn a_litmus_test_has_a_row_for_each_model_and_none_is_an_error_where_a_feature_is_missing() {
    let file = suite("H34-invlpg-of-a-global-entry-with-pcids");
    let run = lazytlb(&["litmus", "--cpu", "all", "--json", &file]);
    assert_eq!(run.exit_code, 0, "{}", run.stderr);
    let rows = with_key(run.json(), "cpu");
    assert_eq!(rows.len(), MODELS.len());
    for (row, model) in rows.iter().zip(MODELS) {
        assert_eq!(row["cpu"], model);
        match model {
            "amd-k10" => assert!(row["verdict"].is_null() && !row["not_for_this_cpu"].is_null()),
            "intel-alder-lake" => assert_eq!(row["verdict"], "Allowed"),
            _ => assert_eq!(row["verdict"], "Forbidden"),
        }
    }
}

#[test]
fn a_litmus_verdict_names_the_assumption_that_it_hangs_on_and_another_names_none() {
    let file = suite("H43-uncached-load-passes-a-store");
    let run = lazytlb(&["litmus", "--cpu", "intel-skylake", &file]);
    let hangs = "Hangs on uncached-loads-wait (H43)";
    assert!(run.stdout.contains(hangs), "{}", run.stdout);
    let run = lazytlb(&["litmus", "--cpu", "weakest", &file]);
    assert!(!run.stdout.contains("Hangs on"), "{}", run.stdout);
    let json = lazytlb(&["litmus", "--cpu", "intel-skylake", "--json", &file]).json();
    assert_eq!(json[0]["hangs_on"][0]["name"], "uncached-loads-wait");
}

#[test]
fn a_proof_names_the_assumption_that_it_hangs_on_and_another_names_none() {
    let arguments = [
        "check",
        "--program",
        "device-unmap",
        "--policy",
        "ipi",
        "--assumptions",
    ];
    let run = lazytlb(&[&arguments[..], &["--wc", "retired"]].concat());
    assert_eq!(run.exit_code, 0, "{}", run.stderr);
    let hangs = "ipi on weakest hangs on wc-retired (H27)";
    assert!(run.stdout.contains(hangs), "{}", run.stdout);
    let run = lazytlb(&[
        "check",
        "--program",
        "smoke",
        "--policy",
        "ipi",
        "--assumptions",
    ]);
    let none = "ipi on weakest hangs on no rule that is ASSUMED";
    assert!(run.stdout.contains(none), "{}", run.stdout);
}

#[test]
fn a_decision_says_for_which_cpus_its_proofs_hold() {
    let run = lazytlb(&["decide", "--program", "smoke"]);
    let every =
        "Each proof holds for every CPU model, because `weakest` does whatever another one does";
    assert!(run.stdout.contains(every), "{}", run.stdout);
    let run = lazytlb(&["decide", "--program", "smoke", "--cpu", "amd-zen3"]);
    assert!(
        run.stdout.contains("Each proof holds for amd-zen3 alone"),
        "{}",
        run.stdout
    );
}

#[test]
fn the_list_of_models_says_what_weakest_does_not_cover() {
    let run = lazytlb(&["cpus"]);
    for word in [
        "H31: amd-k10",
        "H34: intel-alder-lake",
        "ASSUMED",
        "uncached-stores-at-once (H43)",
    ] {
        assert!(run.stdout.contains(word), "{word}: {}", run.stdout);
    }
}

/// A CPU without PCIDs is asked nothing about them: neither a proof nor a price of them is an answer for it.
#[test]
fn a_model_without_pcids_has_no_row_with_them() {
    let trace = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../traces/linux61-smp8-mixed.trace.txt.xz"
    );
    for arguments in [
        &["check", "--cpu", "amd-k10", "--pcids", "2"][..],
        &["decide", trace, "--cpu", "amd-k10", "--pcids", "on"],
        &["price", trace, "--cpu", "amd-k10", "--pcids", "on"],
    ] {
        let run = lazytlb(arguments);
        assert_eq!(run.exit_code, 2, "{arguments:?}: {}", run.stdout);
        for words in ["amd-k10 has no PCIDs", "lazytlb cpus"] {
            assert!(run.stderr.contains(words), "{arguments:?}: {}", run.stderr);
        }
    }
    let on_k10 = ["--cpu", "amd-k10", "--json"];
    let decided = ["decide", trace, "--program", "smoke"];
    for arguments in [&decided[..], &["price", trace]] {
        let rows = with_key(lazytlb(&[arguments, &on_k10].concat()).json(), "pcids");
        assert!(!rows.is_empty());
        assert!(rows.iter().all(|row| row["pcids"] == "off"), "{rows:?}");
    }
    let every = ["check", "--cpu", "all", "--pcids", "2", "--policy", "ipi"];
    let every = [&every[..], &["--any", "map,unmap/switch,touch", "--json"]].concat();
    let rows = with_key(lazytlb(&every).json(), "cpu");
    let models: Vec<&str> = rows
        .iter()
        .map(|row| row["cpu"].as_str().unwrap())
        .collect();
    let with_pcids = MODELS.into_iter().filter(|model| *model != "amd-k10");
    assert_eq!(models, with_pcids.collect::<Vec<_>>());
}
