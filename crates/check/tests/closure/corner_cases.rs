//! Scripts on which the two models once differed, or were thought to: shrunk, and each with its reason.

use lazytlb::{Access, Cr3Load, Entry, FlushRange, PhysAddr, Until, VirtAddr};
use lazytlb_check::Reduction;
use lazytlb_model::cpu_model::IpiOrder;
use lazytlb_model::{Call, MemoryModel, Property, Rmw};

use crate::agreement::{Compared, Setting};
use crate::script::{ACK, PAGES, ROOTS, Script, TABLES, WORD, map, unmap};

const ADDR: VirtAddr = VirtAddr(0);
const FLUSH_ALL: Call = Call::FlushBegins(ROOTS[0], FlushRange::All);
const RETURNED: Call = Call::FlushReturned(ROOTS[0]);
const INTERRUPT_CPU_1: Call = Call::SendIpi(0b10);
const ACKNOWLEDGE: Call = Call::Rmw(ACK, Rmw::Add, 1);
const WAIT_FOR_ACK: Call = Call::PauseUntil(ACK, Until::AtLeast(1));

const fn load_cr3(root: PhysAddr) -> Call {
    Call::LoadCr3(root, Cr3Load::Flush)
}

fn load() -> Call {
    Call::Touch(ADDR, Access::Load)
}

fn script<const A: usize, const B: usize, const C: usize>(
    first: [Call; A],
    second: [Call; B],
    handler: [Call; C],
) -> Script {
    Script {
        cpus: [first.into(), second.into()],
        handler: handler.into(),
    }
}

/// Checks that the models agree under x86-TSO, and on what.
fn assert_both_find(script: &Script, expected: &[Property]) {
    for setting in Setting::all().filter(|setting| setting.memory == MemoryModel::TSO) {
        assert_found(setting, script, expected);
    }
}

fn assert_found(setting: Setting, script: &Script, expected: &[Property]) {
    let name = setting.name();
    match setting.compare(script, 1_000_000) {
        Compared::Agree(found) => {
            assert!(found.iter().eq(expected), "{name}: {found:?}\n{script}");
        }
        Compared::Disagree(how) => panic!("{name}: {how}\n{script}"),
        Compared::TooLarge => panic!("a corner case is small"),
    }
}

/// Checks that the models agree on a stale use where an IPI orders nothing, and on none where it waits for
/// the sender's stores (H36).
fn assert_stale_unless_ipis_wait(script: &Script) {
    for setting in Setting::all().filter(|setting| setting.memory == MemoryModel::TSO) {
        let stale = setting.cpu_model.ipi == IpiOrder::Unordered;
        let expected: &[Property] = if stale { &[Property::StaleUse] } else { &[] };
        assert_found(setting, script, expected);
    }
}

/// The store that removes the entry still waits in CPU 0's buffer while its flush begins and returns.
/// Nobody uses the space when it begins, so nothing is cached; CPU 1 comes in, and its walk reads memory
/// (H23, H25).
#[test]
fn a_cpu_that_comes_in_during_a_flush_may_read_what_a_buffered_store_removes() {
    let script = script(
        [
            map(ROOTS[0], 0, TABLES[0]),
            map(TABLES[0], 0, PAGES[0]),
            unmap(TABLES[0], 0),
            FLUSH_ALL,
            INTERRUPT_CPU_1,
            RETURNED,
        ],
        [load()],
        [load_cr3(ROOTS[0])],
    );
    assert_stale_unless_ipis_wait(&script);
}

/// The same, and CPU 1 comes in only after the flush has returned.
#[test]
fn a_cpu_that_comes_in_after_a_flush_may_read_what_a_buffered_store_removes() {
    let script = script(
        [
            map(ROOTS[0], 0, TABLES[0]),
            map(TABLES[0], 0, PAGES[0]),
            unmap(TABLES[0], 0),
            FLUSH_ALL,
            RETURNED,
            INTERRUPT_CPU_1,
        ],
        [load()],
        [load_cr3(ROOTS[0])],
    );
    assert_stale_unless_ipis_wait(&script);
}

/// A CPU in the space flushes itself only after the return, and refills from memory, where the removing
/// store has not arrived (H25, H36).
#[test]
fn an_invlpg_before_the_removing_store_drains_is_refilled() {
    let script = script(
        [
            map(ROOTS[0], 0, TABLES[0]),
            map(TABLES[0], 0, PAGES[0]),
            unmap(TABLES[0], 0),
            FLUSH_ALL,
            RETURNED,
            INTERRUPT_CPU_1,
        ],
        [load_cr3(ROOTS[0])],
        [Call::Invlpg(ADDR), load()],
    );
    assert_stale_unless_ipis_wait(&script);
}

/// With a fence before the flush, all three are safe.
#[test]
fn a_fence_before_the_flush_is_enough_for_cpus_that_come_in() {
    let script = script(
        [
            map(ROOTS[0], 0, TABLES[0]),
            map(TABLES[0], 0, PAGES[0]),
            unmap(TABLES[0], 0),
            Call::Fence,
            FLUSH_ALL,
            INTERRUPT_CPU_1,
            RETURNED,
        ],
        [load()],
        [load_cr3(ROOTS[0])],
    );
    assert_both_find(&script, &[]);
}

/// CPU 1 maps the page anew, under the table that CPU 0 has just hung in: it may use that at once, through
/// its own buffered store (H25), and the flush of what was under the old table says nothing about it.
#[test]
fn an_entry_that_a_cpu_maps_anew_is_not_stale() {
    let script = script(
        [map(ROOTS[0], 0, TABLES[1]), FLUSH_ALL, RETURNED],
        [load_cr3(ROOTS[0]), map(TABLES[1], 0, PAGES[0]), load()],
        [],
    );
    assert_both_find(&script, &[]);
}

/// CPU 1 answers the flush, maps the page once more and removes it again: that second removal is for a
/// flush of its own, which has not returned (H22).
#[test]
fn a_flush_does_not_cover_what_is_mapped_and_removed_while_it_runs() {
    let script = script(
        [
            map(ROOTS[0], 0, TABLES[0]),
            map(TABLES[0], 0, PAGES[0]),
            unmap(TABLES[0], 0),
            Call::Fence,
            FLUSH_ALL,
            INTERRUPT_CPU_1,
            WAIT_FOR_ACK,
            RETURNED,
        ],
        [
            load_cr3(ROOTS[0]),
            map(TABLES[0], 0, PAGES[0]),
            unmap(TABLES[0], 0),
            load(),
        ],
        [Call::Invlpg(ADDR), ACKNOWLEDGE],
    );
    assert_both_find(&script, &[]);
}

/// A store in another space, at the same address and to the same page, is none through a stale entry.
#[test]
fn a_flush_of_one_space_does_not_forbid_a_store_in_another() {
    let script = script(
        [
            map(ROOTS[0], 0, TABLES[0]),
            map(TABLES[0], 0, PAGES[0]),
            load_cr3(ROOTS[0]),
            unmap(TABLES[0], 0),
            FLUSH_ALL,
            Call::Invlpg(ADDR),
            RETURNED,
        ],
        [
            map(ROOTS[1], 0, TABLES[1]),
            map(TABLES[1], 0, PAGES[0]),
            load_cr3(ROOTS[1]),
            Call::Touch(ADDR, Access::Store),
        ],
        [],
    );
    assert_both_find(&script, &[]);
}

/// Two entries for the address coexist (H7). The store may go through either, and when the flush returns
/// it still waits in CPU 1's buffer: its interrupt has overtaken it (H36).
#[test]
fn a_buffered_store_may_have_gone_through_any_matching_entry() {
    let script = script(
        [
            map(ROOTS[0], 0, TABLES[0]),
            map(TABLES[0], 0, PAGES[0]),
            map(TABLES[0], 0, PAGES[1]),
            map(TABLES[0], 0, PAGES[0]),
            WAIT_FOR_ACK,
            FLUSH_ALL,
            RETURNED,
        ],
        [
            load_cr3(ROOTS[0]),
            Call::Touch(ADDR, Access::Store),
            Call::SendIpi(0b01),
        ],
        [ACKNOWLEDGE],
    );
    assert_stale_unless_ipis_wait(&script);
}

/// CPU 1's store is done before its own handler frees the page: delivery drains the buffer (H25).
#[test]
fn a_store_before_an_interrupt_is_done_when_the_handler_runs() {
    let script = script(
        [map(ROOTS[0], 0, TABLES[0]), map(TABLES[0], 0, PAGES[0])],
        [
            load_cr3(ROOTS[0]),
            Call::Touch(ADDR, Access::Store),
            INTERRUPT_CPU_1,
        ],
        [Call::FreeFrame(PAGES[0])],
    );
    assert_both_find(&script, &[]);
}

/// Two entries lead to the freed table. Which of them a report names must not depend on what else the
/// search met before, or the counterexample does not replay.
#[test]
fn a_counterexample_with_two_culprits_replays() {
    let script = script(
        [
            map(ROOTS[0], 0, TABLES[0]),
            map(ROOTS[0], 1, TABLES[0]),
            Call::WriteEntry(ROOTS[0], 0, Entry::read_only(TABLES[0])),
            Call::FreeFrame(TABLES[0]),
        ],
        [load_cr3(ROOTS[0])],
        [],
    );
    for setting in Setting::all() {
        for reduction in [Reduction::None, Reduction::CollapseLocal] {
            let checker = setting.checker().reduction(reduction);
            let verdict = checker.try_check(&script.program("two culprits"), |_| {});
            let verdict = verdict.unwrap_or_else(|error| panic!("{}: {error}", setting.name()));
            let found = verdict.violation().map(|violation| violation.property);
            assert_eq!(found, Some(Property::TableUseAfterFree));
        }
    }
}

/// A wait for 0 that is over at once is not local if this CPU's own handler can write the word before it:
/// with the handler first, the wait has no end.
#[test]
fn a_wait_that_the_cpus_own_handler_can_prolong_is_not_local() {
    let script = script(
        [INTERRUPT_CPU_1],
        [Call::PauseUntil(WORD, Until::Zero)],
        [Call::Store(WORD, 1)],
    );
    for setting in Setting::all() {
        for reduction in [Reduction::None, Reduction::CollapseLocal] {
            let verdict = setting
                .checker()
                .reduction(reduction)
                .check(&script.program("wait"));
            let found = verdict.violation().map(|violation| violation.property);
            assert_eq!(
                found,
                Some(Property::Deadlock),
                "{}, {reduction:?}",
                setting.name()
            );
        }
    }
}
