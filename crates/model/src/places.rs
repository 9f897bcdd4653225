//! Where a CPU is in its code, as a state has it.
//!
//! A place is a number, and two bytes of every state tell those of most programs. A program with more places
//! ([`Features::many_places`](crate::Features::many_places)) has four bytes more for each, and where it is far, the
//! two bytes say no more than that. They say it by a value that is seldom met in other programs: so what these
//! ask all the time takes them no longer.

use std::num::NonZeroU16;

use crate::index::{Cpu, Offset, Place};
use crate::limit::Limit;
use crate::machine::Machine;
use crate::state::{FAR_PLACE, HANDLER_NODE, Layout, NODE, State};

/// The code that a CPU has a place in: the order in which far places lie.
#[derive(Clone, Copy, PartialEq)]
enum Code {
    Operation,
    Handler,
    NmiHandler,
}

/// What the two bytes say.
#[derive(Clone, Copy, PartialEq)]
struct Near(u16);

impl Code {
    /// Returns what the two bytes say of a place that is far: seldom has a CPU no operation left, or a handler so
    /// many places.
    const fn far(self) -> Near {
        match self {
            Code::Operation => Near(0),
            Code::Handler | Code::NmiHandler => Near(u16::MAX),
        }
    }
}

/// The last place that two bytes tell.
const LAST_NEAR: u32 = u16::MAX as u32;

impl Machine {
    /// Makes sure that states have room for a place.
    ///
    /// # Errors
    /// If they have none: then the machine [needs more features](Machine::needs_more_features).
    #[inline]
    pub fn make_room(&self, place: Place) -> Result<(), Limit> {
        if place.number() <= LAST_NEAR || self.layout.far_places.is_some() {
            return Ok(());
        }
        self.turned_up.notes_many_places();
        Err(Limit {
            what: "places in its code",
            most: LAST_NEAR as usize,
        })
    }
}

impl Layout {
    /// Reads a CPU's place in its program; `None` after its end.
    #[inline(always)]
    pub fn node(&self, state: &State, cpu: impl Into<Cpu>) -> Option<Place> {
        self.place(state, cpu.into(), Code::Operation)
    }

    /// Writes a CPU's place in its program.
    ///
    /// # Panics
    /// If states have no room for it, as [`Machine::make_room`] tells.
    #[inline(always)]
    pub fn set_node(&self, state: &mut State, cpu: impl Into<Cpu>, node: Option<Place>) {
        self.set_place(state, cpu.into(), Code::Operation, node);
    }

    /// Reads a CPU's place in its interrupt handler; `None` outside of it.
    #[inline(always)]
    pub fn handler_node(&self, state: &State, cpu: impl Into<Cpu>) -> Option<Place> {
        self.place(state, cpu.into(), Code::Handler)
    }

    /// Writes a CPU's place in its interrupt handler.
    ///
    /// # Panics
    /// As [`Layout::set_node`].
    #[inline(always)]
    pub fn set_handler_node(&self, state: &mut State, cpu: impl Into<Cpu>, node: Option<Place>) {
        self.set_place(state, cpu.into(), Code::Handler, node);
    }

    /// Reads a CPU's places in its program and in its interrupt handler, at less cost than one after the other.
    #[inline(always)]
    pub fn node_and_handler_node(
        &self,
        state: &State,
        cpu: impl Into<Cpu>,
    ) -> (Option<Place>, Option<Place>) {
        let cpu = cpu.into();
        if self.far_places.is_some() {
            return (self.node(state, cpu), self.handler_node(state, cpu));
        }
        let both = state[self.cpu_start(cpu).bytes()..].first_chunk();
        let both: &[u8; 4] = both.expect("every CPU's chunk begins with both");
        let near = |at: usize| NonZeroU16::new(u16::from_le_bytes([both[at], both[at + 1]]));
        (
            near(NODE).map(Place::from),
            near(HANDLER_NODE).map(Place::from),
        )
    }

    /// Says whether programs have NMIs.
    #[inline]
    pub fn has_nmis(&self) -> bool {
        self.nmi.is_some()
    }

    /// Reads a CPU's place in its NMI handler; `None` outside of it.
    #[inline]
    pub fn nmi_node(&self, state: &State, cpu: impl Into<Cpu>) -> Option<Place> {
        self.nmi?;
        self.place(state, cpu.into(), Code::NmiHandler)
    }

    /// Writes a CPU's place in its NMI handler.
    ///
    /// # Panics
    /// If the program has no NMIs; and as [`Layout::set_node`].
    pub fn set_nmi_node(&self, state: &mut State, cpu: impl Into<Cpu>, node: Option<Place>) {
        self.set_place(state, cpu.into(), Code::NmiHandler, node);
    }

    #[inline(always)]
    fn place(&self, state: &State, cpu: Cpu, code: Code) -> Option<Place> {
        let at = self.near_place_at(cpu, code).bytes();
        let near = Near(u16::from_le_bytes([state[at], state[at + 1]]));
        match near == code.far() && self.far_places.is_some() {
            true => self.far_place(state, cpu, code),
            false => NonZeroU16::new(near.0).map(Place::from),
        }
    }

    #[inline(always)]
    fn set_place(&self, state: &mut State, cpu: Cpu, code: Code, place: Option<Place>) {
        let at = self.near_place_at(cpu, code).bytes();
        let Near(near) = match self.far_places {
            None => near(place).expect("states have room for each place"),
            Some(_) => self.set_far_place(state, cpu, code, place),
        };
        state[at..at + 2].copy_from_slice(&near.to_le_bytes());
    }

    /// Returns where the two bytes of a place lie.
    #[inline(always)]
    fn near_place_at(&self, cpu: Cpu, code: Code) -> Offset {
        let at = match code {
            Code::Operation => NODE,
            Code::Handler => HANDLER_NODE,
            Code::NmiHandler => self
                .nmi
                .expect("only a program with NMIs enters their handler"),
        };
        self.cpu_start(cpu).plus(at)
    }

    /// Returns where a far place lies.
    fn far_place_at(&self, cpu: Cpu, code: Code) -> Offset {
        let far_places = self.far_places.expect("states have room for far places");
        self.cpu_start(cpu)
            .plus(far_places + FAR_PLACE * code as usize)
    }

    #[cold]
    #[inline(never)]
    fn far_place(&self, state: &State, cpu: Cpu, code: Code) -> Option<Place> {
        let far = &state[self.far_place_at(cpu, code).bytes()..];
        let far = far.first_chunk().expect("it lies in a state as a whole");
        Place::from_number(u32::from_le_bytes(*far))
    }

    /// Writes a place's number, if it is far, or 0; and returns what the two bytes say.
    #[cold]
    #[inline(never)]
    fn set_far_place(&self, state: &mut State, cpu: Cpu, code: Code, place: Option<Place>) -> Near {
        let near = near(place).filter(|&near| near == Near(0) || near != code.far());
        let far = match near {
            Some(_) => 0,
            None => place.map_or(0, Place::number),
        };
        let at = self.far_place_at(cpu, code).bytes();
        state[at..at + FAR_PLACE].copy_from_slice(&far.to_le_bytes());
        near.unwrap_or(code.far())
    }
}

/// Returns what the two bytes say of a place, if they can.
#[inline(always)]
fn near(place: Option<Place>) -> Option<Near> {
    let number = place.map_or(0, Place::number);
    u16::try_from(number).ok().map(Near)
}
