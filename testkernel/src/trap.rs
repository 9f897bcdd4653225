//! Interrupts and exceptions: the flush interrupt's handler among them.

use core::arch::global_asm;
use core::sync::atomic::{AtomicU64, Ordering};

use lazytlb::Interrupted;
use lazytlb_x86::{LocalApic, Timer};
use x86_64::instructions::interrupts;
use x86_64::registers::control::Cr2;

use crate::console::println;
use crate::cpu::{FLUSH_VECTOR, SPURIOUS_VECTOR, SYSCALL_VECTOR, TIMER_VECTOR, with_apic};
use crate::machine::{hw, tlb};
use crate::outcome::{self, Outcome};
use crate::space::{self, Space};
use crate::{PROGRESS, breaks, clock, cpu, machine, sched};

global_asm!(include_str!("trap.s"));
global_asm!(include_str!("reader.s"));

/// A page fault's vector, and its error code's bit for a reserved bit found in an entry.
const PAGE_FAULT: u64 = 14;
const RESERVED_BIT: u64 = 1 << 3;
/// How often the timer interrupts.
pub const TICK_MICROSECONDS: u32 = 2000;
/// No progress for so long is a hang.
const HANG_MICROSECONDS: u64 = 20_000_000;

/// The registers of a task in ring 3, as the assembly lays them out.
#[repr(C)]
pub struct UserContext {
    rax: u64,
    rcx: u64,
    rdx: u64,
    rbx: u64,
    rbp: u64,
    rsi: u64,
    rdi: u64,
    r8_to_r15: [u64; 8],
    rip: u64,
    rflags: u64,
    rsp: u64,
    vector: u64,
    error: u64,
}

impl UserContext {
    /// Makes a task of a space that starts to read.
    pub fn new(cpu: usize, space: usize, random: u64) -> Self {
        UserContext {
            rax: 0,
            rcx: 0,
            rdx: 0,
            rbx: random,
            rbp: 0,
            rsi: space::PAGES,
            rdi: space::BOARD,
            r8_to_r15: [0, 0, 0, 0, cpu as u64, space as u64, 0, 0],
            rip: space::PROGRAM,
            // Interrupts enabled; bit 1 is always set.
            rflags: 0x202,
            rsp: 0,
            vector: 0,
            error: 0,
        }
    }

    /// Returns how many pages the task has read.
    pub fn reads(&self) -> u64 {
        self.r8_to_r15[7]
    }
}

unsafe extern "C" {
    /// Runs ring-3 code until it traps; interrupts must be off, and are off afterwards.
    fn enter_user(context: *mut UserContext);
}

/// Runs a task until it traps, and handles the trap; `change` is the one system call.
pub fn run_user(context: &mut UserContext, space: &Space, mut change: impl FnMut(&Space)) {
    interrupts::disable();
    // SAFETY: the context is valid, its space is loaded, and ring 3 cannot touch the kernel.
    unsafe { enter_user(context) };
    match context.vector {
        vector if vector == u64::from(FLUSH_VECTOR) => flush_interrupt(),
        vector if vector == u64::from(TIMER_VECTOR) => tick(),
        vector if vector == u64::from(SPURIOUS_VECTOR) => {}
        vector if vector == u64::from(SYSCALL_VECTOR) && context.rax == 1 => {
            interrupts::enable();
            change(space);
        }
        vector if vector == u64::from(SYSCALL_VECTOR) => {
            space.report_read(context.rdx, context.r8_to_r15[1], context.r8_to_r15[0])
        }
        PAGE_FAULT if context.error & RESERVED_BIT == 0 => {
            // Absent or read-only for now: the reader tries another page.
            context.rip = space::PROGRAM;
        }
        vector => outcome::violation(format_args!(
            "CPU {} took exception {vector} in ring 3 at {:#x}, error {:#x}, address {:#x}",
            cpu::current(),
            context.rip,
            context.error,
            Cr2::read_raw()
        )),
    }
    interrupts::enable();
}

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

/// What the handlers of a storm did, summed up.
pub struct Handled {
    pub requests: AtomicU64,
    pub left_for_init_mm: AtomicU64,
}

pub static HANDLED: Handled = Handled {
    requests: AtomicU64::new(0),
    left_for_init_mm: AtomicU64::new(0),
};

/// The flush interrupt: the protocol does it all, and the APIC is told at the end.
fn flush_interrupt() {
    breaks::around_handler(|| {
        let Interrupted {
            other_space,
            left_for_init_mm,
            up_to_date,
            invalidated_pages,
            flushed_all,
        } = tlb().handle_flush_ipi(hw());
        let requests =
            other_space + left_for_init_mm + up_to_date + invalidated_pages + flushed_all;
        HANDLED
            .requests
            .fetch_add(requests.into(), Ordering::Relaxed);
        HANDLED
            .left_for_init_mm
            .fetch_add(left_for_init_mm.into(), Ordering::Relaxed);
    });
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

fn tick() {
    machine::pay_debt();
    sched::end_slice();
    if cpu::current() == 0 {
        watch();
    }
    with_apic!(cpu::apic(), end_of_interrupt());
}

/// Says once a second that the kernel is alive, and ends the run if nothing moves for too long.
fn watch() {
    static LAST: [AtomicU64; 3] = [const { AtomicU64::new(0) }; 3];
    let [seconds, progress, moved] = &LAST;
    let now = clock::microseconds();
    let current = PROGRESS.load(Ordering::Relaxed);
    if progress.swap(current, Ordering::Relaxed) != current || moved.load(Ordering::Relaxed) == 0 {
        moved.store(now, Ordering::Relaxed);
    }
    if seconds.swap(now / 1_000_000, Ordering::Relaxed) != now / 1_000_000 {
        println!("alive t={} ops={current}", now / 1_000_000);
    }
    if now - moved.load(Ordering::Relaxed) > HANG_MICROSECONDS {
        println!("HANG: no progress for 20 s");
        outcome::end(Outcome::Hang);
    }
}
