//! Stores of data by virtual address that wait in a buffer when the flush of their page has returned.

use lazytlb::{Access, CpuId, Entry, FlushRange, Hw, Memory, Until};
use lazytlb_check::{Checker, ModelHw, Program, Reduction};
use lazytlb_model::{CpuModel, MemoryModel, Privilege, Property};

use crate::{PAGE, interrupt, property_of};

/// What CPU 1 stores to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum To {
    /// A page whose data nobody looks at.
    Page,
    /// The word of a page.
    Word,
    /// The first entry of a page table, through a mapping of it.
    Table,
}

/// How CPU 1 stores, and what it does between that and the interrupt that says that it has.
#[derive(Clone, Copy)]
struct Store {
    to: To,
    is_non_temporal: bool,
    then: fn(&ModelHw),
}

/// One CPU stores to a page, and tells the other by an interrupt; that unmaps the page and flushes it here alone.
fn violated(store: Store, memory: MemoryModel) -> Option<Property> {
    let mut program = Program::new("a store that waits", 2);
    program.features().write_combining = u8::from(store.is_non_temporal);
    let word = program.atomic("word", 0);
    let (root, table) = (program.first_root(), program.table());
    let page = match store.to {
        To::Page | To::Word => program.page_with_word(word),
        To::Table => program.table(),
    };
    program.first_entry(root, 0, Entry::to(table));
    program.first_entry(table, 0, Entry::to(page));
    let has_stored = program.atomic("has stored", 0);
    program.on_flush_interrupt(move |hw| {
        hw.swap(&has_stored, 1);
    });
    program.operation(0, "unmap", move |hw| {
        hw.pause_until(&has_stored, Until::Equals(1));
        hw.write_entry(table, 0, Entry::ABSENT);
        hw.flush_begins(root, FlushRange::page(PAGE));
        hw.invlpg(PAGE);
        hw.flush_returned(root);
    });
    program.operation(1, "store", move |hw| {
        match store.to {
            To::Page => hw.touch(PAGE, Access::Store),
            To::Word | To::Table => {
                let is_non_temporal = store.is_non_temporal;
                hw.store_virtual(PAGE, 0xff, 0, Privilege::Supervisor, is_non_temporal);
            }
        }
        (store.then)(hw);
        interrupt(hw, CpuId(0));
    });
    let found = [Reduction::CollapseLocal, Reduction::None].map(|reduction| {
        let checker = Checker::new().cpu_model(CpuModel::WEAKEST).memory(memory);
        let verdict = checker.reduction(reduction).check(&program);
        assert_ne!(verdict.name(), "incomplete", "{verdict:?}");
        property_of(&verdict)
    });
    assert_eq!(found[0], found[1]);
    found[0]
}

const DATA: Store = Store {
    to: To::Word,
    is_non_temporal: false,
    then: |_| {},
};

#[test]
fn a_store_that_waits_in_the_store_buffer_is_a_stale_use_whatever_it_goes_to() {
    for to in [To::Page, To::Word, To::Table] {
        let store = Store { to, ..DATA };
        assert_eq!(violated(store, MemoryModel::TSO), Some(Property::StaleUse));
        assert_eq!(violated(store, MemoryModel::Sc), None);
        let serializes = Store {
            then: |hw| hw.serialize(),
            ..store
        };
        assert_eq!(violated(serializes, MemoryModel::TSO), None);
    }
}

#[test]
fn so_is_one_that_waits_in_a_write_combining_buffer() {
    let combines = Store {
        is_non_temporal: true,
        ..DATA
    };
    for memory in [MemoryModel::Sc, MemoryModel::TSO] {
        assert_eq!(violated(combines, memory), Some(Property::StaleUse));
        let serializes = Store {
            then: |hw| hw.serialize(),
            ..combines
        };
        assert_eq!(violated(serializes, memory), None);
    }
}
