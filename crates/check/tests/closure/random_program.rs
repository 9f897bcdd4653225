//! Random scripts, biased towards what goes wrong in kernels: unmaps, flushes, frees, and users of both.

use lazytlb::{Access, Cr3Load, Entry, FlushRange, FrameKind, PhysAddr, Spaces, Until, VirtAddr};
use lazytlb_model::{Call, LocalCell, Rmw};

use crate::script::{ACK, IDLE_ROOT, PAGES, RESTORE, ROOTS, Script, TABLES, WORD, map, unmap};

/// What a script is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flavour {
    /// Anything that changes what may be cached.
    Caching,
    /// The same, with private words and sections with interrupts off: much is local.
    Local,
}

/// A pseudo-random sequence: xorshift64*, seeded through one round of SplitMix64.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Random {
        let mixed = seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        Random((mixed ^ mixed >> 27) | 1)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % end
    }

    fn percent(&mut self, chance: u64) -> bool {
        self.below(100) < chance
    }

    fn among<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }
}

/// Where one address is mapped: through which entries.
#[derive(Clone, Copy)]
struct Place {
    addr: VirtAddr,
    root_index: u16,
    table_index: u16,
}

const PLACES: [Place; 3] = [
    Place {
        addr: VirtAddr(0),
        root_index: 0,
        table_index: 0,
    },
    Place {
        addr: VirtAddr(0x1000),
        root_index: 0,
        table_index: 1,
    },
    Place {
        addr: VirtAddr(0x20_0000),
        root_index: 1,
        table_index: 0,
    },
];

/// Makes the script of a seed.
pub(crate) fn random_script(seed: u64, flavour: Flavour) -> Script {
    let mut generator = Generator::new(seed, flavour);
    loop {
        let script = generator.script();
        if script.is_paired() {
            return script;
        }
    }
}

struct Generator {
    random: Random,
    flavour: Flavour,
    places: Vec<Place>,
    interrupt: Interrupt,
    /// The interrupted CPU keeps the initiator's promise.
    hands_over: bool,
}

/// Who interrupts whom. An interrupt orders two CPUs without draining a store buffer (H36).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Interrupt {
    Nobody,
    /// The initiator asks the other CPU to flush, and perhaps waits for its answer.
    Shootdown {
        waits: bool,
    },
    /// The initiator interrupts the other CPU at some time, and the handler uses the space.
    Disturbs,
    /// The initiator waits, somewhere, until the other CPU has interrupted it.
    Awaits,
    /// The other CPU interrupts itself.
    Itself,
}

impl Generator {
    fn new(seed: u64, flavour: Flavour) -> Generator {
        Generator {
            random: Random::new(seed),
            flavour,
            places: Vec::new(),
            interrupt: Interrupt::Nobody,
            hands_over: false,
        }
    }

    fn script(&mut self) -> Script {
        let second = self.random.among(&PLACES[1..]);
        self.places = vec![PLACES[0]];
        if self.random.percent(35) {
            self.places.push(second);
        }
        self.interrupt = match self.random.below(100) {
            0..35 => Interrupt::Shootdown { waits: true },
            35..50 => Interrupt::Shootdown { waits: false },
            50..62 => Interrupt::Disturbs,
            62..74 => Interrupt::Awaits,
            74..80 => Interrupt::Itself,
            _ => Interrupt::Nobody,
        };
        let mut initiator = self.mapping();
        initiator.extend(self.removal());
        let mut user = self.use_of_space();
        match self.interrupt {
            Interrupt::Disturbs => self.put(Call::SendIpi(0b10), &mut initiator),
            Interrupt::Awaits => {
                self.put(Call::PauseUntil(ACK, Until::AtLeast(1)), &mut initiator);
                self.put(Call::SendIpi(0b01), &mut user);
            }
            Interrupt::Itself => self.put(Call::SendIpi(0b10), &mut user),
            Interrupt::Shootdown { .. } | Interrupt::Nobody => {}
        }
        let mut handler = self.handler();
        for calls in [&mut initiator, &mut user] {
            self.mutate(calls);
        }
        if self.flavour == Flavour::Local {
            for calls in [&mut initiator, &mut user, &mut handler] {
                self.add_local(calls);
            }
        }
        Script {
            cpus: [initiator, user],
            handler,
        }
    }

    fn mapping(&mut self) -> Vec<Call> {
        let mut calls = Vec::new();
        if self.random.percent(40) {
            calls.push(load_cr3(ROOTS[0]));
        }
        calls.push(match self.random.percent(90) {
            true => map(ROOTS[0], 0, TABLES[0]),
            false => Call::WriteEntry(ROOTS[0], 0, Entry::read_only(TABLES[0])),
        });
        let leaf = match self.random.percent(80) {
            true => Entry::to(PAGES[0]),
            false => Entry::read_only(PAGES[0]),
        };
        calls.push(Call::WriteEntry(TABLES[0], 0, leaf));
        if let Some(&second) = self.places.get(1) {
            match second.table_index {
                0 => calls.push(map(ROOTS[0], second.root_index, TABLES[0])),
                index => calls.push(map(TABLES[0], index, self.random.among(&PAGES))),
            }
        }
        if self.random.percent(15) {
            calls.push(map(ROOTS[1], 0, self.random.among(&TABLES)));
        }
        calls
    }

    /// Changes an entry, flushes somehow, and perhaps frees what was mapped.
    fn removal(&mut self) -> Vec<Call> {
        let place = self.random.among(&self.places.clone());
        let (root, table) = ((ROOTS[0], place.root_index), (TABLES[0], place.table_index));
        let ((changed, index), freed, others) = match self.random.percent(50) {
            true => (root, TABLES[0], TABLES[1]),
            false => (table, PAGES[0], PAGES[1]),
        };
        let change = match self.random.below(10) {
            0 => Call::WriteEntry(changed, index, Entry::read_only(freed)),
            1 | 2 => map(changed, index, others),
            _ => unmap(changed, index),
        };
        let range = self
            .random
            .among(&[FlushRange::All, FlushRange::page(place.addr)]);
        let mut calls = vec![change, Call::FlushBegins(ROOTS[0], range)];
        match self.random.below(10) {
            0..6 => calls.push(Call::Invlpg(place.addr)),
            6 | 7 => calls.push(load_cr3(
                self.random.among(&[ROOTS[0], ROOTS[1], IDLE_ROOT]),
            )),
            8 => calls.push(Call::Fence),
            _ => {}
        }
        if let Interrupt::Shootdown { waits } = self.interrupt {
            calls.push(Call::SendIpi(0b10));
            if waits {
                calls.push(Call::PauseUntil(ACK, Until::AtLeast(1)));
            }
        }
        if self.random.percent(12) {
            calls.push(map(changed, index, freed));
        }
        self.promise_otherwise(&mut calls);
        if self.random.percent(12) {
            calls.push(map(TABLES[0], 0, PAGES[1]));
        } else if self.random.percent(60) {
            calls.push(Call::FreeFrame(freed));
            if self.random.percent(20) {
                let kind = self.random.among(&[FrameKind::Table, FrameKind::Page]);
                calls.push(Call::AllocFrame(kind));
            }
        }
        calls
    }

    /// Ends the flush that has begun: mostly as one that its space's root names; or as a promise of several spaces,
    /// as one of two, or as one that the other CPU keeps.
    fn promise_otherwise(&mut self, calls: &mut Vec<Call>) {
        let begin = calls
            .iter()
            .position(|call| matches!(call, Call::FlushBegins(..)));
        let begin = begin.expect("it has begun");
        let Call::FlushBegins(root, range) = calls[begin] else {
            unreachable!("it was found so")
        };
        let spaces = self.random.among(&[
            Spaces::one(root),
            Spaces::Roots([Some(ROOTS[0]), Some(ROOTS[1]), None, None]),
            Spaces::one(ROOTS[1]),
            Spaces::All,
        ]);
        let shoots = matches!(self.interrupt, Interrupt::Shootdown { .. });
        self.hands_over = false;
        match self.random.below(10) {
            0 => {
                calls[begin] = Call::PromiseBegins(spaces, range);
                calls.push(Call::PromiseKept(1));
            }
            1 | 2 => {
                let ranges = [
                    FlushRange::All,
                    FlushRange::page(self.random.among(&PLACES).addr),
                ];
                let other = Call::PromiseBegins(spaces, self.random.among(&ranges));
                let at = begin + self.random.below((calls.len() - begin) as u64 + 1) as usize;
                calls.insert(at, other);
                let numbered = if at > begin { 2 } else { 1 };
                let kept = [Call::FlushReturned(root), Call::PromiseKept(numbered)];
                calls.extend(kept);
                if self.random.percent(50) {
                    let len = calls.len();
                    calls.swap(len - 1, len - 2);
                }
            }
            3 if shoots => {
                calls[begin] = Call::PromiseBegins(spaces, range);
                self.hands_over = true;
            }
            _ => calls.push(Call::FlushReturned(ROOTS[0])),
        }
    }

    fn use_of_space(&mut self) -> Vec<Call> {
        let mut calls = Vec::new();
        if self.random.percent(90) {
            calls.push(load_cr3(ROOTS[0]));
        }
        let off = self.random.percent(15);
        if off {
            calls.push(Call::DisableInterrupts);
        }
        for _ in 0..1 + self.random.below(3) {
            let call = self.user_call();
            calls.push(call);
        }
        if off {
            let after_begin = calls.len() as u64 - u64::from(calls[0] != Call::DisableInterrupts);
            let at = calls.len() - self.random.below(after_begin.max(1)) as usize;
            calls.insert(at, RESTORE);
        }
        calls
    }

    fn user_call(&mut self) -> Call {
        let place = self.random.among(&self.places.clone());
        match self.random.below(20) {
            0..6 => Call::Touch(place.addr, Access::Load),
            6..11 => Call::Touch(place.addr, Access::Store),
            11..13 => Call::Invlpg(place.addr),
            13..16 => load_cr3(self.random.among(&[IDLE_ROOT, ROOTS[0], ROOTS[1]])),
            16 => map(ROOTS[1], 0, TABLES[1]),
            17 => map(TABLES[1], 0, self.random.among(&PAGES)),
            18 => Call::Fence,
            _ => Call::Rmw(ACK, Rmw::Add, 1),
        }
    }

    fn handler(&mut self) -> Vec<Call> {
        let mut calls = Vec::new();
        if self.interrupt == Interrupt::Nobody {
            return calls;
        }
        match self.random.below(20) {
            0..9 => calls.push(Call::Invlpg(self.random.among(&self.places.clone()).addr)),
            9..14 => calls.push(load_cr3(ROOTS[0])),
            14..17 => calls.push(load_cr3(IDLE_ROOT)),
            _ => {}
        }
        match self.interrupt {
            Interrupt::Disturbs => {
                let access = self.random.among(&[Access::Load, Access::Store]);
                calls.push(Call::Touch(PLACES[0].addr, access));
            }
            Interrupt::Itself => calls.push(Call::FreeFrame(self.random.among(&PAGES))),
            _ => calls.push(match self.random.percent(50) {
                true => Call::Store(ACK, 1),
                false => Call::Rmw(ACK, Rmw::Add, 1),
            }),
        }
        if self.hands_over {
            calls.insert(calls.len() - 1, Call::PromiseKept(1));
        }
        if self.random.percent(10) {
            calls.reverse();
        }
        calls
    }

    fn put(&mut self, call: Call, calls: &mut Vec<Call>) {
        let at = self.random.below(calls.len() as u64 + 1) as usize;
        calls.insert(at, call);
    }

    /// Drops, adds and swaps calls, so that not only well-meant programs occur.
    fn mutate(&mut self, calls: &mut Vec<Call>) {
        if self.random.percent(20) {
            let at = self.random.below(calls.len() as u64) as usize;
            let keeps_pairs = !matches!(
                calls[at],
                Call::FlushBegins(..)
                    | Call::FlushReturned(_)
                    | Call::PromiseBegins(..)
                    | Call::PromiseKept(_)
                    | Call::DisableInterrupts
                    | Call::RestoreInterrupts(_)
            );
            if keeps_pairs && calls.len() > 1 {
                calls.remove(at);
            }
        }
        if self.random.percent(20) {
            let call = self.user_call();
            self.put(call, calls);
        }
        if self.random.percent(15) && calls.len() > 1 {
            let at = self.random.below(calls.len() as u64 - 1) as usize;
            calls.swap(at, at + 1);
        }
    }

    /// Adds accesses to private words and to a shared one, and sections with interrupts off around some.
    fn add_local(&mut self, calls: &mut Vec<Call>) {
        for _ in 0..2 + self.random.below(3) {
            let call = self.local_call();
            self.put(call, calls);
        }
        let waits = calls
            .iter()
            .any(|call| matches!(call, Call::PauseUntil(..)));
        if !waits && !calls.contains(&RESTORE) && self.random.percent(70) {
            let begin = self.random.below(calls.len() as u64) as usize;
            let end = begin + 1 + self.random.below((calls.len() - begin) as u64) as usize;
            calls.insert(end, RESTORE);
            calls.insert(begin, Call::DisableInterrupts);
        }
    }

    fn local_call(&mut self) -> Call {
        let cell = LocalCell { owner: 0, index: 0 };
        match self.random.below(12) {
            0..3 => Call::StoreLocal(cell, self.random.below(3)),
            3..6 => Call::LoadLocal(cell),
            6..8 => Call::Load(WORD),
            8 => Call::Rmw(WORD, Rmw::And, 0),
            9 => Call::PauseUntil(WORD, Until::Zero),
            10 => Call::Fence,
            _ => Call::Store(WORD, self.random.below(2)),
        }
    }
}

fn load_cr3(root: PhysAddr) -> Call {
    Call::LoadCr3(root, Cr3Load::Flush)
}
