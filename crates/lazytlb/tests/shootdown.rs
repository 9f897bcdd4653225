//! Shootdowns in steps, on a machine with one CPU.
#![allow(missing_docs)]

#[path = "../examples/machine/mod.rs"]
#[allow(dead_code, unreachable_pub)]
mod machine;

use lazytlb::{FlushRange, Pinned, Policy, Served, Tables, VirtAddr};
use machine::{Machine, USER, boot};

struct NeverPreempted;
impl Pinned for NeverPreempted {}

#[test]
fn a_wait_flushes_here_what_was_added_and_not_sent() {
    let (machine, tlb) = (Machine::default(), boot(Policy::Ipi));
    tlb.switch_mm(&machine, USER);
    let mut shootdown = tlb.start(&machine, &NeverPreempted, "frames");
    let page = FlushRange::page(VirtAddr(0x1000));
    tlb.add(&machine, &mut shootdown, USER, page, Tables::Kept);
    let (frames, report) = tlb.wait(&machine, shootdown);
    assert_eq!((frames, report.local), ("frames", Served::InvalidatedPages));
}

#[test]
fn a_wait_flushes_here_what_was_added_after_a_send() {
    let (machine, tlb) = (Machine::default(), boot(Policy::Ipi));
    tlb.switch_mm(&machine, USER);
    let mut shootdown = tlb.start(&machine, &NeverPreempted, ());
    let page = FlushRange::page(VirtAddr(0x1000));
    tlb.add(&machine, &mut shootdown, USER, page, Tables::Kept);
    tlb.send(&machine, &mut shootdown);
    tlb.add(
        &machine,
        &mut shootdown,
        USER,
        FlushRange::All,
        Tables::Kept,
    );
    let ((), report) = tlb.wait(&machine, shootdown);
    assert_eq!(report.local, Served::FlushedAll);
}

/// The type keeps a shootdown from other threads; a guard that does not keep its promise is found out.
#[test]
fn a_shootdown_goes_on_on_its_own_cpu_only() {
    fn on_another_cpu(goes_on: impl FnOnce(&Machine)) -> bool {
        let machine = Machine::default();
        let goes_on = std::panic::AssertUnwindSafe(|| goes_on(&machine));
        let panic = std::panic::catch_unwind(goes_on).expect_err("it is not its CPU");
        let message = panic.downcast_ref::<&str>().copied();
        message.is_some_and(|message| message.contains("on the CPU that started it"))
    }
    let tlb = boot(Policy::Ipi);
    let page = FlushRange::page(VirtAddr(0x1000));
    assert!(on_another_cpu(|machine| {
        let mut shootdown = tlb.start(machine, &NeverPreempted, ());
        machine.cpu.set(1);
        tlb.add(machine, &mut shootdown, USER, page, Tables::Kept);
    }));
    assert!(on_another_cpu(|machine| {
        let mut shootdown = tlb.start(machine, &NeverPreempted, ());
        tlb.add(machine, &mut shootdown, USER, page, Tables::Kept);
        machine.cpu.set(1);
        tlb.send(machine, &mut shootdown);
    }));
    assert!(on_another_cpu(|machine| {
        let mut shootdown = tlb.start(machine, &NeverPreempted, ());
        tlb.add(machine, &mut shootdown, USER, page, Tables::Kept);
        tlb.send(machine, &mut shootdown);
        machine.cpu.set(1);
        tlb.wait(machine, shootdown);
    }));
}

#[test]
fn what_is_put_into_a_shootdown_comes_back_after_the_wait() {
    let (machine, tlb) = (Machine::default(), boot(Policy::Ipi));
    tlb.switch_mm(&machine, USER);
    let mut shootdown = tlb.start(&machine, &NeverPreempted, vec!["table"]);
    let page = FlushRange::page(VirtAddr(0x1000));
    tlb.add(&machine, &mut shootdown, USER, page, Tables::Freed);
    tlb.send(&machine, &mut shootdown);
    shootdown.extend(["page", "another"]);
    tlb.add(&machine, &mut shootdown, USER, page, Tables::Kept);
    let (frames, _) = tlb.wait(&machine, shootdown);
    assert_eq!(frames, ["table", "page", "another"]);
}

#[test]
fn what_was_put_into_a_shootdown_leaks_with_it() {
    struct Frame<'a>(&'a std::cell::Cell<u32>);
    impl Drop for Frame<'_> {
        fn drop(&mut self) {
            self.0.set(self.0.get() + 1);
        }
    }
    let (machine, tlb) = (Machine::default(), boot(Policy::Ipi));
    let freed = std::cell::Cell::new(0);
    let mut shootdown = tlb.start(&machine, &NeverPreempted, vec![Frame(&freed)]);
    shootdown.extend([Frame(&freed)]);
    drop(shootdown);
    assert_eq!(freed.get(), 0);
}
