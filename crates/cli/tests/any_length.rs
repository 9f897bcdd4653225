//! `lazytlb check --any`: every program over sets of operations, as its users see it.

#![allow(clippy::unwrap_used)] // A test that fails is to panic.

mod program;

use program::lazytlb;
use serde_json::Value;

const SETS: &str = "map,unmap,free,switch,touch,lazy/switch,touch,lazy";

fn records(arguments: &[&str]) -> (i32, Vec<Value>) {
    let run = lazytlb(&[&["check", "--json", "--memory", "sc"], arguments].concat());
    assert!(run.exit_code != 2, "{}", run.stderr);
    let mut records = run.json();
    assert_eq!(records.pop().unwrap()["complete"], true);
    (run.exit_code, records)
}

#[test]
fn a_proof_is_told_in_one_sentence_in_the_terminal_and_in_json() {
    let arguments = ["--any", SETS, "--policy", "ipi"];
    let (exit_code, records) = records(&arguments);
    let record = &records[0];
    assert_eq!((exit_code, &record["verdict"]), (0, &"safe".into()));
    let statement = record["statement"].as_str().unwrap();
    let places = &record["rests_on"]["stretched"]["places"];
    for part in [
        "where CPU 0 starts map, unmap, free and switch,",
        "CPU 0 alone changes page tables",
        "sequential consistency",
        "CPU model weakest",
        &format!("checked at {places} places"),
    ] {
        assert!(statement.contains(part), "{part}: {statement}");
    }
    let shown = lazytlb(&[&["check", "--memory", "sc"], &arguments[..]].concat()).stdout;
    let line = format!("Proved of ipi: {statement}.\n");
    assert!(shown.contains(&line), "{shown}");
    assert!(shown.starts_with("every program over map,"), "{shown}");

    let every = lazytlb(&[&["check", "--memory", "sc", "--cpu", "all"], &arguments[..]].concat());
    assert_eq!(every.exit_code, 0);
    for model in ["weakest", "amd-k10", "intel-skylake"] {
        let told = format!("Proved of ipi on {model}: where CPU 0 starts map");
        assert!(every.stdout.contains(&told), "{}", every.stdout);
    }
}

/// Page tables are CPU 0's to change, the rest is for all.
#[test]
fn one_set_and_a_number_of_cpus_are_a_set_for_each() {
    let one = "map,unmap,free,switch,touch,lazy";
    let (_, shared) = records(&["--any", one, "--cpus", "2", "--policy", "init-mm"]);
    let (_, listed) = records(&["--any", SETS, "--policy", "init-mm"]);
    for field in ["program", "verdict", "states", "transitions", "statement"] {
        assert_eq!(shared[0][field], listed[0][field], "{field}");
    }
    // Two CPUs that change page tables are asked for with a slash, and take a lock.
    let sets = "map,unmap,switch/map,unmap,touch,switch";
    let (_, both) = records(&["--any", sets, "--policy", "ipi"]);
    let statement = both[0]["statement"].as_str().unwrap();
    assert!(
        statement.contains("under \"page-table lock of space 1\""),
        "{statement}"
    );
}

#[test]
fn a_program_that_ends_has_no_sentence() {
    let (_, records) = records(&["--program", "smoke", "--policy", "ipi"]);
    assert_eq!(records[0]["statement"], Value::Null);
    assert_eq!(records[0]["rests_on"]["stretched"], Value::Null);
}

#[test]
fn what_could_never_start_is_said_to_be_no_part_of_the_proof() {
    let sets = "map,unmap,switch,touch/touch,flush-all";
    let run = lazytlb(&["check", "--memory", "sc", "--policy", "ipi", "--any", sets]);
    assert_eq!(run.exit_code, 0, "{}", run.stdout);
    let lines = run.stdout.lines();
    let never = lines.clone().find(|line| line.starts_with("No proof here"));
    assert!(never.unwrap().contains("CPU 1: touch"), "{}", run.stdout);
    let proved = lines.clone().find(|line| line.starts_with("Proved of ipi"));
    assert!(proved.unwrap().contains("CPU 1 starts flush-all; each"));
}

#[test]
fn a_counterexample_shows_each_start_and_has_a_command_that_repeats_it() {
    let arguments = ["check", "--any", SETS, "--policy", "defer"];
    let run = lazytlb(&arguments);
    assert_eq!(run.exit_code, 1);
    for start in [
        "[starts map]",
        "[starts free]",
        "[starts switch]",
        "[starts lazy]",
    ] {
        assert!(run.stdout.contains(start), "{start}: {}", run.stdout);
    }
    assert!(
        run.stdout
            .contains("CPU 1 came here by: switch, then lazy.")
    );

    let run = lazytlb(&["check", "--memory", "sc", "--any", SETS]);
    assert_eq!(run.exit_code, 1);
    let commands = run
        .stdout
        .lines()
        .filter_map(|line| line.strip_prefix("  lazytlb "));
    let commands: Vec<&str> = commands.collect();
    assert_eq!(commands.len(), 2, "{}", run.stdout);
    for command in commands {
        let repeated = lazytlb(&command.split(' ').collect::<Vec<_>>());
        assert_eq!(repeated.exit_code, 1, "{command}");
        assert!(repeated.stdout.contains("UNSAFE: table-use-after-free"));
    }

    let (_, records) = records(&["--any", SETS, "--policy", "defer"]);
    let trace = records[0]["trace"].as_array().unwrap();
    let starts = trace.iter().filter(|event| event["starts"] == true);
    let starts: Vec<&str> = starts
        .map(|event| event["operation"].as_str().unwrap())
        .collect();
    assert!(
        starts.starts_with(&["map"]) && starts.contains(&"lazy"),
        "{starts:?}"
    );
    assert_eq!(records[0]["statement"], Value::Null);
}

#[test]
fn other_options_of_check_go_on_working() {
    let sets = "map,unmap,free/switch,touch,lazy";
    let (_, plain) = records(&["--any", sets, "--policy", "ipi"]);
    for more in [
        &["--threads", "2"][..],
        &["--fingerprints"],
        &["--no-reduction"],
        &["--cpu", "amd-zen5"],
    ] {
        let (exit_code, records) = records(&[&["--any", sets, "--policy", "ipi"], more].concat());
        assert_eq!(exit_code, 0, "{more:?}");
        assert_eq!(records[0]["verdict"], plain[0]["verdict"], "{more:?}");
    }
    let run = lazytlb(&[
        "check",
        "--any",
        sets,
        "--policy",
        "ipi",
        "--max-states",
        "50",
    ]);
    assert_eq!(run.exit_code, 3);
    assert!(run.stdout.contains("nothing is proved") && !run.stdout.contains("Proved"));
}

/// Two CPUs change page tables: `unmap` flushes under the lock, or after it.
#[test]
fn a_lock_is_taken_as_the_option_says_and_told() {
    let sets = "map,unmap,switch/map,unmap,touch,switch";
    let arguments = |lock| ["--any", sets, "--policy", "ipi", "--lock", lock];
    let (exit_code, safe) = records(&arguments("flush-after-unlock"));
    assert_eq!(exit_code, 0, "{}", safe[0]);
    let statement = safe[0]["statement"].as_str().unwrap();
    let told = "which is taken with interrupts off, and under which no flush begins;";
    assert!(statement.contains(told), "{statement}");
    let (_, usual) = records(&arguments("interrupts-on"));
    let (_, left_out) = records(&["--any", sets, "--policy", "ipi"]);
    let statement = usual[0]["statement"].as_str().unwrap();
    let told = "which is taken with interrupts on, and under which flushes begin;";
    assert!(statement.contains(told), "{statement}");
    for field in ["program", "states", "statement"] {
        assert_eq!(usual[0][field], left_out[0][field], "{field}");
    }
    let off = arguments("interrupts-off");
    let (exit_code, safe) = records(&off);
    assert_eq!(exit_code, 0, "{}", safe[0]);
    let statement = safe[0]["statement"].as_str().unwrap();
    let told = "which is taken with interrupts off, and under which flushes begin;";
    assert!(statement.contains(told), "{statement}");
    let run = lazytlb(&[&["check", "--memory", "sc"], &off[..4]].concat());
    assert!(!run.stdout.contains("--lock"), "{}", run.stdout);
    // The command that shows a violation again takes the lock so, too.
    let sets = "map,free,switch/map,free,touch,switch,lazy";
    let all = ["check", "--memory", "sc", "--any", sets];
    let run = lazytlb(&[&all[..], &["--lock", "interrupts-off"]].concat());
    assert!(
        run.stdout
            .contains(&format!("--any {sets} --lock interrupts-off")),
        "{}",
        run.stdout
    );
}

/// Two spaces share a slot, or have one each; without PCIDs nothing is kept.
#[test]
fn slots_for_pcids_are_what_is_asked_for_and_told() {
    let sets = "map,unmap,free/touch,switch,switch:2,lazy";
    let mut states = Vec::new();
    for slots in [None, Some("1"), Some("2")] {
        let mut arguments = vec!["--any", sets, "--policy", "ipi-on-table-free"];
        arguments.extend(slots.iter().flat_map(|slots| ["--pcids", slots]));
        let (exit_code, records) = records(&arguments);
        let record = &records[0];
        assert_eq!((exit_code, &record["verdict"]), (0, &"safe".into()));
        assert_eq!(record["pcid_slots"].to_string(), slots.unwrap_or("null"));
        let unreached = record["unreached"].to_string();
        // With one slot a CPU comes back from the kernel's own space alone, which it leaves for when it is behind.
        let nothing_is_kept = slots == Some("1");
        assert_eq!(unreached.contains("PCID was kept"), nothing_is_kept);
        assert!(!unreached.contains("PCID was behind"), "{unreached}");
        let shown = lazytlb(&[&["check", "--memory", "sc"], &arguments[..]].concat()).stdout;
        let told = match slots {
            None => format!("every program over {sets} on CPU"),
            Some("1") => format!("every program over {sets} with PCIDs, 1 slot a CPU, on CPU"),
            Some(slots) => {
                format!("every program over {sets} with PCIDs, {slots} slots a CPU, on CPU")
            }
        };
        assert!(shown.starts_with(&told), "{shown}");
        states.push(record["states"].as_u64());
    }
    assert!(
        states[1] < states[2] && states[0] != states[1],
        "{states:?}"
    );
    let run = lazytlb(&["check", "--any", sets, "--memory", "sc", "--pcids", "2"]);
    assert!(run.stdout.contains(&format!(
        "  lazytlb check --policy defer --any {sets} --pcids 2 --cpu"
    )));
    let run = lazytlb(&["check", "--any", sets, "--pcids", "4"]);
    assert!(
        run.exit_code == 2 && run.stderr.contains("[possible values: 1, 2, 3]"),
        "{}",
        run.stderr
    );
}

#[test]
fn wrong_sets_say_what_to_do() {
    let cases: [(&[&str], &[&str]); 13] = [
        (&["--any", "map,unamp"], &["'unamp'", "'unmap'"]),
        (&["--any", "map/tuch"], &["'tuch'", "'touch'"]),
        (&["--any", "map/"], &["CPU 1 has an empty set"]),
        (&["--any", ""], &["CPU 0 has an empty set"]),
        (&["--any", "map/map/map/map/map"], &["5 CPUs", "up to 4"]),
        (&["--any", "map", "--cpus", "5"], &["5 is not in 1..=4"]),
        (
            &["--any", "map", "--cpus", "2"],
            &["add operations such as"],
        ),
        (&["--any", "map/touch", "--cpus", "2"], &["leave it out"]),
        (&["--cpus", "2"], &["--any"]),
        (&["--lock", "interrupts-off"], &["--any"]),
        (
            &["--any", "map/map", "--lock", "interrupt-off"],
            &["'interrupts-off'"],
        ),
        (
            &["--any", "map/touch", "--lock", "interrupts-off"],
            &["no two change those of one space: leave it out"],
        ),
        (&["--any", "map", "--program", "smoke"], &["--program"]),
    ];
    for (arguments, words) in cases {
        let run = lazytlb(&[&["check"], arguments].concat());
        assert_eq!(run.exit_code, 2, "{arguments:?}: {}", run.stdout);
        for words in words {
            assert!(run.stderr.contains(words), "{words}: {}", run.stderr);
        }
    }
}

#[test]
fn help_and_completions_teach_the_operations() {
    let help = lazytlb(&["check", "--help"]).stdout;
    for words in [
        "- free:",
        "- flush-all:",
        "--any map,unmap,free,switch,touch,lazy --cpus 2",
        "- flush-after-unlock: interrupts are off",
    ] {
        assert!(help.contains(words), "{words}: {help}");
    }
    for shell in ["bash", "zsh", "fish"] {
        let script = lazytlb(&["completions", shell]).stdout;
        assert!(script.contains("flush-all"), "{shell}");
        assert!(script.contains("flush-after-unlock"), "{shell}");
    }
}

/// Page-table isolation: a space has a root more, and the command that is told names it.
#[test]
fn isolated_spaces_have_a_root_for_user_mode() {
    let sets = "map,unmap/switch,touch";
    let (exit_code, records) = records(&["--any", sets, "--isolation", "--policy", "ipi"]);
    assert_eq!(exit_code, 0);
    let statement = records[0]["statement"].as_str().unwrap();
    assert!(
        statement.contains("(root in frame 1, in user mode frame 2)"),
        "{statement}"
    );
    let program = records[0]["program"].as_str().unwrap();
    assert!(program.ends_with("--isolation"), "{program}");
    let alone = lazytlb(&["check", "--isolation", "--policy", "ipi"]);
    assert_eq!(alone.exit_code, 2, "{}", alone.stderr);
}
