//! Tasks in ring 3: their registers, running them, and what they trap for.

use core::arch::global_asm;

use x86_64::instructions::interrupts;
use x86_64::registers::control::Cr2;

use crate::cpu::{FLUSH_VECTOR, SPURIOUS_VECTOR, SYSCALL_VECTOR, TIMER_VECTOR};
use crate::page_id::{self, SpaceIndex};
use crate::space::{self, Space};
use crate::{cpu, ending, trap};

global_asm!(include_str!("reader.s"));

/// A page fault's vector, and its error code's bit for a reserved bit found in an entry.
const PAGE_FAULT: u64 = 14;
const RESERVED_BIT: u64 = 1 << 3;

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
    pub fn new(cpu: usize, space: SpaceIndex, random: u64) -> Self {
        UserContext {
            rax: 0,
            rcx: 0,
            rdx: 0,
            rbx: random,
            rbp: 0,
            rsi: page_id::PAGES,
            rdi: space::BOARD,
            r8_to_r15: [0, 0, 0, 0, cpu as u64, space.0 as u64, 0, 0],
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
        vector if vector == u64::from(FLUSH_VECTOR) => trap::flush_interrupt(),
        vector if vector == u64::from(TIMER_VECTOR) => trap::tick(),
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
        vector => ending::violation(format_args!(
            "CPU {} took exception {vector} in ring 3 at {:#x}, error {:#x}, address {:#x}",
            cpu::current(),
            context.rip,
            context.error,
            Cr2::read_raw()
        )),
    }
    interrupts::enable();
}
