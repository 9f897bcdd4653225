//! What two CPUs do in this kernel, and what is checked of it.

use std::sync::Arc;

use lazytlb::{
    Access, Entry, Hw, Memory, MmHandle, PageRange, PageSize, PhysAddr, Policy, Until, VirtAddr,
};
use lazytlb_check::{ModelHw, Program};
use lazytlb_model::Cr4;

use super::ends::SpaceRef;
use super::kernel::{Forgets, SmallKernel, Storage};

/// Two spaces of the user's.
const FIRST: MmHandle = MmHandle(1);
const SECOND: MmHandle = MmHandle(2);
/// Pages that are mapped in the first one.
const PAGES: [VirtAddr; 2] = [VirtAddr(0), VirtAddr(1 << 12)];
/// Where they go.
const ELSEWHERE: [VirtAddr; 2] = [VirtAddr(2 << 12), VirtAddr(3 << 12)];
/// A page of the kernel's, in every space.
const KERNEL_PAGE: VirtAddr = VirtAddr(3 << 21);

/// Frames that a program has, at most.
const FRAMES: usize = 8;

type Kernel<const SLOTS: usize> = SmallKernel<ModelHw, SLOTS>;

/// What a program is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum About {
    Fork,
    CopyOnWrite,
    Exec,
    Exit,
    Mremap,
    Munmap,
    Isolated,
    KernelPage,
    ComesOnline,
}

/// How the machine is set up, and the kernel with it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setup {
    pub(crate) policy: Policy,
    pub(crate) pcids_are_on: bool,
    pub(crate) forgets: Forgets,
}

/// A program under construction.
struct Building<const SLOTS: usize> {
    program: Program,
    kernel: Arc<Kernel<SLOTS>>,
}

impl<const SLOTS: usize> Building<SLOTS> {
    /// Boots the kernel: two CPUs in its own space, two spaces beside, of which the first has `pages` and is that of so many tasks.
    fn boot(about: About, setup: Setup, pages: &[VirtAddr], tasks: u64) -> Self {
        let mut program = Program::new(format!("{about:?}"), 2);
        if setup.pcids_are_on {
            program.start_with_cr4(Cr4::default().with(Cr4::PCIDE, true));
        }
        let roots = [program.first_root(), program.table(), program.table()];
        let user_half = (about == About::Isolated).then(|| program.table());
        let mut shares = vec![1; FRAMES];
        if !pages.is_empty() {
            let table = map_user_pages(&mut program, roots[1], pages);
            if let Some(user_half) = user_half {
                program.first_entry(user_half, 0, Entry::to(table));
            }
        }
        match about {
            About::Fork => program.free_frames(1),
            About::CopyOnWrite => {
                let page = share_first_page(&mut program, [roots[1], roots[2]]);
                shares[(page.0 >> 12) as usize] = 2;
                program.free_frames(1);
            }
            About::KernelPage | About::ComesOnline => map_kernel_page(&mut program, roots),
            About::Exec | About::Exit | About::Mremap | About::Munmap | About::Isolated => {}
        }
        let shares = shares.into_iter().enumerate();
        let shares = shares
            .map(|(frame, count)| program.atomic(format!("shares of frame {frame}"), count))
            .collect();
        let mut storage = Storage::new();
        for cpu in 0..program.cpus() {
            storage.add_cpu(&mut program.cells(format!("cpu{cpu}"), cpu));
        }
        for (number, root) in roots.into_iter().enumerate() {
            let references = if number == 1 { tasks } else { 1 };
            let user_root = user_half.filter(|_| number == 1);
            storage.add_space(
                (root, user_root),
                references,
                &mut program.cells(format!("mm{number}"), 0),
            );
        }
        let kernel = SmallKernel::new(storage, setup.policy, shares, setup.forgets);
        let kernel = Arc::new(kernel);
        let handler = Arc::clone(&kernel);
        program.on_flush_interrupt(move |hw| {
            handler.flush_interrupt(hw);
        });
        Building { program, kernel }
    }

    fn operation(
        &mut self,
        cpu: u8,
        name: &str,
        run: impl Fn(&ModelHw, &Kernel<SLOTS>) + Send + Sync + 'static,
    ) {
        let kernel = Arc::clone(&self.kernel);
        self.program
            .operation(cpu, name, move |hw| run(hw, &kernel));
    }

    fn run_in(&mut self, cpu: u8, space: MmHandle) {
        self.operation(cpu, "run a task", move |hw, kernel| {
            kernel.tlb.switch_mm(hw, space);
        });
    }

    /// Lets CPUs free what they have retired, at last; all of them together so many spaces.
    fn idle(&mut self, cpus: &[u8], spaces: u64) {
        let (cpus_at_rest, freed) = (
            self.program.atomic("CPUs at rest", 0),
            self.program.atomic("spaces freed", 0),
        );
        let all = cpus.len() as u64;
        for &cpu in cpus {
            self.operation(cpu, "idle", move |hw, kernel| {
                hw.fetch_add(&freed, kernel.idle(hw));
                if hw.fetch_add(&cpus_at_rest, 1) + 1 == all {
                    assert_eq!(hw.load(&freed), spaces, "each space is freed once");
                }
            });
        }
        self.program.proves(
            "no CPU walks the tables of a space that is freed, nor uses its pages; and each is freed",
        );
    }

    fn touch(&mut self, cpu: u8, addr: VirtAddr, access: Access) {
        self.operation(cpu, "touch", move |hw, _| hw.touch(addr, access));
    }
}

/// Maps pages in a space, under one table.
fn map_user_pages(program: &mut Program, root: PhysAddr, pages: &[VirtAddr]) -> PhysAddr {
    let table = program.table();
    program.first_entry(root, 0, Entry::to(table));
    for &addr in pages {
        let page = program.page();
        program.first_entry(table, (addr.0 >> 12) as u16, Entry::to(page));
    }
    table
}

/// Maps a page in both spaces, as a fork has left it.
fn share_first_page(program: &mut Program, roots: [PhysAddr; 2]) -> PhysAddr {
    let page = program.page();
    for root in roots {
        let table = program.table();
        program.first_entry(root, 0, Entry::to(table));
        program.first_entry(table, 0, Entry::read_only(page));
    }
    page
}

/// Maps the kernel's page under every root, by one table.
fn map_kernel_page(program: &mut Program, roots: [PhysAddr; 3]) {
    program.features().tags = true;
    let (table, page) = (program.table(), program.page());
    for root in roots {
        program.first_entry(root, (KERNEL_PAGE.0 >> 21) as u16, Entry::to(table));
    }
    program.first_entry(table, 0, Entry::to(page));
}

/// Makes a program.
pub(crate) fn build<const SLOTS: usize>(about: About, setup: Setup) -> Program {
    match about {
        About::Fork => fork::<SLOTS>(setup),
        About::CopyOnWrite => copy_on_write::<SLOTS>(setup),
        About::Exec => exec::<SLOTS>(setup),
        About::Exit => exit::<SLOTS>(setup),
        About::Mremap => mremap::<SLOTS>(setup),
        About::Munmap => munmap::<SLOTS>(setup),
        About::Isolated => isolated::<SLOTS>(setup),
        About::KernelPage => kernel_page::<SLOTS>(setup),
        About::ComesOnline => comes_online::<SLOTS>(setup),
    }
}

/// A thread writes all the time, while another one of the same space forks; the child unmaps the page, then the parent.
fn fork<const SLOTS: usize>(setup: Setup) -> Program {
    let mut building = Building::<SLOTS>::boot(About::Fork, setup, &PAGES[..1], 2);
    building.run_in(0, FIRST);
    building.operation(0, "fork", |hw, kernel| kernel.fork(hw, FIRST, SECOND));
    for (name, space) in [("munmap in the child", SECOND), ("munmap", FIRST)] {
        building.operation(0, name, move |hw, kernel| {
            kernel.munmap(hw, space, PageRange::page(PAGES[0]));
        });
    }
    building.run_in(1, FIRST);
    building.touch(1, PAGES[0], Access::Store);
    building.touch(1, PAGES[0], Access::Store);
    building.program
}

/// A thread reads what another one copies, and somebody unmaps the other space's share.
fn copy_on_write<const SLOTS: usize>(setup: Setup) -> Program {
    let mut building = Building::<SLOTS>::boot(About::CopyOnWrite, setup, &[], 2);
    building.run_in(0, FIRST);
    building.operation(0, "write fault", |hw, kernel| {
        kernel.write_fault(hw, FIRST, PAGES[0]);
    });
    building.touch(0, PAGES[0], Access::Store);
    building.operation(1, "munmap in the other space", |hw, kernel| {
        kernel.munmap(hw, SECOND, PageRange::page(PAGES[0]));
    });
    building.run_in(1, FIRST);
    building.touch(1, PAGES[0], Access::Load);
    building.touch(1, PAGES[0], Access::Load);
    building.program
}

/// A task leaves a CPU that stays lazy in its space, executes another program elsewhere, and ends where it runs.
fn exec<const SLOTS: usize>(setup: Setup) -> Program {
    let mut building = Building::<SLOTS>::boot(About::Exec, setup, &PAGES[..1], 1);
    let moved = building.program.atomic("the task has moved", 0);
    building.run_in(1, FIRST);
    building.touch(1, PAGES[0], Access::Load);
    building.operation(1, "go idle", move |hw, kernel| {
        kernel.tlb.enter_lazy(hw);
        hw.store(&moved, 1);
    });
    building.operation(0, "take the task", move |hw, _| {
        hw.pause_until(&moved, Until::Equals(1));
    });
    building.run_in(0, FIRST);
    building.operation(0, "exec", |hw, kernel| {
        kernel.exec(hw, SpaceRef::of_task(kernel, hw, FIRST), SECOND);
    });
    building.operation(0, "drop the space that is loaded", |hw, kernel| {
        drop(SpaceRef::of_task(kernel, hw, SECOND));
    });
    building.idle(&[0], 2);
    building.program
}

/// Two threads end, each with interrupts off on a CPU that is lazy in the space.
fn exit<const SLOTS: usize>(setup: Setup) -> Program {
    let mut building = Building::<SLOTS>::boot(About::Exit, setup, &PAGES[..1], 2);
    for cpu in [0, 1] {
        building.run_in(cpu, FIRST);
        building.touch(cpu, PAGES[0], Access::Load);
        building.operation(cpu, "exit", |hw, kernel| {
            kernel.exit(hw, SpaceRef::of_task(kernel, hw, FIRST));
        });
    }
    building.idle(&[0, 1], 1);
    building.program
}

/// Two pages move, while a thread uses one where it was, and unmaps it where it comes to.
fn mremap<const SLOTS: usize>(setup: Setup) -> Program {
    let mut building = Building::<SLOTS>::boot(About::Mremap, setup, &PAGES, 2);
    building.run_in(0, FIRST);
    building.operation(0, "mremap", |hw, kernel| {
        let moves = [(PAGES[0], ELSEWHERE[0]), (PAGES[1], ELSEWHERE[1])];
        kernel.mremap(hw, FIRST, &moves);
    });
    building.run_in(1, FIRST);
    building.touch(1, PAGES[1], Access::Store);
    building.operation(1, "munmap", |hw, kernel| {
        kernel.munmap(hw, FIRST, PageRange::page(ELSEWHERE[1]));
    });
    building.touch(1, PAGES[1], Access::Store);
    building.program
}

/// A table's pages are unmapped, and the table with them, while a CPU is lazy in the space.
fn munmap<const SLOTS: usize>(setup: Setup) -> Program {
    let mut building = Building::<SLOTS>::boot(About::Munmap, setup, &PAGES, 2);
    building.run_in(0, FIRST);
    building.operation(0, "munmap", |hw, kernel| {
        let pages = PageRange {
            start: PAGES[0],
            len_pages: 2,
            size: PageSize::Size4K,
        };
        kernel.munmap(hw, FIRST, pages);
    });
    building.run_in(1, FIRST);
    building.touch(1, PAGES[1], Access::Store);
    building.operation(1, "go idle", |hw, kernel| {
        kernel.tlb.enter_lazy(hw);
    });
    building.run_in(1, FIRST);
    building.touch(1, PAGES[1], Access::Store);
    building.program
}

/// A page and its table go, which is hooked into both roots, while a thread uses it in user mode and in the kernel.
fn isolated<const SLOTS: usize>(setup: Setup) -> Program {
    let mut building = Building::<SLOTS>::boot(About::Isolated, setup, &PAGES[..1], 2);
    building.run_in(0, FIRST);
    building.operation(0, "munmap", |hw, kernel| {
        kernel.munmap(hw, FIRST, PageRange::page(PAGES[0]));
    });
    building.run_in(1, FIRST);
    for _ in 0..2 {
        building.operation(1, "user mode", |hw, kernel| {
            kernel.in_user_mode(hw, || hw.touch(PAGES[0], Access::Load));
        });
    }
    building.touch(1, PAGES[0], Access::Load);
    building.program
}

/// A page of the kernel's goes, which another CPU uses in two spaces.
fn kernel_page<const SLOTS: usize>(setup: Setup) -> Program {
    let mut building = Building::<SLOTS>::boot(About::KernelPage, setup, &[], 1);
    for cpu in [0, 1] {
        building.operation(cpu, "come online", |hw, kernel| {
            kernel.come_online(hw, KERNEL_PAGE);
        });
    }
    building.operation(0, "unmap and free", |hw, kernel| {
        kernel.vfree(hw, KERNEL_PAGE, FIRST);
    });
    for space in [FIRST, SECOND, FIRST] {
        building.run_in(1, space);
        building.touch(1, KERNEL_PAGE, Access::Load);
    }
    building.program
}

/// A page of the kernel's goes while a CPU comes online, and uses it.
fn comes_online<const SLOTS: usize>(setup: Setup) -> Program {
    let mut building = Building::<SLOTS>::boot(About::ComesOnline, setup, &[], 1);
    for cpu in [0, 1] {
        building.operation(cpu, "come online", |hw, kernel| {
            kernel.come_online(hw, KERNEL_PAGE);
        });
    }
    building.operation(0, "unmap and free", |hw, kernel| {
        kernel.vfree(hw, KERNEL_PAGE, FIRST);
    });
    building.program
}
