//! Operations from tracepoints alone.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use lazytlb_trace::{
    MadeFrom, MmId, Onto, OperationKind, Range, Snapshot, Step, Summary, Tables, TraceError,
    TraceReader,
};

/// Two CPUs; task 8 has a space by its fork, task 2 is the parent of kernel threads.
const BEGIN: &str = "\
  a-8 [000] ..... 1.000001: task_newtask: pid=9 comm=a clone_flags=1200000
  <idle>-0 [001] d..2. 1.000002: sched_switch: prev_pid=0 ==> next_comm=a next_pid=9
  <idle>-0 [001] d..2. 1.000003: tlb_flush: pages:-1 reason:flush on task switch (0)
";

fn read(text: &str, tasks: &str) -> (Vec<(u16, OperationKind)>, Summary) {
    let mut reader = TraceReader::new(text.as_bytes(), "t").unwrap();
    if !tasks.is_empty() {
        reader = reader.with_tasks(Snapshot::parse(tasks, "tasks").unwrap());
    }
    let mut operations = Vec::new();
    while let Some(step) = reader.next_step().unwrap() {
        if let Step::Operation(operation) = step {
            operations.push((operation.cpu, operation.kind));
        }
    }
    (operations, reader.summary().clone())
}

/// The switches of CPU 1.
fn switches(operations: &[(u16, OperationKind)]) -> Vec<(u16, MmId)> {
    let switch = |&(cpu, kind): &(u16, OperationKind)| match kind {
        OperationKind::Switch { mm } if cpu == 1 => Some((cpu, mm)),
        _ => None,
    };
    operations.iter().filter_map(switch).collect()
}

fn flushes(operations: &[(u16, OperationKind)]) -> Vec<(MmId, Range, Tables)> {
    let flush = |&(_, kind): &(u16, OperationKind)| match kind {
        OperationKind::Flush { mm, range, tables } => Some((mm, range, tables)),
        _ => None,
    };
    operations.iter().filter_map(flush).collect()
}

#[test]
fn one_flush_makes_one_operation_of_two_events() {
    let text = format!(
        "{BEGIN}\
  a-9 [001] ...1. 1.000010: tlb_flush: pages:3 reason:remote ipi send (4)
  a-9 [001] d..2. 1.000011: tlb_flush: pages:3 reason:local mm shootdown (3)
  a-9 [001] d..2. 1.000012: tlb_flush: pages:1 reason:local MM shootdown (3)
"
    );
    let (operations, summary) = read(&text, "");
    assert_eq!(summary.made_from, MadeFrom::Tracepoints);
    let pages = |pages| Range::Pages {
        start: 0,
        pages,
        stride_shift: 12,
    };
    let ranges: Vec<Range> = flushes(&operations).iter().map(|flush| flush.1).collect();
    assert_eq!(ranges, [pages(3), pages(1)]);
    assert_eq!(summary.unknown_tables, 2);
}

/// Some tasks never appear as who leaves: what the missing switch loaded, no event shows.
#[test]
fn a_task_whose_switch_is_missing_runs_in_its_space() {
    let text = format!(
        "{BEGIN}\
  a-8 [000] ..... 1.000004: task_newtask: pid=20 comm=a clone_flags=1200000
  a-20 [001] d..2. 1.000011: tlb_flush: pages:1 reason:local mm shootdown (3)
  a-20 [001] d..2. 1.000012: sched_switch: prev_pid=20 ==> next_comm=swapper/1 next_pid=0
"
    );
    let (operations, summary) = read(&text, "");
    assert_eq!(summary.chain_repairs, 1);
    let spaces = switches(&operations);
    let [(1, first), (1, second)] = spaces[..] else {
        panic!("{operations:?}");
    };
    assert_ne!(first, second);
    assert_eq!(flushes(&operations)[0].0, second);
    let onto = OperationKind::GoLazy { onto: Onto::Idle };
    assert_eq!(operations.last(), Some(&(1, onto)));
    assert_eq!(summary.operations.go_lazy, 1, "{operations:?}");
}

#[test]
fn lazy_cpus_tell_whether_tables_are_freed() {
    let flush = |answer: &str| {
        let text = format!(
            "{BEGIN}\
  a-9 [001] ..... 1.000004: task_newtask: pid=10 comm=a clone_flags=3d0f00
  a-8 [000] d..2. 1.000005: sched_switch: prev_pid=8 ==> next_comm=a next_pid=10
  a-8 [000] d..2. 1.000006: tlb_flush: pages:-1 reason:flush on task switch (0)
  a-10 [000] d..2. 1.000007: sched_switch: prev_pid=10 ==> next_comm=swapper/0 next_pid=0
  a-9 [001] ...1. 1.000010: tlb_flush: pages:3 reason:remote ipi send (4)
{answer}  a-9 [001] d..2. 1.000020: sched_switch: prev_pid=9 ==> next_comm=swapper/1 next_pid=0
"
        );
        flushes(&read(&text, "").0)[0].2
    };
    let left =
        "  <idle>-0 [000] d.h1. 1.000012: tlb_flush: pages:-1 reason:flush on task switch (0)\n";
    assert_eq!(flush(left), Tables::Freed);
    assert_eq!(flush(""), Tables::Kept);
    let moved =
        "  <idle>-0 [000] d..2. 1.000012: sched_switch: prev_pid=0 ==> next_comm=a next_pid=10\n";
    assert_eq!(flush(moved), Tables::Unknown);
}

/// Two CPUs are lazy on the space of CPU 1: tasks 10 and 11 ran there, on CPUs 0 and 2.
const TWO_LAZY: &str = "\
  a-9 [001] ..... 1.000004: task_newtask: pid=10 comm=a clone_flags=3d0f00
  a-9 [001] ..... 1.000004: task_newtask: pid=11 comm=a clone_flags=3d0f00
  a-8 [000] d..2. 1.000005: sched_switch: prev_pid=8 ==> next_comm=a next_pid=10
  a-8 [000] d..2. 1.000006: tlb_flush: pages:-1 reason:flush on task switch (0)
  a-10 [000] d..2. 1.000007: sched_switch: prev_pid=10 ==> next_comm=swapper/0 next_pid=0
  <idle>-0 [002] d..2. 1.000008: sched_switch: prev_pid=0 ==> next_comm=a next_pid=11
  <idle>-0 [002] d..2. 1.000009: tlb_flush: pages:-1 reason:flush on task switch (0)
  a-11 [002] d..2. 1.000010: sched_switch: prev_pid=11 ==> next_comm=swapper/2 next_pid=0
";

#[test]
fn a_flush_that_leaves_one_lazy_cpu_alone_keeps_the_tables() {
    let send = |seconds: &str| {
        format!("  a-9 [001] ...1. {seconds}: tlb_flush: pages:3 reason:remote ipi send (4)\n")
    };
    let leaves = |cpu: u32, seconds: &str| {
        format!(
            "  <idle>-0 [00{cpu}] d.h1. {seconds}: tlb_flush: pages:-1 reason:flush on task switch (0)\n"
        )
    };
    let tables = |text: String| {
        let (operations, _) = read(&format!("{BEGIN}{TWO_LAZY}{text}"), "");
        let flushes = flushes(&operations);
        flushes.iter().map(|flush| flush.2).collect::<Vec<_>>()
    };
    let (first, second) = (send("1.000020"), send("1.000030"));
    // CPU 0 may have gone lazy as it was chosen; that CPU 2 was spared shows that it is not the tables.
    let one = leaves(0, "1.000021");
    assert_eq!(
        tables(format!("{first}{one}{second}")),
        [Tables::Kept, Tables::Unknown]
    );
    // Once both have left for init_mm they are in no cpumask, and tell nothing of the next flush.
    let both = one + &leaves(2, "1.000022");
    assert_eq!(
        tables(format!("{first}{both}{second}")),
        [Tables::Freed, Tables::Unknown]
    );
}

#[test]
fn a_switch_that_writes_no_cr3_is_to_a_task_that_gave_up_its_space() {
    let to_8 = "\
  a-9 [001] d..2. 1.000010: sched_switch: prev_pid=9 ==> next_comm=swapper/1 next_pid=0
  <idle>-0 [001] d..2. 1.000011: sched_switch: prev_pid=0 ==> next_comm=c next_pid=20
  <idle>-0 [001] d..2. 1.000012: tlb_flush: pages:-1 reason:flush on task switch (0)
  c-20 [001] d..2. 1.000013: sched_switch: prev_pid=20 ==> next_comm=a next_pid=9
";
    let loads =
        "  c-20 [001] d..2. 1.000014: tlb_flush: pages:-1 reason:flush on task switch (0)\n";
    let exits = "  a-9 [001] ..... 1.000015: sched_process_exit: comm=a pid=9 prio=120\n";
    let tasks = "task 20 20 c 1\n";
    let (stays, _) = read(&format!("{BEGIN}{to_8}{loads}{exits}"), tasks);
    let (gone, _) = read(&format!("{BEGIN}{to_8}{exits}"), tasks);
    assert_eq!(switches(&stays).len(), 3);
    assert_eq!(switches(&gone).len(), 2);
}

#[test]
fn the_last_flush_of_a_space_is_told_where_it_is_seen_before_or_after_the_exit() {
    let exits = "  a-9 [001] ..... 1.000010: sched_process_exit: comm=a pid=9 prio=120\n";
    let sends = "  a-9 [001] ...1. 1.000012: tlb_flush: pages:-1 reason:remote ipi send (4)\n";
    let leaves =
        "  a-9 [001] d..1. 1.000013: tlb_flush: pages:-1 reason:flush on task switch (0)\n";
    let goes =
        "  a-9 [001] d..2. 1.000020: sched_switch: prev_pid=9 ==> next_comm=swapper/1 next_pid=0\n";
    for (events, after) in [
        // Linux 6.16 and later; and one whose flush shows nothing.
        (format!("{exits}{sends}{leaves}{goes}"), 12),
        (format!("{exits}{leaves}{goes}"), 13),
        (format!("{exits}{goes}"), 20),
    ] {
        let text = format!("{BEGIN}{events}");
        let mut reader = TraceReader::new(text.as_bytes(), "t").unwrap();
        let mut flushed = Vec::new();
        while let Some(step) = reader.next_step().unwrap() {
            if let Step::Operation(operation) = step
                && let OperationKind::Flush { range, tables, .. } = operation.kind
            {
                flushed.push((operation.time_ns % 1_000_000 / 1000, range, tables));
            }
        }
        assert_eq!(flushed, [(after, Range::All, Tables::Freed)], "{events}");
    }
}

#[test]
fn a_kernel_thread_that_sends_for_the_space_of_others_gets_none_of_its_own() {
    let text = format!(
        "{BEGIN}\
  a-9 [001] d..2. 1.000010: sched_switch: prev_pid=9 ==> next_comm=khugepaged next_pid=67
  khugepaged-67 [001] ...1. 1.000011: tlb_flush: pages:-1 reason:remote ipi send (4)
  khugepaged-67 [001] d..2. 1.000012: sched_switch: prev_pid=67 ==> next_comm=swapper/1 next_pid=0
"
    );
    let (operations, _) = read(&text, "");
    assert_eq!(switches(&operations).len(), 1);
    assert_eq!(flushes(&operations).len(), 1);
}

#[test]
fn events_of_another_kind_stand_between_a_switch_and_its_effect_and_change_nothing() {
    let begin: String = BEGIN
        .lines()
        .flat_map(|line| {
            let other = line.split_once(": ").map_or("", |(head, _)| head);
            [
                line.to_owned(),
                format!("{other}: zwitch_mm: (f+0x35/0x470) next=0xf0"),
            ]
        })
        .map(|line| line + "\n")
        .collect();
    assert_eq!(read(&begin, "").0, read(BEGIN, "").0);
}

#[test]
fn exec_and_exit_load_another_space_and_are_told_apart() {
    let loads = "  a-9 [001] d..1. 1.000010: tlb_flush: pages:-1 reason:flush on task switch (0)\n";
    let exec = "  a-9 [001] ..... 1.000012: sched_process_exec: filename=/b pid=9 old_pid=9\n";
    let exit = "  a-9 [001] ..... 1.000012: sched_process_exit: comm=a pid=9 prio=120\n";
    let (execs, _) = read(&format!("{BEGIN}{loads}{exec}"), "");
    let (exits, _) = read(&format!("{BEGIN}{loads}{exit}"), "");
    let first = switches(&execs)[0].1;
    assert_eq!(switches(&execs).len(), 2);
    assert_eq!(switches(&exits), [(1, first)]);
    for operations in [&execs, &exits] {
        assert_eq!(flushes(operations), [(first, Range::All, Tables::Freed)]);
    }
    let retired = OperationKind::Retire { mm: first };
    assert!(execs.contains(&(1, retired)) && !exits.contains(&(1, retired)));
}

#[test]
fn tasks_that_ran_before_are_told_by_a_snapshot_or_counted() {
    let text = format!(
        "{BEGIN}\
  a-9 [001] d..2. 1.000010: sched_switch: prev_pid=9 ==> next_comm=k next_pid=30
  k-30 [001] d..2. 1.000012: sched_switch: prev_pid=30 ==> next_comm=b next_pid=40
  k-30 [001] d..2. 1.000013: tlb_flush: pages:-1 reason:flush on task switch (0)
"
    );
    let (operations, summary) = read(&text, "");
    assert_eq!(summary.unknown_tasks, 1);
    assert!(
        summary
            .warnings()
            .iter()
            .any(|warning| warning.contains("--tasks FILE"))
    );
    let lazy = OperationKind::GoLazy {
        onto: Onto::KernelThread,
    };
    assert!(operations.contains(&(1, lazy)));
    let (told, summary) = read(&text, "task 30 30 k 0\ntask 40 40 b 1\n");
    assert_eq!(summary.unknown_tasks, 0);
    assert_eq!(switches(&told).len(), switches(&operations).len());
}

#[test]
fn a_recording_that_lacks_cpus_is_refused_unless_that_is_accepted() {
    let text = format!("# entries-in-buffer/entries-written: 3/3   #P:128\n{BEGIN}");
    let mut reader = TraceReader::new(text.as_bytes(), "t").unwrap();
    let error = loop {
        match reader.next_step() {
            Ok(Some(_)) => {}
            Ok(None) => panic!("126 CPUs are missing"),
            Err(error) => break error,
        }
    };
    assert!(matches!(
        error,
        TraceError::MissingCpus {
            announced: 128,
            seen: 2,
            ..
        }
    ));
    let reader = TraceReader::new(text.as_bytes(), "t").unwrap();
    let mut reader = reader.accept_partial();
    while reader.next_step().unwrap().is_some() {}
}
