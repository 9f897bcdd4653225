//! Seeded bugs: is the checker able to find any?
//!
//! A proof of the protocol is worth what the checker would have caught. So here is the protocol
//! many times over, each time with *one line* removed, added, replaced or moved: bugs that a reviewer
//! would think of, and some that shipped in Linux. Each is caught by a *named* property in a *named*
//! program, in which the real protocol is safe.
//!
//! ```text
//!   lazytlb/src/{switch,shootdown,…}.rs ──┐
//!   check/src/protocol/{…,adapter}.rs     ┼─ build/ ─► the protocol as a module, over the seam of the real crate; a
//!   mutants.toml: one-line diffs ─────────┘            number chooses, as it runs, the body that a mutant has changed
//!                        │                                              │
//!                        └───► tests/claims.rs: one test for each ◄── lazytlb-check
//! ```
//!
//! # To add a bug
//! Add a row to `mutants.toml`: a diff of one line, the program and the policy, and what to expect
//! under each memory model. The module, the registry's entry and the test come from that. A diff that
//! does not match the sources at exactly one place fails the build: the table follows the protocol.
//!
//! To find where a new bug shows, or to see how, look at its verdict:
//! ```text
//! cargo run --release -p lazytlb-mutants --example verdict -- NAME                 # everywhere
//! cargo run --release -p lazytlb-mutants --example verdict -- NAME PROGRAM POLICY MEMORY
//! ```
//!
//! # Without a program
//! A program that was written for a bug shows that the checker can find it, once one knows where to look. So each row
//! also says which of a few *menus* at the table's top finds it first: sets of operations, of which each CPU starts
//! whatever it likes, for ever. Some bugs are found so alone, and by no shipped program. Where no menus find one, the row
//! names the operation that they lack.
//! ```text
//! cargo run --profile checks -p lazytlb-mutants --example menus -- [NAME]      # what finds which, first
//! ```
//!
//! # What survives
//! Some changes are caught nowhere because they are no bugs: the row then says in `harmless` why,
//! and its test claims that the mutant is safe: in every program over menus, too, in which the change mattered. A second
//! diff, `reached`, panics where it would, and is caught there. They tell which lines only save time, and
//! which are stronger than they must be.
//!
//! # What this cannot show
//! That *every* bug is caught: the rows are examples. The seam (`addr`, `broadcast`, `compare_exchange`, `cpu_set`,
//! `hw`, `memory`, `pcids`, `words`) is shared with the real crate, and so never mutated.
#![forbid(unsafe_code)]

use std::cell::Cell;

thread_local! {
    /// The number of the change that the running code has; 0 for none.
    static CHOSEN: Cell<u32> = const { Cell::new(0) };
}

/// Says by its number which change the running code has, to a function that more than one change is about.
macro_rules! chosen {
    () => {
        crate::CHOSEN.get()
    };
}

/// Makes a body a function of its own: else, one that many changes are about needs stack for all their bodies.
macro_rules! apart {
    ($body:expr) => {
        crate::apart(move || $body)
    };
}

/// Does it, where its caller ends.
#[inline(never)]
fn apart<R>(body: impl FnOnce() -> R) -> R {
    body()
}

/// The protocols, generated: `switchable`, in which a number chooses a mutant, and one for each that is more than a function's body.
mod protocols {
    include!(concat!(env!("OUT_DIR"), "/protocols.rs"));
}

use lazytlb::Policy;
use lazytlb_check::{CheckError, Checker, Program, Protocol, Reduction, ShippedProgram, Verdict};
use lazytlb_model::{CpuModel, MemoryModel, Property};

/// A protocol that differs from the real one in one line, and where that shows.
#[derive(Clone, Copy, Debug)]
pub struct Mutant {
    /// Its name: what was changed.
    pub name: &'static str,
    /// The bug of `SOURCES.md` (Z1 to Z9) that it is, or is like.
    pub history: Option<&'static str>,
    /// Why it is tempting, and what goes wrong.
    pub about: &'static str,
    /// Why it is no bug, if it is none.
    pub harmless: Option<&'static str>,
    /// The file of `lazytlb` that is changed.
    pub file: &'static str,
    /// The change.
    pub diff: &'static str,
    /// The program that exposes it.
    pub program: &'static str,
    /// The policy under which it shows.
    pub policy: &'static str,
    /// The CPU model on which it shows.
    pub cpu_model: &'static str,
    /// The slots that each CPU has for PCIDs; 0 if PCIDs are off.
    pub slots: u8,
    /// The global ids that there are; 0 if nothing is broadcast.
    pub global_ids: u8,
    /// Whether its menus are those with page-table isolation.
    pub isolated: bool,
    /// What no menus have that it takes to see it, if they do not find it.
    pub menus_lack: Option<&'static str>,
    sc: &'static str,
    tso: &'static str,
    menus: Option<&'static str>,
    menus_memory: Option<&'static str>,
    menus_find: Option<&'static str>,
    reached: Option<Build>,
    build: Build,
}

/// What makes programs of a protocol.
#[derive(Clone, Copy, Debug)]
struct Build {
    /// The change that its code has, where a number chooses; 0 for none.
    number: u32,
    /// Makes a program under a policy, by its name.
    make: fn(&str, Policy) -> Option<Program>,
}

/// A protocol that differs from the real one at one place, and of which nothing is claimed: see `cargo xtask mutate-protocol`.
#[derive(Clone, Copy, Debug)]
pub struct Change {
    /// Its name: a file, a line and a number.
    pub name: &'static str,
    /// Without PCIDs, with one slot, with two; with a global id and one slot, with it and two; with two ids and one slot.
    builds: [Build; 6],
}

impl Change {
    /// Checks the changed protocol. It ends when it has met so many states: some changes have no end.
    ///
    /// # Errors
    /// If the checker cannot give a verdict.
    ///
    /// # Panics
    /// If there is no such program, or none is compiled with so many slots and global ids.
    pub fn check_within(
        &self,
        scenario: Scenario<'_>,
        most_states: u64,
    ) -> Result<Verdict, CheckError> {
        let build = match (scenario.slots, scenario.global_ids) {
            (slots @ 0..=2, 0) => usize::from(slots),
            (1, 1) => 3,
            (2, 1) => 4,
            (1, 2) => 5,
            other => panic!("nothing is checked with so many slots and global ids: {other:?}"),
        };
        let build = self.builds[build];
        try_check_within(build, scenario, most_states)
    }
}

/// Sets of operations, one for each CPU: together, every program over them.
#[derive(Clone, Copy, Debug)]
pub struct Menus {
    /// What the table calls them.
    pub name: &'static str,
    /// Whether they are for rows with PCIDs.
    pub pcids: bool,
    /// Whether they are for rows with global ids.
    pub broadcasts: bool,
    /// Whether they are for rows with page-table isolation.
    pub isolated: bool,
    /// The program's name, which has the sets in it.
    pub program: &'static str,
}

impl Menus {
    /// Finds menus by their name.
    pub fn by_name(name: &str) -> Option<&'static Menus> {
        MENUS.iter().find(|menus| menus.name == name)
    }
}

/// What menus make of a mutant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ByMenus {
    /// They find that it violates a property.
    Violates(Property),
    /// The checker refuses it: it does more with generations than compare them.
    Refused,
}

include!(concat!(env!("OUT_DIR"), "/registry.rs"));

/// Where a protocol is checked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Scenario<'a> {
    /// The program's name: a shipped one.
    pub program: &'a str,
    /// The policy.
    pub policy: Policy,
    /// The CPU model.
    pub cpu_model: CpuModel,
    /// The slots that each CPU has for PCIDs; 0 if PCIDs are off. Of a mutant, its row decides.
    pub slots: u8,
    /// The global ids that there are; 0 if nothing is broadcast. Of a mutant, its row decides.
    pub global_ids: u8,
    /// The memory model.
    pub memory: MemoryModel,
}

impl Mutant {
    /// Finds a mutant by its name.
    pub fn by_name(name: &str) -> Option<&'static Mutant> {
        MUTANTS.iter().find(|mutant| mutant.name == name)
    }

    /// Lists the menus that the mutant is asked of, from the smallest on.
    pub fn asked_of(&self) -> impl Iterator<Item = &'static Menus> + use<> {
        let its = (self.slots > 0, self.global_ids > 0, self.isolated);
        MENUS
            .iter()
            .filter(move |menus| (menus.pcids, menus.broadcasts, menus.isolated) == its)
    }

    /// Returns where the mutant shows, under a memory model.
    ///
    /// # Panics
    /// If the table names a policy or a CPU model that does not exist.
    pub fn scenario(&self, memory: MemoryModel) -> Scenario<'static> {
        let policy = Policy::by_name(self.policy);
        Scenario {
            program: self.program,
            policy: policy.expect("the table names policies by their names"),
            cpu_model: CpuModel::by_name(self.cpu_model).expect("the table names CPU models"),
            slots: self.slots,
            global_ids: self.global_ids,
            memory,
        }
    }

    /// Returns the property that the mutant violates under a memory model; `None` where it is safe.
    ///
    /// # Panics
    /// If the table names a property that does not exist.
    pub fn expected(&self, memory: MemoryModel) -> Option<Property> {
        let wanted = match memory {
            MemoryModel::Sc => self.sc,
            MemoryModel::Tso { .. } => self.tso,
        };
        if wanted == "safe" {
            return None;
        }
        Some(property(wanted))
    }

    /// Returns where the first of the menus shows the mutant; or, if it is harmless, proves it so, under either memory
    /// model: then it is sequentially consistent.
    ///
    /// # Panics
    /// If the table names menus or a memory model that do not exist.
    pub fn by_menus(&self) -> Option<Scenario<'static>> {
        let menus = Menus::by_name(self.menus?).expect("the table names its menus");
        let memory = match self.menus_memory {
            None | Some("sc") => MemoryModel::Sc,
            Some("tso") => MemoryModel::TSO,
            Some(other) => panic!("no memory model is called {other}"),
        };
        Some(Scenario {
            program: menus.program,
            ..self.scenario(memory)
        })
    }

    /// Returns what the menus make of the mutant; `None` if it is proved safe, or none finds it.
    ///
    /// # Panics
    /// If the table names a property that does not exist.
    pub fn expected_by_menus(&self) -> Option<ByMenus> {
        Some(match self.menus_find? {
            "refused" => ByMenus::Refused,
            wanted => ByMenus::Violates(property(wanted)),
        })
    }

    /// Checks the protocol that panics where the change of a harmless mutant would matter.
    ///
    /// # Panics
    /// As [`Mutant::check`]; and if the row has none.
    pub fn check_reached(&self, scenario: Scenario<'_>) -> Verdict {
        let build = self
            .reached
            .expect("harmless rows say where they are reached");
        check(build, scenario, Reduction::CollapseLocal)
    }

    /// Checks the mutant, if its code is what it must be.
    ///
    /// # Errors
    /// If the checker cannot give a verdict.
    ///
    /// # Panics
    /// If there is no such program.
    pub fn try_check(&self, scenario: Scenario<'_>) -> Result<Verdict, CheckError> {
        try_check(self.build, scenario, Reduction::CollapseLocal)
    }

    /// Checks the mutant.
    ///
    /// # Panics
    /// If there is no such program, or if the checker cannot give a verdict.
    pub fn check(&self, scenario: Scenario<'_>) -> Verdict {
        check(self.build, scenario, Reduction::CollapseLocal)
    }

    /// Checks it with every seam call as a step of its own.
    ///
    /// # Panics
    /// As [`Mutant::check`].
    pub fn check_every_step(&self, scenario: Scenario<'_>) -> Verdict {
        check(self.build, scenario, Reduction::None)
    }
}

/// Returns what makes programs of a protocol, with the slots and global ids of a scenario. The copy and the real one are of types of their own.
macro_rules! build_of {
    ($($protocols:ident)::+, $scenario:expr) => {{
        use $($protocols)::+::{LazyTlb, WithBroadcast, WithPcids};
        let make = match ($scenario.slots, $scenario.global_ids) {
            (0, 0) => make::<LazyTlb>,
            (1, 0) => make::<WithPcids<1>>,
            (2, 0) => make::<WithPcids<2>>,
            (1, 1) => make::<WithBroadcast<1, 1>>,
            (2, 1) => make::<WithBroadcast<2, 1>>,
            (1, 2) => make::<WithBroadcast<1, 2>>,
            other => panic!("nothing is checked with so many slots and global ids: {other:?}"),
        };
        Build { number: 0, make }
    }};
}

/// Checks the copy without a change, which must be no different from the real protocol.
///
/// # Panics
/// As [`Mutant::check`].
pub fn check_unmutated(scenario: Scenario<'_>) -> Verdict {
    let build = build_of!(protocols::switchable::adapter, scenario);
    check(build, scenario, Reduction::CollapseLocal)
}

/// Checks the real protocol.
///
/// # Panics
/// As [`Mutant::check`].
pub fn check_real(scenario: Scenario<'_>) -> Verdict {
    let build = build_of!(lazytlb_check, scenario);
    check(build, scenario, Reduction::CollapseLocal)
}

/// Checks the real protocol. It ends when it has met so many states.
///
/// # Errors
/// If the checker cannot give a verdict.
///
/// # Panics
/// If there is no such program.
pub fn check_real_within(scenario: Scenario<'_>, most_states: u64) -> Result<Verdict, CheckError> {
    let build = build_of!(lazytlb_check, scenario);
    try_check_within(build, scenario, most_states)
}

/// What the names of programs without end begin with: the sets of operations follow.
const ANY: &str = "any ";
/// What they end with if there is page-table isolation.
const ISOLATION: &str = " --isolation";

/// Makes a shipped program for a protocol, or one without end; `None` if there is no such name.
fn make<P: Protocol>(name: &str, policy: Policy) -> Option<Program> {
    let Some(sets) = name.strip_prefix(ANY) else {
        return Some(ShippedProgram::<P>::by_name(name)?.build(policy));
    };
    let menus = match sets.strip_suffix(ISOLATION) {
        Some(sets) => sets.parse::<lazytlb_check::Menus>().ok()?.isolated(),
        None => sets.parse::<lazytlb_check::Menus>().ok()?,
    };
    Some(menus.program::<P>(policy))
}

fn check(build: Build, scenario: Scenario<'_>, reduction: Reduction) -> Verdict {
    try_check(build, scenario, reduction).unwrap_or_else(|error| panic!("{error}"))
}

fn try_check(
    build: Build,
    scenario: Scenario<'_>,
    reduction: Reduction,
) -> Result<Verdict, CheckError> {
    checker(scenario, reduction).try_check_built(|| build_program(build, scenario), |_| {})
}

fn try_check_within(
    build: Build,
    scenario: Scenario<'_>,
    most_states: u64,
) -> Result<Verdict, CheckError> {
    let checker = checker(scenario, Reduction::CollapseLocal).max_states(most_states);
    checker.try_check_built(|| build_program(build, scenario), |_| {})
}

fn build_program(build: Build, scenario: Scenario<'_>) -> Program {
    let Build { number, make } = build;
    // The protocol's own code runs here, too: it makes its words.
    CHOSEN.set(number);
    let program = make(scenario.program, scenario.policy);
    let mut program =
        program.unwrap_or_else(|| panic!("no program is called {}", scenario.program));
    program.before_each_run(move || CHOSEN.set(number));
    program
}

fn checker(scenario: Scenario<'_>, reduction: Reduction) -> Checker {
    Checker::new()
        .memory(scenario.memory)
        .cpu_model(scenario.cpu_model)
        .reduction(reduction)
}

fn property(wanted: &str) -> Property {
    let mut all = Property::ALL.into_iter();
    let property = all.find(|property| property.name() == wanted);
    property.expect("the table names properties, or `safe`")
}
