//! An execution from its beginning to its end: what happens next is drawn, until nothing is left to do.

use crate::code::Column;
use crate::cpu::Cpu;
use crate::machine::{Held, Machine, Stop};
use crate::temper::Event;
use crate::write_combining::Reading;

/// Draws after which an execution is given up: something waits for what never comes.
const MOST_EVENTS: u32 = 4_000;

impl Machine<'_> {
    /// Runs all threads to their ends, with the interrupts that were sent to them, until all stores are visible.
    pub(crate) fn run(&mut self, columns: &[Column]) -> Result<(), Stop> {
        for _ in 0..MOST_EVENTS {
            let (cpu, event) = self.temper.next(&mut self.random);
            match event {
                Event::Instruction => self.instruction(cpu, columns)?,
                Event::StoreLeaves => self.store_leaves(cpu)?,
                Event::WalkBegins => self.begin_walk(cpu)?,
                Event::WalkGoesOn => self.go_on_with_a_walk(cpu)?,
                Event::Eviction => self.evict(cpu),
                Event::Broadcast => self.broadcast_arrives(cpu),
                Event::Interrupt => self.deliver(cpu, columns),
                Event::Update => self.update(cpu)?,
                Event::Translation => self.translate_late(cpu)?,
            }
            let may_rest = matches!(
                event,
                Event::Instruction | Event::StoreLeaves | Event::Update
            );
            if may_rest && (0..self.cpus.len()).all(|cpu| self.is_at_rest(cpu, columns)) {
                return Ok(());
            }
        }
        Err(Stop::Discarded)
    }

    /// Goes on with what a CPU executes.
    fn instruction(&mut self, cpu: usize, columns: &[Column]) -> Result<(), Stop> {
        let Some(&context) = self.cpus[cpu].contexts.last() else {
            return Ok(());
        };
        let column = &columns[context.column];
        let Some(line) = column.lines.get(context.line) else {
            match self.cpus[cpu].contexts.len() {
                // A thread that has ended leaves its CPU to interrupts.
                1 => self.cpus[cpu].interrupts = true,
                _ => self.return_from_handler(cpu, columns),
            }
            return Ok(());
        };
        if self.cpus[cpu].halted {
            return Ok(());
        }
        let done = self.execute(cpu, column, &line.op);
        if done == Err(Held::Fault) && column.handler.is_none() {
            self.cpus[cpu].faults.push(context.line);
        }
        match done {
            Ok(()) | Err(Held::Fault) => self.context(cpu).line += 1,
            Err(Held::Wait) => {}
            Err(Held::Stop(stop)) => return Err(stop),
        }
        Ok(())
    }

    /// Says whether nothing is left to do on a CPU.
    fn is_at_rest(&self, cpu: usize, columns: &[Column]) -> bool {
        let state = &self.cpus[cpu];
        is_over(state, columns)
            && !state.ipi_pending
            && !state.nmi_pending
            && state.combining.is_empty()
            && self.has_settled(cpu, Reading::Retired)
    }
}

/// Says whether the thread of a CPU has ended, and no handler is at work.
fn is_over(cpu: &Cpu, columns: &[Column]) -> bool {
    match &cpu.contexts[..] {
        [thread] => thread.line >= columns[thread.column].lines.len(),
        _ => false,
    }
}
