//! Asterinas: whoever leaves a space is out of its set before the CR3 load, and RCU makes that safe.
//!
//! Source: asterinas/asterinas at 604948581512 (2026-08): `ostd/src/mm/tlb.rs` (`TlbFlusher::dispatch_tlb_flush`, `sync_tlb_flush`,
//! `do_remote_flush`), `ostd/src/smp.rs` (`inter_processor_call`, `do_inter_processor_call`), `ostd/src/mm/vm_space.rs`
//! (`VmSpace::activate`, `CursorMut::unmap`), `ostd/src/sync/rcu/monitor.rs`, `ostd/src/util/id_set.rs` (a load with `Release` is a
//! locked instruction), `ostd/src/task/processor.rs` (`switch_to_task` reports a quiescent state).
//!
//! An initiator clears entries, reads the space's CPUs by a locked instruction, puts what is to be flushed into each one's queue,
//! then a call, marks it pending, and interrupts it. The mark is cleared when the queue has been worked off. Frames, tables
//! included, are held by each queue that names them, and what drops them waits for a grace period: every CPU has
//! switched tasks since. `activate` runs with preemption off, so a CPU that is out of the set with the old CR3 holds the
//! grace period up. Without RCU this would be the bug that Redox has: the first of `broken` shows it.
//!
//! Left out: the page-table locks and cursors (CPUs change different entries), the ranges (a flush is of everything, or of one
//! page), RCU readers in software, more than one table, preemption: a task switch is an operation.

use lazytlb::{CompareExchange, CpuSet, Cr3Load, Entry, FlushRange, Memory, PhysAddr, Poll, Until};
use lazytlb_check::Program;
use lazytlb_model::{AtomicCell, Property};

use crate::exhibit::{Case, Exhibit};
use crate::setting::{Mapped, PAGE, bit, index, mapped, root_of_no_user, uses, without_interrupts};

pub(crate) const EXHIBIT: Exhibit = Exhibit {
    name: "asterinas",
    kernel: "Asterinas 60494858",
    about: "who leaves a space is out of its set before the CR3 load, and tables wait for a grace period: found safe",
    source: "asterinas/asterinas 604948581512, ostd/src/mm/tlb.rs TlbFlusher, ostd/src/smp.rs inter_processor_call, \
             ostd/src/mm/vm_space.rs VmSpace::activate, ostd/src/sync/rcu/monitor.rs",
    story: "A flush goes to the CPUs of the space's set, each of which works off its queue. A CPU that switches leaves the set \
            before it loads CR3, and until then nobody tells it of tables that go. But tables are freed only when every CPU has \
            switched tasks since they were unhooked, and the one that is on its way has preemption off.",
    fix: "none needed: the grace period covers who is between set and CR3, the locked load of the set covers who is coming",
    left_out: "page-table locks, ranges, software's RCU readers, preemption other than by a task switch",
    bug: None,
    proofs: &[Case::safe("as it stands", || program(Rules::AS_IT_STANDS))],
    also: &[Case::safe("dispatched, and never waited for", || {
        program(Rules {
            sync: Sync::NotAskedFor,
            ..Rules::AS_IT_STANDS
        })
    })],
    broken: &[
        Case::unsafe_by("no grace period", (Property::TableUseAfterFree, 24), || {
            program(Rules {
                drop: Drops::AtOnce,
                ..Rules::AS_IT_STANDS
            })
        }),
        Case::unsafe_by(
            "never waited for, and queues hold no tables",
            (Property::TableUseAfterFree, 65),
            || {
                program(Rules {
                    drop: Drops::ByTheInitiatorAlone,
                    sync: Sync::NotAskedFor,
                    ..Rules::AS_IT_STANDS
                })
            },
        ),
        Case::unsafe_by(
            "the set is read by a plain load",
            (Property::StaleUse, 51),
            || {
                program(Rules {
                    set: Set::PlainLoad,
                    ..Rules::AS_IT_STANDS
                })
            },
        ),
        Case::unsafe_by(
            "the interrupts are not waited for",
            (Property::StaleUse, 41),
            || {
                program(Rules {
                    sync: Sync::Forgotten,
                    ..Rules::AS_IT_STANDS
                })
            },
        ),
    ],
};

/// What dropping a table's reference waits for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Drops {
    AfterAGracePeriod,
    AtOnce,
    /// After a grace period, but the targets' queues hold none.
    ByTheInitiatorAlone,
}

/// How an initiator reads a space's CPUs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Set {
    LockedLoad,
    PlainLoad,
}

/// Whether an initiator waits for its interrupts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sync {
    Waits,
    /// It relies on the flush, and does not wait.
    Forgotten,
    /// It does not wait, and relies on nothing: `dispatch_tlb_flush` alone.
    NotAskedFor,
}

#[derive(Clone, Copy)]
struct Rules {
    drop: Drops,
    set: Set,
    sync: Sync,
}

impl Rules {
    const AS_IT_STANDS: Rules = Rules {
        drop: Drops::AfterAGracePeriod,
        set: Set::LockedLoad,
        sync: Sync::Waits,
    };
}

/// Every CPU, a bit each.
const ALL: u64 = 0b11;

#[derive(Clone, Copy)]
struct Kernel<A> {
    frames: Mapped,
    kernel_root: PhysAddr,
    /// The space's CPUs.
    cpus: A,
    /// For each CPU: the lock of its queues.
    lock: [A; 2],
    /// For each CPU: whether something is to be flushed, whether that holds the table, how many calls wait.
    ops: [A; 2],
    calls: [A; 2],
    has_pending_ipis: [A; 2],
    /// References to the table.
    references: A,
    rcu_lock: A,
    /// CPUs that the grace period under way still waits for; what it and the next one will drop.
    waits_for: A,
    current: A,
    next: A,
    /// For each CPU, whether the space's root is in CR3: 1, or 0 for the kernel's.
    loaded: [A; 2],
    rules: Rules,
}

impl<A> Kernel<A> {
    fn locked<H, R>(&self, hw: &H, lock: &A, code: impl FnOnce() -> R) -> R
    where
        H: CompareExchange<Atomic = A> + Poll,
    {
        without_interrupts(hw, || {
            hw.poll(|hw| hw.compare_exchange(lock, 0, 1).ok());
            let done = code();
            hw.store(lock, 0);
            done
        })
    }

    /// Unhooks the table, flushes, and gives its reference to RCU.
    fn unmap<H>(&self, hw: &H)
    where
        H: CompareExchange<Atomic = A> + Poll + Memory,
    {
        let Mapped { root, .. } = self.frames;
        let other = 1 - index(hw.cpu());
        let is_relied_on = self.rules.sync != Sync::NotAskedFor;
        hw.write_entry(root, 0, Entry::ABSENT);
        if is_relied_on {
            hw.flush_begins(root, FlushRange::All);
        }
        let targets = without_interrupts(hw, || {
            let cpus = match self.rules.set {
                Set::LockedLoad => hw.fetch_or(&self.cpus, 0),
                Set::PlainLoad => hw.load(&self.cpus),
            };
            let targets = cpus & !bit(hw.cpu());
            if targets != 0 {
                self.call(hw, other);
            }
            if cpus & bit(hw.cpu()) != 0 {
                self.flush_all(hw);
            }
            self.drop_table(hw);
            targets
        });
        if targets != 0 && self.rules.sync == Sync::Waits {
            hw.pause_until(&self.has_pending_ipis[other], Until::Zero);
        }
        if is_relied_on {
            hw.flush_returned(root);
        }
    }

    /// Queues a flush and a call for another CPU, and interrupts it.
    fn call<H>(&self, hw: &H, other: usize)
    where
        H: CompareExchange<Atomic = A> + Poll,
    {
        if self.rules.drop != Drops::ByTheInitiatorAlone {
            hw.fetch_add(&self.references, 1);
        }
        self.locked(hw, &self.lock[other], || {
            hw.store(&self.ops[other], 1);
        });
        self.locked(hw, &self.lock[other], || {
            hw.store(&self.calls[other], 1);
            hw.store(&self.has_pending_ipis[other], 1);
        });
        hw.send_ipi(&CpuSet::<1>::from_words([1 << other]));
    }

    /// The interrupt's handler: works off the calls, of which each is a flush of what is queued.
    fn serve<H>(&self, hw: &H)
    where
        H: CompareExchange<Atomic = A> + Poll + Memory,
    {
        let me = index(hw.cpu());
        let flushed = self.locked(hw, &self.lock[me], || {
            let mut flushed = false;
            if hw.load(&self.calls[me]) != 0 {
                hw.store(&self.calls[me], 0);
                flushed = hw.swap(&self.ops[me], 0) != 0;
                if flushed {
                    self.flush_all(hw);
                }
            }
            hw.store(&self.has_pending_ipis[me], 0);
            flushed
        });
        if flushed && self.rules.drop != Drops::ByTheInitiatorAlone {
            self.drop_table(hw);
        }
    }

    /// Drops a reference to the table, when a grace period is over.
    fn drop_table<H>(&self, hw: &H)
    where
        H: CompareExchange<Atomic = A> + Poll + Memory,
    {
        if self.rules.drop == Drops::AtOnce {
            return self.drop_references(hw, 1);
        }
        self.locked(hw, &self.rcu_lock, || {
            let (list, starts) = match hw.load(&self.waits_for) {
                0 => (&self.current, true),
                _ => (&self.next, false),
            };
            let waiting = hw.load(list);
            hw.store(list, waiting + 1);
            if starts {
                hw.store(&self.waits_for, ALL);
            }
        });
    }

    fn drop_references<H: Memory<Atomic = A>>(&self, hw: &H, count: u64) {
        if count != 0 && hw.fetch_add(&self.references, count.wrapping_neg()) == count {
            hw.free_frame(self.frames.table);
        }
    }

    /// Reports that this CPU switches tasks; whoever is the last one drops what the grace period was for.
    fn switches_tasks<H>(&self, hw: &H)
    where
        H: CompareExchange<Atomic = A> + Poll + Memory,
    {
        let over = self.locked(hw, &self.rcu_lock, || {
            let before = hw.load(&self.waits_for);
            let left = before & !bit(hw.cpu());
            if before == 0 || left != 0 {
                hw.store(&self.waits_for, left);
                return 0;
            }
            let over = hw.load(&self.current);
            let next = hw.load(&self.next);
            hw.store(&self.current, next);
            hw.store(&self.next, 0);
            hw.store(&self.waits_for, if next == 0 { 0 } else { ALL });
            over
        });
        self.drop_references(hw, over);
    }

    /// Switches to a task of another space: out of the set, then CR3.
    fn switch_away<H>(&self, hw: &H)
    where
        H: CompareExchange<Atomic = A> + Poll + Memory,
    {
        self.switches_tasks(hw);
        hw.fetch_and(&self.cpus, !bit(hw.cpu()));
        self.load(hw, 0);
    }

    /// Switches to a task of the space: into the set, then CR3.
    fn switch_back<H>(&self, hw: &H)
    where
        H: CompareExchange<Atomic = A> + Poll + Memory,
    {
        self.switches_tasks(hw);
        hw.fetch_or(&self.cpus, bit(hw.cpu()));
        self.load(hw, 1);
    }

    /// Loads CR3: one instruction, so no interrupt comes between it and the note of it.
    fn load<H: Memory<Atomic = A>>(&self, hw: &H, is_space: u64) {
        let root = match is_space {
            0 => self.kernel_root,
            _ => self.frames.root,
        };
        without_interrupts(hw, || {
            hw.load_cr3(root, Cr3Load::Flush);
            hw.store(&self.loaded[index(hw.cpu())], is_space);
        });
    }

    /// Loads CR3 with what it holds.
    fn flush_all<H: Memory<Atomic = A>>(&self, hw: &H) {
        let is_space = hw.load(&self.loaded[index(hw.cpu())]);
        self.load(hw, is_space);
    }
}

/// CPU 1 switches to another space and back, and uses a page; CPU 0 unhooks the page's table, and switches tasks.
fn program(rules: Rules) -> Program {
    let mut program = Program::new("asterinas", 2);
    let kernel_root = root_of_no_user(&mut program, "the kernel");
    let frames = mapped(&mut program, "the space");
    program.start_with_root(frames.root);
    let mut each = |name: &str| -> [AtomicCell; 2] {
        [0, 1].map(|cpu| program.atomic(format!("{name} of CPU {cpu}"), 0))
    };
    let (lock, ops, calls) = (each("lock"), each("ops"), each("calls"));
    let has_pending_ipis = each("has_pending_ipis");
    let kernel = Kernel {
        frames,
        kernel_root,
        cpus: program.atomic("cpus", ALL),
        lock,
        ops,
        calls,
        has_pending_ipis,
        references: program.atomic("the table's references", 1),
        rcu_lock: program.atomic("rcu lock", 0),
        waits_for: program.atomic("the grace period waits for", 0),
        current: program.atomic("dropped after it", 0),
        next: program.atomic("dropped after the next", 0),
        loaded: [0, 1].map(|cpu| program.atomic(format!("loaded of CPU {cpu}"), 1)),
        rules,
    };
    program.operation(0, "unmap", move |hw| kernel.unmap(hw));
    for _ in 0..2 {
        program.operation(0, "switch tasks", move |hw| kernel.switches_tasks(hw));
    }
    uses(&mut program, 1, PAGE);
    program.operation(1, "switch away", move |hw| kernel.switch_away(hw));
    program.operation(1, "switch back", move |hw| kernel.switch_back(hw));
    uses(&mut program, 1, PAGE);
    program.on_flush_interrupt(move |hw| kernel.serve(hw));
    if rules.sync == Sync::NotAskedFor {
        program.proves("no CPU walks through a table that was freed");
    }
    program
}
