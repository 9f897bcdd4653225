//! Answers a test: all executions, on the machine of `lazytlb-model`.
//!
//! A thread becomes one operation of a program for `lazytlb-check`: real code, which interprets the
//! instructions and asks the machine for each access. So everything holds here that holds of a checked
//! kernel: what may be cached, what may wait in a buffer, when an interrupt comes.
//!
//! | file | what |
//! | --- | --- |
//! | `world` | names: variables, pages, tables, address spaces |
//! | `code` | instructions with their names resolved |
//! | `interpreter` | a thread, running |
//! | `names` | which names a test uses |
//! | `width` | how wide each variable is |
//! | `observer` | what is looked at in an end, and what the condition says of it |
//! | `answer`, `told` | final states and the verdict; how they and conditions are printed |

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};

use lazytlb_check::{CheckError, Checker, Program};
use lazytlb_model::cpu_model::IpiOrder;
use lazytlb_model::machine::{MOST_BUFFER_DEPTH, MOST_CPUS};
use lazytlb_model::{
    CpuModel, Cr4, LocalCell, MemoryModel, Privilege, Property, Reading, WcReadings,
};

use crate::answer::Answer;
use crate::code::{self, Line, Op, Source, Where};
use crate::interpreter::{Code, Common, MOST_LINES};
use crate::observer::Observer;
use crate::world::{Slot, Target, World, refuse};
use lazytlb_litmus_syntax::Caching;
use lazytlb_litmus_syntax::Location;
use lazytlb_litmus_syntax::Operand;
use lazytlb_litmus_syntax::Value;
use lazytlb_litmus_syntax::{Atom, Expr};
use lazytlb_litmus_syntax::{Handler, LitmusTest, Thread};
use lazytlb_litmus_syntax::{Position, SyntaxError};
use lazytlb_litmus_syntax::{Register, Width};

/// How a test is answered.
#[derive(Clone, Debug)]
pub struct Options {
    /// The CPU model.
    pub cpu_model: CpuModel,
    /// Stores are visible at once, as on no x86.
    pub sequentially_consistent: bool,
    /// Gives up, as incomplete, after this many states.
    pub max_states: u64,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            cpu_model: CpuModel::WEAKEST,
            sequentially_consistent: false,
            max_states: 20_000_000,
        }
    }
}

/// Why a test has no answer.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RunError {
    /// The test is not one that can be run: a name that nothing has, a value out of place.
    #[error(transparent)]
    Meaning(#[from] SyntaxError),
    /// The test does not fit into the model.
    #[error(transparent)]
    Check(#[from] CheckError),
    /// An execution does what the model has no rule for.
    #[error("the test has no answer: in some execution {0}")]
    Outside(String),
}

/// Why a test with still more stores is not explored to its end.
const CUT: &str = "a thread has more stores than the buffers of the model hold";
/// Stores that write-combining buffers hold at most in a test.
const MOST_COMBINING: usize = 4;

/// Explores all executions of a test.
///
/// # Errors
/// If a name or a value makes no sense, or the test does not fit into the model.
pub fn run(test: &LitmusTest, options: &Options) -> Result<Answer, RunError> {
    let cpus: Vec<&Thread> = test
        .threads
        .iter()
        .filter(|thread| thread.handler.is_none())
        .collect();
    if cpus.len() > MOST_CPUS {
        let at = Position { line: 1, column: 1 };
        let advice = "split the test";
        return Err(refuse(at, format!("{} threads", cpus.len()), "at most 8", advice).into());
    }
    let cpu_of = |id: u32| cpus.iter().position(|thread| thread.id == id);
    let mut program = Program::new(test.name.clone(), cpus.len() as u8);
    let world = World::new(test, &mut program)?;
    let settings = Settings::of(test)?;
    settings.refuse_what_is_missing(test, options.cpu_model)?;
    let mut codes = Vec::new();
    for thread in &test.threads {
        let Some(cpu) = cpu_of(thread.id) else {
            continue;
        };
        let lines = code::resolve(thread, &world, &cpu_of)?;
        if thread.handler.is_none() && settings.privilege(thread.id) == Privilege::User {
            refuse_privileged(&lines)?;
        }
        if lines.len() > MOST_LINES {
            let at = thread.instructions[MOST_LINES].position;
            let advice = "split the test";
            return Err(refuse(
                at,
                "too many instructions",
                "at most 60 in a thread",
                advice,
            )
            .into());
        }
        codes.push((cpu, thread.handler, lines));
    }
    let (buffer_depth, is_cut) = prepare(&mut program, test, &world, &settings, &codes);
    let is_translated = world.is_translated;
    if is_translated {
        program.start_with_cr4(settings.cr4());
    }
    let observer = Observer::new(test, &world, &cpu_of)?;
    for &(table, index) in &observer.slots {
        program.watch_entry(table, index);
    }
    for property in [Property::ForeignTranslation, Property::StaleSpeculation] {
        if !observer.asks_for(property) {
            program.ignore(property);
        }
    }
    let only_width = only_width(&codes, test);
    let common = Arc::new(Common {
        world,
        only_width,
        nonsense: OnceLock::new(),
    });
    let uses_interrupts = codes.iter().any(|(_, handler, lines)| {
        let sends = |line: &Line| matches!(line.op, Op::Ipi(_) | Op::Nmi(_) | Op::Halt);
        handler.is_some() || lines.iter().any(sends)
    });
    let mut handlers: [Vec<Option<Code>>; 2] = [vec![None; cpus.len()], vec![None; cpus.len()]];
    let mut private = PrivateWords::default();
    for (cpu, handler, lines) in codes {
        let id = cpus[cpu].id;
        let mut code = Code {
            common: Arc::clone(&common),
            lines: lines.into(),
            first_registers: first_registers(test, id, &common.world)?.into(),
            // An interrupt enters ring 0.
            privilege: match handler {
                None => settings.privilege(id),
                Some(_) => Privilege::Supervisor,
            },
            published: Arc::new([]),
            faults: None,
            is_undisturbed: !uses_interrupts,
        };
        match handler {
            None => {
                let published = observer.registers.iter().filter(|(of, _)| *of == cpu);
                let published: Vec<(Register, LocalCell)> = published
                    .map(|&(_, register)| {
                        let cell = program.local(cpu as u8, register.to_string(), 0);
                        private.registers.push(((cpu, register), cell));
                        (register, cell)
                    })
                    .collect();
                code.published = published.into();
                if observer.asks_for_faults_of(cpu) {
                    let cell = program.local(cpu as u8, "faults", 0);
                    private.faults.push((cpu, cell, Arc::clone(&code.lines)));
                    code.faults = Some(cell);
                }
                program.operation(cpu as u8, format!("P{id}"), move |hw| code.run(hw));
            }
            Some(Handler::Ipi) => handlers[0][cpu] = Some(code),
            Some(Handler::Nmi) => handlers[1][cpu] = Some(code),
        }
    }
    let [on_ipi, on_nmi] = handlers;
    let run_of = |codes: Vec<Option<Code>>| {
        move |hw: &lazytlb_check::ModelHw| {
            use lazytlb::Hw;
            if let Some(code) = &codes[usize::from(hw.cpu().0)] {
                code.run(hw);
            }
        }
    };
    if uses_interrupts {
        program.on_flush_interrupt(run_of(on_ipi));
    }
    if program.features().nmis {
        program.on_nmi(run_of(on_nmi));
    }
    let memory = match options.sequentially_consistent {
        true => MemoryModel::Sc,
        false => MemoryModel::Tso { buffer_depth },
    };
    let mut cpu_model = options.cpu_model;
    if let Some(readings) = settings.readings {
        cpu_model = cpu_model.with_write_combining(readings);
    }
    if settings.xapic {
        cpu_model.ipi = IpiOrder::AfterStores;
    }
    let checker = Checker::new()
        .cpu_model(cpu_model)
        .memory(memory)
        .max_states(options.max_states);
    let outcomes = checker.outcomes(&program);
    if let Some(nonsense) = common.nonsense.get() {
        return Err(nonsense.clone().into());
    }
    let mut outcomes = outcomes?;
    if is_cut && outcomes.incomplete.is_none() {
        outcomes.incomplete = Some(CUT.to_owned());
    }
    if let Some(what) = outcomes.violations.get(&Property::Panic) {
        return Err(RunError::Outside(what.clone()));
    }
    Ok(observer.answer(test, &common.world, &private, outcomes))
}

/// Where threads leave what the condition asks for.
#[derive(Default)]
pub(crate) struct PrivateWords {
    pub(crate) registers: Vec<((usize, Register), LocalCell)>,
    pub(crate) faults: Vec<(usize, LocalCell, Arc<[Line]>)>,
}

/// What a test's metadata set.
struct Settings {
    pcids: bool,
    globals: bool,
    accessed: bool,
    user_threads: Vec<u32>,
    readings: Option<WcReadings>,
    /// IPIs go through an xAPIC, whose uncached write is ordered (H36).
    xapic: bool,
}

impl Settings {
    fn of(test: &LitmusTest) -> Result<Settings, SyntaxError> {
        let is_on = |key: &str, usual: bool| match test.metadata(key) {
            None => Ok(usual),
            Some("on") => Ok(true),
            Some("off") => Ok(false),
            Some(other) => Err(bad_metadata(key, other, "write `on` or `off`")),
        };
        let mut user_threads = Vec::new();
        for name in test
            .metadata("User")
            .unwrap_or_default()
            .split(',')
            .map(str::trim)
        {
            if name.is_empty() {
                continue;
            }
            let id = name.strip_prefix('P').and_then(|id| id.parse().ok());
            let known = id.filter(|id| test.threads.iter().any(|thread| thread.id == *id));
            user_threads.push(known.ok_or_else(|| {
                bad_metadata("User", name, "name threads of the test: `User=P1`")
            })?);
        }
        Ok(Settings {
            pcids: is_on("PCIDs", false)?,
            globals: is_on("Global", true)?,
            accessed: is_on("Accessed", false)?,
            user_threads,
            readings: readings(test)?,
            xapic: match test.metadata("IPI") {
                None | Some("x2apic") => false,
                Some("xapic") => true,
                Some(other) => return Err(bad_metadata("IPI", other, "write `xapic` or `x2apic`")),
            },
        })
    }

    /// Refuses a setting that the CPU model does not have.
    fn refuse_what_is_missing(
        &self,
        test: &LitmusTest,
        cpu_model: CpuModel,
    ) -> Result<(), SyntaxError> {
        let five_levels = test.metadata("Paging") == Some("5");
        let advice = format!(
            "choose a model that has them with `--cpu`: {} does not",
            cpu_model.name
        );
        let at = Position { line: 1, column: 1 };
        if self.pcids && !cpu_model.pcids {
            return Err(refuse(at, "`PCIDs=on`", "a CPU with PCIDs", &advice));
        }
        if five_levels && !cpu_model.five_levels {
            return Err(refuse(at, "`Paging=5`", "a CPU with five levels", &advice));
        }
        Ok(())
    }

    fn cr4(&self) -> Cr4 {
        Cr4::default()
            .with(Cr4::PGE, self.globals)
            .with(Cr4::PCIDE, self.pcids)
    }

    fn privilege(&self, thread: u32) -> Privilege {
        match self.user_threads.contains(&thread) {
            true => Privilege::User,
            false => Privilege::Supervisor,
        }
    }
}

/// Refuses what ring 3 must not execute: it would be #GP, and end there.
fn refuse_privileged(lines: &[Line]) -> Result<(), SyntaxError> {
    let is_privileged = |op: &Op| {
        matches!(
            op,
            Op::Invlpg(_)
                | Op::Invpcid(_)
                | Op::InvpcidAddress(..)
                | Op::LoadCr3 { .. }
                | Op::ChangeCr4 { .. }
                | Op::Invlpgb(_)
                | Op::Tlbsync
                | Op::Cli
                | Op::Sti
                | Op::Halt
                | Op::Ipi(_)
                | Op::Nmi(_)
        )
    };
    match lines.iter().find(|line| is_privileged(&line.op)) {
        None => Ok(()),
        Some(line) => Err(refuse(
            line.position,
            "a privileged instruction in a thread of ring 3",
            "an instruction that ring 3 may execute",
            "take the thread out of `User=`, or use another thread or a handler",
        )),
    }
}

fn bad_metadata(key: &str, value: &str, advice: &str) -> SyntaxError {
    let at = Position { line: 1, column: 1 };
    refuse(at, format!("`{key}={value}`"), "another value", advice)
}

fn readings(test: &LitmusTest) -> Result<Option<WcReadings>, SyntaxError> {
    let Some(written) = test.metadata("WC") else {
        return Ok(None);
    };
    let mut readings = WcReadings::all(Reading::Started);
    for part in written.split(',').map(str::trim) {
        let bad = || {
            bad_metadata(
                "WC",
                part,
                "write `started`, `retired`, or `sfence:retired`",
            )
        };
        readings = match part.split_once(':') {
            None => WcReadings::all(Reading::by_name(part).ok_or_else(bad)?),
            Some((event, reading)) => {
                let reading = Reading::by_name(reading).ok_or_else(bad)?;
                readings.with(event, reading).ok_or_else(bad)?
            }
        };
    }
    Ok(Some(readings))
}

type Codes = [(usize, Option<Handler>, Vec<Line>)];

/// Sets what the program uses of the machine. Returns how deep store buffers must be for every reordering,
/// and whether that was cut.
fn prepare(
    program: &mut Program,
    test: &LitmusTest,
    world: &World,
    settings: &Settings,
    codes: &Codes,
) -> (u8, bool) {
    let most_on_a_cpu = |counts: fn(&Op) -> bool| {
        let on_each = codes.iter().map(|(cpu, ..)| {
            let own = codes.iter().filter(|(of, ..)| of == cpu);
            let lines = own.flat_map(|(_, _, lines)| lines);
            lines.filter(|line| counts(&line.op)).count()
        });
        on_each.max().unwrap_or(0).max(1)
    };
    let sends_ipis = codes.iter().any(|(_, _, lines)| {
        let mut ops = lines.iter().map(|line| &line.op);
        ops.any(|op| matches!(op, Op::Ipi(_) | Op::Nmi(_)))
    });
    let wanted = most_on_a_cpu(match sends_ipis {
        false => is_store,
        // H36: then an MFENCE may wait in the store buffer, too.
        true => |op| is_store(op) || *op == Op::FullFence,
    });
    let mut is_cut = wanted > usize::from(MOST_BUFFER_DEPTH);
    let lines = || codes.iter().flat_map(|(_, _, lines)| lines);
    let has = |wanted: fn(&Op) -> bool| lines().any(|line| wanted(&line.op));
    let features = program.features();
    features.page_table_entries = 0;
    if world.is_translated {
        let written: BTreeSet<Slot> = lines().filter_map(|line| entry_of(&line.op)).collect();
        let entries = world.entries_needed(&written);
        features.page_table_entries = u8::try_from(entries).unwrap_or(u8::MAX);
        features.accessed_dirty = settings.accessed;
        features.provenance = settings.accessed;
        features.broadcasts = has(|op| matches!(op, Op::Invlpgb(_) | Op::Tlbsync));
        let non_temporal = |op: &Op| {
            matches!(
                op,
                Op::Store {
                    non_temporal: true,
                    ..
                }
            )
        };
        if has(non_temporal) || mentions_other_types(test) {
            let wanted = most_on_a_cpu(may_combine);
            features.write_combining = wanted.min(MOST_COMBINING) as u8;
            is_cut |= wanted > MOST_COMBINING;
        }
    }
    features.weak_fences = sends_ipis;
    features.nmis = has(|op| matches!(op, Op::Nmi(_)))
        || codes
            .iter()
            .any(|(_, handler, _)| *handler == Some(Handler::Nmi));
    (wanted.min(usize::from(MOST_BUFFER_DEPTH)) as u8, is_cut)
}

fn is_store(op: &Op) -> bool {
    matches!(op, Op::Store { .. } | Op::Modify { .. } | Op::StoreFence)
}

/// Says whether an instruction's store may wait in a write-combining buffer: locked ones do not, and neither
/// do those without translation.
fn may_combine(op: &Op) -> bool {
    let place = match *op {
        Op::Store { to, .. } => to,
        Op::Modify {
            locked: false,
            memory,
            ..
        } => memory,
        _ => return false,
    };
    !matches!(place, Where::At(Target::Cell(_) | Target::Entry(_)))
}

/// Returns the place that an instruction reads or writes, and how wide.
fn place_of(op: &Op) -> Option<(Where, Width)> {
    match *op {
        Op::Load { from, width, .. } => Some((from, width)),
        Op::Store { to, width, .. } => Some((to, width)),
        Op::Exchange { memory, width, .. } | Op::Modify { memory, width, .. } => {
            Some((memory, width))
        }
        Op::Compute {
            source: Source::Memory(place),
            width,
            ..
        } => Some((place, width)),
        _ => None,
    }
}

/// Returns the page-table entry that an instruction names.
fn entry_of(op: &Op) -> Option<Slot> {
    match place_of(op)? {
        (Where::At(Target::Entry(slot)), _) => Some(slot),
        _ => None,
    }
}

/// Says whether a test has memory that is not write-back: accesses may wait, or types mix (H26, H28).
fn mentions_other_types(test: &LitmusTest) -> bool {
    use lazytlb_litmus_syntax::InitItem;
    use lazytlb_litmus_syntax::Instruction;
    let is_other = |value: &Value| matches!(value, Value::Entry(entry) if entry.memory_type != Caching::WriteBack);
    let in_init = test.init.iter().any(|item| match &item.value {
        InitItem::Set {
            value: Some(value), ..
        } => is_other(value),
        _ => false,
    });
    let instructions = test.threads.iter().flat_map(|thread| &thread.instructions);
    in_init
        || instructions
            .into_iter()
            .any(|instruction| match &instruction.value {
                Instruction::Mov {
                    src: Operand::Immediate(value),
                    ..
                } => is_other(value),
                _ => false,
            })
}

/// Returns the width of all accesses, if it is one, and each is to the start of its word.
fn only_width(codes: &Codes, test: &LitmusTest) -> Option<Width> {
    let mut widths = BTreeSet::new();
    for line in codes.iter().flat_map(|(_, _, lines)| lines) {
        let Some((place, width)) = place_of(&line.op) else {
            continue;
        };
        if let Where::ByRegister(_, offset) = place
            && offset != 0
        {
            return None;
        }
        if !matches!(place, Where::At(Target::Entry(_))) {
            widths.insert(width);
        }
    }
    let width = widths.first().copied().filter(|_| widths.len() == 1)?;
    // A first value that is wider than all accesses keeps its upper bytes.
    let fits = test.init.iter().all(|item| match &item.value {
        lazytlb_litmus_syntax::InitItem::Set {
            location: Location::Memory(_),
            value: Some(Value::Number(number)),
            ..
        } => u64::try_from(*number)
            .is_ok_and(|number| number <= u64::MAX >> (64 - 8 * width.bytes())),
        lazytlb_litmus_syntax::InitItem::Set {
            location: Location::Memory(_),
            value: Some(Value::Address(_)),
            ..
        } => width == Width::Quad,
        _ => true,
    });
    fits.then_some(width)
}

/// Returns what init puts into a thread's registers.
fn first_registers(
    test: &LitmusTest,
    id: u32,
    world: &World,
) -> Result<Vec<(Register, u64)>, SyntaxError> {
    let mut registers = Vec::new();
    for item in &test.init {
        if let lazytlb_litmus_syntax::InitItem::Set {
            location: Location::Register { thread, register },
            value: Some(value),
            ..
        } = &item.value
            && *thread == id
        {
            registers.push((*register, world.number(value, item.position)?));
        }
    }
    Ok(registers)
}

/// Calls `visit` with every atom of an expression.
pub(crate) fn atoms<'e>(expr: &'e Expr, visit: &mut dyn FnMut(&'e Atom, Position)) {
    match expr {
        Expr::True | Expr::False => {}
        Expr::Not(inner) => atoms(inner, visit),
        Expr::And(all) | Expr::Or(all) => all.iter().for_each(|inner| atoms(inner, visit)),
        Expr::Atom(atom) => visit(&atom.value, atom.position),
    }
}
