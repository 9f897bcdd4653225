//! The second run: is the checked code a function of what the seam answers?
//!
//! A search runs the code once for each place, and takes it that the code would do the same in every state in
//! which a CPU gets there. State outside of modelled memory breaks that: a captured flag, a guard that sets one
//! and takes it back when it drops, a lock, a thread-local variable. The search cannot see it: it unwinds code
//! at every call, and comes back to it in an order of its own. So before a verdict every way through the code
//! is gone once more, in instances of the program that nobody has run:
//!
//! * *alone*: in a fresh instance and on a fresh thread, with nothing run before;
//! * *after others*: routine by routine in one instance, then all again backwards; and each right after each other
//!   one, with nothing in between that could take back what that one left behind;
//! * *amid others*: while another routine is suspended at a seam call, with its guards alive and its locks held;
//!   and when the others are done, that routine goes on, and must do what it did.
//!
//! Each must make the calls that it made before, and come to the same. Whoever has only the program, and not
//! the function that builds it, gets the same with the closures that the search has run.
//!
//! What stays invisible: state that was set before anybody looked, and is never set back, such as a `static`
//! that the first run sets; what shows only after three routines in one order, or in the third of three that are
//! nested, as a handler that an NMI came to is; pairs that are too many to be
//! tried all ([`MOST_AMID`]); what has no influence on any call.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lazytlb::CpuId;

use crate::automaton::NodeId;
use crate::automaton::ways::WayThrough;
use crate::error::CheckError;
use crate::event::call_for_people;
use crate::model_hw::{AtCalls, Constants, ModelHw};
use crate::program::Program;
use crate::routine::Routine;
use crate::run::Ran;
use crate::watchdog::{Hung, Pulse, Running, Suspended, patience, watched};

/// Fresh instances in which ways are gone alone: where there are more ways, some share one.
pub(crate) const MOST_INSTANCES: usize = 64;
/// Runs amid others, and as many right after another. All pairs of a place and another routine's way, and of a
/// routine and another's way, are tried if they are not more; else as many, evenly.
pub(crate) const MOST_AMID: usize = 5_000;

/// What a second run needs of the first.
pub(crate) struct SecondRun {
    pub(crate) ways: Vec<WayThrough>,
    pub(crate) constants: Constants,
    /// How long the longest run of code took.
    pub(crate) longest: Duration,
}

impl SecondRun {
    /// Goes all ways once more, in programs that `build` makes anew.
    ///
    /// # Errors
    /// If the code does something else than before, or does not come back.
    pub(crate) fn hold_against(
        self,
        first: &Program,
        max_time: Duration,
        mut build: impl FnMut() -> Program,
    ) -> Result<(), CheckError> {
        let mut fresh = || {
            let program = build();
            match first.difference(&program) {
                None => Ok(program),
                Some(what) => Err(CheckError::Nondeterminism(format!(
                    "the function that builds the program \"{}\" builds another one when it is called again: {what} \
                     differ. It must not depend on what ran before",
                    first.name
                ))),
            }
        };
        let count = self.ways.len().min(MOST_INSTANCES);
        let alone: Vec<Program> = (0..count).map(|_| fresh()).collect::<Result<_, _>>()?;
        let (after, amid) = (fresh()?, fresh()?);
        // What ran for so long before may run for so long again.
        let patience = patience(max_time).min(Duration::from_secs(2).max(self.longest * 100));
        let (pulse, constants) = (Arc::<Pulse>::default(), self.constants);
        let again = Again {
            ways: self.ways.into(),
            constants,
            pulse: Arc::clone(&pulse),
        };
        let outcome = watched(
            &pulse,
            patience,
            |()| {},
            move |_| {
                again
                    .alone(&alone)
                    .and_then(|()| on_a_thread(|| again.after_others(&after)))
                    .and_then(|()| on_a_thread(|| again.after_one(&after)))
                    .and_then(|()| on_a_thread(|| again.amid_others(amid)))
            },
        );
        match outcome {
            Ok(result) => result.map_err(|difference| difference.told(first)),
            Err(hung) => Err(blocked(first, &hung)),
        }
    }
}

/// Ways, gone again.
#[derive(Clone)]
struct Again {
    ways: Arc<[WayThrough]>,
    constants: Constants,
    pulse: Arc<Pulse>,
}

/// Where a way is gone: with nothing run before, after others, or amid another that is suspended.
#[derive(Clone, Copy, Debug)]
enum When {
    Alone,
    AfterOthers,
    /// Nothing ran since this one.
    After(CpuId, Routine),
    Amid(Suspended),
    /// It was suspended itself, and others ran meanwhile.
    AroundOthers,
}

/// A way on which the code does something else than before.
#[derive(Debug)]
struct Difference {
    way: WayThrough,
    came_to: Ran,
    when: When,
}

/// How going a way again ends.
type Gone = Result<(), Box<Difference>>;

impl Again {
    fn alone(&self, instances: &[Program]) -> Gone {
        let per_instance = self.ways.len().div_ceil(instances.len().max(1)).max(1);
        let parts = self.ways.chunks(per_instance).zip(instances);
        for (ways, program) in parts {
            on_a_thread(|| {
                // The longest first: it passes most places with nothing run before.
                let mut ways: Vec<&WayThrough> = ways.iter().collect();
                ways.sort_by_key(|way| std::cmp::Reverse(way.log.len()));
                let mut ways = ways.into_iter();
                ways.try_for_each(|way| self.go(program, way, When::Alone, AtCalls::default()))
            })?;
        }
        Ok(())
    }

    fn after_others(&self, program: &Program) -> Gone {
        let mut ways = self.ways.iter().chain(self.ways.iter().rev());
        ways.try_for_each(|way| self.go(program, way, When::AfterOthers, AtCalls::default()))
    }

    /// Goes each way right after a way of each other routine.
    fn after_one(&self, program: &Program) -> Gone {
        let routines: Vec<&[WayThrough]> = self
            .ways
            .chunk_by(|one, next| one.is_of_same_code(next))
            .collect();
        let before = (MOST_AMID / self.ways.len().max(1)).clamp(1, routines.len().max(1));
        let (mut turn, mut when) = (0, When::AfterOthers);
        for way in self.ways.iter() {
            for _ in 0..before {
                turn += 1;
                let ways = routines[turn % routines.len()];
                let first = &ways[turn / routines.len() % ways.len()];
                if first.is_of_same_code(way) {
                    continue;
                }
                for next in [first, way] {
                    self.go(program, next, when, AtCalls::default())?;
                    when = When::After(next.cpu, next.routine);
                }
            }
        }
        Ok(())
    }

    fn amid_others(&self, program: Program) -> Gone {
        let places: BTreeSet<NodeId> = self
            .ways
            .iter()
            .flat_map(|way| &way.places)
            .copied()
            .collect();
        let guests = (MOST_AMID / places.len().max(1)).clamp(1, self.ways.len().max(1));
        let visit = Arc::new(Visit {
            again: self.clone(),
            program,
            guests,
            state: Mutex::default(),
        });
        for way in self.ways.iter() {
            let at_calls = {
                let (visit, host) = (Arc::clone(&visit), way.clone());
                let (cpu, routine) = (host.cpu, host.routine);
                AtCalls::new(move |calls| {
                    let suspended = Suspended {
                        cpu,
                        routine,
                        calls,
                    };
                    visit.receive_at(&host, suspended);
                })
            };
            let went_on = self.go(&visit.program, way, When::AroundOthers, at_calls);
            visit.found()?;
            went_on?;
        }
        Ok(())
    }

    /// Goes a way once more.
    fn go(&self, program: &Program, way: &WayThrough, when: When, at_calls: AtCalls) -> Gone {
        let code = program.code(way.cpu, way.routine);
        let code = code.expect("the program has what the first one has");
        let running = Running {
            cpu: way.cpu,
            routine: way.routine,
            calls: way.log.len(),
            amid: match when {
                When::Amid(suspended) => Some(suspended),
                When::Alone | When::AfterOthers | When::After(..) | When::AroundOthers => None,
            },
        };
        let interrupts = way.routine.interrupts();
        let log = way.log.clone();
        let report = self.pulse.while_running(running, || {
            ModelHw::run_stopping(way.cpu, self.constants, interrupts, log, at_calls, code)
        });
        let is_same = match (&report.ran, &way.comes_to) {
            (Ran::Again(_), None) => true,
            // What it says then need not be the same.
            (Ran::Panicked(_), Some(Ran::Panicked(_))) => true,
            (ran, comes_to) => comes_to.as_ref() == Some(ran),
        };
        match is_same {
            true => Ok(()),
            false => Err(Box::new(Difference {
                way: way.clone(),
                came_to: report.ran,
                when,
            })),
        }
    }
}

/// Ways of other routines that are gone while one is suspended: its guests.
struct Visit {
    again: Again,
    program: Program,
    /// How many guests a place has.
    guests: usize,
    state: Mutex<Visited>,
}

#[derive(Default)]
struct Visited {
    /// Places at which others have run already.
    places: BTreeSet<NodeId>,
    /// The way that is to be the next guest.
    next: usize,
    found: Option<Box<Difference>>,
}

impl Visit {
    /// Lets others run while a way is suspended at a call.
    fn receive_at(&self, host: &WayThrough, suspended: Suspended) {
        let Some(&place) = host.places.get(suspended.calls) else {
            return;
        };
        let ways = &self.again.ways;
        let mut next = {
            let mut state = self.state();
            if state.found.is_some() || !state.places.insert(place) {
                return;
            }
            state.next
        };
        let is_other = |way: &WayThrough| !way.is_of_same_code(host);
        let mut left = self
            .guests
            .min(ways.iter().filter(|way| is_other(way)).count());
        while left > 0 {
            let guest = &ways[next % ways.len()];
            next += 1;
            if !is_other(guest) {
                continue;
            }
            left -= 1;
            let when = When::Amid(suspended);
            if let Err(difference) = self
                .again
                .go(&self.program, guest, when, AtCalls::default())
            {
                self.state().found = Some(difference);
                return;
            }
        }
        self.state().next = next;
    }

    fn found(&self) -> Gone {
        self.state().found.take().map_or(Ok(()), Err)
    }

    fn state(&self) -> std::sync::MutexGuard<'_, Visited> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Does something on a thread that is new: thread-local variables are as at the start.
fn on_a_thread<T: Send>(run: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let joined = scope.spawn(run).join();
        joined.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// What to do about it.
const ADVICE: &str = "State that the code shares, or keeps, must be words of the program (`Program::atomic`, \
     `Program::local`): captured variables, guards, locks, thread-locals and statics are not explored. Keep clocks \
     and random numbers out of it";

impl Difference {
    fn told(&self, program: &Program) -> CheckError {
        let Difference { way, came_to, when } = self;
        let routine = program.routine_name(way.cpu, way.routine);
        let when = match when {
            When::Alone => "when it runs alone in a fresh instance".to_owned(),
            When::AfterOthers => "when it runs after other routines, in another order".to_owned(),
            When::After(cpu, routine) => {
                let other = program.routine_name(*cpu, *routine);
                format!("when it runs right after \"{other}\" of CPU {}", cpu.0)
            }
            When::Amid(suspended) => format!("while {}", at(program, suspended)),
            When::AroundOthers => {
                "when others run while it is suspended at its seam calls".to_owned()
            }
        };
        let told = |ran: &Ran| match ran {
            Ran::Asks(call, _) => format!("calls \"{}\"", call_for_people(program, call)),
            Ran::Again(_) => "begins a poll anew".to_owned(),
            Ran::Ended => "ends".to_owned(),
            Ran::Panicked(message) => format!("panics: {message}"),
            Ran::Diverged(how) => how.clone(),
        };
        let before = way
            .comes_to
            .as_ref()
            .map_or("begins a poll anew".to_owned(), told);
        let how = match came_to {
            Ran::Diverged(how) => how.clone(),
            ran => format!(
                "after {} seam calls it {}, where it {} before",
                way.log.len(),
                told(ran),
                before
            ),
        };
        CheckError::Nondeterminism(format!(
            "the code of CPU {}, \"{routine}\", is not a function of the seam's answers: {when}, {how}. {ADVICE}",
            way.cpu.0
        ))
    }
}

/// Says where a routine is suspended.
fn at(program: &Program, suspended: &Suspended) -> String {
    let Suspended {
        cpu,
        routine,
        calls,
    } = *suspended;
    let routine = program.routine_name(cpu, routine);
    format!(
        "CPU {}'s \"{routine}\" is suspended at its seam call {calls}",
        cpu.0
    )
}

fn blocked(program: &Program, hung: &Hung) -> CheckError {
    let Running {
        cpu,
        routine,
        amid,
        calls,
    } = hung.running;
    let routine = program.routine_name(cpu, routine);
    let (when, why) = match &amid {
        Some(suspended) => (
            format!("while {}", at(program, suspended)),
            "It waits for something that the other one holds: a captured lock?",
        ),
        None => (
            "when it runs once more".to_owned(),
            "Does it wait for a captured lock?",
        ),
    };
    CheckError::Nondeterminism(format!(
        "the code of CPU {}, \"{routine}\", does not come back {when}, and did before, within {calls} seam calls. \
         {why} {ADVICE}",
        cpu.0
    ))
}
