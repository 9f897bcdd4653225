//! Names of tasks, trace markers and other text that user space chooses make no events.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod all_events;
mod fixture;

use all_events::events;
use lazytlb_trace::{Kind, LineProblem, Step, TraceError, TraceReader};

const LAST: &str = "  sh-9 [001] ..... 9.000000: sched_switch: prev_comm=sh prev_pid=9 prev_prio=120 prev_state=S ==> next_comm=";

/// Reads lines, and returns the problem.
fn problem(text: &str) -> LineProblem {
    match events(text.as_bytes()).unwrap_err() {
        TraceError::Line { problem, .. } => problem,
        other => panic!("{other}"),
    }
}

#[test]
fn the_rest_of_a_name_with_a_line_feed_is_no_comment() {
    // The task is 15, and its name has 15 bytes.
    for name in ["x next_pid=5\n#", " next_pid=5\n#  ", "x next_pid=5\n"] {
        let text = format!("{LAST}{name} next_pid=15 next_prio=120\n");
        let found = problem(&text);
        assert!(
            matches!(
                found,
                LineProblem::CommentBetweenEvents { .. } | LineProblem::Malformed { .. }
            ),
            "{found}"
        );
    }
    let header = "# tracer: nop\n# entries-in-buffer/entries-written: 2/2   #P:2\n";
    let text = format!("{header}{LAST}x next_pid=5\n# tracer: nop next_pid=15 next_prio=120\n");
    assert!(matches!(
        problem(&text),
        LineProblem::CommentBetweenEvents { .. }
    ));
}

#[test]
fn names_cannot_be_another_tasks_number() {
    for name in ["a:5 [1]", " next_pid=5 ", "x:5 [120] S ==>", "]", ":5 ["] {
        for (text, pid) in [
            (format!("{LAST}{name} next_pid=15 next_prio=120\n"), 15),
            (
                format!(
                    "cpus=2\n  sh-9 [001] 9.000000: sched_switch: {name}:9 [120] S ==> {name}:15 [120]\n"
                ),
                15,
            ),
        ] {
            let mut reader = TraceReader::new(text.as_bytes(), "t").unwrap();
            let Some(Step::Event(event)) = reader.next_step().unwrap() else {
                panic!("{text}");
            };
            assert_eq!(event.kind, Kind::SchedSwitch { next: pid }, "{text}");
        }
    }
}

#[test]
fn a_marker_that_holds_lines_is_noticed_where_the_header_counts() {
    const FORGED: &str =
        "     sh-1       [000] .....     6.000000: tlb_flush: pages:1 reason:x (3)\n";
    const MARKER: &str = "     sh-1       [000] .....     6.000000: tracing_mark_write: x\n";
    let counted = fixture::TRACE.replace("52/52", "53/53");
    assert!(events([&counted, MARKER].concat().as_bytes()).is_ok());
    let found = problem(&[&counted, MARKER, FORGED].concat());
    assert_eq!(found, LineProblem::MoreThanAnnounced { announced: 53 });
    // A marker that brings its own header: within the recording, and at its end.
    let header = "# tracer: nop\n# entries-in-buffer/entries-written: 1/1   #P:4\n";
    for before in [fixture::TRACE.replace("52/52", "60/60"), counted] {
        let found = problem(&[&before, MARKER, header, FORGED].concat());
        assert!(
            matches!(found, LineProblem::CommentBetweenEvents { .. }),
            "{found}"
        );
    }
    // Two recordings, the first of which does not end in text.
    let last = "     sh-1       [000] .....     6.000000: tlb_flush: pages:1 reason:x (3)\n";
    let first = fixture::TRACE.replace("52/52", "53/53");
    let both = [&first, last, header, FORGED].concat();
    assert_eq!(events(both.as_bytes()).unwrap().len(), 54);
    // The latency format counts, too.
    let header = "# latency: 0 us, #1/1, CPU#0 | (M:preempt #P:4)\n";
    let line = "      sh-1         0..... 1us : tracing_mark_write: x\n";
    assert_eq!(
        problem(&[header, line, line].concat()),
        LineProblem::MoreThanAnnounced { announced: 1 }
    );
}
