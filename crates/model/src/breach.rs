//! What only code knows: that it interrupts whom it means to spare, and that it has lost a frame.
//!
//! Neither shows in memory. Whoever watches the code from within says so by a call that no CPU has, and which ends the
//! execution as a violation.

use crate::call::Breach;
use crate::progress::{Progress, Stop};
use crate::view::CpuMut;
use crate::violation::{Property, Violation};

impl CpuMut<'_> {
    /// Breaks a property, if that is looked at.
    pub(crate) fn breaks(&self, breach: Breach) -> Result<Progress<()>, Stop> {
        let (property, what) = match breach {
            Breach::InterruptsLazy(target) => (
                Property::LazyInterrupted,
                format!("is about to interrupt CPU {target}, which was lazy when it was looked at"),
            ),
            Breach::Loses(frame) => {
                let frame = self.machine.frame(frame)?;
                let what =
                    format!("has lost frame {frame}: it is neither freed nor held to be freed");
                (Property::LeakedFrame, what)
            }
        };
        match self.machine.checks(property) {
            true => Err(Stop::Violation(Violation::on_cpu(property, self.cpu, what))),
            false => Ok(Progress::DONE),
        }
    }
}
