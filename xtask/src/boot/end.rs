//! How a boot ended, from the kernel's last line, the emulator's status, and the clock.

use std::fmt;
use std::time::Duration;

/// How a boot ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum End {
    /// Every check held.
    Passed,
    /// Coherence was violated, or a counter broke a promise.
    Violation,
    /// The kernel panicked.
    Panic,
    /// The CPU reset itself: the kernel said no last word.
    TripleFault,
    /// Nothing moved for 20 s of emulated time.
    Hang,
    /// The emulator died, or ended in a way that nobody asked for.
    EmulatorCrash,
    /// The kernel did not understand its command line.
    Refused,
}

impl End {
    /// Returns the exit code of `cargo xtask boot`.
    pub(crate) fn exit_code(self) -> u8 {
        match self {
            End::Passed => 0,
            End::Refused => 1,
            End::Violation => 10,
            End::Panic => 11,
            End::TripleFault => 12,
            End::Hang => 13,
            End::EmulatorCrash => 14,
        }
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            End::Passed => "passed",
            End::Violation => "violation",
            End::Panic => "kernel panic",
            End::TripleFault => "triple fault",
            End::Hang => "hang",
            End::EmulatorCrash => "emulator crash",
            End::Refused => "command line refused",
        })
    }
}

/// Reads the kernel's last line.
pub(crate) fn of_line(line: &str) -> Option<End> {
    match line.trim_end().strip_prefix("outcome: ")? {
        "passed" => Some(End::Passed),
        "violation" => Some(End::Violation),
        "panic" => Some(End::Panic),
        "hang" => Some(End::Hang),
        "refused" => Some(End::Refused),
        _ => None,
    }
}

/// Judges an emulator that ended by itself: with the kernel's last word, if there was one.
///
/// `reset_status` is the status that it has after the CPU reset itself; `None` for a signal.
pub(crate) fn of_status(last_word: Option<End>, status: Option<i32>, reset_status: i32) -> End {
    match (last_word, status) {
        (Some(end), Some(_)) => end,
        (None, Some(status)) if status == reset_status => End::TripleFault,
        _ => End::EmulatorCrash,
    }
}

/// Notices that nothing moves: no line for a while, or progress that stands still.
#[derive(Debug, Default)]
pub(crate) struct Watchdog {
    last_line: Duration,
    /// The kernel's clock and its progress when that last changed, in seconds.
    moved: Option<(u64, u64)>,
}

/// No progress for so long, by the kernel's clock, is a hang.
const STILL_SECONDS: u64 = 22;

impl Watchdog {
    /// Takes a line in; true if the kernel hangs.
    pub(crate) fn line(&mut self, now: Duration, line: &str) -> bool {
        self.last_line = now;
        let Some(rest) = line.strip_prefix("alive t=") else {
            return false;
        };
        let Some((seconds, progress)) = rest.trim_end().split_once(" ops=") else {
            return false;
        };
        let (Ok(seconds), Ok(progress)) = (seconds.parse(), progress.parse::<u64>()) else {
            return false;
        };
        match self.moved {
            Some((since, old)) if old == progress => seconds > since + STILL_SECONDS,
            _ => {
                self.moved = Some((seconds, progress));
                false
            }
        }
    }

    /// Says whether the silence has lasted too long.
    pub(crate) fn silent(&self, now: Duration, patience: Duration) -> bool {
        now.saturating_sub(self.last_line) > patience
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_end_has_an_exit_code_of_its_own() {
        let ends = [
            End::Passed,
            End::Violation,
            End::Panic,
            End::TripleFault,
            End::Hang,
            End::EmulatorCrash,
            End::Refused,
        ];
        let mut codes = ends.map(End::exit_code).to_vec();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), ends.len());
    }

    #[test]
    fn the_last_word_counts_and_silence_before_the_end_is_a_triple_fault() {
        assert_eq!(of_line("outcome: violation\r"), Some(End::Violation));
        assert_eq!(of_line("outcome: fine"), None);
        assert_eq!(of_line("alive t=1 ops=2"), None);
        assert_eq!(of_status(Some(End::Panic), Some(37), 0), End::Panic);
        assert_eq!(of_status(None, Some(0), 0), End::TripleFault);
        assert_eq!(of_status(None, Some(1), 0), End::EmulatorCrash);
        assert_eq!(of_status(None, None, 0), End::EmulatorCrash);
        // Killed by a signal after its last word: that is no good end.
        assert_eq!(of_status(Some(End::Passed), None, 0), End::EmulatorCrash);
    }

    #[test]
    fn progress_that_stands_still_is_a_hang_and_silence_is_one() {
        let mut dog = Watchdog::default();
        let at = Duration::from_secs;
        assert!(!dog.line(at(1), "alive t=1 ops=5"));
        assert!(!dog.line(at(20), "alive t=20 ops=5"));
        assert!(dog.line(at(24), "alive t=24 ops=5"));
        let mut dog = Watchdog::default();
        assert!(!dog.line(at(1), "alive t=1 ops=5"));
        assert!(!dog.line(at(23), "alive t=23 ops=6"));
        assert!(!dog.line(at(24), "alive t=24 ops=6"));
        assert!(!dog.silent(at(40), at(25)));
        assert!(dog.silent(at(50), at(25)));
    }
}
