//! Which idle states the CPUs have, how long they take to leave, and whether the kernel leaves the user space before.
//!
//! `cpu_idle` events tell a state's number alone. The rest stands in sysfs, of which `lazytlb record` saves a copy, a
//! line each:
//!
//! ```text
//! idle-driver intel_idle
//! idle-state 1 C1 2 desc=MWAIT_0x00 cpus=0-7      number, name, exit latency in us; what else is known
//! idle-state 2 C6 133 desc=MWAIT_0x20 cpus=0-7
//! ```
//!
//! Sysfs does not show the flag by which the kernel leaves the user space before a state (`CPUIDLE_FLAG_TLB_FLUSHED`).
//! Where `tlb=kept` or `tlb=flushed` says nothing of it, it follows from who defines the state: all tables of
//! `intel_idle` set it for C3 and deeper and for no other; so it is with states that are no sleep, and with a halt.
//! For those that firmware defines it goes by a type that sysfs does not show: until the recording shows it
//! (`idle_evidence.rs`), it is unknown.
//!
//! Source: Linux, drivers/idle/intel_idle.c (the tables, and `intel_idle_init_cstates_acpi`),
//! drivers/acpi/processor_idle.c (`acpi_processor_setup_cpuidle_cx`), drivers/cpuidle/poll_state.c.

use std::fs;
use std::ops::RangeInclusive;
use std::path::Path;

/// The most idle states that a CPU has: Linux `CPUIDLE_STATE_MAX`.
pub const MAX_IDLE_STATES: usize = 10;

/// Numbers an idle state of a CPU, below [`MAX_IDLE_STATES`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct IdleStateIndex(u8);

impl IdleStateIndex {
    /// Takes a number of a recording, if a CPU can have such a state.
    pub fn new(number: u32) -> Option<Self> {
        let number = u8::try_from(number).ok()?;
        (usize::from(number) < MAX_IDLE_STATES).then_some(IdleStateIndex(number))
    }

    /// Returns the number, to look something up in a list by.
    pub fn as_usize(self) -> usize {
        usize::from(self.0)
    }
}

/// Says what an idle state does to translations.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum TlbInIdle {
    /// The CPU sleeps with a user space loaded, and a shootdown may interrupt it.
    Kept,
    /// The kernel leaves the user space before.
    Flushed,
    /// Neither the state's name nor the recording has told so far.
    Unknown,
}

/// An idle state.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IdleState {
    /// The name that the driver gives it.
    pub name: String,
    /// How long leaving it takes at worst, as the driver states it; `None` where that says nothing: a guest that halts
    /// is left to its hypervisor.
    pub exit_latency_us: Option<u64>,
    /// Whether the kernel leaves the user space before.
    pub tlb: TlbInIdle,
}

/// The idle states of a machine's CPUs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IdleStates {
    entries: Vec<Entry>,
    /// How many of them are unknown: asked at each event.
    unknown: usize,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Entry {
    /// `None`: all of them.
    cpus: Option<Vec<RangeInclusive<u16>>>,
    index: IdleStateIndex,
    state: IdleState,
}

impl Entry {
    fn is_of(&self, cpu: u16, index: IdleStateIndex) -> bool {
        let has = |ranges: &Vec<RangeInclusive<u16>>| ranges.iter().any(|it| it.contains(&cpu));
        self.index == index && self.cpus.as_ref().is_none_or(has)
    }

    fn is_unknown(&self) -> bool {
        self.state.tlb == TlbInIdle::Unknown
    }
}

/// Says why a list of idle states cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdleStatesError {
    /// The file cannot be read.
    #[error("{file}: cannot be read: {source}; check the path and its permissions")]
    Read {
        /// The file's name, as it was given.
        file: String,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A line cannot be right.
    #[error(
        "{file}:{line}: not an idle state, `idle-state NUMBER NAME LATENCY_US`, then, if need be, `cpus=0-3,8`, \
         `tlb=kept`, `tlb=flushed`; numbers are from 0 to 9: \"{text}\""
    )]
    Line {
        /// The file's name, as it was given.
        file: String,
        /// The line, counted from 1.
        line: usize,
        /// Its beginning.
        text: String,
    },
    /// No line is an idle state.
    #[error(
        "{file}: no line begins with `idle-state `; make them, for CPUs that are all alike, with\n  cd \
         /sys/devices/system/cpu; echo idle-driver $(cat cpuidle/current_driver); for s in cpu0/cpuidle/state*; do echo \
         idle-state ${{s##*state}} $(tr ' ' _ <$s/name) $(cat $s/latency) desc=$(tr ' ' _ <$s/desc); done"
    )]
    Empty {
        /// The file's name, as it was given.
        file: String,
    },
}

impl IdleStates {
    /// Reads a list of idle states from a file.
    ///
    /// # Errors
    /// [`IdleStatesError`].
    pub fn open(path: impl AsRef<Path>) -> Result<IdleStates, IdleStatesError> {
        let file = path.as_ref().display().to_string();
        match fs::read(path) {
            Ok(text) => IdleStates::parse(&String::from_utf8_lossy(&text), &file),
            Err(source) => Err(IdleStatesError::Read { file, source }),
        }
    }

    /// Reads the lines `idle-driver` and `idle-state` of a text; other lines say nothing. Of two lines about one state
    /// of one CPU the first counts.
    ///
    /// # Errors
    /// If a line that begins with `idle-state ` is none, or there is none.
    pub fn parse(text: &str, file: &str) -> Result<IdleStates, IdleStatesError> {
        let mut lines = text.lines();
        let driver = lines.find_map(|line| line.strip_prefix("idle-driver "));
        let driver = Driver::named(driver.unwrap_or_default().trim());
        let mut entries = Vec::new();
        for (line, text) in text.lines().enumerate() {
            let Some(fields) = text.strip_prefix("idle-state ") else {
                continue;
            };
            let entry = entry(fields, driver).ok_or_else(|| IdleStatesError::Line {
                file: file.to_owned(),
                line: line + 1,
                text: text.chars().take(80).collect(),
            })?;
            entries.push(entry);
        }
        match entries.is_empty() {
            true => Err(IdleStatesError::Empty {
                file: file.to_owned(),
            }),
            false => {
                let unknown = entries.iter().filter(|one| one.is_unknown()).count();
                Ok(IdleStates { entries, unknown })
            }
        }
    }

    /// Returns a state of a CPU, if it is known.
    pub fn state(&self, cpu: u16, index: IdleStateIndex) -> Option<&IdleState> {
        let mut own = self.entries.iter().filter(|one| one.is_of(cpu, index));
        own.next().map(|one| &one.state)
    }

    /// Returns the states with a number: several, where CPUs differ.
    pub fn numbered(&self, index: IdleStateIndex) -> Vec<&IdleState> {
        let mut states = Vec::new();
        for one in self.entries.iter().filter(|one| one.index == index) {
            if !states.contains(&&one.state) {
                states.push(&one.state);
            }
        }
        states
    }

    /// Says whether it is unknown of some state if the kernel leaves the user space before.
    pub(crate) fn is_in_doubt(&self) -> bool {
        self.unknown > 0
    }

    /// Takes what a recording shows of a state; what was known is kept.
    pub(crate) fn learn(&mut self, cpu: u16, index: IdleStateIndex, tlb: TlbInIdle) {
        let own = self.entries.iter_mut().find(|one| one.is_of(cpu, index));
        if let Some(own) = own
            && own.is_unknown()
            && tlb != TlbInIdle::Unknown
        {
            own.state.tlb = tlb;
            self.unknown -= 1;
        }
    }
}

/// Who defines the states.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Driver {
    IntelIdle,
    Haltpoll,
    Other,
}

impl Driver {
    fn named(name: &str) -> Driver {
        match name {
            "intel_idle" => Driver::IntelIdle,
            "haltpoll" => Driver::Haltpoll,
            _ => Driver::Other,
        }
    }
}

fn entry(fields: &str, driver: Driver) -> Option<Entry> {
    let mut fields = fields.split_ascii_whitespace();
    let index = IdleStateIndex::new(fields.next()?.parse().ok()?)?;
    let (name, latency_us) = (fields.next()?, fields.next()?.parse::<u32>().ok()?);
    let (mut cpus, mut description, mut told) = (None, "", None);
    for field in fields {
        match field.split_once('=')? {
            ("cpus", list) => cpus = Some(cpu_list(list)?),
            ("desc", text) => description = text,
            ("tlb", "kept") => told = Some(TlbInIdle::Kept),
            ("tlb", "flushed") => told = Some(TlbInIdle::Flushed),
            ("tlb", _) => return None,
            // What a later recorder adds.
            _ => {}
        }
    }
    // A guest halts, or a hypervisor lets it: how long that takes is not the guest's to state.
    let is_left_to_others = name.starts_with("haltpoll") || driver == Driver::Haltpoll;
    let states_latency = name == POLL || !is_left_to_others;
    Some(Entry {
        cpus,
        index,
        state: IdleState {
            name: name.to_owned(),
            exit_latency_us: states_latency.then(|| u64::from(latency_us)),
            tlb: told.unwrap_or_else(|| tlb_in(name, description, driver)),
        },
    })
}

/// The name of the state that is no sleep: the CPU spins until it has work.
const POLL: &str = "POLL";

fn tlb_in(name: &str, description: &str, driver: Driver) -> TlbInIdle {
    let is_halt = description.ends_with("HLT") || description.ends_with("MWAIT_0x0");
    if name == POLL || name.starts_with("haltpoll") || is_halt {
        return TlbInIdle::Kept;
    }
    // `C6_ACPI` is of firmware, by its own numbers.
    match (driver, depth(name)) {
        (Driver::IntelIdle, Some(3..)) => TlbInIdle::Flushed,
        (Driver::IntelIdle, Some(_)) => TlbInIdle::Kept,
        _ => TlbInIdle::Unknown,
    }
}

/// Reads how deep a state of `intel_idle`'s own tables is: 1 of `C1E`, 10 of `C10`; `None` of `C2_ACPI`.
fn depth(name: &str) -> Option<u32> {
    let rest = name.strip_prefix('C')?;
    let end = rest.find(|c: char| !c.is_ascii_digit());
    let (digits, suffix) = rest.split_at(end.unwrap_or(rest.len()));
    (!suffix.contains('_')).then_some(())?;
    digits.parse().ok()
}

/// Reads `0-3,8`.
fn cpu_list(text: &str) -> Option<Vec<RangeInclusive<u16>>> {
    let ranges = text.split(',').map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last) = (first.parse().ok()?, last.parse().ok()?);
        (first <= last).then_some(first..=last)
    });
    ranges.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> IdleStates {
        IdleStates::parse(text, "f").unwrap()
    }

    fn index(number: u32) -> IdleStateIndex {
        IdleStateIndex::new(number).unwrap()
    }

    fn tlb(driver: &str, name: &str, description: &str) -> TlbInIdle {
        let text = format!("idle-driver {driver}\nidle-state 3 {name} 5 desc={description}\n");
        parsed(&text).state(0, index(3)).unwrap().tlb
    }

    #[test]
    fn intel_idle_leaves_the_space_before_c3_and_deeper() {
        for (name, description) in [
            ("C1", "MWAIT_0x00"),
            ("C1E", "MWAIT_0x01"),
            ("C2", "MWAIT_0x10"),
        ] {
            assert_eq!(
                tlb("intel_idle", name, description),
                TlbInIdle::Kept,
                "{name}"
            );
        }
        for (name, description) in [
            ("C3", "MWAIT_0x10"),
            ("C6", "MWAIT_0x20"),
            ("C10", "MWAIT_0x60"),
            ("C6N", "MWAIT_0x58"),
        ] {
            assert_eq!(
                tlb("intel_idle", name, description),
                TlbInIdle::Flushed,
                "{name}"
            );
        }
    }

    #[test]
    fn what_firmware_defines_is_unknown_but_for_a_halt() {
        for (driver, name, description, expected) in [
            (
                "intel_idle",
                "C3_ACPI",
                "ACPI_FFH_MWAIT_0x20",
                TlbInIdle::Unknown,
            ),
            (
                "intel_idle",
                "C1_ACPI",
                "ACPI_FFH_MWAIT_0x0",
                TlbInIdle::Kept,
            ),
            ("acpi_idle", "C2", "ACPI_IOPORT_0x814", TlbInIdle::Unknown),
            ("acpi_idle", "C3", "ACPI_IOPORT_0x815", TlbInIdle::Unknown),
            ("acpi_idle", "C1", "ACPI_HLT", TlbInIdle::Kept),
            (
                "acpi_idle",
                "POLL",
                "CPUIDLE_CORE_POLL_IDLE",
                TlbInIdle::Kept,
            ),
        ] {
            assert_eq!(tlb(driver, name, description), expected, "{driver} {name}");
        }
    }

    #[test]
    fn a_line_may_tell_what_its_name_does_not() {
        let states =
            parsed("idle-state 2 C2 800 tlb=kept\nidle-state 3 C3 900 tlb=flushed new=5\n");
        let tlb = |number| states.state(0, index(number)).map(|state| state.tlb);
        assert_eq!(tlb(2), Some(TlbInIdle::Kept));
        assert_eq!(tlb(3), Some(TlbInIdle::Flushed));
        assert_eq!(tlb(1), None);
    }

    #[test]
    fn a_guests_halt_has_no_latency_that_says_anything() {
        let text = "idle-driver haltpoll\nidle-state 0 POLL 0\nidle-state 1 haltpoll_idle 1\n";
        let latency = |number| {
            parsed(text)
                .state(7, index(number))
                .unwrap()
                .exit_latency_us
        };
        assert_eq!((latency(0), latency(1)), (Some(0), None));
    }

    #[test]
    fn cpus_may_differ() {
        let states = parsed("idle-state 1 C6 170 cpus=0-3,8\nidle-state 1 C6S 130 cpus=4-7\n");
        let latency = |cpu| {
            states
                .state(cpu, index(1))
                .map(|state| state.exit_latency_us)
        };
        assert_eq!(latency(3), Some(Some(170)));
        assert_eq!(latency(8), Some(Some(170)));
        assert_eq!(latency(4), Some(Some(130)));
        assert_eq!(latency(9), None);
        let names: Vec<&str> = states
            .numbered(index(1))
            .iter()
            .map(|state| state.name.as_str())
            .collect();
        assert_eq!(names, ["C6", "C6S"]);
    }

    #[test]
    fn what_is_known_is_not_learnt_again() {
        let mut states =
            parsed("idle-driver acpi_idle\nidle-state 2 C2 400\nidle-state 1 C1 1 desc=ACPI_HLT\n");
        assert!(states.is_in_doubt());
        states.learn(5, index(2), TlbInIdle::Kept);
        states.learn(5, index(2), TlbInIdle::Flushed);
        states.learn(5, index(1), TlbInIdle::Flushed);
        states.learn(5, index(9), TlbInIdle::Flushed);
        assert!(!states.is_in_doubt());
        assert_eq!(states.state(0, index(2)).unwrap().tlb, TlbInIdle::Kept);
        assert_eq!(states.state(0, index(1)).unwrap().tlb, TlbInIdle::Kept);
    }

    #[test]
    fn what_is_no_idle_state_is_named() {
        for bad in [
            "1 C1",
            "x C1 2",
            "10 C10 2",
            "1 C1 -2",
            "1 C1 2 tlb=lost",
            "1 C1 2 cpus=3-1",
            "1 C1 2 cpus=",
            "1 C1 2 more",
        ] {
            let text = format!("task 1 1 init 1\nidle-state {bad}\n");
            let error = IdleStates::parse(&text, "f").unwrap_err().to_string();
            assert!(
                error.starts_with("f:2: not an idle state"),
                "{bad}: {error}"
            );
        }
        let error = IdleStates::parse("task 1 1 init 1\n", "f").unwrap_err();
        assert!(
            error.to_string().starts_with("f: no line begins"),
            "{error}"
        );
    }
}
