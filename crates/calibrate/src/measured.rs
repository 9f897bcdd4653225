//! Figures of this machine, with their origins.

use std::io;

use lazytlb_price::{Costs, Figure, Parameter};

use crate::error::CalibrateError;
use crate::idle_states::IdleState;
use crate::interrupts::Interrupts;
use crate::machine::Pcids;
use crate::samples::Span;
use crate::shootdowns::{Asleep, Shootdowns, StateWait};
use crate::{atomics, machine, refills, switches};

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
    progress("context switches");
    measured.add_switches(machine::pcids().and_then(|pcids| Ok((pcids, switches::measure()?))));
    match others {
        [] => measured.notes.push(
            "interrupts and shootdowns are not measured: this process has one CPU".to_owned(),
        ),
        others => measured.disturb(others, &mut progress)?,
    }
    measured.notes.push(
        "INVLPG, remote reads and what an idle CPU's disturbed sleep is worth are as shipped: user space cannot measure them"
            .to_owned(),
    );
    Ok(measured)
}

impl Measured {
    /// Takes what changing the address space costs for the kind of CR3 load that it takes here.
    fn add_switches(&mut self, switches: io::Result<(Pcids, Span)>) {
        let (pcids, span) = match switches {
            Ok(switches) => switches,
            Err(why) => {
                self.notes.push(format!(
                    "CR3 loads are as shipped: switches are not measured: {why}"
                ));
                return;
            }
        };
        let (parameter, included) = match pcids {
            Pcids::Used => (Parameter::Cr3LoadKeep, "PCIDs are used"),
            Pcids::Unused => (
                Parameter::Cr3LoadFlush,
                "no PCIDs are used, so walking again what both sides use is in it",
            ),
        };
        // A difference of two noisy times may vanish; a CR3 load does not.
        let least = self.costs.figure(parameter).low / self.costs.reference_ghz();
        let how = format!(
            "what a switch took longer to another process (`cat`) than to a thread of the process, on one CPU through pipes; all that changing \
             the address space takes is in it beside the CR3 load: what the kernel records, mitigations, other caches, other code ({included}); \
             not below what ships as the low end"
        );
        self.set(parameter, span.at_least(least), &how);
        match pcids {
            Pcids::Used => self.flush_like_keep(),
            Pcids::Unused => self
                .notes
                .push("cr3_load_keep is as shipped: this kernel uses no PCIDs".to_owned()),
        }
    }

    /// Raises `cr3_load_flush` to `cr3_load_keep` where it is below: it would otherwise look cheaper to flush than not to, only because
    /// one of the two was measured with all that goes with it.
    fn flush_like_keep(&mut self) {
        let keep = self.costs.figure(Parameter::Cr3LoadKeep).clone();
        let flush = self.costs.figure(Parameter::Cr3LoadFlush);
        self.notes.push(
            "cr3_load_flush is not measured: where PCIDs are used, hardly a switch flushes; it is as shipped, but nowhere below cr3_load_keep"
                .to_owned(),
        );
        let raised = Figure {
            low: flush.low.max(keep.low),
            typical: flush.typical.max(keep.typical),
            high: flush.high.max(keep.high),
            origin: format!(
                "{}. Where this is below cr3_load_keep, which was measured on {}, that: a load that flushes does no less",
                flush.origin, self.machine
            ),
        };
        self.costs.replace(Parameter::Cr3LoadFlush, raised);
    }

    /// Measures what disturbs other CPUs.
    fn disturb(
        &mut self,
        others: &[usize],
        progress: &mut impl FnMut(&str),
    ) -> Result<(), CalibrateError> {
        progress("interrupts");
        let interrupts = Interrupts::measure(others)?;
        let hypervisor = machine::flushing_hypervisor();
        if let Ok(interrupts) = &interrupts {
            self.add_interrupts(interrupts);
        }
        if let Some(hypervisor) = hypervisor {
            let instead = match interrupts {
                Ok(_) => "ipi_wait, and ipi_target given a third CPU, are of interrupts by membarrier, which it does not spare".to_owned(),
                Err(why) => format!("nor are interrupts: membarrier: {why}"),
            };
            self.notes.push(format!(
                "shootdowns are not measured: {hypervisor} spares virtual CPUs that do not run, so what the guest sees is no cost of a \
                 shootdown; measure on the host ({instead})"
            ));
            return Ok(());
        }
        progress("shootdowns");
        let shootdowns = Shootdowns::measure(others)?;
        match interrupts {
            Ok(_) => {
                let ends = [
                    shootdowns.first.low,
                    shootdowns.first.typical,
                    shootdowns.first.high,
                ];
                let [low, typical, high] = ends.map(|ns| ns.round());
                self.notes.push(format!(
                    "to compare with ipi_wait: mprotect of a page took {low} / {typical} / {high} ns longer beside a thread that ran, \
                     its invalidation there included"
                ));
            }
            Err(why) => {
                self.notes.push(format!(
                    "ipi_wait and ipi_target are of mprotect, invalidations included: membarrier: {why}"
                ));
                self.add_protects(&shootdowns);
            }
        }
        self.add_shootdowns(&shootdowns);
        Ok(())
    }

    fn add_interrupts(&mut self, interrupts: &Interrupts) {
        self.set_wait(interrupts.first, "what membarrier took longer beside a thread of the process on another CPU that ran than beside threads that slept, which it skips; sending included, and nothing is flushed");
        self.set_target(
            interrupts.further,
            "what membarrier took longer for each further thread that ran",
        );
    }

    fn add_protects(&mut self, shootdowns: &Shootdowns) {
        self.set_wait(shootdowns.first, "what mprotect of a page took longer beside a thread of the process on another CPU that ran; sending included");
        self.set_target(
            shootdowns.further,
            "what mprotect of a page took longer for each further thread that ran",
        );
    }

    fn set_wait(&mut self, span: Span, how: &str) {
        let zero = Span {
            low: 0.0,
            typical: 0.0,
            high: 0.0,
        };
        self.set(Parameter::IpiSend, zero, "measured together with ipi_wait");
        self.set(Parameter::IpiWait, span, how);
    }

    fn set_target(&mut self, span: Option<Span>, how: &str) {
        match span {
            Some(span) => self.set(Parameter::IpiTarget, span, how),
            None => self
                .notes
                .push("ipi_target is as shipped: it takes a third CPU to measure".to_owned()),
        }
    }

    fn add_shootdowns(&mut self, shootdowns: &Shootdowns) {
        self.set(
            Parameter::IpiHandler,
            shootdowns.stolen,
            "what a thread that counted did not count for each shootdown",
        );
        self.set(Parameter::IdleWait, shootdowns.asleep.any, "what munmap of a page table took longer beside a thread that slept, 0.3 and 10 ms, beyond what mprotect of a page took longer beside one that ran");
        match per_stated_us(&shootdowns.asleep) {
            Ok((span, states)) => {
                let how = format!(
                    "as idle_wait, by the idle state that the CPU was woken from, a us of the exit latency that /sys states: {states}"
                );
                self.set(Parameter::IdleWaitPerUs, span, &how);
            }
            Err(why) => self
                .notes
                .push(format!("idle_wait_per_us is as shipped: {why}")),
        }
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

/// What a microsecond of stated exit latency costs: typically as in the state that was met most, at the least and the most as in any.
/// Or why it is not known.
fn per_stated_us(asleep: &Asleep) -> Result<(Span, String), String> {
    let Some(states) = &asleep.states else {
        return Err("the system tells of no idle states (no cpuidle)".to_owned());
    };
    let stated = || states.iter().filter(|met| met.state.latency_us > 0);
    let per_us = |met: &StateWait| met.wait.times(1.0 / met.state.latency_us as f64);
    let Some(usual) = stated().max_by_key(|met| met.count) else {
        return Err("the CPU was hardly ever woken from an idle state with an exit latency: it polled, had left the address space, or was busy".to_owned());
    };
    let span = stated().map(per_us).fold(per_us(usual), |all, span| Span {
        low: all.low.min(span.low),
        typical: all.typical,
        high: all.high.max(span.high),
    });
    let words = stated().map(|met| {
        let StateWait { state, count, wait } = met;
        let [low, typical, high] = [wait.low, wait.typical, wait.high].map(f64::round);
        let IdleState { name, latency_us } = state;
        format!("{name} ({latency_us} us), {count} times: {low} / {typical} / {high} ns")
    });
    let words: Vec<String> = words.collect();
    Ok((span, words.join("; ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn met(name: &str, latency_us: u64, count: usize, wait: [f64; 3]) -> StateWait {
        let [low, typical, high] = wait;
        let name = name.to_owned();
        StateWait {
            state: IdleState { name, latency_us },
            count,
            wait: Span { low, typical, high },
        }
    }

    #[test]
    fn a_stated_us_costs_as_in_the_usual_state_and_ranges_over_all() {
        let zero = Span {
            low: 0.0,
            typical: 0.0,
            high: 0.0,
        };
        let states = vec![
            met("POLL", 0, 90, [1.0, 1.0, 1.0]),
            met("C1", 2, 20, [600.0, 1000.0, 1800.0]),
            met("C1E", 10, 40, [4000.0, 7000.0, 8000.0]),
        ];
        let mut asleep = Asleep {
            any: zero,
            states: Some(states),
        };
        let (span, words) = per_stated_us(&asleep).unwrap();
        let expected = Span {
            low: 300.0,
            typical: 700.0,
            high: 900.0,
        };
        assert_eq!(span, expected);
        assert_eq!(
            words,
            "C1 (2 us), 20 times: 600 / 1000 / 1800 ns; C1E (10 us), 40 times: 4000 / 7000 / 8000 ns"
        );
        asleep.states = Some(vec![met("POLL", 0, 90, [1.0, 1.0, 1.0])]);
        assert!(per_stated_us(&asleep).unwrap_err().contains("polled"));
        asleep.states = None;
        assert!(per_stated_us(&asleep).unwrap_err().contains("no cpuidle"));
    }

    /// What can be measured depends on the machine; that each figure is measured or a note says why it is not does not.
    #[test]
    fn whatever_is_not_measured_has_a_note() {
        let _alone = crate::others::alone();
        let measured = measure(|_| {}).unwrap();
        let is_measured = |parameter| measured.parameters.contains(&parameter);
        let has_note = |words: &str| measured.notes.iter().any(|note| note.contains(words));
        let loads = [Parameter::Cr3LoadKeep, Parameter::Cr3LoadFlush].map(is_measured);
        assert_eq!(loads == [false; 2], has_note("switches are not measured"));
        assert_ne!(loads, [true; 2]);
        let interrupts = [
            "interrupts and shootdowns are not measured",
            "nor are interrupts",
        ];
        assert_ne!(
            is_measured(Parameter::IpiWait),
            interrupts.into_iter().any(has_note)
        );
        let shootdowns = is_measured(Parameter::IpiHandler);
        assert_ne!(shootdowns, has_note("shootdowns are not measured"));
        let is_per_us = is_measured(Parameter::IdleWaitPerUs);
        assert_eq!(
            shootdowns && !is_per_us,
            has_note("idle_wait_per_us is as shipped")
        );
        let [keep, flush] = [Parameter::Cr3LoadKeep, Parameter::Cr3LoadFlush]
            .map(|parameter| measured.costs.figure(parameter));
        assert!(keep.low <= flush.low && keep.typical <= flush.typical);
    }
}
