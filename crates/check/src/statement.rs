//! What a proof of a program without end says, in one sentence to quote.
//!
//! It is read off the program, the machine, and the places of the code that executions came to; so it cannot say what
//! was not explored. An operation counts as started and ended where the code came to both.

use std::collections::{BTreeMap, BTreeSet};

use lazytlb::{CpuId, Interrupts, PhysAddr, ValueKind, VirtAddr};
use lazytlb_model::assumption::Assumption;
use lazytlb_model::{
    AtomicCell, Call, Features, FrameUse, GarbageWalks, Machine, MemoryModel, Property, Rmw, Ticks,
};

use crate::automaton::{Automaton, Nodes, Routine};
use crate::hardware::number_for_people;
use crate::menu::{Mode, Modes};
use crate::program::Program;
use crate::rests_on::Stretched;
use crate::routine::Operation;
use crate::store::Storage;

/// Says what is proved of a program whose operations start for ever; `None` for others.
pub(crate) fn of(
    automaton: &Automaton<'_>,
    machine: &Machine,
    storage: Storage,
    stretched: Option<Stretched>,
) -> Option<String> {
    let program = automaton.program;
    if !program.features.endless {
        return None;
    }
    let nodes = automaton.read();
    let seen = Seen::in_code(program, &nodes);
    let mut parts = vec![
        changes_of_tables(program, &seen),
        spaces(program, &seen),
        pages(program, &seen, machine.features()),
        frames(program, &seen),
        memory(machine.memory()),
        cpu_model(machine),
    ];
    parts.extend(extras(program, machine.features()));
    parts.extend(storage_for_people(storage));
    parts.extend(stretched.map(|stretched| generations(program, stretched)));
    Some(format!(
        "where {}; each whenever the CPU has none under way, in any order, any number of times; no execution of any \
         length violates a property{}: {}",
        operations(program, &nodes),
        ignored(program),
        parts.join("; ")
    ))
}

/// What the places of the code show.
#[derive(Default)]
struct Seen {
    /// CPUs that write to page tables, each with the locks that it holds wherever it does.
    writers: BTreeMap<CpuId, BTreeSet<AtomicCell>>,
    /// With interrupts on, or off, locks are taken.
    taken_with: BTreeMap<AtomicCell, (bool, bool)>,
    /// Locks that some code releases without holding them: nobody is safe under those.
    not_held: BTreeSet<AtomicCell>,
    /// Locks that code holds where a flush begins; `None` if none begins.
    flushed_under: Option<BTreeSet<AtomicCell>>,
    roots: BTreeSet<PhysAddr>,
    addresses: BTreeSet<VirtAddr>,
    allocates: bool,
}

impl Seen {
    fn in_code(program: &Program, nodes: &Nodes) -> Seen {
        let mut seen = Seen::default();
        for (id, node) in nodes.all() {
            let Some(call) = node.next.call() else {
                continue;
            };
            if changes_a_table(call) {
                let held = locks_held(program, &nodes.log_of(id));
                let always = seen.writers.entry(node.cpu);
                let always = always.or_insert_with(|| held.clone());
                always.retain(|lock| held.contains(lock));
            }
            if let Some(lock) = may_release(program, call)
                && !locks_held(program, &nodes.log_of(id)).contains(&lock)
            {
                seen.not_held.insert(lock);
            }
            if let Some(lock) = may_take(program, call) {
                let (on, off) = seen.taken_with.entry(lock).or_default();
                *on |= node.interrupts == Interrupts::Enabled;
                *off |= node.interrupts == Interrupts::Disabled;
            }
            if matches!(call, Call::FlushBegins(..) | Call::PromiseBegins(..)) {
                let held = locks_held(program, &nodes.log_of(id));
                seen.flushed_under.get_or_insert_default().extend(held);
            }
            if let Call::LoadCr3(root, _) = *call {
                seen.roots.insert(PhysAddr(root.0 & !0xfff));
            }
            seen.addresses.extend(address_of(call));
            seen.allocates |= matches!(call, Call::AllocFrame(_));
        }
        seen.roots.remove(&program.first_root());
        seen
    }
}

fn changes_a_table(call: &Call) -> bool {
    matches!(
        call,
        Call::WriteEntry(..)
            | Call::RmwEntry(..)
            | Call::WriteEntryBytes { .. }
            | Call::RmwEntryBytes { .. }
    )
}

/// Returns the address that a call accesses through page tables.
fn address_of(call: &Call) -> Option<VirtAddr> {
    match *call {
        Call::Touch(addr, _)
        | Call::TouchNonTemporal(addr)
        | Call::Fetch(addr, _)
        | Call::LoadVirtual(addr, _)
        | Call::StoreVirtual { addr, .. }
        | Call::RmwVirtual { addr, .. } => Some(addr),
        _ => None,
    }
}

fn is_lock(program: &Program, cell: AtomicCell) -> bool {
    let word = program.atomics.get(usize::from(cell.0));
    word.is_some_and(|word| word.kind == ValueKind::Lock)
}

/// Returns the lock that a call takes if it is free.
fn may_take(program: &Program, call: &Call) -> Option<AtomicCell> {
    match *call {
        Call::Rmw(cell, Rmw::Swap | Rmw::SwapIf(0) | Rmw::Or, 1) => {
            Some(cell).filter(|&cell| is_lock(program, cell))
        }
        _ => None,
    }
}

/// Returns the lock that a call writes otherwise.
fn may_release(program: &Program, call: &Call) -> Option<AtomicCell> {
    match *call {
        Call::Store(cell, _)
        | Call::Rmw(cell, ..)
        | Call::StoreBytes { cell, .. }
        | Call::RmwBytes { cell, .. } => {
            let releases = is_lock(program, cell) && may_take(program, call).is_none();
            releases.then_some(cell)
        }
        _ => None,
    }
}

/// Returns the locks that code holds after its calls and their answers.
fn locks_held(program: &Program, log: &[(Call, u64)]) -> BTreeSet<AtomicCell> {
    let mut held = BTreeSet::new();
    for (call, answer) in log {
        if let Some(lock) = may_take(program, call).filter(|_| *answer == 0) {
            held.insert(lock);
        }
        if let Some(lock) = may_release(program, call) {
            held.remove(&lock);
        }
    }
    held
}

/// Says which operations each CPU starts, and in what mode.
fn operations(program: &Program, nodes: &Nodes) -> String {
    let mut menus: Vec<(Vec<CpuId>, String)> = Vec::new();
    for cpu in (0..program.cpus()).map(|cpu| CpuId(cpu.into())) {
        let menu = menu(program, nodes, cpu);
        match menus.iter_mut().find(|(_, other)| *other == menu) {
            Some((cpus, _)) => cpus.push(cpu),
            None => menus.push((vec![cpu], menu)),
        }
    }
    let told = menus.into_iter().map(|(cpus, menu)| match &cpus[..] {
        [_] => format!("{} starts {menu}", cpus_for_people(&cpus)),
        _ => format!("each of {} starts {menu}", cpus_for_people(&cpus)),
    });
    told.collect::<Vec<_>>().join("; ")
}

/// Lists what a CPU starts: first what starts in every mode, then the rest, by its modes.
fn menu(program: &Program, nodes: &Nodes, cpu: CpuId) -> String {
    let own = program.all_operations().filter(|&(of, index, _)| {
        of == cpu && nodes.start_of(cpu, Routine::Operation(index)).is_some()
    });
    let own: Vec<&Operation> = own.map(|(_, _, operation)| operation).collect();
    let mut run_once = Vec::new();
    let mut by_modes: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for operation in &own {
        let name = operation.name.clone();
        match operation.offer {
            None => run_once.push(name),
            Some(offer) => {
                let when = modes_for_people(&own, offer.starts_in);
                by_modes.entry(when).or_default().push(name);
            }
        }
    }
    let told = by_modes
        .into_iter()
        .map(|(when, names)| format!("{}{when}", in_words(&names)));
    let mut menu = told.collect::<Vec<_>>().join(", and ");
    if menu.is_empty() {
        menu.push_str("nothing");
    }
    match run_once.is_empty() {
        true => menu,
        false => format!("{menu}, once it has run {}", in_words(&run_once)),
    }
}

/// Says in which modes something starts, by what leads to them; nothing where it is all of them.
fn modes_for_people(own: &[&Operation], modes: Modes) -> String {
    if modes == Modes::ALL {
        return String::new();
    }
    let first = modes
        .contains(Mode::FIRST)
        .then(|| "that it begins in".to_owned());
    let led_to = own.iter().filter_map(|operation| {
        let mode = operation.offer?.leads_to?;
        modes
            .contains(mode)
            .then(|| format!("that {} leads to", operation.name))
    });
    let all: Vec<String> = first.into_iter().chain(led_to).collect();
    format!(" in the mode {}", all.join(" or "))
}

/// Says how many CPUs change page tables, and under which lock.
fn changes_of_tables(program: &Program, seen: &Seen) -> String {
    let cpus: Vec<CpuId> = seen.writers.keys().copied().collect();
    match &cpus[..] {
        [] => return "no CPU changes page tables".to_owned(),
        [_] => return format!("{} alone changes page tables", cpus_for_people(&cpus)),
        _ => {}
    }
    let mut held = seen.writers.values();
    let common = held.next().cloned().unwrap_or_default();
    let common = held.fold(common, |common, held| &common & held);
    let common = &common - &seen.not_held;
    let locks = common.iter().map(|&lock| {
        let interrupts = match seen.taken_with.get(&lock) {
            Some((true, false)) => "with interrupts on",
            Some((false, true)) => "with interrupts off",
            _ => "with interrupts on and with interrupts off",
        };
        let name = program.atomic_name(lock);
        let flushes = match &seen.flushed_under {
            None => "",
            Some(held) if held.contains(&lock) => ", and under which flushes begin",
            Some(_) => ", and under which no flush begins",
        };
        format!("under \"{name}\", which is taken {interrupts}{flushes}")
    });
    let locks: Vec<String> = locks.collect();
    let under = match locks.is_empty() {
        true => "without a lock in common".to_owned(),
        false => in_words(&locks),
    };
    format!(
        "{} CPUs ({}) change page tables, {under}",
        cpus.len(),
        cpus_for_people(&cpus)
    )
}

fn spaces(program: &Program, seen: &Seen) -> String {
    let frame = |root| program.place_names.frame(root);
    let halves = &program.user_halves;
    let is_space = |root: &&PhysAddr| halves.iter().all(|(_, user_half)| user_half != *root);
    let name = |&root: &PhysAddr| {
        let half = halves.iter().find(|(space, _)| *space == root);
        match half.filter(|(_, user_half)| seen.roots.contains(user_half)) {
            Some(&(_, user_half)) => format!("{}, in user mode {}", frame(root), frame(user_half)),
            None => frame(root),
        }
    };
    let names: Vec<String> = seen.roots.iter().filter(is_space).map(name).collect();
    let first = program.place_names.frame(program.first_root());
    match names.len() {
        0 => format!("1 space (root in {first})"),
        one_or_more => format!(
            "{} (root in {}) beside the one that every CPU starts in (root in {first})",
            counted(one_or_more, "space"),
            in_words(&names)
        ),
    }
}

fn pages(program: &Program, seen: &Seen, features: Features) -> String {
    let above = |shift: u32| {
        let above = seen.addresses.iter().map(|addr| addr.0 >> shift);
        above.collect::<BTreeSet<u64>>().len()
    };
    let addresses = seen.addresses.iter();
    let addresses: Vec<String> = addresses
        .map(|&addr| program.place_names.address(addr))
        .collect();
    let levels = features.levels;
    match addresses.is_empty() {
        true => format!("no page is accessed, in page tables of {levels} levels"),
        false => format!(
            "{} accessed ({}), under {} of the lowest of {levels} levels",
            counted(above(12), "page"),
            in_words(&addresses),
            counted(above(21), "table")
        ),
    }
}

fn frames(program: &Program, seen: &Seen) -> String {
    let of = |what: FrameUse| program.frames.iter().filter(|&&is| is == what).count();
    let mut uses = Vec::new();
    for (what, name) in [
        (FrameUse::Table, "of page tables"),
        (FrameUse::Page, "of pages"),
        (FrameUse::Device, "of devices"),
        (FrameUse::Free, "free"),
    ] {
        if of(what) > 0 {
            uses.push(format!("{} {name}", of(what)));
        }
    }
    let order = match seen.allocates {
        true => ", of which the lowest free one is always taken",
        false => "",
    };
    format!(
        "{} (at the start {}){order}",
        counted(program.frames.len(), "frame"),
        uses.join(", ")
    )
}

fn memory(memory: MemoryModel) -> String {
    match memory {
        MemoryModel::Sc => "sequential consistency, without store buffers".to_owned(),
        MemoryModel::Tso { buffer_depth } => format!(
            "x86-TSO with store buffers of {}",
            counted(buffer_depth.into(), "store")
        ),
    }
}

fn cpu_model(machine: &Machine) -> String {
    let model = machine.cpu_model();
    let assumed: Vec<&str> = Assumption::of(model).map(|one| one.name).collect();
    match assumed.is_empty() {
        true => format!("CPU model {}", model.name),
        false => format!("CPU model {} (ASSUMED: {})", model.name, assumed.join(", ")),
    }
}

/// Says what the program uses of the machine besides.
fn extras(program: &Program, features: Features) -> Option<String> {
    let ticks = match features.ticks {
        Ticks::Never => None,
        Ticks::AtMost(most) => Some(format!("up to {most} timer interrupts on each CPU")),
        Ticks::AnyNumber => Some("timer interrupts at any time".to_owned()),
    };
    let mut extras: Vec<String> = ticks.into_iter().collect();
    for (uses, what) in [
        (features.tags, "PCIDs and global pages"),
        (features.accessed_dirty, "A and D bits"),
        (features.broadcasts, "broadcast invalidations"),
        (features.nmis, "NMIs"),
        (features.write_combining > 0, "write-combining memory"),
        (
            program.garbage == GarbageWalks::Followed,
            "walks of freed tables, followed to their ends",
        ),
    ] {
        if uses {
            extras.push(what.to_owned());
        }
    }
    (!extras.is_empty()).then(|| format!("with {}", in_words(&extras)))
}

fn storage_for_people(storage: Storage) -> Option<String> {
    match storage {
        Storage::FullStates => None,
        Storage::Fingerprints => Some("states are told apart by 128 bits".to_owned()),
    }
}

fn generations(program: &Program, stretched: Stretched) -> String {
    // Words of one range are compared with each other.
    let ranges = program.apart.chunk_by(|(_, one), (_, other)| one == other);
    let apart: Vec<String> = ranges
        .map(|range| {
            let name = |&(word, _): &(_, u64)| format!("\"{}\"", program.atomic_name(word));
            let names: Vec<String> = range.iter().map(name).collect();
            names.join(" with ")
        })
        .collect();
    let only_compared = match &apart[..] {
        [] => "generations are only compared".to_owned(),
        [_] => format!(
            "generations are only compared, and those that count from {} with no others",
            in_words(&apart)
        ),
        _ => format!(
            "generations are only compared, and those that count from {} each with no others",
            in_words(&apart)
        ),
    };
    match stretched.places {
        0 => "no code reads a generation".to_owned(),
        places => format!(
            "{only_compared}, checked at {places} places, by {} runs with others that compare alike",
            stretched.runs
        ),
    }
}

fn ignored(program: &Program) -> String {
    let ignored: Vec<String> = program.ignored.iter().map(Property::to_string).collect();
    match ignored.is_empty() {
        true => String::new(),
        false => format!(" but {}, which nobody looked at", in_words(&ignored)),
    }
}

/// `CPU 0`, `CPUs 1 and 2`.
fn cpus_for_people(cpus: &[CpuId]) -> String {
    let numbers = cpus.iter().map(|&cpu| number_for_people(cpu).to_string());
    let numbers = in_words(&numbers.collect::<Vec<_>>());
    match cpus.len() {
        1 => format!("CPU {numbers}"),
        _ => format!("CPUs {numbers}"),
    }
}

fn counted(count: usize, what: &str) -> String {
    match count {
        1 => format!("1 {what}"),
        _ => format!("{count} {what}s"),
    }
}

/// `a`, `a and b`, `a, b and c`.
fn in_words(all: &[String]) -> String {
    match all {
        [] => "none".to_owned(),
        [one] => one.clone(),
        [others @ .., last] => format!("{} and {last}", others.join(", ")),
    }
}
