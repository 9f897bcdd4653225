//! Random scripts: one or two families of the machine's features at a time, so that they stay small.
//!
//! | file | what |
//! | --- | --- |
//! | `machine` | the machine that a script runs on |
//! | `accesses` | accesses to data, and to cells |
//! | `shapes` | sequences of calls that single draws would hardly make |

use lazytlb::{Cr3Load, Entry, PhysAddr, VirtAddr};
use lazytlb_model::entry::bits;
use lazytlb_model::{Broadcast, Call, Cr4, Features, Invpcid, MemoryType, Property, Rmw};

mod accesses;
mod machine;
mod shapes;

use crate::random::Random;
use crate::script::{DEVICE, PAGES, ROOTS, Script, TABLES};
use crate::setting::Setting;

/// What a script is about.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Family {
    Tags,
    LargePages,
    AccessedDirty,
    WriteCombining,
    Broadcast,
    Permissions,
    Nmi,
    /// Instruction fetches, after stores that they may miss (H40).
    Fetches,
    /// Tables that are changed, then hooked in (H25).
    Hooks,
    /// Spaces that are left by CR3 loads with bit 63 set, and come back to (H12a).
    KeepLoads,
    /// Stores to some bytes of entries.
    Parts,
}

impl Family {
    pub(crate) const ALL: [Family; 11] = [
        Family::Tags,
        Family::LargePages,
        Family::AccessedDirty,
        Family::WriteCombining,
        Family::Broadcast,
        Family::Permissions,
        Family::Nmi,
        Family::Fetches,
        Family::Hooks,
        Family::KeepLoads,
        Family::Parts,
    ];
}

/// A script, and what it is about.
pub(crate) struct Drawn {
    pub(crate) script: Script,
    pub(crate) families: Vec<Family>,
}

/// Makes the script of a seed.
pub(crate) fn random_script(seed: u64) -> Drawn {
    Generator::new(seed).script()
}

/// A page-table entry that scripts change.
#[derive(Clone, Copy)]
struct Slot {
    table: PhysAddr,
    index: u16,
    level: u8,
    /// The table that it leads to, if it does.
    below: PhysAddr,
}

struct Generator {
    random: Random,
    families: Vec<Family>,
    setting: Setting,
    features: Features,
    cr4: Cr4,
    slots: Vec<Slot>,
    addrs: Vec<VirtAddr>,
    interrupts: bool,
}

/// What a CPU mostly does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    /// It changes page tables, and invalidates.
    Changes,
    /// It uses them.
    Uses,
}

impl Generator {
    fn new(seed: u64) -> Generator {
        let mut random = Random::new(seed);
        let mut families = vec![random.among(&Family::ALL)];
        if random.percent(50) {
            families.push(random.among(&Family::ALL));
        }
        families.sort_unstable();
        families.dedup();
        let setting = machine::draw_setting(&mut random, &families);
        let is = |family| families.contains(&family);
        let keeps = is(Family::KeepLoads);
        let tags = is(Family::Tags) || keeps || is(Family::Broadcast) && random.percent(40);
        let features = Features {
            levels: if random.percent(80) { 2 } else { 3 },
            tags: tags || is(Family::Permissions) && random.percent(40),
            accessed_dirty: is(Family::AccessedDirty),
            write_combining: match is(Family::WriteCombining) {
                true => 1 + u8::from(random.percent(60)),
                false => 0,
            },
            broadcasts: is(Family::Broadcast),
            nmis: is(Family::Nmi),
            provenance: is(Family::AccessedDirty) || random.percent(50),
            partial_entry_stores: is(Family::Parts),
            ..Features::small()
        };
        let pcids = setting.cpu_model.pcids && (keeps || random.percent(65));
        let cr4 = Cr4::default()
            .with(Cr4::PGE, random.percent(60))
            .with(Cr4::PCIDE, pcids)
            .with(Cr4::SMEP, is(Family::Permissions) && random.percent(40));
        let mut generator = Generator {
            interrupts: random.percent(25),
            random,
            families,
            setting,
            cr4: if features.tags { cr4 } else { Cr4::default() },
            features,
            slots: Vec::new(),
            addrs: vec![VirtAddr(0)],
        };
        generator.draw_slots();
        generator
    }

    fn is(&self, family: Family) -> bool {
        self.families.contains(&family)
    }

    /// Draws which entries there are, and which addresses are used.
    fn draw_slots(&mut self) {
        let [first, second] = TABLES;
        let slot = |table, index, level, below| Slot {
            table,
            index,
            level,
            below,
        };
        let two_spaces =
            self.is(Family::Tags) || self.is(Family::KeepLoads) || self.random.percent(15);
        if self.features.levels == 2 {
            self.slots.push(slot(ROOTS[0], 0, 2, first));
            self.slots.push(slot(first, 0, 1, PAGES[0]));
            let shares = self.random.percent(30);
            if two_spaces {
                let below = if shares { first } else { second };
                self.slots.push(slot(ROOTS[1], 0, 2, below));
            }
            if two_spaces && !shares || self.random.percent(10) {
                self.slots.push(slot(second, 0, 1, PAGES[0]));
            }
        } else {
            self.slots.push(slot(ROOTS[0], 0, 3, first));
            self.slots.push(slot(first, 0, 2, second));
            self.slots.push(slot(second, 0, 1, PAGES[0]));
            if two_spaces {
                self.slots.push(slot(ROOTS[1], 0, 3, first));
            }
        }
        if self.random.percent(25) {
            let last = if self.features.levels == 2 {
                first
            } else {
                second
            };
            self.slots.push(slot(last, 1, 1, PAGES[0]));
            self.addrs.push(VirtAddr(0x1000));
        } else if self.is(Family::LargePages) && self.random.percent(40) {
            self.addrs.push(VirtAddr(0x1000));
        }
    }

    fn script(mut self) -> Drawn {
        let slots = self.slots.clone().into_iter();
        let mut first_entries: Vec<(PhysAddr, u16, Entry)> = slots
            .map(|slot| (slot.table, slot.index, self.entry(slot, 10)))
            .collect();
        let hooked = self.unhook_at_first(&mut first_entries);
        let roles = match self.random.below(10) {
            0..6 => [Role::Changes, Role::Uses],
            6..9 => [Role::Changes, Role::Changes],
            _ => [Role::Uses, Role::Uses],
        };
        let mut cpus = roles.map(|role| {
            let len = 2 + self.random.below(3);
            let mut calls: Vec<Call> = (0..len).map(|_| self.call(role)).collect();
            if role == Role::Uses {
                calls.push(self.access());
                calls.remove(0);
            }
            calls
        });
        self.put_shapes(&mut cpus, hooked);
        let mut script = Script {
            setting: self.setting,
            features: self.features,
            cr4: self.cr4,
            ignored: Vec::new(),
            first_entries,
            cpus,
            handler: Vec::new(),
            nmi: Vec::new(),
        };
        if self.interrupts {
            self.add_sender(&mut script, Call::SendIpi);
            script.handler = self.handler();
        }
        if self.is(Family::Nmi) {
            self.add_sender(&mut script, Call::SendNmi);
            script.nmi = self.handler();
        }
        for property in [Property::StaleSpeculation, Property::ForeignTranslation] {
            if self.random.percent(50) {
                script.ignored.push(property);
            }
        }
        Drawn {
            script,
            families: self.families,
        }
    }

    fn add_sender(&mut self, script: &mut Script, send: fn(u64) -> Call) {
        let cpu = self.random.below(2) as usize;
        let calls = &mut script.cpus[cpu];
        let at = self.random.below(calls.len() as u64 + 1) as usize;
        let to_itself = self.random.percent(25);
        let target = if to_itself { cpu } else { 1 - cpu };
        let call = send(1 << target);
        if calls.len() < 4 {
            calls.insert(at, call);
        } else {
            let last = calls.len() - 1;
            calls[at.min(last)] = call;
        }
    }

    fn handler(&mut self) -> Vec<Call> {
        let len = 1 + self.random.below(2);
        let roles = [Role::Changes, Role::Uses];
        (0..len)
            .map(|_| {
                let role = self.random.among(&roles);
                match self.random.below(5) {
                    0 | 1 => self.invalidation(),
                    2 => self.access(),
                    _ => self.call(role),
                }
            })
            .collect()
    }

    fn call(&mut self, role: Role) -> Call {
        let (changes, invalidates, accesses) = match role {
            Role::Changes => (35, 25, 28),
            Role::Uses => (8, 22, 50),
        };
        let at = self.random.below(100);
        if at < changes {
            self.change()
        } else if at < changes + invalidates {
            self.invalidation()
        } else if at < changes + invalidates + accesses {
            self.access()
        } else {
            self.other()
        }
    }

    /// Draws an entry for a slot.
    fn entry(&mut self, slot: Slot, absent: u64) -> Entry {
        if self.random.percent(absent) {
            // Where some bytes are stored alone, each entry names a frame, so that all that bytes come to does.
            return match self.is(Family::Parts) && slot.level == 1 {
                true => Entry(self.entry(slot, 0).0 & !bits::PRESENT),
                false => Entry::ABSENT,
            };
        }
        let has_large = self.is(Family::LargePages) && slot.level > 1;
        let is_large = has_large && self.random.percent(45);
        let is_page = slot.level == 1 || is_large;
        let frame = if is_page { self.page() } else { slot.below };
        let mut entry = frame.0 | bits::PRESENT;
        entry |= self.random.bits(80, bits::WRITABLE);
        entry |= match self.is(Family::Permissions) {
            true => self.random.bits(60, bits::USER) | self.random.bits(30, bits::NO_EXECUTE),
            false => bits::USER,
        };
        if self.is(Family::Fetches) {
            entry |= self.random.bits(20, bits::NO_EXECUTE);
        }
        if self.features.accessed_dirty {
            entry |= self.random.bits(40, bits::ACCESSED);
            entry |= self.random.bits(if is_page { 35 } else { 0 }, bits::DIRTY);
        }
        if is_page {
            entry |= if is_large { bits::LARGE } else { 0 };
            entry |= match self.features.tags {
                true => self.random.bits(35, bits::GLOBAL),
                false => 0,
            };
            if self.is(Family::WriteCombining) {
                let (wb, wc, uc) = (
                    MemoryType::WriteBack,
                    MemoryType::WriteCombining,
                    MemoryType::Uncached,
                );
                entry |= self.random.among(&[wb, wb, wc, wc, uc]).bits();
            }
        }
        Entry(entry)
    }

    fn page(&mut self) -> PhysAddr {
        match self.is(Family::WriteCombining) && self.random.percent(35) {
            true => DEVICE,
            false => self.random.among(&PAGES),
        }
    }

    /// A call that changes a page-table entry, or reads one.
    fn change(&mut self) -> Call {
        let slot = self.random.among(&self.slots.clone());
        let new = self.entry(slot, 30);
        if self.is(Family::Parts) && slot.level == 1 && self.random.percent(55) {
            return self.change_of_part(slot, new);
        }
        match self.random.below(20) {
            0..14 => Call::WriteEntry(slot.table, slot.index, new),
            14 | 15 => Call::ReadEntry(slot.table, slot.index),
            16 | 17 => Call::RmwEntry(slot.table, slot.index, Rmw::Swap, new.0),
            _ => {
                let marks = [bits::ACCESSED, bits::DIRTY, bits::ACCESSED | bits::DIRTY];
                let others = [bits::WRITABLE, bits::PRESENT, bits::USER];
                let cleared = match self.features.accessed_dirty {
                    true => self.random.among(&marks),
                    false => self.random.among(&others),
                };
                Call::RmwEntry(slot.table, slot.index, Rmw::And, !cleared)
            }
        }
    }

    /// A call that changes some bytes of an entry. Where A and D are tracked, theirs is among them, unless the
    /// instruction is locked.
    fn change_of_part(&mut self, slot: Slot, new: Entry) -> Call {
        let Slot { table, index, .. } = slot;
        let is_locked = self.random.percent(25);
        let all = [0b1, 0b1, 0b11, 0b1111, 0b10, 0xf0];
        let masks = match (self.features.accessed_dirty, is_locked) {
            (true, false) => &all[..4],
            // An answer with an A bit is to be told from a word by its size.
            (true, true) => &all[2..],
            (false, _) => &all[..],
        };
        let bytes = self.random.among(masks);
        let in_place = (0..8u32)
            .filter(|byte| bytes >> byte & 1 != 0)
            .fold(0, |place, byte| place | 0xff_u64 << (8 * byte));
        let value = new.0 & in_place;
        match is_locked {
            false => Call::WriteEntryBytes {
                table,
                index,
                bytes,
                value,
            },
            true => Call::RmwEntryBytes {
                table,
                index,
                bytes,
                rmw: Rmw::Swap,
                operand: value >> (8 * u32::from(bytes).trailing_zeros()),
            },
        }
    }

    fn invalidation(&mut self) -> Call {
        let addr = self.random.among(&self.addrs.clone());
        let most = if self.features.tags { 11 } else { 5 };
        if self.features.broadcasts && self.random.percent(55) {
            return match self.random.percent(35) {
                true => Call::Tlbsync,
                false => Call::Invlpgb(Broadcast {
                    addr: self.random.percent(60).then_some(addr),
                    pcid: self.random.percent(40).then(|| self.random.below(2) as u16),
                    globals: self.random.percent(50),
                    final_only: self.random.percent(30),
                }),
            };
        }
        match self.random.below(most) {
            0..3 => Call::Invlpg(addr),
            3..7 => self.cr3_load(),
            7 | 8 => Call::WriteCr4(self.new_cr4()),
            _ if !self.setting.cpu_model.invpcid && self.random.percent(80) => Call::Invlpg(addr),
            _ => {
                let pcid = match self.cr4.has(Cr4::PCIDE) || self.random.percent(20) {
                    true => self.random.below(3) as u16,
                    false => 0,
                };
                Call::Invpcid(match self.random.below(4) {
                    0 => Invpcid::Address(pcid, addr),
                    1 => Invpcid::Pcid(pcid),
                    2 => Invpcid::AllWithGlobals,
                    _ => Invpcid::AllNonGlobal,
                })
            }
        }
    }

    fn cr3_load(&mut self) -> Call {
        let has_second = self.slots.iter().any(|slot| slot.table == ROOTS[1]);
        let root = ROOTS[usize::from(has_second && self.random.percent(60))];
        let has_pcids = self.cr4.has(Cr4::PCIDE);
        let low = match self.features.tags && (has_pcids || self.random.percent(20)) {
            true => self.random.below(3),
            false => 0,
        };
        let often = if self.is(Family::KeepLoads) { 75 } else { 50 };
        let keeps = self.features.tags && self.random.percent(if has_pcids { often } else { 8 });
        let load = if keeps { Cr3Load::Keep } else { Cr3Load::Flush };
        Call::LoadCr3(PhysAddr(root.0 | low), load)
    }

    fn new_cr4(&mut self) -> Cr4 {
        let bit = self
            .random
            .among(&[Cr4::PGE, Cr4::PCIDE, Cr4::SMEP, Cr4::PGE]);
        let exists = bit != Cr4::PCIDE || self.setting.cpu_model.pcids || self.random.percent(20);
        let bit = if exists { bit } else { Cr4::PGE };
        self.cr4.with(bit, !self.cr4.has(bit))
    }
}
