//! Whose an operation is: the process that asked for it.
//!
//! A switch to a space is that of the process which comes; going lazy, that of the process which goes; a flush, that of the
//! task which asks for it; the end of a space, that of its last owner. What a CPU does while it is lazy is the kernel's.
//! And whom an interrupt meets: the process whose space the CPU runs in, a kernel thread, or the idle task.

use std::collections::HashMap;

use lazytlb_trace::{Event, Kind, MmId, Onto, Operation, OperationKind, Step};

/// `CLONE_THREAD`: the new task is one of the same process.
const CLONE_THREAD: u64 = 0x1_0000;
/// The number of the idle tasks.
const IDLE: u32 = 0;

/// Whose an operation is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Whose {
    Process(Process),
    /// Kernel threads, and what lazy CPUs do.
    Kernel,
    /// The idle tasks, as far as they are interrupted; what they do is [`Whose::Kernel`].
    Idle,
    /// The recording does not tell.
    Unknown,
    /// Those of which there are too many to be told one by one.
    Rest,
}

/// A process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub(crate) struct Process {
    pub(crate) number: Number,
    /// How many with the same number were before it in the recording: numbers are reused.
    pub(crate) before: u32,
}

/// What a process is known by.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub(crate) enum Number {
    /// Its own number: the recording shows it being made.
    Tgid(u32),
    /// That of one of its tasks, the first that was seen: it is older than the recording.
    Task(u32),
}

/// Follows who runs where.
#[derive(Default)]
pub(crate) struct Processes {
    of_task: HashMap<u32, Process>,
    /// How often a number was given to a new process.
    made: HashMap<u32, u32>,
    cpus: Vec<Cpu>,
    owners: HashMap<MmId, Whose>,
}

#[derive(Clone, Copy)]
struct Cpu {
    /// The task that runs or is being switched to, once a task switch told.
    current: Option<u32>,
    /// The task of the latest event.
    event: Option<u32>,
    /// Whose space it switched to last.
    process: Option<Whose>,
    laziness: Laziness,
    /// Who runs, as far as operations tell: who an interrupt meets.
    runs: Whose,
}

impl Default for Cpu {
    fn default() -> Self {
        Cpu {
            current: None,
            event: None,
            process: None,
            laziness: Laziness::Unknown,
            runs: Whose::Unknown,
        }
    }
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Laziness {
    #[default]
    Unknown,
    Lazy,
    NotLazy,
}

impl Processes {
    /// Takes in a step, and says of an operation whose it is.
    pub(crate) fn step(&mut self, step: Step<'_>) -> Option<Whose> {
        match step {
            Step::Event(event) => {
                self.event(event);
                // A CPU that falls asleep may leave its space first.
                matches!(event.kind, Kind::CpuIdle { .. }).then_some(Whose::Kernel)
            }
            Step::Operation(operation) => Some(self.operation(operation)),
        }
    }

    /// Says whose time an interrupt takes that is sent to a CPU now.
    pub(crate) fn interrupted_on(&self, cpu: u16) -> Whose {
        let cpu = self.cpus.get(usize::from(cpu));
        cpu.map_or(Whose::Unknown, |cpu| cpu.runs)
    }

    /// Says whether a process is the last one of its number so far: what the recording knows by the number is of that one.
    pub(crate) fn is_last(&self, process: Process) -> bool {
        let (number, own) = match process.number {
            Number::Tgid(tgid) => (tgid, process.before + 1),
            Number::Task(task) => (task, 0),
        };
        self.made.get(&number).copied().unwrap_or(0) == own
    }

    fn cpu(&mut self, cpu: u16) -> &mut Cpu {
        let index = usize::from(cpu);
        if index >= self.cpus.len() {
            self.cpus.resize(index + 1, Cpu::default());
        }
        &mut self.cpus[index]
    }

    fn event(&mut self, event: &Event) {
        self.cpu(event.cpu).event = Some(event.pid);
        match event.kind {
            Kind::SchedSwitch { next } => self.cpu(event.cpu).current = Some(next),
            Kind::NewTask { pid, clone_flags } => {
                let process = match clone_flags & CLONE_THREAD != 0 {
                    true => self.process_of(event.pid),
                    false => {
                        let made = self.made.entry(pid).or_default();
                        let number = Number::Tgid(pid);
                        *made += 1;
                        Process {
                            number,
                            before: *made - 1,
                        }
                    }
                };
                self.of_task.insert(pid, process);
            }
            _ => {}
        }
    }

    fn process_of(&mut self, task: u32) -> Process {
        *self.of_task.entry(task).or_insert(Process {
            number: Number::Task(task),
            before: 0,
        })
    }

    fn operation(&mut self, operation: &Operation) -> Whose {
        let cpu = *self.cpu(operation.cpu);
        match operation.kind {
            OperationKind::Switch { mm } => {
                let whose = self.who_comes(cpu, mm);
                let cpu = self.cpu(operation.cpu);
                (cpu.process, cpu.laziness) = (Some(whose), Laziness::NotLazy);
                cpu.runs = match cpu.current {
                    Some(IDLE) => Whose::Idle,
                    _ => whose,
                };
                whose
            }
            OperationKind::GoLazy { onto } => {
                let own = self.cpu(operation.cpu);
                own.laziness = Laziness::Lazy;
                own.runs = match onto {
                    Onto::Idle => Whose::Idle,
                    Onto::KernelThread => Whose::Kernel,
                    Onto::Unknown => Whose::Unknown,
                };
                match (cpu.laziness, cpu.process) {
                    (Laziness::Lazy, _) => Whose::Kernel,
                    (Laziness::NotLazy, Some(whose)) => whose,
                    // It may have been lazy before.
                    (Laziness::NotLazy, None) | (Laziness::Unknown, _) => Whose::Unknown,
                }
            }
            OperationKind::Flush { mm, .. } => match (cpu.laziness, cpu.event) {
                (Laziness::Lazy, _) | (_, Some(IDLE)) => Whose::Kernel,
                (_, Some(task)) => self.belongs(task, mm),
                (_, None) => Whose::Unknown,
            },
            OperationKind::Retire { mm } => self.owners.remove(&mm).unwrap_or(Whose::Unknown),
        }
    }

    /// Whose a switch to a space is. A space for a moment, and the way back, are the task's that runs.
    fn who_comes(&mut self, cpu: Cpu, mm: MmId) -> Whose {
        match cpu.current {
            Some(IDLE) => Whose::Kernel,
            Some(task) if mm != MmId::INIT => self.belongs(task, mm),
            Some(task) => Whose::Process(self.process_of(task)),
            // Without task switches, events of a switch name the task that goes; its space may be known.
            None => self.owners.get(&mm).copied().unwrap_or(Whose::Unknown),
        }
    }

    /// The process of a task, which has a space. One that was never seen is of the process whose space it shares.
    fn belongs(&mut self, task: u32, mm: MmId) -> Whose {
        if !self.of_task.contains_key(&task)
            && let Some(Whose::Process(process)) = self.owners.get(&mm)
        {
            self.of_task.insert(task, *process);
        }
        let whose = Whose::Process(self.process_of(task));
        self.owners.entry(mm).or_insert(whose);
        whose
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lazytlb_trace::{Context, Range, Tables};

    /// A step, by itself.
    #[derive(Clone, Copy)]
    enum Own {
        Event(Event),
        Operation(Operation),
    }

    fn event(cpu: u16, pid: u32, kind: Kind) -> Own {
        Own::Event(Event {
            cpu,
            time_ns: 0,
            pid,
            context: Context::Unknown,
            kind,
        })
    }

    fn operation(cpu: u16, kind: OperationKind) -> Own {
        Own::Operation(Operation {
            cpu,
            time_ns: 0,
            kind,
            initial: None,
        })
    }

    fn whose(processes: &mut Processes, steps: &[Own]) -> Vec<Whose> {
        let steps = steps.iter().map(|step| match step {
            Own::Event(event) => Step::Event(event),
            Own::Operation(operation) => Step::Operation(operation),
        });
        steps.filter_map(|step| processes.step(step)).collect()
    }

    fn process(number: Number, before: u32) -> Whose {
        Whose::Process(Process { number, before })
    }

    const SPACE: MmId = MmId(7);

    fn switch() -> Own {
        operation(0, OperationKind::Switch { mm: SPACE })
    }

    fn lazy() -> Own {
        operation(0, OperationKind::GoLazy { onto: Onto::Idle })
    }

    fn flush(cpu: u16) -> Own {
        let (range, tables) = (Range::All, Tables::Kept);
        operation(
            cpu,
            OperationKind::Flush {
                mm: SPACE,
                range,
                tables,
            },
        )
    }

    #[test]
    fn a_switch_is_whose_comes_and_going_lazy_whose_goes() {
        let mut processes = Processes::default();
        let comes = event(0, IDLE, Kind::SchedSwitch { next: 9 });
        let runs = event(0, 9, Kind::Other);
        let goes = event(0, 9, Kind::SchedSwitch { next: IDLE });
        let told = whose(
            &mut processes,
            &[
                lazy(),
                comes,
                switch(),
                runs,
                flush(0),
                goes,
                lazy(),
                lazy(),
            ],
        );
        let task = process(Number::Task(9), 0);
        // What the CPU did before its first operation is not recorded.
        assert_eq!(told, [Whose::Unknown, task, task, task, Whose::Kernel]);
        let unlike = whose(&mut processes, &[flush(0)]);
        assert_eq!(unlike, [Whose::Kernel]);
    }

    #[test]
    fn an_interrupt_meets_what_runs_on_its_cpu() {
        let mut processes = Processes::default();
        assert_eq!(processes.interrupted_on(0), Whose::Unknown);
        let comes = event(0, IDLE, Kind::SchedSwitch { next: 9 });
        let onto = |onto| operation(0, OperationKind::GoLazy { onto });
        for (steps, runs) in [
            (&[comes, switch()][..], process(Number::Task(9), 0)),
            (&[onto(Onto::KernelThread)], Whose::Kernel),
            (&[onto(Onto::Idle)], Whose::Idle),
            (&[onto(Onto::Unknown)], Whose::Unknown),
        ] {
            whose(&mut processes, steps);
            assert_eq!(processes.interrupted_on(0), runs);
        }
        assert_eq!(processes.interrupted_on(1), Whose::Unknown);
    }

    #[test]
    fn threads_are_of_their_process_and_a_number_given_again_is_another() {
        let mut processes = Processes::default();
        let new = |pid, clone_flags| event(0, 5, Kind::NewTask { pid, clone_flags });
        let run = |next| event(0, 5, Kind::SchedSwitch { next });
        let thread = event(
            0,
            20,
            Kind::NewTask {
                pid: 21,
                clone_flags: CLONE_THREAD,
            },
        );
        let told = whose(
            &mut processes,
            &[
                new(20, 0),
                thread,
                run(21),
                switch(),
                new(20, 0),
                run(20),
                switch(),
            ],
        );
        let both = [0, 1].map(|before| Process {
            number: Number::Tgid(20),
            before,
        });
        assert_eq!(told, both.map(Whose::Process));
        assert_eq!(both.map(|one| processes.is_last(one)), [false, true]);
    }

    #[test]
    fn tasks_older_than_the_recording_that_share_a_space_are_one_process() {
        let mut processes = Processes::default();
        let run = |next| event(0, IDLE, Kind::SchedSwitch { next });
        let retire = operation(1, OperationKind::Retire { mm: SPACE });
        let told = whose(
            &mut processes,
            &[run(30), switch(), run(31), switch(), retire, retire],
        );
        let both = process(Number::Task(30), 0);
        assert_eq!(told, [both, both, both, Whose::Unknown]);
    }
}
