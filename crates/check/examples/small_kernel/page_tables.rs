//! Page tables of two levels, what they map, and unmapping.

use lazytlb::{
    Entry, FlushRange, Flushed, FrameKind, FrameSink, MmHandle, PageRange, PageSize, PhysAddr,
    Promise, Spaces, Storage, Unflushed, VirtAddr,
};

use super::kernel::{Forgets, Machine, SmallKernel};

/// Entries of a table. A real one has 512.
pub(crate) const ENTRIES: u16 = 4;
/// Entries of a root that are the user's; the others are the kernel's, the same in every root.
pub(crate) const USER_ENTRIES: u16 = 2;

/// A share of a page: an entry that maps it, or one that did and is not flushed yet. Given up by
/// [`SmallKernel::give_up`] alone.
#[must_use]
pub(crate) struct PageShare(PhysAddr);

impl PageShare {
    /// Takes the share that an entry had. The caller removes it, under the lock.
    pub(crate) fn of_entry(entry: Entry) -> PageShare {
        PageShare(entry.frame())
    }

    /// Puts the share into an entry.
    pub(crate) fn into_entry(self) -> Entry {
        Entry::to(self.0)
    }
}

/// What is freed when a flush has returned.
pub(crate) enum Unmapped {
    Page(PageShare),
    Table(PhysAddr),
}

/// Frees what was unmapped, and promises what whoever frees it relies on.
pub(crate) struct Freeing<'a, H: Machine, const SLOTS: usize> {
    pub(crate) kernel: &'a SmallKernel<H, SLOTS>,
    pub(crate) hw: &'a H,
    pub(crate) spaces: Spaces,
    pub(crate) promises: Vec<Promise>,
}

impl<H: Machine, const SLOTS: usize> FrameSink for Freeing<'_, H, SLOTS> {
    type Item = Unmapped;
    fn flushing(&mut self, range: FlushRange) {
        let promise = self.hw.promise_begins(self.spaces, range);
        self.promises.push(promise);
    }
    fn flushed(&mut self, _report: Flushed) {
        self.promises
            .drain(..)
            .for_each(|promise| self.hw.promise_kept(promise));
    }
    fn release(&mut self, unmapped: Unmapped) {
        match unmapped {
            Unmapped::Page(share) => self.kernel.give_up(self.hw, share),
            Unmapped::Table(table) => self.hw.free_frame(table),
        }
    }
}

/// Room for as many as there are, if there is memory.
struct Growing(Vec<Unflushed<Unmapped>>);

impl Storage<Unmapped> for Growing {
    fn put(&mut self, item: Unflushed<Unmapped>) -> Result<(), Unflushed<Unmapped>> {
        if self.0.try_reserve(1).is_err() {
            return Err(item);
        }
        self.0.push(item);
        Ok(())
    }
    fn take(&mut self) -> Option<Unflushed<Unmapped>> {
        self.0.pop()
    }
}

/// Where the entry of an address stands.
fn root_index(addr: VirtAddr) -> u16 {
    (addr.0 >> 21 & 511) as u16
}

fn table_index(addr: VirtAddr) -> u16 {
    (addr.0 >> 12 & 511) as u16
}

impl<H: Machine, const SLOTS: usize> SmallKernel<H, SLOTS> {
    pub(crate) fn sink<'a>(&'a self, hw: &'a H, space: MmHandle) -> Freeing<'a, H, SLOTS> {
        Freeing {
            kernel: self,
            hw,
            spaces: self.spaces(space),
            promises: Vec::new(),
        }
    }

    /// Gives up a share of a page, and frees it if it was the last.
    pub(crate) fn give_up(&self, hw: &H, share: PageShare) {
        let shares = &self.shares[(share.0.0 >> 12) as usize];
        let former = hw.fetch_add(shares, 1u64.wrapping_neg());
        assert!(former > 0, "an entry without a share in its page");
        if former == 1 {
            hw.free_frame(share.0);
        }
    }

    /// Takes one more share of the page that an entry maps.
    pub(crate) fn share(&self, hw: &H, entry: Entry) {
        hw.fetch_add(&self.shares[(entry.frame().0 >> 12) as usize], 1);
    }

    /// Says whether the page that an entry maps is shared.
    pub(crate) fn is_shared(&self, hw: &H, entry: Entry) -> bool {
        hw.load(&self.shares[(entry.frame().0 >> 12) as usize]) > 1
    }

    /// Makes a page. A kernel would fill it here, too.
    pub(crate) fn new_page(&self, hw: &H) -> PageShare {
        let frame = hw.alloc_frame(FrameKind::Page);
        hw.store(&self.shares[(frame.0 >> 12) as usize], 1);
        PageShare(frame)
    }

    /// Finds table and index of an address's entry, if there is a table.
    pub(crate) fn place(&self, hw: &H, root: PhysAddr, addr: VirtAddr) -> Option<(PhysAddr, u16)> {
        let hooked = hw.read_entry(root, root_index(addr));
        hooked
            .is_present()
            .then(|| (hooked.frame(), table_index(addr)))
    }

    /// Writes a root's entry: in both roots, if there are two.
    pub(crate) fn hook(&self, hw: &H, space: MmHandle, index: u16, entry: Entry) {
        let mm = &self.space(space).mm;
        let roots = [Some(mm.root()), mm.user_root()];
        roots
            .into_iter()
            .flatten()
            .for_each(|root| hw.write_entry(root, index, entry));
    }

    /// Maps a page where none was: no flush (H21).
    pub(crate) fn map(&self, hw: &H, space: MmHandle, addr: VirtAddr, share: PageShare) {
        let root = self.space(space).mm.root();
        let (table, index) = self.place(hw, root, addr).unwrap_or_else(|| {
            let table = hw.alloc_frame(FrameKind::Table);
            self.hook(hw, space, root_index(addr), Entry::to(table));
            (table, table_index(addr))
        });
        hw.write_entry(table, index, share.into_entry());
    }

    /// Unmaps pages under one table, and the table with them if nothing else is mapped there.
    pub(crate) fn munmap(&self, hw: &H, space: MmHandle, pages: PageRange) {
        self.locked(hw, space, || {
            let storage = Growing(Vec::new());
            let mut gather = self.tlb.gather(hw, space, storage, self.sink(hw, space));
            let root = self.space(space).mm.root();
            let place = self.place(hw, root, pages.start);
            for addr in pages.pages().take_while(|_| place.is_some()) {
                let (table, index) = self.place(hw, root, addr).expect("it has a table");
                let entry = hw.read_entry(table, index);
                if entry.is_present() {
                    hw.write_entry(table, index, Entry::ABSENT);
                    gather.unmapped(PageRange::page(addr));
                    gather.free(hw, Unmapped::Page(PageShare::of_entry(entry)));
                }
            }
            if let Some((table, _)) = place.filter(|&(table, _)| self.is_empty(hw, table)) {
                self.hook(hw, space, root_index(pages.start), Entry::ABSENT);
                match self.forgets {
                    Forgets::TableIsUnhooked => gather.unmapped(PageRange::page(pages.start)),
                    _ => gather.unhooked(PageRange {
                        start: pages.start,
                        len_pages: 1,
                        size: PageSize::Size2M,
                    }),
                }
                gather.free(hw, Unmapped::Table(table));
            }
            gather.finish(hw);
        });
    }

    fn is_empty(&self, hw: &H, table: PhysAddr) -> bool {
        (0..ENTRIES).all(|index| !hw.read_entry(table, index).is_present())
    }
}
