//! The protocol on a machine with one CPU: who goes where, and what it costs in CR3 loads.

#[allow(dead_code, missing_docs, unreachable_pub)]
mod machine;

use lazytlb::{FlushRange, GarbageWalksAccepted, Policy, Tables};
use machine::{Machine, USER, boot};

fn main() {
    for policy in [
        Policy::InitMm,
        Policy::Ipi,
        Policy::Defer(GarbageWalksAccepted),
    ] {
        let (machine, tlb) = (Machine::default(), boot(policy));
        for _ in 0..10 {
            tlb.switch_mm(&machine, USER);
            tlb.flush(&machine, USER, FlushRange::All, Tables::Kept);
            tlb.enter_lazy(&machine);
        }
        println!("{policy}: {} CR3 loads", machine.cr3_loads.get());
    }
}
