//! The recorded kernel's machine: what each CPU has loaded, and who would be interrupted.
//!
//! Open loop: it is told what was asked (switches, lazy mode, flushes) and never what the recorded kernel did about
//! it. Numbers of generations are its own; only their order means something.

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use lazytlb_trace::{InitialState, Laziness, MmId, Tables};

use crate::cpu_set::{CpuSet, HowMany};
use crate::outcome::{Flushed, Local, Outcome, Reach, Served, Switched};
use crate::rule::{EACH_RULE, MaskRule, TRIM_PERIOD_NS};
use crate::slots::{CaughtUp, Slots};

/// Linux `mm_active_cpus_exceeds(mm, 3)`: CPUs that a space is active on before it is given a global PCID.
const GLOBAL_FROM_CPUS: u64 = 4;

/// What the CPUs have loaded, and which spaces there are.
#[derive(Default)]
pub(crate) struct Machine<N> {
    cpus: Vec<Cpu>,
    /// Those whose state is known.
    known: CpuSet<N>,
    spaces: HashMap<MmId, Space<N>, FixedState>,
}

/// One CPU: Linux `cpu_tlbstate`.
#[derive(Clone, Default)]
struct Cpu {
    /// Not known before the CPU's first operation.
    loaded: Option<MmId>,
    lazy: bool,
    slots: Slots,
    entered: Option<Entered>,
}

/// A CPU's latest way into a space.
#[derive(Clone, Copy)]
struct Entered {
    time_ns: u64,
    /// Whether its bit was not in the cpumask before, by rule.
    newly: [bool; EACH_RULE.len()],
}

/// What an event shows of a space's generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// Nothing: the numbers are our own.
    Nothing,
    /// The kernel's own number, as the event was recorded (kprobes).
    Generation {
        /// Linux `mm->context.tlb_gen`.
        generation: u64,
    },
}

impl Seen {
    /// What the generation is after a flush, if nobody else raises it meanwhile.
    pub(crate) fn after_one_flush(self) -> Option<u64> {
        match self {
            Seen::Nothing => None,
            Seen::Generation { generation } => Some(generation + 1),
        }
    }
}

struct Space<N> {
    generation: u64,
    masks: [CpuSet<N>; EACH_RULE.len()],
    /// Whether it was made within the recording: then no CPU had it before.
    born_here: bool,
    may_trim_from_ns: u64,
    /// Its latest interrupts were sent while enough CPUs were active in it for a global PCID.
    may_be_global: bool,
}

impl<N: HowMany> Machine<N> {
    /// Returns the space that a CPU should have loaded.
    pub(crate) fn loaded(&self, cpu: u16) -> Option<MmId> {
        self.cpus.get(usize::from(cpu))?.loaded
    }

    /// Returns whether a CPU should be in lazy mode.
    pub(crate) fn is_lazy(&self, cpu: u16) -> bool {
        self.cpus.get(usize::from(cpu)).is_some_and(|cpu| cpu.lazy)
    }

    /// Returns the CPUs whose state is known.
    pub(crate) fn known_cpus(&self) -> &CpuSet<N> {
        &self.known
    }

    /// Takes in what a CPU had loaded before its first operation.
    pub(crate) fn begin(&mut self, cpu: u16, state: InitialState, seen: Seen, now_ns: u64) {
        let Some(mm) = state.mm else { return };
        if self.cpu(cpu).loaded.is_some() {
            return;
        }
        let space = self.space(mm, now_ns, false);
        if mm != MmId::INIT {
            for mask in &mut space.masks {
                mask.insert(cpu);
            }
        }
        let lazy = state.laziness == Laziness::Lazy;
        let generation = match seen {
            // Numbers of our own: it has been told of all that is raised from here on.
            Seen::Nothing => Some(space.generation),
            // Those of the kernel; what the CPU has flushed to is not shown.
            Seen::Generation { .. } => None,
        };
        let generation = generation.filter(|_| !lazy);
        self.known.insert(cpu);
        let cpu = self.cpu(cpu);
        cpu.loaded = Some(mm);
        cpu.lazy = lazy;
        cpu.slots.begin(mm, generation);
    }

    /// Notes that a space is new.
    pub(crate) fn is_born(&mut self, mm: MmId, now_ns: u64) {
        self.space(mm, now_ns, true);
    }

    /// Returns whether a space was named before.
    pub(crate) fn knows(&self, mm: MmId) -> bool {
        self.spaces.contains_key(&mm)
    }

    /// Linux `switch_mm_irqs_off`.
    pub(crate) fn switch(&mut self, cpu: u16, mm: MmId, seen: Seen, now_ns: u64) -> Switched {
        let space = self.space(mm, now_ns, false);
        let generation = match seen {
            Seen::Generation { generation } => {
                space.generation = space.generation.max(generation);
                generation
            }
            Seen::Nothing => space.generation,
        };
        self.cpu(cpu);
        self.load(cpu, mm, generation, now_ns)
    }

    /// Linux `enter_lazy_tlb`.
    pub(crate) fn go_lazy(&mut self, cpu: u16) {
        let cpu = self.cpu(cpu);
        cpu.lazy = cpu.loaded != Some(MmId::INIT);
    }

    /// A lazy CPU loads `init_mm`.
    pub(crate) fn leave(&mut self, cpu: u16, now_ns: u64) -> Switched {
        let generation = self.space(MmId::INIT, now_ns, false).generation;
        self.load(cpu, MmId::INIT, generation, now_ns)
    }

    fn load(&mut self, number: u16, mm: MmId, generation: u64, now_ns: u64) -> Switched {
        let index = usize::from(number);
        let born_here = self.spaces[&mm].born_here;
        let cpu = &mut self.cpus[index];
        let (before, was_lazy) = (cpu.loaded, std::mem::take(&mut cpu.lazy));
        if before == Some(mm) {
            if !was_lazy {
                return Switched::NOTHING;
            }
            return match cpu.slots.catch_up(generation) {
                Some(CaughtUp::AlreadyWas) => Switched::NOTHING,
                Some(CaughtUp::Now) => Switched::FLUSHES,
                None => Switched::UNKNOWN,
            };
        }
        let with_pcids = cpu.slots.choose(mm, generation, born_here);
        let with_pcids = with_pcids.map(|caught_up| match caught_up {
            CaughtUp::AlreadyWas => Outcome::Keep,
            CaughtUp::Now => Outcome::Flush,
        });
        cpu.loaded = Some(mm);
        self.known.insert(number);
        if let Some(before) = before.and_then(|before| self.spaces.get_mut(&before)) {
            before.masks[MaskRule::Eager as usize].remove(number);
        }
        if let Some(space) = self.spaces.get_mut(&mm).filter(|_| mm != MmId::INIT) {
            let newly = space.masks.each_ref().map(|mask| !mask.contains(number));
            space.masks.iter_mut().for_each(|mask| mask.insert(number));
            self.cpus[index].entered = Some(Entered {
                time_ns: now_ns,
                newly,
            });
        }
        match before {
            None => Switched::UNKNOWN,
            Some(_) => Switched {
                without_pcids: Some(Outcome::Flush),
                with_pcids,
            },
        }
    }

    /// Linux `flush_tlb_mm_range`, up to its interrupts; what those do is [`Machine::arrive`].
    pub(crate) fn flush(
        &mut self,
        number: u16,
        mm: MmId,
        tables: Tables,
        seen: Seen,
        now_ns: u64,
    ) -> Flushed<N> {
        self.cpu(number);
        let space = Self::space_in(&mut self.spaces, mm, now_ns, false);
        match seen {
            Seen::Nothing => space.generation += 1,
            // It is raised later, and by how much together with other flushes, [`Machine::raise`] tells.
            Seen::Generation { generation } => {
                space.generation = space.generation.max(generation);
            }
        }
        let trims = now_ns > space.may_trim_from_ns;
        let may_be_global = space.may_be_global;
        let reach = space.reaches(&self.cpus, (number, mm), trims, now_ns);
        let has_company = [!reach[0].is_empty(), !reach[1].is_empty()];
        let cpu = &mut self.cpus[usize::from(number)];
        let loaded = cpu.loaded == Some(mm);
        let local = match (loaded, cpu.lazy) {
            (false, _) => Local::Nothing,
            (true, false) => Local::Flushes,
            // In company, the lazy initiator is left out as any lazy CPU.
            (true, true) if has_company[0] && tables != Tables::Freed => Local::Nothing,
            (true, true) => Local::Leaves,
        };
        let (known, is_lazy) = (cpu.loaded.is_some(), cpu.lazy);
        let has_lasting_company = has_company[MaskRule::Lasting as usize];
        if trims && has_lasting_company {
            space.may_trim_from_ns = now_ns + TRIM_PERIOD_NS;
        }
        let told = has_lasting_company && (tables == Tables::Freed || trims && !is_lazy);
        match local {
            // Its own CPU may be in the cpumask, and have another space (Linux: "wrong CPU").
            Local::Nothing if told && !loaded => {
                space.masks[MaskRule::Lasting as usize].remove(number);
            }
            Local::Nothing => {}
            Local::Flushes => {
                cpu.slots.catch_up(space.generation);
            }
            Local::Leaves => {
                self.leave(number, now_ns);
            }
        }
        Flushed {
            reach,
            local,
            trims,
            known,
            may_be_global,
        }
    }

    /// Takes in the generation that a flush has raised its space to.
    pub(crate) fn raise(&mut self, mm: MmId, generation: u64) {
        if let Some(space) = self.spaces.get_mut(&mm) {
            space.generation = space.generation.max(generation);
        }
    }

    /// Brings the initiator's own CPU to the generation that it asks for, if it runs the space.
    pub(crate) fn flushes_itself(&mut self, number: u16, mm: MmId) {
        let runs = |cpu: &&mut Cpu| cpu.loaded == Some(mm) && !cpu.lazy;
        let cpu = self.cpus.get_mut(usize::from(number)).filter(runs);
        if let (Some(cpu), Some(space)) = (cpu, self.spaces.get(&mm)) {
            cpu.slots.catch_up(space.generation);
        }
    }

    /// A flush of a space sends interrupts, and finds others running in it.
    ///
    /// Linux `consider_global_asid` follows: a space that four CPUs are active in may be given a global PCID. It keeps
    /// that, and is broadcast for: no CPU is interrupted from then on, and none flushes as it comes to the space.
    pub(crate) fn sends(&mut self, mm: MmId, reach: &Reach<N>) {
        if let Some(space) = self.spaces.get_mut(&mm) {
            space.may_be_global = may_be_given_a_global_pcid(reach);
        }
    }

    /// Returns whether a space may have a global PCID since its latest interrupts.
    pub(crate) fn may_be_global(&self, mm: MmId) -> bool {
        self.spaces
            .get(&mm)
            .is_some_and(|space| space.may_be_global)
    }

    /// Returns whom a flush would interrupt at this moment, by rule.
    ///
    /// A CPU enters the cpumask after the event of its switch: what it did after `seen_ns` is not seen yet.
    pub(crate) fn reaches(
        &self,
        initiator: u16,
        mm: MmId,
        trims: bool,
        seen_ns: u64,
    ) -> [Reach<N>; EACH_RULE.len()] {
        let Some(space) = self.spaces.get(&mm) else {
            return Default::default();
        };
        space.reaches(&self.cpus, (initiator, mm), trims, seen_ns)
    }

    /// Linux `flush_tlb_func`, on a CPU that is interrupted, or that flushes for itself.
    pub(crate) fn arrive(&mut self, number: u16, mm: MmId, now_ns: u64) -> Served {
        let Some(cpu) = self.cpus.get_mut(usize::from(number)) else {
            return Served::Nothing;
        };
        let Some(space) = self.spaces.get_mut(&mm) else {
            return Served::Nothing;
        };
        if cpu.loaded != Some(mm) {
            space.masks[MaskRule::Lasting as usize].remove(number);
            return Served::Nothing;
        }
        if cpu.lazy {
            self.leave(number, now_ns);
            return Served::Left;
        }
        match cpu.slots.catch_up(space.generation) {
            Some(CaughtUp::AlreadyWas) => Served::Nothing,
            Some(CaughtUp::Now) | None => Served::Flushed,
        }
    }

    /// The space is freed.
    pub(crate) fn retire(&mut self, mm: MmId) {
        if mm != MmId::INIT {
            self.spaces.remove(&mm);
        }
    }

    fn cpu(&mut self, cpu: u16) -> &mut Cpu {
        let index = usize::from(cpu);
        if index >= self.cpus.len() {
            self.cpus.resize(index + 1, Cpu::default());
        }
        &mut self.cpus[index]
    }

    fn space(&mut self, mm: MmId, now_ns: u64, born_here: bool) -> &mut Space<N> {
        Self::space_in(&mut self.spaces, mm, now_ns, born_here)
    }

    fn space_in(
        spaces: &mut HashMap<MmId, Space<N>, FixedState>,
        mm: MmId,
        now_ns: u64,
        born_here: bool,
    ) -> &mut Space<N> {
        spaces.entry(mm).or_insert_with(|| Space {
            generation: 0,
            masks: Default::default(),
            born_here,
            may_trim_from_ns: now_ns + TRIM_PERIOD_NS,
            may_be_global: false,
        })
    }
}

/// Whether a space is active on enough CPUs for a global PCID, if a flush that finds these sends interrupts.
pub(crate) fn may_be_given_a_global_pcid<N: HowMany>(reach: &Reach<N>) -> bool {
    reach.running.len() + 1 >= GLOBAL_FROM_CPUS
}

impl<N: HowMany> Space<N> {
    /// See [`Machine::reaches`].
    fn reaches(
        &self,
        cpus: &[Cpu],
        (initiator, mm): (u16, MmId),
        trims: bool,
        seen_ns: u64,
    ) -> [Reach<N>; EACH_RULE.len()] {
        let under = |rule| self.reaches_under(rule, cpus, (initiator, mm), trims, seen_ns);
        // One by one: mapped, each would be a call.
        [under(MaskRule::Eager), under(MaskRule::Lasting)]
    }

    #[inline]
    fn reaches_under(
        &self,
        rule: MaskRule,
        cpus: &[Cpu],
        (initiator, mm): (u16, MmId),
        trims: bool,
        seen_ns: u64,
    ) -> Reach<N> {
        let mut reach = Reach::default();
        let mask = &self.masks[rule as usize];
        if mask.is_empty_without(initiator) {
            return reach;
        }
        let enters = |entered: Entered| entered.newly[rule as usize] && entered.time_ns > seen_ns;
        for number in mask.iter().filter(|cpu| *cpu != initiator) {
            let cpu = &cpus[usize::from(number)];
            match (cpu.loaded == Some(mm), cpu.lazy) {
                (true, _) if cpu.entered.is_some_and(enters) => {}
                (true, false) => reach.running.insert(number),
                (true, true) => reach.lazy.insert(number),
                (false, lazy) => {
                    reach.elsewhere.insert(number);
                    if trims && !lazy {
                        reach.trimmed.insert(number);
                    }
                }
            }
        }
        reach
    }
}
