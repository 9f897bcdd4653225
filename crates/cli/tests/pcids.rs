//! What PCIDs bring: the question of the mail.

#![allow(clippy::unwrap_used)] // A test that fails is to panic.

mod program;

use program::lazytlb;
use serde_json::Value;

/// Takes away the last record, which says that the output is whole.
fn complete(mut records: Vec<Value>) -> Vec<Value> {
    let last = records.pop().unwrap();
    assert_eq!(last["complete"], true);
    assert_eq!(last["verdicts"], records.len());
    records
}

/// The question of the mail: how much less expensive is init-mm with PCIDs?
#[test]
fn price_and_decide_answer_the_question_of_the_mail_in_a_line() {
    let trace = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../traces/linux61-smp8-mixed.trace.txt.xz"
    );
    let both = lazytlb(&["price", trace]);
    let line = both
        .stdout
        .lines()
        .find(|line| line.starts_with("init-mm with PCIDs: "));
    let line = line.expect("both were priced");
    for words in [
        " / 126 / ",
        " / 236 / ",
        "22,558 CR3 loads that flush fewer",
        "12,261 refills fewer",
    ] {
        assert!(line.contains(words), "{words}: {line}");
    }
    let one = lazytlb(&["price", trace, "--pcids", "on", "--policy", "init-mm"]);
    assert!(!one.stdout.contains("instead of"), "{}", one.stdout);
    let decided = lazytlb(&["decide", trace, "--program", "smoke"]);
    assert!(decided.stdout.contains(line), "{}", decided.stdout);
    for (pcids, machine) in [("on", "With PCIDs, "), ("off", "Without PCIDs, ")] {
        let arguments = ["decide", trace, "--program", "smoke", "--pcids", pcids];
        let decided = lazytlb(&arguments);
        assert_eq!(decided.exit_code, 0, "{}", decided.stdout);
        let records = complete(lazytlb(&[&arguments[..], &["--json"]].concat()).json());
        let expected = "a search and a row for each policy, and a choice";
        assert_eq!(records.len(), 13, "{expected}");
        assert!(records.iter().all(|record| record["pcids"] == pcids));
        let answers = decided
            .stdout
            .lines()
            .filter(|line| line.contains(", of the safe policies: "));
        let answers: Vec<&str> = answers.collect();
        assert!(
            matches!(answers[..], [answer] if answer.starts_with(machine)),
            "{answers:?}"
        );
    }
    // A policy is repeated on the CPUs that it was found unsafe on.
    let repeat = both_commands(&lazytlb(&["decide", "--program", "smoke"]).stdout);
    assert_eq!(repeat, [false, true, false, true]);
}

/// Says of each command that repeats a row whether PCIDs are on.
fn both_commands(shown: &str) -> Vec<bool> {
    let commands = shown
        .lines()
        .filter(|line| line.starts_with("  lazytlb check"));
    commands.map(|line| line.contains(" --pcids 2 ")).collect()
}

/// What a proof of broadcasts hangs on stands beside it, whether one asks for `--assumptions` or not.
#[test]
fn a_verdict_about_broadcasts_says_when_cpus_answer_them() {
    let program = ["check", "--program", "three-flushes", "--policy", "ipi"];
    let ids = ["--pcids", "1", "--global-ids", "1"];
    let checked = |more: &[&str]| lazytlb(&[&program[..], &ids, more].concat());
    let assumed = "when its stores through what goes have left the store buffer (H29, ASSUMED)";
    let one = checked(&["--cpu", "amd-zen5"]);
    assert!(one.stdout.contains(assumed), "{}", one.stdout);
    let every = checked(&["--cpu", "all"]).stdout;
    for model in ["amd-zen3", "amd-zen5"] {
        let line = format!("{model}: a CPU answers a broadcast {assumed}");
        assert!(every.contains(&line), "{every}");
    }
    assert!(every.contains("weakest: a CPU answers a broadcast at any time"));
    let records = complete(checked(&["--cpu", "amd-zen5", "--json"]).json());
    assert_eq!(records[0]["broadcast_answer"], "after-stores");
    let without = complete(lazytlb(&[&program[..], &["--json"]].concat()).json());
    assert_eq!(without[0]["broadcast_answer"], Value::Null);
}
