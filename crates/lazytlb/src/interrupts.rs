//! A guard that keeps interrupts off for a while.

use crate::hw::{Hw, Interrupts};

/// Keeps this CPU's interrupts off until it is dropped, then restores the former state: guards nest.
#[derive(Debug)]
pub struct InterruptsOff<'a, H: Hw> {
    hw: &'a H,
    former: Interrupts,
}

impl<'a, H: Hw> InterruptsOff<'a, H> {
    /// Disables interrupts.
    pub fn new(hw: &'a H) -> Self {
        InterruptsOff {
            hw,
            former: hw.disable_interrupts(),
        }
    }
}

impl<H: Hw> Drop for InterruptsOff<'_, H> {
    fn drop(&mut self) {
        self.hw.restore_interrupts(self.former);
    }
}
