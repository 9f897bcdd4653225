//! Touches whose data nobody looks at: they set A and D as other accesses do (H3, H21).

use lazytlb::{Access, Entry, Memory, VirtAddr};
use lazytlb_check::{Checker, ModelHw, Program, Reduction};
use lazytlb_model::entry::bits;
use lazytlb_model::{MemoryModel, Property};

/// The page that is touched.
const X: VirtAddr = VirtAddr(0);

/// One CPU touches a page, and asserts something of its entry once the updates must have come (H41).
fn touched(touch: fn(&ModelHw), first: u64, holds: fn(u64) -> bool) -> Option<Property> {
    let mut program = Program::new("touch", 1);
    program.features().accessed_dirty = true;
    program.features().write_combining = 1;
    let (root, table, page) = (program.first_root(), program.table(), program.page());
    program.first_entry(root, 0, Entry(Entry::to(table).0 | bits::ACCESSED));
    program.first_entry(table, 0, Entry(Entry::to(page).0 | first));
    program.proves("what touches set");
    program.operation(0, "touch", move |hw| {
        touch(hw);
        hw.serialize();
        assert!(holds(hw.read_entry(table, 0).0), "as the rules say");
    });
    let mut found = Vec::new();
    for memory in [MemoryModel::Sc, MemoryModel::TSO] {
        for reduction in [Reduction::CollapseLocal, Reduction::None] {
            let checker = Checker::new().memory(memory).reduction(reduction);
            let verdict = checker.check(&program);
            assert_ne!(verdict.name(), "incomplete", "{verdict:?}");
            found.push(verdict.violation().map(|violation| violation.property));
        }
    }
    assert!(found.iter().all(|one| *one == found[0]), "{found:?}");
    found[0]
}

#[test]
fn a_touch_that_stores_sets_d_and_one_that_loads_sets_a() {
    let store: fn(&ModelHw) = |hw| hw.touch(X, Access::Store);
    let load: fn(&ModelHw) = |hw| hw.touch(X, Access::Load);
    let combine: fn(&ModelHw) = |hw| hw.touch_non_temporal(X);
    let (a, d) = (bits::ACCESSED, bits::DIRTY);
    for first in [0, bits::ACCESSED] {
        for stores in [store, combine] {
            assert_eq!(
                touched(stores, first, |entry| entry & bits::DIRTY != 0),
                None
            );
            assert_eq!(
                touched(stores, first, |entry| entry & bits::DIRTY == 0),
                Some(Property::Panic)
            );
        }
        assert_eq!(
            touched(load, first, |entry| entry & bits::ACCESSED != 0),
            None
        );
        assert_eq!(touched(load, first, |entry| entry & bits::DIRTY == 0), None);
    }
    assert_eq!(
        touched(load, 0, |entry| entry & bits::ACCESSED == 0),
        Some(Property::Panic)
    );
    // What is set stays.
    assert_eq!(
        touched(store, a | d, |entry| entry & bits::DIRTY != 0),
        None
    );
}
