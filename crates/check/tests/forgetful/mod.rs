//! `lazytlb`, but for one thing that it forgets.

use std::marker::PhantomData;

use lazytlb::{FlushRange, PhysAddr, Policy, Promises, Spaces, Tables};
use lazytlb_check::{Ended, LazyTlb, ModelHw, Part, Program, Protocol, Removal, Space};

/// What is forgotten.
pub(crate) trait Lapse: Send + Sync + Sized + 'static {
    fn serve_inbox(protocol: &Forgetful<Self>, hw: &ModelHw) {
        protocol.real.serve_inbox(hw);
    }
    fn flush_together(
        protocol: &Forgetful<Self>,
        hw: &ModelHw,
        parts: &[Part],
        before_wait: &dyn Fn(&ModelHw),
    ) {
        protocol.real.flush_together(hw, parts, before_wait);
    }
    fn start_retiring(protocol: &Forgetful<Self>, hw: &ModelHw, space: Space) -> Ended {
        protocol.real.start_retiring(hw, space)
    }
}

/// Loops with interrupts off serve nobody.
pub(crate) struct NeverServes;

impl Lapse for NeverServes {
    fn serve_inbox(_: &Forgetful<Self>, _: &ModelHw) {}
}

/// Of several parts, the first is flushed and the others are promised.
pub(crate) struct OnlyTheFirstPart;

impl Lapse for OnlyTheFirstPart {
    fn flush_together(
        protocol: &Forgetful<Self>,
        hw: &ModelHw,
        parts: &[Part],
        before_wait: &dyn Fn(&ModelHw),
    ) {
        let (first, lost) = parts.split_at(1);
        let begin = |part: &Part| {
            let root = protocol.user_roots[part.space.0 - 1];
            hw.promise_begins(Spaces::one(root), part.range)
        };
        let promises: Vec<_> = lost.iter().map(begin).collect();
        protocol.real.flush_together(hw, first, before_wait);
        for promise in promises {
            hw.promise_kept(promise);
        }
    }
}

/// A space counts as gone when it is retired.
pub(crate) struct ReapsAtOnce;

impl Lapse for ReapsAtOnce {
    fn start_retiring(protocol: &Forgetful<Self>, hw: &ModelHw, space: Space) -> Ended {
        protocol.real.start_retiring(hw, space);
        Ended::Now
    }
}

/// `lazytlb` with a lapse.
pub(crate) struct Forgetful<L> {
    real: LazyTlb,
    user_roots: Vec<PhysAddr>,
    lapse: PhantomData<fn() -> L>,
}

impl<L: Lapse> Protocol for Forgetful<L> {
    fn outcomes() -> &'static [&'static str] {
        LazyTlb::outcomes()
    }

    fn new(program: &mut Program, policy: Policy, user_roots: &[PhysAddr]) -> Self {
        Forgetful {
            real: LazyTlb::new(program, policy, user_roots),
            user_roots: user_roots.to_vec(),
            lapse: PhantomData,
        }
    }
    fn switch_mm(&self, hw: &ModelHw, space: Space) {
        self.real.switch_mm(hw, space);
    }
    fn enter_lazy(&self, hw: &ModelHw) {
        self.real.enter_lazy(hw);
    }
    fn flush(&self, hw: &ModelHw, space: Space, range: FlushRange, tables: Tables) {
        self.real.flush(hw, space, range, tables);
    }
    fn remove(&self, hw: &ModelHw, space: Space, removals: &[Removal], driver: &dyn Fn(&ModelHw)) {
        self.real.remove(hw, space, removals, driver);
    }
    fn flush_together(&self, hw: &ModelHw, parts: &[Part], before_wait: &dyn Fn(&ModelHw)) {
        L::flush_together(self, hw, parts, before_wait);
    }
    fn serve_inbox(&self, hw: &ModelHw) {
        L::serve_inbox(self, hw);
    }
    fn start_retiring(&self, hw: &ModelHw, space: Space) -> Ended {
        L::start_retiring(self, hw, space)
    }
    fn reap(&self, hw: &ModelHw) -> Option<Space> {
        self.real.reap(hw)
    }
    fn retire(&self, hw: &ModelHw, space: Space) {
        self.real.retire(hw, space);
    }
    fn handle_flush_ipi(&self, hw: &ModelHw) {
        self.real.handle_flush_ipi(hw);
    }
}
