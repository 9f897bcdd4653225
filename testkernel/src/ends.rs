//! The end of spaces: references that are dropped anywhere, and what the idle loop reaps.
//!
//! A kernel of yours has `Arc<Space>` where this one counts references: [`crate::retirement`] stands in its `Drop`, and
//! [`reap`] in its idle loop, or a timer.

use core::sync::atomic::Ordering;

use lazytlb::Reaped;
use x86_64::instructions::interrupts::without_interrupts;

use crate::breaks::Break;
use crate::machine::{hw, tlb};
use crate::retirement::{self, Sets};
use crate::space::{SPACES, Space};
use crate::{breaking, freeing};

/// References that a handler of this CPU is to drop: one of each space at most.
static LEFT_FOR_TICK: Sets = Sets::empty();
static LEFT_FOR_FLUSH: Sets = Sets::empty();

fn bit(space: &Space) -> u64 {
    retirement::bit(space.handle())
}

/// Drops a reference by chance: here, here with interrupts off, or in a handler that comes later.
pub fn drop_somewhere(space: &Space, chance: u64) {
    match chance & 3 {
        0 => drop_and_reap(space),
        1 => without_interrupts(|| drop_and_reap(space)),
        2 => leave_for(&LEFT_FOR_TICK, space),
        _ => leave_for(&LEFT_FOR_FLUSH, space),
    }
}

/// Drops a reference, and tries to reap at once: too early, if another CPU has yet to leave.
fn drop_and_reap(space: &Space) {
    space.unpin();
    reap();
}

fn leave_for(handler: &Sets, space: &Space) {
    if handler.mine().fetch_or(bit(space), Ordering::SeqCst) & bit(space) != 0 {
        space.unpin();
    }
}

/// The tail of the timer's handler. What is left for a flush interrupt waits for one more tick: there may be no flush any
/// more, if no space is alive.
pub fn drop_in_tick() {
    drop_all(&LEFT_FOR_TICK);
    let left = LEFT_FOR_FLUSH.mine().swap(0, Ordering::SeqCst);
    LEFT_FOR_TICK.mine().store(left, Ordering::SeqCst);
}

/// The tail of the flush interrupt's handler.
pub fn drop_in_flush_interrupt() {
    drop_all(&LEFT_FOR_FLUSH);
}

fn drop_all(handler: &Sets) {
    let left = handler.mine().swap(0, Ordering::SeqCst);
    let of = |space: &&Space| left & bit(space) != 0;
    retirement::in_handler(|| SPACES.iter().filter(of).for_each(Space::unpin));
}

/// Reaps what can be reaped of what this CPU has retired. No lock of a space is held.
pub fn reap() {
    // While tables of a space are held, it stays.
    freeing::release_held();
    let retired = retirement::waiting();
    while let Some(Reaped {
        mm,
        root,
        user_root,
        ..
    }) = tlb().reap(hw())
    {
        let space = SPACES.iter().find(|space| space.handle() == mm);
        let space = space.expect("only spaces of tasks are retired");
        retirement::reaped(mm);
        if !breaking::is(Break::FreeOnRetire) {
            space.release(root, user_root);
        }
        space.is_dead_now();
    }
    retirement::tried(retired);
}

/// Drops what is left for handlers, and reaps everything: before a CPU goes offline for good.
pub fn reap_all() {
    without_interrupts(|| {
        drop_all(&LEFT_FOR_TICK);
        drop_all(&LEFT_FOR_FLUSH);
    });
    loop {
        reap();
        if !tlb().has_retired(hw()) {
            break;
        }
        core::hint::spin_loop();
    }
}

/// Ends a space, and waits until it is gone.
pub fn end_now(space: &Space) {
    space.end();
    reap_all();
}
