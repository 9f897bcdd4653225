//! `lazytlb` as a [`Protocol`]: its entry points, on the storage of a checked kernel.
//!
//! The file, and `reports.rs`, `sinks.rs` and `storage.rs` beside it, are compiled more than once: here for the real crate, and in the suite of seeded
//! bugs over a module tree that looks like it. So each names the crate in one line,
//! which the suite's build script replaces; the seam's types, which all of them share, they take from
//! `lazytlb` itself, and the checker's by the name that other crates know it by.

use std::fmt;

use lazytlb as protocol;

use lazytlb::{
    CpuId, Entry, FlushRange, Hw, Memory, PageRange, PhysAddr, Policy, Poll, Promise, Promises,
    Quirks, Spaces, Tables,
};
use lazytlb_check::{
    Ended, Frees, KernelRemoval, Ledger, ModelHw, PageChange, Part, Program, PromiseOfChange,
    Protocol, Removal, Space, SparingLazy, notes,
};
use lazytlb_model::Cr4;
use protocol::changes::SizeChange;
use protocol::gather::{self, Batch, Unflushed};
use protocol::global_id::GlobalIdWord;
use protocol::kernel::{Kernel, SoftwareWalks};
use protocol::mm::{Mm, MmHandle, MmId};
use protocol::per_cpu::PerCpu;
use protocol::pinned::Pinned;
use protocol::tlb::Tlb;

use super::reports::{note_broadcast, note_interrupt, note_lazy, note_switch};
use super::sinks::{DeviceSink, HELD_TABLES, HeldCells, NO_FRAME, Sink, Window};
use super::storage::Storage;

/// The real one: `lazytlb`, as kernels embed it, on CPUs whose PCIDs are off.
pub type LazyTlb = Embedded<1, false>;
/// The real one, with so many slots for PCIDs.
pub type WithPcids<const SLOTS: usize> = Embedded<SLOTS, true>;
/// The real one, with sets of CPUs that have two words: every second CPU is in the second one, CPU 1 as number 64.
pub type TwoWords<const SLOTS: usize, const PCIDS: bool> = Embedded<SLOTS, PCIDS, 2>;

/// The real one, with so many slots for PCIDs and so many global ids: a space gets one after the first flush that interrupted a CPU in it.
pub type WithBroadcast<const SLOTS: usize, const GLOBAL_IDS: usize> =
    Embedded<SLOTS, true, 1, GLOBAL_IDS>;

/// `lazytlb` in a checked kernel.
pub struct Embedded<
    const SLOTS: usize,
    const PCIDS: bool,
    const WORDS: usize = 1,
    const GLOBAL_IDS: usize = 0,
> {
    tlb: Tlb<Storage<SLOTS, WORDS>, WORDS, SLOTS>,
    roots: Vec<PhysAddr>,
    /// With page-table isolation, the second roots of the user spaces.
    user_halves: Vec<PhysAddr>,
    /// Under `quarantine`, where each CPU keeps the tables of each batch that it holds back.
    held: Vec<[HeldCells; SLOTS]>,
}

/// How many frames a gather takes before it flushes by itself: as few as show everything.
const BATCH: usize = 2;

/// A gather's storage that takes nothing.
struct NoRoom;

impl gather::Storage<PhysAddr> for NoRoom {
    fn put(&mut self, item: Unflushed<PhysAddr>) -> Result<(), Unflushed<PhysAddr>> {
        Err(item)
    }

    fn take(&mut self) -> Option<Unflushed<PhysAddr>> {
        None
    }
}

/// Code of a checked program stays on its CPU.
struct NeverPreempted;

impl Pinned for NeverPreempted {}

fn handle_of(space: Space) -> MmHandle {
    MmHandle(space.0 as u64)
}

fn tables_of(tables: Tables) -> protocol::shootdown::Tables {
    match tables {
        Tables::Kept => protocol::shootdown::Tables::Kept,
        Tables::Freed => protocol::shootdown::Tables::Freed,
        Tables::Held => protocol::shootdown::Tables::Held,
    }
}

/// Returns the number of a CPU, as the protocol is told: the words of a set are filled in turns.
fn number_of<const WORDS: usize>(cpu: CpuId) -> CpuId {
    let words = WORDS as u16;
    CpuId(cpu.0 % words * 64 + cpu.0 / words)
}

impl<const SLOTS: usize, const PCIDS: bool, const WORDS: usize, const GLOBAL_IDS: usize> Protocol
    for Embedded<SLOTS, PCIDS, WORDS, GLOBAL_IDS>
{
    fn outcomes() -> &'static [&'static str] {
        match (PCIDS, GLOBAL_IDS) {
            (false, _) => notes::WITHOUT_PCIDS,
            (true, 0) => notes::WITHOUT_GLOBAL_IDS,
            (true, _) => notes::ALL,
        }
    }

    fn new(program: &mut Program, policy: Policy, user_roots: &[PhysAddr]) -> Self {
        Self::isolated(program, policy, user_roots, &[])
    }

    fn isolated(
        program: &mut Program,
        policy: Policy,
        user_roots: &[PhysAddr],
        user_halves: &[PhysAddr],
    ) -> Self {
        if PCIDS {
            program.start_with_cr4(Cr4::default().with(Cr4::PCIDE, true));
        }
        let policy = protocol::policy::Policy::by_name(policy.name());
        let policy = policy.expect("a mutation keeps the policies");
        let first_root = std::iter::once(program.first_root());
        let roots: Vec<PhysAddr> = first_root.chain(user_roots.iter().copied()).collect();
        let mms = roots.iter().enumerate().map(|(index, &root)| {
            let name = if index == 0 {
                "init_mm".into()
            } else {
                format!("mm{index}")
            };
            let mm = Mm::new(MmId(index as u64 + 1), root, &mut program.cells(name, 0));
            let user_half = index.checked_sub(1).and_then(|user| user_halves.get(user));
            match user_half {
                Some(&user_half) => mm.with_user_root(user_half),
                None => mm,
            }
        });
        let mms = mms.collect();
        if WORDS > 1 {
            let cpus = (0..program.cpus().into()).map(CpuId);
            program.number_cpus(cpus.map(|cpu| number_of::<WORDS>(cpu).0));
        }
        let numbers: Vec<CpuId> = program.cpu_numbers().collect();
        let cpus = (0..program.cpus()).zip(numbers).map(|(cpu, number)| {
            let mut cells = program.cells(format!("cpu{cpu}"), cpu);
            (number, PerCpu::new(MmHandle(0), &mut cells))
        });
        let cpus = cpus.collect();
        program.features().broadcasts |= GLOBAL_IDS > 0;
        let mut word = || GlobalIdWord::new(GLOBAL_IDS as u32, &mut program.cells("global ids", 0));
        let global_ids = (0..GLOBAL_IDS.min(1)).map(|_| word()).collect();
        let software_walks = match program.software_walks() {
            lazytlb::SoftwareWalks::Never => SoftwareWalks::Never,
            lazytlb::SoftwareWalks::Guarded => SoftwareWalks::Guarded,
        };
        let storage = Storage {
            cpus,
            mms,
            software_walks,
            global_ids,
        };
        // As a kernel that learns its policy from its command line.
        let tlb = Tlb::new(storage, protocol::policy::Policy::Ipi);
        tlb.set_policy(policy);
        let holding = match policy.name() {
            "quarantine" => program.cpus(),
            _ => 0,
        };
        let mut place = |cpu| program.local(cpu, format!("cpu{cpu}.held"), NO_FRAME);
        let mut batches = |cpu| [[(); HELD_TABLES]; SLOTS].map(|batch| batch.map(|()| place(cpu)));
        let held = (0..holding).map(&mut batches).collect();
        Embedded {
            tlb,
            roots,
            user_halves: user_halves.to_vec(),
            held,
        }
    }

    fn switch_mm(&self, hw: &ModelHw, space: Space) {
        note_switch(hw, self.tlb.switch_mm(hw, handle_of(space)));
    }

    fn enter_lazy(&self, hw: &ModelHw) {
        note_lazy(hw, self.tlb.enter_lazy(hw));
    }

    fn flush(&self, hw: &ModelHw, space: Space, range: FlushRange, tables: Tables) {
        let _lazy = self.lazy_cpus(hw, tables);
        let promise = hw.promise_begins(self.spaces(space), range);
        let (mm, tables) = (handle_of(space), tables_of(tables));
        note_broadcast(hw, self.tlb.flush(hw, mm, range, tables));
        hw.promise_kept(promise);
    }

    fn remove(&self, hw: &ModelHw, space: Space, removals: &[Removal], driver: &dyn Fn(&ModelHw)) {
        // The protocol holds the tables among it back.
        let _lazy = self.lazy_cpus(hw, Tables::Held);
        let storage = Batch::<PhysAddr, BATCH>::new();
        self.gather(hw, space, removals, driver, storage);
    }

    fn remove_one_by_one(&self, hw: &ModelHw, space: Space, removals: &[Removal]) {
        // What has no room cannot be held back.
        let _lazy = hw.reaches_lazy_cpus();
        self.gather(hw, space, removals, &|_| {}, NoRoom);
    }

    fn unmap_device(
        &self,
        hw: &ModelHw,
        space: Space,
        removal: &Removal,
        read_back: &dyn Fn(&ModelHw),
    ) {
        let _lazy = hw.reaches_lazy_cpus();
        let page = PageRange::page(removal.addr);
        let promise = PromiseOfChange::new(hw, self.spaces(space), page);
        let (storage, sink) = (Batch::<Window, 1>::new(), DeviceSink::default());
        let mut gather = self.tlb.gather(hw, handle_of(space), storage, sink);
        hw.write_entry(removal.table, removal.index, Entry::ABSENT);
        promise.begin();
        gather.unmapped_device(hw, page, Window);
        let (DeviceSink(windows), _) = gather.finish(hw);
        for window in windows {
            window.read_back(|_| read_back(hw));
        }
        promise.keep();
    }

    fn change_type(&self, hw: &ModelHw, space: Space, change: &PageChange<'_>) {
        let _lazy = hw.reaches_lazy_cpus();
        let promise = PromiseOfChange::new(hw, self.spaces(space), change.pages);
        let mappings = [(handle_of(space), change.pages)];
        let clear = || {
            (change.clear)(hw);
            promise.begin();
        };
        self.tlb.change_type(hw, &mappings, clear, |_| {
            promise.keep();
            (change.make)(hw);
        });
    }

    fn change_size(&self, hw: &ModelHw, space: Space, change: &PageChange<'_>) {
        let _lazy = match hw.quirks().forbid_two_sizes(change.fetched) {
            true => hw.reaches_lazy_cpus(),
            false => self.lazy_cpus(hw, Tables::Held),
        };
        let promise = PromiseOfChange::new(hw, self.spaces(space), change.pages);
        let ledger = Ledger::default();
        let sink = self.sink(hw, &ledger, self.spaces(space));
        let storage = Batch::<PhysAddr, 1>::new();
        let mut gather = self.tlb.gather(hw, handle_of(space), storage, sink);
        let size_change = SizeChange {
            pages: change.pages,
            fetched: change.fetched,
            tables: tables_of(Tables::Kept),
        };
        let step = |write: &dyn Fn(&ModelHw)| {
            write(hw);
            promise.begin();
        };
        let (clear, make) = (|| step(change.clear), || step(change.make));
        gather.change_size(hw, size_change, clear, make);
        gather.finish(hw);
        promise.keep();
        ledger.close(hw);
    }

    fn flush_together(&self, hw: &ModelHw, parts: &[Part], before_wait: &dyn Fn(&ModelHw)) {
        self.shoot_down(hw, parts, &[], before_wait);
    }

    fn flush_and_add(&self, hw: &ModelHw, sent: &[Part], added: &[Part]) {
        self.shoot_down(hw, sent, added, &|_| {});
    }

    fn release_held(&self, hw: &ModelHw) {
        if self.holds_back() {
            let former = hw.disable_interrupts();
            self.give_up(hw, |sink| self.tlb.release_held(hw, sink).batches_left == 0);
            hw.restore_interrupts(former);
        }
    }

    fn reclaim_now(&self, hw: &ModelHw) {
        if self.holds_back() {
            let _lazy = hw.reaches_lazy_cpus();
            // Whoever was interrupted may have been spared again meanwhile, by a flush of another CPU.
            self.give_up(hw, |sink| self.tlb.reclaim_now(hw, sink).interrupted == 0);
        }
    }

    fn serve_inbox(&self, hw: &ModelHw) {
        self.tlb.serve_inbox(hw);
    }

    fn start_retiring(&self, hw: &ModelHw, space: Space) -> Ended {
        let _lazy = hw.reaches_lazy_cpus();
        self.tlb.retire(hw, handle_of(space));
        Ended::Later
    }

    fn reap(&self, hw: &ModelHw) -> Option<Space> {
        // While this CPU holds tables of a space back, that stays.
        self.release_held(hw);
        let reaped = self.tlb.reap(hw)?;
        let space = Space(usize::try_from(reaped.mm.0).expect("handles are small"));
        assert!(reaped.root == self.roots[space.0]);
        if self.holds_back() {
            let held = self.tlb.kernel().mm(reaped.mm).held_tables(hw);
            assert!(
                held == 0,
                "a batch still asks for a space that was given back"
            );
        }
        Some(space)
    }

    fn retire(&self, hw: &ModelHw, space: Space) {
        self.start_retiring(hw, space);
        // Until it comes back, its root is not to be freed.
        let reaped = hw.poll(|hw| self.reap(hw));
        assert!(reaped == space);
    }

    fn flush_kernel(&self, hw: &ModelHw, removed: KernelRemoval) {
        let _lazy = hw.reaches_lazy_cpus();
        let promise = hw.promise_begins(Spaces::All, removed.range);
        self.tlb
            .flush_kernel(hw, removed.range, tables_of(removed.tables));
        hw.promise_kept(promise);
    }

    fn walk(&self, hw: &ModelHw, walk: &dyn Fn(&ModelHw)) {
        let _walking = self.tlb.walk(hw);
        walk(hw);
    }

    fn admits(&self, hw: &ModelHw, quirks: Quirks) -> bool {
        self.tlb.admits(hw, quirks).is_ok()
    }

    fn cpu_online(&self, hw: &ModelHw) {
        self.tlb.cpu_online(hw);
    }

    fn cpu_offline(&self, hw: &ModelHw) {
        self.tlb.cpu_offline(hw);
    }

    fn load_user_half(&self, hw: &ModelHw) {
        if let Some(cr3) = self.tlb.user_half(hw) {
            cr3.load(hw);
        }
    }

    fn load_kernel_half(&self, hw: &ModelHw) {
        if let Some(cr3) = self.tlb.kernel_half(hw) {
            cr3.load(hw);
        }
    }

    fn may_touch_user_memory(&self, hw: &ModelHw) -> bool {
        self.tlb.may_touch_user_memory(hw)
    }

    fn handle_flush_ipi(&self, hw: &ModelHw) {
        note_interrupt(hw, self.tlb.handle_flush_ipi(hw));
    }
}

impl<const SLOTS: usize, const PCIDS: bool, const WORDS: usize, const GLOBAL_IDS: usize>
    Embedded<SLOTS, PCIDS, WORDS, GLOBAL_IDS>
{
    /// Says whether page tables are held back.
    fn holds_back(&self) -> bool {
        !self.held.is_empty()
    }

    /// Promises that a flush spares lazy CPUs, where page tables are held back; or says that it does not, because it is for tables that
    /// its caller frees by itself when it returns.
    fn lazy_cpus<'a>(&self, hw: &'a ModelHw, tables: Tables) -> SparingLazy<'a> {
        match (self.holds_back(), tables) {
            (true, Tables::Kept | Tables::Held) => hw.spares_lazy_cpus(),
            (false, _) | (true, Tables::Freed) => hw.reaches_lazy_cpus(),
        }
    }

    /// Removes entries, flushes, and frees, through a gather that keeps what is to be freed in `storage`.
    fn gather(
        &self,
        hw: &ModelHw,
        space: Space,
        removals: &[Removal],
        driver: &dyn Fn(&ModelHw),
        storage: impl gather::Storage<PhysAddr>,
    ) {
        let ledger = Ledger::default();
        let sink = self.sink(hw, &ledger, self.spaces(space));
        let sink = sink.with_driver(driver);
        let mut gather = self.tlb.gather(hw, handle_of(space), storage, sink);
        for removal in removals {
            hw.write_entry(removal.table, removal.index, Entry::ABSENT);
            let page = PageRange::page(removal.addr);
            match removal.frees {
                Frees::Nothing | Frees::Page(_) => gather.unmapped(page),
                Frees::Table(_) => gather.unhooked(page),
                Frees::Subtree(_) => gather.everything(),
            }
            match removal.frees {
                Frees::Nothing => {}
                Frees::Page(frame) => {
                    ledger.give(frame);
                    gather.free_page(hw, frame);
                }
                Frees::Table(frame) | Frees::Subtree(frame) => {
                    ledger.give_table(frame);
                    gather.free(hw, frame);
                }
            }
        }
        gather.finish(hw);
        ledger.close(hw);
    }

    /// Flushes several ranges together: `added` is left to the protocol's own wait to send.
    fn shoot_down(
        &self,
        hw: &ModelHw,
        sent: &[Part],
        added: &[Part],
        before_wait: &dyn Fn(&ModelHw),
    ) {
        let all = || sent.iter().chain(added);
        let mut tables = all().map(|part| part.tables);
        let freed = tables.find(|tables| *tables == Tables::Freed);
        let _lazy = self.lazy_cpus(hw, freed.unwrap_or(Tables::Kept));
        let begin = |part: &Part| hw.promise_begins(self.spaces(part.space), part.range);
        let promises: Vec<Promise> = all().map(begin).collect();
        let guard = NeverPreempted;
        let mut shootdown = self.tlb.start(hw, &guard, promises);
        let add = |shootdown: &mut _, part: &Part| {
            let (mm, tables) = (handle_of(part.space), tables_of(part.tables));
            self.tlb.add(hw, shootdown, mm, part.range, tables);
        };
        sent.iter().for_each(|part| add(&mut shootdown, part));
        if !sent.is_empty() {
            self.tlb.send(hw, &mut shootdown);
            before_wait(hw);
        }
        added.iter().for_each(|part| add(&mut shootdown, part));
        let (promises, done) = self.tlb.wait(hw, shootdown);
        note_broadcast(hw, done);
        promises
            .into_iter()
            .for_each(|promise| hw.promise_kept(promise));
    }

    /// Gives up what this CPU holds back, by code that says whether nothing may be left of that then: what is, is lost. What a handler holds back
    /// meanwhile may stay.
    fn give_up(&self, hw: &ModelHw, give_up: impl FnOnce(&mut Sink<'_>) -> bool) {
        let ledger = Ledger::default();
        let mut sink = self.sink(hw, &ledger, Spaces::All);
        let before: Vec<PhysAddr> = sink.frames().collect();
        if give_up(&mut sink) {
            let left = sink.frames().filter(|frame| before.contains(frame));
            left.for_each(|frame| ledger.give(frame));
        }
        ledger.close(hw);
    }

    /// Makes the sink of this CPU.
    fn sink<'a>(&'a self, hw: &'a ModelHw, ledger: &'a Ledger, spaces: Spaces) -> Sink<'a> {
        let mut cpus = self.tlb.kernel().cpus.iter();
        let cpu = cpus.position(|(its, _)| *its == hw.cpu());
        let held = cpu.and_then(|cpu| self.held.get(cpu));
        Sink::new(hw, ledger, spaces, held.map_or(&[][..], |held| held))
    }

    /// Names a space by its roots.
    fn spaces(&self, space: Space) -> Spaces {
        let user_half = space
            .0
            .checked_sub(1)
            .and_then(|user| self.user_halves.get(user));
        match user_half {
            Some(&user_half) => {
                Spaces::several(&[self.roots[space.0], user_half]).expect("two fit")
            }
            None => Spaces::one(self.roots[space.0]),
        }
    }
}

impl<const SLOTS: usize, const PCIDS: bool, const WORDS: usize, const GLOBAL_IDS: usize> fmt::Debug
    for Embedded<SLOTS, PCIDS, WORDS, GLOBAL_IDS>
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Embedded")
            .field("pcid_slots", &PCIDS.then_some(SLOTS))
            .field("policy", &self.tlb.policy())
            .finish_non_exhaustive()
    }
}
