//! Xen's flush clock: a freed page is stamped, and CPUs that have flushed since are not asked when it is used anew. Safe.
//!
//! Source: xen-project/xen, `xen/arch/x86/flushtlb.c` (`pre_flush`, `post_flush`, `do_tlb_flush`) and
//! `xen/arch/x86/include/asm/flushtlb.h` (`NEED_FLUSH`, `tlbflush_filter`, `page_set_tlbflush_timestamp`), read at
//! 01acc256eb71 and 078dfe2fe008; `filtered_flush_tlb_mask`, which `alloc_heap_pages` calls, in `xen/include/xen/mm.h`.
//!
//! One clock ticks at every flush of any CPU, *before* it flushes; the CPU notes that time as its own *after* it has. A page that
//! loses its last reference is stamped with the clock. Who takes it anew interrupts those CPUs whose time is not later
//! than the stamp. So a page's stale translations may live on until it is reused, and that is when the promise is
//! kept here.
//!
//! A comment of Xen's calls the second order (note the time after the flush) ultra paranoid, as interrupts are off between the
//! two. The checker agrees: `noted before the flush` is safe. The first order is needed.
//!
//! Left out: that the clock wraps (32 bits, with a flush of all CPUs), `FLUSH_FORCE_IPI`, PCIDs and XPTI, INVLPG of single
//! pages (it does not tick), guests' tagged TLBs, and all other flushes of Xen's. The page is a leaf: tables are not shown.

use lazytlb::{Cr3Load, Entry, FlushRange, Memory, PhysAddr, VirtAddr};
use lazytlb_check::Program;
use lazytlb_model::{AtomicCell, Property};

use crate::calls::Calls;
use crate::exhibit::{Case, Exhibit};
use crate::setting::{Mapped, PAGE, bit, index, mapped, uses, without_interrupts};

pub(crate) const EXHIBIT: Exhibit = Exhibit {
    name: "xen",
    kernel: "Xen 01acc256",
    about: "pages are stamped with a flush clock, and whoever has flushed since is not asked: found safe",
    source: "xen-project/xen 01acc256eb71, xen/arch/x86/flushtlb.c, pre_flush, post_flush, do_tlb_flush; \
             include/asm/flushtlb.h, NEED_FLUSH, tlbflush_filter",
    story: "A page is unmapped and freed, and nobody is interrupted: it is stamped with a clock that ticks at every flush of \
            every CPU. When somebody takes the page, only CPUs whose last flush is not later than the stamp are \
            interrupted. Promised is that no CPU uses the old translation from then on.",
    fix: "the clock ticks before a flush, so a time that is later than the stamp is that of a flush which began \
          after the page was unmapped",
    left_out: "the clock's wrap, PCIDs and XPTI, INVLPG of single pages, guests' tagged TLBs, page tables",
    bug: None,
    proofs: &[Case::safe("as it stands", || program(Rules::AS_IT_STANDS))],
    also: &[
        Case::safe("each CPU frees a page, and uses the other's", || {
            two_initiators(Rules::AS_IT_STANDS)
        }),
        Case::safe("the time is noted before the flush", || {
            program(Rules {
                flush: Flush::NotedFirst,
                ..Rules::AS_IT_STANDS
            })
        }),
    ],
    broken: &[
        Case::unsafe_by(
            "the clock ticks after the flush",
            (Property::StaleUse, 24),
            || {
                program(Rules {
                    flush: Flush::TickLast,
                    ..Rules::AS_IT_STANDS
                })
            },
        ),
        Case::unsafe_by(
            "the stamp is taken before the entry is cleared",
            (Property::StaleUse, 24),
            || {
                program(Rules {
                    stamp: Stamp::TooEarly,
                    ..Rules::AS_IT_STANDS
                })
            },
        ),
        Case::unsafe_by(
            "nothing is locked between entry and stamp",
            (Property::StaleUse, 25),
            || {
                program(Rules {
                    stamp: Stamp::Unfenced,
                    ..Rules::AS_IT_STANDS
                })
            },
        ),
        Case::unsafe_by(
            "a time that equals the stamp will do",
            (Property::StaleUse, 24),
            || {
                program(Rules {
                    needs: Needs::Before,
                    ..Rules::AS_IT_STANDS
                })
            },
        ),
    ],
};

/// The order within a flush.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flush {
    TickFlushNote,
    NotedFirst,
    TickLast,
}

/// When a freed page gets its stamp.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stamp {
    AfterTheLastReference,
    TooEarly,
    Unfenced,
}

/// Whose flush is too old.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Needs {
    /// Whose time is the stamp or earlier.
    NotAfter,
    /// Whose time is earlier.
    Before,
}

#[derive(Clone, Copy)]
struct Rules {
    flush: Flush,
    stamp: Stamp,
    needs: Needs,
}

impl Rules {
    const AS_IT_STANDS: Rules = Rules {
        flush: Flush::TickFlushNote,
        stamp: Stamp::AfterTheLastReference,
        needs: Needs::NotAfter,
    };
}

#[derive(Clone, Copy)]
struct Xen<A, const CPUS: usize> {
    frames: Mapped,
    clock: A,
    /// For each CPU, the time of its last flush.
    time: [A; CPUS],
    calls: Calls<A, CPUS>,
    rules: Rules,
}

/// A page that one entry of the table maps.
#[derive(Clone, Copy)]
struct Page<A> {
    index: u16,
    references: A,
    stamp: A,
}

impl<A> Page<A> {
    fn address(&self) -> VirtAddr {
        VirtAddr(PAGE.0 + (u64::from(self.index) << 12))
    }
}

impl<A, const CPUS: usize> Xen<A, CPUS> {
    /// Flushes this CPU's TLB, by loading CR3 with the same root or with another one's.
    fn flush<H: Memory<Atomic = A>>(&self, hw: &H, root: PhysAddr) {
        let time = &self.time[index(hw.cpu())];
        without_interrupts(hw, || {
            if self.rules.flush == Flush::TickLast {
                hw.load_cr3(root, Cr3Load::Flush);
            }
            let now = hw.fetch_add(&self.clock, 1) + 1;
            if self.rules.flush == Flush::NotedFirst {
                hw.store(time, now);
            }
            if self.rules.flush != Flush::TickLast {
                hw.load_cr3(root, Cr3Load::Flush);
            }
            if self.rules.flush != Flush::NotedFirst {
                hw.store(time, now);
            }
        });
    }

    /// Unmaps the page and drops the last reference to it.
    fn unmap<H: Memory<Atomic = A>>(&self, hw: &H, page: &Page<A>) {
        let Mapped { root, table, .. } = self.frames;
        let early = (self.rules.stamp == Stamp::TooEarly).then(|| hw.load(&self.clock));
        hw.write_entry(table, page.index, Entry::ABSENT);
        hw.flush_begins(root, FlushRange::page(page.address()));
        match self.rules.stamp {
            Stamp::Unfenced => hw.store(&page.references, 0),
            Stamp::AfterTheLastReference | Stamp::TooEarly => {
                hw.fetch_add(&page.references, 1u64.wrapping_neg());
            }
        }
        let now = early.unwrap_or_else(|| hw.load(&self.clock));
        hw.store(&page.stamp, now);
    }

    /// Takes the page for something else: whoever may have it cached flushes.
    fn reuse<H: Memory<Atomic = A>>(&self, hw: &H, page: &Page<A>) {
        let stamp = hw.load(&page.stamp);
        let needs = |time: u64| match self.rules.needs {
            Needs::NotAfter => time <= stamp,
            Needs::Before => time < stamp,
        };
        let all = self.time.iter().enumerate();
        let asked = all
            .filter(|(_, time)| needs(hw.load(time)))
            .fold(0, |set, (cpu, _)| set | 1 << cpu);
        let me = bit(hw.cpu());
        self.calls.call(hw, asked & !me, || {
            if asked & me != 0 {
                self.flush(hw, self.frames.root);
            }
        });
        hw.flush_returned(self.frames.root);
    }
}

fn xen<const CPUS: usize>(program: &mut Program, rules: Rules) -> Xen<AtomicCell, CPUS> {
    let frames = mapped(program, "the guest");
    program.start_with_root(frames.root);
    let time = |cpu| program.atomic(format!("tlbflush_time of CPU {cpu}"), 0);
    Xen {
        frames,
        time: std::array::from_fn(time),
        clock: program.atomic("tlbflush_clock", 1),
        calls: Calls::new(program),
        rules,
    }
}

fn page(program: &mut Program, index: u16) -> Page<AtomicCell> {
    Page {
        index,
        references: program.atomic(format!("references of page {index}"), 1),
        stamp: program.atomic(format!("stamp of page {index}"), 0),
    }
}

/// Lets a CPU unmap a page, and take it for something else.
fn frees_and_takes<const CPUS: usize>(
    program: &mut Program,
    cpu: u8,
    xen: Xen<AtomicCell, CPUS>,
    page: Page<AtomicCell>,
) {
    program.operation(cpu, "unmap and free the page", move |hw| {
        xen.unmap(hw, &page);
    });
    program.operation(cpu, "take the page", move |hw| xen.reuse(hw, &page));
}

fn switches<const CPUS: usize>(program: &mut Program, cpu: u8, xen: Xen<AtomicCell, CPUS>) {
    program.operation(cpu, "switch", move |hw| xen.flush(hw, xen.frames.root));
}

fn serves<const CPUS: usize>(program: &mut Program, xen: Xen<AtomicCell, CPUS>) {
    program.on_flush_interrupt(move |hw| xen.calls.serve(hw, || xen.flush(hw, xen.frames.root)));
}

/// CPU 0 unmaps a page and takes it for something else; CPU 1 uses it, flushes because it switches, and uses it again.
fn program(rules: Rules) -> Program {
    let mut program = Program::new("xen", 2);
    let xen = xen::<2>(&mut program, rules);
    let page = page(&mut program, 0);
    frees_and_takes(&mut program, 0, xen, page);
    for _ in 0..2 {
        uses(&mut program, 1, PAGE);
        switches(&mut program, 1, xen);
    }
    uses(&mut program, 1, PAGE);
    serves(&mut program, xen);
    program
}

/// Each CPU unmaps a page and takes it for something else, and uses the other's.
fn two_initiators(rules: Rules) -> Program {
    let mut program = Program::new("xen, two initiators", 2);
    let xen = xen::<2>(&mut program, rules);
    let second = program.page();
    program.first_entry(xen.frames.table, 1, Entry::to(second));
    let pages = [0, 1].map(|index| page(&mut program, index));
    for (cpu, own, other) in [(0, pages[0], pages[1]), (1, pages[1], pages[0])] {
        frees_and_takes(&mut program, cpu, xen, own);
        uses(&mut program, cpu, other.address());
    }
    serves(&mut program, xen);
    program
}
