//! Z9: a space that ends frees its root while a lazy CPU has it in CR3. A class of bugs.
//!
//! Source: HISTORY's class; what prevents it: Linux `mmgrab_lazy_tlb`/`mmdrop_lazy_tlb` (a reference for each borrower), or
//! `MMU_LAZY_TLB_SHOOTDOWN` (2655421ae69f, 2023, `shoot_lazy_tlbs` in `kernel/fork.c`): at exit, lazy CPUs are interrupted.
//!
//! A lazy CPU runs no thread of the space, so whoever counts threads does not count it. But it walks.
//!
//! The checker: `table-use-after-free` on two CPUs, one that exits and one that is lazy. The interrupt at exit is safe, and so is the
//! reference.
//!
//! Left out: the rest of exit, NMIs, and that a real root also holds the kernel's half: a CPU whose root is gone fails at the
//! next instruction, which the model does not fetch.

use lazytlb::{Cr3Load, Memory, PhysAddr};
use lazytlb_check::Program;
use lazytlb_model::Property;

use crate::calls::Calls;
use crate::exhibit::{Case, Exhibit};
use crate::setting::{Mapped, bit, index, mapped, root_of_no_user, without_interrupts};

pub(crate) const EXHIBIT: Exhibit = Exhibit {
    name: "z9",
    kernel: "a class",
    about: "the end of a space frees its root while a lazy CPU has it in CR3",
    source: "no commit; Linux MMU_LAZY_TLB_SHOOTDOWN (2655421ae69f, shoot_lazy_tlbs) and mmgrab_lazy_tlb prevent it",
    story: "CPU 1 runs a kernel thread, and has kept the space of the last user thread in CR3. CPU 0 runs that space's last \
            thread, which exits: nobody uses the space any more, so root and tables are freed. CPU 1 walks from the freed root.",
    fix: "either an interrupt at exit, at which lazy CPUs leave for init_mm; or a reference that whoever borrows holds",
    left_out: "the rest of exit; the kernel's half of the root",
    bug: Some(Case::unsafe_by(
        "borrowers are not counted",
        (Property::TableUseAfterFree, 4),
        || program(Exit::FreesAtOnce),
    )),
    proofs: &[
        Case::safe("lazy CPUs are interrupted at exit", || {
            program(Exit::Shootdown)
        }),
        Case::safe("borrowers hold a reference", || program(Exit::Reference)),
    ],
    also: &[],
    broken: &[
        Case::unsafe_by(
            "the mask is left before CR3 is loaded",
            (Property::TableUseAfterFree, 8),
            || program(Exit::ShootdownLeftTooEarly),
        ),
        Case::unsafe_by(
            "the reference is dropped before CR3 is loaded",
            (Property::TableUseAfterFree, 8),
            || program(Exit::ReferenceDroppedTooEarly),
        ),
    ],
};

/// What the end of a space waits for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Exit {
    FreesAtOnce,
    Shootdown,
    ShootdownLeftTooEarly,
    Reference,
    ReferenceDroppedTooEarly,
}

#[derive(Clone, Copy)]
struct Mm<A> {
    frames: Mapped,
    init: PhysAddr,
    cpumask: A,
    references: A,
    calls: Calls<A, 2>,
    exit: Exit,
}

impl<A> Mm<A> {
    /// The last thread ends.
    fn exit<H: Memory<Atomic = A>>(&self, hw: &H) {
        hw.load_cr3(self.init, Cr3Load::Flush);
        hw.fetch_and(&self.cpumask, !bit(hw.cpu()));
        match self.exit {
            Exit::FreesAtOnce => self.free(hw),
            Exit::Shootdown | Exit::ShootdownLeftTooEarly => {
                let lazy = hw.load(&self.cpumask);
                self.calls.call(hw, lazy, || ());
                self.free(hw);
            }
            Exit::Reference | Exit::ReferenceDroppedTooEarly => self.drop_reference(hw),
        }
    }

    /// A lazy CPU goes on to another space: here, init_mm stands for it.
    fn next_task<H: Memory<Atomic = A>>(&self, hw: &H) {
        without_interrupts(hw, || {
            if hw.load(&self.cpumask) & bit(hw.cpu()) != 0 {
                self.leave(hw);
            }
        });
    }

    fn leave<H: Memory<Atomic = A>>(&self, hw: &H) {
        match self.exit {
            Exit::ShootdownLeftTooEarly => {
                hw.fetch_and(&self.cpumask, !bit(hw.cpu()));
                hw.load_cr3(self.init, Cr3Load::Flush);
            }
            Exit::ReferenceDroppedTooEarly => {
                self.drop_reference(hw);
                hw.load_cr3(self.init, Cr3Load::Flush);
                hw.fetch_and(&self.cpumask, !bit(hw.cpu()));
            }
            Exit::FreesAtOnce | Exit::Shootdown | Exit::Reference => {
                hw.load_cr3(self.init, Cr3Load::Flush);
                hw.fetch_and(&self.cpumask, !bit(hw.cpu()));
                if self.exit == Exit::Reference {
                    self.drop_reference(hw);
                }
            }
        }
    }

    fn drop_reference<H: Memory<Atomic = A>>(&self, hw: &H) {
        if hw.fetch_add(&self.references, 1u64.wrapping_neg()) == 1 {
            self.free(hw);
        }
    }

    fn free<H: Memory<Atomic = A>>(&self, hw: &H) {
        hw.free_frame(self.frames.table);
        hw.free_frame(self.frames.root);
    }

    fn serve<H: Memory<Atomic = A>>(&self, hw: &H) {
        self.calls.serve(hw, || {
            if hw.load(&self.cpumask) & bit(hw.cpu()) != 0 && index(hw.cpu()) != 0 {
                self.leave(hw);
            }
        });
    }
}

/// CPU 0's thread is the space's last one, and exits; CPU 1 is lazy in the space, and goes on to something else.
fn program(exit: Exit) -> Program {
    let mut program = Program::new("z9", 2);
    let init = root_of_no_user(&mut program, "init_mm");
    let frames = mapped(&mut program, "mm");
    program.start_with_root(frames.root);
    let mm = Mm {
        frames,
        init,
        cpumask: program.atomic("cpumask", 0b11),
        references: program.atomic("references", 2),
        calls: Calls::new(&mut program),
        exit,
    };
    program.operation(0, "exit", move |hw| mm.exit(hw));
    program.operation(1, "go on to another task", move |hw| mm.next_task(hw));
    program.on_flush_interrupt(move |hw| mm.serve(hw));
    program.proves("no CPU walks from a root, or through a table, that was freed");
    program
}
