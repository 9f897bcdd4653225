//! Page tables that a gather has taken out and not flushed yet.

use lazytlb::{Storage, Unflushed};

/// A page table, which has no contents here.
#[derive(Debug)]
pub(crate) struct Table;

/// Where a gather keeps them until it has flushed. The machine keeps the room for the next one.
#[derive(Default)]
pub(crate) struct Gathered(Vec<Unflushed<Table>>);

impl Storage<Table> for Gathered {
    fn put(&mut self, table: Unflushed<Table>) -> Result<(), Unflushed<Table>> {
        self.0.push(table);
        Ok(())
    }

    fn take(&mut self) -> Option<Unflushed<Table>> {
        self.0.pop()
    }
}
