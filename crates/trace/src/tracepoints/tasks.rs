//! Which space a task has, as clone, exec and exit tell it.

use foldhash::fast::FixedState;
use hashbrown::{HashMap, HashSet};

use crate::error::LineProblem;
use crate::limits::MAX_LIVE_MMS;
use crate::operation::MmId;
use crate::snapshot::Snapshot;

const CLONE_VM: u64 = 0x100;
const CLONE_THREAD: u64 = 0x1_0000;
const CLONE_UNTRACED: u64 = 0x80_0000;
/// The first id of our own; what Linux numbers so is no space of a task.
const FIRST_ID: u64 = 16;
const IDLE: u32 = 0;
const KTHREADD: u32 = 2;

/// What is known of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// It was never seen before: it may be a kernel thread.
    Unknown,
    /// A kernel thread, or an idle task.
    Kernel,
    /// It has this space.
    Space(MmId),
    /// It exits and has given up this space; whether the space's end has been told.
    Gone {
        /// The space that it had.
        mm: MmId,
        /// The space has other users, or its last flush was told.
        settled: bool,
    },
}

/// Tasks and spaces.
pub(crate) struct Tasks {
    owners: HashMap<u32, Owner, FixedState>,
    spaces: HashMap<MmId, Users, FixedState>,
    next_id: u64,
    /// Tasks with a new space whose `sched_process_exec` has not come yet.
    execing: HashSet<u32, FixedState>,
    /// Tasks that may be exiting in place of that.
    doubted: HashSet<u32, FixedState>,
}

/// Who keeps a space.
#[derive(Default)]
struct Users {
    tasks: u32,
    cpus: u32,
    /// Whether all its tasks are known.
    counted: bool,
}

/// What becomes of a space that a task gave up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Others use it, or may.
    Lives,
    /// The last user is gone.
    Ends,
}

/// What becomes of the space that exec left.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Old {
    /// It ends if nobody else uses it.
    Ends,
    /// Its last flush was seen.
    WasFlushed,
}

impl Tasks {
    /// Knows the tasks of a snapshot.
    pub(crate) fn new(snapshot: Option<&Snapshot>) -> Tasks {
        let mut tasks = Tasks {
            owners: HashMap::with_hasher(FixedState::default()),
            spaces: HashMap::with_hasher(FixedState::default()),
            next_id: FIRST_ID,
            execing: HashSet::with_hasher(FixedState::default()),
            doubted: HashSet::with_hasher(FixedState::default()),
        };
        for task in snapshot.map_or(&[][..], Snapshot::tasks) {
            let owner = match task.has_mm {
                true => {
                    let mm = MmId::older(u64::from(task.tgid));
                    let users = tasks.spaces.entry(mm).or_default();
                    users.tasks += 1;
                    users.counted = true;
                    Owner::Space(mm)
                }
                false => Owner::Kernel,
            };
            tasks.owners.insert(task.tid, owner);
        }
        tasks
    }

    /// Returns what is known of a task.
    pub(crate) fn owner(&self, pid: u32) -> Owner {
        match self.owners.get(&pid) {
            Some(owner) => *owner,
            None if pid == IDLE || pid == KTHREADD => Owner::Kernel,
            None => Owner::Unknown,
        }
    }

    /// Notes that a task which was never seen has a space: this one, or one of its own.
    pub(crate) fn found(&mut self, pid: u32, shares: Option<MmId>) -> MmId {
        let mm = shares.unwrap_or(MmId::older(1 << 32 | u64::from(pid)));
        self.spaces.entry(mm).or_default().tasks += 1;
        self.owners.insert(pid, Owner::Space(mm));
        mm
    }

    /// A task makes another.
    pub(crate) fn clone(&mut self, parent: u32, child: u32, flags: u64) -> Result<(), LineProblem> {
        let owner = match self.owner(parent) {
            Owner::Kernel => Owner::Kernel,
            Owner::Space(mm) | Owner::Gone { mm, .. } if flags & CLONE_VM != 0 => Owner::Space(mm),
            Owner::Space(_) | Owner::Gone { .. } => Owner::Space(self.new_space()?),
            Owner::Unknown if flags & CLONE_VM == 0 => Owner::Space(self.new_space()?),
            Owner::Unknown if flags & CLONE_UNTRACED != 0 && flags & CLONE_THREAD == 0 => {
                Owner::Kernel
            }
            Owner::Unknown => Owner::Unknown,
        };
        self.release(child);
        if let Owner::Space(mm) = owner {
            self.spaces.entry(mm).or_default().tasks += 1;
        }
        self.owners.insert(child, owner);
        Ok(())
    }

    /// Whether making a task shows that the maker has a user space.
    pub(crate) fn shows_user(flags: u64) -> bool {
        flags & CLONE_VM == 0 || flags & CLONE_THREAD != 0
    }

    /// A task gets a new space; returns it, and what it had before.
    pub(crate) fn exec(&mut self, pid: u32) -> Result<(MmId, Option<(MmId, Ending)>), LineProblem> {
        let before = self.release(pid);
        let mm = self.new_space()?;
        self.spaces.entry(mm).or_default().tasks = 1;
        self.owners.insert(pid, Owner::Space(mm));
        self.execing.insert(pid);
        Ok((mm, before))
    }

    /// Whether a task has got a new space since its latest `sched_process_exec`.
    pub(crate) fn has_execed(&self, pid: u32) -> bool {
        self.execing.contains(&pid)
    }

    /// `sched_process_exec` has come.
    pub(crate) fn exec_is_told(&mut self, pid: u32) {
        self.execing.remove(&pid);
        self.doubted.remove(&pid);
    }

    /// Whether a task has a new space, or exits, is not known.
    pub(crate) fn doubt(&mut self, pid: u32) {
        self.doubted.insert(pid);
    }

    /// Whether it is not known.
    pub(crate) fn is_doubted(&self, pid: u32) -> bool {
        self.doubted.contains(&pid)
    }

    /// It has a space.
    pub(crate) fn trust(&mut self, pid: u32) {
        self.doubted.remove(&pid);
    }

    /// A task exits; returns the space that it gives up.
    pub(crate) fn exit(&mut self, pid: u32) -> Option<(MmId, Ending)> {
        let (mm, ending) = self.release(pid)?;
        self.owners.insert(
            pid,
            Owner::Gone {
                mm,
                settled: ending == Ending::Ends,
            },
        );
        Some((mm, ending))
    }

    /// The end of the space that a task gave up has been told.
    pub(crate) fn settle(&mut self, pid: u32) {
        if let Some(Owner::Gone { settled, .. }) = self.owners.get_mut(&pid) {
            *settled = true;
        }
    }

    /// The end of the space that a task gave up is yet to come.
    pub(crate) fn unsettle(&mut self, pid: u32) {
        if let Some(Owner::Gone { settled, .. }) = self.owners.get_mut(&pid) {
            *settled = false;
        }
    }

    /// A CPU keeps a space, as its own or borrowed.
    pub(crate) fn keep(&mut self, mm: MmId) {
        self.spaces.entry(mm).or_default().cpus += 1;
    }

    /// A CPU keeps it no longer; returns whether it is freed with that.
    pub(crate) fn drop(&mut self, mm: MmId) -> bool {
        if let Some(users) = self.spaces.get_mut(&mm) {
            users.cpus = users.cpus.saturating_sub(1);
        }
        self.is_freed(mm)
    }

    /// Returns, once, whether nobody keeps a space.
    pub(crate) fn is_freed(&mut self, mm: MmId) -> bool {
        let freed = self
            .spaces
            .get(&mm)
            .is_some_and(|users| (users.tasks, users.cpus) == (0, 0));
        if freed {
            self.spaces.remove(&mm);
        }
        freed
    }

    /// A task's number is given up.
    pub(crate) fn release(&mut self, pid: u32) -> Option<(MmId, Ending)> {
        self.exec_is_told(pid);
        let Some(Owner::Space(mm)) = self.owners.remove(&pid) else {
            return None;
        };
        let users = self.spaces.get_mut(&mm)?;
        users.tasks = users.tasks.saturating_sub(1);
        let ends = users.tasks == 0 && users.counted;
        Some((mm, if ends { Ending::Ends } else { Ending::Lives }))
    }

    fn new_space(&mut self) -> Result<MmId, LineProblem> {
        if self.spaces.len() >= MAX_LIVE_MMS || self.owners.len() >= 4 * MAX_LIVE_MMS {
            return Err(LineProblem::TooManyMms);
        }
        let mm = MmId(self.next_id);
        self.next_id += 1;
        let users = Users {
            counted: true,
            ..Users::default()
        };
        self.spaces.insert(mm, users);
        Ok(mm)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_share_and_children_do_not() {
        let mut tasks = Tasks::new(None);
        let shell = tasks.found(10, None);
        tasks.clone(10, 11, 0).unwrap();
        tasks.clone(11, 12, CLONE_VM | CLONE_THREAD).unwrap();
        let Owner::Space(child) = tasks.owner(11) else {
            panic!("a child has a space")
        };
        assert_ne!(child, shell);
        assert_eq!(tasks.owner(12), Owner::Space(child));
        assert_eq!(tasks.exit(12), Some((child, Ending::Lives)));
        let (new, before) = tasks.exec(11).unwrap();
        assert_eq!(before, Some((child, Ending::Ends)));
        assert!(tasks.is_freed(child));
        assert_eq!(tasks.exit(11), Some((new, Ending::Ends)));
        // Whether the shell had other threads was never seen.
        assert_eq!(tasks.exit(10), Some((shell, Ending::Lives)));
    }

    #[test]
    fn kernel_threads_are_told_by_whom_they_come_from() {
        let mut tasks = Tasks::new(None);
        tasks
            .clone(KTHREADD, 50, CLONE_VM | CLONE_UNTRACED)
            .unwrap();
        assert_eq!(tasks.owner(50), Owner::Kernel);
        assert_eq!(tasks.owner(0), Owner::Kernel);
        assert_eq!(tasks.owner(77), Owner::Unknown);
    }
}
