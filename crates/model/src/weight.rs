//! Whether a promise bears weight: what a proof of a flush can rest on.
//!
//! A promise that covers nothing which some CPU might have cached keeps nobody from anything; nor does one about
//! entries whose use is not looked at.

use std::ops::Deref;

use crate::call::Call;
use crate::index::Cpu;
use crate::machine::Machine;
use crate::state::{FrameUse, State};
use crate::subject::Subject;
use crate::translation::Translation;
use crate::translation_set::TranslationSet;
use crate::view::CpuIn;
use crate::violation::Property;

impl Machine {
    /// Says whether a call, which a CPU is about to make, begins a promise that covers an entry which some CPU may
    /// have cached.
    pub fn begun_promise_covers_cached(
        &self,
        state: &State,
        cpu: impl Into<Cpu>,
        call: &Call,
    ) -> bool {
        let subject = match *call {
            Call::PromiseBegins(spaces, range) => Subject::numbered(spaces, range),
            Call::FlushBegins(root, range) => match self.frame(root) {
                Ok(root) => Subject::of_root(root.addr(), range),
                Err(_) => return false,
            },
            _ => return false,
        };
        let beginner = self.view(state, cpu.into());
        // What has no number is a limit that the call itself meets.
        let covered = beginner.covered_by(&subject);
        covered.is_ok_and(|covered| !covered.intersection(beginner.cached_anywhere()).is_empty())
    }
}

impl<S: Deref<Target = State>> CpuIn<'_, S> {
    /// Returns the entries that some CPU may have cached.
    pub(crate) fn cached_anywhere(&self) -> TranslationSet {
        let cached = self.every_cpu().map(|user| user.may_be_cached());
        cached.fold(TranslationSet::EMPTY, TranslationSet::union)
    }

    /// Says whether a promise about these entries bears on a property that is looked at.
    pub(crate) fn bears_weight(&self, covered: TranslationSet) -> bool {
        let machine = self.machine;
        let is_device = |entry: &Translation| {
            let is_there = entry.frame.number() < machine.frames;
            entry.is_page() && is_there && self.frame_use(entry.frame) == FrameUse::Device
        };
        let mut covered = self.translations(covered);
        covered.any(|entry| {
            machine.checks(Property::StaleUse)
                || machine.checks(Property::DeviceWriteAfterFlush) && is_device(entry)
        })
    }
}
