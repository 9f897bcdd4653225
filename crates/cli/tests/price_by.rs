//! `price --by`: parts that add up to the whole.

#![allow(clippy::unwrap_used)] // A test that fails is to panic.

mod program;

use std::collections::BTreeMap;

use program::{lazytlb, shipped_trace};
use serde_json::Value;

fn json(arguments: &[&str]) -> Vec<Value> {
    let run = lazytlb(&[arguments, &["--json"]].concat());
    assert_eq!(run.exit_code, 0, "{}", run.stderr);
    run.json()
}

fn mixed() -> String {
    let path = shipped_trace("linux61-smp8-mixed.trace.txt.xz");
    path.to_str().unwrap().to_owned()
}

/// Sums of the counts, by policy and PCIDs.
fn sums(rows: &[Value]) -> BTreeMap<(String, String), BTreeMap<String, u64>> {
    let mut sums = BTreeMap::new();
    for row in rows {
        let of = |name: &str| row[name].as_str().unwrap().to_owned();
        let sum: &mut BTreeMap<_, _> = sums.entry((of("policy"), of("pcids"))).or_default();
        for (name, value) in row.as_object().unwrap() {
            let is_count = !["tgid", "task", "given_before", "events", "ipis_received"]
                .contains(&name.as_str());
            if let (true, Some(number)) = (is_count, value.as_u64()) {
                *sum.entry(name.clone()).or_default() += number;
            }
        }
    }
    sums
}

#[test]
fn parts_add_up_to_what_price_tells_without_them() {
    let trace = mixed();
    let whole = sums(&json(&["price", &trace]));
    assert_eq!(whole.len(), 12);
    for by in ["process", "time", "time=0.37"] {
        let rows = json(&["price", &trace, "--by", by]);
        assert!(rows.len() > 12 * 10, "{by}: {}", rows.len());
        assert_eq!(sums(&rows), whole, "{by}");
    }
}

/// A CPU that falls asleep may leave its space first, and no operation asks for that.
#[test]
fn what_cpus_do_before_they_sleep_is_in_some_part() {
    let states = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(
        states.path(),
        "idle-driver intel_idle\nidle-state 1 C6 133\n",
    )
    .unwrap();
    let (trace, states) = (mixed(), states.path().to_str().unwrap());
    let command = ["price", &trace, "--idle-states", states];
    let whole = sums(&json(&command));
    let left = |sums: &BTreeMap<String, u64>| sums["left_before_sleep"];
    assert!(whole.values().any(|sums| left(sums) > 1000), "{whole:?}");
    for by in ["process", "time"] {
        let rows = json(&[&command[..], &["--by", by]].concat());
        assert_eq!(sums(&rows), whole, "{by}");
    }
}

#[test]
fn fewer_processes_leave_more_in_the_row_of_the_others() {
    let trace = mixed();
    let command = ["price", &trace, "--policy", "ipi", "--pcids", "off"];
    let whole = sums(&json(&command));
    for top in ["1", "3", "100000"] {
        let rows = json(&[&command[..], &["--by", "process", "--top", top]].concat());
        assert_eq!(sums(&rows), whole, "{top}");
        let others = rows.iter().filter(|row| row["whose"] == "others").count();
        assert_eq!(others, usize::from(top != "100000"), "{top}");
        // The kernel's own row and that of the idle tasks follow.
        let is_process = |row: &&Value| row["whose"] == "process" || row["whose"] == "unknown";
        let told = rows.iter().take_while(is_process).count();
        assert!(told <= top.parse().unwrap());
        let after: Vec<_> = rows[told..].iter().map(|row| &row["whose"]).collect();
        assert_eq!(after[..2], ["kernel", "idle"], "{top}");
        assert_eq!(after.len(), 2 + others);
        let costs = rows[..told]
            .iter()
            .map(|row| row["cost_cycles"].as_f64().unwrap());
        assert!(costs.is_sorted_by(|a, b| a >= b), "the dearest first");
    }
}

#[test]
fn intervals_follow_each_other_from_the_first_event_to_the_last() {
    let command = ["price", &mixed(), "--policy", "ipi", "--pcids", "off"];
    let rows = json(&[&command[..], &["--by", "time=0.5"]].concat());
    let second = |row: &Value, name: &str| row[name].as_f64().unwrap();
    // From 8.120688 s to 26.997257 s.
    assert_eq!(rows.len(), 38);
    assert!((second(&rows[0], "from_seconds") - 8.120_688).abs() < 1e-9);
    for two in rows.windows(2) {
        assert_eq!(two[0]["to_seconds"], two[1]["from_seconds"]);
    }
    assert!(second(&rows[37], "to_seconds") > 26.997_257);
    let run = lazytlb(&[&command[..], &["--by", "time=0.001"]].concat());
    assert_eq!((run.exit_code, &*run.stdout), (2, ""));
    let given = run.stderr.split("give --by ").nth(1).unwrap();
    let given = given.split(',').next().unwrap();
    let rows = json(&[&command[..], &["--by", given]].concat());
    assert!(
        (9_990..=10_000).contains(&rows.len()),
        "{}: {given}",
        rows.len()
    );
}

/// Two threads of one process that is made in the recording, a process that is older, and a kernel thread.
const SMALL: &str = "\
      sh-9 [000] d.... 1.000001: task_newtask: pid=20 comm=sh clone_flags=1200000 oom_score_adj=0\n\
      sh-9 [000] d.... 1.000002: sched_switch: prev_comm=sh prev_pid=9 prev_prio=120 prev_state=S ==> next_comm=sh next_pid=20 next_prio=120\n\
      sh-9 [000] d.Z1. 1.000003: switch_mm: (f+0x35/0x470) next=0xf0 tsk=0xe0 nctx=7\n\
      sh-20 [000] d.... 1.000004: task_newtask: pid=21 comm=sh clone_flags=3d0f00 oom_score_adj=0\n\
  <idle>-0 [001] d.... 1.000005: sched_switch: prev_comm=swapper/1 prev_pid=0 prev_prio=120 prev_state=R ==> next_comm=sh next_pid=21 next_prio=120\n\
  <idle>-0 [001] d.Z1. 1.000006: switch_mm: (f+0x35/0x470) next=0xf0 tsk=0xe1 nctx=7\n\
      sh-20 [000] d.Z.. 1.000007: flush_mm_range: (f+0x5/0x170) mm=0xf0 start=0x1000 end=0x3000 stride=12 freed=1 ctx=7\n\
      sh-21 [001] d.... 1.000008: sched_switch: prev_comm=sh prev_pid=21 prev_prio=120 prev_state=S ==> next_comm=kworker/1:1 next_pid=70 next_prio=120\n\
      sh-21 [001] d.Z1. 1.000009: enter_lazy: (f+0xd/0x30) mm=0xf0 tsk=0xe8 loaded=0xf0\n\
 kworker/1:1-70 [001] d.... 1.000010: sched_switch: prev_comm=kworker/1:1 prev_pid=70 prev_prio=120 prev_state=S ==> next_comm=swapper/1 next_pid=0 next_prio=120\n\
 kworker/1:1-70 [001] d.Z1. 1.000011: enter_lazy: (f+0xd/0x30) mm=0xf0 tsk=0xe8 loaded=0xf0\n\
  <idle>-0 [001] d.... 1.000012: sched_switch: prev_comm=swapper/1 prev_pid=0 prev_prio=120 prev_state=R ==> next_comm=db next_pid=55 next_prio=120\n\
  <idle>-0 [001] d.Z1. 1.000013: switch_mm: (f+0x35/0x470) next=0xf1 tsk=0xe2 nctx=8\n";

#[test]
fn an_operation_is_of_the_process_that_asked_for_it() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let file = directory.path().join(name);
        std::fs::write(&file, text).unwrap();
        file.to_str().unwrap().to_owned()
    };
    let trace = write("small.txt", SMALL);
    let tasks = write(
        "tasks.txt",
        "task 55 50 db-server 1\ntask 70 70 kworker/1:1 0\n",
    );
    let command = [
        "price", &trace, "--policy", "ipi", "--pcids", "off", "--by", "process",
    ];
    let rows = json(&[&command[..], &["--tasks", &tasks]].concat());
    let of = |tgid: Value, whose: &str| {
        let mut rows = rows.iter();
        let row = rows.find(|row| row["whose"] == whose && row["tgid"] == tgid);
        let row = row.unwrap_or_else(|| panic!("{whose} {tgid}: {rows:?}"));
        (
            row["operations"].as_u64().unwrap(),
            row["ipis"].as_u64().unwrap(),
        )
    };
    // Two switches, a flush that interrupts the other thread, and one that goes lazy.
    assert_eq!(of(20.into(), "process"), (4, 1));
    // Its first thread never leaves a CPU here, so it has no name.
    let nameless = rows.iter().find(|row| row["tgid"] == 20).unwrap();
    assert_eq!(nameless["name"], Value::Null);
    assert_eq!(of(50.into(), "process"), (1, 0));
    assert_eq!(of(Value::Null, "kernel"), (1, 0));
    assert_eq!(rows.len(), 3, "{rows:?}");
    let named = rows.iter().find(|row| row["tgid"] == 50).unwrap();
    assert_eq!(
        (&named["name"], &named["task"]),
        (&"db-server".into(), &55.into())
    );
    let told = lazytlb(&command).stdout;
    assert!(told.contains(" of task 55 "), "without a list: {told}");
    assert!(told.contains(" kernel "), "{told}");
}

#[test]
fn each_ipi_takes_the_time_of_what_ran_on_its_cpu() {
    let flush = "      sh-20 [000] d.Z.. 1.000011: flush_mm_range: (f+0x5/0x170) mm=0xf0 start=0x1000 end=0x3000 stride=12 freed=1 ctx=7\n";
    let directory = tempfile::tempdir().unwrap();
    // CPU 0 has interrupted the other thread; it asks once more, later.
    let received = |before: &str, policy: &str| {
        let at = SMALL.find(before).unwrap();
        let trace = directory.path().join("small.txt");
        let flush = flush.replace("1.000011", &before[before.len() - 8..]);
        std::fs::write(&trace, [&SMALL[..at], &flush, &SMALL[at..]].concat()).unwrap();
        let trace = trace.to_str().unwrap();
        let command = ["price", trace, "--pcids", "off", "--by", "process"];
        let command = [&command[..], &["--policy", policy]].concat();
        let rows = json(&command);
        let of = |whose: &str| {
            let own = rows.iter().filter(|row| row["whose"] == whose);
            let received = own.map(|row| row["ipis_received"].as_u64().unwrap());
            received.sum::<u64>()
        };
        let told = lazytlb(&command).stdout;
        assert!(told.contains(" received "), "{told}");
        assert_eq!(told.contains("\n idle "), of("idle") > 0, "{told}");
        ["process", "kernel", "idle"].map(of)
    };
    let (in_thread, in_idle) = (
        "kworker/1:1-70 [001] d.... 1.000010",
        "<idle>-0 [001] d.... 1.000012",
    );
    assert_eq!(received(in_thread, "ipi"), [1, 1, 0]);
    assert_eq!(received(in_idle, "ipi"), [1, 0, 1]);
    // Lazy CPUs have left the space.
    assert_eq!(received(in_thread, "init-mm"), [1, 0, 0]);
    assert_eq!(received(in_idle, "init-mm"), [1, 0, 0]);
}

#[test]
fn what_is_received_adds_up_to_what_is_sent_policy_by_policy() {
    let trace = mixed();
    let rows = json(&["price", &trace, "--by", "process", "--top", "3"]);
    let mut sums: BTreeMap<_, [u64; 6]> = BTreeMap::new();
    for row in &rows {
        let of = |name: &str| row[name].as_u64().unwrap();
        let settings = (row["policy"].to_string(), row["pcids"].to_string());
        let received = of("ipis_received");
        let of_whose = |whose| if row["whose"] == whose { received } else { 0 };
        let numbers = [
            of("ipis"),
            received,
            of("ipis_to_idle"),
            of_whose("idle"),
            of("ipis_to_lazy"),
            of_whose("kernel"),
        ];
        let sum = sums.entry(settings).or_default();
        sum.iter_mut()
            .zip(numbers)
            .for_each(|(sum, one)| *sum += one);
    }
    assert_eq!(sums.len(), 10);
    for (settings, [sent, received, to_idle, by_idle, to_lazy, by_kernel]) in sums {
        assert_eq!(
            (sent, to_idle, to_lazy),
            (received, by_idle, by_kernel),
            "{settings:?}"
        );
        assert!(sent > 0);
    }
    let by_time = json(&["price", &trace, "--by", "time", "--policy", "ipi"]);
    assert!(by_time.iter().all(|row| row.get("ipis_received").is_none()));
}

#[test]
fn processes_of_a_recording_have_the_names_that_they_left_their_cpus_with() {
    let command = [
        "price",
        &mixed(),
        "--policy",
        "ipi",
        "--pcids",
        "off",
        "--by",
        "process",
    ];
    let rows = json(&command);
    let name = |tgid: u32| {
        let row = rows.iter().find(|row| row["tgid"] == tgid);
        row.map(|row| row["name"].clone())
    };
    let shared = rows.iter().filter(|row| row["name"] == "databaselike");
    assert!(shared.count() >= 1, "{rows:?}");
    assert_eq!(name(161), Some("databaselike".into()));
}

#[test]
fn what_cannot_be_split_says_what_to_give() {
    let trace = mixed();
    for (arguments, reason) in [
        (&["price", &trace, "--by", "cpu"][..], "time=SECONDS"),
        (
            &["price", &trace, "--by", "time=0"],
            "write the seconds of an interval",
        ),
        (&["price", &trace, "--top", "0"], "0 is not in 1.."),
        (
            &["price", &trace, "other.txt", "--by", "time"],
            "ask for each by itself",
        ),
    ] {
        let run = lazytlb(arguments);
        assert_eq!(run.exit_code, 2, "{arguments:?}");
        assert!(run.stderr.contains(reason), "{}", run.stderr);
    }
    let help = lazytlb(&["price", "--help"]).stdout;
    assert!(
        help.contains("--by process --top 5") && help.contains("time[=SECONDS]"),
        "{help}"
    );
}
