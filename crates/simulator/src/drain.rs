//! How stores leave the buffers.

use crate::machine::{Machine, Stop};
use crate::memory::Word;
use crate::store_buffer::Store;
use crate::write_combining::Combined;

impl Machine<'_> {
    /// Lets a store of a CPU leave one of its buffers, if one may.
    pub(crate) fn store_leaves(&mut self, cpu: usize) -> Result<(), Stop> {
        self.forget_barriers(cpu);
        let state = &self.cpus[cpu];
        let oldest = state.store_buffer.oldest();
        let plain = oldest.and_then(|store| Some((*store, store.to?)));
        let plain = plain.filter(|(store, to)| state.may_leave(store, *to));
        let combined = state.combining.iter();
        let combined = combined.filter(|held| state.may_leave(&held.store, held.to));
        let combined: Vec<Combined> = combined.copied().collect();
        let choices = usize::from(plain.is_some()) + combined.len();
        let choice = self.random.below(choices.max(1));
        match (combined.get(choice), plain) {
            (Some(held), _) => self.combined_leaves(cpu, *held),
            (None, Some((store, to))) => {
                self.arrives(cpu, &store, to)?;
                self.cpus[cpu].store_buffer.leave();
                Ok(())
            }
            (None, None) => Ok(()),
        }
    }

    /// Starts the write to a device, or lets a store arrive (H27).
    fn combined_leaves(&mut self, cpu: usize, held: Combined) -> Result<(), Stop> {
        if held.to_device && !held.started {
            self.cpus[cpu].combining.start(held.store.number);
            return Ok(());
        }
        self.arrives(cpu, &held.store, held.to)?;
        self.cpus[cpu].combining.leave(held.store.number);
        Ok(())
    }

    /// Writes a store to memory.
    fn arrives(&mut self, cpu: usize, store: &Store, to: Word) -> Result<(), Stop> {
        // Updates of the word that is overwritten come first.
        while self.cpus[cpu]
            .updates
            .iter()
            .any(|update| update.entry == to)
        {
            self.update(cpu)?;
        }
        let value = store.bytes.replaced(self.memory.read(to), store.value);
        self.write(to, value);
        let state = &mut self.cpus[cpu];
        state.youngest_left = state.youngest_left.max(store.number);
        Ok(())
    }

    /// Forgets the SFENCEs that hold up nothing any more.
    fn forget_barriers(&mut self, cpu: usize) {
        let reading = self.board.readings.sfence;
        let state = &mut self.cpus[cpu];
        let (plain, combined) = (&state.store_buffer, &state.combining);
        state.barriers.retain(|barrier| {
            plain.holds_up_to(*barrier) || !combined.is_done_up_to(*barrier, reading)
        });
    }
}
