//! A program: what each CPU does, in which machine.
//!
//! | file | what |
//! | --- | --- |
//! | `words` | the words that all CPUs share, and each CPU's own |
//! | `cpu_numbers` | how the CPUs are numbered, for the code that they run |
//! | `before_each_run` | what is called before any code of it runs |

mod before_each_run;
mod cpu_numbers;
mod words;

use std::fmt;
use std::sync::Arc;

use lazytlb::{CpuId, Entry, PhysAddr, Quirks, SoftwareWalks, VirtAddr};
use lazytlb_model::{AtomicCell, Cr4, Features, FrameUse, GarbageWalks, Property, Ticks};

use crate::cpu_numbers::CpuNumbers;
use crate::menu::{MenuItem, Mode, Offer};
use crate::model_hw::ModelHw;
use crate::place_names::PlaceNames;
pub(crate) use crate::program::words::DeclaredCell;
pub use crate::program::words::ProgramCells;
use crate::routine::{Operation, OperationFn, OperationIndex, Routine};
use crate::sparing::LazyWords;

/// What the CPUs do, and the memory and frames they do it with.
///
/// ```
/// use lazytlb::{Hw, Until};
/// use lazytlb_check::{Checker, Program};
///
/// // CPU 0 raises a flag; CPU 1 waits for it.
/// let mut program = Program::new("flag", 2);
/// let flag = program.atomic("flag", 0);
/// program.operation(0, "raise", move |hw| hw.store(&flag, 1));
/// program.operation(1, "wait", move |hw| hw.pause_until(&flag, Until::Equals(1)));
/// program.proves("whoever waits for the flag goes on");
/// assert!(Checker::new().check(&program).is_safe());
/// ```
#[derive(Clone)]
pub struct Program {
    pub(crate) name: String,
    pub(crate) operations: Vec<Vec<Operation>>,
    pub(crate) cpu_numbers: CpuNumbers,
    pub(crate) lazy_words: LazyWords,
    pub(crate) handler: Option<OperationFn>,
    /// What the kernel was told at boot of the CPUs' errata, if that is not what they have.
    pub(crate) quirks_told: Option<Quirks>,
    pub(crate) atomics: Vec<DeclaredCell>,
    pub(crate) own_cells: Vec<Vec<DeclaredCell>>,
    /// The words that hold the generation of a space of the protocol, in the order in which spaces were made.
    pub(crate) space_generations: Vec<AtomicCell>,
    /// The words by which each CPU of the protocol counts its writes of requests.
    pub(crate) request_counts: Vec<(u8, AtomicCell)>,
    /// The words whose generations are said to count apart, each with what its first value was raised by.
    pub(crate) apart: Vec<(AtomicCell, u64)>,
    pub(crate) nmi_handler: Option<OperationFn>,
    pub(crate) timer_handler: Option<OperationFn>,
    pub(crate) frames: Vec<FrameUse>,
    pub(crate) page_words: Vec<Option<AtomicCell>>,
    pub(crate) entries: Vec<(PhysAddr, u16, Entry)>,
    pub(crate) watched_entries: Vec<(PhysAddr, u16)>,
    pub(crate) root: PhysAddr,
    /// Spaces' roots, and those that they have in user mode.
    pub(crate) user_halves: Vec<(PhysAddr, PhysAddr)>,
    pub(crate) cr4: Cr4,
    pub(crate) features: Features,
    pub(crate) garbage: GarbageWalks,
    pub(crate) ignored: Vec<Property>,
    pub(crate) expected_notes: Vec<&'static str>,
    /// What the program proves without a promise about a flush, in a sentence.
    pub(crate) proves: Option<String>,
    /// Whether some operation walks page tables by software.
    pub(crate) software_walks: SoftwareWalks,
    /// What was declared that makes no sense: the first such thing.
    pub(crate) mistake: Option<String>,
    pub(crate) place_names: PlaceNames,
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let operations: Vec<usize> = self.operations.iter().map(Vec::len).collect();
        f.debug_struct("Program")
            .field("name", &self.name)
            .field("operations", &operations)
            .finish_non_exhaustive()
    }
}

impl Program {
    /// Makes a program of CPUs that do nothing yet. Frame 0 is the root of a space without mappings, and
    /// every CPU has it in CR3 at the start: [`Program::first_root`].
    pub fn new(name: impl Into<String>, cpus: u8) -> Program {
        let cpus = usize::from(cpus);
        Program {
            name: name.into(),
            operations: vec![Vec::new(); cpus],
            cpu_numbers: CpuNumbers::default(),
            lazy_words: LazyWords::default(),
            handler: None,
            quirks_told: None,
            atomics: Vec::new(),
            own_cells: vec![Vec::new(); cpus],
            space_generations: Vec::new(),
            request_counts: Vec::new(),
            apart: Vec::new(),
            nmi_handler: None,
            timer_handler: None,
            frames: vec![FrameUse::Table],
            page_words: Vec::new(),
            entries: Vec::new(),
            watched_entries: Vec::new(),
            root: PhysAddr(0),
            user_halves: Vec::new(),
            cr4: Cr4::default(),
            features: Features::small(),
            garbage: GarbageWalks::Refused,
            ignored: Vec::new(),
            expected_notes: Vec::new(),
            proves: None,
            software_walks: SoftwareWalks::Never,
            mistake: None,
            place_names: PlaceNames::default(),
        }
    }

    /// Says that some operation walks page tables by software, without a lock ([`crate::Protocol::walk`]): before the protocol's state is made.
    pub fn walks_by_software(&mut self) {
        self.software_walks = SoftwareWalks::Guarded;
    }

    /// Says whether some operation walks page tables by software.
    pub fn software_walks(&self) -> SoftwareWalks {
        self.software_walks
    }

    /// Returns the name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the number of CPUs.
    pub fn cpus(&self) -> u8 {
        self.operations.len() as u8
    }

    /// Returns the root that every CPU starts with.
    pub fn first_root(&self) -> PhysAddr {
        self.root
    }

    /// Says that a space has a second root, which is loaded in user mode: what is said of the program counts them as one space.
    pub fn has_user_half(&mut self, root: PhysAddr, user_half: PhysAddr) {
        self.user_halves.push((root, user_half));
    }

    /// Makes a page table that lives from the start, with absent entries.
    pub fn table(&mut self) -> PhysAddr {
        self.frame(FrameUse::Table)
    }

    /// Makes a page's frame that is in use from the start.
    pub fn page(&mut self) -> PhysAddr {
        self.frame(FrameUse::Page)
    }

    /// Makes a page's frame whose first word is a cell: what accesses by virtual address read and write.
    pub fn page_with_word(&mut self, word: AtomicCell) -> PhysAddr {
        let frame = self.frame(FrameUse::Page);
        self.give_word(frame, word);
        frame
    }

    /// Makes a frame that is a device's, in use from the start.
    pub fn device(&mut self) -> PhysAddr {
        self.frame(FrameUse::Device)
    }

    /// Makes frames that are free at the start. The lowest free one is always taken first, so reuse
    /// comes at once.
    pub fn free_frames(&mut self, count: usize) {
        for _ in 0..count {
            self.frame(FrameUse::Free);
        }
    }

    /// Gives a page's or a device's frame a cell as the word at its start.
    pub fn give_word(&mut self, frame: PhysAddr, word: AtomicCell) {
        let number = (frame.0 >> 12) as usize;
        if number >= self.frames.len() {
            self.mistake.get_or_insert(format!(
                "a word is given to frame {number}, which the program does not have: `Program::page` makes one"
            ));
            return;
        }
        if self.page_words.len() <= number {
            self.page_words.resize(number + 1, None);
        }
        self.page_words[number] = Some(word);
    }

    fn frame(&mut self, frame_use: FrameUse) -> PhysAddr {
        self.frames.push(frame_use);
        PhysAddr(((self.frames.len() - 1) as u64) << 12)
    }

    /// Sets a page-table entry's value at the start.
    pub fn first_entry(&mut self, table: PhysAddr, index: u16, entry: Entry) {
        self.entries.push((table, index, entry));
    }

    /// Makes a page-table entry's final value part of [`crate::End`].
    pub fn watch_entry(&mut self, table: PhysAddr, index: u16) {
        self.watched_entries.push((table, index));
    }

    /// Gives a page-table entry a name for people: `PTE(x)` in place of `frame 3[1]`.
    pub fn name_entry(&mut self, table: PhysAddr, index: u16, name: impl Into<String>) {
        let names = &mut self.place_names.entries;
        names.insert((table, index), name.into());
    }

    /// Gives a virtual address a name for people.
    pub fn name_address(&mut self, addr: VirtAddr, name: impl Into<String>) {
        self.place_names.addresses.insert(addr, name.into());
    }

    /// Sets how page-table entries read, for people.
    pub fn tell_entries(&mut self, tell: impl Fn(Entry) -> String + Send + Sync + 'static) {
        self.place_names.teller = Some(Arc::new(tell));
    }

    /// Gives a frame a name for people.
    pub fn name_frame(&mut self, frame: PhysAddr, name: impl Into<String>) {
        self.place_names.frames.insert(frame, name.into());
    }

    /// Sets the root that every CPU starts with.
    pub fn start_with_root(&mut self, root: PhysAddr) {
        self.root = root;
    }

    /// Says what the program uses of the machine besides two levels of 4 KiB pages.
    pub fn features(&mut self) -> &mut Features {
        &mut self.features
    }

    /// Sets every CPU's CR4 at the start. It takes the feature `tags`.
    pub fn start_with_cr4(&mut self, cr4: Cr4) {
        self.features.tags = true;
        self.cr4 = cr4;
    }

    /// Follows walks of freed tables to their ends, instead of stopping where one becomes possible.
    pub fn follow_garbage_walks(&mut self) {
        self.garbage = GarbageWalks::Followed;
    }

    /// Leaves a property out of what is looked at: an execution that violates it goes on.
    ///
    /// Without [`Property::StaleUse`] a promise about a flush bears on nothing but stores to devices, and a proof
    /// that rests on others is none ([`crate::Verdict::nothing_proved`]).
    ///
    /// After [`Property::Panic`] and [`Property::GeneralProtection`] none does: a check of a program that
    /// ignores them ends in an error.
    pub fn ignore(&mut self, property: Property) {
        self.ignored.push(property);
    }

    /// Sets what an NMI runs, on any CPU.
    pub fn on_nmi(&mut self, run: impl Fn(&ModelHw) + Send + Sync + 'static) {
        self.features.nmis = true;
        self.nmi_handler = Some(Arc::new(run));
    }

    /// Sets what a timer interrupt runs, on any CPU, and how many each CPU takes. It comes by itself, where a
    /// flush interrupt could be taken, and after a CPU's last operation.
    ///
    /// No wait may count on it, or it would hide a lost IPI: where nothing but timer interrupts could go on, it
    /// is a deadlock, unless a CPU waits by [`lazytlb::Poll::poll_until_tick`]. That one waits for ever, too,
    /// if timer interrupts change nothing.
    ///
    /// `AnyNumber` needs no room in a state, and the handler must not count; `AtMost` is a bound within which
    /// a proof holds: at its end nothing more comes, and who waits for a tick is not called deadlocked.
    pub fn on_timer(&mut self, ticks: Ticks, run: impl Fn(&ModelHw) + Send + Sync + 'static) {
        self.features.ticks = ticks;
        self.timer_handler = Some(Arc::new(run));
    }

    /// Adds an operation to what a CPU does, after those before it. If there is no such CPU, every check of the
    /// program says so.
    pub fn operation(
        &mut self,
        cpu: u8,
        name: impl Into<String>,
        run: impl Fn(&ModelHw) + Send + Sync + 'static,
    ) {
        let operation = Operation {
            name: name.into(),
            run: Arc::new(run),
            offer: None,
        };
        self.push(CpuId(cpu.into()), operation);
    }

    /// Adds it, whatever its code: `operation` is compiled for each closure that there is.
    fn push(&mut self, cpu: CpuId, operation: Operation) {
        match self.operations.get_mut(usize::from(cpu.0)) {
            Some(operations) => operations.push(operation),
            None => self.lacks_cpu(cpu, &format!("the operation \"{}\"", operation.name)),
        }
    }

    /// Adds an operation to a CPU's menu: it may start whenever the CPU has none under way, in the modes that the
    /// item names, any number of times. A CPU's operations that are on no menu run first, once, in their order.
    ///
    /// A proof of such a program is one of every program over its menus, of any length.
    ///
    /// ```
    /// use lazytlb::{Hw, Poll};
    /// use lazytlb_check::{Checker, MenuItem, Program};
    ///
    /// // Two CPUs take a lock and release it, for ever.
    /// let mut program = Program::new("lock", 2);
    /// let (lock, inside) = (program.atomic("lock", 0), program.atomic("inside", 0));
    /// for cpu in 0..2 {
    ///     program.offer(cpu, MenuItem::new("lock and unlock", move |hw| {
    ///         hw.poll(|hw| (hw.swap(&lock, 1) == 0).then_some(()));
    ///         assert_eq!(hw.fetch_add(&inside, 1), 0);
    ///         hw.fetch_add(&inside, u64::MAX);
    ///         hw.store(&lock, 0);
    ///     }));
    /// }
    /// program.proves("no two CPUs are inside at one time");
    /// assert!(Checker::new().check(&program).is_safe());
    /// ```
    pub fn offer(&mut self, cpu: u8, item: MenuItem) {
        let Some(operations) = self.operations.get(usize::from(cpu)) else {
            self.lacks_cpu(
                CpuId(cpu.into()),
                &format!("the operation \"{}\"", item.name),
            );
            return;
        };
        let known = operations.iter().find_map(|operation| operation.offer);
        let mode = known.map_or_else(
            || self.local(cpu, "mode", Mode::FIRST.number().into()),
            |offer| offer.mode,
        );
        self.features.endless = true;
        self.operations[usize::from(cpu)].push(Operation {
            name: item.name,
            run: item.run,
            offer: Some(Offer {
                starts_in: item.starts_in,
                leads_to: item.leads_to,
                mode,
            }),
        });
    }

    /// Lists a CPU's menu.
    pub(crate) fn menu_of(&self, cpu: CpuId) -> impl Iterator<Item = (OperationIndex, Offer)> {
        let operations = self.operations[usize::from(cpu.0)].iter().enumerate();
        operations
            .filter_map(|(index, operation)| Some((OperationIndex::at(index), operation.offer?)))
    }

    fn lacks_cpu(&mut self, cpu: CpuId, what: &str) {
        let (cpu, cpus) = (cpu.0, self.cpus());
        self.mistake.get_or_insert(format!(
            "{what} is for CPU {cpu}, and the program has {cpus}, from 0 on: `Program::new` says how many"
        ));
    }

    /// Sets the handler of the flush interrupt, for every CPU. It runs with interrupts off, between any
    /// two seam calls that are made with interrupts on, and after a CPU's last operation.
    pub fn on_flush_interrupt(&mut self, run: impl Fn(&ModelHw) + Send + Sync + 'static) {
        self.handler = Some(Arc::new(run));
    }

    /// Says what the kernel was told at boot of the errata of its CPUs ([`lazytlb::Hw::quirks`]), whatever those are: for a CPU that comes
    /// later, and for detection that misses one. Without it, it is what can be detected on the CPU model.
    pub fn kernel_was_told(&mut self, quirks: Quirks) {
        self.quirks_told = Some(quirks);
    }

    /// Declares, in a sentence, what a proof of this program shows although no promise about a flush
    /// ([`lazytlb::Memory::flush_begins`]) that covers a cached entry is kept. Without it such a proof is none:
    /// the verdict is `nothing proved` ([`crate::Verdict::nothing_proved`]).
    ///
    /// ```
    /// use lazytlb::Hw;
    /// use lazytlb_check::{Checker, Program};
    ///
    /// let mut program = Program::new("counter", 2);
    /// let count = program.atomic("count", 0);
    /// for cpu in 0..2 {
    ///     program.operation(cpu, "count", move |hw| assert!(hw.fetch_add(&count, 1) < 2));
    /// }
    /// assert_eq!(Checker::new().check(&program).name(), "nothing proved");
    /// program.proves("no increment is lost, as the assertion says");
    /// assert!(Checker::new().check(&program).is_safe());
    /// ```
    pub fn proves(&mut self, what: impl Into<String>) {
        self.proves = Some(what.into());
    }

    /// Adds notes ([`ModelHw::note`]) that some execution should reach: a verdict lists the others.
    pub fn expect_notes(&mut self, notes: impl IntoIterator<Item = &'static str>) {
        self.expected_notes.extend(notes);
    }

    /// Returns what the program uses of the machine: an NMI handler is a use of NMIs, whatever was said of them.
    pub(crate) fn features_in_use(&self) -> Features {
        let nmis = self.features.nmis || self.nmi_handler.is_some();
        Features {
            nmis,
            ..self.features
        }
    }

    pub(crate) fn looks_at(&self, property: Property) -> bool {
        !self.ignored.contains(&property)
    }

    pub(crate) fn operation_of(&self, cpu: CpuId, index: OperationIndex) -> Option<&Operation> {
        self.operations[usize::from(cpu.0)].get(index.get())
    }

    /// Returns a routine's code, if there is such a routine.
    pub(crate) fn code(&self, cpu: CpuId, routine: Routine) -> Option<&dyn Fn(&ModelHw)> {
        match routine {
            Routine::Operation(index) => self
                .operation_of(cpu, index)
                .map(|operation| &*operation.run as _),
            Routine::Handler => self.handler.as_deref().map(|run| run as _),
            Routine::Nmi => self.nmi_handler.as_deref().map(|run| run as _),
            Routine::Timer => self.timer_handler.as_deref().map(|run| run as _),
        }
    }

    /// Returns a routine's name for people.
    pub(crate) fn routine_name(&self, cpu: CpuId, routine: Routine) -> &str {
        match routine {
            Routine::Operation(index) => self
                .operation_of(cpu, index)
                .map_or("an operation", |operation| &operation.name),
            Routine::Handler => "flush interrupt",
            Routine::Nmi => "NMI",
            Routine::Timer => "timer interrupt",
        }
    }

    /// Returns every operation of every CPU.
    pub(crate) fn all_operations(
        &self,
    ) -> impl Iterator<Item = (CpuId, OperationIndex, &Operation)> {
        self.operations
            .iter()
            .enumerate()
            .flat_map(|(cpu, operations)| {
                let numbered = operations.iter().enumerate();
                numbered.map(move |(index, operation)| {
                    (CpuId(cpu as u16), OperationIndex::at(index), operation)
                })
            })
    }
}
