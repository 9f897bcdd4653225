//! A CPU goes on: to a space, or without one.

use super::Tracepoints;
use super::told::Told;
use crate::operation::{InitialState, MmId, Onto, OperationKind};

impl Tracepoints {
    pub(super) fn switch(&mut self, mm: MmId, told: &mut Told<'_>) {
        let index = usize::from(told.event.cpu);
        told.summary.operations.switch += 1;
        let initial = self.initial(index);
        told.operation(initial, OperationKind::Switch { mm });
        self.flushes.moves(told.event.cpu);
        self.cpus[index].lazy = false;
        self.cpus[index].has_left = false;
        let before = self.cpus[index].active.replace(mm);
        if before != Some(mm) {
            self.tasks.keep(mm);
            if let Some(before) = before
                && self.tasks.drop(before)
            {
                told.retire(before);
            }
        }
    }

    pub(super) fn go_lazy(&mut self, onto: Onto, told: &mut Told<'_>) {
        let index = usize::from(told.event.cpu);
        told.summary.operations.go_lazy += 1;
        let initial = self.initial(index);
        told.operation(initial, OperationKind::GoLazy { onto });
        self.flushes.moves(told.event.cpu);
        self.cpus[index].lazy = true;
    }

    pub(super) fn retire_if_freed(&mut self, mm: MmId, told: &mut Told<'_>) {
        if self.tasks.is_freed(mm) {
            told.retire(mm);
        }
    }

    pub(super) fn initial(&mut self, index: usize) -> Option<InitialState> {
        self.cpus[index].initial.take()
    }
}
