//! Pages that change the type of their memory while others read them: uncached, and back.
//!
//! No emulator looks at a page's type. What shows is the order: nobody uses a page when its new entry is made, so it is spoiled
//! there for a while, and whoever still reads it by an old translation finds no page. On a real CPU this kernel would owe more: it maps all memory for
//! itself, too, and leaves that mapping as it is (H28).

use core::iter::once;
use core::sync::atomic::{AtomicU64, Ordering};

use lazytlb::{FlushRange, OutOfUse, PageRange, PhysAddr, Tables, VirtAddr};

use crate::breaks::Break;
use crate::machine::{hw, tlb};
use crate::page_id::Place;
use crate::paging::{self, Level};
use crate::sizes::spoil;
use crate::space::{Page, Space};
use crate::{breaking, changes, freeing};

/// How often types have changed.
pub static CHANGED: AtomicU64 = AtomicU64::new(0);

impl Space {
    /// Makes a page uncached and ordinary again, if there is one of 4 KiB.
    pub fn change_type(&self, place: Place) {
        let mut pages = self.pages_of(place.region());
        if self.large_page(place.region()).is_some() {
            return;
        }
        let page = &mut pages[place.index()];
        let Some(frame) = page.frame else {
            return;
        };
        for memory_type in [paging::UNCACHED, 0] {
            self.retype(page, place, frame, memory_type);
            changes::count_change();
        }
    }

    /// Changes the type of a page, and writes a newer version to it while nobody uses it.
    fn retype(&self, page: &mut Page, place: Place, frame: PhysAddr, memory_type: u64) {
        let addr = VirtAddr(place.address());
        let entry = paging::find(self.root(), addr, Level::Pages).expect("it is mapped");
        page.version += 1;
        let write = || {
            spoil(once(frame));
            self.fill(place, page);
        };
        let value = frame.0 | paging::WRITABLE | memory_type;
        self.removing(once(place), || {
            let report = match breaking::is(Break::RetypeInPlace) {
                true => {
                    write();
                    entry.store(value, Ordering::Release);
                    let range = FlushRange::page(addr);
                    tlb().flush(hw(), self.handle(), range, Tables::Kept)
                }
                false => {
                    let mappings = [(self.handle(), PageRange::page(addr))];
                    let clear = || entry.store(0, Ordering::Release);
                    let make = |out_of_use: &OutOfUse| {
                        write();
                        make_with_type(entry, value, out_of_use);
                    };
                    tlb().change_type(hw(), &mappings, clear, make).1
                }
            };
            freeing::count(report);
        });
        self.publish(place, page.version);
        CHANGED.fetch_add(1, Ordering::Relaxed);
    }
}

/// Writes an entry of another type than before: this kernel's one way to.
fn make_with_type(entry: &AtomicU64, value: u64, _: &OutOfUse) {
    entry.store(value, Ordering::Release);
}
