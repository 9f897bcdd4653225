//! The instructions that invalidate: after each, the new mapping must be seen.
//!
//! What this shows is that they are issued and encoded rightly. That an entry may survive without them,
//! which is allowed but never sure, is not asked; nor are PCID tags, which neither emulator has.

use core::sync::atomic::Ordering;

use lazytlb::{Cr3Load, Hw, MmHandle, PhysAddr, VirtAddr};
use lazytlb_x86::detect;
use lazytlb_x86::pcid::{self, Invpcid, Pcid};
use x86_64::instructions::interrupts::without_interrupts;
use x86_64::registers::control::{Cr4, Cr4Flags};

use crate::console::println;
use crate::machine::{flush_loaded, hw, loaded_pcid, loaded_root, tlb};
use crate::paging::{self, Level};
use crate::space::{BOARD, SPACES};
use crate::{cpu, ending, ends, frames};

/// Where the page stands that is mapped to one frame, then to the other: for the kernel only.
const PROBE: VirtAddr = VirtAddr(BOARD + 0x1000);
/// A leaf entry for the kernel alone, and its global bit.
const KERNEL_PAGE: u64 = 0b11;
const GLOBAL: u64 = 1 << 8;

/// Runs the test on this CPU.
pub fn run() {
    let features = boot_features();
    SPACES[0].create();
    tlb().switch_mm(hw(), SPACES[0].handle());
    let root = loaded_root();
    let probes = [frames::alloc(), frames::alloc()];
    for (value, probe) in probes.iter().enumerate() {
        frames::word(*probe, 0).store(value as u64, Ordering::Relaxed);
    }
    let entry = paging::make(root, PROBE);
    let mut current = 0;
    let mut tested = 0;
    let mut test = |name: &str, global: u64, invalidate: &dyn Fn()| {
        let set = |value: usize| {
            entry.store(probes[value].0 | KERNEL_PAGE | global, Ordering::SeqCst);
        };
        // Cached for sure, then changed.
        set(current);
        hw().invlpg(PROBE);
        read();
        current = 1 - current;
        set(current);
        without_interrupts(invalidate);
        if read() != current as u64 {
            ending::violation(format_args!("after {name}, CPU 0 still read the old page"));
        }
        tested += 1;
    };
    test("INVLPG", 0, &|| hw().invlpg(PROBE));
    test("INVLPG of a global page", GLOBAL, &|| hw().invlpg(PROBE));
    test("MOV to CR3", 0, &|| flush_loaded());
    test("MOV to CR4 that flips PGE", GLOBAL, &cpu::flip_pge);
    let mine = Pcid::new(loaded_pcid().number()).expect("12 bits");
    if features.invpcid {
        // SAFETY: the CPU has it; the PCID is 0 while PCIDs are off.
        let invpcid = |what| unsafe { pcid::invpcid(what) };
        test("INVPCID of one page", 0, &|| {
            invpcid(Invpcid::Page(mine, PROBE))
        });
        test("INVPCID of one PCID", 0, &|| invpcid(Invpcid::Space(mine)));
        test("INVPCID of all", GLOBAL, &|| {
            invpcid(Invpcid::AllWithGlobal)
        });
        test("INVPCID of all but global", 0, &|| {
            invpcid(Invpcid::AllButGlobal)
        });
    }
    if features.pcid {
        test("MOV to CR3 with another PCID and back", 0, &|| {
            with_pcids(root)
        });
        test("clearing CR4.PCIDE", GLOBAL, &|| flip_pcide(root));
    }
    println!("instructions: {tested} ways to invalidate work");
    entry.store(0, Ordering::SeqCst);
    hw().invlpg(PROBE);
    probes.into_iter().for_each(frames::free);
    assert!(
        paging::find(root, PROBE, Level::Pages).is_some(),
        "the board's table maps it too"
    );
    tlb().enter_lazy(hw());
    tlb().switch_mm(hw(), MmHandle(0));
    ends::end_now(&SPACES[0]);
}

fn boot_features() -> detect::Features {
    // SAFETY: ring 0; the CPU's own registers.
    let msrs = unsafe { lazytlb_x86::CpuMsrs::new() };
    detect::Detected::detect(detect::native(), &msrs).features
}

/// Reads the probe's first word, past the compiler.
fn read() -> u64 {
    // SAFETY: the probe is mapped by every caller.
    unsafe { (PROBE.0 as *const u64).read_volatile() }
}

/// Loads another PCID and comes back keeping, then flushing (H1, H15); PCIDs are enabled for it if they are off.
fn with_pcids(root: PhysAddr) {
    let pcids_were_on = Cr4::read().contains(Cr4Flags::PCID);
    let (mine, other) = (
        Pcid::new(loaded_pcid().number()).expect("12 bits"),
        Pcid::new(0x123).expect("12 bits"),
    );
    // SAFETY: the CPU has PCIDs; where they are off, CR3's low bits are 0, and are again in the end. One root is loaded
    // under either PCID, and the protocol does not have the other one.
    unsafe {
        Cr4::update(|flags| flags.insert(Cr4Flags::PCID));
        pcid::load_cr3(root, other, Cr3Load::Flush);
        pcid::load_cr3(root, mine, Cr3Load::Keep);
        pcid::load_cr3(root, other, Cr3Load::Keep);
        pcid::load_cr3(root, mine, Cr3Load::Flush);
        Cr4::update(|flags| flags.set(Cr4Flags::PCID, pcids_were_on));
    }
}

/// Enables PCIDs if they are off, and disables them: everything is invalidated, global entries and every PCID's too
/// (H16); then puts back what was.
fn flip_pcide(root: PhysAddr) {
    let pcids_were_on = Cr4::read().contains(Cr4Flags::PCID);
    let (mine, zero) = (
        Pcid::new(loaded_pcid().number()).expect("12 bits"),
        Pcid::new(0).expect("12 bits"),
    );
    // SAFETY: the CPU has PCIDs, and CR3's low bits are 0 whenever they are enabled.
    unsafe {
        Cr4::update(|flags| flags.insert(Cr4Flags::PCID));
        pcid::load_cr3(root, zero, Cr3Load::Flush);
        Cr4::update(|flags| flags.remove(Cr4Flags::PCID));
        if pcids_were_on {
            Cr4::update(|flags| flags.insert(Cr4Flags::PCID));
            pcid::load_cr3(root, mine, Cr3Load::Flush);
        }
    }
}
