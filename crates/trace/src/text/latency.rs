//! The layout of the option `latency-format`: `COMM-PID CPU-AND-FLAGS MICROSECONDSus: EVENT: fields`.
//!
//! Source: Linux `kernel/trace/trace_output.c`, `trace_print_lat_context`. Eight bytes of the task's name are printed. After the
//! time stands how long the next event took to come: a blank, or one of `+!#*@$`. `trace-cmd report -l` prints seconds instead.

use super::header::{Candidate, context, event, number, time};
use crate::error::LinePart;

/// What is printed of a task's name at most.
const NAME_BYTES: usize = 8;

/// Matches a line, or says which part does not fit.
///
/// The `-` before the pid is the first after which all the rest fits. A name cannot fake that: it has eight bytes, and the shortest
/// text that fits (`-1 0. 1us : e:`) has fourteen; with the real pid and CPU as its flags and time, the time has no `us`.
///
/// # Errors
/// The first part that does not fit.
#[inline]
pub(super) fn parse(line: &[u8], context_at: Option<usize>) -> Result<Candidate<'_>, LinePart> {
    let mut best = LinePart::Pid;
    let start = line.len() - line.trim_ascii_start().len();
    let end = line.len().min(start + NAME_BYTES + 1);
    for dash in memchr::memchr_iter(b'-', &line[..end]) {
        match after(&line[dash + 1..], context_at) {
            Ok(candidate) => return Ok(candidate),
            Err(missing) => best = best.max(missing),
        }
    }
    Err(best)
}

fn after(text: &[u8], context_at: Option<usize>) -> Result<Candidate<'_>, LinePart> {
    let (pid, rest) = number(text).ok_or(LinePart::Pid)?;
    let pid = u32::try_from(pid).map_err(|_| LinePart::Pid)?;
    let rest = rest.strip_prefix(b" ").ok_or(LinePart::Pid)?;
    let (cpu, rest) = number(rest.trim_ascii_start()).ok_or(LinePart::Cpu)?;
    let end = memchr::memchr(b' ', rest).filter(|end| *end > 0);
    let (flags, rest) = rest.split_at(end.ok_or(LinePart::Cpu)?);
    let (time_ns, resolution_ns, rest) = stamp(rest.trim_ascii_start()).ok_or(LinePart::Time)?;
    let (name, fields) = event(rest)?;
    Ok(Candidate {
        pid: Some(pid),
        cpu,
        time_ns,
        resolution_ns,
        context: context(flags, context_at),
        group: None,
        name,
        fields,
    })
}

/// Reads `MICROSECONDSus :`, with or without a mark for the delay, or `SECONDS.MICROSECONDS:`.
fn stamp(text: &[u8]) -> Option<(u64, u16, &[u8])> {
    let (microseconds, rest) = number(text)?;
    let Some(rest) = rest.strip_prefix(b"us") else {
        return time(text);
    };
    let rest = match rest {
        [b' ' | b'+' | b'!' | b'#' | b'*' | b'@' | b'$', rest @ ..] => rest,
        rest => rest,
    };
    let time_ns = microseconds.checked_mul(1000)?;
    Some((time_ns, 1000, rest.strip_prefix(b":")?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Context;

    #[test]
    fn delays_are_marked_and_flags_follow_the_cpu() {
        for (line, expected) in [
            ("    bash-31738     1d..1. 36769us : e: f", 36_769),
            ("    bash-31738     1d..1. 36769us+: e: f", 36_769),
            ("memfd:se-31738     1d..2.  3us!: e: f", 3),
            ("<...>-31738  1d.s2 1us#: e: f", 1),
            ("a-1b 2-3-31738  1d.s2 1us: e: f", 1),
        ] {
            let found = parse(line.as_bytes(), None).unwrap();
            let found = (found.pid, found.cpu, found.time_ns, found.fields);
            assert_eq!(
                found,
                (Some(31738), 1, expected * 1000, &b" f"[..]),
                "{line}"
            );
        }
        let hard = parse(b"  <idle>-0         1d.h1. 12us : e: f", None).unwrap();
        assert_eq!(hard.context, Context::Hardirq);
    }

    #[test]
    fn other_times_are_no_times() {
        let verbose = b"            bash   31738   1 1 00000001 00000000 [133d5a8442] 36.769ms (+0.001ms): e: f";
        assert!(parse(verbose, None).is_err());
        assert_eq!(
            parse(b"sh-1 0d..2. 123: e: f", None).err(),
            Some(LinePart::Time)
        );
    }
}
