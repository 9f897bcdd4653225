//! The order in which states are explored.

use std::ops::Range;

use crate::store::StateId;

/// States explored between two looks at the clock.
const BLOCK: StateId = 1 << 14;

/// Decides which states are explored next.
pub(crate) trait Order {
    /// Returns the states to explore next, when states up to a number, without it, have been found; `None`
    /// if none waits.
    fn next_block(&mut self, found: StateId) -> Option<Block>;

    /// Says how many of the states found wait.
    fn waiting(&self, found: StateId) -> StateId;

    /// Returns how many steps away from the first state those of the last block are.
    fn depth(&self) -> u64;
}

/// States to explore, one after the other.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Block {
    pub(crate) states: Range<StateId>,
    /// The first state that may still be asked for, from this block on.
    pub(crate) first_needed: StateId,
}

/// Level by level, in the order of discovery: so the first way to a state is a shortest one.
#[derive(Default)]
pub(crate) struct BreadthFirst {
    level: Range<StateId>,
    done: StateId,
    depth: u64,
}

impl Order for BreadthFirst {
    fn next_block(&mut self, found: StateId) -> Option<Block> {
        if self.done == self.level.end {
            if self.done == found {
                return None;
            }
            self.depth += u64::from(self.done > 0);
            self.level = self.done..found;
        }
        let end = self.level.end.min(self.done.saturating_add(BLOCK));
        let states = self.done..end;
        self.done = end;
        Some(Block {
            states,
            first_needed: self.level.start,
        })
    }

    fn waiting(&self, found: StateId) -> StateId {
        found - self.done
    }

    fn depth(&self) -> u64 {
        self.depth
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_explored_before_what_it_leads_to() {
        let mut order = BreadthFirst::default();
        let first = order.next_block(1).unwrap();
        assert_eq!((first.states, order.depth()), (0..1, 0));
        let found = BLOCK + 10;
        let second = order.next_block(found).unwrap();
        assert_eq!((second.states, second.first_needed), (1..1 + BLOCK, 1));
        assert_eq!(order.waiting(found), 9);
        let rest = order.next_block(found + 5).unwrap();
        assert_eq!((rest.states, rest.first_needed), (1 + BLOCK..found, 1));
        assert_eq!(order.depth(), 1);
        let third = order.next_block(found + 5).unwrap();
        assert_eq!((third.first_needed, order.depth()), (found, 2));
        assert_eq!(order.next_block(found + 5), None);
        assert_eq!(order.depth(), 2, "there is no further level");
    }
}
