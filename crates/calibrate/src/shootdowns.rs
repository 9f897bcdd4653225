//! What it takes longer to change mappings because of the other CPUs.

use std::thread::sleep;
use std::time::{Duration, Instant};

use memmap2::{Advice, MmapMut, MmapOptions};

use crate::error::CalibrateError;
use crate::idle_states::{IdleState, IdleStates};
use crate::others::{Activity, Others};
use crate::samples::{Samples, Span};

/// How often a change is timed.
const ROUNDS: usize = 400;
/// How often one beside CPUs that sleep: each waits until they do.
const SLEEPING_ROUNDS: usize = 60;
/// How long CPUs are left to fall asleep, from lightly to deeply.
const ASLEEP: [Duration; 2] = [Duration::from_micros(300), Duration::from_millis(10)];
/// How long a CPU that was interrupted is left to count the idle state that it leaves: far longer than any takes to leave that a space
/// stays loaded in.
const WOKEN: Duration = Duration::from_micros(100);
/// How often a CPU must have been woken from a state for its times to be a range.
const LEAST_OF_A_STATE: usize = 10;
/// A region that has a page table of the lowest level to itself, wherever it lies.
const REGION_BYTES: usize = 4 << 20;
const TABLE_BYTES: usize = 2 << 20;

/// What shootdowns cost, in nanoseconds.
pub(crate) struct Shootdowns {
    /// One to one CPU that runs, the initiator's side.
    pub(crate) first: Span,
    /// What each further CPU adds; `None` if there is none.
    pub(crate) further: Option<Span>,
    /// What the interrupt takes from a CPU that runs.
    pub(crate) stolen: Span,
    /// One to a CPU that sleeps, beyond one to a CPU that runs.
    pub(crate) asleep: Asleep,
}

/// What shootdowns to a CPU that sleeps cost beyond those to one that runs, in nanoseconds.
pub(crate) struct Asleep {
    /// In whatever state.
    pub(crate) any: Span,
    /// In each state that the CPU was woken from often enough; `None` if the system does not tell of states.
    pub(crate) states: Option<Vec<StateWait>>,
}

/// What shootdowns to a CPU in one idle state cost.
pub(crate) struct StateWait {
    pub(crate) state: IdleState,
    /// How often the CPU was woken from it.
    pub(crate) count: usize,
    pub(crate) wait: Span,
}

impl Shootdowns {
    /// Measures, from this thread; `others` are the CPUs beside its own, at least one.
    ///
    /// # Errors
    /// If memory cannot be mapped, or a CPU may not be used.
    pub(crate) fn measure(others: &[usize]) -> Result<Shootdowns, CalibrateError> {
        let alone = protects(ROUNDS, None)?;
        let (one, stolen) = {
            let running = Others::start(&others[..1], Activity::Run)?;
            (protects(ROUNDS, Some(&running))?, stolen(&running)?)
        };
        let further = match others.len() {
            0 | 1 => None,
            all => {
                let running = Others::start(others, Activity::Run)?;
                let each = 1.0 / (all - 1) as f64;
                Some(protects(ROUNDS, Some(&running))?.beyond(&one).times(each))
            }
        };
        let first = one.beyond(&alone);
        Ok(Shootdowns {
            further,
            stolen,
            asleep: asleep(others[0], first)?,
            first,
        })
    }
}

/// Times mprotect of a page that was written: one page to flush, and no page table to free. Each once all that is `running` has been seen to run.
fn protects(rounds: usize, running: Option<&Others>) -> Result<Samples, CalibrateError> {
    let mut page = MmapMut::map_anon(4096).map_err(CalibrateError::Map)?;
    let mut times = Vec::with_capacity(rounds);
    for round in 0..rounds {
        page[0] = round as u8;
        if let Some(running) = running {
            running.await_counting();
        }
        let begin = Instant::now();
        let read_only = page.make_read_only().map_err(CalibrateError::Map)?;
        times.push(begin.elapsed());
        page = read_only.make_mut().map_err(CalibrateError::Map)?;
    }
    Ok(Samples::of(times))
}

/// What a CPU that counts does not count because of a shootdown.
fn stolen(running: &Others) -> Result<Span, CalibrateError> {
    const EACH: usize = 200;
    let rates = (0..9).map(|_| {
        let (begin, before) = (Instant::now(), running.count());
        sleep(Duration::from_millis(2));
        (running.count() - before) as f64 / begin.elapsed().as_nanos() as f64
    });
    let mut rates: Vec<f64> = rates.collect();
    rates.sort_by(f64::total_cmp);
    let rate = rates[rates.len() / 2];
    let mut times = Vec::new();
    for _ in 0..9 {
        let (begin, before) = (Instant::now(), running.count());
        protects(EACH, None)?;
        let undisturbed = begin.elapsed().as_nanos() as f64;
        let counted = (running.count() - before) as f64 / rate;
        let lost = ((undisturbed - counted) / EACH as f64).max(0.0);
        times.push(Duration::from_nanos(lost as u64));
    }
    Ok(Samples::of(times).beyond(&Samples::of([Duration::ZERO])))
}

/// Times munmap of a page table, beside a thread that sleeps, and alone; beyond a shootdown to a CPU that runs.
fn asleep(cpu: usize, running: Span) -> Result<Asleep, CalibrateError> {
    let alone = Samples::of(table_unmaps(None, Duration::ZERO)?.times);
    let sleeper = Sleeper {
        thread: Others::start(&[cpu], Activity::Sleep)?,
        idle_states: IdleStates::of(cpu),
    };
    let [light, deep] = ASLEEP.map(|pause| table_unmaps(Some(&sleeper), pause));
    let (light, deep): (Unmaps, Unmaps) = (light?, deep?);
    let states = sleeper.idle_states.map(|idle_states| {
        let states = idle_states.states.into_iter().enumerate();
        let waits = states.filter_map(|(number, state)| {
            let all = light.woken.iter().chain(&deep.woken);
            let times = all.filter(|(from, _)| *from == number);
            let times: Vec<Duration> = times.map(|&(_, time)| time).collect();
            (times.len() >= LEAST_OF_A_STATE).then(|| StateWait {
                state,
                count: times.len(),
                wait: Samples::of(times).beyond(&alone).less(running.typical),
            })
        });
        waits.collect()
    });
    let [light, deep] = [light, deep].map(|unmaps| {
        let beside = Samples::of(unmaps.times).beyond(&alone);
        beside.less(running.typical)
    });
    Ok(Asleep {
        any: Span {
            low: light.low.min(deep.low),
            typical: light.typical.min(deep.typical),
            high: light.high.max(deep.high),
        },
        states,
    })
}

/// A thread that sleeps, and the idle states of its CPU.
struct Sleeper {
    thread: Others,
    idle_states: Option<IdleStates>,
}

/// How long each munmap took.
struct Unmaps {
    times: Vec<Duration>,
    /// Those that woke the CPU from a state that is known, with its number.
    woken: Vec<(usize, Duration)>,
}

/// Times munmap of a region with a page table of its own. A CPU that sleeps in the space is interrupted for it once, so it is woken
/// before each, and left to fall asleep.
fn table_unmaps(sleeper: Option<&Sleeper>, pause: Duration) -> Result<Unmaps, CalibrateError> {
    let mut unmaps = Unmaps {
        times: Vec::with_capacity(SLEEPING_ROUNDS),
        woken: Vec::new(),
    };
    let idle_states = sleeper.and_then(|sleeper| sleeper.idle_states.as_ref());
    for _ in 0..SLEEPING_ROUNDS {
        let mut region = MmapOptions::new()
            .len(REGION_BYTES)
            .map_anon()
            .map_err(CalibrateError::Map)?;
        // A huge page has no table of the lowest level. Kernels without them do not know the advice.
        let _ = region.advise(Advice::NoHugePage);
        let start = region.as_ptr() as usize;
        region[start.next_multiple_of(TABLE_BYTES) - start] = 1;
        if let Some(sleeper) = sleeper {
            sleeper.thread.wake();
            sleep(pause);
        }
        let before = idle_states.and_then(IdleStates::usages);
        let begin = Instant::now();
        drop(region);
        let time = begin.elapsed();
        unmaps.times.push(time);
        if let (Some(idle_states), Some(before)) = (idle_states, before) {
            sleep(WOKEN);
            let after = idle_states.usages();
            let left = after.and_then(|after| before.left_until(&after));
            unmaps.woken.extend(left.map(|state| (state, time)));
        }
    }
    Ok(unmaps)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::{cpus, pin};
    use crate::others::alone;

    /// In a guest the times mean little; that they can be taken, and are ranges, holds anywhere.
    #[test]
    fn shootdowns_can_be_measured_beside_another_cpu() {
        let cpus = cpus().unwrap();
        let Some((&first, others)) = cpus.split_first() else {
            panic!("this test runs somewhere");
        };
        if others.is_empty() {
            return;
        }
        let _alone = alone();
        pin(first).unwrap();
        let measured = Shootdowns::measure(others).unwrap();
        assert_eq!(measured.further.is_some(), others.len() > 1);
        let mut spans = vec![measured.first, measured.stolen, measured.asleep.any];
        let states = measured.asleep.states.unwrap_or_default();
        spans.extend(states.iter().map(|state| state.wait));
        assert!(states.iter().map(|state| state.count).sum::<usize>() <= 2 * SLEEPING_ROUNDS);
        for span in spans {
            assert!(0.0 <= span.low && span.low <= span.typical, "{span:?}");
            assert!(span.typical <= span.high, "{span:?}");
        }
    }
}
