//! Loops of a thread: how long they are run through, and which rounds stand for all others.
//!
//! A round that has changed nothing, of the thread or of the machine, need not be made: whatever may come after
//! it may come before it as well. An execution with such a round is not followed; those without it have all its
//! ends. A loop that changes something is followed for so many rounds, and cut then.

use std::collections::BTreeMap;

use crate::flags::Flags;
use crate::registers::Registers;

/// Jumps backward that a thread is followed through.
pub(crate) const MOST_JUMPS_BACK: usize = 30;
/// Instructions that a thread with a loop is followed through. Each makes at most four calls, and the checker
/// takes a thousand calls for a loop without end.
const MOST_INSTRUCTIONS: usize = 240;

/// What a thread has done in its loops so far.
#[derive(Default)]
pub(crate) struct Loops {
    jumps_back: usize,
    instructions: usize,
    /// Instructions so far that may have changed the machine.
    effects: usize,
    /// The thread at its last jump back to each line.
    heads: BTreeMap<usize, Head>,
}

/// A thread as it comes to the head of a loop.
#[derive(PartialEq, Eq)]
struct Head {
    registers: Registers,
    flags: Flags,
    effects: usize,
}

/// Why a thread is not followed any further.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum End {
    /// Its last round has changed nothing: other executions have the same ends.
    Redundant,
    /// It has had so many rounds.
    Cut,
}

impl Loops {
    /// Counts an instruction; `effect`: it may have changed the machine.
    pub(crate) fn count(&mut self, effect: Effect) {
        self.instructions += 1;
        self.effects += usize::from(effect == Effect::Possible);
    }

    /// Learns that the thread jumps back to a line.
    pub(crate) fn jumps_back(
        &mut self,
        line: usize,
        registers: &Registers,
        flags: Flags,
    ) -> Result<(), End> {
        self.jumps_back += 1;
        let head = Head {
            registers: registers.clone(),
            flags,
            effects: self.effects,
        };
        if self.heads.get(&line) == Some(&head) {
            return Err(End::Redundant);
        }
        self.heads.insert(line, head);
        match self.jumps_back > MOST_JUMPS_BACK || self.instructions > MOST_INSTRUCTIONS {
            true => Err(End::Cut),
            false => Ok(()),
        }
    }
}

/// Whether an instruction may have changed the machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Effect {
    None,
    Possible,
}
