//! A watch on the checked code: it runs on threads that can be left behind.
//!
//! Code that loops without a seam call, or waits for a lock that nobody will let go, never comes back, and nothing
//! can end its thread. So whoever asks for a check only listens, while another thread does the work and says
//! when it runs code of the program. A run that takes too long is an error, and its thread is left alone.
//!
//! The function that builds a program cannot be left so: it is the caller's, may borrow from it, and runs on its
//! thread. If it does not come back, nor does the check; but whoever waits is told why.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use lazytlb::CpuId;

use crate::error::CheckError;
use crate::program::Program;
use crate::routine::Routine;

/// A run of code that goes on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Running {
    pub(crate) cpu: CpuId,
    pub(crate) routine: Routine,
    /// How many seam calls its log has.
    pub(crate) calls: usize,
    /// The run that is suspended at a seam call meanwhile.
    pub(crate) amid: Option<Suspended>,
}

/// A run that is suspended at a seam call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Suspended {
    pub(crate) cpu: CpuId,
    pub(crate) routine: Routine,
    /// How many seam calls come before that one.
    pub(crate) calls: usize,
}

/// What code of the program runs now, and since when: told by the thread that runs it.
#[derive(Default, Debug)]
pub(crate) struct Pulse(Mutex<Beat>);

#[derive(Default, Debug)]
struct Beat {
    now: Option<(Running, Instant)>,
    longest: Duration,
}

impl Pulse {
    /// Does something that runs code of the program. Runs may lie within others.
    pub(crate) fn while_running<T>(&self, running: Running, run: impl FnOnce() -> T) -> T {
        let outer = self.beat().now.replace((running, Instant::now()));
        let result = run();
        let mut beat = self.beat();
        if let Some((_, since)) = beat.now {
            beat.longest = beat.longest.max(since.elapsed());
        }
        beat.now = outer.map(|(outer, _)| (outer, Instant::now()));
        result
    }

    /// Returns how long the longest run took that has ended.
    pub(crate) fn longest(&self) -> Duration {
        self.beat().longest
    }

    fn hung_for(&self, patience: Duration) -> Option<Running> {
        let (running, since) = self.beat().now?;
        (since.elapsed() >= patience).then_some(running)
    }

    fn beat(&self) -> MutexGuard<'_, Beat> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Code of the program that does not come back.
#[derive(Debug)]
pub(crate) struct Hung {
    pub(crate) running: Running,
    pub(crate) patience: Duration,
}

impl Hung {
    /// Says what hangs, and what to do.
    pub(crate) fn told(&self, program: &Program) -> CheckError {
        let Running {
            cpu,
            routine,
            calls,
            ..
        } = self.running;
        let routine = program.routine_name(cpu, routine);
        CheckError::Limit(format!(
            "\"{routine}\" of CPU {} hangs: it has run for {:?} after {calls} seam calls and made no other. A loop \
             outside the seam never ends here: wait with `Hw::pause_until` or `Poll::poll`, and take no locks \
             of the host. Its thread is left behind. (Code that computes for so long fits a longer \
             `Checker::max_time`, up to {PATIENCE:?})",
            cpu.0, self.patience
        ))
    }
}

/// How long code may run between two seam calls if nobody says: it takes microseconds, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(10);
/// A thread may have to wait so long for a CPU of its own.
const LEAST_PATIENCE: Duration = Duration::from_secs(1);

/// Returns how long code may run in a check that may take so long.
pub(crate) fn patience(max_time: Duration) -> Duration {
    max_time.clamp(LEAST_PATIENCE, PATIENCE)
}

/// Builds a program; if that takes too long, it is told on the standard error output, where somebody may wait.
pub(crate) fn while_building<T>(patience: Duration, build: impl FnOnce() -> T) -> T {
    let (built, waits) = channel::<()>();
    std::thread::scope(|scope| {
        // Without a thread nobody is told, and that is all.
        let watch = move || {
            if waits.recv_timeout(patience) == Err(RecvTimeoutError::Timeout) {
                eprintln!("{}", builder_hangs(patience));
            }
        };
        drop(std::thread::Builder::new().spawn_scoped(scope, watch));
        let program = build();
        drop(built);
        program
    })
}

fn builder_hangs(patience: Duration) -> String {
    format!(
        "lazytlb-check: the function that builds the program hangs: it has run for {patience:?}, and the check waits \
         for it. It runs on the thread of its caller, which the checker cannot leave behind, so \
         `Checker::max_time` does not end it. It must not loop, nor wait for locks or other threads"
    )
}

/// What a thread has to tell.
enum Told<M, T> {
    Meanwhile(M),
    Done(T),
}

/// Has work done on a thread of its own, hands on what it tells meanwhile, and returns what it comes to.
///
/// # Errors
/// If code of the program does not come back: then the thread is left behind.
///
/// # Panics
/// If the work panics: as it does.
pub(crate) fn watched<M: Send + 'static, T: Send + 'static>(
    pulse: &Arc<Pulse>,
    patience: Duration,
    mut hear: impl FnMut(M),
    work: impl FnOnce(&dyn Fn(M)) -> T + Send + 'static,
) -> Result<T, Hung> {
    /// As much as a program's first thread has: code may have been written for that.
    const STACK_BYTES: usize = 8 << 20;
    let (told, hears) = channel();
    let tell: Sender<Told<M, T>> = told;
    let builder = std::thread::Builder::new().name("lazytlb-check".to_owned());
    let worker = builder.stack_size(STACK_BYTES).spawn(move || {
        // If nobody listens any more, nobody cares.
        let result = work(&|message| drop(tell.send(Told::Meanwhile(message))));
        drop(tell.send(Told::Done(result)));
    });
    let worker = worker.expect("the system has room for a thread");
    loop {
        match hears.recv_timeout(patience / 8) {
            Ok(Told::Meanwhile(message)) => hear(message),
            Ok(Told::Done(result)) => return Ok(result),
            Err(RecvTimeoutError::Timeout) => {
                if let Some(running) = pulse.hung_for(patience) {
                    return Err(Hung { running, patience });
                }
            }
            Err(RecvTimeoutError::Disconnected) => match worker.join() {
                Err(panic) => std::panic::resume_unwind(panic),
                Ok(()) => unreachable!("a thread that ends has told what it came to"),
            },
        }
    }
}
