//! Two CPUs unmap a page each that the other one uses, with interrupts off, as seL4 and Redox run: each looks
//! into its inbox while it waits for the other. `cargo run --release -p lazytlb-check --example polling_loop`

use lazytlb::interrupts::InterruptsOff;
use lazytlb::{Access, Entry, FlushRange, Hw, Memory, Poll, VirtAddr};
use lazytlb_check::{Checker, Program};

/// The program; `serves` says whether a CPU that waits serves the other one meanwhile.
pub(crate) fn program(serves: bool) -> Program {
    let mut program = Program::new("inboxes", 2);
    let (root, table) = (program.table(), program.table());
    program.first_entry(root, 0, Entry::to(table));
    let pages = [0, 1].map(|index| {
        let page = program.page();
        program.first_entry(table, index, Entry::to(page));
        VirtAddr(u64::from(index) << 12)
    });
    program.start_with_root(root);
    let inbox = [0, 1].map(|cpu| program.atomic(format!("inbox {cpu}"), 0));
    let done = [0, 1].map(|cpu| program.atomic(format!("done {cpu}"), 0));
    for me in [0, 1] {
        let other = 1 - me;
        program.operation(me as u8, "unmap", move |hw| {
            let _off = InterruptsOff::new(hw);
            let serve = || {
                // Taking an empty inbox changes nothing: a CPU that does only this is asleep to the checker.
                if hw.swap(&inbox[me], 0) != 0 {
                    hw.invlpg(pages[other]);
                    hw.store(&done[other], 1);
                }
            };
            hw.write_entry(table, me as u16, Entry::ABSENT);
            hw.flush_begins(root, FlushRange::page(pages[me]));
            hw.swap(&inbox[other], 1);
            hw.invlpg(pages[me]);
            // Each iteration stands alone: what the body captures must not change.
            hw.poll(|hw| {
                if serves {
                    serve();
                }
                (hw.load(&done[me]) == 1).then_some(())
            });
            hw.flush_returned(root);
            hw.poll(|hw| {
                serve(); // The other one may wait still.
                (hw.load(&done[other]) == 1).then_some(())
            });
            hw.touch(pages[other], Access::Load);
        });
    }
    program
}

fn main() {
    for serves in [true, false] {
        let verdict = Checker::new().check(&program(serves));
        println!("serves while it waits: {serves}: {}", verdict.name());
    }
}
