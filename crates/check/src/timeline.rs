//! A counterexample: replayed through the real code, and printed with one column for each CPU.

use std::fmt;

use lazytlb::CpuId;
use lazytlb_model::{Call, Frame, GarbageWalkEnd, Machine, Property, State, Violation};

use crate::automaton::Routine;
use crate::error::CheckError;
pub use crate::event::{EventKind, TimelineEvent};
use crate::fairness::Round;
use crate::hardware::{Hardware, Tried};
use crate::program::Program;
use crate::reduction::CanonicalForm;
use crate::snapshot::Snapshot;
use crate::step::{Action, CallWatcher, Step, StepError, Unwatched};
use crate::system::System;

/// What a [`TimelineEvent`] was called before.
#[deprecated(note = "it is `TimelineEvent`: recordings have events, too")]
pub type Event = TimelineEvent;

/// An execution that ends in a violation, event by event.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Timeline {
    /// The events in their order.
    pub events: Vec<TimelineEvent>,
    /// What is violated, in a sentence; then who did what, where that helps.
    pub story: Vec<String>,
    /// Which of the events come again and again, from this one on, if the execution has no end.
    pub again_from: Option<usize>,
    /// What the machine held after each event; the last ones may have none of their own.
    snapshots: Vec<Snapshot>,
    cpus: usize,
}

impl Timeline {
    /// Runs the steps on a machine and an automaton that know nothing yet, so that every call comes from
    /// the real code once more, and checks that they end in the same violation.
    pub(crate) fn replay(
        system: &System<'_>,
        steps: &[Step],
        expected: &Violation,
    ) -> Result<(Violation, Timeline), CheckError> {
        let mut recorder = Recorder::new(system);
        let found = match run_steps(system, steps, &mut recorder) {
            Some(Replayed::Violation(violation)) => Some(violation),
            Some(Replayed::State(state)) => {
                let stuck = system.extending(|nodes| system.stuck(nodes, &state));
                stuck.ok().flatten()
            }
            None => None,
        };
        // Where several entries lead to one violation, which is named first may depend on what the search
        // met before; the replay met nothing, and is what is reported.
        let violation = match found {
            Some(found) if found.property == expected.property => found,
            found => {
                return Err(CheckError::Nondeterminism(format!(
                    "a counterexample did not replay: found {expected:?}, replayed {found:?}"
                )));
            }
        };
        recorder.end_at(&violation);
        let story = story(&recorder.events, &violation, system);
        let timeline = Timeline {
            events: recorder.events,
            story,
            again_from: None,
            snapshots: recorder.snapshots,
            cpus: system.hardware.cpus().len(),
        };
        Ok((violation, timeline))
    }

    /// Runs the steps once more, as [`Timeline::replay`] does, and checks that they lead to a state that is the
    /// one expected.
    pub(crate) fn replay_to_end(
        system: &System<'_>,
        steps: &[Step],
        is_expected: impl Fn(&Machine, &State) -> bool,
    ) -> Result<Timeline, CheckError> {
        let mut recorder = Recorder::new(system);
        match run_steps(system, steps, &mut recorder) {
            Some(Replayed::State(state)) if is_expected(system.hardware.machine(), &state) => {
                Ok(Timeline {
                    events: recorder.events,
                    story: Vec::new(),
                    again_from: None,
                    snapshots: recorder.snapshots,
                    cpus: system.hardware.cpus().len(),
                })
            }
            Some(Replayed::State(_) | Replayed::Violation(_)) | None => Err(other_end()),
        }
    }

    /// Runs the steps of an execution without end, as [`Timeline::replay`] does: those that lead into it, then once
    /// round; and checks that they come back to where they were, but for names, and put nothing off.
    pub(crate) fn replay_round(
        system: &System<'_>,
        form: &impl CanonicalForm,
        (stem, round): (&[Step], &[Step]),
        violation: &Violation,
    ) -> Result<Timeline, CheckError> {
        let mut recorder = Recorder::new(system);
        let Some(Replayed::State(first)) = run_steps(system, stem, &mut recorder) else {
            return Err(other_end());
        };
        let again_from = recorder.events.len();
        let (mut state, mut met) = (first.clone(), Round::default());
        for &step in round {
            let duties = system.extending(|nodes| system.duties(nodes, &state));
            met.comes_through(&duties.map_err(|_| other_end())?);
            met.takes(system.duties_done(&state, step));
            match take_steps(system, state, &[step], &mut recorder) {
                Some(Replayed::State(next)) => state = next,
                _ => return Err(other_end()),
            }
        }
        let formed = |state: &State| system.formed(form, state);
        let comes_back =
            matches!((formed(&first), formed(&state)), (Ok(first), Ok(last)) if first == last);
        if !comes_back || round.is_empty() || met.puts_off().is_some() {
            return Err(other_end());
        }
        let mut story = story(&recorder.events, violation, system);
        story.push(format!(
            "From row {} on, the same comes again and again.",
            again_from + 1
        ));
        Ok(Timeline {
            events: recorder.events,
            story,
            again_from: Some(again_from),
            snapshots: recorder.snapshots,
            cpus: system.hardware.cpus().len(),
        })
    }

    /// Returns the number of CPUs: of columns.
    pub fn cpus(&self) -> usize {
        self.cpus
    }

    /// Returns what the machine held after an event, which is given by its place among [`Timeline::events`]: where the
    /// event is the violation itself, what it held before. `None` past the last event.
    pub fn after(&self, event: usize) -> Option<&Snapshot> {
        let last = self.snapshots.len().checked_sub(1)?;
        (event < self.events.len()).then(|| &self.snapshots[event.min(last)])
    }
}

fn other_end() -> CheckError {
    let how = "an execution did not replay: it came to another end";
    CheckError::Nondeterminism(how.to_owned())
}

/// Records the events of a replay.
struct Recorder<'p> {
    program: &'p Program,
    hardware: &'p Hardware,
    events: Vec<TimelineEvent>,
    snapshots: Vec<Snapshot>,
    begun: Option<(CpuId, Routine, Call)>,
    /// CPUs that have started an operation, and made no call of it.
    starting: Vec<CpuId>,
}

impl CallWatcher for Recorder<'_> {
    fn operation_starts(&mut self, cpu: CpuId) {
        self.starting.push(cpu);
    }

    fn call_begins(&mut self, cpu: CpuId, routine: Routine, call: &Call, state: &State) {
        self.take_snapshot(state);
        self.begun = Some((cpu, routine, *call));
    }

    fn call_returns(&mut self, answer: u64) {
        self.record_call(Some(answer));
    }

    fn call_is_blocked(&mut self) {
        self.begun = None;
    }
}

impl<'p> Recorder<'p> {
    fn new(system: &'p System<'p>) -> Recorder<'p> {
        Recorder {
            program: system.automaton.program,
            hardware: &system.hardware,
            events: Vec::new(),
            snapshots: Vec::new(),
            begun: None,
            starting: Vec::new(),
        }
    }
}

impl Recorder<'_> {
    /// Records what the machine holds after the last event, unless that is known.
    fn take_snapshot(&mut self, state: &State) {
        if self.snapshots.len() < self.events.len() {
            let snapshot = Snapshot::new(self.program, self.hardware, state);
            self.snapshots.resize(self.events.len(), snapshot);
        }
    }

    fn record_call(&mut self, answer: Option<u64>) {
        if let Some((cpu, routine, call)) = self.begun.take() {
            let event = TimelineEvent::of_call(self.program, cpu, routine, call, answer);
            let starts = self.starting.contains(&cpu) && matches!(routine, Routine::Operation(_));
            if starts {
                self.starting.retain(|&other| other != cpu);
            }
            self.events.push(TimelineEvent { starts, ..event });
        }
    }

    /// Records what a step from a state does beside its calls.
    fn record_step(&mut self, step: Step, system: &System<'_>, state: &State) {
        let kind = match step.action {
            Action::Drain | Action::Settle => EventKind::StoreDrained,
            Action::Combined => EventKind::CombiningStoreDrained,
            Action::Broadcast => EventKind::BroadcastReceived,
            Action::Deliver => EventKind::FlushInterrupt,
            Action::DeliverNmi => EventKind::Nmi,
            Action::Tick => EventKind::TimerInterrupt,
            Action::Call | Action::Start => return,
        };
        let hardware = &system.hardware;
        let store = match step.action {
            Action::Drain => hardware.oldest_store(state, step.cpu),
            Action::Combined => hardware.combining_store(state, step.cpu, step.way),
            Action::Settle => hardware.store_that_settles(state, step.cpu, step.way),
            _ => None,
        };
        let event = match store {
            Some(store) => TimelineEvent::of_store(self.program, step.cpu, kind, store),
            None => TimelineEvent::of_machine(step.cpu, kind),
        };
        self.events.push(event);
    }

    /// Records the call that the violation cut off, and the walk that it is about.
    fn end_at(&mut self, violation: &Violation) {
        self.record_call(None);
        // A free that is a violation leaves no state behind, but its effect is known.
        if let (Some(Some(freed)), Some(before)) = (
            self.events.last().map(|event| event.frees),
            self.snapshots.last(),
        ) {
            let name = self.program.place_names.frame(Frame::from(freed).addr());
            let after = before.clone().with_freed(&name);
            self.snapshots.resize(self.events.len(), after);
        }
        if violation.property == Property::TableUseAfterFree
            && let (Some(cpu), Some(frame)) = (violation.cpu, violation.frame)
        {
            let walk = EventKind::GarbageWalk { frame };
            let cpu = CpuId(u16::from(cpu));
            self.events.push(TimelineEvent::of_machine(cpu, walk));
        }
    }
}

/// What the steps of a replay come to.
enum Replayed {
    Violation(Violation),
    /// All were taken.
    State(Vec<u8>),
}

/// Takes steps; `None` if one is not possible.
fn run_steps(system: &System<'_>, steps: &[Step], recorder: &mut Recorder<'_>) -> Option<Replayed> {
    match system.initial(recorder) {
        Ok(state) => {
            recorder.take_snapshot(&state);
            take_steps(system, state, steps, recorder)
        }
        Err(error) => violation(error),
    }
}

/// Returns what an error of a step comes to.
fn violation(error: StepError) -> Option<Replayed> {
    match error {
        StepError::Violation(violation) => Some(Replayed::Violation(violation)),
        StepError::Limit(_)
        | StepError::Nondeterminism(_)
        | StepError::FalseClaim(_)
        | StepError::Misuse(_)
        | StepError::SpinLoop(_)
        | StepError::ReadsDead(_)
        | StepError::StoresUnstored
        | StepError::ComparesRanges
        | StepError::Unknown(_) => None,
    }
}

/// Takes steps from a state; `None` if one is not possible.
fn take_steps(
    system: &System<'_>,
    mut state: Vec<u8>,
    steps: &[Step],
    recorder: &mut Recorder<'_>,
) -> Option<Replayed> {
    for &step in steps {
        recorder.record_step(step, system, &state);
        // Once unwatched, until every node is known; then to be watched.
        let tried = system.extending(|nodes| {
            system
                .step(nodes, &mut state.clone(), step, &mut Unwatched)
                .map(|_| ())
        });
        if matches!(
            tried,
            Err(StepError::Limit(_)
                | StepError::Nondeterminism(_)
                | StepError::FalseClaim(_)
                | StepError::Misuse(_)
                | StepError::SpinLoop(_))
        ) {
            return None;
        }
        match system.step(&system.automaton.read(), &mut state, step, recorder) {
            Ok(Tried::Done(_)) => recorder.take_snapshot(&state),
            Ok(Tried::Impossible) => return None,
            Err(error) => return violation(error),
        }
    }
    Some(Replayed::State(state))
}

/// Says in sentences what a kernel engineer looks for first.
fn story(events: &[TimelineEvent], violation: &Violation, system: &System<'_>) -> Vec<String> {
    let mut story = vec![format!("{}: {}.", violation.property, violation.what)];
    if let Some(cpu) = violation.cpu {
        let own = events.iter().filter(|event| event.cpu == cpu);
        let of_code = own.filter(|event| event.kind.is_of_code());
        let mut operations: Vec<&TimelineEvent> = of_code.collect();
        operations.dedup_by(|next, before| next.operation == before.operation && !next.starts);
        let operations: Vec<&str> = operations.iter().map(|of| of.operation.as_str()).collect();
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
        let mut row = |number: &str, own: usize, text: &str| -> fmt::Result {
            write!(f, "{number:>4} ")?;
            for column in 0..self.cpus {
                let cell = if column == own { text } else { "" };
                write!(f, "│ {}", pad(cell, WIDTH))?;
            }
            writeln!(f)
        };
        for (index, event) in self.events.iter().enumerate() {
            let cpu = usize::from(event.cpu);
            if self.again_from == Some(index) {
                row("", cpu, "── from here on, again and again")?;
            }
            if event.starts {
                current[cpu] = &event.operation;
                row("", cpu, &format!("[starts {}]", event.operation))?;
            }
            if !event.visible {
                continue;
            }
            if current[cpu] != event.operation && !event.kind.comes_from_outside() {
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

#[cfg(test)]
mod tests {
    use lazytlb::Policy;

    use crate::{Checker, Finding, LazyTlb, ShippedProgram};

    #[test]
    fn the_machine_is_told_after_each_event_up_to_the_walk_of_the_freed_table() {
        let program = ShippedProgram::<LazyTlb>::by_name("reference-3").unwrap();
        let defer = Policy::Defer(lazytlb::GarbageWalksAccepted);
        let verdict = Checker::new().check_built(|| program.build(defer));
        let Finding::Violation { timeline, .. } = verdict.finding else {
            panic!("{verdict:?}");
        };
        let place = |what: &str| {
            let mut events = timeline.events.iter();
            events.position(|event| event.what == what).unwrap()
        };
        let loaded = timeline.after(place("load CR3: root in frame 1")).unwrap();
        assert_eq!(loaded.cpus[0].root, "frame 1");
        let stored = place("frame 1[0] = frame 3");
        let [before, after] = [stored - 1, stored].map(|event| timeline.after(event).unwrap());
        assert_eq!(before.cpus[0].buffered, [""; 0]);
        assert_eq!(after.cpus[0].buffered, ["frame 1[0] = frame 3"]);
        assert_eq!(after.frames[1].entries[0].holds, "absent", "it still waits");
        let drained = timeline.after(stored + 1).unwrap();
        assert_eq!(
            drained.frames[1].entries[0].leads_to.as_deref(),
            Some("frame 3")
        );
        let last = timeline.after(timeline.events.len() - 1).unwrap();
        assert_eq!(last.frames[3].used_for, "free");
        let of_freed = |cpu: usize| last.cpus[cpu].cached.iter().any(|held| held.of_freed_table);
        assert!(of_freed(1) && !of_freed(0), "{last:?}");
        assert_eq!(timeline.after(timeline.events.len()), None);
    }
}
