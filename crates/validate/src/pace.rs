//! How fast the recorded machine is.

/// The time that an initiator takes from the send of its interrupts to its own flush, averaged.
///
/// It scales what cannot be read from a recording: how long an interrupt flies, and how long a switch takes. Some 25 us
/// under emulation, 1 us on bare metal. It comes from the initiator's events alone.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace(u64);

/// The weight of the past: the mean of the last sixteen or so.
const PAST: u64 = 15;
/// One stall of a virtual CPU must not count for all.
const MOST_NS: u64 = 100_000;
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
        let took_ns = took_ns.clamp(LEAST_NS, MOST_NS);
        self.0 = (PAST * self.0 + took_ns) / (PAST + 1);
    }
}
