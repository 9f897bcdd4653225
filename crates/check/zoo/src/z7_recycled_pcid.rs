//! Z7: a PCID passes to another space by a CR3 load that keeps, and is invalidated by INVPCID afterwards. A class of bugs.
//!
//! Source: HISTORY's class; the SDM, "MOV to CR3" and "INVPCID" (H15, H19). No commit: `choose_new_asid` in Linux
//! `arch/x86/mm/tlb.c` has it right from the start, and asks for the flush in the load itself.
//!
//! Between load and INVPCID the new space runs on the old one's translations. With interrupts off nothing of the kernel's
//! touches user memory there, but an NMI's handler may, which unwinds a user's stack, say.
//!
//! The checker: `foreign-translation` on a CPU that switches and takes an NMI. With the flush in the load it is safe.
//!
//! Left out: several slots and their choice. That an NMI's handler may ask first (Linux `nmi_uaccess_okay`) is left out on
//! purpose: it is why the class is seldom seen.

use lazytlb::{Access, Cr3Load, Invpcid, Memory, Pcid, Pcids, PhysAddr};
use lazytlb_check::Program;
use lazytlb_model::{Cr4, Property};

use crate::exhibit::{Case, Exhibit};
use crate::setting::{PAGE, mapped, uses, without_interrupts};

pub(crate) const EXHIBIT: Exhibit = Exhibit {
    name: "z7",
    kernel: "a class",
    about: "a recycled PCID is flushed after the CR3 load: the new space runs on the old one's translations in between",
    source: "no commit; SDM 3A, \"Operations that Invalidate TLBs and Paging-Structure Caches\" (H15, H19)",
    story: "A space gets a PCID that another one has had. Its root is loaded with bit 63 set, which keeps what is cached \
            under the PCID, and INVPCID removes it afterwards. An NMI comes between the two, and its handler looks at user \
            memory: it reads the other space's.",
    fix: "flush in the same CR3 load: bit 63 clear",
    left_out: "slots and their choice; that an NMI's handler may ask first whether it may touch user memory",
    bug: Some(Case::unsafe_by(
        "keep, then INVPCID",
        (Property::ForeignTranslation, 6),
        || program(Recycle::KeepThenInvpcid),
    )),
    proofs: &[Case::safe("the load flushes", || program(Recycle::Flush))],
    also: &[],
    broken: &[
        Case::unsafe_by(
            "not flushed at all",
            (Property::ForeignTranslation, 5),
            || program(Recycle::Keep),
        ),
        Case::unsafe_by(
            "INVPCID, then keep",
            (Property::ForeignTranslation, 6),
            || program(Recycle::InvpcidThenKeep),
        ),
    ],
};

/// How a PCID passes to another space.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Recycle {
    KeepThenInvpcid,
    Flush,
    Keep,
    InvpcidThenKeep,
}

/// Switches to the space with this root, which gets the PCID that is loaded.
fn switch<H: Pcids>(hw: &H, root: PhysAddr, how: Recycle) {
    let pcid = Pcid::KERNEL;
    without_interrupts(hw, || match how {
        Recycle::KeepThenInvpcid => {
            hw.load_cr3_pcid(root, pcid, Cr3Load::Keep);
            hw.invpcid(Invpcid::Pcid(pcid));
        }
        Recycle::InvpcidThenKeep => {
            hw.invpcid(Invpcid::Pcid(pcid));
            hw.load_cr3_pcid(root, pcid, Cr3Load::Keep);
        }
        Recycle::Keep => hw.load_cr3_pcid(root, pcid, Cr3Load::Keep),
        Recycle::Flush => hw.load_cr3_pcid(root, pcid, Cr3Load::Flush),
    });
}

/// CPU 0 runs in one space, then in another; CPU 1 sends it an NMI, whose handler touches user memory.
fn program(how: Recycle) -> Program {
    let mut program = Program::new("z7", 2);
    program.start_with_cr4(Cr4::PCIDE);
    let first = mapped(&mut program, "the first space");
    let second = mapped(&mut program, "the second space");
    program.start_with_root(first.root);
    uses(&mut program, 0, PAGE);
    program.operation(0, "switch to the second space", move |hw| {
        switch(hw, second.root, how);
    });
    uses(&mut program, 0, PAGE);
    program.operation(1, "send an NMI", |hw| hw.send_nmi(0b1));
    program.on_nmi(|hw| hw.touch(PAGE, Access::Load));
    program.proves("no access in one space goes through another's translation");
    program
}
