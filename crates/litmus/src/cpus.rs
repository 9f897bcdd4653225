//! Which CPU runs which thread.

use std::fmt;

use lazytlb::CpuId;
use lazytlb_litmus_syntax::{LitmusTest, Position, SyntaxError};
use lazytlb_model::machine::MOST_CPUS;

/// The threads that have a CPU of their own: all columns but the handlers', in the order of the table.
#[derive(Debug)]
pub(crate) struct Cpus {
    threads: Vec<u32>,
}

impl Cpus {
    /// Gives each thread of a test a CPU.
    ///
    /// # Errors
    /// If there are more threads than the model has CPUs.
    pub(crate) fn of(test: &LitmusTest) -> Result<Cpus, SyntaxError> {
        let columns = test.threads.iter();
        let threads = columns.filter(|thread| thread.handler.is_none());
        let threads: Vec<u32> = threads.map(|thread| thread.id).collect();
        if threads.len() > MOST_CPUS {
            let found = format!("{} threads", threads.len());
            let (expected, advice) = ("at most 8", "split the test");
            return Err(SyntaxError::new(Position::START, found, expected, advice));
        }
        Ok(Cpus { threads })
    }

    /// Counts the CPUs.
    pub(crate) fn count(&self) -> u8 {
        self.threads.len() as u8
    }

    /// Lists the CPUs with their threads.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (CpuId, u32)> {
        let threads = self.threads.iter().enumerate();
        threads.map(|(cpu, thread)| (CpuId(cpu as u16), *thread))
    }

    /// Finds the CPU of a thread. An error tells the thread as `written`.
    pub(crate) fn of_thread(
        &self,
        thread: u32,
        written: impl fmt::Display,
        at: Position,
    ) -> Result<CpuId, SyntaxError> {
        let mut all = self.iter();
        let found = all.find(|(_, of)| *of == thread);
        found.map(|(cpu, _)| cpu).ok_or_else(|| {
            let advice = "name a column of the table";
            SyntaxError::new(at, written, "a thread of this test", advice)
        })
    }
}

/// Returns a CPU's number as programs take it: the model has few.
pub(crate) fn number(cpu: CpuId) -> u8 {
    cpu.0 as u8
}
