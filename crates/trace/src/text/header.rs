//! Takes an event line apart: `COMM-PID [CPU] FLAGS SECONDS: EVENT: fields`.

use memchr::memchr;

use crate::error::{LinePart, LineProblem, excerpt};
use crate::event::Context;
use crate::limits::MAX_CPUS;

/// Longest event name: Linux `MAX_EVENT_NAME_LEN`.
const MAX_NAME_BYTES: usize = 64;

/// One event of the trace; its fields are not yet looked at.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Line<'a> {
    /// The task that was current.
    pub(crate) pid: u32,
    /// Below [`MAX_CPUS`].
    pub(crate) cpu: u16,
    /// The recording's clock.
    pub(crate) time_ns: u64,
    /// As the flags tell.
    pub(crate) context: Context,
    /// The event's name.
    pub(crate) name: &'a [u8],
    /// All that follows `EVENT:`.
    pub(crate) fields: &'a [u8],
}

/// A candidate for the header of an event, with a CPU number still unchecked.
struct Candidate<'a> {
    pid: u32,
    cpu: u64,
    time_ns: u64,
    context: Context,
    name: &'a [u8],
    fields: &'a [u8],
}

impl<'a> Line<'a> {
    /// Parses a line up to the event's name.
    ///
    /// A task's name may itself hold blanks, dashes, brackets and colons, so the line is matched
    /// around each `[` from the left until one is a whole header. A task name cannot fake that:
    /// the shortest text that matches (`-1 [0] 1.000001: e:`) has 19 bytes and a name at most 15,
    /// and a match that begins in the name would need the real `[CPU]` where a time stamp stands.
    /// Columns and the width of the flags differ between kernels and are not relied on.
    ///
    /// # Errors
    /// [`LineProblem`], for anything but an event.
    #[inline]
    pub(crate) fn parse(line: &'a [u8]) -> Result<Self, LineProblem> {
        let mut best = LinePart::Cpu;
        let mut from = 0;
        while let Some(distance) = memchr(b'[', &line[from..]) {
            let bracket = from + distance;
            match Candidate::at(line, bracket) {
                Ok(candidate) => return candidate.checked(),
                Err(missing) => best = best.max(missing),
            }
            from = bracket + 1;
        }
        Err(lost_events(line).unwrap_or_else(|| LineProblem::Malformed {
            missing: best,
            excerpt: excerpt(line),
        }))
    }
}

impl<'a> Candidate<'a> {
    /// Matches the header around the `[` at `bracket`, or says which part does not fit.
    #[inline]
    fn at(line: &'a [u8], bracket: usize) -> Result<Self, LinePart> {
        let (cpu, rest) = number(&line[bracket + 1..]).ok_or(LinePart::Cpu)?;
        let rest = rest.strip_prefix(b"] ").ok_or(LinePart::Cpu)?;
        let pid = pid_before(&line[..bracket]).ok_or(LinePart::Pid)?;
        let rest = rest.trim_ascii_start();
        let (context, (time_ns, rest)) = match time(rest) {
            Some(found) => (Context::Unknown, found),
            // Not yet the time: these are the flags, which the option `irq-info` hides.
            None => {
                let end = memchr(b' ', rest).ok_or(LinePart::Time)?;
                let time = time(rest[end..].trim_ascii_start()).ok_or(LinePart::Time)?;
                (context(&rest[..end]), time)
            }
        };
        let rest = rest.trim_ascii_start();
        let colon = memchr(b':', &rest[..rest.len().min(MAX_NAME_BYTES + 1)]);
        let (name, fields) = rest.split_at(colon.ok_or(LinePart::Event)?);
        if name.is_empty() || !name.iter().all(u8::is_ascii_graphic) {
            return Err(LinePart::Event);
        }
        Ok(Candidate {
            pid,
            cpu,
            time_ns,
            context,
            name,
            fields: &fields[1..],
        })
    }

    #[inline]
    fn checked(self) -> Result<Line<'a>, LineProblem> {
        let Candidate {
            pid,
            cpu,
            time_ns,
            context,
            name,
            fields,
        } = self;
        match u16::try_from(cpu) {
            Ok(small) if cpu < MAX_CPUS => Ok(Line {
                pid,
                cpu: small,
                time_ns,
                context,
                name,
                fields,
            }),
            _ => Err(LineProblem::CpuOutOfRange { cpu }),
        }
    }
}

/// Reads the third of the flags `irqs-off need-resched context preempt-depth …`.
#[inline]
fn context(flags: &[u8]) -> Context {
    match flags.get(2) {
        Some(b'.') => Context::Task,
        Some(b's') => Context::Softirq,
        Some(b'h' | b'H') => Context::Hardirq,
        Some(b'z' | b'Z') => Context::Nmi,
        _ => Context::Unknown,
    }
}

/// Reads a decimal number at the start of `text`; `None` if there is none or it overflows.
#[inline]
fn number(text: &[u8]) -> Option<(u64, &[u8])> {
    let mut value: u64 = 0;
    let mut length = 0;
    for digit in text
        .iter()
        .map(|byte| byte.wrapping_sub(b'0'))
        .take_while(|digit| *digit < 10)
    {
        value = value.checked_mul(10)?.checked_add(u64::from(digit))?;
        length += 1;
    }
    if length == 0 {
        None
    } else {
        Some((value, &text[length..]))
    }
}

/// Reads the pid that ends `text`: `COMM-123   `, or `COMM-123 (tgid) ` with `record-tgid`.
#[inline]
fn pid_before(text: &[u8]) -> Option<u32> {
    let mut text = text.strip_suffix(b" ")?.trim_ascii_end();
    if let Some(inside) = text.strip_suffix(b")") {
        let open = memchr::memrchr(b'(', inside)?;
        text = inside[..open].trim_ascii_end();
    }
    let digits = text
        .iter()
        .rev()
        .take_while(|byte| byte.is_ascii_digit())
        .count();
    let (before, digits) = text.split_at(text.len() - digits);
    let (pid, _) = number(digits)?;
    before
        .ends_with(b"-")
        .then(|| u32::try_from(pid).ok())
        .flatten()
}

/// Reads `SECONDS.FRACTION:` with 6 (kernel) to 9 (trace-cmd) digits of fraction, as nanoseconds.
#[inline]
fn time(text: &[u8]) -> Option<(u64, &[u8])> {
    let (seconds, rest) = number(text)?;
    let (fraction, after) = number(rest.strip_prefix(b".")?)?;
    let digits = rest.len() - 1 - after.len();
    let scale = match digits {
        6 => 1000,
        7 => 100,
        8 => 10,
        9 => 1,
        _ => return None,
    };
    let time_ns = seconds
        .checked_mul(1_000_000_000)?
        .checked_add(fraction * scale)?;
    Some((time_ns, after.strip_prefix(b":")?))
}

/// Recognises `CPU:3 [LOST 12 EVENTS]` (kernel) and `CPU:3 [12 EVENTS DROPPED]` (trace-cmd).
fn lost_events(line: &[u8]) -> Option<LineProblem> {
    let (cpu, rest) = number(line.strip_prefix(b"CPU:")?)?;
    let text = rest.trim_ascii().strip_prefix(b"[")?.strip_suffix(b"]")?;
    let counted = text
        .strip_prefix(b"LOST")
        .unwrap_or(text)
        .trim_ascii_start();
    memchr::memmem::find(text, b"EVENTS")?;
    Some(LineProblem::LostEvents {
        cpu,
        count: number(counted).map(|(count, _)| count),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Line<'_> {
        Line::parse(line.as_bytes()).unwrap()
    }

    fn problem(line: &str) -> LineProblem {
        Line::parse(line.as_bytes()).unwrap_err()
    }

    #[test]
    fn a_kernel_line_is_taken_apart() {
        let event =
            parse("          <idle>-0       [007] d..2.     7.875044: sched_switch: prev_comm=x");
        assert_eq!((event.pid, event.cpu, event.time_ns), (0, 7, 7_875_044_000));
        assert_eq!(
            (event.name, event.fields),
            (&b"sched_switch"[..], &b" prev_comm=x"[..])
        );
    }

    #[test]
    fn odd_task_names_do_not_confuse_the_header() {
        for comm in [
            "<...>",
            "a-b-7",
            "x [003] d",
            "-1 [9] . 1.0: ",
            "a: b",
            "Web Content",
            "[1]",
        ] {
            for tail in [
                "-12   [004] d.Z..   3.000001: e: f",
                "-12 [004] 3.000001: e: f",
            ] {
                let line = format!("{comm:>16}{tail}");
                let event = parse(&line);
                assert_eq!(
                    (event.pid, event.cpu, event.time_ns),
                    (12, 4, 3_000_001_000),
                    "{line}"
                );
            }
        }
        let bytes = b"   \xff\xfe-9 [000] ..... 1.000000: e:";
        assert_eq!(Line::parse(bytes).map(|event| event.pid), Ok(9));
    }

    #[test]
    fn optional_columns_may_come_and_go() {
        assert_eq!(parse("sh-3 (  3) [001] d..2. 1.000002: e: f").pid, 3);
        assert_eq!(parse("sh-3 (-----) [001] d..2. 1.000002: e: f").pid, 3);
        assert_eq!(parse("sh-3 [001] 1.000000002: e: f").time_ns, 1_000_000_002);
        assert_eq!(parse("sh-3 [001] d..2.extra 1.000002: e:      f").cpu, 1);
    }

    #[test]
    fn the_first_part_that_does_not_fit_is_named() {
        let missing = |line| match problem(line) {
            LineProblem::Malformed { missing, .. } => missing,
            other => panic!("{other}"),
        };
        assert_eq!(missing("hello"), LinePart::Cpu);
        assert_eq!(missing("sh-3 [0x1] 1.000000: e:"), LinePart::Cpu);
        assert_eq!(missing("sh [001] 1.000000: e:"), LinePart::Pid);
        assert_eq!(missing("sh-99999999999 [001] 1.000000: e:"), LinePart::Pid);
        assert_eq!(missing("sh-3 [001] d..2."), LinePart::Time);
        assert_eq!(missing("sh-3 [001] d..2. 123456: e:"), LinePart::Time);
        assert_eq!(
            missing("sh-3 [001] d..2. 99999999999999999.000000: e:"),
            LinePart::Time
        );
        assert_eq!(missing("sh-3 [001] d..2. 1.000000:"), LinePart::Event);
        assert_eq!(
            missing("sh-3 [001] d..2. 1.000000: <stack trace>"),
            LinePart::Event
        );
    }

    #[test]
    fn absurd_cpus_and_lost_events_are_named() {
        assert_eq!(
            problem("sh-3 [4096] d..2. 1.000000: e:"),
            LineProblem::CpuOutOfRange { cpu: 4096 }
        );
        let lost = |cpu, count| LineProblem::LostEvents { cpu, count };
        assert_eq!(problem("CPU:3 [LOST 12 EVENTS]"), lost(3, Some(12)));
        assert_eq!(problem("CPU:3 [LOST EVENTS]"), lost(3, None));
        assert_eq!(problem("CPU:3 [12 EVENTS DROPPED]"), lost(3, Some(12)));
        assert_eq!(problem("CPU:3 [EVENTS DROPPED]"), lost(3, None));
    }
}
