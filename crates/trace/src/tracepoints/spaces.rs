//! Tasks get spaces and give them up: exec and exit, and what answers why a task has loaded another space.

use super::Tracepoints;
use super::flushes::JustSent;
use super::followed::Question;
use super::tasks::{Ending, Old, Owner};
use super::told::Told;
use crate::error::LineProblem;
use crate::event::Kind;
use crate::operation::{MmId, Onto, OperationKind, Range, Tables};

impl Tracepoints {
    /// The task that runs gets a new space. The one that it had ends with a last flush, if nobody else uses it.
    pub(super) fn exec(
        &mut self,
        pid: u32,
        old: Old,
        told: &mut Told<'_>,
    ) -> Result<(), LineProblem> {
        let (mm, before) = self.tasks.exec(pid)?;
        if let Some((before, _)) = before {
            self.tasks.keep(before);
        }
        self.switch(mm, told);
        if let Some((before, ending)) = before {
            if old == Old::WasFlushed {
                // Its last flush, which finds company, is what is seen now.
                told.come_back();
                self.flushes.begin_told(told.event, before);
            }
            if ending == Ending::Ends || old == Old::WasFlushed {
                self.flush_all(before, told);
            }
            if self.tasks.drop(before) {
                told.retire(before);
            }
        }
        Ok(())
    }

    pub(super) fn process_exec(
        &mut self,
        old_pid: u32,
        told: &mut Told<'_>,
    ) -> Result<(), LineProblem> {
        let pid = told.event.pid;
        let index = usize::from(told.event.cpu);
        if old_pid != pid {
            self.tasks.release(old_pid);
        }
        match self.cpus[index].open_question {
            Some(Question::Why { pid: who, .. }) if who == pid => self.answer(told)?,
            // The new space was found out by a flush, or an exchange of tasks, before.
            _ if self.tasks.has_execed(pid) => {}
            _ => self.exec(pid, Old::Ends, told)?,
        }
        self.tasks.exec_is_told(pid);
        Ok(())
    }

    pub(super) fn process_exit(&mut self, told: &mut Told<'_>) {
        let (index, pid) = (usize::from(told.event.cpu), told.event.pid);
        let question = self.cpus[index].open_question.take();
        let gave_up = self.tasks.exit(pid);
        let why = match question {
            Some(Question::Why {
                pid: who,
                sent,
                places,
            }) if who == pid => {
                told.go_back(places);
                Some(sent)
            }
            // Another task's, which is not answered any more.
            Some(Question::Why { places, .. }) => {
                told.go_back(places);
                told.come_back();
                None
            }
            _ => None,
        };
        self.gives_up(pid, gave_up, why, told);
        told.come_back();
    }

    /// A task gave up its space as it exits; or had before, and why it loaded another one was the question.
    pub(super) fn gives_up(
        &mut self,
        pid: u32,
        gave_up: Option<(MmId, Ending)>,
        why: Option<JustSent>,
        told: &mut Told<'_>,
    ) {
        self.go_lazy(Onto::KernelThread, told);
        let Some((mm, ending)) = gave_up else {
            return;
        };
        match why {
            // The flush that was sent just before was the space's last one.
            Some(JustSent::Waits(number)) => told.steps.was_last(number),
            Some(JustSent::Told) => {}
            Some(JustSent::Nothing) => self.flush_all(mm, told),
            // Since Linux 6.16 `sched_process_exit` comes before the space ends, and so before its last flush.
            None if ending == Ending::Ends => {
                self.tasks.unsettle(pid);
                self.cpus[usize::from(told.event.cpu)].ends_with = Some(pid);
                return;
            }
            None => return,
        }
        self.tasks.settle(pid);
        self.flushes.forget(told.event.cpu, told.steps);
        self.retire_if_freed(mm, told);
    }

    pub(super) fn flush_all(&mut self, mm: MmId, told: &mut Told<'_>) {
        told.summary.operations.flush += 1;
        let initial = self.initial(usize::from(told.event.cpu));
        told.operation(
            initial,
            OperationKind::Flush {
                mm,
                range: Range::All,
                tables: Tables::Freed,
            },
        );
        self.retire_if_freed(mm, told);
    }

    /// Answers why a task loaded another space, by something that it can only do with a new one.
    pub(super) fn answer(&mut self, told: &mut Told<'_>) -> Result<(), LineProblem> {
        let index = usize::from(told.event.cpu);
        let Some(Question::Why { pid, places, .. }) = self.cpus[index].open_question.take() else {
            return Ok(());
        };
        told.go_back(places);
        self.exec(pid, Old::Ends, told)?;
        told.come_back();
        Ok(())
    }

    /// Answers whether the task that came still has the space that it had.
    ///
    /// `sched_process_exit` comes after a task has given up its space (Linux `do_exit`), and the task may be switched
    /// away from in between. When it comes back it runs as a kernel thread does, and CR3 is not written.
    pub(super) fn answer_whether_it_still_has(&mut self, told: &mut Told<'_>) {
        let index = usize::from(told.event.cpu);
        let Some(Question::StillHas { pid, mm, places }) = self.cpus[index].open_question else {
            return;
        };
        self.cpus[index].open_question = None;
        let loads = matches!(told.event.kind, Kind::TlbFlush { reason: 0, .. })
            && self.cpus[index].switching == Some(told.event.pid);
        told.go_back(places);
        if loads {
            self.switch(mm, told);
        }
        told.come_back();
        if !loads {
            self.tasks.doubt(pid);
            self.go_lazy(Onto::KernelThread, told);
        }
    }

    /// Answers as a task switch comes in between.
    pub(super) fn answer_in_passing(&mut self, told: &mut Told<'_>) -> Result<(), LineProblem> {
        let index = usize::from(told.event.cpu);
        match self.cpus[index].open_question {
            // Not a word of it: a kernel thread, or a task of the space that is loaded.
            Some(Question::HasSpace { .. }) => {
                self.cpus[index].open_question = None;
                told.summary.unknown_tasks += 1;
                self.go_lazy(Onto::KernelThread, told);
                Ok(())
            }
            Some(Question::Why { pid, places, .. }) if self.tasks.owner(pid) == Owner::Kernel => {
                self.cpus[index].open_question = None;
                told.go_back(places);
                told.come_back();
                Ok(())
            }
            Some(Question::Why { pid, .. }) => {
                self.answer(told)?;
                self.tasks.doubt(pid);
                Ok(())
            }
            // It was answered as this event came.
            Some(Question::StillHas { .. }) | None => Ok(()),
        }
    }
}
