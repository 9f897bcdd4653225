//! A value out of a few that CPUs share.

use core::marker::PhantomData;
use core::sync::atomic::{AtomicU8, Ordering};

/// An enum with few values.
pub trait Few: Copy + PartialEq + 'static {
    /// All of them; shared values begin as the first.
    const ALL: &'static [Self];
}

/// A shared value. Every access is sequentially consistent: none is frequent.
pub struct Shared<T> {
    /// The place in [`Few::ALL`].
    place: AtomicU8,
    values: PhantomData<fn() -> T>,
}

impl<T: Few> Shared<T> {
    /// Begins as the first value of all.
    pub const fn first() -> Self {
        Shared {
            place: AtomicU8::new(0),
            values: PhantomData,
        }
    }

    /// Returns the value.
    pub fn load(&self) -> T {
        T::ALL[usize::from(self.place.load(Ordering::SeqCst))]
    }

    /// Sets the value.
    pub fn store(&self, value: T) {
        self.place.store(Self::place_of(value), Ordering::SeqCst);
    }

    /// Changes one value into another; false if it is a third.
    pub fn change(&self, from: T, to: T) -> bool {
        let (from, to) = (Self::place_of(from), Self::place_of(to));
        self.place
            .compare_exchange(from, to, Ordering::SeqCst, Ordering::SeqCst)
            .is_ok()
    }

    fn place_of(value: T) -> u8 {
        let place = T::ALL.iter().position(|other| *other == value);
        place.expect("every value is listed") as u8
    }
}
