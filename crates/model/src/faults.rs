//! How an access by virtual address comes to fault.
//!
//! Rules: H3, H9, H25; H40 for a fetch.

use std::ops::Deref;

use crate::progress::Stop;
use crate::state::{CacheSet, FrameUse, State};
use crate::translation::Translation;
use crate::view::{CpuIn, StoredEntry};
use crate::virtual_access::VirtualAccess;
use crate::walk::TableRead;

/// How an access comes to fault.
#[derive(Clone, Copy)]
pub(crate) enum FaultBy<'m> {
    /// By a walk that reads all levels.
    FromTheRoot,
    /// Through an entry that is cached: a page's that refuses, or an upper one that a walk starts at.
    Through(&'m Translation),
}

impl<'m, S: Deref<Target = State>> CpuIn<'m, S> {
    /// Lists the ways in which an access may fault: through a cached entry that refuses it, though memory may
    /// allow it by now, or by a walk.
    ///
    /// What was cached had A set in all that it was read from (H3), and a walk that faults need not set any.
    /// So a fault by a walk from the root stands for all others, and without A bits any one does. The walk is
    /// the access's own: it sees all earlier stores of this CPU (H25).
    pub(crate) fn faults(
        &self,
        access: &VirtualAccess,
        refusing: Vec<&'m Translation>,
    ) -> Result<Vec<FaultBy<'m>>, Stop> {
        let machine = self.machine;
        if self.walk_may_fault(&self.root(), access)? {
            return Ok(vec![FaultBy::FromTheRoot]);
        }
        let mut faults: Vec<_> = refusing.into_iter().map(FaultBy::Through).collect();
        for upper in self.uppers_for(access.addr) {
            if let Some(below) = TableRead::below(upper, CacheSet::Cached)
                && self.walk_may_fault(&below, access)?
            {
                faults.push(FaultBy::Through(upper));
            }
        }
        if !machine.features.accessed_dirty {
            faults.truncate(1);
        }
        Ok(faults)
    }

    /// Says whether a walk on from a table can find an entry that is not valid, or a page that does not allow
    /// the access.
    fn walk_may_fault(&self, table: &TableRead, access: &VirtualAccess) -> Result<bool, Stop> {
        if table.is_dead || self.frame_use(table.frame) != FrameUse::Table {
            return Ok(false);
        }
        let machine = self.machine;
        let Some(entry) = machine.entry_for(table.frame, access.addr, table.level) else {
            return Ok(true);
        };
        if self.reads_early(access) {
            for stored in self.readable_early(entry) {
                if self.walk_may_fault_by(table, stored, access)? {
                    return Ok(true);
                }
            }
        }
        self.walk_may_fault_by(table, self.as_seen(entry), access)
    }

    /// As [`CpuIn::walk_may_fault`], for a walk that reads this in the table.
    fn walk_may_fault_by(
        &self,
        table: &TableRead,
        stored: StoredEntry,
        access: &VirtualAccess,
    ) -> Result<bool, Stop> {
        let (index, cr4) = (table.level.index_of(access.addr), self.cr4());
        let Some(found) = self.machine.translate(table, index, stored, cr4)? else {
            return Ok(true);
        };
        match TableRead::below(&found, CacheSet::Cached) {
            None => Ok(!access.is_allowed_by(&found, cr4)),
            Some(below) => self.walk_may_fault(&below, access),
        }
    }
}
