//! A state of the naive machine: explicit entries, buffers and bits.

use lazytlb_model::{Cr4, MemoryType, Privilege, Rmw};

use crate::script::{ANSWERS, FIRST_WORDS, WORDS};

/// The most page-table entries that a script has.
pub(crate) const PLACES: usize = 10;
/// The most stores that a store buffer, and a CPU's write-combining buffers, hold.
pub(super) const SLOTS: usize = 2;

/// A state of the machine and of all CPUs' programs.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct State {
    pub(super) words: [u64; WORDS],
    pub(super) tables: [u64; PLACES],
    pub(super) cpus: [Cpu; 2],
}

/// One CPU.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Cpu {
    pub(super) position: u8,
    pub(super) in_handler: Option<u8>,
    pub(super) in_nmi: Option<u8>,
    pub(super) pending: bool,
    pub(super) nmi_pending: bool,
    pub(super) root: u8,
    /// CR3[11:0].
    pub(super) cr3_low: u16,
    pub(super) cr4: Cr4,
    /// What is in the TLB and in the paging-structure caches: bits that number entries.
    pub(super) cached: u64,
    /// What walks in flight hold (H12a): upper entries, or the root, if nothing was read yet; and pages of PCIDs that were left, which are accessed yet.
    pub(super) flying: u64,
    /// What page-table entries held in memory since this CPU's last serializing instruction, and hold no
    /// more (H40): bits that number places with values.
    pub(super) former: u64,
    /// Broadcast invalidations on their way to this CPU: bits that number requests.
    pub(super) requests: u16,
    /// The store buffer, the oldest first.
    pub(super) buffer: [Option<Buffered>; SLOTS],
    /// The write-combining buffers, and what has left them for a device, the oldest first.
    pub(super) combining: [Option<Combining>; SLOTS],
    /// Entries, a bit each by their places, that get A from an access of this CPU which is done (H41).
    pub(super) owes_accessed: u16,
    /// Likewise those that get D.
    pub(super) owes_dirty: u16,
    pub(super) answers: [u64; ANSWERS],
}

/// An entry that is in a TLB (level 0), or in a paging-structure cache.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Cached {
    /// The level of the table that the entry leads to; 0 for a page.
    pub(super) level: u8,
    /// The level of the table that it was read in.
    pub(super) read_in: u8,
    pub(super) start: u64,
    /// The pieces of 4 KiB of a large page that are gone, of those that a script can access (H6).
    pub(super) gone: [bool; PIECES],
    pub(super) frame: u8,
    pub(super) writable: bool,
    pub(super) user: bool,
    pub(super) executable: bool,
    pub(super) dirty: bool,
    pub(super) global: bool,
    pub(super) memory_type: MemoryType,
    pub(super) pcid: u16,
    /// The root of the space that it was walked in.
    pub(super) root: u8,
    /// Where an upper entry leads to a table: how many slots of this CPU's store buffer, from the oldest
    /// on, the walk has seen (H25).
    pub(super) seen: u8,
}

/// Pieces of a large page that scripts access: they stay below 0x2000.
pub(super) const PIECES: usize = 2;

fn piece(addr: u64) -> usize {
    (addr >> 12) as usize
}

/// A slot of the store buffer.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Buffered {
    /// Bytes of a word; and the page and the type that it was stored through, if by virtual address.
    Word(WordStore, Option<(u8, MemoryType)>),
    /// Bytes of a page-table entry, by its place.
    Entry(EntryStore),
    /// A store by virtual address that has not been translated yet (H41).
    Late(LateStore),
    /// SFENCE.
    Barrier,
}

/// A store that later loads of its CPU have passed, its walk included (H41).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct LateStore {
    pub(super) addr: u64,
    pub(super) privilege: Privilege,
    pub(super) bytes: u8,
    pub(super) value: u64,
    /// Words, a bit each, to which it cannot go any more: a later access of its CPU was there before it.
    pub(super) passed: u8,
}

/// What is stored in a page-table entry: `bytes` has a bit for each byte, 0 for all.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct EntryStore {
    pub(super) place: u8,
    pub(super) bytes: u8,
    pub(super) value: u64,
}

impl EntryStore {
    /// Returns the entry after the store.
    pub(super) fn over(&self, entry: u64) -> u64 {
        let mask = mask_of(self.bytes);
        entry & !mask | self.value & mask
    }
}

/// What is stored in a word: `bytes` has a bit for each byte, 0 for all.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct WordStore {
    pub(super) word: u8,
    pub(super) bytes: u8,
    pub(super) value: u64,
}

/// A store that waits to be combined, or is on its way to a device.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Combining {
    pub(super) store: WordStore,
    pub(super) frame: u8,
    pub(super) memory_type: MemoryType,
    pub(super) started: bool,
}

impl State {
    pub(super) fn new(root: u8, cr4: Cr4) -> State {
        let cpu = Cpu {
            position: 0,
            in_handler: None,
            in_nmi: None,
            pending: false,
            nmi_pending: false,
            root,
            cr3_low: 0,
            cr4,
            cached: 0,
            flying: 0,
            former: 0,
            requests: 0,
            buffer: [None; SLOTS],
            combining: [None; SLOTS],
            owes_accessed: 0,
            owes_dirty: 0,
            answers: [0; ANSWERS],
        };
        State {
            words: FIRST_WORDS,
            tables: [0; PLACES],
            cpus: [cpu; 2],
        }
    }

    /// Makes a store visible to everyone.
    pub(super) fn write(&mut self, store: WordStore) {
        let word = &mut self.words[usize::from(store.word)];
        *word = store.over(*word);
    }

    /// Changes bytes of a word in memory; returns what they held, at the low end.
    pub(super) fn modify(&mut self, word: u8, bytes: u8, rmw: Rmw, operand: u64) -> u64 {
        let word = &mut self.words[usize::from(word)];
        let (old, new) = modified(*word, bytes, rmw, operand);
        *word = new;
        old
    }

    /// Reads a word as a CPU sees it: memory, with its own buffered stores done.
    pub(super) fn load(&self, cpu: usize, word: u8) -> u64 {
        let in_memory = self.words[usize::from(word)];
        let combined = self.cpus[cpu].combined().map(|slot| slot.store);
        let buffered = self.cpus[cpu].buffered().filter_map(|slot| match slot {
            Buffered::Word(store, _) => Some(store),
            _ => None,
        });
        let own = combined.chain(buffered).filter(|store| store.word == word);
        own.fold(in_memory, |value, store| store.over(value))
    }

    /// Reads a page-table entry as software on a CPU sees it.
    pub(super) fn load_entry(&self, cpu: usize, place: u8) -> u64 {
        let own = self.buffered_at(cpu, place);
        let in_memory = self.tables[usize::from(place)];
        own.last().map_or(in_memory, |(_, value)| *value)
    }

    /// Lists what a page-table entry is with each of the stores to it that wait in a CPU's buffer done, the oldest
    /// first, each with its slot. Of which bytes there are none in the buffer, memory has them.
    pub(super) fn buffered_at(&self, cpu: usize, wanted: u8) -> Vec<(u8, u64)> {
        let mut value = self.tables[usize::from(wanted)];
        let mut all = Vec::new();
        for (slot, stored) in self.cpus[cpu].buffered().enumerate() {
            if let Buffered::Entry(store) = stored
                && store.place == wanted
            {
                value = store.over(value);
                all.push((slot as u8, value));
            }
        }
        all
    }
}

impl Cpu {
    /// Returns the current PCID (H1).
    pub(super) fn pcid(&self) -> u16 {
        match self.cr4.has(Cr4::PCIDE) {
            true => self.cr3_low,
            false => 0,
        }
    }

    /// Lists the store buffer, the oldest first.
    pub(super) fn buffered(&self) -> impl Iterator<Item = Buffered> {
        self.buffer.into_iter().flatten()
    }

    /// Says whether the store buffer holds a store to a word.
    pub(super) fn buffers_word(&self, word: u8) -> bool {
        self.buffered()
            .any(|slot| matches!(slot, Buffered::Word(store, _) if store.word == word))
    }

    /// Lists the addresses of stores that are not translated yet.
    pub(super) fn late_addrs(&self) -> impl Iterator<Item = u64> {
        self.buffered().filter_map(|slot| match slot {
            Buffered::Late(late) => Some(late.addr),
            _ => None,
        })
    }

    /// Notes that a load has read a word, or a write-combining store has gone there: of the stores that are not
    /// translated yet, those whose bytes the access would have had to see, or to follow, cannot go there.
    pub(super) fn pass(&mut self, word: u8) {
        for at in 0..SLOTS {
            let younger = self.buffer[at + 1..].iter().flatten();
            let over = younger.fold(0, |over, slot| match slot {
                Buffered::Word(store, _) if store.word == word => over | mask_of(store.bytes),
                _ => over,
            });
            if let Some(Buffered::Late(late)) = &mut self.buffer[at]
                && mask_of(late.bytes) & !over != 0
            {
                late.passed |= 1 << word;
            }
        }
    }

    /// Lists the write-combining stores.
    pub(super) fn combined(&self) -> impl Iterator<Item = Combining> {
        self.combining.into_iter().flatten()
    }

    /// Says whether a load has to wait for own write-combining stores to a word: non-temporal ones to
    /// ordinary memory are forwarded to it.
    pub(super) fn load_waits(&self, word: u8) -> bool {
        let mut own = self.combined().filter(|slot| slot.store.word == word);
        own.any(|slot| slot.memory_type != MemoryType::WriteBack)
    }

    /// Says whether a write-combining store of this CPU to a word has not arrived.
    pub(super) fn combines_word(&self, word: u8) -> bool {
        self.combined().any(|slot| slot.store.word == word)
    }

    /// Puts the write-combining stores into an order that means nothing but for stores to one word.
    pub(super) fn order_combining(&mut self) {
        let mut stores: Vec<Combining> = self.combined().collect();
        stores.sort_by_key(|slot| slot.store.word);
        self.combining = std::array::from_fn(|slot| stores.get(slot).copied());
    }
}

impl Cached {
    /// Says whether the entry translates an address, or leads to what does.
    pub(super) fn covers(&self, addr: u64) -> bool {
        self.spans(addr) && !(self.read_in > 1 && self.gone[piece(addr)])
    }

    /// Says whether two entries translate a common address.
    pub(super) fn overlaps(&self, other: &Cached) -> bool {
        let both_cover = |addr| self.covers(addr) && other.covers(addr);
        // Two large pages always have more pieces than a script can access.
        let both_large = self.read_in > 1 && other.read_in > 1;
        both_cover(self.start)
            || both_cover(other.start)
            || both_large && (self.spans(other.start) || other.spans(self.start))
    }

    /// Drops the translation of an address: of a large page that is held in pieces, one piece; says whether
    /// something is left.
    pub(super) fn drop_piece(&mut self, addr: u64) -> bool {
        self.gone[piece(addr)] = true;
        self.is_leaf() && self.read_in > 1
    }

    /// Says whether an address lies in what the entry was made for.
    pub(super) fn spans(&self, addr: u64) -> bool {
        addr & !(self.span() - 1) == self.start
    }

    fn span(&self) -> u64 {
        1 << shift(self.read_in)
    }

    pub(super) fn is_leaf(&self) -> bool {
        self.level == 0
    }
}

impl WordStore {
    /// Returns the word after the store.
    pub(super) fn over(&self, word: u64) -> u64 {
        let mask = mask_of(self.bytes);
        word & !mask | self.value & mask
    }
}

/// Returns the lowest address bit that selects an entry in a table of a level.
pub(super) fn shift(level: u8) -> u32 {
    12 + 9 * (u32::from(level) - 1)
}

/// Returns the bits that a mask of bytes names.
fn mask_of(bytes: u8) -> u64 {
    match bytes {
        0 => u64::MAX,
        _ => (0..8)
            .map(|byte| (u64::from(bytes) >> byte & 1) * (0xff << (8 * byte)))
            .sum(),
    }
}

/// Changes bytes of a word; returns what they held, at the low end, and the word after it.
pub(super) fn modified(word: u64, bytes: u8, rmw: Rmw, operand: u64) -> (u64, u64) {
    let (lowest, mask) = (8 * bytes.trailing_zeros(), mask_of(bytes));
    let old = (word & mask) >> lowest;
    let new = rmw.apply(old, operand) << lowest & mask;
    (old, word & !mask | new)
}

/// Puts something behind what slots hold; says whether there was room.
pub(super) fn push<T: Copy>(slots: &mut [Option<T>], room: usize, thing: T) -> bool {
    let Some(free) = slots[..room].iter_mut().find(|slot| slot.is_none()) else {
        return false;
    };
    *free = Some(thing);
    true
}

/// Takes something out of slots, and closes the gap.
pub(super) fn take<T: Copy>(slots: &mut [Option<T>], at: usize) {
    slots[at] = None;
    slots[at..].rotate_left(1);
}
