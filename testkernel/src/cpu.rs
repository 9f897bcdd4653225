//! Per-CPU state behind GS, descriptor tables, and interrupt stacks.

use core::arch::asm;
use core::cell::UnsafeCell;

use lazytlb_x86::{LocalApic, X2Apic, XApic};
use spin::Once;
use x86_64::VirtAddr;
use x86_64::instructions::segmentation::{CS, Segment};
use x86_64::instructions::tables::load_tss;
use x86_64::registers::control::{Cr4, Cr4Flags};
use x86_64::registers::model_specific::GsBase;
use x86_64::registers::segmentation::SS;
use x86_64::structures::gdt::{Descriptor, GlobalDescriptorTable};
use x86_64::structures::idt::InterruptDescriptorTable;
use x86_64::structures::tss::TaskStateSegment;

/// CPUs that this kernel can start.
pub const MAX_CPUS: usize = 16;
/// The flush interrupt's vector; above the timer's, so that it is served first.
pub const FLUSH_VECTOR: u8 = 0xf0;
/// The timer's vector.
pub const TIMER_VECTOR: u8 = 0x40;
/// The vector of interrupts that go away before they are taken.
pub const SPURIOUS_VECTOR: u8 = 0xff;
/// The system call's vector.
pub const SYSCALL_VECTOR: u8 = 0x80;

/// Calls a method of whichever driver is in use.
macro_rules! with_apic {
    ($apic:expr, $($call:tt)*) => {
        match $apic {
            $crate::cpu::Apic::Memory(apic) => apic.$($call)*,
            $crate::cpu::Apic::Msr(apic) => apic.$($call)*,
        }
    };
}
pub(crate) use with_apic;

/// What GS points to. The assembly knows every field but the first. Mapped in both halves, as all in `.entry_data`.
#[repr(C)]
struct Area {
    this: u64,
    user_context: u64,
    kernel_stack: u64,
    cpu: u64,
    /// What to load into CR3 when ring 3 traps, or 0.
    kernel_half: u64,
    /// CR3 as the last trap from ring 3 found it, if it was to be replaced.
    left_cr3: u64,
    /// The stack of the way to ring 3.
    entry_stack: u64,
}

/// Classes of vectors: exceptions and the system call; double faults and machine checks; interrupts.
const CLASSES: usize = 3;
/// Bytes of an interrupt stack.
const STACK_BYTES: u64 = 16 * 1024;

/// Stacks of the three classes of vectors: a fault inside an interrupt's handler has its own.
#[repr(C, align(4096))]
struct Stacks([[u8; STACK_BYTES as usize]; CLASSES]);

/// A value that each CPU sets up for itself before anyone else looks at it.
struct PerCpuCell<T>(UnsafeCell<[T; MAX_CPUS]>);
// SAFETY: each CPU touches its own element only.
unsafe impl<T> Sync for PerCpuCell<T> {}

impl<T> PerCpuCell<T> {
    fn of(&self, cpu: usize) -> *mut T {
        assert!(cpu < MAX_CPUS, "CPU {cpu} is one too many");
        // SAFETY: the index was checked; no reference to the array is made.
        unsafe { self.0.get().cast::<T>().add(cpu) }
    }
}

#[unsafe(link_section = ".entry_data")]
static AREAS: PerCpuCell<Area> = PerCpuCell(UnsafeCell::new(
    [const {
        Area {
            this: 0,
            user_context: 0,
            kernel_stack: 0,
            cpu: 0,
            kernel_half: 0,
            left_cr3: 0,
            entry_stack: 0,
        }
    }; MAX_CPUS],
));
static STACKS: PerCpuCell<Stacks> = PerCpuCell(UnsafeCell::new(
    [const { Stacks([[0; STACK_BYTES as usize]; CLASSES]) }; MAX_CPUS],
));
#[unsafe(link_section = ".entry_data")]
static GDTS: PerCpuCell<GlobalDescriptorTable> = PerCpuCell(UnsafeCell::new(
    [const { GlobalDescriptorTable::new() }; MAX_CPUS],
));
#[unsafe(link_section = ".entry_data")]
static TSSS: PerCpuCell<TaskStateSegment> = PerCpuCell(UnsafeCell::new(
    [const { TaskStateSegment::new() }; MAX_CPUS],
));
#[unsafe(link_section = ".entry_data")]
static IDT: Once<InterruptDescriptorTable> = Once::new();

/// Returns the top of an interrupt stack.
fn stack_top(cpu: usize, class: usize) -> u64 {
    STACKS.of(cpu) as u64 + (class as u64 + 1) * STACK_BYTES
}

/// Returns the highest page of every interrupt stack: a trap from ring 3 needs no more before it leaves that stack.
pub fn entry_stack_pages() -> impl Iterator<Item = u64> {
    let classes = |cpu| (0..CLASSES).map(move |class| stack_top(cpu, class) - 4096);
    (0..MAX_CPUS).flat_map(classes)
}

/// Returns the address of the descriptor tables of this CPU.
pub fn descriptors() -> u64 {
    GDTS.of(current()) as u64
}

/// Returns CR3 as this CPU's last trap from ring 3 found it, if another half was loaded then.
pub fn left_cr3() -> u64 {
    let cr3: u64;
    // SAFETY: as in `current`.
    unsafe { asm!("mov {}, gs:[40]", out(reg) cr3, options(nostack, readonly, preserves_flags)) };
    cr3
}

/// Returns the index of the CPU that runs this code.
pub fn current() -> usize {
    let cpu: u64;
    // SAFETY: GS points to this CPU's `Area` from `set_up` on, which runs before all else.
    unsafe { asm!("mov {}, gs:[24]", out(reg) cpu, options(nostack, readonly, preserves_flags)) };
    cpu as usize
}

/// Sets up this CPU's segments, interrupt stacks and GS. Interrupts are off.
pub fn set_up(cpu: usize) {
    let area = AREAS.of(cpu);
    let (tss, gdt) = (TSSS.of(cpu), GDTS.of(cpu));
    // SAFETY: this CPU's own elements, before anyone else uses them.
    unsafe {
        *area = Area {
            this: area as u64,
            user_context: 0,
            kernel_stack: 0,
            cpu: cpu as u64,
            kernel_half: 0,
            left_cr3: 0,
            // That of interrupts, which are off on that way: a fault there has another.
            entry_stack: stack_top(cpu, 2),
        };
        for class in 0..CLASSES {
            (*tss).interrupt_stack_table[class] = VirtAddr::new(stack_top(cpu, class));
        }
        // The order fixes the selectors that the assembly uses: kernel 0x08, 0x10; user 0x1b, 0x23.
        let code = (*gdt).append(Descriptor::kernel_code_segment());
        let data = (*gdt).append(Descriptor::kernel_data_segment());
        (*gdt).append(Descriptor::user_data_segment());
        (*gdt).append(Descriptor::user_code_segment());
        let task = (*gdt).append(Descriptor::tss_segment_unchecked(tss));
        (*gdt).load_unsafe();
        CS::set_reg(code);
        SS::set_reg(data);
        load_tss(task);
        GsBase::write(VirtAddr::new(area as u64));
        IDT.call_once(interrupt_table).load_unsafe();
    }
}

/// Points every vector to its stub, with the stack of its class.
fn interrupt_table() -> InterruptDescriptorTable {
    unsafe extern "C" {
        static trap_stubs: u8;
    }
    // SAFETY: only the address of the assembly's label is taken; each stub has 16 bytes.
    let stub = |vector: u64| VirtAddr::new((&raw const trap_stubs) as u64 + 16 * vector);
    let mut idt = InterruptDescriptorTable::new();
    // SAFETY: the stubs save and restore all that they touch; the stacks exist in every TSS.
    unsafe {
        idt.invalid_opcode
            .set_handler_addr(stub(6))
            .set_stack_index(0);
        idt.double_fault
            .set_handler_addr(stub(8))
            .set_stack_index(1);
        idt.general_protection_fault
            .set_handler_addr(stub(13))
            .set_stack_index(0);
        idt.page_fault.set_handler_addr(stub(14)).set_stack_index(0);
        idt.machine_check
            .set_handler_addr(stub(18))
            .set_stack_index(1);
        for vector in [TIMER_VECTOR, FLUSH_VECTOR, SPURIOUS_VECTOR] {
            idt[vector]
                .set_handler_addr(stub(vector.into()))
                .set_stack_index(2);
        }
        idt[SYSCALL_VECTOR]
            .set_handler_addr(stub(SYSCALL_VECTOR.into()))
            .set_stack_index(0)
            .set_privilege_level(x86_64::PrivilegeLevel::Ring3);
    }
    idt
}

/// The APIC driver in use: the same on every CPU.
#[derive(Clone, Copy, Debug)]
pub enum Apic {
    Memory(XApic),
    Msr(X2Apic),
}

impl Apic {
    /// Returns how it is reached.
    pub fn mode(&self) -> ApicMode {
        match self {
            Apic::Memory(_) => ApicMode::Memory,
            Apic::Msr(_) => ApicMode::Msr,
        }
    }
}

static APIC: Once<Apic> = Once::new();

/// How an APIC is reached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ApicMode {
    /// By memory: xAPIC.
    Memory,
    /// By MSRs: x2APIC.
    Msr,
}

/// Switches this CPU's APIC on.
pub fn enable_apic(mode: ApicMode) {
    // SAFETY: ring 0, every CPU takes the same way, and the page is mapped uncached at its address.
    let apic = unsafe {
        match mode {
            ApicMode::Msr => Apic::Msr(X2Apic::new()),
            ApicMode::Memory => Apic::Memory(XApic::new(XApic::DEFAULT_BASE)),
        }
    };
    APIC.call_once(|| apic);
    with_apic!(apic, enable(SPURIOUS_VECTOR));
}

/// Flips CR4.PGE twice: everything is invalidated, global entries too (H16).
pub fn flip_pge() {
    // SAFETY: global pages are an optimisation; every mapping stays.
    unsafe {
        Cr4::update(|flags| flags.remove(Cr4Flags::PAGE_GLOBAL));
        Cr4::update(|flags| flags.insert(Cr4Flags::PAGE_GLOBAL));
    }
}

/// Enables PCIDs on this CPU, which has the kernel's root loaded.
pub fn enable_pcids() {
    // SAFETY: the CPU has them, is in long mode, and CR3's low 12 bits are 0: no other root was loaded yet.
    unsafe { Cr4::update(|flags| flags.insert(Cr4Flags::PCID)) };
}

/// Returns the driver.
pub fn apic() -> Apic {
    *APIC.get().expect("the APIC is enabled first")
}

/// Ends the machine: an exception without a table of handlers.
pub fn triple_fault() -> ! {
    crate::console::println!("a triple fault was asked for");
    let none = x86_64::structures::DescriptorTablePointer {
        limit: 0,
        base: VirtAddr::zero(),
    };
    // SAFETY: that nothing works afterwards is the point.
    unsafe {
        x86_64::instructions::tables::lidt(&none);
        asm!("ud2", options(noreturn));
    }
}
