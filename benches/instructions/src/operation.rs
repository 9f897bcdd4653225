//! The operations that are counted, each with what must come before it.

use lazytlb::{
    EnteredLazy, FlushRange, Hw, Interrupted, Interrupts, MmHandle, Policy, Served, Switched,
    Tables, VirtAddr,
};

use crate::measured::{self, TARGET};
use crate::null::{self, HasPcids, Null, NullTlb, SLOTS};

/// What is counted.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Operation {
    /// To another space, without PCIDs.
    Switch,
    /// To the space that is in use.
    Same,
    /// Out of lazy mode, with nothing missed.
    Resume,
    /// Into lazy mode.
    EnterLazy,
    /// One page, with no other CPU in the cpumask.
    LocalFlush,
    /// One page, in steps, with one other CPU, whose handler is not counted.
    Shootdown,
    /// The handler, with one request for one page.
    Handler,
    /// A look at an inbox that nobody has written to.
    ServeNobody,
    /// Of a space that this CPU has left and no other is in.
    Retire,
    /// To another space that has a slot, with nothing missed: each slot in turn.
    SwitchKept,
    /// To another space that has a slot, with a flush missed: each slot in turn.
    SwitchBehind,
    /// To another space that has no slot, and gets another's.
    SwitchRecycled,
}

/// The page that is flushed.
const PAGE: FlushRange = FlushRange::page(VirtAddr(0x1000));
/// The first user space, and another.
const USER: MmHandle = MmHandle(1);
const OTHER: MmHandle = MmHandle(2);

impl Operation {
    /// Finds one by its name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "switch" => Operation::Switch,
            "same" => Operation::Same,
            "resume" => Operation::Resume,
            "enter-lazy" => Operation::EnterLazy,
            "local-flush" => Operation::LocalFlush,
            "shootdown" => Operation::Shootdown,
            "handler" => Operation::Handler,
            "serve-nobody" => Operation::ServeNobody,
            "retire" => Operation::Retire,
            "switch-kept" => Operation::SwitchKept,
            "switch-behind" => Operation::SwitchBehind,
            "switch-recycled" => Operation::SwitchRecycled,
            _ => return None,
        })
    }
}

/// Runs an operation so often. What is not counted calls the protocol by itself, outside `measured::`.
pub(crate) fn run<P: HasPcids, const WORDS: usize, const IN_USE: usize>(
    operation: Operation,
    count: u32,
) {
    let tlb = null::boot::<P, WORDS, IN_USE>(Policy::IpiOnTableFree);
    let hw = &*Box::leak(Box::new(Null::<P>::new()));
    tlb.switch_mm(hw, USER);
    match operation {
        Operation::Switch => rotate(2, count, |next| {
            assert_eq!(measured::switch(tlb, hw, next), Switched::Loaded);
        }),
        Operation::SwitchKept | Operation::SwitchBehind | Operation::SwitchRecycled => {
            let (spaces, expected) = match operation {
                Operation::SwitchKept => (SLOTS, Switched::Kept),
                Operation::SwitchBehind => (SLOTS, Switched::LoadedBehind),
                _ => (SLOTS + 1, Switched::Loaded),
            };
            rotate(spaces, spaces as u32 - 1, |next| {
                tlb.switch_mm(hw, next);
            });
            let current = MmHandle(spaces as u64);
            assert_eq!(tlb.switch_mm(hw, current), Switched::AlreadyRunning);
            // One more, so that the round begins where `rotate` does.
            tlb.switch_mm(hw, USER);
            rotate(spaces, count, |next| {
                if operation == Operation::SwitchBehind {
                    tlb.flush(hw, next, PAGE, Tables::Kept);
                }
                assert_eq!(measured::switch(tlb, hw, next), expected);
            });
        }
        Operation::Same => repeat(count, || {
            let switched = measured::switch(tlb, hw, USER);
            assert_eq!(switched, Switched::AlreadyRunning);
        }),
        Operation::Resume => repeat(count, || {
            tlb.enter_lazy(hw);
            let switched = measured::switch(tlb, hw, USER);
            assert_eq!(switched, Switched::ResumedUpToDate);
        }),
        Operation::EnterLazy => repeat(count, || {
            assert_eq!(measured::enter_lazy(tlb, hw), EnteredLazy::StaysLoaded);
            tlb.switch_mm(hw, USER);
        }),
        Operation::LocalFlush => repeat(count, || {
            let report = measured::flush(tlb, hw, USER, PAGE);
            assert!(report.local == Served::InvalidatedPages && report.interrupted == 0);
        }),
        Operation::Shootdown => {
            let_target_answer(tlb, hw, measured::uncounted, NullTlb::handle_flush_ipi);
            repeat(count, || {
                let report = measured::shootdown(tlb, hw, USER, PAGE);
                assert!(report.local == Served::InvalidatedPages && report.interrupted == 1);
            });
        }
        Operation::Handler => {
            let_target_answer(tlb, hw, |answer| answer(), measured::handle);
            repeat(count, || {
                let report = tlb.flush(hw, USER, PAGE, Tables::Kept);
                assert_eq!(report.interrupted, 1);
            });
        }
        Operation::ServeNobody => {
            hw.set_interrupts(Interrupts::Disabled);
            repeat(count, || {
                assert_eq!(measured::serve(tlb, hw).answered, 0);
            });
        }
        Operation::Retire => repeat(count, || {
            tlb.switch_mm(hw, OTHER);
            tlb.switch_mm(hw, USER);
            assert_eq!(measured::retire(tlb, hw, OTHER).interrupted, 0);
            assert!(tlb.reap(hw).is_some());
            tlb.kernel().create(OTHER);
        }),
    }
}

/// Lets the target run in the space, and answer while the initiator waits: with this handler, and something around it.
fn let_target_answer<P: HasPcids, const WORDS: usize, const IN_USE: usize>(
    tlb: &'static NullTlb<P, WORDS, IN_USE>,
    hw: &'static Null<P>,
    around: fn(&dyn Fn()),
    handler: fn(&NullTlb<P, WORDS, IN_USE>, &Null<P>) -> Interrupted,
) {
    let initiator = hw.cpu();
    tlb.kernel().run_on(TARGET);
    tlb.switch_mm(hw, USER);
    tlb.kernel().run_on(initiator);
    hw.while_waiting(Box::leak(Box::new(move || {
        around(&|| {
            tlb.kernel().run_on(TARGET);
            hw.set_interrupts(Interrupts::Disabled);
            let done = handler(tlb, hw);
            assert!(done.answered == 1 && done.served == Served::InvalidatedPages);
            hw.set_interrupts(Interrupts::Enabled);
            tlb.kernel().run_on(initiator);
        });
    })));
}

/// Calls with each of so many user spaces in turn, the second first.
fn rotate(spaces: usize, count: u32, mut call: impl FnMut(MmHandle)) {
    let mut space = USER.0;
    for _ in 0..count {
        space = space % spaces as u64 + 1;
        call(MmHandle(space));
    }
}

fn repeat(count: u32, mut call: impl FnMut()) {
    for _ in 0..count {
        call();
    }
}
