//! How an execution is inclined: random executions that are all alike reach little.

use crate::random::Random;

/// What may happen next on a CPU.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Event {
    /// It goes on with its instruction.
    Instruction,
    /// A store leaves a buffer.
    StoreLeaves,
    /// Speculation begins a walk.
    WalkBegins,
    /// A walk reads its next level.
    WalkGoesOn,
    /// A cached translation is evicted.
    Eviction,
    /// A broadcast arrives.
    Broadcast,
    /// An interrupt is delivered.
    Interrupt,
    /// An update of A or D becomes visible.
    Update,
    /// A store that loads have passed translates its address.
    Translation,
}

const EVENTS: [Event; 9] = [
    Event::Instruction,
    Event::StoreLeaves,
    Event::WalkBegins,
    Event::WalkGoesOn,
    Event::Eviction,
    Event::Broadcast,
    Event::Interrupt,
    Event::Update,
    Event::Translation,
];

/// The inclinations of one execution. What is a chance is in percent.
#[derive(Clone, Debug)]
pub(crate) struct Temper {
    cpus: Vec<u32>,
    /// For each CPU, what is likely there.
    events: Vec<[u32; EVENTS.len()]>,
    /// An access uses a cached translation, if there is one.
    pub(crate) use_tlb: u32,
    /// What a walk reads is cached.
    pub(crate) cache: u32,
    /// A speculative walk runs to its end at once.
    pub(crate) whole_walk: u32,
    /// A large page is cached in pieces.
    pub(crate) pieces: u32,
    /// A walk sees the newest of its CPU's stores.
    pub(crate) sees_newest: u32,
    /// An update of A or D is seen late (H41).
    pub(crate) late_update: u32,
    /// A store is translated late (H41).
    pub(crate) late_translation: u32,
    /// A fetch reads an entry early (H40).
    pub(crate) early_fetch: u32,
}

impl Temper {
    /// Draws the inclinations of an execution.
    pub(crate) fn draw(random: &mut Random, number: usize) -> Temper {
        let mut weight = |all: &[u32]| *random.one_of(all);
        let cpus = (0..number).map(|_| weight(&[1, 3, 10, 60])).collect();
        let mut of_cpu = || {
            EVENTS.map(|event| match event {
                Event::Instruction => weight(&[10, 30]),
                Event::Eviction => weight(&[0, 0, 1]),
                Event::StoreLeaves | Event::Broadcast | Event::Interrupt => weight(&[1, 4, 30]),
                Event::WalkBegins => weight(&[0, 3, 10, 30]),
                Event::WalkGoesOn => weight(&[3, 30]),
                Event::Update | Event::Translation => weight(&[1, 5, 30]),
            })
        };
        let events = (0..number).map(|_| of_cpu()).collect();
        Temper {
            cpus,
            events,
            use_tlb: weight(&[10, 50, 95]),
            cache: weight(&[20, 80, 100]),
            whole_walk: weight(&[0, 50, 100]),
            pieces: weight(&[0, 50, 100]),
            sees_newest: weight(&[0, 50, 100]),
            late_update: weight(&[0, 0, 30, 90]),
            late_translation: weight(&[0, 0, 30, 90]),
            early_fetch: weight(&[0, 50]),
        }
    }

    /// Draws where something happens next, and what.
    pub(crate) fn next(&self, random: &mut Random) -> (usize, Event) {
        let cpu = random.weighted(&self.cpus);
        (cpu, EVENTS[random.weighted(&self.events[cpu])])
    }
}
