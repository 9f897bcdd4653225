//! `--idle-states`: IPIs to idle CPUs, priced by the state that each was in.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod program;

use std::path::Path;

use program::lazytlb;

fn priced(states: &str, more: &[&str]) -> program::Run {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("idle-states.txt");
    std::fs::write(&path, states).unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../traces");
    let trace = root.join("linux61-smp8-mixed.trace.txt.xz");
    let (trace, path) = (trace.to_str().unwrap(), path.to_str().unwrap());
    let arguments = ["price", trace, "--pcids", "off", "--idle-states", path];
    lazytlb(&[&arguments[..], more].concat())
}

#[test]
fn price_tells_which_states_the_ipis_met() {
    let told = priced("idle-state 1 C1E 10 tlb=kept\n", &["--policy", "ipi"]).stdout;
    let line = told
        .lines()
        .find(|line| line.trim_start().starts_with("ipi, PCIDs off:"));
    let line = line.unwrap();
    assert!(line.contains(" C1E (10 us), "), "{line}");
    assert!(line.contains(" 0 unknown"), "{line}");
    assert!(line.contains("; 0 times a CPU left its space"), "{line}");
    let told = priced(
        "idle-driver intel_idle\nidle-state 1 C6 133\n",
        &["--policy", "ipi"],
    )
    .stdout;
    let left = told.lines().find(|line| line.contains("times a CPU left"));
    assert!(!left.unwrap().contains("; 0 times"), "{left:?}");
}

#[test]
fn the_records_of_price_have_the_states() {
    let told = priced(
        "idle-state 1 C1 2 tlb=kept\n",
        &["--policy", "ipi", "--json"],
    );
    let record = &told.json()[0];
    let met = &record["idle_ipis"][0];
    assert_eq!(
        (met["state"].as_u64(), met["name"].as_str()),
        (Some(1), Some("C1 (2 us)"))
    );
    assert_eq!(met["ipis"], record["ipis_by_idle_state"][1]);
    assert_eq!(record["ipis_to_known_sleep"], record["ipis_to_idle"]);
    assert!(record["idle_wake_us"].as_u64() >= record["idle_wait_us"].as_u64());
}

#[test]
fn a_file_that_tells_no_states_is_named_with_its_line_and_a_way_out() {
    let run = priced("task 1 1 init 1\n", &[]);
    assert_eq!(run.exit_code, 2);
    assert!(
        run.stderr
            .contains("no line begins with `idle-state `; make them"),
        "{}",
        run.stderr
    );
    let run = priced("idle-state 0 POLL 0\nidle-state 1 C1\n", &[]);
    assert_eq!(run.exit_code, 2);
    assert!(
        run.stderr.contains("idle-states.txt:2: not an idle state"),
        "{}",
        run.stderr
    );
}
