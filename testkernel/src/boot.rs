//! From the assembly to the tests: the first CPU sets the kernel up and starts the others.

use core::arch::global_asm;
use core::ffi::CStr;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use lazytlb::{NotAdmitted, Policy, Quirks};
use lazytlb_x86::detect::KnownQuirk;
use lazytlb_x86::{ApicId, CpuMsrs, Detected, LocalApic, Timer};
use x86_64::instructions::interrupts;
use x86_64::instructions::port::Port;

use crate::breaks::Break;
use crate::console::println;
use crate::cpu::{ApicMode, with_apic};
use crate::ending::{self, Ending};
use crate::machine::{self, PcidsUsed};
use crate::options::{self, Driver, PcidsWanted};
use crate::{breaking, clock, console, cpu, frames, isolation, large_frames, paging, trap};

global_asm!(include_str!("boot.s"));

unsafe extern "C" {
    static trampoline: u8;
    static trampoline_end: u8;
}

/// Where started CPUs begin: a page below 1 MiB.
const TRAMPOLINE_PAGE: u8 = 8;
/// Bytes of the command line that are read.
const LONGEST_LINE: usize = 1024;
/// Counts of the APIC's timer from tick to tick.
static TICK_COUNTS: AtomicU32 = AtomicU32::new(0);
/// CPUs that have arrived.
static STARTED: AtomicU64 = AtomicU64::new(1);

/// Runs on the first CPU, with interrupts off; `info` is the boot loader's.
#[unsafe(no_mangle)]
extern "C" fn boot_cpu_main(info: *const u32) -> ! {
    cpu::set_up(0);
    console::set_up();
    // SAFETY: the boot loader's structure: flags first, the command line's address fourth after them. The line
    // ends with a zero byte, within memory that is mapped.
    let line = unsafe {
        if *info & 4 != 0 {
            core::slice::from_raw_parts(*info.add(4) as usize as *const u8, LONGEST_LINE)
        } else {
            &[0]
        }
    };
    let line = CStr::from_bytes_until_nul(line).unwrap_or_default();
    let line = line.to_str().unwrap_or_default();
    println!("lazytlb testkernel {}", env!("CARGO_PKG_VERSION"));
    if let Err(word) = options::read(line) {
        println!("the command line's `{word}` makes no sense");
        ending::end(Ending::Refused);
    }
    let detected = detect();
    println!("{detected}");
    let mode = choose_apic(&detected);
    let pcids = choose_pcids(&detected);
    mask_pic();
    cpu::enable_apic(mode);
    let left = clock::calibrate(
        || with_apic!(cpu::apic(), start_timer(Timer::Counting)),
        || with_apic!(cpu::apic(), timer_left()),
    );
    // Calibration took 10 ms.
    let counts = (u32::MAX - left) / 10_000 * trap::TICK_MICROSECONDS;
    TICK_COUNTS.store(counts.max(1), Ordering::Relaxed);
    frames::set_up();
    isolation::set_up();
    if pcids == PcidsUsed::Yes {
        cpu::enable_pcids();
    }
    large_frames::set_up();
    machine::set_up(told(&detected), pcids, paging::kernel_root());
    let protocol = lazytlb::sources::combined();
    println!(
        "protocol: {} files, hash {protocol}",
        lazytlb::sources::SOURCES.len()
    );
    machine::tlb().cpu_online(machine::hw());
    start_others();
    run(0)
}

/// Runs on every other CPU; `apic_id` is its own.
#[unsafe(no_mangle)]
extern "C" fn other_cpu_main(apic_id: u32) -> ! {
    let cpu = apic_id as usize;
    cpu::set_up(cpu);
    cpu::enable_apic(cpu::apic().mode());
    // Before this CPU comes to the protocol, which begins when it has the kernel's root loaded, under PCID 0.
    if machine::hw().board().pcids == PcidsUsed::Yes {
        cpu::enable_pcids();
    }
    admit(cpu);
    machine::tlb().cpu_online(machine::hw());
    STARTED.fetch_add(1, Ordering::SeqCst);
    run(cpu)
}

fn run(cpu: usize) -> ! {
    trap::start_ticks(TICK_COUNTS.load(Ordering::Relaxed));
    interrupts::enable();
    crate::run(cpu)
}

/// Looks at the CPU that this code runs on.
fn detect() -> Detected {
    // SAFETY: ring 0. An emulator's CPU has the registers that its CPUID claims.
    let msrs = unsafe { CpuMsrs::new() };
    Detected::detect(lazytlb_x86::detect::native(), &msrs)
}

/// Returns what the protocol is told: the errata of the first CPU, for those of an emulator are all alike, and of those that are expected
/// later. Elsewhere, take the union over all.
fn told(detected: &Detected) -> Quirks {
    let quirks = match breaking::is(Break::ForgetErrata) {
        true => Quirks::NONE,
        false => detected.quirks(),
    };
    match options::get().expects_erratum_383 {
        true => quirks.with_erratum_383(),
        false => quirks,
    }
}

/// Ends the run if this CPU has errata of which the protocol was not told: it must stay off, and this kernel has none to spare.
fn admit(cpu: usize) {
    let quirks = detect().quirks();
    if let Err(NotAdmitted { needed, .. }) = machine::tlb().admits(machine::hw(), quirks) {
        let told = lazytlb::Hw::quirks(machine::hw());
        ending::violation(format_args!(
            "CPU {cpu} must not come online: it has errata of which the protocol was not told; that needs {needed:?}, and was told {told:?}"
        ));
    }
}

/// Decides between the drivers: every CPU must use the same.
fn choose_apic(detected: &Detected) -> ApicMode {
    let able = detected.features.x2apic;
    match options::get().apic {
        Driver::Auto | Driver::Msr if able => ApicMode::Msr,
        Driver::Auto | Driver::Memory => ApicMode::Memory,
        Driver::Msr => {
            println!("this CPU has no x2APIC");
            ending::end(Ending::Refused)
        }
    }
}

/// Decides whether the protocol uses PCIDs: it must be the same on every CPU.
fn choose_pcids(detected: &Detected) -> PcidsUsed {
    // With the erratum, INVLPG leaves global entries in place while PCIDs are on (H34).
    let able = detected.features.pcid && !detected.has(KnownQuirk::InvlpgLeavesGlobals);
    let used = match options::get().pcids {
        PcidsWanted::Auto | PcidsWanted::On if able => PcidsUsed::Yes,
        PcidsWanted::Auto | PcidsWanted::Off => PcidsUsed::No,
        PcidsWanted::Pretend => PcidsUsed::Pretended,
        PcidsWanted::On => {
            println!("this CPU has no PCIDs that can be used");
            ending::end(Ending::Refused)
        }
    };
    let broken = options::get().broken;
    if broken.is_some_and(Break::needs_pcids) && used == PcidsUsed::No {
        println!("without PCIDs there is nothing of this to break");
        ending::end(Ending::Refused);
    }
    if broken.is_some_and(Break::needs_isolation) && !options::get().isolation {
        println!("without page-table isolation there is nothing of this to break");
        ending::end(Ending::Refused);
    }
    if broken.is_some_and(Break::is_of_holding) && options::get().policy != Policy::Quarantine {
        println!("where nothing is held back there is nothing of this to break");
        ending::end(Ending::Refused);
    }
    used
}

/// Silences the old interrupt controllers.
fn mask_pic() {
    // SAFETY: no device interrupt is used.
    unsafe {
        Port::<u8>::new(0x21).write(0xff);
        Port::<u8>::new(0xa1).write(0xff);
    }
}

/// Starts the other CPUs, one after the other.
fn start_others() {
    let (from, to) = (
        &raw const trampoline,
        (usize::from(TRAMPOLINE_PAGE) << 12) as *mut u8,
    );
    // SAFETY: the page below 1 MiB is free memory; the code was assembled for it.
    unsafe {
        let len = (&raw const trampoline_end).offset_from_unsigned(from);
        core::ptr::copy_nonoverlapping(from, to, len);
    }
    for cpu in 1..options::get().cpus {
        let to = ApicId(cpu as u32);
        with_apic!(cpu::apic(), send_init(to));
        clock::wait_microseconds(10_000);
        for _ in 0..2 {
            with_apic!(cpu::apic(), send_startup(to, TRAMPOLINE_PAGE));
            let patience = clock::microseconds() + 200_000;
            while STARTED.load(Ordering::SeqCst) <= cpu as u64 && clock::microseconds() < patience {
                core::hint::spin_loop();
            }
            if STARTED.load(Ordering::SeqCst) > cpu as u64 {
                break;
            }
        }
        assert!(
            STARTED.load(Ordering::SeqCst) > cpu as u64,
            "CPU {cpu} does not start"
        );
    }
    println!(
        "{} CPUs, {}, PCIDs {}, page-table isolation {}",
        options::get().cpus,
        options::get(),
        machine::hw().board().pcids.name(),
        match options::get().isolation {
            true => "on",
            false => "off",
        }
    );
}
