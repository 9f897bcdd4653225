//! How a run ends: a last line, and a value for the emulator's exit port.

use core::panic::PanicInfo;
use core::sync::atomic::{AtomicBool, Ordering};

use x86_64::instructions::port::Port;
use x86_64::instructions::{hlt, interrupts};

use crate::console::{self, println};
use crate::options;

/// The ways in which a run ends by itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    /// Every check held.
    Passed = 0x10,
    /// Coherence was violated, or a counter broke a promise.
    Violation = 0x11,
    /// The kernel panicked.
    Panic = 0x12,
    /// Nothing happened for 20 s.
    Hang = 0x13,
    /// The command line makes no sense.
    Refused = 0x14,
}

/// Set by the first CPU that ends the run: the others fall silent.
static ENDING: AtomicBool = AtomicBool::new(false);

/// Ends the run. If another CPU has ended it already, this one halts.
pub fn end(ending: Ending) -> ! {
    interrupts::disable();
    if !ENDING.swap(true, Ordering::SeqCst) {
        println!(
            "outcome: {}",
            match ending {
                Ending::Passed => "passed",
                Ending::Violation => "violation",
                Ending::Panic => "panic",
                Ending::Hang => "hang",
                Ending::Refused => "refused",
            }
        );
        console::drain();
        // SAFETY: QEMU's isa-debug-exit; nothing else answers at this port.
        unsafe { Port::<u32>::new(0xf4).write(ending as u32) };
        for letter in *b"Shutdown" {
            // SAFETY: Bochs ends when it has read this word at this port.
            unsafe { Port::<u8>::new(0x8900).write(letter) };
        }
    }
    loop {
        hlt();
    }
}

/// Reports a broken promise, with all that is needed to see it again, and ends the run.
pub fn violation(what: core::fmt::Arguments<'_>) -> ! {
    interrupts::disable();
    println!("VIOLATION: {what}; {}", options::get());
    end(Ending::Violation)
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    interrupts::disable();
    console::force_unlock();
    println!("PANIC on CPU {}: {info}", crate::cpu::current());
    end(Ending::Panic)
}

/// Stands in for the unwinder's hook, which the precompiled `core` names; nothing ever unwinds.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}
