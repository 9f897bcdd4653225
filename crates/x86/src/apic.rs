//! The local APIC, as far as a shootdown needs it, and a timer: drivers for xAPIC and x2APIC.

use lazytlb::{CpuId, CpuSet};
use x86_64::instructions::interrupts::without_interrupts;
use x86_64::registers::model_specific::Msr;

/// A local APIC's id: how the interrupt hardware names a CPU.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ApicId(pub u32);

/// An interrupt command's low half: what is sent (SDM 3A, "Interrupt Command Register").
mod command {
    pub(super) const FIXED: u32 = 0;
    pub(super) const INIT: u32 = 0b101 << 8;
    pub(super) const STARTUP: u32 = 0b110 << 8;
    pub(super) const ASSERT: u32 = 1 << 14;
    /// Set while an xAPIC has not sent the former command yet.
    pub(super) const PENDING: u32 = 1 << 12;
}

/// Register offsets in the xAPIC's page; an x2APIC's MSR is `0x800 + offset / 16`.
mod register {
    pub(super) const ID: u32 = 0x20;
    pub(super) const END_OF_INTERRUPT: u32 = 0xb0;
    pub(super) const SPURIOUS: u32 = 0xf0;
    pub(super) const COMMAND_LOW: u32 = 0x300;
    pub(super) const COMMAND_HIGH: u32 = 0x310;
    pub(super) const TIMER: u32 = 0x320;
    pub(super) const TIMER_INITIAL: u32 = 0x380;
    pub(super) const TIMER_CURRENT: u32 = 0x390;
    pub(super) const TIMER_DIVIDE: u32 = 0x3e0;
}

/// MSR IA32_APIC_BASE: bit 11 enables the APIC, bit 10 its x2APIC mode.
const APIC_BASE: u32 = 0x1b;
const ENABLED: u64 = 1 << 11;
const X2APIC_MODE: u64 = 1 << 10;
/// The spurious-interrupt register's software-enable bit.
const SOFTWARE_ENABLE: u32 = 1 << 8;
/// The timer register's periodic mode.
const PERIODIC: u32 = 1 << 17;
/// The timer register's mask bit.
const MASKED: u32 = 1 << 16;
/// The timer counts every sixteenth bus clock.
const DIVIDE_BY_16: u32 = 0b0011;

/// How the timer runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Timer {
    /// It counts down from the greatest count, silently: to be calibrated.
    Counting,
    /// It interrupts with this vector every so many counts.
    Periodic {
        /// The interrupt's vector.
        vector: u8,
        /// Counts from one interrupt to the next.
        counts: u32,
    },
}

/// The local APIC of the CPU that runs this code.
pub trait LocalApic {
    /// Reads a register by its xAPIC offset.
    fn read(&self, register: u32) -> u32;
    /// Writes a register by its xAPIC offset.
    fn write(&self, register: u32, value: u32);
    /// Returns this CPU's id.
    fn id(&self) -> ApicId;
    /// Makes every earlier store of this CPU visible before the commands that follow. An uncached
    /// write orders itself; an x2APIC's needs a fence (H36).
    fn before_commands(&self);
    /// Writes the interrupt command register.
    fn command(&self, to: ApicId, low: u32);

    /// Switches this APIC on; spurious interrupts come with this vector.
    fn enable(&self, spurious_vector: u8) {
        self.write(
            register::SPURIOUS,
            SOFTWARE_ENABLE | u32::from(spurious_vector),
        );
    }
    /// Tells the APIC that the handler of the current interrupt is done.
    fn end_of_interrupt(&self) {
        self.write(register::END_OF_INTERRUPT, 0);
    }
    /// Interrupts each CPU of the set with `vector`. Cost: one command for each.
    fn send_to_set<const WORDS: usize>(
        &self,
        targets: &CpuSet<WORDS>,
        apic_id: impl Fn(CpuId) -> ApicId,
        vector: u8,
    ) {
        self.before_commands();
        for cpu in targets.iter() {
            self.command(
                apic_id(cpu),
                command::FIXED | command::ASSERT | u32::from(vector),
            );
        }
    }
    /// Resets a CPU that has not started yet; wait 10 ms before [`LocalApic::send_startup`].
    fn send_init(&self, to: ApicId) {
        self.before_commands();
        self.command(to, command::INIT | command::ASSERT);
    }
    /// Starts a CPU in real mode at a page below 1 MiB: at address `page << 12`.
    fn send_startup(&self, to: ApicId, page: u8) {
        self.before_commands();
        self.command(to, command::STARTUP | command::ASSERT | u32::from(page));
    }
    /// Starts the timer, at a sixteenth of the bus clock.
    fn start_timer(&self, timer: Timer) {
        self.write(register::TIMER_DIVIDE, DIVIDE_BY_16);
        let (mode, counts) = match timer {
            Timer::Counting => (MASKED, u32::MAX),
            Timer::Periodic { vector, counts } => (PERIODIC | u32::from(vector), counts),
        };
        self.write(register::TIMER, mode);
        self.write(register::TIMER_INITIAL, counts);
    }
    /// Returns how far the timer has still to count.
    fn timer_left(&self) -> u32 {
        self.read(register::TIMER_CURRENT)
    }
}

/// The APIC behind a page of uncached memory. Ids fit into 8 bits.
#[derive(Clone, Copy, Debug)]
pub struct XApic {
    base: usize,
}

impl XApic {
    /// Where the page stands after a reset.
    pub const DEFAULT_BASE: usize = 0xfee0_0000;

    /// Enables the APIC of this CPU in xAPIC mode.
    ///
    /// # Safety
    /// Ring 0, before x2APIC mode was entered; `base` must be where the APIC's page is mapped, uncached,
    /// in every address space.
    pub unsafe fn new(base: usize) -> Self {
        let mut msr = Msr::new(APIC_BASE);
        // SAFETY: every x86-64 CPU has this register; bit 11 only switches the APIC on.
        unsafe { msr.write(msr.read() | ENABLED) };
        XApic { base }
    }
}

impl LocalApic for XApic {
    fn read(&self, register: u32) -> u32 {
        let address = (self.base + register as usize) as *const u32;
        // SAFETY: `new`'s caller has mapped the page; the offset lies within it.
        unsafe { address.read_volatile() }
    }
    fn write(&self, register: u32, value: u32) {
        let address = (self.base + register as usize) as *mut u32;
        // SAFETY: as for `read`.
        unsafe { address.write_volatile(value) };
    }
    fn id(&self) -> ApicId {
        ApicId(self.read(register::ID) >> 24)
    }
    fn before_commands(&self) {
        // An uncached write is not executed before earlier stores are globally visible. The compiler
        // must keep the order too; pairs with the target's `take_inbox`.
        core::sync::atomic::compiler_fence(core::sync::atomic::Ordering::SeqCst);
    }
    fn command(&self, to: ApicId, low: u32) {
        // Two writes: a handler that sent one in between would change the destination.
        without_interrupts(|| {
            while self.read(register::COMMAND_LOW) & command::PENDING != 0 {
                core::hint::spin_loop();
            }
            self.write(register::COMMAND_HIGH, to.0 << 24);
            self.write(register::COMMAND_LOW, low);
        });
    }
}

/// The APIC behind MSRs: one write sends an interrupt, ids have 32 bits.
#[derive(Clone, Copy, Debug)]
pub struct X2Apic(());

impl X2Apic {
    /// Switches the APIC of this CPU to x2APIC mode, from which only a reset leads back to xAPIC.
    ///
    /// # Safety
    /// Ring 0; the CPU must have it ([`crate::detect::Features::x2apic`]), and every CPU must use the same
    /// mode.
    pub unsafe fn new() -> Self {
        let mut msr = Msr::new(APIC_BASE);
        // SAFETY: the caller says that the CPU has x2APIC. The mode is entered from xAPIC mode only,
        // so that is enabled first.
        unsafe {
            msr.write(msr.read() | ENABLED);
            msr.write(msr.read() | X2APIC_MODE);
        }
        X2Apic(())
    }

    fn msr(register: u32) -> Msr {
        Msr::new(0x800 + (register >> 4))
    }
}

impl LocalApic for X2Apic {
    fn read(&self, register: u32) -> u32 {
        // SAFETY: `new` has entered x2APIC mode, where these registers exist.
        let value = unsafe { Self::msr(register).read() };
        // The registers read here have 32 bits.
        value as u32
    }
    fn write(&self, register: u32, value: u32) {
        // SAFETY: as for `read`.
        unsafe { Self::msr(register).write(u64::from(value)) };
    }
    fn id(&self) -> ApicId {
        ApicId(self.read(register::ID))
    }
    fn before_commands(&self) {
        // H36: this WRMSR is not serializing, and may complete while earlier stores are still
        // buffered: the target's handler would find an empty inbox. MFENCE makes the stores
        // visible, LFENCE holds the WRMSR back until then. Pairs with the target's `take_inbox`.
        // Source: SDM 3A, "MSR Access in x2APIC Mode".
        // SAFETY: both instructions exist on every x86-64 CPU.
        unsafe {
            core::arch::x86_64::_mm_mfence();
            core::arch::x86_64::_mm_lfence();
        }
    }
    fn command(&self, to: ApicId, low: u32) {
        let value = u64::from(to.0) << 32 | u64::from(low);
        // SAFETY: as for `read`.
        unsafe { Self::msr(register::COMMAND_LOW).write(value) };
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::cell::RefCell;
    use std::vec::Vec;

    /// An APIC that writes down what it is told.
    #[derive(Default)]
    struct Recorder(RefCell<Vec<(u32, u32)>>);

    impl LocalApic for Recorder {
        fn read(&self, _register: u32) -> u32 {
            0
        }
        fn write(&self, register: u32, value: u32) {
            self.0.borrow_mut().push((register, value));
        }
        fn id(&self) -> ApicId {
            ApicId(0)
        }
        fn before_commands(&self) {
            self.0.borrow_mut().push((0, 0));
        }
        fn command(&self, to: ApicId, low: u32) {
            self.0.borrow_mut().push((to.0, low));
        }
    }

    #[test]
    fn a_set_gets_one_fence_and_one_command_for_each_cpu() {
        let apic = Recorder::default();
        let mut targets = CpuSet::<2>::EMPTY;
        targets.insert(CpuId(1));
        targets.insert(CpuId(70));
        apic.send_to_set(&targets, |cpu| ApicId(u32::from(cpu.0) * 2), 0xf0);
        assert_eq!(*apic.0.borrow(), [(0, 0), (2, 0x40f0), (140, 0x40f0)]);
    }

    #[test]
    fn a_cpu_is_started_by_init_and_a_page_number() {
        let apic = Recorder::default();
        apic.send_init(ApicId(3));
        apic.send_startup(ApicId(3), 8);
        assert_eq!(*apic.0.borrow(), [(0, 0), (3, 0x4500), (0, 0), (3, 0x4608)]);
    }

    #[test]
    fn a_periodic_timer_is_told_its_vector_and_its_counts() {
        let apic = Recorder::default();
        apic.start_timer(Timer::Periodic {
            vector: 0x20,
            counts: 1000,
        });
        assert_eq!(
            *apic.0.borrow(),
            [(0x3e0, 3), (0x320, 0x2_0020), (0x380, 1000)]
        );
    }
}
