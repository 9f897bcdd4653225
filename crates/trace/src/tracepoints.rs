//! Turns tracepoints into operations, where no kprobe shows the memory-management functions.
//!
//! A task's space follows from clone, exec and exit; lazy mode from who runs; flushes from what the initiator says
//! (`tlb_flush` with reason 3 or 4). What remains unknown is said to be: [`Tables::Unknown`], and counts in the summary.
//! Addresses are never shown: a range begins at 0.
//!
//! | file | what |
//! | --- | --- |
//! | `spaces` | tasks get spaces and give them up |
//! | `moves` | a CPU goes on: to a space, or without one |
//! | `followed`, `flushes` | what is followed of a CPU; flushes under way |
//! | `tasks` | which space a task has |
//! | `told` | where operations go |

mod flushes;
mod followed;
mod moves;
mod spaces;
mod tasks;
mod told;

use crate::error::LineProblem;
use crate::event::{Context, Event, Kind};
use crate::operation::{InitialState, Laziness, MmId, Onto, OperationKind, Range, Tables};
use crate::snapshot::Snapshot;
use crate::steps::Steps;
use crate::summary::Summary;
use crate::task_chain::Link;
use flushes::Flushes;
use followed::{Cpu, Question, REMOTE_SEND_IPI, ends_flush};
use tasks::{Old, Owner, Tasks};
use told::{PLACES, Places, Told};

/// Stands for a space that is loaded for a moment only: text patching, firmware.
const TEMPORARY: MmId = MmId(2);

const ON_TASK_SWITCH: u8 = 0;
const LOCAL_MM: u8 = 3;

/// Holds what the trace has told so far.
pub(crate) struct Tracepoints {
    cpus: Vec<Cpu>,
    tasks: Tasks,
    flushes: Flushes,
}

impl Tracepoints {
    /// Knows the tasks of a snapshot.
    pub(crate) fn new(snapshot: Option<&Snapshot>) -> Self {
        Tracepoints {
            cpus: Vec::new(),
            tasks: Tasks::new(snapshot),
            flushes: Flushes::default(),
        }
    }

    /// Takes in one event; it and the operations that follow from it go to `steps`.
    ///
    /// # Errors
    /// If more spaces are alive than a machine can have.
    pub(crate) fn apply(
        &mut self,
        event: &Event,
        summary: &mut Summary,
        steps: &mut Steps,
    ) -> Result<(), LineProblem> {
        let index = usize::from(event.cpu);
        if index >= self.cpus.len() {
            self.cpus.resize(index + 1, Cpu::default());
        }
        steps.push_event(event);
        let mut told = Told {
            event,
            summary,
            steps,
            places: None,
        };
        if event.kind != Kind::Other {
            self.answer_whether_it_still_has(&mut told);
        }
        self.observe(&mut told);
        if event.kind == Kind::Other {
            // Whoever records more than is needed: it may stand between a task switch and what that did.
            return Ok(());
        }
        if ends_flush(event) {
            self.flushes.close(event.cpu, told.steps);
        }
        match event.kind {
            Kind::SchedSwitch { next } => {
                self.answer_in_passing(&mut told)?;
                if self.cpus[index].ends_with.take() == Some(event.pid) {
                    self.last_flush(&mut told);
                }
                self.cpus[index].chain.switch(event.pid, next);
                self.run(next, &mut told);
            }
            Kind::TlbFlush { pages, reason } => self.tlb_flush(pages, reason, &mut told)?,
            Kind::NewTask { pid, clone_flags } => {
                if self.tasks.owner(event.pid) == Owner::Unknown && Tasks::shows_user(clone_flags) {
                    self.is_user(&mut told);
                }
                self.tasks.clone(event.pid, pid, clone_flags)?;
            }
            Kind::ProcessExec { old_pid } => self.process_exec(old_pid, &mut told)?,
            Kind::ProcessExit => self.process_exit(&mut told),
            _ => {}
        }
        self.cpus[index].switching = match event.kind {
            Kind::SchedSwitch { .. } => Some(event.pid),
            _ => None,
        };
        Ok(())
    }

    /// Checks who runs, and repairs the chain of tasks.
    fn observe(&mut self, told: &mut Told<'_>) {
        let index = usize::from(told.event.cpu);
        let pid = told.event.pid;
        let link = self.cpus[index].chain.observe(pid);
        if let Some(Question::HasSpace { pid: who }) = self.cpus[index].open_question {
            let loads = matches!(
                told.event.kind,
                Kind::TlbFlush {
                    reason: ON_TASK_SWITCH,
                    ..
                }
            );
            if !loads && told.event.kind != Kind::Other && self.tasks.is_doubted(who) {
                self.cpus[index].open_question = None;
                self.go_lazy(Onto::KernelThread, told);
            }
        }
        if !self.cpus[index].seen {
            self.cpus[index].seen = true;
            if let Owner::Space(mm) = self.tasks.owner(pid) {
                self.tasks.keep(mm);
                self.cpus[index].active = Some(mm);
                self.cpus[index].initial = Some(InitialState {
                    mm: Some(mm),
                    laziness: Laziness::NotLazy,
                });
            }
        } else if link == Link::Repaired {
            told.summary.chain_repairs += 1;
            if let Some(Question::Why { places, .. }) = self.cpus[index].open_question.take() {
                told.go_back(places);
                told.come_back();
            }
            // What the missing switch did cannot be seen, so no event will answer for it.
            self.tasks.trust(pid);
            match self.tasks.owner(pid) {
                Owner::Space(mm) => self.switch(mm, told),
                _ => self.run(pid, told),
            }
        }
    }

    /// A task runs from here on.
    fn run(&mut self, pid: u32, told: &mut Told<'_>) {
        let index = usize::from(told.event.cpu);
        match self.tasks.owner(pid) {
            Owner::Space(mm)
                if self.tasks.is_doubted(pid) && self.cpus[index].active != Some(mm) =>
            {
                self.cpus[index].open_question = Some(Question::HasSpace { pid });
            }
            Owner::Space(mm) if self.cpus[index].writes_cr3(mm) => {
                let places = Places::of(told.event, told.steps.reserve(1), 1);
                self.cpus[index].open_question = Some(Question::StillHas { pid, mm, places });
            }
            Owner::Space(mm) => self.switch(mm, told),
            Owner::Kernel if pid == 0 => self.go_lazy(Onto::Idle, told),
            Owner::Kernel | Owner::Gone { .. } => self.go_lazy(Onto::KernelThread, told),
            Owner::Unknown => self.cpus[index].open_question = Some(Question::HasSpace { pid }),
        }
    }

    fn tlb_flush(
        &mut self,
        pages: i64,
        reason: u8,
        told: &mut Told<'_>,
    ) -> Result<(), LineProblem> {
        let index = usize::from(told.event.cpu);
        let in_interrupt = match told.event.context {
            Context::Hardirq | Context::Nmi => true,
            Context::Unknown => told.event.pid == 0 && self.cpus[index].switching.is_none(),
            Context::Task | Context::Softirq => false,
        };
        match reason {
            ON_TASK_SWITCH if in_interrupt => {
                told.summary.left_for_init_mm += 1;
                told.summary.remote_shootdowns.found_lazy += 1;
                told.summary.remote_shootdowns.arrived += 1;
                self.cpus[index].has_left = true;
                if let Some(mm) = self.cpus[index].active {
                    self.flushes.found_lazy(told.event.cpu, mm);
                }
            }
            ON_TASK_SWITCH if self.cpus[index].switching == Some(told.event.pid) => {
                if let Some(Question::HasSpace { pid }) = self.cpus[index].open_question.take() {
                    let mm = match self.tasks.owner(pid) {
                        Owner::Space(mm) => mm,
                        _ => self.tasks.found(pid, None),
                    };
                    self.tasks.trust(pid);
                    self.switch(mm, told);
                }
            }
            ON_TASK_SWITCH => self.loads_in_task(told),
            5 if !in_interrupt => {}
            1 | 5 => {
                told.summary.remote_shootdowns.arrived += 1;
                // A mask is trimmed of CPUs that are not lazy.
                if reason == 5 && self.cpus[index].lazy && !self.cpus[index].has_left {
                    self.flushes.found_elsewhere(told.event.cpu);
                }
            }
            LOCAL_MM => {
                self.answer(told)?;
                told.summary.local_flushes += 1;
                if !self.flushes.join(told.event) {
                    self.flush(pages, told);
                } else if self.tasks.owner(told.event.pid) == Owner::Unknown {
                    self.is_user(told);
                }
            }
            REMOTE_SEND_IPI => self.sends(pages, told)?,
            _ => {}
        }
        Ok(())
    }

    /// A task, not in a task switch, loads another space.
    fn loads_in_task(&mut self, told: &mut Told<'_>) {
        let (index, pid) = (usize::from(told.event.cpu), told.event.pid);
        let owner = self.tasks.owner(pid);
        if pid == 0 || matches!(owner, Owner::Gone { .. }) {
            // An idle CPU leaves on its own; a dying task's space ends, which was told.
            told.summary.left_for_init_mm += 1;
            self.cpus[index].has_left = true;
            if owner != Owner::Kernel {
                self.last_flush(told);
            }
            return;
        }
        match self.cpus[index].open_question {
            Some(Question::Why {
                pid: before,
                places,
                ..
            }) if before == pid => {
                self.cpus[index].open_question = None;
                told.go_back(places);
                told.operation(self.initial(index), OperationKind::Switch { mm: TEMPORARY });
                told.come_back();
                let back = match (owner, self.cpus[index].active) {
                    (Owner::Space(mm), _) => mm,
                    _ => MmId::INIT,
                };
                told.operation(None, OperationKind::Switch { mm: back });
            }
            _ => {
                let sent = self.flushes.sent_by(told.event);
                let places = Places::of(told.event, told.steps.reserve(PLACES), PLACES);
                self.cpus[index].open_question = Some(Question::Why { pid, sent, places });
            }
        }
    }

    /// `remote ipi send`: a flush that finds company in the cpumask.
    fn sends(&mut self, pages: i64, told: &mut Told<'_>) -> Result<(), LineProblem> {
        let (index, pid) = (usize::from(told.event.cpu), told.event.pid);
        if let Some(Question::Why {
            pid: who, places, ..
        }) = self.cpus[index].open_question
            && who == pid
        {
            self.cpus[index].open_question = None;
            told.go_back(places);
            self.exec(pid, Old::WasFlushed, told)?;
            told.come_back();
            return Ok(());
        }
        self.answer(told)?;
        match self.tasks.owner(pid) {
            Owner::Gone { .. } => self.last_flush(told),
            _ => self.flush(pages, told),
        }
        Ok(())
    }

    /// The last flush of the space that a dying task gave up, unless it was told as the task exited.
    fn last_flush(&mut self, told: &mut Told<'_>) {
        if let Owner::Gone { mm, settled: false } = self.tasks.owner(told.event.pid) {
            self.tasks.settle(told.event.pid);
            self.flush_all(mm, told);
        }
    }

    /// The flush of the space of the task that runs.
    fn flush(&mut self, pages: i64, told: &mut Told<'_>) {
        let mm = match self.tasks.owner(told.event.pid) {
            Owner::Space(mm) => mm,
            // A kernel thread (khugepaged) sends interrupts for the spaces of others, and flushes nothing of its own CPU's.
            Owner::Unknown if is_sent(told.event) => {
                match self.cpus[usize::from(told.event.cpu)].active {
                    Some(mm) => mm,
                    None => self.is_user(told),
                }
            }
            Owner::Unknown => self.is_user(told),
            Owner::Kernel | Owner::Gone { .. } => {
                told.summary.flushes_of_unknown_spaces += 1;
                return;
            }
        };
        let range = match u64::try_from(pages) {
            Ok(pages) => Range::Pages {
                start: 0,
                pages,
                stride_shift: 12,
            },
            Err(_) => Range::All,
        };
        let kind = OperationKind::Flush {
            mm,
            range,
            tables: Tables::Unknown,
        };
        told.summary.operations.flush += 1;
        told.summary.unknown_tables += 1;
        let initial = self.initial(usize::from(told.event.cpu));
        let operation = told.of(initial, kind);
        if is_sent(told.event) {
            let lazy = self.cpus.iter().zip(0_u16..);
            let lazy = lazy.filter(|(cpu, _)| cpu.lazy && !cpu.has_left && cpu.active == Some(mm));
            let lazy: Vec<u16> = lazy.map(|(_, number)| number).collect();
            self.flushes
                .begin(told.event, mm, lazy, operation, told.steps);
        } else {
            told.steps.push(operation);
        }
    }

    /// A task that was never seen does what only a task with a space does; it shares the one that is loaded.
    fn is_user(&mut self, told: &mut Told<'_>) -> MmId {
        let index = usize::from(told.event.cpu);
        let mm = self.tasks.found(told.event.pid, self.cpus[index].active);
        self.switch(mm, told);
        mm
    }
}

/// Whether the event is `remote ipi send`.
fn is_sent(event: &Event) -> bool {
    matches!(
        event.kind,
        Kind::TlbFlush {
            reason: REMOTE_SEND_IPI,
            ..
        }
    )
}
