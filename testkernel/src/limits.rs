//! How many of everything there can be; CPUs are counted in [`crate::cpu`].

/// Address spaces, the kernel's own included: handle 0.
pub const MAX_SPACES: usize = 5;
/// CPU sets of one word: 64 CPUs are enough here.
pub const WORDS: usize = 1;
/// Spaces whose translations a CPU with PCIDs keeps: fewer than there are, so that PCIDs change hands.
pub const SLOTS: usize = 2;
/// Page tables of one space that are held back at most under `quarantine`, and of all: so few that a storm reaches both.
pub const HELD_OF_A_SPACE: u64 = 3;
pub const HELD_IN_ALL: u64 = 5;
