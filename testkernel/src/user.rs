//! Tasks in ring 3: their registers, running them, and what they trap for.

use core::arch::global_asm;

use x86_64::instructions::interrupts::{self, without_interrupts};
use x86_64::registers::control::Cr2;

use crate::cpu::{FLUSH_VECTOR, SPURIOUS_VECTOR, SYSCALL_VECTOR, TIMER_VECTOR};
use crate::page_id::{self, SpaceIndex};
use crate::space::{self, Space};
use crate::{cpu, ending, isolation, trap};

global_asm!(include_str!("reader.s"));

/// A page fault's vector, and its error code's bit for a reserved bit found in an entry.
const PAGE_FAULT: u64 = 14;
const RESERVED_BIT: u64 = 1 << 3;
/// The bit that says that there was an entry.
const PRESENT_BIT: u64 = 1;

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
    /// Runs ring-3 code until it traps; interrupts must be off, and are off afterwards. Loads the first value into CR3
    /// before, and the second afterwards, unless they are 0.
    fn enter_user(context: *mut UserContext, user_half: u64, kernel_half: u64);
}

/// Runs ring-3 code in a space, which is loaded, until it traps. Interrupts are off.
fn enter(context: &mut UserContext, space: &Space) {
    let halves = isolation::halves(space.handle());
    // SAFETY: the context is valid, its space is loaded, and ring 3 cannot touch the kernel. The entry code is mapped in
    // both halves, and everything in the kernel's.
    unsafe { enter_user(context, halves.user, halves.kernel) };
    isolation::check_entry(halves);
}

/// Handles a trap if it is an interrupt.
fn interrupted(vector: u64) -> bool {
    match vector {
        vector if vector == u64::from(FLUSH_VECTOR) => trap::flush_interrupt(),
        vector if vector == u64::from(TIMER_VECTOR) => trap::tick(),
        vector if vector == u64::from(SPURIOUS_VECTOR) => {}
        _ => return false,
    }
    true
}

/// What ring 3 finds at an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Found {
    /// It can be read.
    Readable,
    /// It is mapped, but not for ring 3.
    Forbidden,
    /// Nothing is mapped there.
    Nothing,
}

/// Reads an address in ring 3, in a space that is loaded.
pub fn probe(space: &Space, addr: u64) -> Found {
    unsafe extern "C" {
        static probe: u8;
        static user_start: u8;
    }
    let mut context = UserContext::new(cpu::current(), space.index(), 1);
    context.rip = space::PROGRAM + (&raw const probe as u64 - &raw const user_start as u64);
    context.rdi = addr;
    without_interrupts(|| {
        loop {
            enter(&mut context, space);
            if interrupted(context.vector) {
                continue;
            }
            return match context.vector {
                PAGE_FAULT if context.error & PRESENT_BIT == 0 => Found::Nothing,
                PAGE_FAULT => Found::Forbidden,
                _ => Found::Readable,
            };
        }
    })
}

/// Runs a task until it traps, and handles the trap; `change` is the one system call.
pub fn run_user(context: &mut UserContext, space: &Space, mut change: impl FnMut(&Space)) {
    interrupts::disable();
    enter(context, space);
    match context.vector {
        vector if interrupted(vector) => {}
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
