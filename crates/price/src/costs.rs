//! What an effect costs: a range for each, with its origin.

use crate::counts::Counts;

/// Figures may not exceed this: a million million cycles is minutes, and sums stay finite.
pub const MAX_FIGURE_CYCLES: f64 = 1e12;

/// Names a parameter of the cost model: a cost is a sum of figures times counts.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Parameter {
    /// A shootdown that interrupts anybody: what sending costs the initiator.
    IpiSend,
    /// An IPI: what each target costs the initiator.
    IpiTarget,
    /// A shootdown that interrupts anybody: the initiator's wait for an awake CPU.
    IpiWait,
    /// An IPI to a CPU that is not idle: the interrupt there.
    IpiHandler,
    /// An IPI to a lazy CPU on a kernel thread, beyond the interrupt.
    IpiLazyExtra,
    /// A shootdown to an idle CPU, where it is not known of all of them how deep they sleep: the initiator's additional
    /// wait.
    IdleWait,
    /// An IPI to an idle CPU of which it is not known how deep it sleeps: its disturbed sleep.
    IdleWake,
    /// A microsecond of the longest exit latency among the idle targets of a shootdown, where all are known: the
    /// initiator's additional wait.
    IdleWaitPerUs,
    /// A microsecond of the exit latency of an IPI's idle target, where it is known: its disturbed sleep.
    IdleWakePerUs,
    /// A CR3 load that flushes, of another root or of the same.
    Cr3LoadFlush,
    /// A CR3 load that keeps cached translations.
    Cr3LoadKeep,
    /// An INVLPG.
    Invlpg,
    /// Walking a user space's translations again after they were all flushed.
    Refill,
    /// A locked read-modify-write.
    Locked,
    /// A fence.
    Fence,
    /// A read of another CPU's lazy flag; under `quarantine` also of who was spared in a space.
    RemoteRead,
}

impl Parameter {
    /// Every parameter, in the order of the file.
    pub const ALL: [Parameter; 16] = [
        Parameter::IpiSend,
        Parameter::IpiTarget,
        Parameter::IpiWait,
        Parameter::IpiHandler,
        Parameter::IpiLazyExtra,
        Parameter::IdleWait,
        Parameter::IdleWake,
        Parameter::IdleWaitPerUs,
        Parameter::IdleWakePerUs,
        Parameter::Cr3LoadFlush,
        Parameter::Cr3LoadKeep,
        Parameter::Invlpg,
        Parameter::Refill,
        Parameter::Locked,
        Parameter::Fence,
        Parameter::RemoteRead,
    ];

    /// Returns the name in the file.
    pub const fn name(self) -> &'static str {
        match self {
            Parameter::IpiSend => "ipi_send",
            Parameter::IpiTarget => "ipi_target",
            Parameter::IpiWait => "ipi_wait",
            Parameter::IpiHandler => "ipi_handler",
            Parameter::IpiLazyExtra => "ipi_lazy_extra",
            Parameter::IdleWait => "idle_wait",
            Parameter::IdleWake => "idle_wake",
            Parameter::IdleWaitPerUs => "idle_wait_per_us",
            Parameter::IdleWakePerUs => "idle_wake_per_us",
            Parameter::Cr3LoadFlush => "cr3_load_flush",
            Parameter::Cr3LoadKeep => "cr3_load_keep",
            Parameter::Invlpg => "invlpg",
            Parameter::Refill => "refill",
            Parameter::Locked => "locked",
            Parameter::Fence => "fence",
            Parameter::RemoteRead => "remote_read",
        }
    }

    /// Returns how often its figure is to be paid.
    ///
    /// The two reasons to flush by a CR3 load are one parameter: it is the same instruction, and
    /// two independent ranges for it would only blur comparisons.
    pub const fn count(self, counts: &Counts) -> u128 {
        let (first, second) = match self {
            Parameter::IpiSend | Parameter::IpiWait => (counts.shootdowns, 0),
            Parameter::IpiTarget => (counts.ipis, 0),
            Parameter::IpiHandler => (counts.ipis_to_running, counts.ipis_to_lazy),
            Parameter::IpiLazyExtra => (counts.ipis_to_lazy, 0),
            Parameter::IdleWait => {
                let known = counts.shootdowns_to_known_sleep;
                (counts.shootdowns_to_idle.saturating_sub(known), 0)
            }
            Parameter::IdleWake => {
                let known = counts.ipis_to_known_sleep;
                (counts.ipis_to_idle.saturating_sub(known), 0)
            }
            Parameter::IdleWaitPerUs => (counts.idle_wait_us, 0),
            Parameter::IdleWakePerUs => (counts.idle_wake_us, 0),
            Parameter::Cr3LoadFlush => (counts.cr3_flush, counts.full_flushes),
            Parameter::Cr3LoadKeep => (counts.cr3_keep, 0),
            Parameter::Invlpg => (counts.invlpg, 0),
            Parameter::Refill => (counts.refills_after_load, counts.refills_after_flush),
            Parameter::Locked => (counts.locked, 0),
            Parameter::Fence => (counts.fences, 0),
            Parameter::RemoteRead => (counts.remote_reads, 0),
        };
        first as u128 + second as u128
    }
}

/// Holds what one effect costs, in cycles.
#[derive(Clone, PartialEq, Debug)]
pub struct Figure {
    /// The least that it plausibly costs.
    pub low: f64,
    /// What it costs as a rule; not below `low`.
    pub typical: f64,
    /// The most that it plausibly costs; not below `typical`.
    pub high: f64,
    /// Where the figures come from; a guess says `ASSUMED:` and why.
    pub origin: String,
}

/// Holds a figure for every parameter.
#[derive(Clone, PartialEq, Debug)]
pub struct Costs {
    /// The clock that the cycles are of, in GHz: cycles divided by it are nanoseconds.
    reference_ghz: f64,
    /// In the order of [`Parameter::ALL`].
    figures: [Figure; Parameter::ALL.len()],
}

impl Costs {
    /// Puts figures together that were checked.
    pub(crate) fn new(reference_ghz: f64, figures: [Figure; Parameter::ALL.len()]) -> Self {
        Costs {
            reference_ghz,
            figures,
        }
    }

    /// Replaces a figure by one that was checked.
    pub(crate) fn set_figure(&mut self, parameter: Parameter, figure: Figure) {
        self.figures[parameter as usize] = figure;
    }

    /// Replaces a figure.
    ///
    /// # Panics
    /// If its numbers are not in order, or not from 0 to [`MAX_FIGURE_CYCLES`].
    pub fn replace(&mut self, parameter: Parameter, figure: Figure) {
        let Figure {
            low, typical, high, ..
        } = figure;
        assert!(
            0.0 <= low && low <= typical && typical <= high && high <= MAX_FIGURE_CYCLES,
            "{}: {low} {typical} {high}",
            parameter.name()
        );
        self.set_figure(parameter, figure);
    }

    /// Writes a file of costs, which [`Costs::load`] reads.
    pub fn to_toml(&self) -> String {
        let mut text = format!("reference_ghz = {:?}\n", self.reference_ghz);
        for parameter in Parameter::ALL {
            let Figure {
                low,
                typical,
                high,
                origin,
            } = self.figure(parameter);
            let origin = toml::Value::from(origin.as_str());
            text += &format!(
                "\n[{}]\nlow = {low}\ntypical = {typical}\nhigh = {high}\norigin = {origin}\n",
                parameter.name()
            );
        }
        text
    }

    /// Replaces the clock by one that was checked.
    pub(crate) fn set_reference_ghz(&mut self, reference_ghz: f64) {
        self.reference_ghz = reference_ghz;
    }

    /// Returns the clock that the cycles are of, in GHz.
    pub fn reference_ghz(&self) -> f64 {
        self.reference_ghz
    }

    /// Returns a parameter's figure.
    pub fn figure(&self, parameter: Parameter) -> &Figure {
        &self.figures[parameter as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_figures_are_complete_and_have_origins() {
        let costs = Costs::shipped();
        for parameter in Parameter::ALL {
            let figure = costs.figure(parameter);
            assert!(figure.low <= figure.typical && figure.typical <= figure.high);
            assert!(figure.origin.len() > 20, "{}", parameter.name());
        }
        assert_eq!(costs.figure(Parameter::Refill).typical, 9000.0);
        assert_eq!(costs.reference_ghz(), 3.0);
    }

    #[test]
    fn what_is_written_is_read_as_it_was() {
        let mut costs = Costs::shipped();
        let figure = Figure {
            low: 0.0,
            typical: 17.0,
            high: 18.5,
            origin: "Measured: \"here\"\nand \\ there".to_owned(),
        };
        costs.replace(Parameter::IpiWait, figure);
        assert_eq!(Costs::parse("mine", &costs.to_toml()).unwrap(), costs);
    }

    #[test]
    fn parameters_are_listed_in_the_order_of_their_figures() {
        for (n, parameter) in Parameter::ALL.into_iter().enumerate() {
            assert_eq!(parameter as usize, n);
        }
    }

    #[test]
    fn counts_at_their_limit_do_not_overflow() {
        let counts = Counts {
            cr3_flush: u64::MAX,
            full_flushes: u64::MAX,
            ..Counts::default()
        };
        let expected = 2 * u128::from(u64::MAX);
        assert_eq!(Parameter::Cr3LoadFlush.count(&counts), expected);
    }
}
