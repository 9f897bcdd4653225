//! Whether an IPI goes to a lazy CPU that was to be spared ([`Property::LazyInterrupted`](lazytlb_model::Property)).
//!
//! A CPU goes lazy and comes back while others flush, so what memory holds as the IPI is sent is no fair judge: a protocol that looks, and
//! then interrupts whoever was not lazy, may find that it has become so. Judged is what the code was *answered* when it read the word of its
//! target, since the flush began; where it did not look at all, what it would be answered now. A flush of several ranges looks for each of
//! them, before one IPI for all: whom it found running once, it may interrupt.
//!
//! ```text
//!  initiator                          target                     judged by
//!  reads is_lazy of it: 1; an IPI                                the 1 that it read: violated
//!  reads is_lazy of it: 0             is_lazy = 1
//!  reads it again: 1; an IPI                                     the 0 that it read: fair
//!  an IPI                             is_lazy = 1, since long    it did not look, and would read 1: violated
//! ```

use lazytlb::CpuSet;
use lazytlb_model::{AtomicCell, Breach, Call};

use super::ModelHw;
use crate::sparing::{Promised, SparingLazy};

impl ModelHw {
    /// Promises that from here on no IPI goes to a lazy CPU, until the answer is dropped. Otherwise it is
    /// [`Property::LazyInterrupted`](lazytlb_model::Property::LazyInterrupted), where the program has said which words tell
    /// ([`crate::Program::is_lazy_in`]).
    ///
    /// A CPU that was not lazy at one time when the code looked may be interrupted; so may one that the code did not look at and that is not lazy then.
    pub fn spares_lazy_cpus(&self) -> SparingLazy<'_> {
        SparingLazy::begin(&self.sparing, Promised::SparesThem)
    }

    /// Takes back that promise, within it, until the answer is dropped: for what must reach lazy CPUs, too.
    pub fn reaches_lazy_cpus(&self) -> SparingLazy<'_> {
        SparingLazy::begin(&self.sparing, Promised::Nothing)
    }

    /// Says, within that promise, that a flush has ended: what comes is another one, and has to look anew.
    pub fn has_flushed(&self) {
        let mut sparing = self.sparing.get();
        sparing.forget();
        self.sparing.set(sparing);
    }

    /// Notes what the code has read, if it tells who is lazy.
    pub(super) fn note_lazy(&self, word: AtomicCell, value: u64) {
        if let Some(cpu) = self.constants.lazy_words.owner_of(word) {
            let mut sparing = self.sparing.get();
            sparing.see(cpu, value);
            self.sparing.set(sparing);
        }
    }

    /// Ends the execution if one of the targets of an IPI is to be spared.
    pub(super) fn test_spared<const WORDS: usize>(&self, targets: &CpuSet<WORDS>) {
        let sparing = self.sparing.get();
        if sparing.promised == Promised::Nothing {
            return;
        }
        let targets = targets.iter();
        for cpu in targets.filter_map(|number| self.constants.cpu_numbers.cpu_of(number)) {
            let Some(word) = self.constants.lazy_words.of(cpu) else {
                continue;
            };
            let seen = sparing.seen(cpu);
            if seen.unwrap_or_else(|| self.ask(Call::Load(word))) != 0 {
                self.ask(Call::Breaks(Breach::InterruptsLazy(cpu.0 as u8)));
            }
        }
    }
}
