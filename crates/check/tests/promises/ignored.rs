//! Leaving a property out: the execution goes on, or it is an error to ask for it.

use lazytlb::{Access, Entry, FlushRange, FrameKind, Hw, Memory, Until};
use lazytlb_check::{CheckError, Checker, Program};
use lazytlb_model::{AtomicCell, Property};

use crate::{PAGE, violated};

/// Violates a property, and then panics: only who goes on gets there.
fn then_panics(property: Property) -> Program {
    let mut program = Program::new("then panics", 1);
    let (root, table, page) = (program.first_root(), program.table(), program.page());
    program.first_entry(root, 0, Entry::to(table));
    program.first_entry(table, 0, Entry::to(page));
    program.operation(0, "violate", move |hw| {
        match property {
            Property::StaleUse => {
                hw.write_entry(table, 0, Entry::ABSENT);
                hw.flush_begins(root, FlushRange::All);
                hw.flush_returned(root);
                hw.touch(PAGE, Access::Load);
            }
            Property::TableUseAfterFree => hw.free_frame(table),
            other => unreachable!("{other} needs a program of its own"),
        }
        panic!("it goes on");
    });
    program
}

#[test]
fn an_execution_goes_on_after_a_violation_that_is_ignored() {
    for property in [Property::StaleUse, Property::TableUseAfterFree] {
        let mut program = then_panics(property);
        assert_eq!(violated(&program), Some(property));
        program.ignore(property);
        assert_eq!(violated(&program), Some(Property::Panic), "{property}");
    }
}

#[test]
fn a_deadlock_and_a_lost_wakeup_can_be_ignored() {
    let stuck = |how: fn(&lazytlb_check::ModelHw, AtomicCell)| {
        let mut program = Program::new("stuck", 1);
        let word = program.atomic("word", 0);
        program.operation(0, "wait", move |hw| how(hw, word));
        program
    };
    let mut waits = stuck(|hw, word| hw.pause_until(&word, Until::Equals(1)));
    assert_eq!(violated(&waits), Some(Property::Deadlock));
    waits.ignore(Property::Deadlock);
    assert_eq!(violated(&waits), None);
    let mut sleeps = stuck(|hw, _| hw.halt());
    assert_eq!(violated(&sleeps), Some(Property::LostWakeup));
    sleeps.ignore(Property::LostWakeup);
    assert_eq!(violated(&sleeps), None);
}

#[test]
fn a_store_that_waits_for_a_device_can_be_ignored() {
    let mut program = Program::new("device", 1);
    program.features().write_combining = 1;
    let (root, table, device) = (program.first_root(), program.table(), program.device());
    let combining = Entry(Entry::to(device).0 | lazytlb_model::MemoryType::WriteCombining.bits());
    program.first_entry(root, 0, Entry::to(table));
    program.first_entry(table, 0, combining);
    program.operation(0, "write to the device, and unmap it", move |hw| {
        hw.touch(PAGE, Access::Store);
        hw.write_entry(table, 0, Entry::ABSENT);
        hw.flush_begins(root, FlushRange::All);
        hw.invlpg(PAGE);
        hw.flush_returned(root);
    });
    assert_eq!(violated(&program), Some(Property::DeviceWriteAfterFlush));
    program.ignore(Property::DeviceWriteAfterFlush);
    assert_eq!(violated(&program), None);
}

#[test]
fn what_no_execution_survives_cannot_be_ignored() {
    for property in [Property::Panic, Property::GeneralProtection] {
        let mut program = Program::new("nothing", 1);
        program.ignore(property);
        let error = Checker::new().try_check(&program, |_| {}).unwrap_err();
        let CheckError::Limit(how) = error else {
            panic!("{error:?}")
        };
        assert!(how.contains(property.name()), "{how}");
    }
}

/// With stale uses ignored, a use of what a walk of a freed table left behind is still found.
#[test]
fn garbage_is_no_stale_use() {
    let mut program = Program::new("garbage", 1);
    let (root, table) = (program.first_root(), program.table());
    program.first_entry(root, 0, Entry::to(table));
    program.first_entry(table, 0, Entry::ABSENT);
    program.follow_garbage_walks();
    program.ignore(Property::StaleUse);
    program.operation(0, "free the table", move |hw| {
        hw.free_frame(table);
        hw.touch(PAGE, Access::Load);
        hw.alloc_frame(FrameKind::Page);
    });
    assert_eq!(violated(&program), Some(Property::TableUseAfterFree));
}
