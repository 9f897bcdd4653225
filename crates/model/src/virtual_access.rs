//! An access by virtual address: what it does, which entries allow it, and how it ends.
//!
//! Rules: H9, H16.

use lazytlb::VirtAddr;

use crate::accessed::Use;
use crate::byte_mask::ByteMask;
use crate::call::{Cr4, Privilege, Rmw};
use crate::combining::CacheHint;
use crate::translation::Translation;

/// An access by virtual address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct VirtualAccess {
    pub(crate) addr: VirtAddr,
    pub(crate) privilege: Privilege,
    pub(crate) operation: Operation,
}

/// What an access by virtual address does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Operation {
    Load,
    Fetch,
    Store {
        bytes: ByteMask,
        value: u64,
        hint: CacheHint,
    },
    /// A locked read-modify-write.
    Rmw {
        bytes: ByteMask,
        rmw: Rmw,
        operand: u64,
    },
}

/// A page fault: the access has had no effect.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct PageFault;

/// How an access by virtual address ends: with a word, 0 where it reads none, or with a fault.
pub(crate) type Accessed = Result<u64, PageFault>;

impl Operation {
    pub(crate) fn store(bytes: ByteMask, value: u64, hint: CacheHint) -> Operation {
        Operation::Store { bytes, value, hint }
    }

    pub(crate) fn rmw(bytes: ByteMask, rmw: Rmw, operand: u64) -> Operation {
        Operation::Rmw {
            bytes,
            rmw,
            operand,
        }
    }

    /// Says what it does to the page.
    pub(crate) fn page_use(self) -> Use {
        match self {
            Operation::Store { .. } | Operation::Rmw { .. } => Use::Writes,
            Operation::Load | Operation::Fetch => Use::Reads,
        }
    }

    pub(crate) fn reads_data(self) -> bool {
        match self {
            Operation::Load | Operation::Rmw { .. } => true,
            Operation::Store { .. } | Operation::Fetch => false,
        }
    }
}

impl VirtualAccess {
    /// Says whether an entry allows the access.
    pub(crate) fn is_allowed_by(&self, entry: &Translation, cr4: Cr4) -> bool {
        let is_fetch = self.operation == Operation::Fetch;
        let by_mode = match self.privilege {
            Privilege::User => entry.user,
            Privilege::Supervisor => !(is_fetch && entry.user && cr4.has(Cr4::SMEP)),
        };
        let by_access = match self.operation {
            Operation::Load => true,
            Operation::Fetch => entry.executable,
            Operation::Store { .. } | Operation::Rmw { .. } => entry.writable,
        };
        by_mode && by_access
    }
}
