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

// The compiler turns copies, fills and comparisons into calls of the five functions below, which
// on this target the C library supplies. The string instructions keep it from turning their own
// bodies into calls of themselves.

/// Copies `len` bytes from `source` to `dest`, and returns `dest`.
///
/// # Safety
/// Both ranges must be valid, and must not overlap.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(dest: *mut u8, source: *const u8, len: usize) -> *mut u8 {
    // SAFETY: the caller vouches for both ranges; the ABI leaves the direction flag clear.
    unsafe {
        asm!("rep movsb", inout("rcx") len => _, inout("rdi") dest => _, inout("rsi") source => _,
            options(nostack, preserves_flags));
    }
    dest
}

/// Copies `len` bytes from `source` to `dest`, which may overlap, and returns `dest`.
///
/// # Safety
/// Both ranges must be valid.
#[unsafe(no_mangle)]
unsafe extern "C" fn memmove(dest: *mut u8, source: *const u8, len: usize) -> *mut u8 {
    if (dest as usize).wrapping_sub(source as usize) >= len {
        // SAFETY: `dest` starts outside `source`, so copying upwards reads each byte before it
        // can be overwritten, and `rep movsb` copies upwards.
        return unsafe { memcpy(dest, source, len) };
    }
    // SAFETY: `dest` starts inside `source`, so `len` is not 0, and copying downwards, from the
    // last byte, reads each byte before it is overwritten. The direction flag is clear afterwards.
    unsafe {
        asm!("std", "rep movsb", "cld", inout("rcx") len => _, inout("rdi") dest.add(len - 1) => _,
            inout("rsi") source.add(len - 1) => _, options(nostack));
    }
    dest
}

/// Fills `len` bytes at `dest` with the low byte of `value`, and returns `dest`.
///
/// # Safety
/// The range must be valid.
#[unsafe(no_mangle)]
unsafe extern "C" fn memset(dest: *mut u8, value: i32, len: usize) -> *mut u8 {
    // SAFETY: the caller vouches for the range; the ABI leaves the direction flag clear.
    unsafe {
        asm!("rep stosb", inout("rcx") len => _, inout("rdi") dest => _, in("eax") value,
            options(nostack, preserves_flags));
    }
    dest
}

/// Compares `len` bytes: negative, zero or positive as `left` sorts before, with or after `right`.
///
/// # Safety
/// Both ranges must be valid.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcmp(left: *const u8, right: *const u8, len: usize) -> i32 {
    for offset in 0..len {
        // SAFETY: `offset` is inside both ranges. Volatile, so that the loop stays a loop.
        let (l, r) = unsafe {
            (
                left.add(offset).read_volatile(),
                right.add(offset).read_volatile(),
            )
        };
        if l != r {
            return i32::from(l) - i32::from(r);
        }
    }
    0
}

/// Compares `len` bytes: zero if they are equal.
///
/// # Safety
/// Both ranges must be valid.
#[unsafe(no_mangle)]
unsafe extern "C" fn bcmp(left: *const u8, right: *const u8, len: usize) -> i32 {
    // SAFETY: the contract is the same.
    unsafe { memcmp(left, right, len) }
}
