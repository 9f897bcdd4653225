//! The verdicts that the project is about, as the program prints them.

#![allow(clippy::unwrap_used)] // A test that fails is to panic.

mod program;

use program::lazytlb;
use serde_json::Value;

fn check(arguments: &[&str]) -> (i32, Vec<Value>) {
    let run = lazytlb(&[&["check", "--json"], arguments].concat());
    assert!(run.exit_code != 2, "{}", run.stderr);
    (run.exit_code, complete(run.json()))
}

/// Takes away the last record, which says that the output is whole.
fn complete(mut records: Vec<Value>) -> Vec<Value> {
    let last = records.pop().unwrap();
    assert_eq!(last["complete"], true);
    assert_eq!(last["verdicts"], records.len());
    records
}

#[test]
fn defer_frees_tables_under_a_lazy_cpu_as_in_2017() {
    let (exit_code, verdicts) = check(&[
        "--policy",
        "defer",
        "--program",
        "reference-3",
        "--cpu",
        "amd-k10",
    ]);
    assert_eq!(exit_code, 1);
    let [verdict] = &verdicts[..] else {
        panic!("one policy, one verdict")
    };
    assert_eq!(verdict["verdict"], "violation");
    assert_eq!(verdict["property"], "table-use-after-free");
    let ends = verdict["garbage_walk_ends"].as_array().unwrap();
    assert!(
        ends.contains(&"machine-check".into()),
        "a walk outside DRAM is fatal on this CPU"
    );
    assert_eq!(ends.len(), 4);

    // The story: one CPU went lazy, the other freed the table, and the first one's walk reads it.
    let trace = verdict["trace"].as_array().unwrap();
    let [.., free, walk] = &trace[..] else {
        panic!("a short story")
    };
    assert!(
        free["what"].as_str().unwrap().starts_with("free frame"),
        "{free}"
    );
    assert_eq!(walk["operation"], "speculation");
    let victim = trace
        .iter()
        .find(|event| event["operation"] == "go lazy")
        .unwrap();
    assert_eq!(victim["cpu"], walk["cpu"]);
    assert_ne!(victim["cpu"], free["cpu"]);
    let skipped = trace
        .iter()
        .any(|event| event["what"] == format!("cpu{}.is_lazy → 1", victim["cpu"]));
    assert!(skipped, "the initiator saw that CPU lazy, and spared it");
}

#[test]
fn a_weak_cpu_without_errata_is_no_safer_for_deferral() {
    for policy in ["defer", "defer-unless-quirk"] {
        let (exit_code, verdicts) = check(&["--policy", policy, "--cpu", "weakest"]);
        assert_eq!(
            (exit_code, &verdicts[0]["property"]),
            (1, &"table-use-after-free".into())
        );
    }
}

#[test]
fn the_safe_policies_are_proved_on_reference_3_under_both_memory_models() {
    for policy in ["init-mm", "ipi", "ipi-on-table-free"] {
        for memory in ["tso", "sc"] {
            let (exit_code, verdicts) = check(&[
                "--policy",
                policy,
                "--program",
                "reference-3",
                "--memory",
                memory,
            ]);
            assert_eq!(
                (exit_code, &verdicts[0]["verdict"]),
                (0, &"safe".into()),
                "{policy} {memory}"
            );
            assert_eq!(verdicts[0]["property"], Value::Null);
            assert!(verdicts[0]["states"].as_u64().unwrap() > 10_000);
            assert!(verdicts[0]["bytes_per_state"].as_f64().unwrap() <= 64.0);
        }
    }
}

#[test]
fn a_detected_quirk_makes_deferral_safe_on_that_cpu() {
    let (exit_code, verdicts) = check(&["--policy", "defer-unless-quirk", "--cpu", "amd-k10"]);
    assert_eq!((exit_code, &verdicts[0]["verdict"]), (0, &"safe".into()));
}

#[test]
fn deferral_is_wrong_only_because_of_freed_tables() {
    for memory in ["tso", "sc"] {
        let (exit_code, verdicts) = check(&[
            "--policy",
            "defer",
            "--program",
            "no-table-free",
            "--memory",
            memory,
        ]);
        assert_eq!((exit_code, &verdicts[0]["verdict"]), (0, &"safe".into()));
    }
}

#[test]
fn every_policy_keeps_every_property_where_tables_stay_or_spaces_end() {
    for program in [
        "two-initiators",
        "two-spaces",
        "lazy-between-spaces",
        "exit",
    ] {
        let (exit_code, verdicts) = check(&["--policy", "all", "--program", program]);
        assert_eq!((exit_code, verdicts.len()), (0, 6), "{program}");
    }
}

#[test]
fn a_search_that_ends_early_is_incomplete_and_never_safe() {
    let run = lazytlb(&[
        "check",
        "--policy",
        "ipi",
        "--program",
        "reference-4",
        "--max-states",
        "1000",
    ]);
    assert_eq!(run.exit_code, 3);
    assert!(run.stdout.contains("incomplete") && run.stdout.contains("nothing is proved"));
    assert!(!run.stdout.contains(" safe"), "{}", run.stdout);
    let run = lazytlb(&[
        "check",
        "--policy",
        "ipi",
        "--program",
        "reference-4",
        "--max-seconds",
        "1",
        "--json",
    ]);
    assert_eq!(
        (run.exit_code, &run.json()[0]["verdict"]),
        (3, &"incomplete".into())
    );
}

#[test]
fn a_proof_tells_what_it_rests_on_in_both_forms() {
    let (exit_code, verdicts) = check(&["--program", "smoke", "--policy", "ipi"]);
    let rests_on = &verdicts[0]["rests_on"];
    assert_eq!(exit_code, 0);
    for what in ["promises_kept", "interrupts_taken", "tables_freed"] {
        assert!(rests_on[what].as_u64().unwrap() > 0, "{what}: {rests_on}");
    }
    assert_eq!(verdicts[0]["proves"], Value::Null);
    let shown = lazytlb(&["check", "--program", "smoke", "--policy", "ipi"]).stdout;
    let counts = ["promises_kept", "interrupts_taken", "tables_freed"]
        .map(|what| rests_on[what].to_string())
        .join(" / ");
    assert!(shown.contains(&format!("ipi {counts}")), "{shown}");

    // It frees a root under CPUs that have left it, and keeps no promise about anything cached.
    let (exit_code, verdicts) = check(&["--program", "exit", "--policy", "ipi"]);
    assert_eq!((exit_code, &verdicts[0]["verdict"]), (0, &"safe".into()));
    assert_eq!(verdicts[0]["rests_on"]["promises_kept"], 0);
    assert!(verdicts[0]["proves"].as_str().unwrap().contains("root"));
    let shown = lazytlb(&["check", "--program", "exit", "--policy", "ipi"]).stdout;
    assert!(
        shown.contains("The program says that it proves: "),
        "{shown}"
    );
}

#[test]
fn a_search_that_needs_more_memory_than_it_may_take_is_incomplete() {
    let run = lazytlb(&[
        "check",
        "--policy",
        "ipi",
        "--program",
        "reference-4",
        "--max-memory",
        "20",
    ]);
    assert_eq!(run.exit_code, 3, "{}", run.stderr);
    assert!(run.stdout.contains("the limit of 20 MiB"), "{}", run.stdout);
}

#[test]
fn verdicts_do_not_depend_on_how_the_search_is_done() {
    let variants: [&[&str]; 4] = [
        &[],
        &["--threads", "2"],
        &["--fingerprints"],
        &["--no-reduction"],
    ];
    let (_, plain) = check(&["--program", "smoke"]);
    for variant in variants {
        let (_, verdicts) = check(&[&["--program", "smoke"], variant].concat());
        assert_eq!(verdicts.len(), plain.len(), "{variant:?}");
        for (verdict, plain) in verdicts.iter().zip(&plain) {
            assert_eq!(verdict["verdict"], plain["verdict"], "{variant:?}");
            assert_eq!(verdict["property"], plain["property"], "{variant:?}");
            if variant != ["--no-reduction"] {
                assert_eq!(verdict["states"], plain["states"], "{variant:?}");
                assert_eq!(verdict["transitions"], plain["transitions"], "{variant:?}");
            }
        }
    }
}

#[test]
fn a_timeline_has_a_column_for_each_cpu_and_names_the_ends() {
    let run = lazytlb(&[
        "check",
        "--policy",
        "defer",
        "--program",
        "smoke",
        "--cpu",
        "amd-k10",
    ]);
    assert_eq!(run.exit_code, 1);
    for words in [
        "│ CPU 0",
        "│ CPU 1",
        "[go lazy]",
        "machine-check:",
        "freed the table",
    ] {
        assert!(
            run.stdout.contains(words),
            "{words} is missing in:\n{}",
            run.stdout
        );
    }
}

#[test]
fn decide_joins_proof_and_price() {
    let run = lazytlb(&["decide", "--json", "--proof-seconds", "600"]);
    assert_eq!(run.exit_code, 0, "{}", run.stderr);
    let records = complete(run.json());
    let (choices, records): (Vec<_>, Vec<_>) = records
        .into_iter()
        .partition(|record| record.get("choice").is_some());
    assert_eq!(choices.len(), 2, "one without PCIDs, one with them");
    let (searches, rows): (Vec<_>, Vec<_>) =
        records.iter().partition(|record| record["price"].is_null());
    let row = |policy: &str, pcids: &str| {
        let mut rows = rows.iter();
        rows.find(|row| row["policy"] == policy && row["pcids"] == pcids)
            .unwrap()
    };
    let verdict = |policy: &str, pcids: &str| {
        let row = row(policy, pcids);
        (
            row["verdict"].as_str().unwrap(),
            row["among_the_safe"].as_str().unwrap(),
        )
    };
    let kinds = [
        ("off", vec!["three-cpus", "two-initiators", "two-spaces"]),
        ("on", vec!["slot-each", "slot-shared"]),
    ];
    let held = ["three-cpus", "two-initiators", "two-spaces", "two-cpus"];
    let held = held.map(|name| format!("held-{name}"));
    assert_eq!(rows.len(), 12);
    for (pcids, menus) in &kinds {
        for policy in ["defer", "defer-unless-quirk"] {
            assert_eq!(verdict(policy, pcids), ("violation", ""));
            let row = row(policy, pcids);
            assert_eq!(row["proof"]["program"], "reference-3", "it tells the story");
        }
        let safe = ["init-mm", "ipi", "ipi-on-table-free", "quarantine"];
        let marked = safe.map(|policy| {
            assert_eq!(verdict(policy, pcids).0, "safe");
            verdict(policy, pcids).1
        });
        let choice = choices.iter().find(|choice| choice["pcids"] == *pcids);
        let choice = choice.unwrap()["choice"].as_str().unwrap();
        let chosen = verdict(choice, pcids);
        assert_eq!(chosen, ("safe", "least regret"));
        let others = marked.iter().filter(|mark| mark.is_empty());
        assert_eq!(others.count(), 3, "{marked:?}");
        for policy in rows.iter().filter(|row| row["pcids"] == *pcids) {
            assert_eq!(policy["price"]["pcids"], *pcids);
            let named = policy["menus"].as_array().unwrap().iter();
            let named: Vec<&str> = named.map(|name| name.as_str().unwrap()).collect();
            // What is held multiplies states: `quarantine` has smaller menus of its own.
            match (policy["policy"].as_str().unwrap(), *pcids) {
                ("quarantine", "off") => assert_eq!(named, held),
                _ => assert_eq!(named, *menus),
            }
        }
    }
    assert_eq!(searches.len(), 5 * 3 + 6 * 2 + 4);
    for search in searches {
        let (policy, pcids) = (
            search["policy"].as_str().unwrap(),
            search["pcids"].as_str().unwrap(),
        );
        // Nobody goes lazy there.
        let expected = match search["menu"] == "slot-each" {
            true => "safe",
            false => verdict(policy, pcids).0,
        };
        assert_eq!(search["verdict"], expected, "{search}");
        assert_eq!(search["pcid_slots"].is_null(), pcids == "off");
        assert_eq!(search["search_ended"], true, "{search}");
        assert!(search["states"].as_u64() > Some(0) && search["seconds"].as_f64() > Some(0.0));
        let changes = match search["menu"].as_str().unwrap() {
            "three-cpus" => "each of CPUs 1 and 2 starts",
            "held-three-cpus" => "each of CPUs 1 and 2 starts",
            "two-initiators" | "held-two-initiators" => "flush-page",
            "held-two-cpus" => "lazy",
            "two-spaces" | "held-two-spaces" | "slot-each" | "slot-shared" => "switch:2",
            other => panic!("{other}"),
        };
        let statement = search["statement"].as_str();
        assert_eq!(statement.is_some(), search["verdict"] == "safe");
        assert!(
            statement.is_none_or(|text| text.contains(changes)),
            "{search}"
        );
    }
    // What is kept, what was missed, and CPUs elsewhere occur in the proofs with PCIDs.
    for policy in ["init-mm", "ipi", "ipi-on-table-free"] {
        let own = records
            .iter()
            .filter(|record| record["menu"] == "slot-each" && record["policy"] == policy);
        let unreached = own.map(|record| record["unreached"].to_string());
        for outcome in [
            "its PCID was kept",
            "its PCID was behind",
            "another space is loaded",
        ] {
            let is_reached = |unreached: String| !unreached.contains(outcome);
            assert!(unreached.clone().all(is_reached), "{policy}: {outcome}");
        }
    }
    for row in &rows {
        let price = &row["price"];
        let classes = ["ipis_to_running", "ipis_to_lazy", "ipis_to_idle"];
        let sum: u64 = classes
            .iter()
            .map(|class| price[class].as_u64().unwrap())
            .sum();
        assert_eq!(
            price["ipis"].as_u64(),
            Some(sum),
            "the classes are disjoint"
        );
    }
    let table = lazytlb(&["decide", "--program", "smoke"]);
    assert!(
        table.stdout.contains("a guest under emulation"),
        "it says where the trace comes from"
    );
}

#[test]
fn a_policy_is_not_called_safe_if_a_search_ends_early() {
    let run = lazytlb(&["decide", "--pcids", "off", "--max-states", "20000"]);
    assert_eq!(run.exit_code, 3, "{}", run.stderr);
    for words in [
        "UNSAFE: table-use-after-free",
        "Without PCIDs: no policy is proved safe here.",
        "ipi under three-cpus: incomplete: the limit of 20000 states was reached; nothing is proved",
        "  lazytlb check --policy ipi --any map,unmap,free,touch,switch/touch,switch,lazy/touch,switch,lazy --cpu weakest",
    ] {
        assert!(run.stdout.contains(words), "{words}: {}", run.stdout);
    }
    assert!(!run.stdout.contains(" safe: "), "{}", run.stdout);

    let most = [
        "--pcids",
        "off",
        "--max-states",
        "400000",
        "--proof-seconds",
        "600",
    ];
    let run = lazytlb(&[&["decide"][..], &most].concat());
    assert_eq!(run.exit_code, 3, "{}", run.stderr);
    let one = "Without PCIDs, of the policies that are proved safe, others being incomplete: init-mm, as the only one.";
    assert!(run.stdout.contains(one), "{}", run.stdout);

    let run = lazytlb(&[
        "decide",
        "--json",
        "--pcids",
        "off",
        "--max-states",
        "318000",
        "--proof-seconds",
        "600",
    ]);
    assert_eq!(run.exit_code, 3, "{}", run.stderr);
    let records = complete(run.json());
    let of = |policy: &str| {
        let own = records.iter().filter(|record| record["policy"] == policy);
        own.collect::<Vec<_>>()
    };
    let ended = |menu: &str| {
        let own = of("init-mm").into_iter();
        let search = own.into_iter().find(|record| record["menu"] == menu);
        let search = search.unwrap();
        (
            search["search_ended"].as_bool().unwrap(),
            search["verdict"].clone(),
        )
    };
    assert_eq!(ended("two-initiators"), (true, "safe".into()));
    assert_eq!(ended("three-cpus"), (false, "incomplete".into()));
    let decision = of("init-mm").pop().unwrap();
    assert_eq!(decision["verdict"], "incomplete");
    assert_eq!(decision["among_the_safe"], "");
    assert_eq!(of("defer").pop().unwrap()["verdict"], "violation");
}
