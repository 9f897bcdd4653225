//! The idle states of a CPU, and which one it was woken from.

use std::fs::read_to_string;
use std::path::{Path, PathBuf};

/// An idle state, as its driver describes it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct IdleState {
    /// Its name, such as C1E.
    pub(crate) name: String,
    /// How long it takes to leave, at the worst.
    pub(crate) latency_us: u64,
}

/// The idle states of a CPU, from lightly to deeply, as /sys tells of them.
#[derive(Debug)]
pub(crate) struct IdleStates {
    folder: PathBuf,
    /// The states.
    pub(crate) states: Vec<IdleState>,
}

/// How often each state was left.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Usages(Vec<u64>);

impl IdleStates {
    /// Reads what states a CPU has; `None` without cpuidle.
    pub(crate) fn of(cpu: usize) -> Option<IdleStates> {
        let folder = format!("/sys/devices/system/cpu/cpu{cpu}/cpuidle");
        IdleStates::read(Path::new(&folder))
    }

    fn read(folder: &Path) -> Option<IdleStates> {
        let mut states = Vec::new();
        while let (Some(name), Some(latency)) = (
            field(folder, states.len(), "name"),
            field(folder, states.len(), "latency"),
        ) {
            states.push(IdleState {
                name,
                latency_us: latency.parse().ok()?,
            });
        }
        (!states.is_empty()).then(|| IdleStates {
            folder: folder.to_owned(),
            states,
        })
    }

    /// Reads how often each state was left until now; `None` if the system does not say.
    pub(crate) fn usages(&self) -> Option<Usages> {
        let usage = |number| field(&self.folder, number, "usage")?.parse().ok();
        let usages: Option<Vec<u64>> = (0..self.states.len()).map(usage).collect();
        usages.map(Usages)
    }
}

impl Usages {
    /// Finds the state that was left between two readings. `None` if none was, or more than one: it is then not known which one
    /// ended at what happened in between.
    ///
    /// Linux counts a state when it is left, so the state that a CPU sleeps in is not the one that was counted last.
    pub(crate) fn left_until(&self, after: &Usages) -> Option<usize> {
        let rises = || {
            let pairs = self.0.iter().zip(&after.0);
            pairs.map(|(before, after)| after.saturating_sub(*before))
        };
        (rises().sum::<u64>() == 1).then(|| rises().position(|rise| rise == 1))?
    }
}

fn field(folder: &Path, state: usize, name: &str) -> Option<String> {
    let text = read_to_string(folder.join(format!("state{state}")).join(name)).ok()?;
    Some(text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{create_dir_all, write};

    fn state(folder: &Path, number: usize, fields: [(&str, &str); 3]) {
        let folder = folder.join(format!("state{number}"));
        create_dir_all(&folder).unwrap();
        for (name, text) in fields {
            write(folder.join(name), text).unwrap();
        }
    }

    #[test]
    fn states_are_read_in_the_order_of_their_numbers() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        for (number, latency) in (0..=10).zip([0, 2, 10, 50, 85, 133, 200, 300, 400, 500, 600]) {
            let (name, latency) = (format!("S{number}\n"), format!("{latency}\n"));
            let usage = ("usage", "7\n");
            state(
                folder,
                number,
                [("name", &name), ("latency", &latency), usage],
            );
        }
        let read = IdleStates::read(folder).unwrap();
        let deepest = IdleState {
            name: "S10".to_owned(),
            latency_us: 600,
        };
        assert_eq!(read.states.len(), 11);
        assert_eq!(read.states[10], deepest);
        let before = read.usages().unwrap();
        write(folder.join("state2/usage"), "8\n").unwrap();
        assert_eq!(before.left_until(&read.usages().unwrap()), Some(2));
    }

    #[test]
    fn what_cannot_be_read_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        assert!(IdleStates::read(folder).is_none());
        let fields = [("name", "C1\n"), ("latency", "2\n"), ("usage", "many\n")];
        state(folder, 0, fields);
        assert_eq!(IdleStates::read(folder).unwrap().usages(), None);
        write(folder.join("state0/latency"), "long\n").unwrap();
        assert!(IdleStates::read(folder).is_none());
    }

    #[test]
    fn only_a_single_state_that_was_left_is_told() {
        let before = Usages(vec![1, 10, 5]);
        let left = |after: [u64; 3]| before.left_until(&Usages(after.to_vec()));
        assert_eq!(left([1, 10, 6]), Some(2));
        assert_eq!(left([1, 10, 5]), None);
        assert_eq!(left([1, 12, 5]), None);
        assert_eq!(left([2, 10, 6]), None);
    }
}
