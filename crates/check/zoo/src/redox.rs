//! Redox: four ways in which its shootdown fails, each on the smallest program that shows it alone.
//!
//! Source: redox-os/kernel at 663e66410bac (2026-08): `rmm/src/page/mapper.rs`, `unmap_phys_inner`; `src/context/memory.rs`,
//! `Flusher::flush`; `src/percpu.rs`, `shootdown_tlb_ipi`, `PercpuBlock::maybe_handle_tlb_shootdown` and `switch_arch_hook`.
//!
//! An initiator sets each target's `wants_tlb_shootdown`, interrupts it, and counts it if it is still in the space's `used_by`
//! then. A target takes its flag, flushes everything, and adds one to `tlb_ack` of the space that it is in *now*. The initiator
//! waits, with interrupts off, until `tlb_ack` has come to its count, and serves its own flag meanwhile. A CPU that switches
//! leaves `used_by`, serves its flag, says which space it is in now, enters that one's `used_by`, and loads CR3.
//!
//! | file | exhibit, and what fails |
//! | --- | --- |
//! | `tables` | `redox-tables`: a table whose last entry goes is freed, then its entry is cleared, then the flush comes |
//! | `count` | `redox-count`: who left before it was counted acknowledges all the same, and stands for one who has not |
//! | `space` | `redox-space`: who has switched acknowledges a request of the old space's to the new one |
//! | `used_by` | `redox-used-by`: who leaves is out of `used_by` while CR3 still holds the root: nobody tells it, and tables are freed |
//!
//! The fix is ours, and one for all four: unhook, flush, free; load CR3, then leave; and no counts: a target clears its flag
//! *after* it has flushed, and an initiator waits for the flags that it has set.
//!
//! A space has a lock: who flushes holds it, and who switches to the space does until CR3 is loaded. Who waits for it serves its
//! own flag meanwhile. So nobody comes to a space that is being flushed; but people leave.
//!
//! The checker: `table-use-after-free`, `stale-use`, `stale-use`, `table-use-after-free`, in the order of the table. With the fix all four
//! programs are safe.
//!
//! Left out: that the lock has readers and writers, that the scheduler passes over a task whose space is locked (here it waits),
//! page queues, and pages' reference counts. A space is two levels deep.

pub(crate) mod count;
pub(crate) mod space;
pub(crate) mod tables;
pub(crate) mod used_by;

use lazytlb::{CpuId, CpuSet, Cr3Load, Entry, FlushRange, Memory, PhysAddr, Poll};
use lazytlb_check::{ModelHw, Program};
use lazytlb_model::AtomicCell;

use crate::setting::{Mapped, PAGE, bit, index, mapped, root_of_no_user, without_interrupts};

const SOURCE: &str = "redox-os/kernel 663e66410bac, rmm/src/page/mapper.rs unmap_phys_inner, src/context/memory.rs \
                      Flusher::flush, src/percpu.rs maybe_handle_tlb_shootdown, switch_arch_hook";
const LEFT_OUT: &str = "readers of a space's lock (it has one holder), that the scheduler passes over a task whose space is \
                        locked, page queues, reference counts; two levels of tables in place of four";

/// When an emptied table is freed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Table {
    BeforeItIsUnhooked,
    BeforeTheFlush,
    AfterTheFlush,
}

/// What an answer is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Answer {
    /// One more in the count of the space that the target is in.
    Counted,
    /// The target's flag, cleared after it has flushed.
    Flag,
    /// The same, cleared before.
    FlagTooEarly,
    NotWaitedFor,
    /// As `Flag`, but a flag that is set already is taken for one's own.
    FlagOfAnother,
    /// As `Counted`, and everybody is counted who was asked.
    AllCounted,
}

/// When a CPU leaves a space's set.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Leave {
    BeforeTheLoad,
    AfterTheLoad,
}

/// Whether an initiator flushes its own TLB.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Own {
    Flushed,
    NotFlushed,
}

#[derive(Clone, Copy)]
struct Rules {
    table: Table,
    answer: Answer,
    leave: Leave,
    own: Own,
}

impl Rules {
    const AS_IT_STANDS: Rules = Rules {
        table: Table::BeforeItIsUnhooked,
        answer: Answer::Counted,
        leave: Leave::BeforeTheLoad,
        own: Own::Flushed,
    };
    const FIXED: Rules = Rules {
        table: Table::AfterTheFlush,
        answer: Answer::Flag,
        leave: Leave::AfterTheLoad,
        own: Own::Flushed,
    };
}

/// An address space.
#[derive(Clone, Copy)]
struct Space<A> {
    frames: Mapped,
    used_by: A,
    ack: A,
    lock: A,
}

/// The kernel: some CPUs, some spaces. Spaces are numbered from 1 on; 0 is none.
#[derive(Clone, Copy)]
struct Kernel<A, const CPUS: usize, const SPACES: usize> {
    empty: PhysAddr,
    spaces: [Space<A>; SPACES],
    wants: [A; CPUS],
    current: [A; CPUS],
    /// The space whose root is in CR3.
    loaded: [A; CPUS],
    rules: Rules,
}

impl<A, const CPUS: usize, const SPACES: usize> Kernel<A, CPUS, SPACES> {
    fn space(&self, number: u64) -> Option<&Space<A>> {
        self.spaces.get((number as usize).checked_sub(1)?)
    }

    /// Flushes all by loading CR3 with what it holds.
    fn invalidate_all<H: Memory<Atomic = A>>(&self, hw: &H) {
        let loaded = hw.load(&self.loaded[index(hw.cpu())]);
        self.load_cr3(hw, loaded);
    }

    fn load_cr3<H: Memory<Atomic = A>>(&self, hw: &H, space: u64) {
        let root = self
            .space(space)
            .map_or(self.empty, |space| space.frames.root);
        hw.load_cr3(root, Cr3Load::Flush);
    }

    /// Serves this CPU's flag.
    fn maybe_handle<H: Memory<Atomic = A>>(&self, hw: &H) {
        let me = index(hw.cpu());
        match self.rules.answer {
            Answer::Counted | Answer::AllCounted => {
                if hw.swap(&self.wants[me], 0) == 0 {
                    return;
                }
                self.invalidate_all(hw);
                if let Some(space) = self.space(hw.load(&self.current[me])) {
                    hw.fetch_add(&space.ack, 1);
                }
            }
            Answer::Flag | Answer::FlagOfAnother | Answer::NotWaitedFor => {
                if hw.load(&self.wants[me]) != 0 {
                    self.invalidate_all(hw);
                    hw.store(&self.wants[me], 0);
                }
            }
            Answer::FlagTooEarly => {
                if hw.swap(&self.wants[me], 0) != 0 {
                    self.invalidate_all(hw);
                }
            }
        }
    }

    /// Asks everybody in the space to flush, and waits for the answers. Interrupts are off.
    fn flush<H: Memory<Atomic = A> + Poll>(&self, hw: &H, space: &Space<A>) {
        hw.swap(&space.ack, 0);
        let (mut counted, mut asked) = (0, 0);
        for cpu in (0..CPUS).map(|cpu| CpuId(cpu as u16)) {
            if cpu == hw.cpu() || hw.load(&space.used_by) & bit(cpu) == 0 {
                continue;
            }
            hw.poll(|hw| {
                let was_set = hw.swap(&self.wants[index(cpu)], 1) != 0;
                if was_set && self.rules.answer != Answer::FlagOfAnother {
                    self.maybe_handle(hw);
                    return None;
                }
                Some(())
            });
            hw.send_ipi(&CpuSet::<1>::from_words([bit(cpu)]));
            hw.fence();
            asked |= bit(cpu);
            let counts_all = self.rules.answer == Answer::AllCounted;
            if counts_all || hw.load(&space.used_by) & bit(cpu) != 0 {
                counted += 1;
            }
        }
        if self.rules.own == Own::Flushed {
            self.invalidate_all(hw);
        }
        match self.rules.answer {
            Answer::Counted | Answer::AllCounted => hw.poll(|hw| {
                self.maybe_handle(hw);
                (hw.load(&space.ack) >= counted).then_some(())
            }),
            Answer::Flag | Answer::FlagTooEarly | Answer::FlagOfAnother => {
                for cpu in (0..CPUS).filter(|cpu| asked & 1 << cpu != 0) {
                    hw.poll(|hw| {
                        self.maybe_handle(hw);
                        (hw.load(&self.wants[cpu]) == 0).then_some(())
                    });
                }
            }
            Answer::NotWaitedFor => {}
        }
    }

    /// Takes a space's lock, with interrupts off.
    fn lock<H: Memory<Atomic = A> + Poll>(&self, hw: &H, space: &Space<A>) {
        hw.poll(|hw| {
            let is_taken = hw.swap(&space.lock, 1) != 0;
            if is_taken {
                self.maybe_handle(hw);
            }
            (!is_taken).then_some(())
        });
    }

    /// Unmaps a space's page, as a system call would.
    fn unmap_page<H: Memory<Atomic = A> + Poll>(&self, hw: &H, number: u64) {
        let Some(space) = self.space(number) else {
            return;
        };
        without_interrupts(hw, || {
            self.lock(hw, space);
            hw.write_entry(space.frames.table, 0, Entry::ABSENT);
            hw.flush_begins(space.frames.root, FlushRange::page(PAGE));
            self.flush(hw, space);
            hw.flush_returned(space.frames.root);
            hw.store(&space.lock, 0);
        });
    }

    /// Unmaps a space's page, the last one of its table, and frees the table.
    fn unmap_table<H: Memory<Atomic = A> + Poll>(&self, hw: &H, number: u64) {
        let Some(space) = self.space(number) else {
            return;
        };
        let Mapped { root, table, .. } = space.frames;
        without_interrupts(hw, || {
            self.lock(hw, space);
            hw.write_entry(table, 0, Entry::ABSENT);
            if self.rules.table == Table::BeforeItIsUnhooked {
                hw.free_frame(table);
            }
            hw.write_entry(root, 0, Entry::ABSENT);
            if self.rules.table == Table::BeforeTheFlush {
                hw.free_frame(table);
            }
            hw.flush_begins(root, FlushRange::All);
            self.flush(hw, space);
            hw.flush_returned(root);
            if self.rules.table == Table::AfterTheFlush {
                hw.free_frame(table);
            }
            hw.store(&space.lock, 0);
        });
    }

    /// Switches to another space, or to none.
    fn switch<H: Memory<Atomic = A> + Poll>(&self, hw: &H, to: u64) {
        let me = index(hw.cpu());
        without_interrupts(hw, || {
            let from = hw.load(&self.current[me]);
            if let Some(space) = self.space(to) {
                self.lock(hw, space);
            }
            if self.rules.leave == Leave::BeforeTheLoad {
                self.leave(hw, from);
            }
            hw.store(&self.current[me], to);
            if let Some(space) = self.space(to) {
                hw.fetch_or(&space.used_by, bit(hw.cpu()));
            }
            self.load_cr3(hw, to);
            hw.store(&self.loaded[me], to);
            if let Some(space) = self.space(to) {
                hw.store(&space.lock, 0);
            }
            if self.rules.leave == Leave::AfterTheLoad {
                self.leave(hw, from);
            }
        });
    }

    fn leave<H: Memory<Atomic = A>>(&self, hw: &H, from: u64) {
        if let Some(space) = self.space(from) {
            hw.fetch_and(&space.used_by, !bit(hw.cpu()));
            hw.fence();
            self.maybe_handle(hw);
        }
    }
}

/// Makes a kernel whose CPUs run in these spaces at first; what each loads in an operation of its own, if that is not the first space.
fn kernel<const CPUS: usize, const SPACES: usize>(
    program: &mut Program,
    runs_in: [u64; CPUS],
    rules: Rules,
) -> Kernel<AtomicCell, CPUS, SPACES> {
    let empty = root_of_no_user(program, "no space");
    let spaces: [Space<AtomicCell>; SPACES] = std::array::from_fn(|number| {
        let name = ["X", "Y"][number];
        let frames = mapped(program, name);
        let users = runs_in.iter().enumerate();
        let users = users.filter(|(_, space)| **space == number as u64 + 1);
        let used_by = users.fold(0, |set, (cpu, _)| set | 1 << cpu);
        Space {
            frames,
            used_by: program.atomic(format!("used_by of {name}"), used_by),
            ack: program.atomic(format!("ack of {name}"), 0),
            lock: program.atomic(format!("lock of {name}"), 0),
        }
    });
    program.start_with_root(spaces[0].frames.root);
    let mut each = |name: &str, values: [u64; CPUS]| -> [AtomicCell; CPUS] {
        std::array::from_fn(|cpu| program.atomic(format!("{name} of CPU {cpu}"), values[cpu]))
    };
    Kernel {
        empty,
        spaces,
        wants: each("wants", [0; CPUS]),
        current: each("current", runs_in),
        loaded: each("loaded", runs_in),
        rules,
    }
}

fn serves<const CPUS: usize, const SPACES: usize>(
    program: &mut Program,
    kernel: Kernel<AtomicCell, CPUS, SPACES>,
) {
    program.on_flush_interrupt(move |hw: &ModelHw| kernel.maybe_handle(hw));
}
