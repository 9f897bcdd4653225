//! What is called in a context that it is not for, or on a machine that lacks something, says so.
#![allow(missing_docs)]

#[path = "../examples/machine/mod.rs"]
#[allow(dead_code, unreachable_pub)]
mod machine;

use lazytlb::{FlushRange, Hw, Policy, Tables, Tlb};
use machine::{Machine, ToyKernel, boot};

/// Returns what a call panics with, on a machine with interrupts on.
fn panic_of(call: impl FnOnce(&Tlb<ToyKernel>, &Machine)) -> String {
    let (machine, tlb) = (Machine::default(), boot(Policy::Ipi));
    let call = std::panic::AssertUnwindSafe(|| call(&tlb, &machine));
    let panic = std::panic::catch_unwind(call).expect_err("it panics");
    panic
        .downcast_ref::<&str>()
        .map_or_else(String::new, |message| (*message).into())
}

#[test]
fn interrupts_must_be_off_where_the_handler_shares_words() {
    let off = "with interrupts off";
    assert!(
        panic_of(|tlb, machine| {
            tlb.serve_inbox(machine);
        })
        .ends_with(off)
    );
    assert!(
        panic_of(|tlb, machine| {
            tlb.kernel_half(machine);
        })
        .ends_with(off)
    );
    assert!(
        panic_of(|tlb, machine| {
            tlb.user_half(machine);
        })
        .ends_with(off)
    );
    let handler = panic_of(|tlb, machine| {
        tlb.handle_flush_ipi(machine);
    });
    assert!(handler.ends_with("needs interrupts off"));
    let (machine, tlb) = (Machine::default(), boot(Policy::Ipi));
    machine.disable_interrupts();
    assert_eq!(tlb.serve_inbox(&machine).answered, 0);
    assert_eq!(tlb.kernel_half(&machine), None);
}

/// An empty `impl Pcids` is enough until a kernel flushes what it maps for itself; then it is told what is missing.
#[test]
fn kernel_ranges_need_a_flush_of_everything() {
    let missing = "`Pcids::flush_everything`";
    let online = panic_of(|tlb, machine| tlb.cpu_online(machine));
    assert!(online.ends_with(missing), "{online}");
    let table = panic_of(|tlb, machine| {
        tlb.flush_kernel(machine, FlushRange::All, Tables::Freed);
    });
    assert!(table.ends_with(missing), "{table}");
}

#[test]
fn walks_by_software_do_not_nest_and_free_nothing() {
    let within = panic_of(|tlb, machine| {
        let _walk = tlb.walk(machine);
        let _another = tlb.walk(machine);
    });
    assert_eq!(within, "a walk by software within another one");
    let under = panic_of(|tlb, machine| {
        let _walk = tlb.walk(machine);
        tlb.flush(machine, machine::USER, FlushRange::All, Tables::Freed);
    });
    assert_eq!(
        under,
        "a flush that frees page tables under a walk of the same CPU"
    );
    let (machine, tlb) = (Machine::default(), boot(Policy::Ipi));
    let walk = tlb.walk(&machine);
    assert_eq!(machine.interrupts(), lazytlb::Interrupts::Disabled);
    drop(walk);
    assert_eq!(machine.interrupts(), lazytlb::Interrupts::Enabled);
    tlb.flush(&machine, machine::USER, FlushRange::All, Tables::Freed);
}
