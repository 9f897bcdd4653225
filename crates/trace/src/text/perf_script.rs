//! What `perf script` prints: `COMM TID [CPU] SECONDS: GROUP:EVENT: fields`.

use memchr::memchr;

use super::header::{Candidate, number, time};
use crate::error::LinePart;
use crate::event::Context;

/// A name in a column of 16 bytes, and the process's pid in one of 8, with what parts them.
const MAX_BYTES_BEFORE_TID: usize = 26;

/// Matches a line, or says which part does not fit.
///
/// The `[` is the first around which all fits. A name of 15 bytes cannot fake that: the longest beginning of a header in it,
/// `1 [0] 1.000000:`, is followed by the real pid and `[CPU]`, which is no event's name.
///
/// # Errors
/// The first part that does not fit: what `perf script -F` left out.
#[inline]
pub(super) fn parse(line: &[u8]) -> Result<Candidate<'_>, LinePart> {
    let mut best = LinePart::Cpu;
    for bracket in memchr::memchr_iter(b'[', line) {
        match at(line, bracket) {
            Ok(candidate) => return Ok(candidate),
            Err(missing) => best = best.max(missing),
        }
    }
    Err(best)
}

fn at(line: &[u8], bracket: usize) -> Result<Candidate<'_>, LinePart> {
    let (cpu, rest) = number(&line[bracket + 1..]).ok_or(LinePart::Cpu)?;
    let rest = rest.strip_prefix(b"] ").ok_or(LinePart::Cpu)?;
    let pid = pid_before(&line[..bracket]).ok_or(LinePart::Tid)?;
    let (time_ns, resolution_ns, rest) = time(rest.trim_ascii_start()).ok_or(LinePart::Time)?;
    let rest = without_period(rest.trim_ascii_start());
    let (group, name, fields) = event(rest).ok_or(LinePart::Event)?;
    Ok(Candidate {
        pid,
        cpu,
        time_ns,
        resolution_ns,
        context: Context::Unknown,
        group: Some(group),
        name,
        fields,
    })
}

/// Reads the tid that ends `text`: `COMM 123 `, or `COMM 100/123 ` with `-F pid,tid`. A dead task has -1, which is no pid.
fn pid_before(text: &[u8]) -> Option<Option<u32>> {
    let text = text.strip_suffix(b" ")?.trim_ascii_end();
    let digits = text.iter().rev().take_while(|byte| byte.is_ascii_digit());
    let (before, digits) = text.split_at(text.len() - digits.count());
    let (pid, _) = number(digits)?;
    if before.len() > MAX_BYTES_BEFORE_TID {
        return None;
    }
    match before {
        [] | [.., b' ' | b'/'] => u32::try_from(pid).ok().map(Some),
        [b'-'] | [.., b' ' | b'/', b'-'] if pid == 1 => Some(None),
        _ => None,
    }
}

/// Passes over the field `period`.
fn without_period(text: &[u8]) -> &[u8] {
    match number(text) {
        Some((_, [b' ', rest @ ..])) => rest.trim_ascii_start(),
        _ => text,
    }
}

/// Reads `GROUP:EVENT:`, or `EVENT:` of what is no tracepoint.
#[inline]
fn event(text: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let end = memchr(b' ', text).unwrap_or(text.len());
    let (name, fields) = text.split_at(end);
    let name = name.strip_suffix(b":")?;
    let is_named = |byte: &u8| byte.is_ascii_alphanumeric() || b"_-.:/".contains(byte);
    if name.is_empty() || !name.iter().all(is_named) {
        return None;
    }
    match memchr(b':', name) {
        Some(colon) => Some((&name[..colon], &name[colon + 1..], fields)),
        None => Some((b"", name, fields)),
    }
}

/// Says whether a word of the line is `GROUP:EVENT:`, as only `perf script` prints it.
pub(super) fn has_event_name(line: &[u8]) -> bool {
    let mut words = line.split(|byte| *byte == b' ');
    words.any(|word| {
        event(word).is_some_and(|(group, name, _)| !group.is_empty() && !name.is_empty())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn optional_fields_may_come_and_go() {
        for line in [
            "            perf 13912 [001] 2.000859:       sched:sched_switch: prev_comm=perf",
            "     Web Content 13912 [001] 2.000859000: sched:sched_switch: prev_comm=perf",
            "            perf   10/13912 [001] 2.000859:       sched:sched_switch: prev_comm=perf",
            "            perf 13912 [001] 2.000859:          1       sched:sched_switch: prev_comm=perf",
            "          :13912 13912 [001] 2.000859: sched:sched_switch: prev_comm=perf",
            " [003] 7 [1] x 13912 [001] 2.000859: sched:sched_switch: prev_comm=perf",
        ] {
            let found =
                parse(line.as_bytes()).unwrap_or_else(|missing| panic!("{line}: {missing}"));
            assert_eq!(
                (found.pid, found.cpu, found.time_ns),
                (Some(13912), 1, 2_000_859_000),
                "{line}"
            );
            assert_eq!(found.group, Some(&b"sched"[..]), "{line}");
            assert_eq!(
                (found.name, found.fields),
                (&b"sched_switch"[..], &b" prev_comm=perf"[..])
            );
        }
    }

    #[test]
    fn what_is_left_out_is_named() {
        for (line, part) in [
            ("perf 13912 2.000859: tlb:tlb_flush: pages:1", LinePart::Cpu),
            ("perf [001] 2.000859: tlb:tlb_flush: pages:1", LinePart::Tid),
            ("perf 13912 [001] tlb:tlb_flush: pages:1", LinePart::Time),
            (
                "perf 13912 [001] 2.000859: pages:1 reason:x (1)",
                LinePart::Event,
            ),
        ] {
            assert_eq!(parse(line.as_bytes()).err(), Some(part), "{line}");
        }
        let dead = b"             :-1    -1 [001] 82153.826075:       sched:sched_switch: x";
        assert_eq!(parse(dead).unwrap().pid, None);
        let dead = b"             :-1    -1/-1    [001] 82153.826075:       sched:sched_switch: x";
        assert_eq!(parse(dead).unwrap().pid, None);
        assert!(has_event_name(
            b"perf 13912 2.000859: tlb:tlb_flush: pages:1"
        ));
        assert!(!has_event_name(b"sh-3 [001] d..2. 123456: e:"));
    }
}
