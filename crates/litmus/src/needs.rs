//! What a test needs of the machine: how deep its buffers are, which parts of it are used, how wide its
//! accesses are. What is not used costs nothing in a search.

use std::collections::BTreeSet;

use lazytlb_check::Program;
use lazytlb_litmus_syntax::{
    Caching, Handler, InitItem, Instruction, LitmusTest, Location, Operand, Value, Width,
};
use lazytlb_model::machine::MOST_BUFFER_DEPTH;

use crate::code::{Atomicity, Control, Hint, Modify, Op, Routine, Where};
use crate::loops::MOST_JUMPS_BACK;
use crate::settings::Settings;
use crate::world::{Target, World};

/// Why a test with still more stores is not explored to its end.
const CUT: &str = "a thread has more stores than the buffers of the model hold";
/// Stores that write-combining buffers hold at most in a test.
const MOST_COMBINING: usize = 4;
/// Page-table entries to spare for what is read as one by mistake.
const SPARE_ENTRIES: usize = 4;

/// The buffers that a test needs for every reordering that it could show.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Buffers {
    /// Stores that a store buffer holds.
    pub(crate) store_depth: u8,
    /// Stores that a write-combining buffer holds.
    combining: u8,
    /// Why that is less than the test could need, if it is.
    pub(crate) cut: Option<&'static str>,
}

impl Buffers {
    /// Finds what the routines of a test can fill.
    pub(crate) fn of(
        test: &LitmusTest,
        world: &World,
        settings: &Settings,
        routines: &[Routine],
    ) -> Buffers {
        let sends_ipis = any(routines, sends_interrupt);
        let stores = most_on_a_cpu(routines, |op| {
            // H36: where IPIs are sent, an MFENCE may wait in the store buffer, too.
            is_store(op) || sends_ipis && *op == Op::Control(Control::FullFence)
        });
        let combines = world.is_translated
            && (any(routines, is_non_temporal)
                || settings.have_other_caching()
                || mentions_other_caching(test));
        let combining = match combines {
            true => most_on_a_cpu(routines, may_combine),
            false => 0,
        };
        let most_stores = usize::from(MOST_BUFFER_DEPTH);
        let is_cut = stores > most_stores || combining > MOST_COMBINING;
        Buffers {
            store_depth: stores.min(most_stores) as u8,
            combining: combining.min(MOST_COMBINING) as u8,
            cut: is_cut.then_some(CUT),
        }
    }
}

/// Sets what a program uses of the machine.
pub(crate) fn set_features(
    program: &mut Program,
    world: &World,
    settings: &Settings,
    routines: &[Routine],
    buffers: Buffers,
) {
    let features = program.features();
    features.page_table_entries = 0;
    features.promises = 0;
    if world.is_translated {
        let written = ops(routines).filter_map(Op::entry).collect();
        let entries = world.addressed.union(&written).count() + SPARE_ENTRIES;
        // The checker refuses so many entries.
        features.page_table_entries = u8::try_from(entries).unwrap_or(u8::MAX);
        features.accessed_dirty = settings.tracks_accessed;
        features.provenance = settings.tracks_accessed;
        features.broadcasts = any(routines, |op| {
            let control = op.control();
            matches!(control, Some(Control::Invlpgb(_) | Control::Tlbsync))
        });
        features.write_combining = buffers.combining;
        features.partial_entry_stores = any(routines, may_store_part_of_entry);
    }
    features.fetches = any(routines, |op| matches!(op, Op::Fetch(_)));
    features.weak_fences = any(routines, sends_interrupt);
    let handles = |handler| {
        routines
            .iter()
            .any(|routine| routine.handler == Some(handler))
    };
    features.nmis =
        handles(Handler::Nmi) || any(routines, |op| matches!(op.control(), Some(Control::Nmi(_))));
}

/// Says whether the test has interrupts: a handler, or an instruction for them.
pub(crate) fn uses_interrupts(routines: &[Routine]) -> bool {
    routines.iter().any(|routine| routine.handler.is_some())
        || any(routines, |op| {
            sends_interrupt(op) || *op == Op::Control(Control::Halt)
        })
}

/// Returns the width of all accesses, if it is one, and each is to the start of its word.
pub(crate) fn only_width(test: &LitmusTest, routines: &[Routine]) -> Option<Width> {
    let mut widths = BTreeSet::new();
    for access in ops(routines).filter_map(Op::word_access) {
        match access.place {
            // What a register holds may have been computed: it may lie within a word.
            Where::ByRegister(..) => return None,
            Where::At(Target::Entry(_)) => {}
            Where::At(Target::Cell(_) | Target::Virtual(_)) => {
                widths.insert(access.width);
            }
        }
    }
    let width = widths.first().copied().filter(|_| widths.len() == 1)?;
    // A first value that is wider than all accesses keeps its upper bytes.
    let fits = test.init.iter().all(|item| match &item.value {
        InitItem::Set {
            location: Location::Memory(_),
            value: Some(value),
            ..
        } => fits(value, width),
        InitItem::Set { .. }
        | InitItem::Address { .. }
        | InitItem::Frame(_)
        | InitItem::Table(_)
        | InitItem::Device(_) => true,
    });
    fits.then_some(width)
}

/// Says whether a first value has no bytes beyond a width.
fn fits(value: &Value, width: Width) -> bool {
    match value {
        Value::Number(number) => *number >= 0 && width.holds(*number),
        Value::Address(_) => width == Width::Quad,
        // No variable has one: it is an entry's, which is not among the accesses.
        Value::EntryAddress(_) | Value::Frame(_) | Value::Entry(_) | Value::Cr3(_) => true,
    }
}

fn ops(routines: &[Routine]) -> impl Iterator<Item = &Op> {
    let lines = routines.iter().flat_map(|routine| &routine.lines);
    lines.map(|line| &line.op)
}

fn any(routines: &[Routine], is_it: impl Fn(&Op) -> bool) -> bool {
    ops(routines).any(is_it)
}

/// Counts operations on the CPU that has most of them to run, its handlers' included; 1 at least.
fn most_on_a_cpu(routines: &[Routine], counts: impl Fn(&Op) -> bool) -> usize {
    let on_cpu_of = |routine: &Routine| {
        let own = routines.iter().filter(|other| other.cpu == routine.cpu);
        let times = own.map(|routine| {
            let lines = routine.lines.iter().enumerate();
            let counted = lines.filter(|(_, line)| counts(&line.op));
            counted
                .map(|(number, _)| most_runs(routine, number))
                .sum::<usize>()
        });
        times.sum()
    };
    routines.iter().map(on_cpu_of).max().unwrap_or(0).max(1)
}

/// Returns how often a line may run: in a loop, as often as loops are run through.
fn most_runs(routine: &Routine, number: usize) -> usize {
    let lines = routine.lines.iter().enumerate();
    let mut loops = lines.filter_map(|(last, line)| match line.op {
        Op::Jump { to, .. } if to <= last => Some(to..=last),
        _ => None,
    });
    match loops.any(|lines| lines.contains(&number)) {
        true => MOST_JUMPS_BACK + 1,
        false => 1,
    }
}

fn sends_interrupt(op: &Op) -> bool {
    op.control().is_some_and(Control::sends_interrupt)
}

/// Says whether an instruction can leave something in the store buffer.
fn is_store(op: &Op) -> bool {
    match op {
        Op::Store { .. } | Op::Modify(_) => true,
        Op::Control(control) => *control == Control::StoreFence,
        Op::Load { .. }
        | Op::Set { .. }
        | Op::Exchange { .. }
        | Op::ExchangeRegisters(..)
        | Op::Compute { .. }
        | Op::Compare { .. }
        | Op::Jump { .. }
        | Op::Touch(_)
        | Op::Wait { .. }
        | Op::Fetch(_) => false,
    }
}

fn is_non_temporal(op: &Op) -> bool {
    matches!(
        op,
        Op::Store {
            hint: Hint::NonTemporal,
            ..
        }
    )
}

/// Says whether an instruction may store some bytes of a page-table entry, without LOCK: by its name, by a register,
/// or where the entry's table is mapped.
fn may_store_part_of_entry(op: &Op) -> bool {
    let (place, width) = match *op {
        Op::Store { to, width, .. } => (to, width),
        Op::Modify(Modify {
            atomicity: Atomicity::Plain,
            memory,
            width,
            ..
        }) => (memory, width),
        _ => return false,
    };
    width != Width::Quad && !matches!(place, Where::At(Target::Cell(_)))
}

/// Says whether an instruction's store may wait in a write-combining buffer: locked ones do not, and neither
/// do those without translation.
fn may_combine(op: &Op) -> bool {
    let place = match *op {
        Op::Store { to, .. } => to,
        Op::Modify(Modify {
            atomicity: Atomicity::Plain,
            memory,
            ..
        }) => memory,
        Op::Modify(_)
        | Op::Load { .. }
        | Op::Set { .. }
        | Op::Exchange { .. }
        | Op::ExchangeRegisters(..)
        | Op::Compute { .. }
        | Op::Compare { .. }
        | Op::Jump { .. }
        | Op::Touch(_)
        | Op::Wait { .. }
        | Op::Fetch(_)
        | Op::Control(_) => return false,
    };
    !matches!(place, Where::At(Target::Cell(_) | Target::Entry(_)))
}

/// Says whether a test has memory that is not write-back: accesses may wait, or types mix (H26, H28).
fn mentions_other_caching(test: &LitmusTest) -> bool {
    let is_other = |value: &Value| match value {
        Value::Entry(entry) => entry.memory_type != Caching::WriteBack,
        Value::Number(_) | Value::Address(_) | Value::EntryAddress(_) => false,
        Value::Frame(_) | Value::Cr3(_) => false,
    };
    let in_init = test.init.iter().any(|item| match &item.value {
        InitItem::Set { value, .. } => value.as_ref().is_some_and(is_other),
        InitItem::Address { .. }
        | InitItem::Frame(_)
        | InitItem::Table(_)
        | InitItem::Device(_) => false,
    });
    let instructions = test.threads.iter().flat_map(|thread| &thread.instructions);
    let mut immediates = instructions.filter_map(|located| immediate(&located.value));
    in_init || immediates.any(is_other)
}

/// Returns the value that an instruction has as its source.
fn immediate(instruction: &Instruction) -> Option<&Value> {
    let (Instruction::Mov { src, .. }
    | Instruction::Xchg { src, .. }
    | Instruction::Alu { src: Some(src), .. }
    | Instruction::Movnti { src, .. }) = instruction
    else {
        return None;
    };
    match src {
        Operand::Immediate(value) => Some(value),
        Operand::Register(_) | Operand::Memory(_) => None,
    }
}
