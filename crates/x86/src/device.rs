//! Draining stores to devices.
//!
//! A store to write-combining or uncached device memory leaves the CPU late. Before such a mapping's
//! range is given to something else, each CPU that may have written must drain its buffers, and the
//! writes must have arrived at the device (H26, H27). A flush interrupt drains the CPU that takes it;
//! that its posted writes have *arrived* only the device can tell, by answering a read.

use core::sync::atomic::{Ordering, fence};

/// Drains this CPU's buffered stores, then lets the driver read back from the device.
///
/// `read_back` must load from the device, on the path that the stores took: a read's completion pushes
/// posted writes ahead of it. Call it on each CPU that wrote, or on one of them after the others took an
/// interrupt, if the device's path orders their writes.
///
/// Cost: two fences, and a round trip to the device (about a microsecond on PCI Express).
/// Source: SDM 3A, "Buffering of Write Combining Memory Locations".
pub fn drain_device_writes<R>(read_back: impl FnOnce() -> R) -> R {
    // SFENCE empties the write-combining buffers; the full fence keeps the read behind them.
    // SAFETY: SFENCE has no precondition; every x86-64 CPU has SSE.
    unsafe { core::arch::x86_64::_mm_sfence() };
    fence(Ordering::SeqCst);
    read_back()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_drivers_answer_is_handed_on() {
        assert_eq!(drain_device_writes(|| 0x1234), 0x1234);
    }
}
