//! Random programs that wait by a poll, by `pause_until` and by a loop that is written out: they end alike.
#![allow(missing_docs, clippy::expect_used, clippy::unwrap_used)]

mod random;

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use lazytlb::interrupts::InterruptsOff;
use lazytlb::{CpuId, CpuSet, Hw, Poll, Until};
use lazytlb_check::{Checker, ModelHw, Program, Reduction};
use lazytlb_model::{AtomicCell, MemoryModel, Property, Ticks};
use random::Random;

impl Random {
    fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

const WORDS: u64 = 3;

/// One thing that a CPU does.
#[derive(Clone, Copy, Debug)]
enum Action {
    Store(usize, u64),
    Swap(usize, u64),
    Add(usize),
    Fence,
    Interrupt(u16),
    /// Copies a word to one that only this CPU writes.
    Look(usize),
    Wait(usize, u64),
    /// Takes what is in the first word, counts it, and looks whether the second one holds a value.
    Serve {
        inbox: usize,
        word: usize,
        value: u64,
    },
}

/// How a CPU waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Waits {
    ByPauseUntil,
    ByPoll,
    /// A loop that goes round four times; then it gives up, and says so.
    FourTimes,
}

#[derive(Clone, Debug)]
struct Sketch {
    cpus: Vec<Vec<(Action, bool)>>,
    handler: Vec<Action>,
    ticks: Ticks,
}

impl Sketch {
    fn draw(seed: u64, serves: bool) -> Sketch {
        let mut random = Random(seed.wrapping_mul(0x2545_f491_4f6c_dd1d));
        let cpus = 2 + usize::from(random.percent(30));
        let draw = |random: &mut Random, may_wait: bool| {
            let (word, other) = (random.below(WORDS) as usize, random.below(WORDS) as usize);
            let value = 1 + random.below(2);
            match random.below(if may_wait { 12 } else { 6 }) {
                0 | 1 => Action::Store(word, value),
                2 => Action::Swap(word, value),
                3 => Action::Add(word),
                4 => Action::Fence,
                5 => Action::Look(word),
                6 => Action::Interrupt(random.below(cpus as u64) as u16),
                _ if serves => Action::Serve {
                    inbox: other,
                    word,
                    value,
                },
                _ => Action::Wait(word, value * random.below(2)),
            }
        };
        let per_cpu = if cpus == 2 { 4 } else { 2 };
        let lists = (0..cpus).map(|_| {
            let count = 1 + random.below(per_cpu);
            let list = (0..count).map(|_| (draw(&mut random, true), random.percent(25)));
            list.collect()
        });
        let cpus = lists.collect();
        let handler = (0..random.below(3))
            .map(|_| draw(&mut random, false))
            .collect();
        let ticks = match random.below(4) {
            0 => Ticks::AtMost(1),
            _ => Ticks::Never,
        };
        Sketch {
            cpus,
            handler,
            ticks,
        }
    }

    fn program(&self, waits: Waits) -> Program {
        let mut program = Program::new("random", self.cpus.len() as u8);
        let cells = Cells {
            words: (0..WORDS)
                .map(|n| program.atomic(format!("word {n}"), 0))
                .collect(),
            looked: (0..self.cpus.len())
                .map(|n| program.atomic(format!("looked {n}"), 9))
                .collect(),
            gave_up: program.atomic("gave up", 0),
            served: program.atomic("served", 0),
        };
        for (cpu, actions) in (0..).zip(&self.cpus) {
            for &(action, is_off) in actions {
                let cells = cells.clone();
                program.operation(cpu, format!("{action:?}"), move |hw| {
                    let _off = is_off.then(|| InterruptsOff::new(hw));
                    cells.act(hw, action, waits);
                });
            }
        }
        let (cells, actions) = (cells.clone(), self.handler.clone());
        let handler = move |hw: &ModelHw| {
            for &action in &actions {
                cells.act(hw, action, waits);
            }
        };
        program.on_flush_interrupt(handler.clone());
        if self.ticks != Ticks::Never {
            program.on_timer(self.ticks, handler);
        }
        program
    }
}

#[derive(Clone)]
struct Cells {
    words: Vec<AtomicCell>,
    looked: Vec<AtomicCell>,
    gave_up: AtomicCell,
    served: AtomicCell,
}

impl Cells {
    fn act(&self, hw: &ModelHw, action: Action, waits: Waits) {
        match action {
            Action::Store(word, value) => hw.store(&self.words[word], value),
            Action::Swap(word, value) => {
                hw.swap(&self.words[word], value);
            }
            Action::Add(word) => {
                hw.fetch_add(&self.words[word], 1);
            }
            Action::Fence => hw.fence(),
            Action::Interrupt(cpu) => {
                let mut targets = CpuSet::<1>::EMPTY;
                targets.insert(CpuId(cpu));
                hw.send_ipi(&targets);
            }
            Action::Look(word) => {
                let own = &self.looked[usize::from(hw.cpu().0)];
                hw.store(own, hw.load(&self.words[word]));
            }
            Action::Wait(word, value) => {
                let word = &self.words[word];
                self.wait(
                    hw,
                    waits,
                    |hw| (hw.load(word) == value).then_some(()),
                    || {
                        let until = if value == 0 {
                            Until::Zero
                        } else {
                            Until::Equals(value)
                        };
                        hw.pause_until(word, until);
                    },
                );
            }
            Action::Serve { inbox, word, value } => {
                let body = |hw: &ModelHw| {
                    if hw.swap(&self.words[inbox], 0) != 0 {
                        hw.fetch_add(&self.served, 1);
                    }
                    (hw.load(&self.words[word]) == value).then_some(())
                };
                self.wait(hw, waits, body, || unreachable!("it waits for two words"));
            }
        }
    }

    fn wait(
        &self,
        hw: &ModelHw,
        waits: Waits,
        body: impl Fn(&ModelHw) -> Option<()>,
        pause: impl Fn(),
    ) {
        match waits {
            Waits::ByPauseUntil => pause(),
            Waits::ByPoll => hw.poll(body),
            Waits::FourTimes => {
                let found = (0..4).try_for_each(|_| match body(hw) {
                    Some(()) => ControlFlow::Break(()),
                    None => ControlFlow::Continue(()),
                });
                if found.is_continue() {
                    // From here on nothing counts.
                    hw.swap(&self.gave_up, 1);
                    hw.pause_until(&self.gave_up, Until::Equals(2));
                }
            }
        }
    }
}

/// What two programs that wait differently have in common: ends, and properties.
type Essence = (BTreeSet<Vec<u64>>, BTreeSet<Property>);

/// Returns it, or `None` if the program is too large for a test.
fn essence(checker: &Checker, program: &Program) -> Option<Essence> {
    let outcomes = checker.outcomes(program).expect("the program fits");
    let ends = outcomes.ends.iter().map(|end| end.atomics.clone());
    let violations = outcomes.violations.keys().copied();
    outcomes
        .incomplete
        .is_none()
        .then(|| (ends.collect(), violations.collect()))
}

/// Programs with more states are left out.
const MOST_STATES: u64 = 6000;

fn everywhere() -> impl Iterator<Item = (MemoryModel, Checker)> {
    let reductions = [(Reduction::CollapseLocal, 1), (Reduction::None, 2)];
    [MemoryModel::Sc, MemoryModel::TSO]
        .into_iter()
        .flat_map(move |memory| {
            let checker = Checker::new().memory(memory).max_states(MOST_STATES);
            reductions.map(|(reduction, threads)| {
                (
                    memory,
                    checker.clone().reduction(reduction).threads(threads),
                )
            })
        })
}

fn how_many(default: u64) -> u64 {
    let named = std::env::var("POLLING_PROGRAMS").ok();
    named.map_or(default, |count| {
        count.parse().expect("POLLING_PROGRAMS is a number")
    })
}

/// Compares a program that polls with one that waits otherwise, for as many seeds; says how many had ends, and
/// how many violations (a deadlock is one), and calls `compare` with what both have everywhere.
fn compare_all(
    seeds: u64,
    serves: bool,
    other: Waits,
    compare: impl Fn(&Essence, &Essence, &str),
) -> [u64; 2] {
    let (mut compared, mut with_ends, mut stuck) = (0, 0, 0);
    for seed in 0..seeds {
        let sketch = Sketch::draw(seed, serves);
        let mut former: Option<(MemoryModel, Essence)> = None;
        for (memory, checker) in everywhere() {
            let [poll, other] =
                [Waits::ByPoll, other].map(|waits| essence(&checker, &sketch.program(waits)));
            let (Some(poll), Some(other)) = (poll, other) else {
                continue;
            };
            let place = format!("seed {seed}, {checker:?}: {sketch:?}");
            compare(&poll, &other, &place);
            if let Some((_, former)) = former.take_if(|(on, _)| *on == memory) {
                assert_eq!(former, poll, "the reductions differ, {place}");
            }
            compared += 1;
            with_ends += u64::from(!poll.0.is_empty());
            stuck += u64::from(poll.1.contains(&Property::Deadlock));
            former = Some((memory, poll));
        }
    }
    assert!(
        compared > 2 * seeds,
        "most programs are small enough: {compared}"
    );
    [with_ends, stuck]
}

#[test]
fn a_poll_for_one_word_is_a_wait() {
    let [with_ends, stuck] = compare_all(
        how_many(300),
        false,
        Waits::ByPauseUntil,
        |poll, pause, place| {
            assert_eq!(poll, pause, "{place}");
        },
    );
    assert!(
        with_ends > 0 && stuck > 0,
        "both happen: {with_ends}, {stuck}"
    );
}

#[test]
fn a_poll_ends_as_the_loop_that_is_written_out_four_times() {
    let [with_ends, _] = compare_all(
        how_many(100),
        true,
        Waits::FourTimes,
        |poll, written_out, place| {
            assert_eq!(poll.0, written_out.0, "{place}");
        },
    );
    assert!(with_ends > 0);
}
