//! Time: the time-stamp counter, calibrated against the PIT.

use core::sync::atomic::{AtomicU64, Ordering};

use x86_64::instructions::port::Port;

/// The PIT's input clock.
const PIT_HERTZ: u64 = 1_193_182;
/// How long calibration takes.
const CALIBRATION_MILLISECONDS: u64 = 10;

static CYCLES_PER_MICROSECOND: AtomicU64 = AtomicU64::new(1);

/// Reads this CPU's time-stamp counter, in cycles.
pub fn cycles() -> u64 {
    // SAFETY: RDTSC has no precondition in ring 0.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// Returns microseconds since power-on.
pub fn microseconds() -> u64 {
    cycles() / CYCLES_PER_MICROSECOND.load(Ordering::Relaxed)
}

/// Waits, with whatever interrupts are enabled.
pub fn wait_microseconds(duration: u64) {
    let start = microseconds();
    while microseconds() - start < duration {
        core::hint::spin_loop();
    }
}

/// Calibrates the clock; `around` starts something else to calibrate and is asked for its count at the end.
pub fn calibrate(start: impl FnOnce(), end: impl FnOnce() -> u32) -> u32 {
    let counts = PIT_HERTZ * CALIBRATION_MILLISECONDS / 1000;
    // SAFETY: channel 2 of the PIT and its gate are used by nobody else.
    unsafe {
        let mut gate = Port::<u8>::new(0x61);
        let value = (gate.read() & 0xfc) | 1;
        gate.write(value);
        Port::<u8>::new(0x43).write(0xb0);
        let [low, high, ..] = counts.to_le_bytes();
        Port::<u8>::new(0x42).write(low);
        Port::<u8>::new(0x42).write(high);
        let began = cycles();
        start();
        while gate.read() & 0x20 == 0 {}
        let taken = cycles() - began;
        CYCLES_PER_MICROSECOND.store(
            (taken / (CALIBRATION_MILLISECONDS * 1000)).max(1),
            Ordering::Relaxed,
        );
    }
    end()
}
