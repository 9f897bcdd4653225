//! The fields of a page-table entry and their bits, once for all who write, read or print entries.

use lazytlb::{Entry, PhysAddr};
use lazytlb_litmus_syntax::{Caching, EntryLiteral, Field};
use lazytlb_model::MemoryType;
use lazytlb_model::entry::bits;

/// A field of one bit.
struct Flag {
    field: Field,
    bit: u64,
    is_set_in: fn(&EntryLiteral) -> bool,
}

/// The fields of one bit, in the order in which they are printed.
const FLAGS: [Flag; 8] = [
    Flag {
        field: Field::Valid,
        bit: bits::PRESENT,
        is_set_in: |literal| literal.valid,
    },
    Flag {
        field: Field::Writable,
        bit: bits::WRITABLE,
        is_set_in: |literal| literal.writable,
    },
    Flag {
        field: Field::User,
        bit: bits::USER,
        is_set_in: |literal| literal.user,
    },
    Flag {
        field: Field::Accessed,
        bit: bits::ACCESSED,
        is_set_in: |literal| literal.accessed,
    },
    Flag {
        field: Field::Dirty,
        bit: bits::DIRTY,
        is_set_in: |literal| literal.dirty,
    },
    Flag {
        field: Field::PageSize,
        bit: bits::LARGE,
        is_set_in: |literal| literal.page_size,
    },
    Flag {
        field: Field::Global,
        bit: bits::GLOBAL,
        is_set_in: |literal| literal.global,
    },
    Flag {
        field: Field::NoExecute,
        bit: bits::NO_EXECUTE,
        is_set_in: |literal| literal.no_execute,
    },
];

/// The bits of the frame.
const ADDRESS: u64 = Entry(u64::MAX).frame().0;

/// Returns the bits of an entry that a field takes.
pub(crate) fn mask(field: Field) -> u64 {
    match field {
        Field::Oa => ADDRESS,
        Field::Type => {
            let all = Caching::ALL.map(caching);
            all.iter().fold(0, |all, each| all | each)
        }
        Field::Valid
        | Field::Writable
        | Field::User
        | Field::Accessed
        | Field::Dirty
        | Field::PageSize
        | Field::Global
        | Field::NoExecute => {
            let own = FLAGS.iter().filter(|flag| flag.field == field);
            own.fold(0, |mask, flag| mask | flag.bit)
        }
    }
}

/// Returns the entry that points to a frame, with the fields of a literal.
pub(crate) fn entry(literal: &EntryLiteral, frame: PhysAddr) -> Entry {
    let set = FLAGS.iter().filter(|flag| (flag.is_set_in)(literal));
    let whole = frame.0 | caching(literal.memory_type);
    Entry(set.fold(whole, |entry, flag| entry | flag.bit))
}

/// Returns the bits that select how memory is cached.
pub(crate) fn caching(caching: Caching) -> u64 {
    let memory_type = match caching {
        Caching::WriteBack => MemoryType::WriteBack,
        Caching::WriteCombining => MemoryType::WriteCombining,
        Caching::Uncacheable => MemoryType::Uncached,
    };
    memory_type.bits()
}

/// Lists the flags of an entry that are not as a literal that leaves them out has them: `w:0`.
pub(crate) fn unusual_flags(entry: Entry) -> impl Iterator<Item = (Field, bool)> {
    let usual = EntryLiteral::default();
    let flags = FLAGS
        .iter()
        .map(move |flag| (flag, entry.0 & flag.bit != 0));
    flags
        .filter(move |(flag, is_set)| *is_set != (flag.is_set_in)(&usual))
        .map(|(flag, is_set)| (flag.field, is_set))
}

/// Lists the flags that are set in an entry.
pub(crate) fn set_flags(entry: Entry) -> impl Iterator<Item = Field> {
    let set = FLAGS.iter().filter(move |flag| entry.0 & flag.bit != 0);
    set.map(|flag| flag.field)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_has_bits_of_its_own() {
        let mut taken = 0;
        for field in Field::ALL {
            let mask = mask(field);
            assert_ne!(mask, 0, "{}", field.name());
            assert_eq!(taken & mask, 0, "{}", field.name());
            taken |= mask;
        }
    }

    #[test]
    fn what_a_literal_leaves_out_is_not_told() {
        let usual = EntryLiteral::default();
        let told = |literal: &EntryLiteral| {
            let entry = entry(literal, PhysAddr(0x3000));
            unusual_flags(entry).collect::<Vec<_>>()
        };
        assert_eq!(told(&usual), []);
        let literal = EntryLiteral {
            writable: false,
            global: true,
            ..usual
        };
        let expected = [(Field::Writable, false), (Field::Global, true)];
        assert_eq!(told(&literal), expected);
    }
}
