//! What waits in a CPU's buffers: the slots of the store buffer, and of the write-combining buffers.
//!
//! Each slot has a fixed number of bytes in a state. The first names a location; the highest values are no
//! locations, and stand for a store of user code, and for the two fences that wait among the stores.

use crate::byte_mask::ByteMask;
use crate::call::AtomicCell;
use crate::entry::MemoryType;
use crate::index::{EntryId, Frame, LateStoreId, Location, Locations, PassedId, TranslationId};
use crate::values::ValueCode;
use crate::version::Version;

/// A slot of the store buffer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Slot {
    /// A store to some bytes of a cell.
    Cell(CellStore),
    /// A store to a page-table entry.
    Entry(EntryStore),
    /// A store of user code, through this cached translation, to memory whose data nobody looks at.
    User(TranslationId),
    /// A store of data by virtual address that has no translation yet (H41).
    Late(LateSlot),
    /// An SFENCE: it drains when the write-combining buffers have.
    StoreFence,
    /// An MFENCE: until it drains, this CPU does nothing but send an IPI (H36).
    FullFence,
}

/// A store to some bytes of a cell.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct CellStore {
    pub(crate) cell: AtomicCell,
    pub(crate) value: ValueCode,
    pub(crate) bytes: ByteMask,
}

/// A store to a page-table entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct EntryStore {
    pub(crate) entry: EntryId,
    pub(crate) value: ValueCode,
    /// The version that the store has while it waits.
    pub(crate) version: Version,
}

/// A store that waits untranslated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct LateSlot {
    pub(crate) store: LateStoreId,
    /// The words to which it cannot go any more.
    pub(crate) passed: PassedId,
}

/// Bytes for locations: from here on, others are encoded.
pub(crate) const MOST_LOCATIONS: u8 = LATE;
const LATE: u8 = u8::MAX - 3;
const FULL_FENCE: u8 = u8::MAX - 2;
const STORE_FENCE: u8 = u8::MAX - 1;
const USER: u8 = u8::MAX;

impl Slot {
    /// Bytes of a slot.
    pub(crate) const LEN: usize = 3;

    /// Says whether it is a store to a location.
    #[inline]
    pub(crate) fn is_to(&self, location: Location) -> bool {
        match (self, location) {
            (Slot::Cell(store), Location::Cell(cell)) => store.cell == cell,
            (Slot::Entry(store), Location::Entry(entry)) => store.entry == entry,
            _ => false,
        }
    }

    /// Returns the store to a page-table entry, if it is one.
    #[inline]
    pub(crate) fn entry_store(self) -> Option<EntryStore> {
        match self {
            Slot::Entry(store) => Some(store),
            Slot::Cell(_) | Slot::User(_) | Slot::Late(_) | Slot::StoreFence | Slot::FullFence => {
                None
            }
        }
    }

    /// Returns the translation that a store of user code went through, if it is one.
    pub(crate) fn used(self) -> Option<TranslationId> {
        match self {
            Slot::User(used) => Some(used),
            Slot::Cell(_) | Slot::Entry(_) | Slot::Late(_) | Slot::StoreFence | Slot::FullFence => {
                None
            }
        }
    }

    #[inline]
    pub(crate) fn encode(self, locations: Locations) -> [u8; Slot::LEN] {
        match self {
            Slot::Cell(CellStore { cell, value, bytes }) => {
                let location = locations.to_byte(Location::Cell(cell));
                [location, value.to_byte(), bytes.to_byte()]
            }
            Slot::Entry(store) => {
                let location = locations.to_byte(Location::Entry(store.entry));
                [location, store.value.to_byte(), store.version.to_byte()]
            }
            Slot::User(used) => [USER, used.to_byte(), 0],
            Slot::Late(late) => [LATE, late.store.to_byte(), late.passed.to_byte()],
            Slot::StoreFence => [STORE_FENCE, 0, 0],
            Slot::FullFence => [FULL_FENCE, 0, 0],
        }
    }

    #[inline]
    pub(crate) fn decode(bytes: [u8; Slot::LEN], locations: Locations) -> Slot {
        let [location, value, detail] = bytes;
        match location {
            USER => Slot::User(TranslationId::from_byte(value)),
            STORE_FENCE => Slot::StoreFence,
            FULL_FENCE => Slot::FullFence,
            LATE => Slot::Late(LateSlot {
                store: LateStoreId::from_byte(value),
                passed: PassedId::from_byte(detail),
            }),
            _ => match locations.at_byte(location) {
                Location::Cell(cell) => Slot::Cell(CellStore {
                    cell,
                    value: ValueCode::from_byte(value),
                    bytes: ByteMask::from(detail),
                }),
                Location::Entry(entry) => Slot::Entry(EntryStore {
                    entry,
                    value: ValueCode::from_byte(value),
                    version: Version::from_byte(detail),
                }),
            },
        }
    }
}

/// A store that waits in a write-combining buffer, or is on its way to a device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Combining {
    pub(crate) data: Data,
    /// The cached entry that it went through, at its address.
    pub(crate) through: TranslationId,
    pub(crate) stage: Stage,
    /// The frame that it goes to.
    pub(crate) frame: Frame,
    /// The memory type of the mapping that it went through.
    pub(crate) memory_type: MemoryType,
}

/// What a write-combining store writes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Data {
    /// Some bytes of a word.
    Word {
        location: Location,
        value: ValueCode,
        bytes: ByteMask,
    },
    /// What nobody looks at: it is a store of user code.
    User,
}

/// How far a write-combining store has got.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stage {
    /// In the CPU's buffer.
    Filling = 0,
    /// Out of it, and not at the device yet (H27).
    Started = 1,
}

impl Combining {
    /// Bytes of a slot.
    pub(crate) const LEN: usize = 7;

    /// Returns the location that it writes, if it is one whose data somebody looks at.
    pub(crate) fn location(&self) -> Option<Location> {
        match self.data {
            Data::Word { location, .. } => Some(location),
            Data::User => None,
        }
    }

    pub(crate) fn encode(&self, locations: Locations) -> [u8; Combining::LEN] {
        let [location, value, bytes] = match self.data {
            Data::Word {
                location,
                value,
                bytes,
            } => [
                locations.to_byte(location),
                value.to_byte(),
                bytes.to_byte(),
            ],
            Data::User => [USER, 0, 0],
        };
        [
            location,
            value,
            bytes,
            self.through.to_byte(),
            self.stage as u8,
            self.frame.number(),
            self.memory_type as u8,
        ]
    }

    pub(crate) fn decode(slot: [u8; Combining::LEN], locations: Locations) -> Combining {
        let [location, value, bytes, through, stage, frame, memory_type] = slot;
        Combining {
            data: match location {
                USER => Data::User,
                _ => Data::Word {
                    location: locations.at_byte(location),
                    value: ValueCode::from_byte(value),
                    bytes: ByteMask::from(bytes),
                },
            },
            through: TranslationId::from_byte(through),
            stage: match stage {
                0 => Stage::Filling,
                _ => Stage::Started,
            },
            frame: Frame::from(frame),
            memory_type: match memory_type {
                0 => MemoryType::WriteBack,
                1 => MemoryType::WriteCombining,
                _ => MemoryType::Uncached,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::Number;

    #[test]
    fn every_kind_of_slot_survives_its_bytes() {
        let locations = Locations::with_cells(3);
        let slots = [
            Slot::Cell(CellStore {
                cell: AtomicCell(2),
                value: ValueCode::from_byte(7),
                bytes: ByteMask::from(0b11),
            }),
            Slot::Entry(EntryStore {
                entry: EntryId::from_index(0),
                value: ValueCode::from_byte(8),
                version: Version::AT_THE_START,
            }),
            Slot::User(TranslationId::from_index(63)),
            Slot::Late(LateSlot {
                store: LateStoreId::from_index(255),
                passed: PassedId::from_index(254),
            }),
            Slot::StoreFence,
            Slot::FullFence,
        ];
        for slot in slots {
            assert_eq!(Slot::decode(slot.encode(locations), locations), slot);
        }
    }
}
