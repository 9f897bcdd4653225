//! The same events in every layout of text are the same events.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod all_events;
mod fixture;

use all_events::events;
use lazytlb_trace::{Context, Event, LineProblem, Step, TextLayout, TraceError, TraceReader};

/// A line of the kernel's text, taken apart by its columns.
struct Line<'a> {
    comm: &'a str,
    pid: &'a str,
    cpu: &'a str,
    flags: &'a str,
    seconds: &'a str,
    name: &'a str,
    fields: &'a str,
}

fn lines() -> Vec<Line<'static>> {
    let events = fixture::TRACE.lines().filter(|line| !line.starts_with('#'));
    events
        .map(|line| {
            let (task, rest) = line.split_at(25);
            let (comm, pid) = task.trim_end().rsplit_once('-').unwrap();
            let (cpu, rest) = rest[1..].split_once("] ").unwrap();
            let (flags, rest) = rest.split_once(' ').unwrap();
            let (seconds, rest) = rest.trim_start().split_once(": ").unwrap();
            let (name, fields) = rest.split_once(": ").unwrap();
            Line {
                comm: comm.trim_start(),
                pid,
                cpu: cpu.trim_start_matches('0'),
                flags,
                seconds,
                name,
                fields,
            }
        })
        .collect()
}

fn expected(context: impl Fn(Context) -> Context) -> Vec<Event> {
    let mut expected = events(fixture::TRACE.as_bytes()).unwrap();
    for event in &mut expected {
        event.context = context(event.context);
    }
    expected
}

fn print(header: &str, line: impl Fn(&Line<'_>) -> String) -> String {
    let lines: Vec<_> = lines().iter().map(line).collect();
    format!("{header}{}\n", lines.join("\n"))
}

fn number(cpu: &str) -> u32 {
    match cpu {
        "" => 0,
        digits => digits.parse().unwrap(),
    }
}

/// As trace-cmd's plugin prints it.
fn plugin(line: &Line<'_>) -> String {
    match line.name {
        "sched_switch" => {
            let (prev, next) = line.fields.split_once(" ==> ").unwrap();
            let task = |text: &str, which: &str| {
                let (comm, rest) = text.rsplit_once(&format!(" {which}_pid=")).unwrap();
                let comm = comm.strip_prefix(&format!("{which}_comm=")).unwrap();
                format!("{comm}:{} [120]", rest.split(' ').next().unwrap())
            };
            format!("{} S ==> {}", task(prev, "prev"), task(next, "next"))
        }
        "tlb_flush" => line
            .fields
            .replace("pages:", "pages=")
            .replace("reason:", "reason="),
        _ => line.fields.to_owned(),
    }
}

fn group(name: &str) -> &'static str {
    match name {
        "tlb_flush" => "tlb",
        "task_newtask" => "task",
        "cpu_idle" => "power",
        "tracing_mark_write" => "ftrace",
        _ if name.starts_with("sched_") => "sched",
        _ if name.ends_with("_entry") => "irq_vectors",
        _ => "probe",
    }
}

fn latency(line: &Line<'_>, time: &str) -> String {
    let comm: String = line.comm.chars().take(8).collect();
    let (pid, cpu, flags) = (line.pid, number(line.cpu), line.flags);
    format!(
        "{comm:>8}-{pid:<7} {cpu:3}{flags} {time}: {}: {}",
        line.name, line.fields
    )
}

#[test]
fn the_latency_format_has_the_same_events() {
    let header = "# tracer: nop\n#\n# nop latency trace v1.1.5 on 6.1.0\n\
        # latency: 0 us, #52/52, CPU#0 | (M:preempt VP:0, KP:0, SP:0 HP:0 #P:4)\n\
        #                    _------=> CPU#\n#                   / _-----=> irqs-off\n\
        #                  | / _----=> need-resched\n#                  || / _---=> hardirq/softirq\n";
    let marks = ["us ", "us+", "us!", "us#", "us"];
    let microseconds = |line: &Line<'_>, mark: &str| {
        let (seconds, fraction) = line.seconds.split_once('.').unwrap();
        format!(
            "{}{mark}",
            format!("{seconds}{fraction}").trim_start_matches('0')
        )
    };
    for header in [header, ""] {
        for mark in marks {
            let text = print(header, |line| latency(line, &microseconds(line, mark)));
            assert_eq!(
                events(text.as_bytes()).unwrap(),
                expected(|same| same),
                "{mark}"
            );
        }
        let text = print(header, |line| {
            latency(line, &format!("   {}", line.seconds))
        });
        assert_eq!(events(text.as_bytes()).unwrap(), expected(|same| same));
    }
}

#[test]
fn trace_cmd_report_has_the_same_events() {
    let header = "CPU 3 is empty\ncpus=4\n";
    let task = |line: &Line<'_>| {
        format!(
            "{:>16}-{:<5} [{:03}] ",
            line.comm,
            line.pid,
            number(line.cpu)
        )
    };
    let unknown = |_| Context::Unknown;
    for zeros in ["", "000"] {
        let text = print(header, |line| {
            let name = format!("{}:", line.name);
            format!(
                "{} {}{zeros}: {name:<21} {}",
                task(line),
                line.seconds,
                plugin(line)
            )
        });
        assert_eq!(events(text.as_bytes()).unwrap(), expected(unknown));
    }
    // -R
    let text = print(header, |line| {
        let fields = match line.name {
            "tlb_flush" => {
                let (pages, reason) = line.fields.split_once(" reason:").unwrap();
                let reason = reason.rsplit_once('(').unwrap().1.trim_end_matches(')');
                format!("reason={reason} {}", pages.replace(':', "="))
            }
            _ => line.fields.replace(" ==> ", " "),
        };
        format!(
            "{}  {}: {}:   {fields}",
            task(line),
            line.seconds,
            line.name
        )
    });
    assert_eq!(events(text.as_bytes()).unwrap(), expected(unknown));
    // With flags, and -l.
    let text = print(header, |line| {
        format!(
            "{} {} {}: {}: {}",
            task(line),
            line.flags,
            line.seconds,
            line.name,
            plugin(line)
        )
    });
    assert_eq!(events(text.as_bytes()).unwrap(), expected(|same| same));
    let text = print(header, |line| {
        latency(line, &format!("   {}", line.seconds))
    });
    assert_eq!(events(text.as_bytes()).unwrap(), expected(|same| same));
}

#[test]
fn perf_script_has_the_same_events() {
    let header =
        "# ========\n# captured on    : today\n# nrcpus online : 4\n# os release : 6.18.0\n#\n";
    for (zeros, pids, period) in [("", false, ""), ("000", true, "         1 ")] {
        let text = print(header, |line| {
            let pid = match pids {
                true => format!("{:>7}/{:<7}", 999, line.pid),
                false => format!("{:>5}", line.pid),
            };
            let (cpu, name) = (number(line.cpu), line.name);
            let name = format!("{}:{name}:", group(name));
            format!(
                "{:>16} {pid} [{cpu:03}] {:>5}{zeros}: {period}{name:>24} {}",
                line.comm, line.seconds, line.fields
            )
        });
        assert_eq!(
            events(text.as_bytes()).unwrap(),
            expected(|_| Context::Unknown)
        );
    }
    let mut reader = TraceReader::new(header.as_bytes(), "t").unwrap();
    while reader.next_step().is_ok_and(|step| step.is_some()) {}
    assert_eq!(reader.summary().cpus_announced, Some(4));
    assert_eq!(reader.summary().kernel.as_deref(), Some("6.18.0"));
}

#[test]
fn the_kernels_columns_may_come_and_go() {
    let task = |line: &Line<'_>| format!("{:>16}-{:<7}", line.comm, line.pid);
    let end = |line: &Line<'_>| format!("{}: {}: {}", line.seconds, line.name, line.fields);
    let without_irq_info = print("", |line| {
        format!("{} [{:03}]  {}", task(line), number(line.cpu), end(line))
    });
    let with_tgid = print(
        "# entries-in-buffer/entries-written: 52/52   #P:4\n",
        |line| {
            let tgid = ["(-------)", "(     12)"][line.pid.len() % 2];
            format!(
                "{} {tgid} [{:03}] {} {}",
                task(line),
                number(line.cpu),
                line.flags,
                end(line)
            )
        },
    );
    let drawing = "#   _-----=> irqs-off\n#  / _----=> need-resched\n# | / _----=> need-resched_lazy\n\
        # || / _---=> hardirq/softirq\n# ||| / _--=> preempt-depth\n";
    let real_time = print(drawing, |line| {
        let (head, tail) = line.flags.split_at(2);
        format!(
            "{} [{:03}] {head}.{tail}.. {}",
            task(line),
            number(line.cpu),
            end(line)
        )
    });
    let older = print("", |line| {
        format!(
            "{} [{:03}] {} {}",
            task(line),
            number(line.cpu),
            &line.flags[..4],
            end(line)
        )
    });
    assert_eq!(
        events(without_irq_info.as_bytes()).unwrap(),
        expected(|_| Context::Unknown)
    );
    for text in [with_tgid, real_time, older] {
        assert_eq!(
            events(text.as_bytes()).unwrap(),
            expected(|same| same),
            "{text}"
        );
    }
}

/// Reads lines, and returns the problem.
fn problem(text: &str) -> LineProblem {
    match events(text.as_bytes()).unwrap_err() {
        TraceError::Line { problem, .. } => problem,
        other => panic!("{other}"),
    }
}

#[test]
fn lines_that_do_not_fit_name_their_layout_and_what_to_do() {
    for (text, layout, advice) in [
        (
            "cpus=2\nhello\n",
            TextLayout::TraceCmd,
            "`trace-cmd report -R -N`",
        ),
        (
            "cpus=2\na.dat:               sh-9     [001]     1.000000: e: f\n",
            TextLayout::TraceCmd,
            "one recording at a time",
        ),
        (
            "# latency: 0 us, #2/2, CPU#1 | (#P:2)\n  bash   31738   1 1 00000001 00000000 [133d] 36.769ms (+0.001ms): e: f\n",
            TextLayout::Latency,
            "options/latency-format",
        ),
        (
            "  sh  9 2.000859: tlb:tlb_flush: pages:1 reason:x (1)\n",
            TextLayout::PerfScript,
            "perf script --ns -F comm,tid,cpu,time,event,trace",
        ),
        (
            "  sh  9 [001] 2.000859: tlb:tlb_flush: pages:1 reason:x (1)\n\tffffffff8139bb71 f ([kernel.kallsyms])\n",
            TextLayout::PerfScript,
            "perf.data itself",
        ),
        ("hello\n", TextLayout::Kernel, "none of their layouts fits"),
    ] {
        let found = problem(text);
        let LineProblem::Malformed { layout: named, .. } = &found else {
            panic!("{found}");
        };
        assert_eq!(*named, layout, "{found}");
        assert!(found.to_string().contains(advice), "{found}");
    }
}

#[test]
fn a_dead_task_of_perf_script_is_the_one_that_ran() {
    let lines = "  sh     9 [001] 1.000000: sched:sched_process_exit: comm=sh pid=9 prio=120\n \
          :-1    -1 [001] 1.000001: tlb:tlb_flush: pages:-1 reason:x (0)\n \
          :-1    -1 [001] 1.000002: sched:sched_switch: prev_comm=sh prev_pid=9 ==> next_comm=x next_pid=7 next_prio=1\n";
    let mut reader = TraceReader::new(lines.as_bytes(), "t").unwrap();
    let mut of_the_dead = 0;
    while let Some(step) = reader.next_step().unwrap() {
        if let Step::Event(event) = step {
            assert_eq!((event.pid, event.cpu), (9, 1), "{event:?}");
            of_the_dead += 1;
        }
    }
    assert_eq!(of_the_dead, 3);
    let unknown = "  :-1    -1 [001] 1.000001: tlb:tlb_flush: pages:-1 reason:x (0)\n";
    assert!(matches!(problem(unknown), LineProblem::Malformed { .. }));
}

#[test]
fn the_shared_cases_are_read() {
    let folder = std::path::Path::new("../../../shared/cases/recordings");
    for (name, count) in [
        ("latency-format", 7),
        ("trace-cmd-report", 7),
        ("no-sched-switch", 6),
    ] {
        let Ok(text) = std::fs::read(folder.join(format!("{name}.txt"))) else {
            return;
        };
        assert_eq!(events(&text).unwrap().len(), count, "{name}");
    }
    let text = std::fs::read(folder.join("one-cpu-of-two.txt")).unwrap();
    let refused = events(&text).map(|events| events.len());
    assert!(
        matches!(
            refused,
            Err(TraceError::MissingCpus {
                announced: 128,
                seen: 1,
                ..
            })
        ),
        "{refused:?}"
    );
}

/// Reads to the end or to an error.
fn read(text: &[u8]) -> bool {
    let result = events(text);
    if let Err(error) = &result {
        assert!(!error.to_string().is_empty());
    }
    result.is_ok()
}

#[test]
fn any_cut_or_changed_byte_ends_in_events_or_an_error() {
    let latency_header = "# latency: 0 us, #52/52, CPU#0 | (#P:4)\n";
    let texts = [
        print(latency_header, |line| {
            latency(line, &format!("{}us+", line.seconds.replace('.', "")))
        }),
        print("cpus=4\n", |line| {
            let (comm, pid, cpu) = (line.comm, line.pid, number(line.cpu));
            format!(
                "{comm:>16}-{pid:<5} [{cpu:03}] {}: {}: {}",
                line.seconds,
                line.name,
                plugin(line)
            )
        }),
        print("", |line| {
            let (comm, pid, cpu) = (line.comm, line.pid, number(line.cpu));
            let name = format!("{}:{}", group(line.name), line.name);
            format!(
                "{comm:>16} {pid:>5} [{cpu:03}] {}: {name}: {}",
                line.seconds, line.fields
            )
        }),
    ];
    for text in texts {
        let text = text.as_bytes();
        assert!(read(text));
        let begin = text.len() * 3 / 4;
        for length in begin..text.len() {
            let is_whole_line = length > 0 && text[length - 1] == b'\n';
            assert!(!read(&text[..length]) || is_whole_line, "{length}");
        }
        for length in 0..begin {
            read(&text[..length]);
        }
        let mut changed = text.to_vec();
        for at in 0..text.len() {
            for mask in [1, 0x10, 0x80] {
                changed[at] ^= mask;
                read(&changed);
                changed[at] ^= mask;
            }
        }
    }
}
