//! Interrupts: sent by a CPU, delivered between two instructions of another.

use lazytlb_litmus_syntax::Handler;

use crate::code::Column;
use crate::cpu::Context;
use crate::machine::Machine;
use crate::registers::Registers;

impl Machine<'_> {
    /// Sends an interrupt to a CPU.
    pub(crate) fn send(&mut self, target: usize, handler: Handler) {
        let target = &mut self.cpus[target];
        match handler {
            Handler::Ipi => target.ipi_pending = true,
            Handler::Nmi => target.nmi_pending = true,
        }
    }

    /// Delivers an interrupt that is pending on a CPU, if it may come now. Delivery waits for the buffers (H25,
    /// H26).
    pub(crate) fn deliver(&mut self, cpu: usize, columns: &[Column]) {
        let state = &self.cpus[cpu];
        let handler = match (
            state.nmi_pending && !state.in_nmi,
            state.ipi_pending && state.interrupts,
        ) {
            (true, _) => Handler::Nmi,
            (false, true) => Handler::Ipi,
            (false, false) => return,
        };
        let drained = self.has_settled(cpu, self.board.readings.interrupt);
        let fenced = state.fence && !self.has_drained(cpu, self.board.readings.mfence);
        if state.half.is_some() || fenced || !drained {
            return;
        }
        let thread = columns[state.contexts[0].column].thread;
        let is_wanted =
            |column: &Column| column.thread == thread && column.handler == Some(handler);
        let Some(column) = columns.iter().position(is_wanted) else {
            return;
        };
        let state = &mut self.cpus[cpu];
        match handler {
            Handler::Ipi => state.ipi_pending = false,
            Handler::Nmi => {
                state.nmi_pending = false;
                state.in_nmi = true;
            }
        }
        if state.halted {
            state.halted = false;
            if let Some(interrupted) = state.contexts.last_mut() {
                interrupted.line += 1;
            }
        }
        state.former.clear();
        state.contexts.push(Context {
            column,
            line: 0,
            registers: Registers::default(),
            interrupts_before: state.interrupts,
        });
        state.interrupts = false;
    }

    /// Returns from a handler, once its stores are visible: IRET serializes.
    pub(crate) fn return_from_handler(&mut self, cpu: usize, columns: &[Column]) {
        if !self.has_settled(cpu, self.board.readings.serializing) {
            return;
        }
        let state = &mut self.cpus[cpu];
        if let Some(left) = state.contexts.pop() {
            state.interrupts = left.interrupts_before;
            if columns[left.column].handler == Some(Handler::Nmi) {
                state.in_nmi = false;
            }
        }
        state.former.clear();
    }
}
