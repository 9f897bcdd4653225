//! Takes an event line apart: `COMM-PID [CPU] FLAGS SECONDS: EVENT: fields`.

use memchr::memchr;

use crate::error::{LinePart, LineProblem};
use crate::event::Context;
use crate::limits::MAX_CPUS;

/// Longest event name: Linux `MAX_EVENT_NAME_LEN`.
const MAX_NAME_BYTES: usize = 64;

/// What the kernel prints of a task's name at most; shorter ones are padded to it.
const NAME_COLUMN_BYTES: usize = 16;

/// One event of the trace; its fields are not yet looked at.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Line<'a> {
    /// The task that was current, if it is printed.
    pub(crate) pid: Option<u32>,
    /// Below [`MAX_CPUS`].
    pub(crate) cpu: u16,
    /// The recording's clock.
    pub(crate) time_ns: u64,
    /// What the time's last digit stands for.
    pub(crate) resolution_ns: u16,
    /// As the flags tell.
    pub(crate) context: Context,
    /// The event's group, in layouts that print it.
    pub(crate) group: Option<&'a [u8]>,
    /// The event's name.
    pub(crate) name: &'a [u8],
    /// All that follows `EVENT:`.
    pub(crate) fields: &'a [u8],
}

/// A line that fits, with a CPU number still unchecked.
#[derive(Debug)]
pub(super) struct Candidate<'a> {
    pub(super) pid: Option<u32>,
    pub(super) cpu: u64,
    pub(super) time_ns: u64,
    pub(super) resolution_ns: u16,
    pub(super) context: Context,
    pub(super) group: Option<&'a [u8]>,
    pub(super) name: &'a [u8],
    pub(super) fields: &'a [u8],
}

impl<'a> Line<'a> {
    /// Matches a line of the kernel's text, or of `trace-cmd report`.
    ///
    /// A task's name may itself hold blanks, dashes, brackets and colons, so the line is matched
    /// around each `[` from the left until one is a whole header. A task name cannot fake that:
    /// the shortest text that matches (`-1 [0] 1.000001: e:`) has 19 bytes and a name at most 15,
    /// and a match that begins in the name would need the real `[CPU]` where a time stamp stands.
    /// Text behind the header cannot either: the name's column is 16 bytes wide.
    /// Other columns and the width of the flags differ between kernels and are not relied on.
    ///
    /// # Errors
    /// The first part that does not fit.
    #[inline]
    pub(super) fn parse(
        line: &'a [u8],
        context_at: Option<usize>,
    ) -> Result<Candidate<'a>, LinePart> {
        let mut best = LinePart::Cpu;
        let mut from = 0;
        while let Some(distance) = memchr(b'[', &line[from..]) {
            let bracket = from + distance;
            match Candidate::at(line, bracket, context_at) {
                Ok(candidate) => return Ok(candidate),
                Err(missing) => best = best.max(missing),
            }
            from = bracket + 1;
        }
        Err(best)
    }
}

impl<'a> Candidate<'a> {
    /// Matches the header around the `[` at `bracket`, or says which part does not fit.
    #[inline]
    fn at(line: &'a [u8], bracket: usize, context_at: Option<usize>) -> Result<Self, LinePart> {
        let (cpu, rest) = number(&line[bracket + 1..]).ok_or(LinePart::Cpu)?;
        let rest = rest.strip_prefix(b"] ").ok_or(LinePart::Cpu)?;
        let pid = pid_before(&line[..bracket]).ok_or(LinePart::Pid)?;
        let rest = rest.trim_ascii_start();
        let (context, (time_ns, resolution_ns, rest)) = match time(rest) {
            Some(found) => (Context::Unknown, found),
            // Not yet the time: these are the flags, which the option `irq-info` hides.
            None => {
                // Flags are short: a loop is faster than a call.
                let end = rest.iter().position(|byte| *byte == b' ');
                let end = end.ok_or(LinePart::Time)?;
                let time = time(rest[end..].trim_ascii_start()).ok_or(LinePart::Time)?;
                (context(&rest[..end], context_at), time)
            }
        };
        let (name, fields) = event(rest)?;
        Ok(Candidate {
            pid: Some(pid),
            cpu,
            time_ns,
            resolution_ns,
            context,
            group: None,
            name,
            fields,
        })
    }

    /// Checks the CPU's number.
    ///
    /// # Errors
    /// If no machine has it.
    #[inline]
    pub(super) fn checked(self) -> Result<Line<'a>, LineProblem> {
        let cpu = self.cpu;
        match u16::try_from(cpu) {
            Ok(small) if cpu < MAX_CPUS => Ok(Line {
                pid: self.pid,
                cpu: small,
                time_ns: self.time_ns,
                resolution_ns: self.resolution_ns,
                context: self.context,
                group: self.group,
                name: self.name,
                fields: self.fields,
            }),
            _ => Err(LineProblem::CpuOutOfRange { cpu }),
        }
    }
}

/// Splits ` EVENT: fields`.
///
/// # Errors
/// If there is no name.
#[inline]
pub(super) fn event(text: &[u8]) -> Result<(&[u8], &[u8]), LinePart> {
    let text = text.trim_ascii_start();
    let colon = memchr(b':', &text[..text.len().min(MAX_NAME_BYTES + 1)]);
    let (name, fields) = text.split_at(colon.ok_or(LinePart::Event)?);
    let fields = &fields[1..];
    // What has no blank here is `GROUP:EVENT:`, which only `perf script` prints.
    let is_whole = matches!(fields.first(), None | Some(b' '));
    if !is_whole || name.is_empty() || !name.iter().all(u8::is_ascii_graphic) {
        return Err(LinePart::Event);
    }
    Ok((name, fields))
}

/// Reads the flag that tells the context: the third of `irqs-off need-resched context preempt-depth migrate-disable`. Real-time
/// kernels have another before it, and more behind, so that long flags without a header tell nothing.
#[inline]
pub(super) fn context(flags: &[u8], at: Option<usize>) -> Context {
    let at = match at {
        Some(at) => at,
        None if flags.len() <= 5 => 2,
        None => return Context::Unknown,
    };
    match flags.get(at) {
        Some(b'.') => Context::Task,
        Some(b's') => Context::Softirq,
        Some(b'h' | b'H') => Context::Hardirq,
        Some(b'z' | b'Z') => Context::Nmi,
        _ => Context::Unknown,
    }
}

/// Reads a decimal number at the start of `text`; `None` if there is none or it overflows.
#[inline]
pub(super) fn number(text: &[u8]) -> Option<(u64, &[u8])> {
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
    let is_header =
        before.ends_with(b"-") && before.trim_ascii_start().len() <= NAME_COLUMN_BYTES + 1;
    is_header.then(|| u32::try_from(pid).ok()).flatten()
}

/// Reads `SECONDS.FRACTION:` with 6 (kernel) to 9 (trace-cmd) digits of fraction, as nanoseconds, and what its last digit stands for.
#[inline]
pub(super) fn time(text: &[u8]) -> Option<(u64, u16, &[u8])> {
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
        .checked_add(fraction * u64::from(scale))?;
    Some((time_ns, scale, after.strip_prefix(b":")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Line<'_> {
        let parsed = Line::parse(line.as_bytes(), None);
        parsed.unwrap().checked().unwrap()
    }

    fn missing(line: &str) -> LinePart {
        Line::parse(line.as_bytes(), None).unwrap_err()
    }

    #[test]
    fn a_kernel_line_is_taken_apart() {
        let event =
            parse("          <idle>-0       [007] d..2.     7.875044: sched_switch: prev_comm=x");
        assert_eq!(
            (event.pid, event.cpu, event.time_ns),
            (Some(0), 7, 7_875_044_000)
        );
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
                    (Some(12), 4, 3_000_001_000),
                    "{line}"
                );
            }
        }
        let bytes = b"   \xff\xfe-9 [000] ..... 1.000000: e:";
        assert_eq!(Line::parse(bytes, None).unwrap().pid, Some(9));
    }

    #[test]
    fn optional_columns_may_come_and_go() {
        assert_eq!(parse("sh-3 (  3) [001] d..2. 1.000002: e: f").pid, Some(3));
        assert_eq!(
            parse("sh-3 (-----) [001] d..2. 1.000002: e: f").pid,
            Some(3)
        );
        assert_eq!(parse("sh-3 [001] 1.000000002: e: f").time_ns, 1_000_000_002);
        assert_eq!(parse("sh-3 [001] d..2.extra 1.000002: e:      f").cpu, 1);
    }

    #[test]
    fn the_first_part_that_does_not_fit_is_named() {
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
    fn absurd_cpus_are_named() {
        let found = Line::parse(b"sh-3 [4096] d..2. 1.000000: e:", None).unwrap();
        assert_eq!(
            found.checked(),
            Err(LineProblem::CpuOutOfRange { cpu: 4096 })
        );
    }

    #[test]
    fn text_behind_a_header_is_none() {
        assert_eq!(
            missing("  sh-3 x-4 y: tracing_mark_write: -1 [000] ..... 1.000000: e: f"),
            LinePart::Pid
        );
    }

    #[test]
    fn the_header_tells_the_context_where_the_flags_do_not() {
        assert_eq!(context(b"d.h1", None), Context::Hardirq);
        assert_eq!(context(b"d..h1..", None), Context::Unknown);
        assert_eq!(context(b"d..h1..", Some(3)), Context::Hardirq);
        assert_eq!(context(b"d.", Some(3)), Context::Unknown);
    }
}
