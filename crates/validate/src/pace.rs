//! How fast the recorded machine is.

/// The time that an initiator takes from the send of its interrupts to its own flush: the running median.
///
/// It scales what cannot be read from a recording: how long an interrupt flies, and how long a switch takes. Some 30 us
/// under emulation, 1 us on bare metal. It comes from the initiator's events alone. The median, because a virtual CPU
/// that is stopped in between takes a hundred times as long, and says nothing of the machine's pace.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace(u64);

/// The part of itself that it moves by with each time that is taken in.
const STEP: u64 = 16;
/// Less is finer than the clocks of recordings.
const LEAST_NS: u64 = 500;

impl Default for Pace {
    fn default() -> Self {
        Pace(2_000)
    }
}

impl Pace {
    /// Returns it in nanoseconds.
    pub(crate) fn ns(self) -> u64 {
        self.0
    }

    /// Takes in one initiator's time.
    pub(crate) fn note(&mut self, took_ns: u64) {
        let step = self.0 / STEP;
        self.0 = match took_ns > self.0 {
            true => self.0 + step,
            false => (self.0 - step).max(LEAST_NS),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stalls_of_one_in_five_leave_the_pace_alone() {
        let mut pace = Pace::default();
        for round in 0..1000_u64 {
            pace.note(if round.is_multiple_of(5) {
                5_000_000
            } else {
                30_000
            });
        }
        assert!((20_000..45_000).contains(&pace.ns()), "{pace:?}");
    }
}
