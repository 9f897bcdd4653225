//! Interrupts and exceptions: the flush interrupt's handler among them.

use core::arch::global_asm;
use core::sync::atomic::{AtomicU64, Ordering};

use lazytlb::{Interrupted, Served};
use lazytlb_x86::{LocalApic, Timer};
use x86_64::registers::control::Cr2;

use crate::console::println;
use crate::cpu::{FLUSH_VECTOR, SPURIOUS_VECTOR, TIMER_VECTOR, with_apic};
use crate::ending::{self, Ending};
use crate::machine::{hw, tlb};
use crate::{breaking, clock, cpu, ends, freeing, machine, progress, slice};

global_asm!(include_str!("trap.s"));

/// How often the timer interrupts.
pub const TICK_MICROSECONDS: u32 = 2000;
/// No progress for so long is a hang.
const HANG_MICROSECONDS: u64 = 20_000_000;

/// What the assembly saved of interrupted kernel code.
#[repr(C)]
struct KernelFrame {
    registers: [u64; 15],
    vector: u64,
    error: u64,
    rip: u64,
}

/// Handles an interrupt of kernel code, on a stack of its own, with interrupts off.
#[unsafe(no_mangle)]
extern "C" fn trap_from_kernel(frame: &KernelFrame) {
    match frame.vector {
        vector if vector == u64::from(FLUSH_VECTOR) => flush_interrupt(),
        vector if vector == u64::from(TIMER_VECTOR) => tick(),
        vector if vector == u64::from(SPURIOUS_VECTOR) => {}
        vector => panic!(
            "exception {vector} in the kernel at {:#x}, error {:#x}, address {:#x}",
            frame.rip,
            frame.error,
            Cr2::read_raw()
        ),
    }
}

/// What CPUs did for others in a storm, summed up.
pub struct Handled {
    /// Initiators that the flush interrupt's handler answered.
    pub by_handler: AtomicU64,
    pub left_for_init_mm: AtomicU64,
    pub left_behind: AtomicU64,
}

pub static HANDLED: Handled = Handled {
    by_handler: AtomicU64::new(0),
    left_for_init_mm: AtomicU64::new(0),
    left_behind: AtomicU64::new(0),
};

/// Adds to the totals what this CPU did for others.
pub fn count(done: Interrupted) {
    let add = |total: &AtomicU64, n: u32| _ = total.fetch_add(n.into(), Ordering::Relaxed);
    add(&HANDLED.left_behind, done.left_behind);
    if done.served == Served::LeftForInitMm {
        add(&HANDLED.left_for_init_mm, 1);
    }
}

/// The flush interrupt: the protocol does it all, and the APIC is told at the end.
pub fn flush_interrupt() {
    breaking::around_handler(|| {
        let done = tlb().handle_flush_ipi(hw());
        HANDLED
            .by_handler
            .fetch_add(done.answered.into(), Ordering::Relaxed);
        count(done);
    });
    ends::drop_in_flush_interrupt();
    with_apic!(cpu::apic(), end_of_interrupt());
}

/// Starts this CPU's ticks; a tick has so many counts of the APIC's timer.
pub fn start_ticks(counts: u32) {
    let timer = Timer::Periodic {
        vector: TIMER_VECTOR,
        counts,
    };
    with_apic!(cpu::apic(), start_timer(timer));
}

/// A tick: the task's time is up.
pub fn tick() {
    machine::pay_debt();
    slice::end();
    ends::drop_in_tick();
    freeing::release_held();
    if cpu::current() == 0 {
        watch();
    }
    with_apic!(cpu::apic(), end_of_interrupt());
}

/// Says once a second that the kernel is alive, and ends the run if nothing moves for too long.
fn watch() {
    static LAST: [AtomicU64; 3] = [const { AtomicU64::new(0) }; 3];
    let [seconds, changes, moved] = &LAST;
    let now = clock::microseconds();
    let current = progress::so_far();
    if changes.swap(current, Ordering::Relaxed) != current || moved.load(Ordering::Relaxed) == 0 {
        moved.store(now, Ordering::Relaxed);
    }
    if seconds.swap(now / 1_000_000, Ordering::Relaxed) != now / 1_000_000 {
        println!("alive t={} ops={current}", now / 1_000_000);
    }
    if now - moved.load(Ordering::Relaxed) > HANG_MICROSECONDS {
        println!("HANG: no progress for 20 s");
        ending::end(Ending::Hang);
    }
}
