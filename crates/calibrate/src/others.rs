//! Threads pinned to the other CPUs, which run or sleep.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{JoinHandle, park, spawn};

use crate::error::CalibrateError;
use crate::machine::pin;

/// What the threads do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Activity {
    /// They count.
    Run,
    /// They sleep until they are woken, and sleep again.
    Sleep,
}

/// The threads; they end when this is dropped.
pub(crate) struct Others {
    threads: Vec<JoinHandle<()>>,
    shared: Arc<Shared>,
}

struct Shared {
    ends: AtomicBool,
    /// Threads that are pinned, and how often any has woken.
    ready: AtomicU64,
    /// How far each one has counted.
    counts: Vec<AtomicU64>,
}

impl Others {
    /// Starts a thread on each of these CPUs, and waits until all are there.
    ///
    /// # Errors
    /// If a CPU may not be used.
    pub(crate) fn start(cpus: &[usize], activity: Activity) -> Result<Others, CalibrateError> {
        let shared = Arc::new(Shared {
            ends: AtomicBool::new(false),
            ready: AtomicU64::new(0),
            counts: cpus.iter().map(|_| AtomicU64::new(0)).collect(),
        });
        let (tell, told) = std::sync::mpsc::channel();
        let threads = cpus.iter().enumerate().map(|(number, &cpu)| {
            let (shared, tell) = (Arc::clone(&shared), tell.clone());
            spawn(move || {
                let pinned = pin(cpu);
                let is_pinned = pinned.is_ok();
                // Whoever waits for this is gone only if another one failed.
                let _ = tell.send(pinned);
                if is_pinned {
                    shared.work(activity, number);
                }
            })
        });
        let others = Others {
            threads: threads.collect(),
            shared: Arc::clone(&shared),
        };
        for _ in cpus {
            told.recv().unwrap_or(Ok(()))?;
        }
        Ok(others)
    }

    /// Wakes each thread, and returns once all have run.
    pub(crate) fn wake(&self) {
        let before = self.shared.ready.load(Ordering::SeqCst);
        for thread in &self.threads {
            thread.thread().unpark();
        }
        let all = before + self.threads.len() as u64;
        while self.shared.ready.load(Ordering::SeqCst) < all {
            std::hint::spin_loop();
        }
    }

    /// How far the first thread has counted.
    pub(crate) fn count(&self) -> u64 {
        self.shared.counts[0].load(Ordering::Relaxed)
    }

    /// Returns once each thread has been seen to count: on a busy machine it may wait for its CPU, and is then not interrupted.
    pub(crate) fn await_counting(&self) {
        for count in &self.shared.counts {
            let before = count.load(Ordering::Relaxed);
            while count.load(Ordering::Relaxed) == before {
                std::hint::spin_loop();
            }
        }
    }
}

impl Shared {
    fn work(&self, activity: Activity, number: usize) {
        let mut count = 0_u64;
        while !self.ends.load(Ordering::Relaxed) {
            match activity {
                Activity::Run => {
                    count = std::hint::black_box(count + 1);
                    self.counts[number].store(count, Ordering::Relaxed);
                }
                Activity::Sleep => {
                    park();
                    self.ready.fetch_add(1, Ordering::SeqCst);
                }
            }
        }
    }
}

impl Drop for Others {
    fn drop(&mut self) {
        self.shared.ends.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.thread().unpark();
            // A thread that has panicked has said so.
            let _ = thread.join();
        }
    }
}

/// Keeps tests from disturbing each other: threads of one would be the other's, too.
#[cfg(test)]
pub(crate) fn alone() -> std::sync::MutexGuard<'static, ()> {
    static ALONE: std::sync::Mutex<()> = std::sync::Mutex::new(());
    ALONE
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}
