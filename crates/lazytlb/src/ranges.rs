//! A few ranges instead of one that covers all: pages far from each other are not made up for by what lies between.

use crate::addr::{FlushRange, PageRange};

/// Ranges that are kept apart. Each costs a request and a locked instruction.
const MOST: usize = 4;

/// Up to four ranges of one space, or everything.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ranges {
    ranges: [FlushRange; MOST],
    len: usize,
}

impl Default for Ranges {
    fn default() -> Self {
        Ranges {
            ranges: [FlushRange::All; MOST],
            len: 0,
        }
    }
}

impl Ranges {
    /// Adds a range: to one that it touches, or beside the others; if there is no room, to the last one.
    pub(crate) fn insert(&mut self, range: FlushRange) {
        if range == FlushRange::All {
            self.become_everything();
            return;
        }
        let (known, _) = self.ranges.split_at_mut(self.len);
        let touched = known.iter_mut().rev().find(|known| touches(**known, range));
        if let Some(touched) = touched {
            *touched = touched.union(range);
            return;
        }
        if let Some(free) = self.ranges.get_mut(self.len) {
            *free = range;
            self.len += 1;
            return;
        }
        let last = &mut self.ranges[MOST - 1];
        *last = last.union(range);
        if *last == FlushRange::All {
            self.become_everything();
        }
    }

    fn become_everything(&mut self) {
        self.ranges[0] = FlushRange::All;
        self.len = 1;
    }

    /// Returns the same, or everything if they have more pages than are invalidated one by one.
    pub(crate) fn within(mut self, ceiling: u16) -> Self {
        let pages = self.as_slice().iter().map(|range| match range {
            FlushRange::All => u64::MAX,
            FlushRange::Pages(range) => range.len_pages,
        });
        if pages.fold(0, u64::saturating_add) > u64::from(ceiling) {
            self.become_everything();
        }
        self
    }

    /// Returns the ranges: none, if nothing was added; everything alone, if that is meant.
    pub(crate) fn as_slice(&self) -> &[FlushRange] {
        &self.ranges[..self.len]
    }
}

/// Says whether two ranges overlap, or lie side by side, in pages of one size.
fn touches(one: FlushRange, other: FlushRange) -> bool {
    let (FlushRange::Pages(one), FlushRange::Pages(other)) = (one, other) else {
        return true;
    };
    let first = |range: PageRange| range.start.0 >> range.size.shift();
    let end = |range: PageRange| first(range).saturating_add(range.len_pages);
    one.size == other.size && first(one) <= end(other) && first(other) <= end(one)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::{PageSize, VirtAddr};

    fn pages(first: u64, len_pages: u64) -> FlushRange {
        FlushRange::Pages(PageRange {
            start: VirtAddr(first << 12),
            len_pages,
            size: PageSize::Size4K,
        })
    }

    fn all_of(ranges: &[FlushRange]) -> Ranges {
        let mut all = Ranges::default();
        ranges.iter().for_each(|&range| all.insert(range));
        all
    }

    #[test]
    fn neighbours_become_one_and_strangers_stay_apart() {
        let ranges = all_of(&[
            pages(1, 1),
            pages(2, 1),
            pages(9, 2),
            pages(0, 1),
            pages(10, 1),
        ]);
        assert_eq!(ranges.as_slice(), [pages(0, 3), pages(9, 2)]);
        assert_eq!(all_of(&[]).as_slice(), []);
    }

    #[test]
    fn sizes_stay_apart_too() {
        let large = FlushRange::Pages(PageRange {
            start: VirtAddr(0),
            len_pages: 1,
            size: PageSize::Size2M,
        });
        assert_eq!(
            all_of(&[pages(0, 1), large]).as_slice(),
            [pages(0, 1), large]
        );
    }

    #[test]
    fn what_has_no_room_widens_the_last_one() {
        let apart = [0, 10, 20, 30, 40].map(|first| pages(first, 1));
        let ranges = all_of(&apart);
        assert_eq!(
            ranges.as_slice(),
            [apart[0], apart[1], apart[2], pages(30, 11)]
        );
        let large = PageRange {
            start: VirtAddr(1 << 30),
            len_pages: 1,
            size: PageSize::Size1G,
        };
        let mut with_another_size = ranges;
        with_another_size.insert(FlushRange::Pages(large));
        assert_eq!(with_another_size.as_slice(), [FlushRange::All]);
    }

    #[test]
    fn more_pages_than_the_ceiling_are_everything() {
        let ranges = all_of(&[pages(0, 20), pages(100, 14)]);
        assert_eq!(ranges.within(34).as_slice().len(), 2);
        assert_eq!(ranges.within(33).as_slice(), [FlushRange::All]);
        assert_eq!(all_of(&[]).within(0).as_slice(), []);
    }

    #[test]
    fn everything_stays_everything() {
        let ranges = all_of(&[pages(0, 1), FlushRange::All, pages(7, 1)]);
        assert_eq!(ranges.as_slice(), [FlushRange::All]);
    }
}
