//! The command line: `cpus=4 policy=ipi test=all seed=1 seconds=2 break=skip-ipis apic=auto pcids=auto isolation=off expect=erratum-383`.

use core::fmt;

use lazytlb::Policy;
use spin::Once;

use crate::breaks::Break;

/// What to run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Test {
    /// The checks of instructions, counters and isolation, and the storms.
    All,
    /// What each flush promises of IPIs and skips, one by one.
    Counters,
    /// CR3 loads, INVLPG, INVPCID and CR4 changes, each after a change in memory.
    Instructions,
    /// What of the kernel is mapped in ring 3.
    Isolation,
    /// Pages: unmap, map, remap, protect.
    Pages,
    /// The same, and page tables that come and go.
    Tables,
    /// The same, and address spaces that die while lazily borrowed.
    Exit,
    /// Shootdowns in steps, of two spaces, with interrupts on and off.
    Split,
    /// Spaces whose last reference is dropped anywhere.
    Drop,
    /// Page tables that are held back for lazy CPUs, one change at a time.
    Held,
    /// Pages that change their size and their type.
    Changes,
    /// Page tables that software walks without a lock.
    Walks,
    /// The hashes of the protocol's sources.
    Sources,
    /// A panic.
    Panic,
    /// A triple fault.
    TripleFault,
    /// No progress.
    Hang,
}

impl Test {
    const NAMES: [(&'static str, Test); 16] = [
        ("all", Test::All),
        ("counters", Test::Counters),
        ("instructions", Test::Instructions),
        ("isolation", Test::Isolation),
        ("pages", Test::Pages),
        ("tables", Test::Tables),
        ("exit", Test::Exit),
        ("split", Test::Split),
        ("drop", Test::Drop),
        ("held", Test::Held),
        ("changes", Test::Changes),
        ("walks", Test::Walks),
        ("sources", Test::Sources),
        ("panic", Test::Panic),
        ("triple-fault", Test::TripleFault),
        ("hang", Test::Hang),
    ];

    /// Returns the name that people type.
    pub fn name(self) -> &'static str {
        let row = Self::NAMES.iter().find(|(_, test)| *test == self);
        row.expect("every test has a name").0
    }
}

/// Which APIC driver is used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Driver {
    /// x2APIC where the CPU has it.
    Auto,
    /// xAPIC.
    Memory,
    /// x2APIC; refused where the CPU lacks it.
    Msr,
}

/// Whether the protocol uses PCIDs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PcidsWanted {
    /// Where the CPU has them, and no erratum forbids it.
    Auto,
    /// Yes; refused where the CPU lacks them.
    On,
    /// No.
    Off,
    /// The protocol believes so, but every load flushes: for CPUs that have none.
    Pretend,
}

/// The command line, read.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// CPUs to start, this one included.
    pub cpus: usize,
    /// How lazy CPUs are treated.
    pub policy: Policy,
    /// What to run.
    pub test: Test,
    /// Where the random choices start.
    pub seed: u64,
    /// How long each storm lasts.
    pub seconds: u64,
    /// The promise to break.
    pub broken: Option<Break>,
    /// The APIC driver.
    pub apic: Driver,
    /// PCIDs.
    pub pcids: PcidsWanted,
    /// Page-table isolation: ring 3 has roots of its own.
    pub isolation: bool,
    /// The protocol is told of erratum 383, for CPUs that may come online later.
    pub expects_erratum_383: bool,
}

static OPTIONS: Once<Options> = Once::new();

/// Returns the options.
pub fn get() -> &'static Options {
    OPTIONS.get().expect("options are read first of all")
}

/// Reads the command line.
///
/// # Errors
/// The word that makes no sense; then the defaults hold.
pub fn read(line: &str) -> Result<(), &str> {
    let mut options = Options {
        cpus: 1,
        policy: Policy::IpiOnTableFree,
        test: Test::All,
        seed: 1,
        seconds: 2,
        broken: None,
        apic: Driver::Auto,
        pcids: PcidsWanted::Auto,
        isolation: false,
        expects_erratum_383: false,
    };
    let wrong = line
        .split_whitespace()
        .filter(|word| word.contains('='))
        .find(|word| set(&mut options, word).is_none());
    OPTIONS.call_once(|| options);
    wrong.map_or(Ok(()), Err)
}

/// Takes one word in, or returns `None` if it makes no sense.
fn set(options: &mut Options, word: &str) -> Option<()> {
    let (key, value) = word.split_once('=')?;
    match key {
        "cpus" => {
            options.cpus = value.parse().ok()?;
            if !(1..=crate::cpu::MAX_CPUS).contains(&options.cpus) {
                return None;
            }
        }
        "policy" => options.policy = Policy::by_name(value)?,
        "test" => options.test = Test::NAMES.iter().find(|(name, _)| *name == value)?.1,
        "seed" => options.seed = value.parse().ok()?,
        "seconds" => options.seconds = value.parse().ok()?,
        "break" => options.broken = Some(Break::by_name(value)?),
        "apic" => {
            options.apic = match value {
                "auto" => Driver::Auto,
                "xapic" => Driver::Memory,
                "x2apic" => Driver::Msr,
                _ => return None,
            }
        }
        "pcids" => {
            options.pcids = match value {
                "auto" => PcidsWanted::Auto,
                "on" => PcidsWanted::On,
                "off" => PcidsWanted::Off,
                "pretend" => PcidsWanted::Pretend,
                _ => return None,
            }
        }
        "isolation" => {
            options.isolation = match value {
                "on" => true,
                "off" => false,
                _ => return None,
            }
        }
        "expect" => match value {
            "erratum-383" => options.expects_erratum_383 = true,
            _ => return None,
        },
        _ => return None,
    }
    Some(())
}

impl fmt::Display for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Options {
            cpus, policy, seed, ..
        } = self;
        let test = self.test.name();
        write!(f, "cpus {cpus}, policy {policy}, test {test}, seed {seed}")?;
        match self.broken {
            Some(broken) => write!(f, ", break {}", broken.name()),
            None => Ok(()),
        }
    }
}
