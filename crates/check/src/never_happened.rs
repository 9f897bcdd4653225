//! What a proof could speak of, and no execution came to.

use std::collections::BTreeMap;

use lazytlb::{CpuId, FlushRange, PhysAddr, Spaces, ValueKind};
use lazytlb_model::{AtomicCell, Call, Property};

use crate::automaton::{Automaton, Next, Nodes, Routine};
use crate::program::Program;

/// Returns what a proof could rest on, or speak of, and no execution came to: interrupts, a kept promise, a freed
/// table; and promises that were about nothing.
pub(crate) fn never_happened(automaton: &Automaton<'_>) -> Vec<String> {
    let (program, rests_on) = (automaton.program, automaton.rests_on());
    let nodes = automaton.read();
    let mut never = handlers_not_run(program, &nodes);
    let kept = match program.looks_at(Property::StaleUse) {
        true => "a kept promise that covered a cached entry",
        false => {
            "a kept promise that covered a device's cached entry (stale uses are not looked at)"
        }
    };
    for (count, what) in [
        (rests_on.promises_kept, kept),
        (rests_on.tables_freed, "a freed page table"),
    ] {
        if count == 0 {
            never.push(what.to_owned());
        }
    }
    never.extend(promises_about_nothing(program, &nodes));
    never.extend(operations_without_effect(program, &nodes));
    never
}

/// Lists the operations of menus that were started and never ended, or never did anything but read and take locks:
/// what they are for was never possible.
fn operations_without_effect(program: &Program, nodes: &Nodes) -> Vec<String> {
    let mut never = Vec::new();
    for (cpu, index, operation) in program.all_operations() {
        let routine = Routine::Operation(index);
        if operation.offer.is_none() || nodes.start_of(cpu, routine).is_none() {
            continue;
        }
        let own = || {
            let all = nodes.all().map(|(_, node)| node);
            all.filter(move |node| node.cpu == cpu && node.routine == routine)
        };
        let (cpu, name) = (cpu.0, &operation.name);
        let has_effect = |call: &Call| has_effect(program, call);
        if !own().any(|node| node.next == Next::Ended) {
            never.push(format!("CPU {cpu}: an end of \"{name}\""));
        } else if !own().any(|node| node.next.call().is_some_and(has_effect)) {
            never.push(format!(
                "CPU {cpu}: an effect of \"{name}\", which always found nothing to do"
            ));
        }
    }
    never
}

/// Says whether a call is more than a look, or a use of a lock.
fn has_effect(program: &Program, call: &Call) -> bool {
    let is_lock = |cell: AtomicCell| {
        let word = program.atomics.get(usize::from(cell.0));
        word.is_some_and(|word| word.kind == ValueKind::Lock)
    };
    match *call {
        Call::Load(_)
        | Call::LoadLocal(_)
        | Call::ReadEntry(..)
        | Call::PauseUntil(..)
        | Call::Fence
        | Call::LoadFence
        | Call::StoreFence
        | Call::DisableInterrupts
        | Call::RestoreInterrupts(_) => false,
        Call::Store(cell, _) | Call::Rmw(cell, ..) => !is_lock(cell),
        _ => true,
    }
}

/// Lists the handlers that no interrupt came to, by CPU.
fn handlers_not_run(program: &Program, nodes: &Nodes) -> Vec<String> {
    let has_handlers = [
        (Routine::Handler, program.handler.is_some()),
        (Routine::Nmi, program.nmi_handler.is_some()),
        (Routine::Timer, program.timer_handler.is_some()),
    ];
    let mut never = Vec::new();
    for (routine, exists) in has_handlers {
        for cpu in (0..program.cpus()).map(|cpu| CpuId(cpu.into())) {
            if exists && nodes.start_of(cpu, routine).is_none() {
                let routine = program.routine_name(cpu, routine);
                never.push(format!("CPU {}: {routine}", cpu.0));
            }
        }
    }
    never
}

/// Lists the places at which promises begin that never covered an entry which some CPU might have cached. What
/// differs in the answers before it alone is one place for people: one that covered something is enough.
fn promises_about_nothing(program: &Program, nodes: &Nodes) -> Vec<String> {
    let mut places = BTreeMap::new();
    for (id, node) in nodes.all() {
        let Some(call) = node.next.call().filter(|_| node.exhibit.begins_promise()) else {
            continue;
        };
        let calls = nodes.log_of(id).len();
        let told = format!("seam call {calls}: {}", subject(program, call));
        let place = (
            node.cpu,
            program.routine_name(node.cpu, node.routine),
            calls,
            told,
        );
        *places.entry(place).or_insert(true) &= node.exhibit.covers_nothing();
    }
    let about_nothing = places
        .into_iter()
        .filter(|&(_, covers_nothing)| covers_nothing);
    let told = about_nothing.map(|((cpu, routine, _, told), _)| {
        format!(
            "CPU {}, \"{routine}\": the promise begun there never covered a cached entry ({told})",
            cpu.0
        )
    });
    told.collect()
}

/// Says what a promise is about that a call begins.
fn subject(program: &Program, call: &Call) -> String {
    let (spaces, range) = match *call {
        Call::PromiseBegins(spaces, range) => (spaces, range),
        Call::FlushBegins(root, range) => (Spaces::one(root), range),
        _ => return String::new(),
    };
    let name = |root: PhysAddr| program.place_names.frame(root);
    let spaces = match spaces {
        Spaces::All => "in all spaces".to_owned(),
        Spaces::Roots(roots) => {
            let roots: Vec<String> = roots.into_iter().flatten().map(name).collect();
            match roots.is_empty() {
                true => "in no space".to_owned(),
                false => format!("in the space with root {}", roots.join(", or ")),
            }
        }
    };
    match range {
        FlushRange::All => format!("all addresses {spaces}"),
        FlushRange::Pages(pages) => format!(
            "{} × {} KiB from {} on {spaces}",
            pages.len_pages,
            1_u64 << (pages.size.shift() - 10),
            program.place_names.address(pages.start)
        ),
    }
}
