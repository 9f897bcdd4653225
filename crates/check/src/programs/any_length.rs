//! Programs of any length: each CPU has a menu of what kernels do, and starts whatever it likes of it, for ever.

use lazytlb::{
    Access, CpuId, Entry, FlushRange, FrameKind, Memory, PhysAddr, Policy, Poll, Tables, ValueKind,
    VirtAddr,
};
use lazytlb_model::AtomicCell;

use super::setup::{NEXT_PAGE, PAGE, Setup, USER, root_index, table_index};
use crate::menu::{MenuItem, Mode};
use crate::model_hw::ModelHw;
use crate::program::Program;
use crate::protocol::{Frees, Protocol, Removal, Space};

/// The kernel's own space, or a kernel thread in somebody else's.
const KERNEL: Mode = Mode::FIRST;
/// A task of a user space.
fn task(space: Space) -> Mode {
    Mode::new(space.0 as u8)
}

/// User spaces that menus can have.
const MOST_SPACES: usize = 2;

/// What a CPU may do.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum MenuOperation {
    /// Maps a page, with its table if that is absent.
    Map,
    /// Maps the page after it, under the same table.
    MapNext,
    /// Unmaps the page, and frees it.
    Unmap,
    /// Unmaps the page and the one after it with one flush, and frees them.
    UnmapBoth,
    /// Unmaps all pages of the table, and frees them and the table.
    Free,
    /// Takes the right to write to the page away.
    Protect,
    /// User code loads from the page.
    Load,
    /// User code stores to the page.
    Touch,
    /// User code stores to the page after it.
    TouchNext,
    /// Switches to the user space.
    Switch,
    /// Goes lazy: from the user space to a kernel thread.
    Lazy,
    /// Flushes everything in the user space.
    FlushAll,
    /// Flushes the page in the user space.
    FlushPage,
    /// Flushes the page after it.
    FlushNext,
}

impl MenuOperation {
    /// Every operation.
    pub const ALL: [MenuOperation; 14] = [
        MenuOperation::Map,
        MenuOperation::MapNext,
        MenuOperation::Unmap,
        MenuOperation::UnmapBoth,
        MenuOperation::Free,
        MenuOperation::Protect,
        MenuOperation::Load,
        MenuOperation::Touch,
        MenuOperation::TouchNext,
        MenuOperation::Switch,
        MenuOperation::Lazy,
        MenuOperation::FlushAll,
        MenuOperation::FlushPage,
        MenuOperation::FlushNext,
    ];

    /// Returns the name that people type.
    pub fn name(self) -> &'static str {
        match self {
            MenuOperation::Map => "map",
            MenuOperation::MapNext => "map-next",
            MenuOperation::Unmap => "unmap",
            MenuOperation::UnmapBoth => "unmap-both",
            MenuOperation::Free => "free",
            MenuOperation::Protect => "protect",
            MenuOperation::Load => "load",
            MenuOperation::Touch => "touch",
            MenuOperation::TouchNext => "touch-next",
            MenuOperation::Switch => "switch",
            MenuOperation::Lazy => "lazy",
            MenuOperation::FlushAll => "flush-all",
            MenuOperation::FlushPage => "flush-page",
            MenuOperation::FlushNext => "flush-next",
        }
    }

    /// Says in a line what it does, and when it may start.
    pub fn about(self) -> &'static str {
        match self {
            MenuOperation::Map => "map a page of the space, with its table if that is absent",
            MenuOperation::MapNext => "map the page after it, under the same table",
            MenuOperation::Unmap => "unmap the page, flush, and free it",
            MenuOperation::UnmapBoth => "unmap both pages, flush once, and free them",
            MenuOperation::Free => "unmap what the table maps, flush, and free it and the table",
            MenuOperation::Protect => "make the page read-only, and flush it",
            MenuOperation::Load => "in the space, as a task: user code loads from the page",
            MenuOperation::Touch => "in the space, as a task: user code stores to the page",
            MenuOperation::TouchNext => {
                "in the space, as a task: user code stores to the page after it"
            }
            MenuOperation::Switch => "switch to the space, to a task",
            MenuOperation::Lazy => "as a task: go lazy, to a kernel thread that borrows the space",
            MenuOperation::FlushAll => "flush all of the space",
            MenuOperation::FlushPage => "flush the page in the space",
            MenuOperation::FlushNext => "flush the page after it in the space",
        }
    }

    /// Says whether it changes page tables.
    pub fn changes_tables(self) -> bool {
        matches!(
            self,
            MenuOperation::Map
                | MenuOperation::MapNext
                | MenuOperation::Unmap
                | MenuOperation::UnmapBoth
                | MenuOperation::Free
                | MenuOperation::Protect
        )
    }
}

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

/// A menu for each CPU.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Menus(Vec<Vec<Offered>>);

/// A text that names no menus.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NoMenus {
    /// An operation that there is not.
    #[error("no operation is called `{0}`: there are {list}", list = names())]
    Operation(String),
    /// A space that there is not.
    #[error(
        "`{0}` is in no space: an operation is in the first user space, or, as `switch:2`, in the second; \
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
        Ok(Menus(menus.collect::<Result<_, _>>()?))
    }
}

impl std::fmt::Display for Menus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let menus = self.0.iter().map(|menu| {
            let names: Vec<String> = menu.iter().map(Offered::to_string).collect();
            names.join(",")
        });
        f.write_str(&menus.collect::<Vec<_>>().join("/"))
    }
}

impl Menus {
    /// CPUs that these programs can have.
    pub const MOST_CPUS: usize = 4;

    /// Gives one set to so many CPUs: its changes of page tables to CPU 0 alone, the rest to all.
    ///
    /// # Errors
    /// If there are several sets, too many CPUs or none, or nothing for the CPUs after the first.
    pub fn shared_by(self, cpus: usize) -> Result<Menus, NoMenus> {
        let [set] = &self.0[..] else {
            return Err(NoMenus::NotShared(self.0.len()));
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
        let mut menus = vec![others; cpus];
        menus[0].clone_from(set);
        Ok(Menus(menus))
    }

    /// Lists the user spaces, up to the last one that an operation is in.
    fn spaces(&self) -> Vec<Space> {
        let all = self.0.iter().flatten();
        let last = all.map(|offered| offered.space).max().unwrap_or(USER);
        (USER.0..=last.0).map(Space).collect()
    }

    /// Makes the program in which each CPU starts what its menu has, any number of times, under a protocol. Where
    /// several CPUs change a space's page tables, they take a lock for that.
    pub fn program<P: Protocol>(&self, policy: Policy) -> Program {
        let name = format!("any {self}");
        let spaces = self.spaces();
        let mut setup = Setup::<P>::new(&name, self.0.len() as u8, spaces.len(), policy);
        // The pages and their table for each space.
        let pages = |space| self.pages(space);
        let frames = spaces.iter().map(|&space| 1 + pages(space).len());
        setup.program.free_frames(frames.sum());
        // Every CPU begins in the kernel's own space, the first, whose generation it has a copy of.
        for word in setup.program.space_generations.split_off(1) {
            setup.program.counts_apart(word);
        }
        for space in spaces {
            let lock = self.several_change(space).then(|| {
                let name = format!("page-table lock of space {}", space.0);
                setup.program.atomic_of_kind(ValueKind::Lock, name, 0)
            });
            for (cpu, menu) in self.0.iter().enumerate() {
                for &offered in menu.iter().filter(|offered| offered.space == space) {
                    setup.offer(CpuId(cpu as u16), offered, pages(space), lock);
                }
            }
        }
        setup.program
    }

    /// Lists the pages that may be mapped in a space.
    fn pages(&self, space: Space) -> &'static [VirtAddr] {
        let both = Offered {
            operation: MenuOperation::MapNext,
            space,
        };
        match self.0.iter().any(|menu| menu.contains(&both)) {
            true => &[PAGE, NEXT_PAGE],
            false => &[PAGE],
        }
    }

    /// Says whether more than one CPU changes the page tables of a space.
    fn several_change(&self, space: Space) -> bool {
        let changes =
            |offered: &Offered| offered.space == space && offered.operation.changes_tables();
        self.0
            .iter()
            .filter(|menu| menu.iter().any(changes))
            .count()
            > 1
    }
}

impl<P: Protocol> Setup<P> {
    fn offer(
        &mut self,
        cpu: CpuId,
        offered: Offered,
        pages: &'static [VirtAddr],
        lock: Option<AtomicCell>,
    ) {
        let Offered { operation, space } = offered;
        let (root, protocol) = (self.root(space), self.protocol());
        let lock = lock.filter(|_| operation.changes_tables());
        let run = move |hw: &ModelHw| {
            if let Some(lock) = &lock {
                hw.poll(|hw| (lazytlb::Hw::swap(hw, lock, 1) == 0).then_some(()));
            }
            run(hw, &*protocol, offered, root, pages);
            if let Some(lock) = &lock {
                lazytlb::Hw::store(hw, lock, 0);
            }
        };
        let item = MenuItem::new(offered.to_string(), run);
        let item = match operation {
            MenuOperation::Touch | MenuOperation::TouchNext | MenuOperation::Load => {
                item.starts_in([task(space)])
            }
            MenuOperation::Switch => item.leads_to(task(space)),
            MenuOperation::Lazy => {
                let tasks = (1..=MOST_SPACES).map(|space| task(Space(space)));
                item.starts_in(tasks).leads_to(KERNEL)
            }
            _ => item,
        };
        self.program.offer(cpu.0 as u8, item);
    }
}

fn run<P: Protocol>(
    hw: &ModelHw,
    protocol: &P,
    Offered { operation, space }: Offered,
    root: PhysAddr,
    pages: &[VirtAddr],
) {
    match operation {
        MenuOperation::Map => map(hw, root, PAGE),
        MenuOperation::MapNext => map(hw, root, NEXT_PAGE),
        MenuOperation::Unmap => unmap(hw, protocol, space, root, &[PAGE], false),
        MenuOperation::UnmapBoth => unmap(hw, protocol, space, root, pages, false),
        MenuOperation::Free => unmap(hw, protocol, space, root, pages, true),
        MenuOperation::Protect => protect(hw, protocol, space, root),
        MenuOperation::Load => hw.touch(PAGE, Access::Load),
        MenuOperation::Touch => hw.touch(PAGE, Access::Store),
        MenuOperation::TouchNext => hw.touch(NEXT_PAGE, Access::Store),
        MenuOperation::Switch => protocol.switch_mm(hw, space),
        MenuOperation::Lazy => protocol.enter_lazy(hw),
        MenuOperation::FlushAll => {
            protocol.flush(hw, space, FlushRange::All, Tables::Kept);
        }
        MenuOperation::FlushPage => {
            protocol.flush(hw, space, FlushRange::page(PAGE), Tables::Kept);
        }
        MenuOperation::FlushNext => {
            protocol.flush(hw, space, FlushRange::page(NEXT_PAGE), Tables::Kept);
        }
    }
}

/// Maps a page, if it is absent, with its table, if that is.
fn map(hw: &ModelHw, root: PhysAddr, addr: VirtAddr) {
    let hooked = hw.read_entry(root, root_index(addr));
    if hooked.is_present() {
        let table = hooked.frame();
        if !hw.read_entry(table, table_index(addr)).is_present() {
            let page = hw.alloc_frame(FrameKind::Page);
            hw.write_entry(table, table_index(addr), Entry::to(page));
        }
        return;
    }
    let table = hw.alloc_frame(FrameKind::Table);
    let page = hw.alloc_frame(FrameKind::Page);
    hw.write_entry(table, table_index(addr), Entry::to(page));
    hw.write_entry(root, root_index(addr), Entry::to(table));
}

/// Unmaps those of the pages that are there, and their table with them, if that is wanted.
fn unmap<P: Protocol>(
    hw: &ModelHw,
    protocol: &P,
    space: Space,
    root: PhysAddr,
    pages: &[VirtAddr],
    frees_table: bool,
) {
    let hooked = hw.read_entry(root, root_index(PAGE));
    if !hooked.is_present() {
        return;
    }
    let table = hooked.frame();
    let mut removals = Vec::new();
    for &addr in pages {
        let mapped = hw.read_entry(table, table_index(addr));
        if mapped.is_present() {
            removals.push(Removal {
                addr,
                table,
                index: table_index(addr),
                frees: Frees::Page(mapped.frame()),
            });
        }
    }
    if frees_table {
        removals.push(Removal {
            addr: PAGE,
            table: root,
            index: root_index(PAGE),
            frees: Frees::Table(table),
        });
    }
    if !removals.is_empty() {
        protocol.remove(hw, space, &removals, &|_| {});
    }
}

/// Takes the right to write to the page away, if there is one, and flushes it.
fn protect<P: Protocol>(hw: &ModelHw, protocol: &P, space: Space, root: PhysAddr) {
    let hooked = hw.read_entry(root, root_index(PAGE));
    if !hooked.is_present() {
        return;
    }
    let table = hooked.frame();
    let mapped = hw.read_entry(table, table_index(PAGE));
    if mapped.is_present() && mapped.is_writable() {
        hw.write_entry(table, table_index(PAGE), Entry::read_only(mapped.frame()));
        protocol.flush(hw, space, FlushRange::page(PAGE), Tables::Kept);
    }
}
