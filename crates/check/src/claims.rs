//! What the checked code says of its words, held against what it does with them.
//!
//! A word's [`ValueKind`] is a claim. It is tested wherever the code gets to a new place: there the calls and
//! the answers on the way are known, so a search pays for each place once, and nothing for a state. A
//! claim that is false ends the check with an error; nothing ever rests on one that was not tested.
//!
//! | kind | what is tested |
//! | --- | --- |
//! | generation | it is raised by 1, or written (stored, exchanged) with a generation that this run of the code has read, or with the one after that; a wait is for such a one. No bits are set or cleared in it |
//! | CPU set | only bits of the program's CPUs are read and written. It is no number: nothing is added to it, and no wait is for "at least" |
//! | flag | only 0 and 1 are read and written, and waited for; nothing is added |
//! | message | it is only loaded and stored: no read-modify-write. One that carries a generation is written as a generation is |
//! | lock | only 0 and 1 are read and written. It is taken by a locked instruction: nobody stores a 1; nothing is added, no bit inverted |
//! | promise | it is only copied and compared: nothing is added, no bits are set or cleared, no wait is for "at least" |
//! | other | nothing |
//!
//! First values are tested too. A word with a claim is accessed as a whole, and is no page's word, which user
//! code may write through any mapping.
//!
//! What this cannot show: that a message is dead after its operation, which hangs on what other CPUs do
//! (whoever relies on it must notice a read); that a generation is not compared with a constant, or taken
//! for a number within the code (a value that was computed may equal one that was read).

use std::fmt;
use std::ops::BitOr;

use lazytlb::{CpuId, Payload, Until, ValueKind};
use lazytlb_model::{AtomicCell, Call, LocalCell, Rmw};

use crate::program::Program;

/// A word's claim that the code does not keep.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "the word \"{word}\" is made as {}, but {how}: {rule}. Make it with the kind that it has, or with \
     `ValueKind::Other`, which claims nothing",
    name_of(*kind)
)]
pub(crate) struct FalseClaim {
    word: String,
    kind: ValueKind,
    /// Who does what with it.
    how: String,
    /// What a word of this kind is good for.
    rule: &'static str,
}

/// Returns a kind's name, with its article.
fn name_of(kind: ValueKind) -> &'static str {
    match kind {
        ValueKind::Generation => "a generation",
        ValueKind::CpuSet => "a set of CPUs",
        ValueKind::Flag => "a flag",
        ValueKind::Message(Payload::Generation) => "a message that carries a generation",
        ValueKind::Message(Payload::Other) => "a message",
        ValueKind::Lock => "a lock",
        ValueKind::Promise => "a promise",
        ValueKind::Other => "anything",
    }
}

/// A rule that a use breaks.
type Broken = &'static str;

const GENERATION_VALUES: Broken = "a generation is written, and waited for, as the code has read it, or as the \
     one after that";
const GENERATION_CHANGES: Broken =
    "a generation is raised by 1, stored or exchanged; it has no bits";
const CPU_SET_VALUES: Broken = "a set of CPUs has bits of the program's CPUs only";
const CPU_SET_CHANGES: Broken =
    "a set of CPUs is no number: it is not added to, nor is it \"at least\"";
const FLAG_VALUES: Broken = "a flag is 0 or 1";
const FLAG_CHANGES: Broken = "a flag is no number: it is not added to";
const MESSAGE_CHANGES: Broken =
    "a message is stored as a whole by its sender: no read-modify-write";
const LOCK_VALUES: Broken = "a lock is 0 or 1";
const LOCK_TAKEN: Broken =
    "a lock is taken by a locked instruction: two CPUs may store a 1 at once";
const LOCK_CHANGES: Broken =
    "a lock is exchanged, set, cleared or stored: not added to, nor inverted";
const PROMISE_CHANGES: Broken = "a promise is only copied and compared";
const WHOLE: Broken = "a claim is about the whole word, and this accesses bytes of it";
const PAGE_WORD: Broken = "user code may write such a word through any mapping of the page";

/// A word of the program.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum AnyCell {
    Atomic(AtomicCell),
    Local(LocalCell),
}

/// What a call does with a word.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Use {
    Loads,
    Stores(u64),
    Modifies(Rmw, u64),
    Waits(Until),
    /// It accesses some of the word's bytes.
    AccessesBytes,
}

impl fmt::Display for Use {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Use::Loads => f.write_str("loads it"),
            Use::Stores(value) => write!(f, "stores {value:#x}"),
            Use::Modifies(Rmw::Add, value) => write!(f, "adds {value:#x}"),
            Use::Modifies(Rmw::Or, bits) => write!(f, "sets the bits {bits:#x}"),
            Use::Modifies(Rmw::And, bits) => write!(f, "keeps only the bits {bits:#x}"),
            Use::Modifies(Rmw::Xor, bits) => write!(f, "inverts the bits {bits:#x}"),
            Use::Modifies(Rmw::Swap, value) => write!(f, "exchanges it for {value:#x}"),
            Use::Modifies(Rmw::SwapIf(expected), value) => {
                write!(f, "exchanges it for {value:#x} if it is {expected:#x}")
            }
            Use::Waits(Until::Zero) => f.write_str("waits until it is 0"),
            Use::Waits(Until::Equals(value)) => write!(f, "waits until it is {value:#x}"),
            Use::Waits(Until::AtLeast(value)) => {
                write!(f, "waits until it is {value:#x} or more")
            }
            Use::AccessesBytes => f.write_str("accesses bytes of it"),
        }
    }
}

/// Returns the word that a call names, and what it does with it.
fn use_of(call: &Call) -> Option<(AnyCell, Use)> {
    let of_bytes = |bytes: u8, whole: Use| match bytes {
        0 | 0xff => whole,
        _ => Use::AccessesBytes,
    };
    let (cell, what) = match *call {
        Call::Load(cell) => (AnyCell::Atomic(cell), Use::Loads),
        Call::Store(cell, value) => (AnyCell::Atomic(cell), Use::Stores(value)),
        Call::Rmw(cell, rmw, operand) => (AnyCell::Atomic(cell), Use::Modifies(rmw, operand)),
        Call::PauseUntil(cell, until) => (AnyCell::Atomic(cell), Use::Waits(until)),
        Call::StoreBytes { cell, bytes, value } => {
            (AnyCell::Atomic(cell), of_bytes(bytes, Use::Stores(value)))
        }
        Call::RmwBytes {
            cell,
            bytes,
            rmw,
            operand,
        } => (
            AnyCell::Atomic(cell),
            of_bytes(bytes, Use::Modifies(rmw, operand)),
        ),
        Call::LoadLocal(cell) => (AnyCell::Local(cell), Use::Loads),
        Call::StoreLocal(cell, value) => (AnyCell::Local(cell), Use::Stores(value)),
        Call::Fence
        | Call::DisableInterrupts
        | Call::RestoreInterrupts(_)
        | Call::SendIpi(_)
        | Call::LoadCr3(..)
        | Call::Invlpg(_)
        | Call::ReadEntry(..)
        | Call::WriteEntry(..)
        | Call::WriteEntryBytes { .. }
        | Call::RmwEntryBytes { .. }
        | Call::AllocFrame(_)
        | Call::FreeFrame(_)
        | Call::Touch(..)
        | Call::PromiseBegins(..)
        | Call::PromiseKept(_)
        | Call::FlushBegins(..)
        | Call::FlushReturned(_)
        | Call::RmwEntry(..)
        | Call::StoreFence
        | Call::LoadFence
        | Call::Serialize
        | Call::WriteCr4(_)
        | Call::ChangeCr4 { .. }
        | Call::Invpcid(_)
        | Call::Invlpgb(_)
        | Call::Tlbsync
        | Call::LoadVirtual(..)
        | Call::StoreVirtual { .. }
        | Call::RmwVirtual { .. }
        | Call::Fetch(..)
        | Call::TouchNonTemporal(_)
        | Call::ReadDevice(_)
        | Call::SendNmi(_)
        | Call::Halt
        | Call::Breaks(_) => return None,
    };
    Some((cell, what))
}

/// Tests the claims of a program's words.
#[derive(Clone, Copy)]
pub(crate) struct Claims<'p> {
    program: &'p Program,
}

impl<'p> Claims<'p> {
    pub(crate) fn of(program: &'p Program) -> Self {
        Claims { program }
    }

    /// Tests what the words hold at the start, and that no page has one that claims something.
    pub(crate) fn test_first_values(self) -> Result<(), FalseClaim> {
        let own = self.program.own_cells.iter().flatten();
        for word in self.program.atomics.iter().chain(own) {
            let how = format!("it begins as {:#x}", word.first_value);
            self.holds_value(word.kind, word.first_value)
                .map_err(|rule| FalseClaim {
                    word: word.name.clone(),
                    kind: word.kind,
                    how,
                    rule,
                })?;
        }
        for cell in self.program.page_words.iter().flatten() {
            let claimed = self.program.atomics.get(usize::from(cell.0));
            if let Some(word) = claimed.filter(|word| word.kind != ValueKind::Other) {
                return Err(FalseClaim {
                    word: word.name.clone(),
                    kind: word.kind,
                    how: "it lies in a page or a device".to_owned(),
                    rule: PAGE_WORD,
                });
            }
        }
        Ok(())
    }

    /// Tests the answer that the code got last, and the call that it makes next, if it makes one. Those before
    /// them were tested when the code got there. `routine` is its name for people.
    pub(crate) fn test(
        self,
        cpu: CpuId,
        routine: &str,
        log: &[(Call, u64)],
        next: Option<&Call>,
    ) -> Result<(), FalseClaim> {
        let false_claim = |cell, kind, what: String, rule| FalseClaim {
            word: self.name(cell).to_owned(),
            kind,
            how: format!("CPU {} {what} in \"{routine}\"", cpu.0),
            rule,
        };
        if let Some((cell, kind, answer)) = log.last().and_then(|entry| self.read_by(entry)) {
            self.holds_value(kind, answer)
                .map_err(|rule| false_claim(cell, kind, format!("reads {answer:#x}"), rule))?;
        }
        if let Some((cell, what)) = next.and_then(use_of) {
            let kind = self.kind(cell);
            self.allows(kind, what, log)
                .map_err(|rule| false_claim(cell, kind, what.to_string(), rule))?;
        }
        Ok(())
    }

    /// Says whether a word of a kind may hold a value.
    fn holds_value(self, kind: ValueKind, value: u64) -> Result<(), Broken> {
        let (holds, rule) = match kind {
            ValueKind::CpuSet => (self.has_cpus_only(value), CPU_SET_VALUES),
            ValueKind::Flag => (value <= 1, FLAG_VALUES),
            ValueKind::Lock => (value <= 1, LOCK_VALUES),
            ValueKind::Generation
            | ValueKind::Message(_)
            | ValueKind::Promise
            | ValueKind::Other => return Ok(()),
        };
        if holds { Ok(()) } else { Err(rule) }
    }

    /// Says whether a word of a kind may be used in a way, after these calls and answers.
    fn allows(self, kind: ValueKind, what: Use, log: &[(Call, u64)]) -> Result<(), Broken> {
        if kind == ValueKind::Other {
            return Ok(());
        }
        if what == Use::AccessesBytes {
            return Err(WHOLE);
        }
        match kind {
            ValueKind::Generation => self.allows_generation(what, log),
            ValueKind::Message(payload) => match (what, payload) {
                (Use::Modifies(..), _) => Err(MESSAGE_CHANGES),
                (_, Payload::Generation) => self.allows_generation(what, log),
                (_, Payload::Other) => Ok(()),
            },
            ValueKind::CpuSet => match what {
                Use::Modifies(Rmw::Add, _) | Use::Waits(Until::AtLeast(_)) => Err(CPU_SET_CHANGES),
                _ => self.holds_operand(kind, what),
            },
            ValueKind::Flag => match what {
                Use::Modifies(Rmw::Add, _) => Err(FLAG_CHANGES),
                _ => self.holds_operand(kind, what),
            },
            ValueKind::Lock => match what {
                Use::Stores(1) => Err(LOCK_TAKEN),
                Use::Modifies(Rmw::Add | Rmw::Xor, _) => Err(LOCK_CHANGES),
                _ => self.holds_operand(kind, what),
            },
            ValueKind::Promise => match what {
                Use::Modifies(Rmw::Add | Rmw::Or | Rmw::And | Rmw::Xor, _)
                | Use::Waits(Until::AtLeast(_)) => Err(PROMISE_CHANGES),
                _ => Ok(()),
            },
            ValueKind::Other => Ok(()),
        }
    }

    /// Says whether a use of a word brings only values that a word of the kind may hold.
    fn holds_operand(self, kind: ValueKind, what: Use) -> Result<(), Broken> {
        match what {
            Use::Stores(value)
            | Use::Modifies(Rmw::Add | Rmw::Or | Rmw::Xor | Rmw::Swap | Rmw::SwapIf(_), value)
            | Use::Waits(Until::Equals(value) | Until::AtLeast(value)) => {
                self.holds_value(kind, value)
            }
            // To keep only some bits sets none.
            Use::Loads
            | Use::Modifies(Rmw::And, _)
            | Use::Waits(Until::Zero)
            | Use::AccessesBytes => Ok(()),
        }
    }

    fn allows_generation(self, what: Use, log: &[(Call, u64)]) -> Result<(), Broken> {
        let read = |value| match self.has_read_generation(log, value) {
            true => Ok(()),
            false => Err(GENERATION_VALUES),
        };
        match what {
            Use::Loads | Use::Modifies(Rmw::Add, 1) => Ok(()),
            Use::Stores(value) | Use::Modifies(Rmw::Swap, value) => read(value),
            Use::Modifies(Rmw::SwapIf(expected), value) => {
                read(expected).and_then(|()| read(value))
            }
            Use::Waits(Until::Equals(value) | Until::AtLeast(value)) => read(value),
            Use::Waits(Until::Zero) => Err(GENERATION_VALUES),
            Use::Modifies(Rmw::Add | Rmw::Or | Rmw::And | Rmw::Xor, _) | Use::AccessesBytes => {
                Err(GENERATION_CHANGES)
            }
        }
    }

    /// Says whether a value is a generation that was read, from any word that holds one, or the one after it.
    fn has_read_generation(self, log: &[(Call, u64)], value: u64) -> bool {
        log.iter()
            .filter_map(|entry| self.read_by(entry))
            .any(|(_, kind, answer)| {
                let is_generation = match kind {
                    ValueKind::Generation | ValueKind::Message(Payload::Generation) => true,
                    ValueKind::CpuSet
                    | ValueKind::Flag
                    | ValueKind::Message(Payload::Other)
                    | ValueKind::Lock
                    | ValueKind::Promise
                    | ValueKind::Other => false,
                };
                is_generation && (value == answer || value == answer.wrapping_add(1))
            })
    }

    /// Returns the word whose value a call has returned, with its kind and that value.
    fn read_by(self, &(ref call, answer): &(Call, u64)) -> Option<(AnyCell, ValueKind, u64)> {
        match use_of(call)? {
            (cell, Use::Loads | Use::Modifies(..)) => Some((cell, self.kind(cell), answer)),
            (_, Use::Stores(_) | Use::Waits(_) | Use::AccessesBytes) => None,
        }
    }

    fn has_cpus_only(self, bits: u64) -> bool {
        // Of a set of several words, any may be this one.
        let bit = |number: CpuId| number.word_and_bit().1;
        bits & !self.program.cpu_numbers().map(bit).fold(0, BitOr::bitor) == 0
    }

    /// Returns what a word claims. A word of another program claims nothing: the machine refuses it.
    fn kind(self, cell: AnyCell) -> ValueKind {
        match cell {
            AnyCell::Atomic(cell) => self.program.atomics.get(usize::from(cell.0)),
            AnyCell::Local(cell) => {
                let own = self.program.own_cells.get(usize::from(cell.owner));
                own.and_then(|own| own.get(usize::from(cell.index)))
            }
        }
        .map_or(ValueKind::Other, |word| word.kind)
    }

    fn name(self, cell: AnyCell) -> &'p str {
        match cell {
            AnyCell::Atomic(cell) => self.program.atomic_name(cell),
            AnyCell::Local(cell) => self.program.local_name(cell),
        }
    }
}
