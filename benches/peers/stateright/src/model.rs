//! The model as Stateright sees it.

use stateright::{Model, Property};

use crate::config::{Config, Variant};
use crate::program::{Operation, operation};
use crate::state::{CPUS, Pc, State};

/// What can happen next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Action {
    /// A CPU's program goes on.
    Step(usize),
    /// A CPU takes the flush interrupt.
    Deliver(usize),
}

impl Config {
    /// Says whether nothing can happen although a program has not ended.
    fn is_deadlock(&self, state: &State) -> bool {
        let ended = |cpu: usize| {
            state.cpus[cpu].pc == Pc::Boundary && operation(state, cpu) == Operation::Ended
        };
        let stuck = |cpu| !self.can_step(state, cpu) && !self.can_deliver(state, cpu);
        (0..CPUS).all(stuck) && !(0..CPUS).all(ended)
    }

    /// Says whether a touch that comes next on some CPU could use a tainted entry.
    fn is_stale_use(state: &State) -> bool {
        (0..CPUS).any(|cpu| {
            state.memory.is_tainted(cpu)
                && state.cpus[cpu].pc == Pc::Boundary
                && operation(state, cpu) == Operation::Touch
        })
    }
}

impl Model for Config {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State::initial()]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for cpu in 0..CPUS {
            if self.can_step(state, cpu) {
                actions.push(Action::Step(cpu));
            }
            if self.can_deliver(state, cpu) {
                actions.push(Action::Deliver(cpu));
            }
        }
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut next = state.clone();
        match (self.variant, action) {
            (Variant::Equal, Action::Step(cpu)) => self.step(&mut next, cpu),
            (Variant::Equal, Action::Deliver(cpu)) => self.deliver(&mut next, cpu),
            (Variant::Best, Action::Step(cpu)) => self.step_transaction(&mut next, cpu),
            (Variant::Best, Action::Deliver(cpu)) => self.deliver_transaction(&mut next, cpu),
        }
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("table-use-after-free", |_, state: &State| {
                !state.memory.walks_a_dead_table()
            }),
            Property::always("stale-use", |_, state| !Config::is_stale_use(state)),
            Property::always("deadlock", |config: &Config, state| {
                !config.is_deadlock(state)
            }),
        ]
    }
}
