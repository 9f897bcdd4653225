//! Which clocks order events of different CPUs.

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use super::options::Options;
use crate::dat_problem::TraceDatProblem;
use crate::event::{Event, Kind};

/// Contradictions that a recording may have: some kernels miss some task switches.
const APART_ALLOWED: u64 = 20;

/// The clock of a recording.
pub(crate) struct Clock {
    /// Its name, if the file says it.
    pub(crate) name: Option<String>,
    /// Factor and shift to nanoseconds.
    scale: Option<(u32, u32)>,
    offset_ns: i64,
    /// What is known of each task's place; `None` where the kernel promises that the CPUs agree.
    judge: Option<Judge>,
}

/// Finds tasks that run on two CPUs at once.
///
/// `local` is what `trace-cmd record` takes by default, and what trace-cmd writes down where it does not know the clock. It is
/// `sched_clock()`: on a machine with a stable time-stamp counter the CPUs agree, on others they do not, and the
/// file does not say which. So the clock is judged by what it recorded.
#[derive(Default)]
struct Judge {
    running: Vec<u32>,
    /// The CPU of each task that runs; at most one for each CPU.
    places: HashMap<u32, u16, FixedState>,
    switches: u64,
    apart: u64,
}

impl Clock {
    /// Takes what the file says.
    ///
    /// # Errors
    /// If the clock cannot order events of different CPUs, or does not count time.
    pub(crate) fn new(
        options: &Options,
        buffer_clock: Option<&str>,
    ) -> Result<Self, TraceDatProblem> {
        let named = buffer_clock.filter(|name| !name.is_empty());
        // The option is the recorder's own word; trace-cmd says `local` of a buffer where it knows nothing.
        let name = match (&options.clock, named) {
            (Some(option), None | Some("local")) => Some(option.clone()),
            (_, named) => named.map(str::to_owned),
        };
        let refuse = |why| {
            let clock = name.clone().unwrap_or_default();
            Err(TraceDatProblem::Clock { clock, why })
        };
        let judge = match name.as_deref() {
            Some("mono" | "mono_raw" | "boot" | "tai" | "global") => None,
            Some("counter") => return refuse("it counts events, not time"),
            Some("uptime") => return refuse("it counts in ticks of milliseconds"),
            Some("x86-tsc" | "tsc2nsec") if options.tsc.is_none() => {
                return refuse("its times are cycles, and the file does not say of how many Hz");
            }
            Some("x86-tsc" | "tsc2nsec") => None,
            _ => Some(Judge::default()),
        };
        Ok(Clock {
            name,
            scale: options.tsc,
            offset_ns: options.offset_ns,
            judge,
        })
    }

    /// Takes a clock by its name, whose times are nanoseconds.
    ///
    /// # Errors
    /// As [`Clock::new`].
    pub(crate) fn named(name: &str) -> Result<Self, TraceDatProblem> {
        Clock::new(&Options::default(), Some(name))
    }

    /// Makes nanoseconds; a later time stays later.
    #[inline]
    pub(crate) fn nanoseconds(&self, time: u64) -> u64 {
        let time = match self.scale {
            None => time,
            Some((factor, shift)) => {
                let scaled = (u128::from(time) * u128::from(factor)) >> shift;
                u64::try_from(scaled).unwrap_or(u64::MAX)
            }
        };
        time.saturating_add_signed(self.offset_ns)
    }

    /// Judges the clock by an event.
    #[inline]
    pub(crate) fn observe(&mut self, event: &Event) {
        if let (Some(judge), Kind::SchedSwitch { next }) = (&mut self.judge, event.kind) {
            judge.switch(event.cpu, next);
        }
    }

    /// Returns how often the CPUs contradicted each other.
    ///
    /// # Errors
    /// If it was too often.
    pub(crate) fn verdict(&self) -> Result<u64, TraceDatProblem> {
        let Some(judge) = &self.judge else {
            return Ok(0);
        };
        if judge.apart > APART_ALLOWED && judge.apart > judge.switches / 100 {
            return Err(TraceDatProblem::ClocksApart {
                clock: self.name.clone().unwrap_or_else(|| "unknown".to_owned()),
                apart: judge.apart,
                switches: judge.switches,
            });
        }
        Ok(judge.apart)
    }
}

impl Judge {
    fn switch(&mut self, cpu: u16, next: u32) {
        let index = usize::from(cpu);
        if index >= self.running.len() {
            self.running.resize(index + 1, 0);
        }
        let left = std::mem::replace(&mut self.running[index], next);
        if self.places.get(&left) == Some(&cpu) {
            self.places.remove(&left);
        }
        self.switches += 1;
        // The idle tasks have one number.
        if next != 0
            && let Some(other) = self.places.insert(next, cpu)
            && other != cpu
        {
            self.apart += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Context;

    fn clock(name: &str) -> Result<Clock, TraceDatProblem> {
        Clock::new(&Options::default(), Some(name))
    }

    fn switch(clock: &mut Clock, cpu: u16, next: u32) {
        clock.observe(&Event {
            cpu,
            time_ns: 0,
            pid: 0,
            context: Context::Task,
            kind: Kind::SchedSwitch { next },
        });
    }

    #[test]
    fn clocks_that_do_not_count_time_are_refused() {
        for name in ["counter", "uptime", "x86-tsc"] {
            assert!(clock(name).is_err(), "{name}");
        }
        for name in ["mono", "global", "boot", "local", "perf", ""] {
            assert!(clock(name).is_ok(), "{name}");
        }
    }

    #[test]
    fn the_time_stamp_counter_is_scaled() {
        let options = Options {
            tsc: Some((1 << 31, 32)),
            offset_ns: -5,
            ..Options::default()
        };
        let clock = Clock::new(&options, Some("x86-tsc")).unwrap();
        assert_eq!(clock.nanoseconds(1 << 40), (1 << 39) - 5);
        assert_eq!(clock.nanoseconds(u64::MAX), u64::MAX / 2 - 5);
    }

    #[test]
    fn a_local_clock_is_judged_by_tasks_that_are_in_two_places() {
        let mut good = clock("local").unwrap();
        let mut bad = clock("local").unwrap();
        for _ in 0..30 {
            for cpu in 0..2 {
                switch(&mut good, cpu, 7);
                switch(&mut good, cpu, 0);
                switch(&mut bad, cpu, 7);
            }
            switch(&mut bad, 0, 0);
            switch(&mut bad, 1, 0);
        }
        assert_eq!(good.verdict(), Ok(0));
        assert!(matches!(
            bad.verdict(),
            Err(TraceDatProblem::ClocksApart { apart: 30, .. })
        ));
    }
}
