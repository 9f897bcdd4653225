//! What the recorder noted about the recording.

use crate::cursor::Slice;
use crate::dat_problem::TraceDatProblem;
use crate::idle_states::{IdleStates, IdleStatesError};
use crate::interrupts::{CountedShootdowns, DamagedLine};
use crate::snapshot::{Snapshot, SnapshotError};

/// An option's meaning; both versions number them alike.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum OptionId {
    Done,
    Date,
    CpuStat,
    Buffer,
    TraceClock,
    Uname,
    Offset,
    CpuCount,
    TscToNs,
    HeaderInfo,
    FtraceEvents,
    EventFormats,
    Latency,
    Snapshot,
    Other,
}

impl OptionId {
    /// Names a number.
    pub(crate) fn of(id: u16) -> Self {
        match id {
            0 => OptionId::Done,
            1 => OptionId::Date,
            2 => OptionId::CpuStat,
            3 => OptionId::Buffer,
            4 => OptionId::TraceClock,
            5 => OptionId::Uname,
            7 => OptionId::Offset,
            8 => OptionId::CpuCount,
            14 => OptionId::TscToNs,
            16 => OptionId::HeaderInfo,
            17 => OptionId::FtraceEvents,
            18 => OptionId::EventFormats,
            22 => OptionId::Latency,
            // `lazytlb record` writes it.
            0x4c54 => OptionId::Snapshot,
            _ => OptionId::Other,
        }
    }
}

/// What the options say. `TIME_SHIFT`, which puts a guest's times on its host's clock, is not used: the CPUs of one recording share it.
#[derive(Default)]
pub(crate) struct Options {
    /// What `uname` said: system, host, release, machine.
    pub(crate) uname: Option<String>,
    /// The clock that was chosen.
    pub(crate) clock: Option<String>,
    /// Version 6: the clock's text stands after the list of CPUs.
    pub(crate) clock_follows: bool,
    /// CPUs of the machine.
    pub(crate) cpus: Option<u64>,
    /// The tasks that ran before the recording.
    pub(crate) tasks: Option<Snapshot>,
    /// The machine's idle states.
    pub(crate) idle_states: Option<IdleStates>,
    pub(crate) shootdowns: Option<CountedShootdowns>,
    /// What is to be added to each time, in nanoseconds.
    pub(crate) offset_ns: i64,
    /// Factor and shift that make nanoseconds of the time-stamp counter.
    pub(crate) tsc: Option<(u32, u32)>,
}

impl Options {
    /// Takes one option.
    ///
    /// # Errors
    /// If it is damaged, or tells of lost events.
    pub(crate) fn take(&mut self, id: u16, data: &[u8]) -> Result<(), TraceDatProblem> {
        match OptionId::of(id) {
            // Microseconds, decimal or hexadecimal.
            OptionId::Date => self.add_offset(data, 1000),
            OptionId::Offset => self.add_offset(data, 1),
            OptionId::CpuStat => check_statistics(&text(data))?,
            OptionId::TraceClock if data.is_empty() => self.clock_follows = true,
            OptionId::TraceClock => self.clock = Self::clock_of(data),
            OptionId::Snapshot => self.take_snapshot(&text(data))?,
            OptionId::Uname => self.uname = Some(text(data)),
            OptionId::CpuCount => {
                let cpus = Slice::new(data).u32();
                let cpus = cpus.map_err(|_| TraceDatProblem::Damaged("the option CPUCOUNT"))?;
                self.cpus = Some(cpus.into());
            }
            OptionId::TscToNs => {
                let mut data = Slice::new(data);
                let (Ok(factor), Ok(shift)) = (data.u32(), data.u32()) else {
                    return Err(TraceDatProblem::Damaged("the option TSC2NSEC"));
                };
                if factor == 0 || shift > 63 {
                    return Err(TraceDatProblem::Damaged("the option TSC2NSEC"));
                }
                self.tsc = Some((factor, shift));
            }
            _ => {}
        }
        Ok(())
    }

    fn take_snapshot(&mut self, text: &str) -> Result<(), TraceDatProblem> {
        self.tasks = match Snapshot::parse(text, "the snapshot") {
            Ok(tasks) => Some(tasks),
            // A recording made in a container tells no tasks.
            Err(SnapshotError::Empty { .. }) => None,
            Err(_) => return Err(TraceDatProblem::Damaged("the snapshot of tasks")),
        };
        self.idle_states = match IdleStates::parse(text, "the snapshot") {
            Ok(states) => Some(states),
            // The machine may have none that the kernel knows of.
            Err(IdleStatesError::Empty { .. }) => None,
            Err(_) => return Err(TraceDatProblem::Damaged("the snapshot of idle states")),
        };
        self.shootdowns = CountedShootdowns::parse(text).map_err(|damaged| {
            let DamagedLine { line, text } = damaged;
            TraceDatProblem::Interrupts { line, text }
        })?;
        Ok(())
    }

    /// The kernel's release, out of what `uname` said.
    pub(crate) fn release(&self) -> Option<String> {
        let uname = self.uname.as_deref()?;
        let release = match uname.strip_prefix("Linux ") {
            Some(rest) => rest.split_whitespace().nth(1)?,
            None => uname,
        };
        Some(release.to_owned())
    }

    /// Finds the chosen clock in the kernel's list: `local [global] counter`.
    pub(crate) fn clock_of(data: &[u8]) -> Option<String> {
        let text = text(data);
        let chosen = text
            .split_once('[')
            .and_then(|(_, rest)| rest.split_once(']'))
            .map_or(text.trim(), |(chosen, _)| chosen);
        (!chosen.is_empty()).then(|| chosen.to_owned())
    }

    /// A damaged number adds nothing: it moves all times alike, and no figure rests on it.
    fn add_offset(&mut self, data: &[u8], unit_ns: i64) {
        let text = text(data);
        let (digits, sign) = match text.trim().strip_prefix('-') {
            Some(digits) => (digits, -unit_ns),
            None => (text.trim(), unit_ns),
        };
        let number = match digits.strip_prefix("0x") {
            Some(digits) => i64::from_str_radix(digits, 16),
            None => digits.parse(),
        };
        let offset = number.unwrap_or(0).saturating_mul(sign);
        self.offset_ns = self.offset_ns.saturating_add(offset);
    }
}

fn text(data: &[u8]) -> String {
    let end = memchr::memchr(0, data).unwrap_or(data.len());
    String::from_utf8_lossy(&data[..end]).trim().to_owned()
}

/// Checks `per_cpu/cpuN/stats`: nothing may be lost.
fn check_statistics(text: &str) -> Result<(), TraceDatProblem> {
    let mut cpu = 0;
    for line in text.lines() {
        let Some((key, value)) = line.split_once(':') else {
            continue;
        };
        let (key, Ok(count)) = (key.trim(), value.trim().parse::<u64>()) else {
            continue;
        };
        match key {
            "CPU" => cpu = count,
            "overrun" | "commit overrun" | "dropped events" if count > 0 => {
                let what = key.to_owned();
                return Err(TraceDatProblem::Lost { cpu, what, count });
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chosen_clock_stands_in_brackets() {
        let clock = |text: &[u8]| Options::clock_of(text);
        assert_eq!(clock(b"local global [mono] boot\n\0"), Some("mono".into()));
        assert_eq!(clock(b"global\0"), Some("global".into()));
        assert_eq!(clock(b"\0"), None);
    }

    #[test]
    fn lost_events_are_no_secret() {
        let mut options = Options::default();
        let whole = b"CPU: 3\nentries: 7\noverrun: 0\ncommit overrun: 0\ndropped events: 0\n\0";
        options.take(2, whole).unwrap();
        let lost = b"CPU: 3\nentries: 7\noverrun: 12\n\0";
        assert_eq!(
            options.take(2, lost),
            Err(TraceDatProblem::Lost {
                cpu: 3,
                what: "overrun".into(),
                count: 12
            })
        );
    }

    #[test]
    fn the_release_is_the_third_word() {
        let mut options = Options::default();
        options
            .take(5, b"Linux host 6.1.0-56-amd64 x86_64\0")
            .unwrap();
        assert_eq!(options.release().as_deref(), Some("6.1.0-56-amd64"));
    }
}
