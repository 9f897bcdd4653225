//! An execution to step through, made of a replayed timeline.

use std::collections::BTreeMap;

use lazytlb_check::{CpuSnapshot, HeldEntry, Snapshot, Timeline};
use lazytlb_model::HeldHow;
use lazytlb_report::{CpuState, EntryState, Event, FrameState, Held, MachineState, Steps};

/// What an execution is of.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Of {
    Violation,
    Witness,
}

/// Makes the steps of a timeline: the events that other CPUs can tell, as it is printed.
pub(super) fn steps(caption: String, timeline: &Timeline, of: Of) -> Steps {
    let mut current = vec![""; timeline.cpus()];
    let mut starts = vec![false; timeline.cpus()];
    let (mut events, mut before, mut again_from) = (Vec::new(), None, None);
    let told = Told::of(timeline);
    for (index, event) in timeline.events.iter().enumerate() {
        let cpu = usize::from(event.cpu);
        starts[cpu] |= event.starts;
        if timeline.again_from.is_some_and(|from| index >= from) {
            again_from.get_or_insert(events.len());
        }
        if !event.visible {
            continue;
        }
        let goes_on = current[cpu] == event.operation || event.kind.comes_from_outside();
        let heading = match (starts[cpu], goes_on) {
            (false, true) => None,
            (is_start, _) => {
                current[cpu] = &event.operation;
                let starts = if is_start { "starts " } else { "" };
                Some(format!("{starts}{}", event.operation))
            }
        };
        starts[cpu] = false;
        let machine = timeline.after(index).map(|snapshot| told.machine(snapshot));
        let is_new = machine != before;
        if is_new {
            before.clone_from(&machine);
        }
        events.push(Event {
            row: index + 1,
            cpu,
            heading,
            what: event.what.clone(),
            machine: machine.filter(|_| is_new),
        });
    }
    Steps {
        caption,
        cpus: timeline.cpus(),
        events,
        story: timeline.story.clone(),
        again_from,
        ends_in_violation: of == Of::Violation && timeline.again_from.is_none(),
    }
}

/// What is worth telling of a timeline's machine: words that change, frames that are used.
struct Told<'t> {
    words: Vec<&'t str>,
    frames: Vec<&'t str>,
}

impl<'t> Told<'t> {
    fn of(timeline: &'t Timeline) -> Told<'t> {
        let snapshots = (0..timeline.events.len()).filter_map(|event| timeline.after(event));
        let mut words: BTreeMap<&str, (usize, Vec<u64>)> = BTreeMap::new();
        let mut told = Told {
            words: Vec::new(),
            frames: Vec::new(),
        };
        for snapshot in snapshots {
            for (place, (name, value)) in snapshot.words.iter().enumerate() {
                let (_, values) = words.entry(name).or_insert((place, Vec::new()));
                if values.last() != Some(value) {
                    values.push(*value);
                }
            }
            for frame in &snapshot.frames {
                let is_used = frame.used_for != "free";
                if is_used && !told.frames.contains(&&*frame.name) {
                    told.frames.push(&frame.name);
                }
            }
        }
        let mut changing: Vec<(usize, &str)> = words
            .into_iter()
            .filter(|(_, (_, values))| values.len() > 1)
            .map(|(name, (place, _))| (place, name))
            .collect();
        changing.sort_unstable();
        told.words = changing.into_iter().map(|(_, name)| name).collect();
        told
    }

    fn machine(&self, snapshot: &Snapshot) -> MachineState {
        let value = |name: &str| {
            let mut words = snapshot.words.iter();
            words
                .find(|(other, _)| other == name)
                .map(|(_, value)| *value)
        };
        let cpus = snapshot.cpus.iter().enumerate();
        let cpus = cpus.map(|(number, cpu)| {
            let lazy = value(&format!("cpu{number}.is_lazy"));
            cpu_state(cpu, lazy.map(|lazy| lazy != 0))
        });
        let frames = snapshot.frames.iter();
        let frames = frames.filter(|frame| self.frames.contains(&&*frame.name));
        let frames = frames.map(|frame| FrameState {
            name: frame.name.clone(),
            used_for: frame.used_for,
            entries: frame
                .entries
                .iter()
                .map(|entry| EntryState {
                    name: entry.name.clone(),
                    holds: entry.holds.clone(),
                    leads_to: entry.leads_to.clone(),
                })
                .collect(),
        });
        let words = self.words.iter();
        let words = words.map(|name| ((*name).to_owned(), value(name).unwrap_or_default()));
        MachineState {
            cpus: cpus.collect(),
            frames: frames.collect(),
            words: words.collect(),
        }
    }
}

fn cpu_state(cpu: &CpuSnapshot, lazy: Option<bool>) -> CpuState {
    let cached = cpu.cached.iter().map(|held| Held {
        what: held.what.clone(),
        frame: held.frame.clone(),
        table: held.leads_to_table,
        danger: danger(held),
    });
    CpuState {
        root: cpu.root.clone(),
        pcid: cpu.pcid,
        lazy,
        cached: cached.collect(),
        buffered: cpu.buffered.clone(),
        combining: cpu.combining,
    }
}

fn danger(held: &HeldEntry) -> Option<&'static str> {
    match held.how {
        HeldHow::MustNotBeUsed => Some("its flush has returned: to use it is a violation"),
        HeldHow::InWalk if held.of_freed_table => Some("held by a walk: of a freed table"),
        HeldHow::InWalk => Some("held by a walk under another PCID"),
        HeldHow::Cached if held.of_freed_table => Some("of a freed table"),
        HeldHow::Cached => None,
    }
}
