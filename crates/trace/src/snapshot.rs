//! The tasks that were there before the recording.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Tasks, and whether they have a user space.
///
/// Tracepoints tell the space of a task that is made in the recording. Of those that run already, a list is needed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    tasks: Vec<SnapshotTask>,
    names: BTreeMap<u32, String>,
}

/// One task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotTask {
    /// Its number.
    pub tid: u32,
    /// Its process: tasks of one process share a space.
    pub tgid: u32,
    /// Whether it has a user space; kernel threads have none.
    pub has_mm: bool,
}

/// Why a list of tasks cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// The file cannot be read.
    #[error("{file}: cannot be read: {source}; check the path and its permissions")]
    Read {
        /// The file's name, as it was given.
        file: String,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A line cannot be right.
    #[error(
        "{file}:{line}: not a task, `task TID TGID COMM HAS_MM` with HAS_MM 0 or 1: \"{text}\""
    )]
    Line {
        /// The file's name, as it was given.
        file: String,
        /// The line, counted from 1.
        line: usize,
        /// Its beginning.
        text: String,
    },
    /// No line is a task.
    #[error(
        "{file}: no line begins with `task `; make one with\n  for t in /proc/[0-9]*/task/[0-9]*; do \
         awk -v t=${{t##*/}} '/^Tgid/{{g=$2}} /^Name/{{n=$2}} /^VmSize/{{m=1}} END{{print \"task\", t, g, n, m+0}}' \
         $t/status; done"
    )]
    Empty {
        /// The file's name, as it was given.
        file: String,
    },
}

impl Snapshot {
    /// Reads a list of tasks from a file.
    ///
    /// # Errors
    /// [`SnapshotError`].
    pub fn open(path: impl AsRef<Path>) -> Result<Snapshot, SnapshotError> {
        let file = path.as_ref().display().to_string();
        match fs::read(path) {
            Ok(text) => Snapshot::parse(&String::from_utf8_lossy(&text), &file),
            Err(source) => Err(SnapshotError::Read { file, source }),
        }
    }

    /// Reads the lines `task TID TGID COMM HAS_MM` of a text; other lines, and what follows in these, say nothing. Of
    /// several lists, the first counts: it ends with a line that begins with `##`.
    ///
    /// # Errors
    /// If a line that begins with `task ` is none, or there is none.
    pub fn parse(text: &str, file: &str) -> Result<Snapshot, SnapshotError> {
        let (mut tasks, mut names) = (Vec::new(), BTreeMap::new());
        for (line, text) in text.lines().enumerate() {
            if text.starts_with("##") && !tasks.is_empty() {
                break;
            }
            let Some(fields) = text.strip_prefix("task ") else {
                continue;
            };
            match task(fields) {
                Some((task, name)) => {
                    tasks.push(task);
                    names.insert(task.tid, name.to_owned());
                }
                None => {
                    return Err(SnapshotError::Line {
                        file: file.to_owned(),
                        line: line + 1,
                        text: text.chars().take(80).collect(),
                    });
                }
            }
        }
        match tasks.is_empty() {
            true => Err(SnapshotError::Empty {
                file: file.to_owned(),
            }),
            false => Ok(Snapshot { tasks, names }),
        }
    }

    /// Makes one of tasks that are known otherwise, without their names.
    pub fn of(tasks: Vec<SnapshotTask>) -> Snapshot {
        let names = BTreeMap::new();
        Snapshot { tasks, names }
    }

    /// Returns the name that a task had (`comm`).
    pub fn name(&self, tid: u32) -> Option<&str> {
        self.names.get(&tid).map(String::as_str)
    }

    /// Returns the tasks.
    pub fn tasks(&self) -> &[SnapshotTask] {
        &self.tasks
    }
}

fn task(fields: &str) -> Option<(SnapshotTask, &str)> {
    let mut fields = fields.split_ascii_whitespace();
    let (tid, tgid, comm, has_mm) = (
        fields.next()?,
        fields.next()?,
        fields.next()?,
        fields.next()?,
    );
    let task = SnapshotTask {
        tid: tid.parse().ok()?,
        tgid: tgid.parse().ok()?,
        has_mm: match has_mm {
            "0" => false,
            "1" => true,
            _ => return None,
        },
    };
    Some((task, comm))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_list_of_a_text_counts() {
        let text = "uptime 5\n## START\ntask 1 1 init 1 0xff 0xff\ntask 2 2 kthreadd 0\n## END\ntask 3 3 late 1\n";
        let snapshot = Snapshot::parse(text, "meta").unwrap();
        let of = |tid, has_mm| SnapshotTask {
            tid,
            tgid: tid,
            has_mm,
        };
        assert_eq!(snapshot.tasks(), [of(1, true), of(2, false)]);
        assert_eq!(snapshot.name(2), Some("kthreadd"));
        assert_eq!(snapshot.name(3), None);
    }

    #[test]
    fn what_is_no_task_is_named() {
        let error = Snapshot::parse("x\ntask 1 1 init yes\n", "f").unwrap_err();
        assert!(error.to_string().starts_with("f:2: not a task"), "{error}");
        let error = Snapshot::parse("", "f").unwrap_err();
        assert!(
            error.to_string().starts_with("f: no line begins with"),
            "{error}"
        );
    }
}
