//! Text out: the first serial port, and port 0xe9, which emulators copy to their output.

use core::fmt::{self, Write};

use spin::Mutex;
use x86_64::instructions::interrupts::without_interrupts;
use x86_64::instructions::port::Port;

/// The serial port's registers.
const COM1: u16 = 0x3f8;
/// The line-status register's bit for "ready for a byte".
const READY: u8 = 1 << 5;
/// The line-status register's bit for "nothing left to send".
const EMPTY: u8 = 1 << 6;

struct Ports;

impl Write for Ports {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            // SAFETY: the serial port and the debug port have no effect on memory.
            unsafe {
                for _ in 0..100_000 {
                    if Port::<u8>::new(COM1 + 5).read() & READY != 0 {
                        break;
                    }
                }
                Port::<u8>::new(COM1).write(byte);
                Port::<u8>::new(0xe9).write(byte);
            }
        }
        Ok(())
    }
}

static PORTS: Mutex<Ports> = Mutex::new(Ports);

/// Sets the serial port up: eight bits, no parity, 115,200 baud, no interrupts.
pub fn set_up() {
    for (offset, value) in [(1, 0), (3, 0x80), (0, 1), (1, 0), (3, 3)] {
        // SAFETY: as in `write_str`.
        unsafe { Port::<u8>::new(COM1 + offset).write(value) };
    }
}

/// Prints a line. Interrupts are off meanwhile: a handler on this CPU may print too.
pub fn print(line: fmt::Arguments<'_>) {
    without_interrupts(|| {
        // Ports never fails.
        let _ = PORTS.lock().write_fmt(line);
    });
}

/// Waits until the last byte has left: before the machine ends.
pub fn drain() {
    for _ in 0..1_000_000 {
        // SAFETY: as in `write_str`.
        if unsafe { Port::<u8>::new(COM1 + 5).read() } & EMPTY != 0 {
            break;
        }
    }
}

/// Makes the next line possible whoever was printing: for panics.
pub fn force_unlock() {
    // SAFETY: at worst two CPUs' letters mix.
    unsafe { PORTS.force_unlock() };
}

macro_rules! println {
    ($($arguments:tt)*) => {
        $crate::console::print(format_args!("{}\n", format_args!($($arguments)*)))
    };
}
pub(crate) use println;
