//! The searches that a decision rests on: every policy under menus, or under one program, as many at one time as
//! there are cores.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use lazytlb::Policy;
use lazytlb_check::{Finding, Progress, Verdict};
use lazytlb_model::{CpuModel, MemoryModel};
use lazytlb_price::PcidsOn;

use crate::arguments::Decide;
use crate::checking::{check, checker, memory_to_spare};
use crate::numbers::grouped;
use crate::progress::Display;
use crate::slots::Slots;
use crate::subject::{Programs, Subject};
use crate::verdict_words::ending_of;

/// Proofs are about x86-TSO: sequential consistency would hide what real CPUs do.
pub(crate) const MEMORY: MemoryModel = MemoryModel::TSO;

/// Menus that a decision rests on.
struct Menu {
    name: &'static str,
    sets: &'static str,
    /// The slots for PCIDs of each CPU, where PCIDs are on.
    slots: Option<Slots>,
    asked: Asked,
}

/// Whom a question is asked of. What is held back multiplies the states: without PCIDs, `quarantine` is asked smaller menus than the
/// others, whose searches of it would not end within the time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Asked {
    EveryPolicy,
    Quarantine,
    TheOthers,
}

/// Why not every question is asked of every policy.
pub(crate) const SMALLER_MENUS: &str = "What is held back multiplies the states: quarantine is asked menus of its own without PCIDs, \
     with fewer operations, and one page table of each space at a time may be held.";

impl Asked {
    fn of(self, policy: Policy) -> bool {
        match self {
            Asked::EveryPolicy => true,
            Asked::Quarantine => policy == Policy::Quarantine,
            Asked::TheOthers => policy != Policy::Quarantine,
        }
    }
}

/// The menus that a decision rests on: the one that takes longest first. With PCIDs, one in which every space has a
/// slot, so that it is kept, and behind; and one in which two spaces share a slot, so that it is recycled.
const MENUS: [Menu; 9] = [
    Menu {
        name: "held-three-cpus",
        sets: "map,free/switch,lazy/switch,touch",
        slots: None,
        asked: Asked::Quarantine,
    },
    Menu {
        name: "three-cpus",
        sets: "map,unmap,free,switch,touch/switch,touch,lazy/switch,touch,lazy",
        slots: None,
        asked: Asked::TheOthers,
    },
    Menu {
        name: "slot-each",
        sets: "map,unmap,free/switch,touch,switch:2",
        slots: Some(Slots::Two),
        asked: Asked::EveryPolicy,
    },
    Menu {
        name: "two-initiators",
        sets: "map,unmap,free,switch,touch/switch,touch,lazy,flush-page",
        slots: None,
        asked: Asked::TheOthers,
    },
    Menu {
        name: "held-two-initiators",
        sets: "map,free,release/switch,touch,lazy,flush-page",
        slots: None,
        asked: Asked::Quarantine,
    },
    Menu {
        name: "two-spaces",
        sets: "map,unmap,map:2,free:2,switch:2,lazy/switch,touch,lazy,switch:2,touch:2",
        slots: None,
        asked: Asked::TheOthers,
    },
    Menu {
        name: "held-two-spaces",
        sets: "map,map:2,free:2/switch,touch,lazy,switch:2",
        slots: None,
        asked: Asked::Quarantine,
    },
    Menu {
        name: "held-two-cpus",
        sets: "map,unmap,free,switch,touch,lazy/switch,touch,lazy",
        slots: None,
        asked: Asked::Quarantine,
    },
    Menu {
        name: "slot-shared",
        sets: "map,unmap,free,switch,touch/switch,touch,lazy,switch:2,touch:2",
        slots: Some(Slots::One),
        asked: Asked::EveryPolicy,
    },
];

impl Menu {
    fn pcids(&self) -> PcidsOn {
        pcids_of(self.slots)
    }

    fn programs(&self) -> Programs {
        Programs::Any(self.sets.parse().expect("these are menus"))
    }
}

/// Slots for the PCIDs of a program that is asked in place of the menus.
const SLOTS_OF_PROGRAMS: Slots = Slots::Two;

fn pcids_of(slots: Option<Slots>) -> PcidsOn {
    match slots {
        None => PcidsOn::No,
        Some(_) => PcidsOn::Yes,
    }
}

/// The program that tells why a policy is unsafe, if it finds the same: people know it.
const STORYTELLER: &str = "reference-3";
/// How long it may look.
const STORY_TIME: Duration = Duration::from_secs(5);

/// What every policy is asked.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    /// From 1, in the order in which they are told.
    pub(crate) number: usize,
    pub(crate) name: String,
    pub(crate) subject: Subject,
    asked: Asked,
}

impl Question {
    /// Lists what the command line asks: the menus, or the program that it names in their place; without PCIDs first, and what
    /// is asked of `quarantine` alone last.
    pub(crate) fn all(options: &Decide, pcids: &[PcidsOn]) -> Vec<Question> {
        let question = |name: &str, programs, slots, asked| Question {
            number: 0,
            name: name.to_owned(),
            subject: Subject {
                programs,
                slots,
                global_ids: None,
            },
            asked,
        };
        let mut questions: Vec<Question> = match &options.program {
            Some(name) => {
                let slots = pcids.iter().map(|pcids| match pcids {
                    PcidsOn::No => None,
                    PcidsOn::Yes => Some(SLOTS_OF_PROGRAMS),
                });
                let programs = || Programs::Shipped(name.clone());
                let asked = Asked::EveryPolicy;
                slots
                    .map(|slots| question(name, programs(), slots, asked))
                    .collect()
            }
            None => {
                let menus = MENUS.iter().filter(|menu| pcids.contains(&menu.pcids()));
                menus
                    .map(|menu| question(menu.name, menu.programs(), menu.slots, menu.asked))
                    .collect()
            }
        };
        questions.sort_by_key(|question| (question.is_of_one(), question.pcids() == PcidsOn::Yes));
        for (question, number) in questions.iter_mut().zip(1..) {
            question.number = number;
        }
        questions
    }

    /// Says whether it is asked of a policy.
    pub(crate) fn is_asked_of(&self, policy: Policy) -> bool {
        self.asked.of(policy)
    }

    /// Says whether it is asked of one policy alone.
    pub(crate) fn is_of_one(&self) -> bool {
        self.asked == Asked::Quarantine
    }

    /// Groups questions that stand in one table: about CPUs of one kind, and of one policy alone or not.
    pub(crate) fn tables(questions: &[Question]) -> Vec<Vec<&Question>> {
        let same =
            |a: &Question, b: &Question| (a.pcids(), a.is_of_one()) == (b.pcids(), b.is_of_one());
        let tables = questions.chunk_by(same);
        tables.map(|table| table.iter().collect()).collect()
    }

    /// Says whether it is about CPUs with PCIDs.
    pub(crate) fn pcids(&self) -> PcidsOn {
        pcids_of(self.subject.slots)
    }

    /// Returns where it stands among those that take longest: first in [`MENUS`].
    fn place_by_effort(&self) -> usize {
        let mut menus = MENUS.iter();
        menus
            .position(|menu| menu.name == self.name)
            .unwrap_or_default()
    }
}

/// What the search of one question came to, for a policy on a CPU model.
#[derive(Debug)]
pub(crate) struct Proof<'q> {
    pub(crate) question: &'q Question,
    pub(crate) policy: Policy,
    pub(crate) verdict: Verdict,
}

impl Proof<'_> {
    /// Says whether the search came to its end, by a proof or a violation.
    pub(crate) fn ended(&self) -> bool {
        self.verdict.nothing_proved() || !matches!(self.verdict.finding, Finding::Incomplete { .. })
    }
}

/// Returns the worst of verdicts, and of several such the first.
pub(crate) fn worst<'v>(verdicts: impl Iterator<Item = &'v Verdict>) -> Option<&'v Verdict> {
    verdicts.reduce(|worst, next| match ending_of(next) > ending_of(worst) {
        true => next,
        false => worst,
    })
}

/// Searches every question for every policy on every model. The records are in the order of policies, questions,
/// models.
///
/// # Errors
/// Those of checking.
pub(crate) fn search_all<'q>(
    options: &Decide,
    questions: &'q [Question],
    policies: &[Policy],
    models: &[CpuModel],
) -> anyhow::Result<Vec<Proof<'q>>> {
    let mut proofs = Vec::new();
    for &cpu in models {
        // Both stand in the order of what their searches cost. By policies first, so that whatever the time is enough for
        // is known of some policies under all menus.
        let of_cpu = questions
            .iter()
            .filter(|question| cpu.pcids || question.pcids() == PcidsOn::No);
        let mut by_effort: Vec<&Question> = of_cpu.collect();
        by_effort.sort_by_key(|question| std::cmp::Reverse(question.place_by_effort()));
        let searches = policies.iter().flat_map(|&policy| {
            let search = move |&question| (question, policy);
            let asked = by_effort
                .iter()
                .filter(move |question| question.is_asked_of(policy));
            asked.map(search)
        });
        proofs.extend(Searches::new(options, cpu, searches.collect()).run()?);
    }
    let place = |proof: &Proof<'_>| {
        let policy = policies.iter().position(|&policy| policy == proof.policy);
        (policy, proof.question.number)
    };
    proofs.sort_by_key(place);
    Ok(proofs)
}

/// Tells the violation that a search found by the program that people know, if that has it.
///
/// # Errors
/// Those of checking.
pub(crate) fn story(
    options: &Decide,
    proof: &Proof<'_>,
) -> anyhow::Result<Option<(Subject, Verdict)>> {
    if options.program.is_some() {
        return Ok(None);
    }
    let subject = Subject {
        programs: Programs::Shipped(STORYTELLER.to_owned()),
        slots: proof.question.subject.slots,
        global_ids: None,
    };
    let checker = checker(proof.verdict.cpu_model, MEMORY, &options.bounds).max_time(STORY_TIME);
    let told = check(&checker, &subject, proof.policy)?;
    let property = |verdict: &Verdict| verdict.violation().map(|violation| violation.property);
    let same = property(&told) == property(&proof.verdict);
    Ok(same.then_some((subject, told)))
}

/// Searches on one CPU model that share a time.
struct Searches<'a, 'q> {
    options: &'a Decide,
    cpu: CpuModel,
    /// What nobody has begun: what takes longest last.
    waiting: Mutex<VecDeque<(&'q Question, Policy)>>,
    done: Mutex<Vec<anyhow::Result<Proof<'q>>>>,
    count: usize,
    began: Instant,
    display: Display,
}

/// Which of the waiting searches somebody takes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Takes {
    Longest,
    Shortest,
}

impl<'a, 'q> Searches<'a, 'q> {
    fn new(options: &'a Decide, cpu: CpuModel, searches: Vec<(&'q Question, Policy)>) -> Self {
        Searches {
            options,
            cpu,
            count: searches.len(),
            waiting: Mutex::new(searches.into()),
            done: Mutex::default(),
            began: Instant::now(),
            display: Display::new(format!("proving on {}", cpu.name)),
        }
    }

    /// One thread begins at the long end, all others at the short one: so a slow machine still comes to the ends of
    /// the short searches, and the long ones have all the time that there is.
    fn run(self) -> anyhow::Result<Vec<Proof<'q>>> {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let workers = (cores / usize::from(self.options.bounds.threads)).clamp(1, self.count);
        thread::scope(|scope| {
            for worker in 1..workers {
                let takes = match worker {
                    1 => Takes::Longest,
                    _ => Takes::Shortest,
                };
                let searches = &self;
                scope.spawn(move || searches.work(takes, workers));
            }
            self.work(Takes::Shortest, workers);
        });
        let done = self.done.into_inner();
        done.unwrap_or_else(PoisonError::into_inner)
            .into_iter()
            .collect()
    }

    fn work(&self, takes: Takes, workers: usize) {
        while let Some((question, policy, limit)) = self.next(takes) {
            let mut checker = checker(self.cpu, MEMORY, &self.options.bounds);
            if let Some(limit) = limit {
                let own = self.options.bounds.max_seconds.map(Duration::from_secs);
                checker = checker.max_time(own.map_or(limit, |own| own.min(limit)));
            }
            if self.options.bounds.max_memory.is_none() {
                checker = checker.max_memory_bytes(memory_to_spare() / workers as u64);
            }
            let build = || question.subject.build(policy);
            let show = |progress| self.show(question, policy, progress);
            let verdict = checker.try_check_built(build, show);
            let proof = verdict.map(|verdict| Proof {
                question,
                policy,
                verdict,
            });
            let done = proof.map_err(anyhow::Error::from);
            let mut all = self.done.lock().unwrap_or_else(PoisonError::into_inner);
            all.push(done);
        }
    }

    /// Takes the next search, with the longest that it may take.
    fn next(&self, takes: Takes) -> Option<(&'q Question, Policy, Option<Duration>)> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let (question, policy) = match takes {
            Takes::Longest => waiting.pop_back(),
            Takes::Shortest => waiting.pop_front(),
        }?;
        let limit = self.options.seconds_for_all().map(|all| {
            let rest = Duration::from_secs(all).saturating_sub(self.began.elapsed());
            share(rest, takes == Takes::Longest || waiting.is_empty())
        });
        Some((question, policy, limit))
    }

    fn show(&self, question: &Question, policy: Policy, progress: Progress) {
        let done = self
            .done
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .len();
        self.display.say(format!(
            "{done} of {} searches; {policy} under {}: {} states, {:.0} s in all",
            self.count,
            question.name,
            grouped(progress.effort.states),
            self.began.elapsed().as_secs_f64()
        ));
    }
}

/// A search may take half of the time that is left while others wait for their turn, and all of it otherwise. In
/// tenths of a second, which people read.
fn share(rest: Duration, is_last: bool) -> Duration {
    let share = match is_last {
        true => rest,
        false => rest / 2,
    };
    Duration::from_millis(share.as_millis() as u64 / 100 * 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_menus_are_read_and_print_as_they_are_written() {
        for Menu { name, sets, .. } in MENUS {
            let menus = sets.parse::<lazytlb_check::Menus>();
            let menus = menus.unwrap_or_else(|error| panic!("{name}: {error}"));
            let parts = |text: &str| text.split(['/', ',']).count();
            assert_eq!(parts(&menus.to_string()), parts(sets), "{name}");
        }
    }

    #[test]
    fn a_search_leaves_half_of_the_time_to_those_that_wait() {
        let rest = Duration::from_millis(7_550);
        assert_eq!(share(rest, false), Duration::from_millis(3_700));
        assert_eq!(share(rest, true), Duration::from_millis(7_500));
        assert_eq!(share(Duration::ZERO, true), Duration::ZERO);
    }
}
