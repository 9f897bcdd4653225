//! The border to the model: the machine, asked about a CPU by its [`CpuId`], and about places by [`NodeId`].
//!
//! Everywhere else in this crate a CPU is a `CpuId`, a place in its code a `NodeId`, and the manner of a
//! step a [`Way`]. The model counts in numbers of its own; here, and nowhere else, they are converted.

use lazytlb::{CpuId, Interrupts};
use lazytlb_model::machine::Stop;
use lazytlb_model::{
    Call, HeldByCpu, Limit, LocalCell, Machine, Place, Progress, State, Tick, WaitingStore,
};

use crate::automaton::{NodeId, Routine};
use crate::menu::Mode;

/// One of several ways in which the machine can do a step, counted from the first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Way(u32);

impl Way {
    pub(crate) const FIRST: Way = Way(0);
    /// Ways of one access that are tried after one of them was a violation: the machine does not say then
    /// whether there are more. An access has two for each entry of a set, and one for each way to fault: fewer.
    pub(crate) const LAST_AFTER_VIOLATIONS: Way = Way(256);

    /// Returns the number, from 0 on.
    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }

    pub(crate) fn next(self) -> Way {
        Way(self.0 + 1)
    }
}

/// Whether the machine can do what it did in another way, too: the next one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ways {
    Last,
    More,
}

impl Ways {
    pub(crate) fn more_if(more: bool) -> Ways {
        if more { Ways::More } else { Ways::Last }
    }
}

/// What trying a step came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Tried {
    /// The step is not possible in this state.
    Impossible,
    /// The state was changed.
    Done(Ways),
}

/// The modelled machine.
pub(crate) struct Hardware {
    machine: Machine,
}

impl Hardware {
    pub(crate) fn new(machine: Machine) -> Self {
        Hardware { machine }
    }

    /// Returns the machine, for what concerns no single CPU.
    #[inline]
    pub(crate) fn machine(&self) -> &Machine {
        &self.machine
    }

    /// Returns the length of a state in bytes.
    #[inline]
    pub(crate) fn state_len(&self) -> usize {
        self.machine.layout().len()
    }

    /// Returns the CPUs, lowest first.
    #[inline]
    pub(crate) fn cpus(&self) -> impl ExactSizeIterator<Item = CpuId> + use<> {
        (0..self.machine.layout().cpus()).map(|cpu| CpuId(cpu as u16))
    }

    /// Returns the mode of the CPU whose word this is.
    pub(crate) fn mode(&self, state: &State, word: LocalCell) -> Mode {
        Mode::new(self.machine.own_word(state, word) as u8)
    }

    /// Sets the mode of the CPU whose word this is.
    pub(crate) fn set_mode(
        &self,
        state: &mut State,
        word: LocalCell,
        mode: Mode,
    ) -> Result<(), Limit> {
        let number = mode.number().into();
        self.machine.map_own_words(state, &[word], |_| number)
    }

    /// Says whether two states differ at most in what a CPU has for itself.
    pub(crate) fn is_same_for_others(&self, one: &State, other: &State, cpu: CpuId) -> bool {
        let layout = self.machine.layout();
        let start = layout.shared_len() + index(cpu) * layout.cpu_len();
        let end = start + layout.cpu_len();
        one[..start] == other[..start] && one[end..] == other[end..]
    }

    /// Returns a CPU's place in its operation; `None` after the last one.
    #[inline(always)]
    pub(crate) fn node(&self, state: &State, cpu: CpuId) -> Option<NodeId> {
        node_at(self.machine.layout().node(state, index(cpu)))
    }

    /// Returns a CPU's place in the handler of the flush interrupt or the timer's; `None` outside of both.
    #[inline(always)]
    pub(crate) fn handler_node(&self, state: &State, cpu: CpuId) -> Option<NodeId> {
        node_at(self.machine.layout().handler_node(state, index(cpu)))
    }

    /// Returns a CPU's places in its operation and in the handler of the flush interrupt or the timer's.
    #[inline(always)]
    pub(crate) fn node_and_handler_node(
        &self,
        state: &State,
        cpu: CpuId,
    ) -> (Option<NodeId>, Option<NodeId>) {
        let layout = self.machine.layout();
        let (node, handler) = layout.node_and_handler_node(state, index(cpu));
        (node_at(node), node_at(handler))
    }

    /// Returns a CPU's place in its NMI handler; `None` outside of it.
    #[inline]
    pub(crate) fn nmi_node(&self, state: &State, cpu: CpuId) -> Option<NodeId> {
        node_at(self.machine.layout().nmi_node(state, index(cpu)))
    }

    /// Lists a CPU's places: in its operation, and in handlers.
    pub(crate) fn places(&self, state: &State, cpu: CpuId) -> impl Iterator<Item = NodeId> + use<> {
        let places = [
            self.node(state, cpu),
            self.handler_node(state, cpu),
            self.nmi_node(state, cpu),
        ];
        places.into_iter().flatten()
    }

    /// Puts a CPU at a place of a routine, or at none.
    ///
    /// # Errors
    /// If a state has no room for the place's number: then the machine needs more features.
    #[inline(always)]
    pub(crate) fn set_node(
        &self,
        state: &mut State,
        cpu: CpuId,
        routine: Routine,
        node: Option<NodeId>,
    ) -> Result<(), Limit> {
        let (layout, cpu) = (self.machine.layout(), index(cpu));
        let place = node.and_then(|node| Place::from_number(node.number()));
        if let Some(place) = place {
            self.machine.make_room(place)?;
        }
        match routine {
            Routine::Operation(_) => layout.set_node(state, cpu, place),
            // With interrupts off in both, a CPU is in one of them only.
            Routine::Handler | Routine::Timer => layout.set_handler_node(state, cpu, place),
            Routine::Nmi => layout.set_nmi_node(state, cpu, place),
        }
        Ok(())
    }

    /// Says whether a CPU has stores in its buffer.
    #[inline]
    pub(crate) fn has_buffered(&self, state: &State, cpu: CpuId) -> bool {
        self.machine.layout().buffered_len(state, index(cpu)) > 0
    }

    /// Says whether a CPU has write-combining stores that have not arrived.
    #[inline]
    pub(crate) fn has_combining(&self, state: &State, cpu: CpuId) -> bool {
        self.machine.layout().combining_len(state, index(cpu)) > 0
    }

    /// Says whether a CPU has broadcast invalidations still to do.
    #[inline]
    pub(crate) fn has_broadcasts(&self, state: &State, cpu: CpuId) -> bool {
        !self
            .machine
            .layout()
            .broadcasts(state, index(cpu))
            .is_empty()
    }

    /// Returns the numbers of the broadcast invalidations that a CPU could do now, in the order of their ways.
    pub(crate) fn broadcasts_to_do(&self, state: &State, cpu: CpuId) -> Vec<u8> {
        let to_do = self.machine.broadcasts_to_do(state, index(cpu));
        // What the machine refuses ends the search in the step that does it.
        let to_do = to_do.unwrap_or_default();
        to_do.iter().map(|number| number.to_byte()).collect()
    }

    /// Says whether a flush interrupt is pending.
    #[inline]
    pub(crate) fn is_pending(&self, state: &State, cpu: CpuId) -> bool {
        self.machine.layout().is_pending(state, index(cpu))
    }

    /// Says whether an NMI is pending.
    #[inline]
    pub(crate) fn is_nmi_pending(&self, state: &State, cpu: CpuId) -> bool {
        self.machine.layout().is_nmi_pending(state, index(cpu))
    }

    /// Makes a call of a CPU in one way. If it is blocked, the state is unchanged.
    #[inline(always)]
    pub(crate) fn call(
        &self,
        state: &mut State,
        cpu: CpuId,
        call: &Call,
        way: Way,
    ) -> Result<Called, Stop> {
        Ok(
            match self.machine.call(state, index(cpu), call, way.index())? {
                Progress::Blocked => Called::Blocked,
                Progress::Done { answer, more } => Called::Returned(answer, Ways::more_if(more)),
            },
        )
    }

    /// Says whether a call that a CPU is about to make begins or keeps a promise that covers a cached entry, or
    /// frees a page table.
    #[cold]
    pub(crate) fn shows(&self, state: &State, cpu: CpuId, call: &Call) -> bool {
        self.machine.promise_covers_cached(state, index(cpu), call)
            || self
                .machine
                .begun_promise_covers_cached(state, index(cpu), call)
            || self.machine.frees_table(state, call)
    }

    /// Says whether a call of a CPU is local, and will not block.
    #[inline(always)]
    pub(crate) fn is_local(
        &self,
        state: &State,
        cpu: CpuId,
        call: &Call,
        interrupts: Interrupts,
    ) -> bool {
        self.machine.is_local(state, index(cpu), call, interrupts)
    }

    /// Lets the oldest store in a CPU's buffer become visible.
    #[inline]
    pub(crate) fn drain(&self, state: &mut State, cpu: CpuId) -> Result<Tried, Stop> {
        Ok(match self.machine.drain(state, index(cpu))? {
            true => Tried::Done(Ways::Last),
            false => Tried::Impossible,
        })
    }

    /// Lets one of a CPU's write-combining stores leave.
    pub(crate) fn drain_combining(
        &self,
        state: &mut State,
        cpu: CpuId,
        way: Way,
    ) -> Result<Tried, Stop> {
        let left = self
            .machine
            .drain_combining(state, index(cpu), way.index())?;
        Ok(left.map_or(Tried::Impossible, |more| Tried::Done(Ways::more_if(more))))
    }

    /// Returns what a CPU's store buffer drains next.
    pub(crate) fn oldest_store(&self, state: &State, cpu: CpuId) -> Option<WaitingStore> {
        self.machine.oldest_store(state, index(cpu))
    }

    /// Returns what a CPU holds, for people.
    pub(crate) fn held_by(&self, state: &State, cpu: CpuId) -> HeldByCpu {
        self.machine.held_by(state, index(cpu))
    }

    /// As [`Hardware::oldest_store`], of the write-combining buffers.
    pub(crate) fn combining_store(
        &self,
        state: &State,
        cpu: CpuId,
        way: Way,
    ) -> Option<WaitingStore> {
        self.machine.combining_store(state, index(cpu), way.index())
    }

    /// As [`Hardware::oldest_store`], of what a CPU settles.
    pub(crate) fn store_that_settles(
        &self,
        state: &State,
        cpu: CpuId,
        way: Way,
    ) -> Option<WaitingStore> {
        self.machine
            .store_that_settles(state, index(cpu), way.index())
    }

    /// Says whether a CPU may have something to settle.
    pub(crate) fn may_settle(&self, state: &State, cpu: CpuId) -> bool {
        self.machine.may_settle(state, index(cpu))
    }

    /// Lets a CPU settle something.
    pub(crate) fn settle(&self, state: &mut State, cpu: CpuId, way: Way) -> Result<Tried, Stop> {
        let left = self.machine.settle(state, index(cpu), way.index())?;
        Ok(left.map_or(Tried::Impossible, |more| Tried::Done(Ways::more_if(more))))
    }

    /// Lets a CPU do one of the invalidations that were broadcast to it.
    pub(crate) fn receive_broadcast(
        &self,
        state: &mut State,
        cpu: CpuId,
        way: Way,
    ) -> Result<Tried, Stop> {
        let to_do = self.machine.broadcasts_to_do(state, index(cpu))?;
        let mut pending = to_do.iter().skip(way.index());
        let Some(number) = pending.next() else {
            return Ok(Tried::Impossible);
        };
        let more = pending.next().is_some();
        self.machine.receive_broadcast(state, index(cpu), number)?;
        Ok(Tried::Done(Ways::more_if(more)))
    }

    /// Says whether the machine could deliver a flush interrupt to a CPU.
    #[inline]
    pub(crate) fn can_deliver(&self, state: &State, cpu: CpuId) -> bool {
        self.machine.can_deliver(state, index(cpu))
    }

    /// Delivers the pending flush interrupt.
    pub(crate) fn deliver(&self, state: &mut State, cpu: CpuId) {
        self.machine.deliver(state, index(cpu));
    }

    /// Says whether the machine could deliver a timer interrupt to a CPU.
    pub(crate) fn can_tick(&self, state: &State, cpu: CpuId, tick: Tick) -> bool {
        self.machine.can_tick(state, index(cpu), tick)
    }

    /// Delivers a timer interrupt.
    pub(crate) fn tick(&self, state: &mut State, cpu: CpuId, tick: Tick) {
        self.machine.tick(state, index(cpu), tick);
    }

    /// Says whether the machine could deliver an NMI to a CPU.
    pub(crate) fn can_deliver_nmi(&self, state: &State, cpu: CpuId) -> bool {
        self.machine.can_deliver_nmi(state, index(cpu))
    }

    /// Delivers the pending NMI.
    pub(crate) fn deliver_nmi(&self, state: &mut State, cpu: CpuId) {
        self.machine.deliver_nmi(state, index(cpu));
    }
}

/// What a call came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Called {
    /// It is not possible yet.
    Blocked,
    /// It returned this; 0 for nothing.
    Returned(u64, Ways),
}

/// Returns a CPU's number in violations and events.
pub(crate) fn number_for_people(cpu: CpuId) -> u8 {
    u8::try_from(cpu.0).expect("a machine has fewer CPUs")
}

#[inline]
fn index(cpu: CpuId) -> usize {
    usize::from(cpu.0)
}

#[inline]
fn node_at(place: Option<Place>) -> Option<NodeId> {
    NodeId::from_number(place?.number())
}
