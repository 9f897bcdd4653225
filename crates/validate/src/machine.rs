//! The recorded kernel's machine: what each CPU has loaded, and who would be interrupted.
//!
//! Open loop: it is told what was asked (switches, lazy mode, flushes) and never what the recorded kernel did about
//! it. Numbers of generations are its own; only their order means something.

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use lazytlb_trace::{InitialState, Laziness, MmId, Tables};

use crate::cpu_set::CpuSet;
use crate::rule::{EACH_RULE, MaskRule, TRIM_PERIOD_NS};

/// Linux `TLB_NR_DYN_ASIDS`.
const SLOTS: usize = 6;

/// What the CPUs have loaded, and which spaces there are.
#[derive(Default)]
pub(crate) struct Machine {
    cpus: Vec<Cpu>,
    spaces: HashMap<MmId, Space, FixedState>,
}

/// One CPU: Linux `cpu_tlbstate`.
#[derive(Clone, Default)]
struct Cpu {
    /// Not known before the CPU's first operation.
    loaded: Option<MmId>,
    lazy: bool,
    slots: [Slot; SLOTS],
    current: usize,
    next: usize,
    /// Slots that were filled since the recording began.
    filled: usize,
}

#[derive(Clone, Copy, Default)]
struct Slot {
    mm: Option<MmId>,
    /// What it was flushed to, if that is known.
    generation: Option<u64>,
}

struct Space {
    generation: u64,
    masks: [CpuSet; EACH_RULE.len()],
    /// Whether it was made within the recording: then no CPU had it before.
    born_here: bool,
    may_trim_from_ns: u64,
}

/// What a switch did to CR3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// CR3 was not written.
    None,
    /// It was written, and what was cached is kept.
    Keep,
    /// It was written, and what was cached is flushed.
    Flush,
}

/// What a switch should do, without PCIDs and with them; `None` while a CPU's past is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Switched {
    pub(crate) without_pcids: Option<Outcome>,
    pub(crate) with_pcids: Option<Outcome>,
}

impl Switched {
    pub(crate) const UNKNOWN: Switched = Switched {
        without_pcids: None,
        with_pcids: None,
    };
    pub(crate) const FLUSHES: Switched = Switched::either(Outcome::Flush);
    pub(crate) const NOTHING: Switched = Switched::either(Outcome::None);

    const fn either(outcome: Outcome) -> Switched {
        Switched {
            without_pcids: Some(outcome),
            with_pcids: Some(outcome),
        }
    }
}

/// Which CPUs a flush finds in the cpumask, other than its own.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reach {
    /// They run in the space.
    pub(crate) running: CpuSet,
    /// They hold it lazily: interrupted only if tables are freed.
    pub(crate) lazy: CpuSet,
    /// They have another space: interrupted if tables are freed, or the mask is trimmed and they are not lazy.
    pub(crate) elsewhere: CpuSet,
    /// Those of them that are interrupted because the mask is trimmed.
    pub(crate) trimmed: CpuSet,
}

impl Reach {
    /// Returns whether it finds none.
    pub(crate) fn is_empty(&self) -> bool {
        self.running.is_empty() && self.lazy.is_empty() && self.elsewhere.is_empty()
    }

    /// Returns all of them.
    pub(crate) fn all(&self) -> CpuSet {
        let mut all = self.running.clone();
        all.extend(&self.lazy);
        all.extend(&self.elsewhere);
        all
    }

    /// Returns those that are interrupted.
    pub(crate) fn targets(&self, tables: Tables) -> CpuSet {
        let mut targets = self.running.clone();
        match tables {
            Tables::Freed => {
                targets.extend(&self.lazy);
                targets.extend(&self.elsewhere);
            }
            Tables::Kept | Tables::Unknown => targets.extend(&self.trimmed),
        }
        targets
    }
}

/// What an interrupted CPU does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Served {
    /// It has another space, or is up to date.
    Nothing,
    /// It flushes.
    Flushed,
    /// It was lazy, and leaves for `init_mm`.
    Left,
}

/// What a flush does on its own CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Local {
    /// The space is not loaded, or the CPU is lazy and not reached.
    Nothing,
    /// The space is loaded and used.
    Flushes,
    /// The CPU was lazy, and leaves for `init_mm`.
    Leaves,
}

/// What a flush should do.
#[derive(Clone, Debug)]
pub(crate) struct Flushed {
    /// By rule, as [`EACH_RULE`].
    pub(crate) reach: [Reach; EACH_RULE.len()],
    pub(crate) local: Local,
    /// The mask may be trimmed.
    pub(crate) trims: bool,
    /// The CPU's own state was known.
    pub(crate) known: bool,
}

impl Machine {
    /// Returns the space that a CPU should have loaded.
    pub(crate) fn loaded(&self, cpu: u16) -> Option<MmId> {
        self.cpus.get(usize::from(cpu))?.loaded
    }

    /// Returns whether a CPU should be in lazy mode.
    pub(crate) fn is_lazy(&self, cpu: u16) -> bool {
        self.cpus.get(usize::from(cpu)).is_some_and(|cpu| cpu.lazy)
    }

    /// Takes in what a CPU had loaded before its first operation.
    pub(crate) fn begin(&mut self, cpu: u16, state: InitialState, now_ns: u64) {
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
        let generation = (!lazy).then_some(space.generation);
        let cpu = self.cpu(cpu);
        cpu.loaded = Some(mm);
        cpu.lazy = lazy;
        cpu.slots[0] = Slot {
            mm: Some(mm),
            generation,
        };
        (cpu.current, cpu.next, cpu.filled) = (0, 1, 1);
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
    pub(crate) fn switch(&mut self, cpu: u16, mm: MmId, now_ns: u64) -> Switched {
        self.space(mm, now_ns, false);
        self.cpu(cpu);
        self.load(cpu, mm)
    }

    /// Linux `enter_lazy_tlb`.
    pub(crate) fn go_lazy(&mut self, cpu: u16) {
        let cpu = self.cpu(cpu);
        cpu.lazy = cpu.loaded != Some(MmId::INIT);
    }

    /// A lazy CPU loads `init_mm`.
    pub(crate) fn leave(&mut self, cpu: u16, now_ns: u64) -> Switched {
        self.space(MmId::INIT, now_ns, false);
        self.load(cpu, MmId::INIT)
    }

    fn load(&mut self, number: u16, mm: MmId) -> Switched {
        let index = usize::from(number);
        let space = &self.spaces[&mm];
        let (generation, born_here) = (space.generation, space.born_here);
        let cpu = &mut self.cpus[index];
        let (before, was_lazy) = (cpu.loaded, std::mem::take(&mut cpu.lazy));
        if before == Some(mm) {
            let slot = &mut cpu.slots[cpu.current];
            let seen = slot.generation.replace(generation);
            return match (was_lazy, seen) {
                (false, _) => Switched::NOTHING,
                (true, Some(seen)) if seen == generation => Switched::NOTHING,
                (true, Some(_)) => Switched::either(Outcome::Flush),
                (true, None) => Switched::UNKNOWN,
            };
        }
        let with_pcids = cpu.choose_slot(mm, generation, born_here);
        cpu.loaded = Some(mm);
        if let Some(before) = before.and_then(|before| self.spaces.get_mut(&before)) {
            before.masks[MaskRule::Eager as usize].remove(number);
        }
        if let Some(space) = self.spaces.get_mut(&mm).filter(|_| mm != MmId::INIT) {
            for mask in &mut space.masks {
                mask.insert(number);
            }
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
    pub(crate) fn flush(&mut self, number: u16, mm: MmId, tables: Tables, now_ns: u64) -> Flushed {
        self.cpu(number);
        let space = self.space(mm, now_ns, false);
        space.generation += 1;
        let trims = now_ns > space.may_trim_from_ns;
        let reach = self.reaches(number, mm, trims);
        let has_company = EACH_RULE.map(|rule| !reach[rule as usize].is_empty());
        let cpu = &self.cpus[usize::from(number)];
        let loaded = cpu.loaded == Some(mm);
        let local = match (loaded, cpu.lazy) {
            (false, _) => Local::Nothing,
            (true, false) => Local::Flushes,
            // In company, the lazy initiator is left out as any lazy CPU.
            (true, true) if has_company[0] && tables != Tables::Freed => Local::Nothing,
            (true, true) => Local::Leaves,
        };
        let known = cpu.loaded.is_some();
        if trims && has_company[MaskRule::Lasting as usize] {
            self.space(mm, now_ns, false).may_trim_from_ns = now_ns + TRIM_PERIOD_NS;
        }
        match local {
            Local::Nothing if tables == Tables::Freed && !loaded => {
                self.arrive(number, mm, now_ns);
            }
            Local::Nothing => {}
            Local::Flushes => {
                self.arrive(number, mm, now_ns);
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
        }
    }

    /// Returns whom a flush would interrupt at this moment, by rule.
    pub(crate) fn reaches(
        &self,
        initiator: u16,
        mm: MmId,
        trims: bool,
    ) -> [Reach; EACH_RULE.len()] {
        let Some(space) = self.spaces.get(&mm) else {
            return Default::default();
        };
        EACH_RULE.map(|rule| self.reach(initiator, mm, &space.masks[rule as usize], trims))
    }

    fn reach(&self, initiator: u16, mm: MmId, mask: &CpuSet, trims: bool) -> Reach {
        let mut reach = Reach::default();
        for number in mask.iter().filter(|cpu| *cpu != initiator) {
            let cpu = &self.cpus[usize::from(number)];
            match (cpu.loaded == Some(mm), cpu.lazy) {
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
        let slot = &mut cpu.slots[cpu.current];
        match slot.generation.replace(space.generation) {
            Some(seen) if seen == space.generation => Served::Nothing,
            _ => Served::Flushed,
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

    fn space(&mut self, mm: MmId, now_ns: u64, born_here: bool) -> &mut Space {
        self.spaces.entry(mm).or_insert_with(|| Space {
            generation: 0,
            masks: Default::default(),
            born_here,
            may_trim_from_ns: now_ns + TRIM_PERIOD_NS,
        })
    }
}

impl Cpu {
    /// Linux `choose_new_asid`.
    fn choose_slot(&mut self, mm: MmId, generation: u64, born_here: bool) -> Option<Outcome> {
        let found = self.slots.iter().position(|slot| slot.mm == Some(mm));
        if let Some(found) = found {
            self.current = found;
            let seen = self.slots[found].generation.replace(generation);
            return seen.map(|seen| match seen == generation {
                true => Outcome::Keep,
                false => Outcome::Flush,
            });
        }
        // Until all slots were filled here, the space may be in one that was filled before.
        let known = born_here || self.filled >= SLOTS;
        let slot = self.next % SLOTS;
        self.next = slot + 1;
        self.filled += 1;
        self.current = slot;
        self.slots[slot] = Slot {
            mm: Some(mm),
            generation: Some(generation),
        };
        known.then_some(Outcome::Flush)
    }
}
