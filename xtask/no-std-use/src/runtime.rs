//! Supplies what a C runtime would: the entry point, exit, the panic handler and memory copies.

use core::arch::{asm, naked_asm};
use core::panic::PanicInfo;

/// The exit status of a panic; the one that std uses.
const PANICKED: u8 = 101;

/// Aligns the stack as the ABI wants it at a call, and calls [`main`].
///
/// # Safety
/// Only the kernel may enter here, at the start of the process.
#[unsafe(no_mangle)]
#[unsafe(naked)]
unsafe extern "C" fn _start() -> ! {
    naked_asm!("xor ebp, ebp", "and rsp, -16", "call {main}", "ud2", main = sym main)
}

/// Runs the program, and ends the process with status 0.
extern "C" fn main() -> ! {
    crate::run();
    exit(0)
}

/// Ends the process with `status`.
fn exit(status: u8) -> ! {
    /// The number of Linux's `exit_group` on x86-64.
    const EXIT_GROUP: u64 = 231;
    // SAFETY: `exit_group` touches no memory of ours, and does not return.
    unsafe {
        asm!("syscall", "ud2", in("rax") EXIT_GROUP, in("rdi") u64::from(status), options(noreturn))
    }
}

/// Ends the process with [`PANICKED`]; there is nowhere to print the message.
#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    exit(PANICKED)
}

/// Stands in for the unwinder's hook, which the precompiled `core` names; nothing ever unwinds.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}
