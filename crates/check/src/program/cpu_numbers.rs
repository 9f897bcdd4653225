//! How a program's CPUs are numbered: for the code that they run, which knows them by these numbers.
//!
//! Operations, violations and timelines count CPUs from 0 on, whatever the code is told.

use lazytlb::CpuId;

use super::Program;

impl Program {
    /// Numbers the CPUs, for the code that they run, otherwise than from 0 on: [`lazytlb::Hw::cpu`] says these numbers,
    /// and IPIs go to them. So a set of CPUs has more than one word, although the program has few of them.
    ///
    /// Operations and words are still declared for CPUs 0, 1 and so on, and a verdict speaks of those.
    ///
    /// ```
    /// use lazytlb::{CpuId, Hw};
    /// use lazytlb_check::{Checker, Program};
    ///
    /// let mut program = Program::new("far apart", 2);
    /// program.number_cpus([0, 64]);
    /// program.operation(1, "look", |hw| assert_eq!(hw.cpu(), CpuId(64)));
    /// program.proves("it is told");
    /// assert!(Checker::new().check(&program).is_safe());
    /// ```
    pub fn number_cpus(&mut self, numbers: impl IntoIterator<Item = u16>) {
        let numbers: Vec<u16> = numbers.into_iter().collect();
        let mut sorted = numbers.clone();
        sorted.sort_unstable();
        sorted.dedup();
        if sorted.len() != usize::from(self.cpus()) || numbers.len() != sorted.len() {
            let cpus = self.cpus();
            self.mistake.get_or_insert(format!(
                "CPUs are numbered {numbers:?}, and the program has {cpus}: each needs a number of its own"
            ));
            return;
        }
        for (place, number) in self.cpu_numbers.0.iter_mut().zip(numbers) {
            *place = Some(CpuId(number));
        }
    }

    /// Lists the numbers of the CPUs, as their code is told.
    pub fn cpu_numbers(&self) -> impl Iterator<Item = CpuId> + use<> {
        let numbers = self.cpu_numbers;
        (0..self.cpus().into()).map(move |cpu| numbers.number_of(CpuId(cpu)))
    }
}
