//! Small numbers for what a state holds: places of entries, cached entries, broadcasts.

use lazytlb_model::Broadcast;

use super::state::Cached;
use super::{Naive, number};

impl Naive<'_> {
    pub(super) fn place(&self, table: u64, index: u16) -> u8 {
        let wanted = (number(table), index);
        let place = self.places.iter().position(|&place| place == wanted);
        place.expect("the script lists its places") as u8
    }

    /// Returns the entries of a set.
    pub(super) fn members(&self, set: u64) -> impl Iterator<Item = Cached> {
        let numbers = (0..64).filter(move |number| set >> number & 1 != 0);
        numbers.map(|number| self.entry(number))
    }

    pub(super) fn entry(&self, number: usize) -> Cached {
        self.entries.borrow()[number]
    }

    /// Returns an entry's number in sets.
    pub(super) fn number(&self, entry: Cached) -> usize {
        let mut entries = self.entries.borrow_mut();
        if let Some(number) = entries.iter().position(|known| *known == entry) {
            return number;
        }
        if entries.len() == 64 {
            self.too_large.set(true);
            return 63;
        }
        entries.push(entry);
        entries.len() - 1
    }

    pub(super) fn request(&self, issuer: usize, what: Broadcast) -> usize {
        let mut requests = self.requests.borrow_mut();
        let known = requests.iter().position(|known| *known == (issuer, what));
        known.unwrap_or_else(|| {
            requests.push((issuer, what));
            requests.len() - 1
        })
    }
}
