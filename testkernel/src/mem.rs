//! The compiler turns copies, fills and comparisons into calls of the five functions below, which
//! on this target the C library supplies. The string instructions keep it from turning their own
//! bodies into calls of themselves.

use core::arch::asm;

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
