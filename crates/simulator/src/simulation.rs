//! A test, ready to be executed any number of times.

use lazytlb_litmus_syntax::LitmusTest;

use crate::code::Column;
use crate::cpu::{Context, Cpu};
use crate::machine::{Board, Machine, Stop};
use crate::memory::Frame;
use crate::names::FIRST_SPACE;
use crate::outcome::{End, Question};
use crate::psc::Psc;
use crate::random::Random;
use crate::readings::Amended;
use crate::registers::Registers;
use crate::resolve;
use crate::store_buffer::StoreBuffer;
use crate::temper::Temper;
use crate::tlb::Tlb;
use crate::world::World;
use crate::write_combining::{Reading, Readings, WriteCombining};

/// What an execution came to.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Outcome {
    /// The final state, as far as the condition and `locations` look, as an answer prints it; or the violation
    /// that it ended in. A table without a name is told as `oa:table`.
    pub text: String,
    /// Whether the condition's proposition holds.
    pub holds: bool,
}

/// A test that the simulator cannot run, and why.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unsupported(pub String);

impl std::fmt::Display for Unsupported {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the simulator does not know {}", self.0)
    }
}

impl std::error::Error for Unsupported {}

/// A test on the simulated machine.
#[derive(Debug)]
pub struct Simulation {
    world: World,
    columns: Vec<Column>,
    question: Question,
    board: Board,
    cpus: Vec<Cpu>,
    first_registers: Vec<Registers>,
}

impl Simulation {
    /// Prepares a test.
    ///
    /// # Errors
    /// If it names what the simulator does not have.
    pub fn new(test: &LitmusTest, amended: Amended) -> Result<Simulation, Unsupported> {
        if let Some(key) = ["MT", "MemoryType"]
            .iter()
            .find(|key| test.metadata(key).is_some())
        {
            return Err(Unsupported(format!("`{key}=`")));
        }
        let world = World::of(test).map_err(Unsupported)?;
        let columns = resolve::columns(test, &world).map_err(Unsupported)?;
        let question = Question::of(test, &world, &columns).map_err(Unsupported)?;
        let threads = resolve::threads(test);
        let root = world.root(FIRST_SPACE).unwrap_or(Frame(0));
        let is_on = |key, usual| test.metadata(key).map_or(usual, |value| value == "on");
        let (pcids, globals) = (is_on("PCIDs", false), is_on("Global", true));
        let cpus = threads.iter().map(|thread| {
            let of_thread = |column: &Column| column.thread == *thread && column.handler.is_none();
            let column = columns.iter().position(of_thread).unwrap_or(0);
            new_cpu(root, world.top, column, (pcids, globals))
        });
        let cpus = cpus.collect();
        let board = Board {
            is_translated: world.is_translated,
            tables: world.page_tables(),
            named_frames: world.named_frames(),
            devices: world.devices.clone(),
            addresses: match world.is_translated {
                true => world
                    .variables
                    .values()
                    .map(|variable| variable.address)
                    .collect(),
                false => Vec::new(),
            },
            tracks_accessed: is_on("Accessed", false),
            readings: readings(test)?,
            ordered_ipis: test.metadata("IPI") == Some("xapic"),
            amended: Amended {
                walks_across_bit_63: amended.walks_across_bit_63
                    && test.metadata("KeepLoads") != Some("end-walks"),
                ..amended
            },
        };
        let first_registers = first_registers(test, &world, &threads)?;
        Ok(Simulation {
            world,
            columns,
            question,
            board,
            cpus,
            first_registers,
        })
    }

    /// Runs one execution. `None`: it was given up, and says nothing.
    pub fn run(&self, seed: u64) -> Option<Outcome> {
        let mut random = Random::new(seed);
        let temper = Temper::draw(&mut random, self.cpus.len());
        let mut machine = Machine {
            board: &self.board,
            memory: self.world.memory.clone(),
            cpus: self.cpus.clone(),
            random,
            temper,
        };
        for (cpu, registers) in machine.cpus.iter_mut().zip(&self.first_registers) {
            cpu.contexts[0].registers = *registers;
        }
        let ended = machine.run(&self.columns);
        let threads = machine.cpus.iter();
        let threads = threads.map(|cpu| (cpu.contexts[0].registers, cpu.faults.clone()));
        let threads: Vec<_> = threads.collect();
        let end = match ended {
            Ok(()) => End::State(&threads, &machine.memory),
            Err(Stop::Violation(name)) => End::Violation(name),
            Err(Stop::Discarded) => return None,
        };
        self.question.counts(end).then(|| Outcome {
            text: self.question.text(end, &self.world),
            holds: self.question.holds(end),
        })
    }
}

fn new_cpu(root: Frame, top: u8, column: usize, (pcide, pge): (bool, bool)) -> Cpu {
    Cpu {
        root,
        top,
        cr3_low: 0,
        pcide,
        pge,
        smep: false,
        tlb: Tlb::default(),
        psc: Psc::default(),
        walks: Vec::new(),
        former: Vec::new(),
        store_buffer: StoreBuffer::default(),
        combining: WriteCombining::default(),
        stores: 0,
        youngest_left: 0,
        barriers: Vec::new(),
        updates: Vec::new(),
        untranslated: None,
        half: None,
        fence: false,
        broadcasts: Vec::new(),
        contexts: vec![Context {
            column,
            line: 0,
            registers: Registers::default(),
            interrupts_before: true,
        }],
        interrupts: true,
        halted: false,
        in_nmi: false,
        ipi_pending: false,
        nmi_pending: false,
        faults: Vec::new(),
    }
}

/// Reads what empties write-combining buffers: `WC=retired`, `WC=started,sfence:retired`.
fn readings(test: &LitmusTest) -> Result<Readings, Unsupported> {
    let mut readings = Readings::all(Reading::Started);
    let written = test.metadata("WC").unwrap_or_default().split(',');
    for part in written.map(str::trim).filter(|part| !part.is_empty()) {
        let unknown = || Unsupported(format!("WC={part}"));
        let (event, reading) = part.split_once(':').unwrap_or(("", part));
        let reading = match reading {
            "started" => Reading::Started,
            "retired" => Reading::Retired,
            _ => return Err(unknown()),
        };
        match event {
            "" => readings = Readings::all(reading),
            "sfence" => readings.sfence = reading,
            "mfence" => readings.mfence = reading,
            _ => return Err(unknown()),
        }
    }
    Ok(readings)
}

/// Returns what the init section sets registers to.
fn first_registers(
    test: &LitmusTest,
    world: &World,
    threads: &[u32],
) -> Result<Vec<Registers>, Unsupported> {
    use lazytlb_litmus_syntax::{InitItem, Location};
    let mut all = vec![Registers::default(); threads.len()];
    for item in &test.init {
        if let InitItem::Set {
            location: Location::Register { thread, register },
            value: Some(value),
            ..
        } = &item.value
        {
            let value = world.number(value).map_err(Unsupported)?;
            let cpu = threads.iter().position(|known| known == thread);
            let cpu = cpu.ok_or_else(|| Unsupported(format!("P{thread}")))?;
            all[cpu].set(*register, value);
        }
    }
    Ok(all)
}
