//! Figures of this machine, with their origins.

use lazytlb_price::{Costs, Figure, Parameter};

use crate::error::CalibrateError;
use crate::samples::Span;
use crate::shootdowns::Shootdowns;
use crate::{atomics, machine, refills};

/// What was measured, and what was not.
#[derive(Clone, Debug)]
pub struct Measured {
    /// The machine, in words.
    pub machine: String,
    /// Costs in which what was measured is in the place of what ships.
    pub costs: Costs,
    /// What was measured.
    pub parameters: Vec<Parameter>,
    /// Why other figures are as shipped.
    pub notes: Vec<String>,
}

/// Measures. Takes some seconds; `progress` is told what comes next. The machine should do nothing else.
///
/// # Errors
/// [`CalibrateError`].
pub fn measure(mut progress: impl FnMut(&str)) -> Result<Measured, CalibrateError> {
    let cpus = machine::cpus()?;
    let (&first, others) = cpus.split_first().unwrap_or((&0, &[]));
    machine::pin(first)?;
    let mut measured = Measured {
        machine: machine::name(),
        costs: Costs::shipped(),
        parameters: Vec::new(),
        notes: Vec::new(),
    };
    progress("locked instructions and fences");
    let (locked, fences) = (atomics::locked(), atomics::fences());
    measured.raise(Parameter::Locked, locked, "a locked instruction on a word that nobody else used; the high end is as shipped: a line that another core has");
    measured.raise(
        Parameter::Fence,
        fences,
        "a full fence behind one store; the high end is as shipped: behind a full store buffer",
    );
    progress("refills");
    measured.set(Parameter::Refill, refills::measure()?, "what reading 50, 300 and 1536 pages took longer after a full flush (munmap of 64 pages); data in caches");
    match (machine::flushing_hypervisor(), others) {
        (Some(hypervisor), _) => measured.notes.push(format!(
            "shootdowns are not measured: {hypervisor} spares virtual CPUs that do not run, so what the guest sees is no cost of an IPI; \
             measure on the host"
        )),
        (None, []) => measured
            .notes
            .push("shootdowns are not measured: this process has one CPU".to_owned()),
        (None, others) => {
            progress("shootdowns");
            measured.add(&Shootdowns::measure(others)?);
        }
    }
    measured.notes.push(
        "CR3 loads, INVLPG, remote reads and what an idle CPU's disturbed sleep is worth are as shipped: user space cannot measure them"
            .to_owned(),
    );
    Ok(measured)
}

impl Measured {
    fn add(&mut self, shootdowns: &Shootdowns) {
        let zero = Span {
            low: 0.0,
            typical: 0.0,
            high: 0.0,
        };
        self.set(Parameter::IpiSend, zero, "measured together with ipi_wait");
        self.set(Parameter::IpiWait, shootdowns.first, "what mprotect of a page took longer beside a thread of the process on another CPU that ran; sending included");
        match shootdowns.further {
            Some(further) => self.set(
                Parameter::IpiTarget,
                further,
                "what mprotect of a page took longer for each further thread that ran",
            ),
            None => self
                .notes
                .push("ipi_target is as shipped: it takes a third CPU to measure".to_owned()),
        }
        self.set(
            Parameter::IpiHandler,
            shootdowns.stolen,
            "what a thread that counted did not count for each shootdown",
        );
        self.set(Parameter::IdleWait, shootdowns.asleep, "what munmap of a page table took longer beside a thread that slept, 0.3 and 10 ms, beyond ipi_wait");
    }

    /// Takes a range as it was measured.
    fn set(&mut self, parameter: Parameter, span: Span, how: &str) {
        let cycles = span.times(self.costs.reference_ghz());
        let origin = format!("Measured by `lazytlb calibrate` on {}: {how}", self.machine);
        // Times that were measured are finite, and in order.
        let figure = Figure {
            low: cycles.low.round(),
            typical: cycles.typical.max(cycles.low).round(),
            high: cycles.high.max(cycles.typical).max(cycles.low).round(),
            origin,
        };
        self.costs.replace(parameter, figure);
        self.parameters.push(parameter);
    }

    /// Takes the low end and what is typical; the high end stays where it is above.
    fn raise(&mut self, parameter: Parameter, span: Span, how: &str) {
        let shipped = self.costs.figure(parameter).high / self.costs.reference_ghz();
        let high = span.high.max(shipped);
        self.set(parameter, Span { high, ..span }, how);
    }
}
