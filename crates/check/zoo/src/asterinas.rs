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
//! The checker: safe as it stands, with a table that goes, with two initiators beside a third CPU, and where nobody waits.
//!
//! Left out: the page-table locks and cursors (CPUs change different entries), the ranges (a flush is of everything, or of one
//! page), RCU readers in software, more than one table, preemption: a task switch is an operation.

use lazytlb::{
    CompareExchange, CpuSet, Cr3Load, Entry, FlushRange, Memory, PhysAddr, Poll, Until, VirtAddr,
};
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
    fix: "the grace period covers who is between set and CR3, the locked load of the set covers who is coming",
    left_out: "page-table locks, ranges, software's RCU readers, preemption other than by a task switch",
    bug: None,
    proofs: &[Case::safe("as it stands", || program(Rules::AS_IT_STANDS))],
    also: &[
        Case::safe("three CPUs, two of which unmap", || {
            two_initiators(Rules::AS_IT_STANDS)
        }),
        Case::safe("dispatched, and never waited for", || {
            program(Rules {
                sync: Sync::NotAskedFor,
                ..Rules::AS_IT_STANDS
            })
        }),
    ],
    broken: &[
        Case::unsafe_by("no grace period", (Property::TableUseAfterFree, 24), || {
            program(Rules {
                drop: Drops::AtOnce,
                ..Rules::AS_IT_STANDS
            })
        }),
        Case::unsafe_by(
            "never waited for, and queues hold no tables",
            (Property::TableUseAfterFree, 59),
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
            (Property::StaleUse, 35),
            || {
                program(Rules {
                    sync: Sync::Forgotten,
                    ..Rules::AS_IT_STANDS
                })
            },
        ),
        Case::unsafe_by(
            "two unmap, and the mark is cleared when the queue is unlocked",
            (Property::StaleUse, 86),
            || {
                two_initiators(Rules {
                    mark: Mark::ClearedUnlocked,
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

/// When a target clears its mark.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mark {
    /// With its queue locked.
    ClearedLocked,
    /// When it has unlocked it: somebody may have queued and marked in between.
    ClearedUnlocked,
}

#[derive(Clone, Copy)]
struct Rules {
    drop: Drops,
    set: Set,
    sync: Sync,
    mark: Mark,
}

impl Rules {
    const AS_IT_STANDS: Rules = Rules {
        drop: Drops::AfterAGracePeriod,
        set: Set::LockedLoad,
        sync: Sync::Waits,
        mark: Mark::ClearedLocked,
    };
}

/// What is unmapped; a queue has a bit of each.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Gone {
    /// The first page of the table, or the second.
    Page(u16),
    /// The table.
    Table,
}

impl Gone {
    const ALL: [Gone; 3] = [Gone::Page(0), Gone::Page(1), Gone::Table];

    const fn bit(self) -> u64 {
        match self {
            Gone::Page(page) => 1 << page,
            Gone::Table => 1 << 2,
        }
    }
}

/// The address of a page of the table.
const fn address(page: u16) -> VirtAddr {
    VirtAddr(PAGE.0 + ((page as u64) << 12))
}

#[derive(Clone, Copy)]
struct Kernel<A, const CPUS: usize> {
    frames: Mapped,
    kernel_root: PhysAddr,
    /// The space's CPUs.
    cpus: A,
    /// For each CPU: what is to be flushed, a bit each. Its lock is left out: the bits are set, and taken, in one step.
    ops: [A; CPUS],
    /// For each CPU: the lock of its queue of calls, how many there are, and the mark.
    lock: [A; CPUS],
    calls: [A; CPUS],
    has_pending_ipis: [A; CPUS],
    /// References to the table.
    references: A,
    rcu_lock: A,
    /// CPUs that the grace period under way still waits for; what it and the next one will drop.
    waits_for: A,
    current: A,
    next: A,
    /// For each CPU, whether the space's root is in CR3: 1, or 0 for the kernel's.
    loaded: [A; CPUS],
    rules: Rules,
}

impl<A, const CPUS: usize> Kernel<A, CPUS> {
    /// Every CPU, a bit each.
    const EVERY_CPU: u64 = (1 << CPUS) - 1;

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

    /// Clears an entry, flushes, and gives a table's reference to RCU.
    fn unmap<H>(&self, hw: &H, gone: Gone)
    where
        H: CompareExchange<Atomic = A> + Poll + Memory,
    {
        let Mapped { root, table, .. } = self.frames;
        let is_relied_on = self.rules.sync != Sync::NotAskedFor;
        let range = match gone {
            Gone::Page(page) => {
                hw.write_entry(table, page, Entry::ABSENT);
                FlushRange::page(address(page))
            }
            Gone::Table => {
                hw.write_entry(root, 0, Entry::ABSENT);
                FlushRange::All
            }
        };
        if is_relied_on {
            hw.flush_begins(root, range);
        }
        let targets = without_interrupts(hw, || self.dispatch(hw, gone));
        if self.rules.sync == Sync::Waits {
            for cpu in (0..CPUS).filter(|cpu| targets & 1 << cpu != 0) {
                hw.pause_until(&self.has_pending_ipis[cpu], Until::Zero);
            }
        }
        if is_relied_on {
            hw.flush_returned(root);
        }
    }

    /// Queues a flush for the space's other CPUs, interrupts them, and flushes here. Returns whom it has interrupted.
    fn dispatch<H>(&self, hw: &H, gone: Gone) -> u64
    where
        H: CompareExchange<Atomic = A> + Poll + Memory,
    {
        let me = bit(hw.cpu());
        let cpus = match self.rules.set {
            Set::LockedLoad => hw.fetch_or(&self.cpus, 0),
            Set::PlainLoad => hw.load(&self.cpus),
        };
        let targets = cpus & !me;
        let each = || (0..CPUS).filter(|cpu| targets & 1 << cpu != 0);
        for cpu in each() {
            if gone == Gone::Table && self.rules.drop != Drops::ByTheInitiatorAlone {
                hw.fetch_add(&self.references, 1);
            }
            hw.fetch_or(&self.ops[cpu], gone.bit());
        }
        for cpu in each() {
            self.locked(hw, &self.lock[cpu], || {
                hw.store(&self.calls[cpu], 1);
                hw.store(&self.has_pending_ipis[cpu], 1);
            });
        }
        if targets != 0 {
            hw.send_ipi(&CpuSet::<1>::from_words([targets]));
        }
        if cpus & me != 0 {
            self.flush(hw, gone.bit());
        }
        if gone == Gone::Table {
            self.drop_table(hw);
        }
        targets
    }

    /// Flushes what these bits say.
    fn flush<H: Memory<Atomic = A>>(&self, hw: &H, ops: u64) {
        for gone in Gone::ALL {
            match gone {
                _ if ops & gone.bit() == 0 => {}
                Gone::Page(page) => hw.invlpg(address(page)),
                Gone::Table => self.flush_all(hw),
            }
        }
    }

    /// The interrupt's handler: works off the calls, of which each is a flush of what is queued.
    fn serve<H>(&self, hw: &H)
    where
        H: CompareExchange<Atomic = A> + Poll + Memory,
    {
        let me = index(hw.cpu());
        let flushed = self.locked(hw, &self.lock[me], || {
            let mut flushed = 0;
            if hw.load(&self.calls[me]) != 0 {
                hw.store(&self.calls[me], 0);
                flushed = hw.swap(&self.ops[me], 0);
                self.flush(hw, flushed);
            }
            if self.rules.mark == Mark::ClearedLocked {
                hw.store(&self.has_pending_ipis[me], 0);
            }
            flushed
        });
        if self.rules.mark == Mark::ClearedUnlocked {
            hw.store(&self.has_pending_ipis[me], 0);
        }
        let holds_the_table = flushed & Gone::Table.bit() != 0;
        if holds_the_table && self.rules.drop != Drops::ByTheInitiatorAlone {
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
                hw.store(&self.waits_for, Self::EVERY_CPU);
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
            hw.store(&self.waits_for, if next == 0 { 0 } else { Self::EVERY_CPU });
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

/// Makes the kernel, with every CPU in one space.
fn kernel<const CPUS: usize>(program: &mut Program, rules: Rules) -> Kernel<AtomicCell, CPUS> {
    let kernel_root = root_of_no_user(program, "the kernel");
    let frames = mapped(program, "the space");
    program.start_with_root(frames.root);
    let mut each = |name: &str, value: u64| -> [AtomicCell; CPUS] {
        std::array::from_fn(|cpu| program.atomic(format!("{name} of CPU {cpu}"), value))
    };
    let (ops, lock, calls) = (each("ops", 0), each("lock", 0), each("calls", 0));
    let (has_pending_ipis, loaded) = (each("has_pending_ipis", 0), each("loaded", 1));
    Kernel {
        frames,
        kernel_root,
        cpus: program.atomic("cpus", Kernel::<AtomicCell, CPUS>::EVERY_CPU),
        ops,
        lock,
        calls,
        has_pending_ipis,
        references: program.atomic("the table's references", 1),
        rcu_lock: program.atomic("rcu lock", 0),
        waits_for: program.atomic("the grace period waits for", 0),
        current: program.atomic("dropped after it", 0),
        next: program.atomic("dropped after the next", 0),
        loaded,
        rules,
    }
}

/// CPU 1 switches to another space and back, and uses a page; CPU 0 unhooks the page's table, and switches tasks.
fn program(rules: Rules) -> Program {
    let mut program = Program::new("asterinas", 2);
    let kernel = kernel::<2>(&mut program, rules);
    program.operation(0, "unmap", move |hw| kernel.unmap(hw, Gone::Table));
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

/// CPUs 0 and 1 unmap a page each; CPU 2 uses both.
fn two_initiators(rules: Rules) -> Program {
    let mut program = Program::new("asterinas, two initiators", 3);
    let kernel = kernel::<3>(&mut program, rules);
    let second = program.page();
    program.first_entry(kernel.frames.table, 1, Entry::to(second));
    for (cpu, page) in [(0, 0), (1, 1)] {
        program.operation(cpu, "unmap a page", move |hw| {
            kernel.unmap(hw, Gone::Page(page))
        });
    }
    for page in [0, 1] {
        uses(&mut program, 2, address(page));
    }
    program.on_flush_interrupt(move |hw| kernel.serve(hw));
    program
}
