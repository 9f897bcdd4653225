//! Memory of a device that was unmapped: writes to it may still be on their way.
//!
//! ```text
//! initiator                          CPU that wrote                   device
//! entries cleared                    store: waits to be combined
//! flush; lazy CPUs too   ────────▶   interrupt: the store has started ┄┄┄┐
//! flush returned         ◀────────   answer                              ┊
//! the driver reads       ────────────────────────────────────────────▶   ┊
//!                        ◀┄┄┄ the answer pushes what started before ┄┄┄ arrives
//! the range is free
//! ```
//!
//! A store to a write-combining or uncached mapping leaves the CPU late, and what an interrupt, a locked or a serializing instruction does to it
//! is in dispute, for each of them: at least it has *started* then (H27). No instruction of the CPU makes a posted write arrive; a read back
//! from the device does, and only its driver can do that. So what a [`crate::Gather`] gives back of a device is an [`Undrained`].
//!
//! ASSUMED: the read back of *one* CPU pushes what any CPU has started before. On a bus that keeps writes and completions in order (PCI's rules do), that is so
//! from where the CPUs' paths meet; that they have met by then no manual of a CPU says. Who does not want to assume it reads back on each CPU
//! that wrote: in the interrupt's handler before [`crate::Tlb::handle_flush_ipi`], and where a CPU leaves the space.

use core::mem::ManuallyDrop;

/// Memory of a device that no CPU can reach any more, and that writes may still be on their way to.
///
/// Only a [`crate::Gather`] makes these, and only the driver's read back opens them. Dropped, it leaks what is in it.
///
/// ```compile_fail,E0624
/// fn make(device: u64) -> lazytlb::Undrained<u64> { lazytlb::Undrained::new(device) }
/// ```
/// ```compile_fail,E0614
/// fn take_early(device: lazytlb::Undrained<u64>) -> u64 { *device }
/// ```
#[derive(Debug)]
#[must_use = "dropped, it leaks"]
pub struct Undrained<T> {
    device: ManuallyDrop<T>,
}

impl<T> Undrained<T> {
    pub(crate) fn new(device: T) -> Self {
        Undrained {
            device: ManuallyDrop::new(device),
        }
    }

    /// Opens it by a read back from the device: `read` must load from it, on the path that the writes took.
    ///
    /// Where that is the wrong assumption for the other CPUs that wrote, `read` also makes sure that each of them has read back by
    /// itself. Cost: a round trip to the device, about a microsecond on PCI Express. Any context that the driver's read may run in.
    ///
    /// Source: SDM 3A, "Buffering of Write Combining Memory Locations"; that reading back settles it: H27.
    pub fn read_back<R>(self, read: impl FnOnce(&T) -> R) -> (T, R) {
        let answer = read(&self.device);
        (ManuallyDrop::into_inner(self.device), answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_read_comes_first_and_its_answer_is_handed_on() {
        let device = Undrained::new(0x9000_u64);
        let (device, answer) = device.read_back(|device| device + 1);
        assert_eq!((device, answer), (0x9000, 0x9001));
    }
}
