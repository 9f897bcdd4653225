//! `lazytlb litmus` and `lazytlb cpus`, as people call them.

#![allow(clippy::unwrap_used)] // A test that fails is to panic.

mod program;

use std::path::PathBuf;

use program::lazytlb;

fn suite(name: &str) -> String {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../model/litmus/");
    format!("{folder}{name}")
}

fn written(name: &str, text: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join(name);
    std::fs::write(&file, text).unwrap();
    (folder, file)
}

#[test]
fn an_answer_has_herds_form_and_a_verdict() {
    let run = lazytlb(&["litmus", &suite("tso/SB.litmus")]);
    assert_eq!(run.exit_code, 0, "{}", run.stderr);
    for line in [
        "Test SB Allowed",
        "States 4",
        "Ok",
        "Positive: 1 Negative: 3",
    ] {
        assert!(
            run.stdout.lines().any(|found| found == line),
            "{line} in {}",
            run.stdout
        );
    }
    assert!(
        run.stdout.contains("Observation SB Sometimes 1 3"),
        "{}",
        run.stdout
    );
    assert!(run.stdout.contains("Verdict: Allowed"), "{}", run.stdout);
}

#[test]
fn store_buffering_needs_store_buffers() {
    let run = lazytlb(&[
        "litmus",
        "--memory",
        "sc",
        "--json",
        &suite("tso/SB.litmus"),
    ]);
    assert_eq!(run.json()[0]["verdict"], "Forbidden");
}

#[test]
fn a_file_that_cannot_be_read_is_told_with_its_place_and_the_others_are_answered() {
    let (_folder, bad) = written(
        "bad.litmus",
        "X86_64 bad\n{}\n P0 ;\n frob $1,(x) ;\nexists (x=1)\n",
    );
    let bad = bad.display().to_string();
    let run = lazytlb(&["litmus", &bad, &suite("tso/SB.litmus"), "/nowhere/x.litmus"]);
    assert_eq!(run.exit_code, 2);
    assert!(
        run.stderr.contains(&format!("{bad}: line 4, column 2")),
        "{}",
        run.stderr
    );
    assert!(run.stderr.contains("/nowhere/x.litmus"), "{}", run.stderr);
    assert!(
        run.stdout.contains("Verdict: Allowed"),
        "the good one is answered"
    );
}

#[test]
fn a_name_that_makes_no_sense_is_told_with_its_place() {
    let text = "X86_64 bad\n{}\n P0 ;\n movq $1,(PML5E(x)) ;\nexists (x=1)\n";
    let (_folder, bad) = written("bad.litmus", text);
    let run = lazytlb(&["litmus", &bad.display().to_string()]);
    assert_eq!(run.exit_code, 2);
    assert!(run.stderr.contains("line 4, column 2"), "{}", run.stderr);
    assert!(run.stderr.contains("Paging=5"), "{}", run.stderr);
}

#[test]
fn a_name_that_only_the_condition_has_is_told_with_its_place_and_no_verdict() {
    let text = "X86_64 slip\n{ x=1; }\n P0 ;\n movq (x),%rax ;\nexists (oa(PTE(x))=PA(yy))\n";
    let (_folder, slip) = written("slip.litmus", text);
    let run = lazytlb(&["litmus", &slip.display().to_string()]);
    assert_eq!(run.exit_code, 2);
    let told = "slip.litmus: line 5, column 9: found `yy`";
    assert!(run.stderr.contains(told), "{}", run.stderr);
    assert_eq!(run.stdout, "");
}

#[test]
fn a_verdict_that_is_not_the_one_expected_is_exit_code_1() {
    let (_folder, kinds) = written("kinds.txt", "SB Forbid\n");
    let kinds = kinds.display().to_string();
    let run = lazytlb(&["litmus", "--kinds", &kinds, &suite("tso/SB.litmus")]);
    assert_eq!(run.exit_code, 1);
    assert!(run.stdout.contains("Expected: Forbidden"), "{}", run.stdout);
}

#[test]
fn too_few_states_are_incomplete_and_no_verdict() {
    let run = lazytlb(&["litmus", "--max-states", "2", &suite("tso/MP.litmus")]);
    assert_eq!(run.exit_code, 3);
    assert!(run.stdout.contains("Verdict: Incomplete"), "{}", run.stdout);
    assert!(!run.stdout.contains("Forbidden\n"), "{}", run.stdout);
}

#[test]
fn a_directory_and_a_list_stand_for_their_tests() {
    let folder = tempfile::tempdir().unwrap();
    let copy = |name: &str| {
        std::fs::copy(suite(&format!("tso/{name}")), folder.path().join(name)).unwrap();
    };
    copy("SB.litmus");
    copy("MP.litmus");
    std::fs::write(folder.path().join("@some"), "# one of the two\nMP.litmus\n").unwrap();
    let count = |path: &std::path::Path| {
        let run = lazytlb(&["litmus", "--json", &path.display().to_string()]);
        let lines = run.json();
        let (summary, answers) = lines.split_last().unwrap();
        assert_eq!(summary["summary"]["read"], answers.len());
        answers.len()
    };
    assert_eq!(count(folder.path()), 2);
    assert_eq!(count(&folder.path().join("@some")), 1);
    let empty = tempfile::tempdir().unwrap();
    let run = lazytlb(&["litmus", &empty.path().display().to_string()]);
    assert_eq!(
        run.exit_code, 2,
        "a directory without tests answers nothing"
    );
    assert!(run.stderr.contains("has no .litmus file"), "{}", run.stderr);
}

#[test]
fn several_tests_end_with_a_summary() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, line: &str, condition: &str| {
        let text = format!(
            "X86_64 {name}\n{line}\n{{ x=1; }}\n P0 ;\n movq (x),%rax ;\nexists ({condition})\n"
        );
        std::fs::write(folder.path().join(format!("{name}.litmus")), text).unwrap();
    };
    write("allowed", "Expect=Allowed", "0:rax=1");
    write("forbidden", "", "0:rax=2");
    write("other", "Expect=Forbidden", "0:rax=1");
    write("slip", "PCID=on", "0:rax=1");
    let path = folder.path().display().to_string();
    let run = lazytlb(&["litmus", &path]);
    assert_eq!(run.exit_code, 2, "{}", run.stderr);
    let summary = "Summary: 3 read: 2 Allowed, 1 Forbidden, 0 Incomplete; 1 unreadable; 1 of 2 differ \
                   from the verdict expected";
    assert!(run.stdout.contains(summary), "{}", run.stdout);
    assert!(
        run.stdout
            .contains("other.litmus: Allowed, expected Forbidden"),
        "{}",
        run.stdout
    );
    let run = lazytlb(&["litmus", "--json", &path]);
    let lines = run.json();
    let summary = &lines.last().unwrap()["summary"];
    assert_eq!(summary["differing"][0]["verdict"], "Allowed");
    let error = summary["unreadable"][0]["error"].as_str().unwrap();
    assert!(
        error.contains("line 2, column 1: found `PCID=on`"),
        "{error}"
    );
    let states = ["litmus", "--max-states", "1", "--json", &path];
    let lines = lazytlb(&states).json();
    assert_eq!(lines.last().unwrap()["summary"]["incomplete"], 3);
    let one = lazytlb(&["litmus", &format!("{path}/allowed.litmus")]);
    assert!(!one.stdout.contains("Summary"), "{}", one.stdout);
}

#[test]
fn the_verdict_that_a_header_expects_is_compared() {
    let text = |expected: &str| {
        format!("X86_64 T\n{expected}\n{{ x=1; }}\n P0 ;\n movq (x),%rax ;\nexists (0:rax=1)\n")
    };
    for (expected, exit_code, is_told) in [
        ("Expect=Allowed", 0, false),
        ("Expect=Forbidden", 1, true),
        ("Expect=Forbidden\nExpect@weakest=Allowed", 0, false),
        ("Expect=Forbidden\nCPU=amd-k10", 0, false),
    ] {
        let (_folder, file) = written("t.litmus", &text(expected));
        let run = lazytlb(&["litmus", &file.display().to_string()]);
        assert_eq!(run.exit_code, exit_code, "{expected}\n{}", run.stdout);
        assert_eq!(
            run.stdout.contains("Expected: Forbidden"),
            is_told,
            "{expected}\n{}",
            run.stdout
        );
        let json = lazytlb(&["litmus", "--json", &file.display().to_string()]).json();
        let as_expected = &json[0]["as_expected"];
        assert_eq!(as_expected == false, is_told, "{expected} {as_expected}");
    }
    let (_folder, file) = written("t.litmus", &text("Expect=Forbidden"));
    let (_kinds_folder, kinds) = written("kinds.txt", "T Allowed\n");
    let (file, kinds) = (file.display().to_string(), kinds.display().to_string());
    let run = lazytlb(&["litmus", "--kinds", &kinds, &file]);
    assert_eq!(run.exit_code, 1, "the header differs all the same");
}

#[test]
fn a_witness_is_printed_as_a_timeline_and_as_json() {
    let run = lazytlb(&["litmus", "--witness", &suite("tso/SB.litmus")]);
    assert_eq!(run.exit_code, 0, "{}", run.stderr);
    for part in [
        "Witness, replayed, to 0:rax=0; 1:rbx=0;",
        "│ CPU 0",
        "drains: b = 1",
    ] {
        assert!(run.stdout.contains(part), "{part} in {}", run.stdout);
    }
    let json = lazytlb(&["litmus", "--witness", "--json", &suite("tso/SB.litmus")]).json();
    let trace = json[0]["witness"]["trace"].as_array().unwrap();
    assert!(
        trace.iter().any(|event| event["what"] == "drains: a = 1"),
        "{trace:?}"
    );
    let without = lazytlb(&["litmus", "--json", &suite("tso/SB.litmus")]).json();
    assert!(without[0]["witness"].is_null());
    let text = "X86_64 T\n{ x=0; }\n P0 ;\n wait (x),$1 ;\nexists (x=2)\n";
    let (_folder, stuck) = written("t.litmus", text);
    let stuck = stuck.display().to_string();
    let run = lazytlb(&["litmus", "--witness", &stuck]);
    assert!(
        run.stdout
            .contains("Execution, replayed, to violation(deadlock);"),
        "{}",
        run.stdout
    );
    assert!(run.stdout.contains("wait until x = 1"), "{}", run.stdout);
    let json = lazytlb(&["litmus", "--witness", "--json", &stuck]).json();
    assert!(json[0]["violations"][0]["execution"]["story"][0].is_string());
    assert_eq!(
        json[0]["vacuous"],
        "every execution ends in a violation: deadlock"
    );
}

#[test]
fn on_every_model_the_header_is_compared_too() {
    let text = "X86_64 T\nExpect=Allowed\nExpect@amd-k10=Forbidden\n{ x=1; }\n P0 ;\n \
                movq (x),%rax ;\nexists (0:rax=1)\n";
    let (folder, file) = written("t.litmus", text);
    let file = file.display().to_string();
    let run = lazytlb(&["litmus", "--cpu", "all", &file]);
    assert_eq!(run.exit_code, 1, "{}", run.stderr);
    assert_eq!(
        run.stdout.matches("Allowed, expected Forbidden").count(),
        1,
        "{}",
        run.stdout
    );
    let folder = folder.path().display().to_string();
    let lines = lazytlb(&["litmus", "--cpu", "all", "--json", &folder]).json();
    let (summary, rows) = lines.split_last().unwrap();
    assert_eq!(summary["summary"]["read"], rows.len());
    let differing = rows.iter().filter(|row| row["as_expected"] == false);
    let cpus: Vec<&str> = differing.map(|row| row["cpu"].as_str().unwrap()).collect();
    assert_eq!(cpus, ["amd-k10"]);
    let run = lazytlb(&["litmus", "--cpu", "all", "--witness", &file]);
    assert_eq!(run.exit_code, 2);
    assert!(run.stderr.contains("about one CPU model"), "{}", run.stderr);
}

#[test]
fn the_help_teaches_and_the_shell_completes() {
    let help = lazytlb(&["litmus", "--help"]).stdout;
    for part in [
        "--witness SB.litmus",
        "Exit codes",
        "Expect=Allowed",
        "summary",
    ] {
        assert!(help.contains(part), "{part} in {help}");
    }
    for shell in ["bash", "fish", "zsh"] {
        let script = lazytlb(&["completions", shell]).stdout;
        assert!(script.contains("witness"), "{shell}");
    }
}

#[test]
fn every_model_is_listed_with_its_rules() {
    let run = lazytlb(&["cpus"]);
    assert_eq!(run.exit_code, 0);
    for name in [
        "weakest",
        "amd-k10",
        "amd-zen3",
        "amd-zen5",
        "intel-skylake",
        "intel-alder-lake",
    ] {
        assert!(run.stdout.contains(name), "{name}");
    }
    let run = lazytlb(&["cpus", "--json"]);
    let models = run.json();
    assert_eq!(models.len(), 6);
    let k10 = models
        .iter()
        .find(|model| model["name"] == "amd-k10")
        .unwrap();
    assert_eq!(k10["has"]["PCIDs"], "no");
}

#[test]
#[cfg(target_arch = "x86_64")]
fn this_machines_cpu_is_told() {
    let run = lazytlb(&["cpus", "--detect"]);
    assert_eq!(run.exit_code, 0, "{}", run.stderr);
    assert!(run.stdout.starts_with("CPU: "), "{}", run.stdout);
    assert!(run.stdout.contains("closest model: "), "{}", run.stdout);
}

#[test]
fn assumptions_change_a_verdict_and_are_named() {
    let check = |assume: &[&str]| {
        let program = ["check", "--json", "--policy", "defer", "--program", "smoke"];
        lazytlb(&[&program, assume].concat())
    };
    assert_eq!(check(&[]).exit_code, 1);
    let in_flight = check(&["--assume", "no-psc"]);
    assert_eq!(in_flight.exit_code, 1, "a walk in flight is enough");
    let atomic = check(&["--assume", "no-psc,atomic-walks"]);
    assert_eq!(atomic.exit_code, 0);
    assert_eq!(atomic.json()[0]["assumed"][1], "atomic-walks");
    let alone = check(&["--assume", "atomic-walks"]);
    assert_eq!(alone.exit_code, 2);
    assert!(
        alone.stderr.contains("no-psc,atomic-walks"),
        "{}",
        alone.stderr
    );
}

#[test]
fn the_reading_of_what_empties_buffers_is_part_of_the_verdict() {
    let check = |wc: &str| {
        let program = [
            "check",
            "--policy",
            "ipi",
            "--program",
            "device-unmap",
            "--wc",
            wc,
        ];
        lazytlb(&program)
    };
    let started = check("started");
    assert_eq!(started.exit_code, 1);
    assert!(
        started.stdout.contains("has started the writes"),
        "{}",
        started.stdout
    );
    let retired = check("retired");
    assert_eq!(retired.exit_code, 0);
    assert!(
        retired.stdout.contains("has retired the writes"),
        "{}",
        retired.stdout
    );
    let slip = check("sfnce=started");
    assert_eq!(slip.exit_code, 2);
    assert!(slip.stderr.contains("sfence"), "{}", slip.stderr);
}
