//! Timer handlers that flush, and that retire a space: in the middle of a flush.

use lazytlb::{CpuId, Hw, Memory, Poll};
use lazytlb_model::Ticks;

use super::batches::go_lazy_beside;
use super::setup::{
    CPU_0, CPU_1, CPU_2, FAR_PAGE, MakeProtocol, NEXT_PAGE, PAGE, SECOND_USER, Setup, Shipped,
    THIRD_PAGE, USER, walk,
};
use crate::model_hw::ModelHw;
use crate::program::Program;
use crate::protocol::{Ended, Protocol};

/// The programs of this file.
pub(super) const PROGRAMS: &[Shipped] = &[
    (
        "shootdown-in-a-handler",
        "2 CPUs: one unmaps a page, and flushes everything; a tick anywhere there unmaps another page; the other \
                 touches both",
        shootdown,
    ),
    (
        "retire-in-a-handler",
        "2 CPUs: one unmaps a page of a space; a tick anywhere there retires another space, which the second CPU \
                 has left for the first",
        retire,
    ),
    (
        "table-freed-in-a-handler",
        "2 CPUs: one frees a table, and its timer handler another one, while the other is lazy",
        free_a_table,
    ),
    (
        "reclaim-beside-a-handler",
        "3 CPUs: one gives up the tables that it holds back, and its timer handler frees one; one is lazy and comes \
                 back; one, in the kernel's own space, walks the tables by software",
        reclaim,
    ),
    (
        "retire-while-reaping",
        "1 CPU: retires a space and reaps it, and its timer handler retires another one",
        retire_while_reaping,
    ),
];

impl Setup {
    /// Sets what the timer interrupt does, on one CPU, once.
    fn once_in_a_handler(
        &mut self,
        cpu: CpuId,
        run: impl Fn(&crate::model_hw::ModelHw, &dyn Protocol) + Send + Sync + 'static,
    ) {
        let protocol = self.protocol();
        let mut numbers = self.program.cpu_numbers();
        let number = numbers.nth(usize::from(cpu.0));
        self.program.on_timer(Ticks::AtMost(1), move |hw| {
            if Some(hw.cpu()) == number {
                run(hw, &*protocol);
            }
        });
    }
}

/// A CPU unmaps a page with a flush, and one with a shootdown in steps; a tick anywhere in between unmaps a third.
fn shootdown(name: &str, make: MakeProtocol) -> Program {
    let mut setup = Setup::new(name, 2, 1, make);
    let table = setup.program.table();
    let pages = [PAGE, NEXT_PAGE, THIRD_PAGE];
    let [at_once, in_steps, in_handler] = pages.map(|addr| setup.mapped(USER, table, addr));
    setup.once_in_a_handler(CPU_0, move |hw, protocol| in_handler.unmap(hw, protocol));
    setup.switch(CPU_0, "switch to the space", USER);
    setup.operation(CPU_0, "unmap a page", move |hw, protocol| {
        at_once.remove(hw, protocol);
    });
    setup.operation(CPU_0, "unmap a page in steps", move |hw, protocol| {
        in_steps.unmap(hw, protocol);
    });
    setup.switch(CPU_1, "switch to the space", USER);
    for page in pages {
        setup.touch(CPU_1, page);
    }
    setup.program
}

/// A CPU unmaps a page of one space; a tick anywhere in between retires another space, which the target of both has come
/// to, and idles in: what it is told second must not be lost.
fn retire(name: &str, make: MakeProtocol) -> Program {
    let mut setup = Setup::new(name, 2, 2, make);
    let (table, root) = (setup.program.table(), setup.root(SECOND_USER));
    let page = setup.mapped(USER, table, PAGE);
    let left = setup
        .program
        .atomic("tasks of the second space that left", 0);
    let ended = setup.program.local(CPU_0.0 as u8, "the second space", 0);
    setup.once_in_a_handler(CPU_0, move |hw, protocol| {
        if hw.load(&left) == 1 {
            let is_over = protocol.start_retiring(hw, SECOND_USER) == Ended::Now;
            hw.store_local(&ended, if is_over { 2 } else { 1 });
        }
    });
    setup.switch(CPU_0, "switch to the first space", USER);
    setup.operation(CPU_0, "unmap a page", move |hw, protocol| {
        page.remove(hw, protocol);
    });
    setup.operation(
        CPU_0,
        "free the root, if it has ended",
        move |hw, protocol| {
            let ended = hw.load_local(&ended);
            if ended == 1 {
                hw.poll(|hw| protocol.reap(hw));
            }
            if ended != 0 {
                hw.free_frame(root);
            }
        },
    );
    setup.switch(CPU_1, "switch to the first space", USER);
    setup.touch(CPU_1, PAGE);
    setup.switch(CPU_1, "switch to the second space", SECOND_USER);
    setup.operation(CPU_1, "its task is gone", move |hw, protocol| {
        protocol.enter_lazy(hw);
        hw.store(&left, 1);
    });
    setup.program
}

/// A CPU frees a table beside a lazy one; a tick anywhere in between frees another table of that space.
fn free_a_table(name: &str, make: MakeProtocol) -> Program {
    let mut setup = Setup::new(name, 2, 1, make);
    let [first, second] = [PAGE, FAR_PAGE].map(|addr| setup.table_at(addr).0);
    setup.once_in_a_handler(CPU_0, move |hw, protocol| {
        protocol.remove(hw, USER, &[second], &|_| {});
    });
    setup.operation(CPU_0, "free a table", move |hw, protocol| {
        protocol.remove(hw, USER, &[first], &|_| {});
    });
    go_lazy_beside(setup)
}

/// A CPU gives up what it holds back; a tick anywhere in between frees a table, which a lazy CPU may walk until it comes back, and software does.
fn reclaim(name: &str, make: MakeProtocol) -> Program {
    let mut setup = Setup::walked(name, 3, 1, make);
    let table = setup.table_at(PAGE).0;
    setup.once_in_a_handler(CPU_0, move |hw, protocol| {
        protocol.remove(hw, USER, &[table], &|_| {});
    });
    setup.operation(CPU_0, "give up what is held", |hw, protocol| {
        protocol.reclaim_now(hw);
    });
    setup.switch(CPU_1, "switch to the space", USER);
    setup.go_lazy(CPU_1);
    setup.switch(CPU_1, "come back", USER);
    let root = setup.root(USER);
    setup.operation(CPU_2, "walk by software", move |hw, protocol| {
        protocol.walk(hw, &|hw| walk(hw, root, PAGE));
    });
    setup.program
}

/// A CPU retires a space and reaps it; a tick anywhere in between retires another one, which comes to the same list.
fn retire_while_reaping(name: &str, make: MakeProtocol) -> Program {
    let mut setup = Setup::new(name, 1, 2, make);
    let proved = "no space that a handler retires is lost while another one is reaped";
    setup.program.proves(proved);
    let roots = [USER, SECOND_USER].map(|space| setup.root(space));
    let reap = move |hw: &ModelHw, protocol: &dyn Protocol| {
        let space = hw.poll(|hw| protocol.reap(hw));
        hw.free_frame(roots[space.0 - USER.0]);
    };
    let is_retired = setup
        .program
        .local(CPU_0.0 as u8, "the second is retired", 0);
    setup.once_in_a_handler(CPU_0, move |hw, protocol| {
        match protocol.start_retiring(hw, SECOND_USER) {
            Ended::Now => hw.free_frame(roots[1]),
            Ended::Later => hw.store_local(&is_retired, 1),
        }
    });
    setup.operation(
        CPU_0,
        "retire and free a space",
        move |hw, protocol| match protocol.start_retiring(hw, USER) {
            Ended::Now => hw.free_frame(roots[0]),
            Ended::Later => reap(hw, protocol),
        },
    );
    setup.operation(CPU_0, "free what is left", move |hw, protocol| {
        if hw.load_local(&is_retired) == 1 {
            reap(hw, protocol);
        }
    });
    setup.program
}
