//! Nobody is interrupted: a page's frame is freed when every CPU has taken a timer interrupt, which invalidates.
//! `cargo run --release -p lazytlb-check --example tick`

use lazytlb::{Access, Entry, FlushRange, Hw, Memory, Poll, VirtAddr};
use lazytlb_check::{Checker, Program};
use lazytlb_model::Ticks;

const PAGE: VirtAddr = VirtAddr(0);

/// The program; CPU 0 waits until the first so many of the two CPUs have ticked.
pub(crate) fn program(waits_for: usize) -> Program {
    let mut program = Program::new("free at the next tick", 2);
    let (root, table, page) = (program.table(), program.table(), program.page());
    program.first_entry(root, 0, Entry::to(table));
    program.first_entry(table, 0, Entry::to(page));
    program.start_with_root(root);
    let wanted = program.atomic("wanted", 0);
    let ticked = [0, 1].map(|cpu| program.atomic(format!("ticked {cpu}"), 0));
    program.operation(0, "unmap and free", move |hw| {
        hw.write_entry(table, 0, Entry::ABSENT);
        hw.flush_begins(root, FlushRange::page(PAGE));
        // A locked exchange: who sees it sees the absent entry, too.
        hw.swap(&wanted, 1);
        // A wait that only a tick can end says so. To any other wait a tick is no help, or it would hide a
        // lost interrupt from the checker.
        hw.poll_until_tick(|hw| {
            let mut cpus = ticked[..waits_for].iter();
            cpus.all(|word| hw.load(word) == 1).then_some(())
        });
        hw.flush_returned(root);
        hw.free_frame(page);
    });
    program.operation(1, "use", |hw| {
        hw.touch(PAGE, Access::Load);
        hw.touch(PAGE, Access::Store);
    });
    // Any number of ticks comes, at any time, so the handler must not count them.
    program.on_timer(Ticks::AnyNumber, move |hw| {
        if hw.load(&wanted) == 1 {
            hw.invlpg(PAGE);
            hw.store(&ticked[usize::from(hw.cpu().0)], 1);
        }
    });
    program
}

fn main() {
    for waits_for in [2, 1] {
        let verdict = Checker::new().check(&program(waits_for));
        println!("waits for {waits_for} of 2 CPUs: {}", verdict.name());
    }
}
