//! What keeps a shootdown that is under way on its CPU.

use core::marker::PhantomData;

/// A guard of the kernel's: while it lives, preemption is off, and whoever holds it stays on its CPU.
///
/// The trait says so and nothing else. A kernel implements it for the guard that it has, so that a
/// [`crate::Shootdown`] cannot outlive that; one whose kernel code is never preempted, or runs with interrupts off
/// throughout, for a unit type.
pub trait Pinned {}

/// Preemption is off because the caller has promised so: for shootdowns that begin and end within one call.
pub(crate) struct PreemptionIsOff;

impl Pinned for PreemptionIsOff {}

/// Borrowed from a [`Pinned`] guard. Not [`Send`]: what has it stays where the guard is.
#[derive(Debug)]
pub(crate) struct OnItsCpu<'g>(PhantomData<(&'g (), *const ())>);

impl<'g> OnItsCpu<'g> {
    pub(crate) fn by(_guard: &'g impl Pinned) -> Self {
        OnItsCpu(PhantomData)
    }
}
