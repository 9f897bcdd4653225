//! The seam as the checker implements it: a run of real code against a log of answers.
//!
//! Each seam call inside the log gets its recorded answer. The first call past the log's end is noted
//! as what the code asks next, and the code is unwound. So one run tells one more step of the code.
//!
//! | file | what |
//! | --- | --- |
//! | `memory` | what lies beside the seam: page tables, frames, user memory, promises |
//! | `beside` | the traits beside the seam: PCIDs, compare-exchange, broadcasts |
//! | `sparing` | whether an IPI goes to a lazy CPU that was to be spared |
//! | `instructions` | what both leave out: instructions and accesses that only some programs use |

mod beside;
mod instructions;
mod memory;
mod sparing;

use std::cell::{Cell, RefCell};
use std::fmt;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

use lazytlb::{CpuId, CpuSet, Cr3Load, Hw, Interrupts, PhysAddr, Quirks, Until, VirtAddr};
use lazytlb_model::{AtomicCell, Call, LocalCell, Rmw};

use crate::cpu_numbers::CpuNumbers;
use crate::rehearsal::{Log, Rehearsal};
use crate::run::{Awaits, Ran, Run};
use crate::sparing::{LazyWords, Sparing};
use crate::unwinding;

/// The machine that a checked operation runs on: it implements [`Hw`], every trait that stands beside it ([`lazytlb::Pcids`],
/// [`lazytlb::CompareExchange`], [`lazytlb::Broadcast`], [`lazytlb::Poll`]), [`lazytlb::Memory`] and [`lazytlb::Promises`].
///
/// An operation must be a function of what this tells it: no clocks, no random numbers, no statics.
/// The checker runs it many times over and reports a difference.
#[derive(Debug)]
pub struct ModelHw {
    cpu: CpuId,
    constants: Constants,
    run: RefCell<Run>,
    sparing: Cell<Sparing>,
    at_calls: AtCalls,
}

/// What the machine tells the code about itself: the same in every state.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Constants {
    pub(crate) quirks: Quirks,
    pub(crate) pcids_are_on: bool,
    pub(crate) has_broadcasts: bool,
    pub(crate) cpu_numbers: CpuNumbers,
    pub(crate) lazy_words: LazyWords,
}

/// What is done at each seam call, before it is answered, or ends the run: it is told how many came before.
#[derive(Default)]
pub(crate) struct AtCalls(Option<Box<dyn Fn(usize) + Send>>);

impl AtCalls {
    pub(crate) fn new(at_call: impl Fn(usize) + Send + 'static) -> AtCalls {
        AtCalls(Some(Box::new(at_call)))
    }
}

impl fmt::Debug for AtCalls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AtCalls").field(&self.0.is_some()).finish()
    }
}

/// A run's result, and what the code noted on the way.
pub(crate) struct RunReport {
    pub(crate) ran: Ran,
    pub(crate) notes: Vec<&'static str>,
    /// Whom the code waits for, if it is in a poll.
    pub(crate) awaits: Awaits,
    /// Whether what the code asks is the first call of a poll, or might be.
    pub(crate) begins_poll: bool,
    /// Whether the code is in a poll.
    pub(crate) polls: bool,
}

/// The payload that unwinds a run at the end of its log.
struct EndOfLog;

impl ModelHw {
    /// Notes that the code came by here: verdicts list the expected notes that no execution reached.
    pub fn note(&self, note: &'static str) {
        if !std::thread::panicking() {
            self.run.borrow_mut().notes.push(note);
        }
    }

    /// Runs an operation against a log of calls and answers, as far as that goes.
    #[cfg(test)]
    pub(crate) fn run(
        cpu: CpuId,
        constants: Constants,
        interrupts: Interrupts,
        log: Log,
        operation: &dyn Fn(&ModelHw),
    ) -> RunReport {
        ModelHw::run_rehearsed(
            cpu,
            constants,
            interrupts,
            log,
            Rehearsal::default(),
            operation,
        )
    }

    /// As [`ModelHw::run`], with iterations that find nothing before those in the log.
    pub(crate) fn run_rehearsed(
        cpu: CpuId,
        constants: Constants,
        interrupts: Interrupts,
        log: Log,
        rehearsal: Rehearsal,
        operation: &dyn Fn(&ModelHw),
    ) -> RunReport {
        let run = Run::new(log, interrupts, rehearsal);
        ModelHw {
            cpu,
            constants,
            run: RefCell::new(run),
            sparing: Cell::default(),
            at_calls: AtCalls::default(),
        }
        .run_code(interrupts, operation)
    }

    /// As [`ModelHw::run`], with something done at each call.
    pub(crate) fn run_stopping(
        cpu: CpuId,
        constants: Constants,
        interrupts: Interrupts,
        log: Log,
        at_calls: AtCalls,
        operation: &dyn Fn(&ModelHw),
    ) -> RunReport {
        let run = Run::new(log, interrupts, Rehearsal::default());
        ModelHw {
            cpu,
            constants,
            run: RefCell::new(run),
            sparing: Cell::default(),
            at_calls,
        }
        .run_code(interrupts, operation)
    }

    /// Runs an operation from its start, with interrupts in this state.
    fn run_code(self, interrupts: Interrupts, operation: &dyn Fn(&ModelHw)) -> RunReport {
        silence_panics_of_runs();
        let hw = self;
        // A run may lie within another, which is suspended.
        let in_another = IN_RUN.replace(true);
        let result = panic::catch_unwind(AssertUnwindSafe(|| operation(&hw)));
        IN_RUN.set(in_another);
        let panicked_at = PANICKED_AT.take().unwrap_or_default();
        let run = hw.run.into_inner();
        RunReport {
            ran: run.came_to(result.map_err(|_| panicked_at), interrupts),
            awaits: run.polls.await_together(),
            begins_poll: run.begins_poll(),
            polls: !run.polls.open.is_empty(),
            notes: run.notes,
        }
    }

    /// Returns the run, which nobody else may look at meanwhile.
    pub(crate) fn borrow_run(&self) -> std::cell::RefMut<'_, Run> {
        self.run.borrow_mut()
    }

    /// Ends the run here: what it came to stands in it.
    pub(crate) fn end_run(&self) -> ! {
        panic::resume_unwind(Box::new(EndOfLog))
    }

    fn ask(&self, call: Call) -> u64 {
        // Guards that drop while the code unwinds must not call on.
        if std::thread::panicking() {
            return unwinding::answer();
        }
        if let Some(at_call) = &self.at_calls.0 {
            let position = self.run.borrow().position;
            at_call(position);
        }
        let answer = self.run.borrow_mut().answer(call);
        answer.unwrap_or_else(|| self.end_run())
    }
}

thread_local! {
    static IN_RUN: Cell<bool> = const { Cell::new(false) };
    static PANICKED_AT: Cell<Option<String>> = const { Cell::new(None) };
}

/// Keeps a checked panic, which is a verdict, from printing as a crash of the checker. Panics outside of
/// runs still print.
fn silence_panics_of_runs() {
    static HOOKED: Once = Once::new();
    HOOKED.call_once(|| {
        let former = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !IN_RUN.get() {
                return former(info);
            }
            let message = info.payload_as_str().unwrap_or("a panic without a message");
            let at = info
                .location()
                .map(|at| format!(" ({at})"))
                .unwrap_or_default();
            PANICKED_AT.set(Some(format!("{message}{at}")));
        }));
    });
}

impl Hw for ModelHw {
    type Atomic = AtomicCell;
    type Local = LocalCell;

    fn cpu(&self) -> CpuId {
        self.constants.cpu_numbers.number_of(self.cpu)
    }
    fn load(&self, atomic: &AtomicCell) -> u64 {
        let value = self.ask(Call::Load(*atomic));
        self.note_lazy(*atomic, value);
        value
    }
    fn store(&self, atomic: &AtomicCell, value: u64) {
        self.ask(Call::Store(*atomic, value));
    }
    fn fetch_add(&self, atomic: &AtomicCell, value: u64) -> u64 {
        self.ask(Call::Rmw(*atomic, Rmw::Add, value))
    }
    fn fetch_or(&self, atomic: &AtomicCell, bits: u64) -> u64 {
        self.ask(Call::Rmw(*atomic, Rmw::Or, bits))
    }
    fn fetch_and(&self, atomic: &AtomicCell, bits: u64) -> u64 {
        self.ask(Call::Rmw(*atomic, Rmw::And, bits))
    }
    fn swap(&self, atomic: &AtomicCell, value: u64) -> u64 {
        self.ask(Call::Rmw(*atomic, Rmw::Swap, value))
    }
    fn load_local(&self, local: &LocalCell) -> u64 {
        self.ask(Call::LoadLocal(*local))
    }
    fn store_local(&self, local: &LocalCell, value: u64) {
        self.ask(Call::StoreLocal(*local, value));
    }
    fn fence(&self) {
        self.ask(Call::Fence);
    }
    fn interrupts(&self) -> Interrupts {
        self.run.borrow().interrupts
    }
    fn disable_interrupts(&self) -> Interrupts {
        self.ask(Call::DisableInterrupts);
        std::mem::replace(&mut self.run.borrow_mut().interrupts, Interrupts::Disabled)
    }
    fn restore_interrupts(&self, former: Interrupts) {
        if std::thread::panicking() {
            return;
        }
        self.ask(Call::RestoreInterrupts(former));
        self.run.borrow_mut().interrupts = former;
    }
    fn send_ipi<const WORDS: usize>(&self, targets: &CpuSet<WORDS>) {
        let bit = |number| {
            let cpu = self.constants.cpu_numbers.cpu_of(number);
            let bit = cpu.and_then(|cpu| 1u64.checked_shl(u32::from(cpu.0)));
            bit.expect("an IPI to a CPU that no checked program has")
        };
        let bits = targets.iter().fold(0, |bits, cpu| bits | bit(cpu));
        self.test_spared(targets);
        self.ask(Call::SendIpi(bits));
    }
    fn pause_until(&self, atomic: &AtomicCell, until: Until) {
        self.ask(Call::PauseUntil(*atomic, until));
    }
    fn load_cr3(&self, root: PhysAddr, load: Cr3Load) {
        self.ask(Call::LoadCr3(root, load));
    }
    fn invlpg(&self, addr: VirtAddr) {
        self.ask(Call::Invlpg(addr));
    }
    fn quirks(&self) -> Quirks {
        self.constants.quirks
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::CALL_BUDGET;

    const FLAG: AtomicCell = AtomicCell(0);

    fn run(log: Vec<(Call, u64)>, operation: &dyn Fn(&ModelHw)) -> Ran {
        ModelHw::run(
            CpuId(0),
            Constants::default(),
            Interrupts::Enabled,
            log,
            operation,
        )
        .ran
    }

    #[test]
    fn each_run_tells_one_more_step() {
        let operation = |hw: &ModelHw| {
            if hw.load(&FLAG) == 1 {
                hw.store(&FLAG, 2);
            }
        };
        let load = Call::Load(FLAG);
        assert_eq!(
            run(vec![], &operation),
            Ran::Asks(load, Interrupts::Enabled)
        );
        let store = Call::Store(FLAG, 2);
        assert_eq!(
            run(vec![(load, 1)], &operation),
            Ran::Asks(store, Interrupts::Enabled)
        );
        assert_eq!(run(vec![(load, 0)], &operation), Ran::Ended);
    }

    #[test]
    fn a_guard_that_drops_in_an_unwind_asks_nothing() {
        let operation = |hw: &ModelHw| {
            let _off = lazytlb::interrupts::InterruptsOff::new(hw);
            hw.load(&FLAG);
        };
        let log = vec![(Call::DisableInterrupts, 0)];
        assert_eq!(
            run(log, &operation),
            Ran::Asks(Call::Load(FLAG), Interrupts::Disabled)
        );
    }

    #[test]
    fn nondeterminism_outside_the_seam_is_found() {
        let operation = |hw: &ModelHw| hw.store(&FLAG, 2);
        let ran = run(vec![(Call::Store(FLAG, 1), 0)], &operation);
        assert!(matches!(ran, Ran::Diverged(_)), "{ran:?}");
    }

    #[test]
    fn a_panic_is_reported_with_its_place() {
        let Ran::Panicked(message) = run(vec![], &|_| panic!("no slot")) else {
            unreachable!()
        };
        assert!(
            message.starts_with("no slot (") && message.contains("model_hw.rs"),
            "{message}"
        );
    }

    #[test]
    fn an_operation_that_leaves_interrupts_off_is_a_panic() {
        let log = vec![(Call::DisableInterrupts, 0)];
        let ran = run(log, &|hw| {
            hw.disable_interrupts();
        });
        assert!(matches!(ran, Ran::Panicked(_)), "{ran:?}");
    }

    #[test]
    fn a_spin_loop_ends_at_the_budget() {
        let log = vec![(Call::Load(FLAG), 0); CALL_BUDGET];
        let ran = run(log, &|hw| while hw.load(&FLAG) == 0 {});
        assert!(
            matches!(&ran, Ran::Panicked(message) if message.starts_with("spin loop")),
            "{ran:?}"
        );
    }
}
