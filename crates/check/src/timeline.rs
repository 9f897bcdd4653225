//! A counterexample, replayed through the real code and told with one column for each CPU.

use std::fmt;

use lazytlb::{CpuId, Interrupts, Until};
use lazytlb_model::machine::entry_for_people;
use lazytlb_model::{Call, GarbageWalkEnd, Property, Rmw, Violation};

use crate::automaton::Routine;
use crate::error::CheckError;
use crate::hardware::{Tried, number_for_people};
use crate::program::Program;
use crate::step::{Action, CallWatcher, Step, StepError, Unwatched};
use crate::system::System;

/// One thing that happened on one CPU.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Event {
    /// The CPU.
    pub cpu: u8,
    /// The operation that it belongs to, by the name that the program gave it.
    pub operation: String,
    /// What happened.
    pub what: String,
    /// Whether other CPUs can tell: calls on private words are left out of the printed timeline.
    pub visible: bool,
    /// The frame that this event frees.
    pub frees: Option<u8>,
}

/// An execution that ends in a violation, event by event.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Timeline {
    /// The events in their order.
    pub events: Vec<Event>,
    /// What is violated, in a sentence; then who did what, where that helps.
    pub story: Vec<String>,
    cpus: usize,
}

/// Records the calls of a replay.
struct Recorder<'p> {
    program: &'p Program,
    events: Vec<Event>,
    tried: Option<Event>,
}

impl CallWatcher for Recorder<'_> {
    fn call_begins(&mut self, cpu: CpuId, routine: Routine, call: &Call) {
        let mut event = self.event(cpu, routine, describe(self.program, call));
        event.visible = is_worth_telling(call);
        event.frees = match call {
            Call::FreeFrame(frame) => Some((frame.0 >> 12) as u8),
            _ => None,
        };
        self.tried = Some(event);
    }

    fn call_returns(&mut self, answer: u64) {
        let Some(mut event) = self.tried.take() else {
            return;
        };
        if let Some(arrow) = event.what.find("→ ?") {
            let answered = match event.what.starts_with("alloc") {
                true => format!("→ frame {}", answer >> 12),
                false => format!("→ {answer}"),
            };
            event.what.replace_range(arrow.., &answered);
        }
        self.events.push(event);
    }

    fn call_is_blocked(&mut self) {
        self.tried = None;
    }
}

impl Recorder<'_> {
    fn event(&self, cpu: CpuId, routine: Routine, what: String) -> Event {
        let operation = match routine {
            Routine::Operation(index) => self
                .program
                .operation_of(cpu, index)
                .map_or_else(String::new, |operation| operation.name.clone()),
            Routine::Handler => "flush interrupt".to_owned(),
            Routine::Nmi => "NMI".to_owned(),
        };
        Event {
            cpu: number_for_people(cpu),
            operation,
            what,
            visible: true,
            frees: None,
        }
    }
}

impl Timeline {
    /// Runs the steps on a machine and an automaton that know nothing yet, so that every call comes from
    /// the real code once more, and checks that they end in the same violation.
    pub(crate) fn replay(
        system: &System<'_>,
        steps: &[Step],
        expected: &Violation,
    ) -> Result<(Violation, Timeline), CheckError> {
        let program = system.automaton.program;
        let mut recorder = Recorder {
            program,
            events: Vec::new(),
            tried: None,
        };
        let found = run_steps(system, steps, &mut recorder);
        // Where several entries lead to one violation, which is named first may depend on what the search
        // met before; the replay met nothing, and is what is told.
        let violation = match found {
            Some(found) if found.property == expected.property => found,
            found => {
                return Err(CheckError::Nondeterminism(format!(
                    "a counterexample did not replay: found {expected:?}, replayed {found:?}"
                )));
            }
        };
        recorder.events.extend(recorder.tried.take());
        recorder.events.extend(garbage_walk(&violation));
        let story = tell(&recorder.events, &violation, system);
        let timeline = Timeline {
            events: recorder.events,
            story,
            cpus: program.operations.len(),
        };
        Ok((violation, timeline))
    }

    /// Returns the number of CPUs: of columns.
    pub fn cpus(&self) -> usize {
        self.cpus
    }
}

/// Returns the walk that a freed table invites: no step of a program, but the reason of the violation.
fn garbage_walk(violation: &Violation) -> Option<Event> {
    let (cpu, frame) = (violation.cpu?, violation.frame?);
    (violation.property == Property::TableUseAfterFree).then(|| Event {
        cpu,
        operation: "speculation".to_owned(),
        what: format!("✗ walk reads frame {frame}: freed"),
        visible: true,
        frees: None,
    })
}

fn run_steps(
    system: &System<'_>,
    steps: &[Step],
    recorder: &mut Recorder<'_>,
) -> Option<Violation> {
    let violation = |error| match error {
        StepError::Violation(violation) => Some(violation),
        StepError::Limit(_) | StepError::Nondeterminism(_) | StepError::Unknown(_) => None,
    };
    let mut state = match system.initial(recorder) {
        Ok(state) => state,
        Err(error) => return violation(error),
    };
    for &step in steps {
        let note = match step.action {
            Action::Drain => Some("a buffered store becomes visible"),
            Action::Combined => Some("a write-combining store leaves its buffer"),
            Action::Broadcast => Some("does an invalidation that was broadcast"),
            Action::Deliver => Some("⚡ flush interrupt"),
            Action::DeliverNmi => Some("⚡ NMI"),
            Action::Call => None,
        };
        if let Some(what) = note {
            let mut event = recorder.event(step.cpu, Routine::Handler, what.to_owned());
            match step.action {
                Action::Drain | Action::Combined => "store buffer".clone_into(&mut event.operation),
                Action::Broadcast => "broadcast".clone_into(&mut event.operation),
                _ => {}
            }
            recorder.events.push(event);
        }
        // Once unwatched, until every node is known; then to be watched.
        let tried = system.extending(|nodes| {
            system
                .step(nodes, &mut state.clone(), step, &mut Unwatched)
                .map(|_| ())
        });
        if matches!(
            tried,
            Err(StepError::Limit(_) | StepError::Nondeterminism(_))
        ) {
            return None;
        }
        match system.step(&system.automaton.read(), &mut state, step, recorder) {
            Ok(Tried::Done(_)) => {}
            Ok(Tried::Impossible) => return None,
            Err(error) => return violation(error),
        }
    }
    Some(system.deadlock(&system.automaton.read(), &state))
}

/// Says in sentences what a kernel engineer looks for first.
fn tell(events: &[Event], violation: &Violation, system: &System<'_>) -> Vec<String> {
    let mut story = vec![format!("{}: {}.", violation.property, violation.what)];
    if let Some(cpu) = violation.cpu {
        let mut operations: Vec<&str> = Vec::new();
        let own = events.iter().filter(|event| event.cpu == cpu);
        let is_code = |event: &&Event| {
            !["store buffer", "speculation", "broadcast"].contains(&&*event.operation)
        };
        for event in own.filter(is_code) {
            if operations.last() != Some(&event.operation.as_str()) {
                operations.push(&event.operation);
            }
        }
        if !operations.is_empty() {
            story.push(format!(
                "CPU {cpu} came here by: {}.",
                operations.join(", then ")
            ));
        }
    }
    let is_walk = violation.through.is_none_or(|through| !through.garbage);
    if violation.property != Property::TableUseAfterFree || !is_walk {
        return story;
    }
    let freed = events
        .iter()
        .enumerate()
        .rfind(|(_, event)| event.frees.is_some() && event.frees == violation.frame);
    if let (Some((row, event)), Some(frame)) = (freed, violation.frame) {
        story.push(format!(
            "CPU {} freed the table, frame {frame}, in row {}: it may hold anything from then on.",
            event.cpu,
            row + 1
        ));
    }
    story.push("The walk that reads it can end in (H33):".to_owned());
    for end in GarbageWalkEnd::possible_on(system.hardware.machine().cpu_model()) {
        story.push(format!("  {}: {}", end.name(), end.about()));
    }
    story
}

fn is_worth_telling(call: &Call) -> bool {
    !matches!(
        call,
        Call::LoadLocal(_)
            | Call::StoreLocal(..)
            | Call::DisableInterrupts
            | Call::RestoreInterrupts(_)
    )
}

/// Describes a call; `→ ?` stands where its answer goes.
fn describe(program: &Program, call: &Call) -> String {
    match *call {
        Call::Load(cell) => format!("{} → ?", program.atomic_name(cell)),
        Call::Store(cell, value) => format!("{} = {value}", program.atomic_name(cell)),
        Call::Rmw(cell, rmw, operand) => {
            let name = program.atomic_name(cell);
            match rmw {
                Rmw::Add => format!("{name} += {operand}, was → ?"),
                Rmw::Or => format!("{name} |= {operand:#b}, was → ?"),
                Rmw::And => format!("{name} &= !{:#b}, was → ?", !operand),
                Rmw::Xor => format!("{name} ^= {operand:#b}, was → ?"),
                Rmw::Swap => format!("{name} swap {operand}, was → ?"),
                Rmw::SwapIf(expected) => {
                    format!("{name} = {operand} if {expected}, was → ?")
                }
            }
        }
        Call::LoadLocal(cell) => format!("{} → ?", program.local_name(cell)),
        Call::StoreLocal(cell, value) => format!("{} = {value}", program.local_name(cell)),
        Call::Fence => "fence".to_owned(),
        Call::DisableInterrupts => "interrupts off".to_owned(),
        Call::RestoreInterrupts(Interrupts::Enabled) => "interrupts on".to_owned(),
        Call::RestoreInterrupts(Interrupts::Disabled) => "interrupts stay off".to_owned(),
        Call::SendIpi(targets) => {
            let cpus: Vec<String> = (0..64)
                .filter(|cpu| targets >> cpu & 1 != 0)
                .map(|cpu: u32| cpu.to_string())
                .collect();
            format!("IPI to CPU {}", cpus.join(", "))
        }
        Call::PauseUntil(cell, Until::Zero) => {
            format!("wait until {} = 0", program.atomic_name(cell))
        }
        Call::PauseUntil(cell, Until::Equals(value)) => {
            format!("wait until {} = {value}", program.atomic_name(cell))
        }
        Call::PauseUntil(cell, Until::AtLeast(value)) => {
            format!("wait until {} ≥ {value}", program.atomic_name(cell))
        }
        Call::LoadCr3(root, load) => {
            let pcid = match root.0 & 0xfff {
                0 => String::new(),
                pcid => format!(", PCID {pcid}"),
            };
            let keep = if load == lazytlb::Cr3Load::Keep {
                ", keep"
            } else {
                ""
            };
            format!("load CR3: root in frame {}{pcid}{keep}", root.0 >> 12)
        }
        Call::Invlpg(addr) => format!("INVLPG {:#x}", addr.0),
        Call::ReadEntry(table, index) => format!("read frame {}[{index}] → ?", table.0 >> 12),
        Call::WriteEntry(table, index, entry) => {
            format!(
                "frame {}[{index}] = {}",
                table.0 >> 12,
                entry_for_people(entry)
            )
        }
        Call::AllocFrame(kind) => format!("alloc a {} → ?", format!("{kind:?}").to_lowercase()),
        Call::FreeFrame(frame) => format!("free frame {}", frame.0 >> 12),
        Call::Touch(addr, access) => {
            format!(
                "user {} {:#x}",
                format!("{access:?}").to_lowercase(),
                addr.0
            )
        }
        Call::FlushBegins(..) => "(flush begins)".to_owned(),
        Call::FlushReturned(_) => "(flush has returned)".to_owned(),
        Call::StoreBytes { cell, bytes, value } => {
            format!(
                "{}, bytes {bytes:#010b} = {value:#x}",
                program.atomic_name(cell)
            )
        }
        Call::RmwBytes {
            cell, rmw, operand, ..
        } => {
            format!("{} {rmw:?} {operand}, was → ?", program.atomic_name(cell))
        }
        Call::RmwEntry(table, index, rmw, operand) => {
            format!(
                "frame {}[{index}] {rmw:?} {operand:#x}, was → ?",
                table.0 >> 12
            )
        }
        Call::StoreFence => "SFENCE".to_owned(),
        Call::Serialize => "CPUID".to_owned(),
        Call::LoadFence => "LFENCE".to_owned(),
        Call::ChangeCr4 { set, clear } => format!("CR4: set {set:?}, clear {clear:?}"),
        Call::WriteCr4(cr4) => format!("MOV to CR4: {cr4:?}"),
        Call::Invpcid(what) => format!("INVPCID {what:?}"),
        Call::Invlpgb(what) => format!("INVLPGB {what:?}"),
        Call::Tlbsync => "TLBSYNC".to_owned(),
        Call::LoadVirtual(addr, _) => format!("load {:#x} → ?", addr.0),
        Call::StoreVirtual { addr, value, .. } => format!("store {:#x} = {value}", addr.0),
        Call::RmwVirtual {
            addr, rmw, operand, ..
        } => format!("locked {rmw:?} {operand} at {:#x}, was → ?", addr.0),
        Call::Fetch(addr, _) => format!("fetch {:#x}", addr.0),
        Call::TouchNonTemporal(addr) => format!("user non-temporal store {:#x}", addr.0),
        Call::ReadDevice(device) => format!("read back from the device, frame {}", device.0 >> 12),
        Call::SendNmi(targets) => format!("NMI to CPUs {targets:#b}"),
        Call::Halt => "STI; HLT".to_owned(),
    }
}

/// Prints the timeline: rows in the order of events, a column for each CPU, the operation's name above
/// its first row, then the story.
impl fmt::Display for Timeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const WIDTH: usize = 34;
        write!(f, "{:>4} ", "")?;
        for cpu in 0..self.cpus {
            write!(f, "│ {:<WIDTH$}", format!("CPU {cpu}"))?;
        }
        writeln!(f)?;
        writeln!(
            f,
            "{:─>5}{}",
            "",
            format!("┼{:─>1$}", "", WIDTH + 1).repeat(self.cpus)
        )?;
        let mut current = vec![""; self.cpus];
        let mut row = |number: &str, cpu: usize, text: &str| -> fmt::Result {
            write!(f, "{number:>4} ")?;
            for column in 0..self.cpus {
                let cell = if column == cpu { text } else { "" };
                write!(f, "│ {}", pad(cell, WIDTH))?;
            }
            writeln!(f)
        };
        for (index, event) in self
            .events
            .iter()
            .enumerate()
            .filter(|(_, event)| event.visible)
        {
            let cpu = usize::from(event.cpu);
            let is_note = event.operation == "store buffer"
                || event.operation == "broadcast"
                || event.what.starts_with('⚡');
            if current[cpu] != event.operation && !is_note {
                current[cpu] = &event.operation;
                row("", cpu, &format!("[{}]", event.operation))?;
            }
            row(&(index + 1).to_string(), cpu, &event.what)?;
        }
        writeln!(f)?;
        for line in &self.story {
            writeln!(f, "{line}")?;
        }
        Ok(())
    }
}

/// Pads or cuts a text to a width in characters.
fn pad(text: &str, width: usize) -> String {
    let len = text.chars().count();
    if len > width {
        let cut: String = text.chars().take(width - 1).collect();
        return format!("{cut}…");
    }
    format!("{text}{}", " ".repeat(width - len))
}
