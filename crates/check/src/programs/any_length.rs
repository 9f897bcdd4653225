//! Programs of any length: each CPU has a menu of what kernels do, and starts whatever it likes of it, for ever.
//!
//! | file | what |
//! | --- | --- |
//! | `operation` | what a CPU may do |
//! | `lock` | under which lock several CPUs change page tables |
//! | `run` | what the operations do |

mod lock;
mod operation;
mod run;

use lazytlb::{CpuId, Policy, ValueKind, VirtAddr};

pub use self::lock::PageTableLock;
pub(super) use self::lock::{Lock, locked};
pub use self::operation::MenuOperation;
use self::run::{Tabled, run};
use super::setup::{MakeProtocol, NEXT_PAGE, PAGE, Setup, USER};
use crate::menu::{MenuItem, Mode};
use crate::model_hw::ModelHw;
use crate::program::Program;
use crate::protocol::{Protocol, Space};

/// The kernel's own space, or a kernel thread in somebody else's.
const KERNEL: Mode = Mode::FIRST;
/// A task of a user space.
fn task(space: Space) -> Mode {
    Mode::new(space.0 as u8)
}

/// User spaces that menus can have.
const MOST_SPACES: usize = 3;

/// An operation in a user space, on a menu.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Offered {
    operation: MenuOperation,
    space: Space,
}

impl std::fmt::Display for Offered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.operation.name())?;
        match self.space {
            USER => Ok(()),
            Space(number) => write!(f, ":{number}"),
        }
    }
}

impl std::str::FromStr for Offered {
    type Err = NoMenus;

    fn from_str(text: &str) -> Result<Offered, NoMenus> {
        let (name, space) = text.split_once(':').unwrap_or((text, "1"));
        let mut all = MenuOperation::ALL.into_iter();
        let operation = all.find(|operation| operation.name() == name);
        let operation = operation.ok_or_else(|| NoMenus::Operation(name.to_owned()))?;
        let space = space.parse().ok();
        let space = space.filter(|space| (1..=MOST_SPACES).contains(space));
        let space = space.ok_or_else(|| NoMenus::Space(text.to_owned()))?;
        Ok(Offered {
            operation,
            space: Space(space),
        })
    }
}

/// A menu for each CPU, and how page tables are locked where several CPUs change those of one space.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Menus {
    /// What each CPU may start.
    sets: Vec<Vec<Offered>>,
    lock: PageTableLock,
    /// Whether user mode has page tables of its own.
    isolated: bool,
}

/// A text that names no menus.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NoMenus {
    /// An operation that there is not.
    #[error("no operation is called `{0}`: there are {list}", list = names())]
    Operation(String),
    /// A space that there is not.
    #[error(
        "`{0}` is in no space: an operation is in the first user space, or, as `switch:2`, in a further one; \
         there are {most}",
        most = MOST_SPACES
    )]
    Space(String),
    /// A CPU without one.
    #[error(
        "CPU {0} has an empty set: write what it may start, such as `switch,touch,lazy`, or leave its slash out"
    )]
    Empty(usize),
    /// More CPUs than a machine has.
    #[error("{0} CPUs are too many: these programs have up to {most}", most = Menus::MOST_CPUS)]
    TooMany(usize),
    /// More than one set, for a number of CPUs that share one.
    #[error(
        "there are {0} sets, one for each CPU, and so no number of CPUs is needed: leave it out, or write one set"
    )]
    NotShared(usize),
    /// A set of which CPU 0 alone has something.
    #[error(
        "CPU 0 alone changes page tables, and the set has nothing else for the other CPUs: add operations such as \
         `switch`, `touch`, `lazy`, or write a set for each CPU, between slashes"
    )]
    NothingForOthers,
}

fn names() -> String {
    MenuOperation::ALL
        .map(|operation| format!("`{}`", operation.name()))
        .join(", ")
}

impl std::str::FromStr for Menus {
    type Err = NoMenus;

    /// Reads menus such as `map,unmap,free/touch,switch,switch:2,lazy`: one for each CPU.
    fn from_str(text: &str) -> Result<Menus, NoMenus> {
        let menus: Vec<&str> = text.split('/').collect();
        if menus.len() > Menus::MOST_CPUS {
            return Err(NoMenus::TooMany(menus.len()));
        }
        let menu = |(cpu, menu): (usize, &str)| {
            let names = menu.split(',').map(str::trim);
            let names = names.filter(|name| !name.is_empty());
            let operations = names.map(str::parse).collect::<Result<Vec<_>, _>>();
            let mut operations: Vec<Offered> = operations?;
            operations.sort_unstable();
            operations.dedup();
            match operations.is_empty() {
                true => Err(NoMenus::Empty(cpu)),
                false => Ok(operations),
            }
        };
        let menus = menus.into_iter().enumerate().map(menu);
        Ok(Menus {
            sets: menus.collect::<Result<_, _>>()?,
            lock: PageTableLock::default(),
            isolated: false,
        })
    }
}

impl std::fmt::Display for Menus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let menus = self.sets.iter().map(|menu| {
            let names: Vec<String> = menu.iter().map(Offered::to_string).collect();
            names.join(",")
        });
        f.write_str(&menus.collect::<Vec<_>>().join("/"))
    }
}

/// What menus prove in which software walks, and nobody runs in the space: no promise about a flush bears weight there.
const NO_TABLE_IS_FREED_UNDER_A_WALK: &str = "no page table is freed under a walk by software";

impl Menus {
    /// CPUs that these programs can have.
    pub const MOST_CPUS: usize = 4;

    /// Gives one set to so many CPUs: its changes of page tables to CPU 0 alone, the rest to all.
    ///
    /// # Errors
    /// If there are several sets, too many CPUs or none, or nothing for the CPUs after the first.
    pub fn shared_by(self, cpus: usize) -> Result<Menus, NoMenus> {
        let [set] = &self.sets[..] else {
            return Err(NoMenus::NotShared(self.sets.len()));
        };
        if cpus == 0 {
            return Err(NoMenus::Empty(0));
        }
        if cpus > Menus::MOST_CPUS {
            return Err(NoMenus::TooMany(cpus));
        }
        let others = set
            .iter()
            .filter(|offered| !offered.operation.changes_tables());
        let others: Vec<Offered> = others.copied().collect();
        if cpus > 1 && others.is_empty() {
            return Err(NoMenus::NothingForOthers);
        }
        let mut sets = vec![others; cpus];
        sets[0].clone_from(set);
        Ok(Menus { sets, ..self })
    }

    /// Sets how page tables are locked where several CPUs change those of one space; where none are, it is nothing.
    ///
    /// ```
    /// use lazytlb::Policy;
    /// use lazytlb_check::{Checker, LazyTlb, Menus, PageTableLock};
    ///
    /// // The flush of `lazytlb` serves others while it waits with interrupts off, and so does whoever spins for the lock.
    /// let menus: Menus = "map,unmap,switch,touch/map,unmap,switch".parse()?;
    /// let menus = menus.lock(PageTableLock::InterruptsOff);
    /// let verdict = Checker::new().check(&menus.program::<LazyTlb>(Policy::Ipi));
    /// assert!(verdict.is_safe());
    /// # Ok::<(), lazytlb_check::NoMenus>(())
    /// ```
    pub fn lock(self, lock: PageTableLock) -> Menus {
        Menus { lock, ..self }
    }

    /// Gives each space a second root, which is loaded in user mode: page-table isolation.
    pub fn isolated(self) -> Menus {
        Menus {
            isolated: true,
            ..self
        }
    }

    /// Says whether user mode has page tables of its own.
    pub fn are_isolated(&self) -> bool {
        self.isolated
    }

    /// Returns how page tables are locked; `None` where no two CPUs change those of one space.
    pub fn page_table_lock(&self) -> Option<PageTableLock> {
        let mut spaces = self.spaces().into_iter();
        let is_locked = spaces.any(|space| self.several_change(space));
        is_locked.then_some(self.lock)
    }

    /// Lists the user spaces, up to the last one that an operation is in.
    fn spaces(&self) -> Vec<Space> {
        let all = self.sets.iter().flatten();
        let last = all.map(|offered| offered.space).max().unwrap_or(USER);
        (USER.0..=last.0).map(Space).collect()
    }

    /// Makes the program in which each CPU starts what its menu has, any number of times, under a protocol. Where
    /// several CPUs change a space's page tables, they take a lock for that ([`Menus::lock`]).
    pub fn program<P: Protocol>(&self, policy: Policy) -> Program {
        self.program_of(MakeProtocol::of::<P>(policy))
    }

    /// As [`Menus::program`], whatever the protocol is.
    fn program_of(&self, make: MakeProtocol) -> Program {
        let lock = self.page_table_lock().unwrap_or_default();
        let mut name = format!("any {self}");
        if lock != PageTableLock::default() {
            name += &format!(" --lock {}", lock.name());
        }
        if self.isolated {
            name += " --isolation";
        }
        let spaces = self.spaces();
        let begin = match (self.isolated, self.walks()) {
            (false, false) => Setup::new,
            (false, true) => Setup::walked,
            (true, false) => Setup::isolated,
            (true, true) => Setup::isolated_and_walked,
        };
        let mut setup = begin(&name, self.sets.len() as u8, spaces.len(), make);
        if self.walks() && !self.starts(MenuOperation::Switch) {
            setup.program.proves(NO_TABLE_IS_FREED_UNDER_A_WALK);
        }
        let pages = |space| self.pages(space);
        let frames = spaces.iter().map(|&space| self.frames(space));
        setup.program.free_frames(frames.sum());
        // Every CPU begins in the kernel's own space, the first, whose generation it has a copy of.
        for word in setup.program.space_generations.split_off(1) {
            setup.program.counts_apart(word);
        }
        let counts = std::mem::take(&mut setup.program.request_counts);
        for of_one_cpu in counts.chunk_by(|one, other| one.0 == other.0) {
            let words = of_one_cpu.iter().map(|&(_, word)| word);
            setup
                .program
                .count_apart_together(&words.collect::<Vec<_>>());
        }
        for space in spaces {
            let lock = self.several_change(space).then(|| {
                let name = format!("page-table lock of space {}", space.0);
                Lock {
                    cell: setup.program.atomic_of_kind(ValueKind::Lock, name, 0),
                    taken: self.lock,
                }
            });
            for (cpu, menu) in self.sets.iter().enumerate() {
                let user_mode = setup.user_mode(CpuId(cpu as u16));
                let tabled = Tabled {
                    space,
                    root: setup.root(space),
                    user: user_mode.map(|mode| (setup.halves(space)[1], mode)),
                    pages: pages(space),
                    lock,
                };
                for &offered in menu.iter().filter(|offered| offered.space == space) {
                    setup.offer(CpuId(cpu as u16), offered, tabled);
                }
            }
        }
        setup.program
    }

    /// Says whether some CPU walks page tables by software.
    fn walks(&self) -> bool {
        self.starts(MenuOperation::Walk)
    }

    /// Says whether some CPU may start an operation.
    fn starts(&self, operation: MenuOperation) -> bool {
        let mut all = self.sets.iter().flatten();
        all.any(|offered| offered.operation == operation)
    }

    /// Lists the pages that may be mapped in a space.
    fn pages(&self, space: Space) -> &'static [VirtAddr] {
        let both = Offered {
            operation: MenuOperation::MapNext,
            space,
        };
        match self.sets.iter().any(|menu| menu.contains(&both)) {
            true => &[PAGE, NEXT_PAGE],
            false => &[PAGE],
        }
    }

    /// Counts the frames that a space takes: for its pages and their table, and for what each CPU has removed and not
    /// freed yet, if others may map meanwhile.
    fn frames(&self, space: Space) -> usize {
        let pages = self.pages(space).len();
        let mapped = 1 + pages;
        if self.lock != PageTableLock::FlushAfterUnlock || !self.several_change(space) {
            return mapped;
        }
        let removed = self.sets.iter().map(|set| {
            let of_space = set.iter().filter(|offered| offered.space == space);
            let removed = of_space.map(|offered| match offered.operation {
                MenuOperation::Unmap => 1,
                MenuOperation::UnmapBoth | MenuOperation::UnmapTwo => pages,
                MenuOperation::Free => pages + 1,
                _ => 0,
            });
            removed.max().unwrap_or(0)
        });
        mapped + removed.sum::<usize>()
    }

    /// Says whether more than one CPU changes the page tables of a space.
    fn several_change(&self, space: Space) -> bool {
        let changes =
            |offered: &Offered| offered.space == space && offered.operation.changes_tables();
        self.sets
            .iter()
            .filter(|menu| menu.iter().any(changes))
            .count()
            > 1
    }
}

impl Setup {
    fn offer(&mut self, cpu: CpuId, offered: Offered, tabled: Tabled) {
        let (protocol, operation) = (self.protocol(), offered.operation);
        let run = move |hw: &ModelHw| run(hw, &*protocol, operation, tabled);
        let item = MenuItem::new(offered.to_string(), run);
        let item = match operation {
            MenuOperation::Touch | MenuOperation::TouchNext | MenuOperation::Load => {
                item.starts_in([task(offered.space)])
            }
            MenuOperation::Switch => item.leads_to(task(offered.space)),
            MenuOperation::Leave => item.leads_to(KERNEL),
            MenuOperation::Lazy => {
                let tasks = (1..=MOST_SPACES).map(|space| task(Space(space)));
                item.starts_in(tasks).leads_to(KERNEL)
            }
            _ => item,
        };
        self.program.offer(cpu.0 as u8, item);
    }
}
