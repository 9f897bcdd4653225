//! Menus: operations that a CPU may start whenever it has none under way, any number of times, in any order.
//!
//! A program of such operations stands for every program over them, of any length. Which of them may start hangs
//! on the CPU's *mode*: what it runs between operations, such as user code in a space, or a kernel thread. Whatever
//! else an operation needs it finds out by what it reads.

use std::fmt;
use std::sync::Arc;

use lazytlb_model::LocalCell;

use crate::model_hw::ModelHw;

/// What a CPU runs between operations. Every CPU begins in [`Mode::FIRST`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Mode(u8);

impl Mode {
    /// The mode that every CPU begins in.
    pub const FIRST: Mode = Mode(0);
    /// Modes that a program can have.
    pub const MOST: u8 = 8;

    /// Makes the mode with a number.
    ///
    /// # Panics
    /// If the number is not below [`Mode::MOST`].
    pub const fn new(number: u8) -> Mode {
        assert!(number < Mode::MOST, "modes have numbers below 8");
        Mode(number)
    }

    /// Returns the number.
    pub const fn number(self) -> u8 {
        self.0
    }
}

/// Modes in which an operation may start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Modes(u8);

impl Modes {
    pub(crate) const ALL: Modes = Modes(u8::MAX);

    fn of(modes: impl IntoIterator<Item = Mode>) -> Modes {
        let bits = modes.into_iter().map(|mode| 1 << mode.0);
        Modes(bits.fold(0, |all, bit: u8| all | bit))
    }

    pub(crate) fn contains(self, mode: Mode) -> bool {
        self.0 >> mode.0 & 1 != 0
    }
}

/// When an operation of a menu may start, and what mode it leads to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Offer {
    pub(crate) starts_in: Modes,
    pub(crate) leads_to: Option<Mode>,
    /// Where the CPU's mode lies.
    pub(crate) mode: LocalCell,
}

/// An operation for a CPU's menu: [`crate::Program::offer`].
#[derive(Clone)]
pub struct MenuItem {
    pub(crate) name: String,
    pub(crate) run: Arc<dyn Fn(&ModelHw) + Send + Sync>,
    pub(crate) starts_in: Modes,
    pub(crate) leads_to: Option<Mode>,
}

impl MenuItem {
    /// Makes an operation that may start in every mode, and leads to none other.
    pub fn new(name: impl Into<String>, run: impl Fn(&ModelHw) + Send + Sync + 'static) -> Self {
        MenuItem {
            name: name.into(),
            run: Arc::new(run),
            starts_in: Modes::ALL,
            leads_to: None,
        }
    }

    /// Sets the modes in which it may start.
    pub fn starts_in(self, modes: impl IntoIterator<Item = Mode>) -> Self {
        MenuItem {
            starts_in: Modes::of(modes),
            ..self
        }
    }

    /// Sets the mode that the CPU is in once it has ended.
    pub fn leads_to(self, mode: Mode) -> Self {
        MenuItem {
            leads_to: Some(mode),
            ..self
        }
    }
}

impl fmt::Debug for MenuItem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MenuItem")
            .field("name", &self.name)
            .field("starts_in", &self.starts_in)
            .field("leads_to", &self.leads_to)
            .finish_non_exhaustive()
    }
}
