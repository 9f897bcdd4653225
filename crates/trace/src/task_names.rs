//! What tasks are called.

use std::fmt;

use foldhash::fast::FixedState;
use hashbrown::HashMap;

/// Tasks whose names are kept; those beyond have none. Machines have fewer at a time, and the bound keeps memory constant.
const MAX_NAMES: usize = 1 << 16;
/// Longest name of a task: Linux `TASK_COMM_LEN`, without its NUL.
const MAX_BYTES: usize = 15;

/// The names that tasks left their CPUs with, as `sched_switch` tells them. The last one counts: it is that after exec, and
/// where a number was given again, that of its last task.
#[derive(Clone, Default)]
pub(crate) struct TaskNames {
    names: HashMap<u32, Name, FixedState>,
}

#[derive(Clone, Copy, PartialEq, Eq, Default)]
struct Name {
    bytes: [u8; MAX_BYTES],
    length: u8,
}

impl TaskNames {
    /// Notes a name; what is beyond a name's length is none.
    #[inline]
    pub(crate) fn note(&mut self, tid: u32, name: &[u8]) {
        if name.len() > MAX_BYTES || self.names.len() >= MAX_NAMES && !self.names.contains_key(&tid)
        {
            return;
        }
        let mut noted = Name {
            length: name.len() as u8,
            ..Name::default()
        };
        noted.bytes[..name.len()].copy_from_slice(name);
        self.names.insert(tid, noted);
    }

    /// Returns a task's name.
    pub(crate) fn of(&self, tid: u32) -> Option<String> {
        let name = self.names.get(&tid)?;
        let bytes = &name.bytes[..usize::from(name.length)];
        Some(String::from_utf8_lossy(bytes).into_owned())
    }
}

impl fmt::Debug for TaskNames {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} names", self.names.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_name_counts_and_there_are_never_too_many() {
        let mut names = TaskNames::default();
        names.note(7, b"sh");
        names.note(7, b"cc1 \xff");
        names.note(8, b"longer than fifteen bytes");
        assert_eq!(names.of(7).as_deref(), Some("cc1 \u{fffd}"));
        assert_eq!(names.of(8), None);
        for tid in 100..100 + MAX_NAMES as u32 {
            names.note(tid, b"x");
        }
        assert_eq!(names.names.len(), MAX_NAMES);
        names.note(7, b"still known");
        assert_eq!(names.of(7).as_deref(), Some("still known"));
    }
}
