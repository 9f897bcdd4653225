//! The interrupts that the kernel counted while it was recorded.
//!
//! Linux counts in the row `TLB` of `/proc/interrupts`, on each CPU, the flushes that another CPU asked it for: once for
//! each target, where `flush_tlb_func` begins, so before it is known whether there is anything to flush. It does not
//! count flushes of kernel ranges, broadcasts, nor, in a guest, what the hypervisor does in its place: a virtual CPU that
//! is preempted flushes when it runs again, and Xen and Hyper-V flush by a call.
//!
//! Source: Linux, arch/x86/mm/tlb.c, `flush_tlb_func`; arch/x86/kernel/irq.c, `arch_show_interrupts`;
//! arch/x86/kernel/kvm.c, `kvm_flush_tlb_multi`.

/// What begins a line of ours.
const PREFIX: &str = "interrupts ";
/// The row of shootdowns.
const TLB: &str = "TLB";

/// Says how often CPUs were interrupted for a shootdown from the recording's start to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CountedShootdowns {
    /// So often, each target counted.
    Known(u64),
    /// The counters do not tell.
    Unknown(WhyUnknown),
}

/// Why counters do not tell how often something happened in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WhyUnknown {
    /// They were read once only.
    ReadOnce,
    /// They are of other CPUs at the end, or fell: a CPU went offline or came.
    OtherCpus,
}

impl WhyUnknown {
    /// Says it in words.
    pub fn words(self) -> &'static str {
        match self {
            WhyUnknown::ReadOnce => "they were not read both at its start and at its end",
            WhyUnknown::OtherCpus => "they are of other CPUs at its end: a CPU went or came",
        }
    }
}

/// A line that begins with `interrupts ` and cannot be right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DamagedLine {
    /// Counted from 1.
    pub(crate) line: usize,
    /// Its beginning.
    pub(crate) text: String,
}

/// The counters of the row `TLB` at one moment, each CPU's.
type Row = Option<Vec<u32>>;

impl CountedShootdowns {
    /// Reads the lines `interrupts start|end NAME COUNT…` of a text; other lines say nothing. `None` if there is none
    /// of the row `TLB`, as on a machine with one CPU.
    ///
    /// # Errors
    /// If a line that begins with `interrupts ` is none, or the second one of its moment and name.
    pub(crate) fn parse(text: &str) -> Result<Option<CountedShootdowns>, DamagedLine> {
        let (mut start, mut end): (Row, Row) = (None, None);
        for (index, line) in text.lines().enumerate() {
            let Some(fields) = line.strip_prefix(PREFIX) else {
                continue;
            };
            let damaged = || DamagedLine {
                line: index + 1,
                text: line.chars().take(80).collect(),
            };
            let (moment, name, counts) = row(fields).ok_or_else(damaged)?;
            let place = match moment {
                "start" => &mut start,
                "end" => &mut end,
                _ => return Err(damaged()),
            };
            if name == TLB && place.replace(counts).is_some() {
                return Err(damaged());
            }
        }
        Ok(match (start, end) {
            (None, None) => None,
            (Some(start), Some(end)) => Some(increase(&start, &end)),
            _ => Some(CountedShootdowns::Unknown(WhyUnknown::ReadOnce)),
        })
    }
}

fn row(fields: &str) -> Option<(&str, &str, Vec<u32>)> {
    let mut fields = fields.split_ascii_whitespace();
    let (moment, name) = (fields.next()?, fields.next()?);
    let counts: Result<Vec<u32>, _> = fields.map(str::parse).collect();
    let counts = counts.ok().filter(|counts| !counts.is_empty())?;
    Some((moment, name, counts))
}

/// Adds up how far each CPU's counter rose. Linux counts in 32 bits, so it may have begun anew.
fn increase(start: &[u32], end: &[u32]) -> CountedShootdowns {
    let rose = start
        .iter()
        .zip(end)
        .map(|(start, end)| end.wrapping_sub(*start));
    // No recording holds two thousand million shootdowns of one CPU: then it is another CPU's counter.
    let fell = rose.clone().any(|by| by > u32::MAX / 2);
    match fell || start.len() != end.len() {
        true => CountedShootdowns::Unknown(WhyUnknown::OtherCpus),
        false => CountedShootdowns::Known(rose.map(u64::from).sum()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(text: &str) -> Option<CountedShootdowns> {
        CountedShootdowns::parse(text).unwrap()
    }

    #[test]
    fn shootdowns_are_the_sum_of_what_each_cpus_counter_rose() {
        let text = "task 1 1 init 1\ninterrupts start TLB 17 4294967290\ninterrupts start CAL 9 9\n\
                    interrupts end TLB 20 4\ninterrupts end CAL 99 99\n";
        // The second counter began anew: 10.
        assert_eq!(counted(text), Some(CountedShootdowns::Known(13)));
        assert_eq!(counted("interrupts start CAL 1 2\n"), None);
        assert_eq!(counted("TLB: 3 4\n"), None);
    }

    #[test]
    fn counters_of_other_cpus_or_of_one_moment_tell_nothing() {
        let start = "interrupts start TLB 17 4\n";
        let unknown = |why| Some(CountedShootdowns::Unknown(why));
        assert_eq!(counted(start), unknown(WhyUnknown::ReadOnce));
        for end in ["interrupts end TLB 18\n", "interrupts end TLB 18 3\n"] {
            assert_eq!(
                counted(&[start, end].concat()),
                unknown(WhyUnknown::OtherCpus)
            );
        }
    }

    #[test]
    fn a_line_that_cannot_be_right_is_named() {
        for line in [
            "interrupts start TLB",
            "interrupts start TLB 1 x",
            "interrupts start TLB -1",
            "interrupts end TLB 4294967296",
            "interrupts later TLB 1",
            "interrupts start",
            "interrupts ",
            "interrupts start TLB 2\ninterrupts start TLB 2",
        ] {
            let damaged = CountedShootdowns::parse(&format!("\n{line}\n")).unwrap_err();
            let last = line.lines().last().unwrap();
            assert_eq!(
                (damaged.line, &*damaged.text),
                (1 + line.lines().count(), last)
            );
        }
    }
}
