//! How far a call gets: blocked, done, or stopped for good.

use crate::limit::Limit;
use crate::violation::Violation;

/// How far a call of a CPU got. `A` is what it answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress<A = u64> {
    /// The CPU cannot take this step in this state: it waits, or its store buffer must drain first.
    Blocked,
    /// The step is done.
    Done {
        /// What the call returns; 0 for nothing.
        answer: A,
        /// Whether there is another way in which the machine may do this step: the next choice.
        more: bool,
    },
}

impl<A> Progress<A> {
    /// The step is done, in the only way that there is.
    #[inline]
    pub(crate) fn answer(answer: A) -> Progress<A> {
        Progress::Done {
            answer,
            more: false,
        }
    }

    /// Puts another answer in the place of this one.
    #[inline]
    pub(crate) fn map<B>(self, answer: impl FnOnce(A) -> B) -> Progress<B> {
        match self {
            Progress::Blocked => Progress::Blocked,
            Progress::Done { answer: was, more } => Progress::Done {
                answer: answer(was),
                more,
            },
        }
    }
}

impl Progress<()> {
    /// The step is done, and answers nothing.
    pub(crate) const DONE: Progress<()> = Progress::Done {
        answer: (),
        more: false,
    };

    /// Done if something is so; blocked until then.
    #[inline]
    pub(crate) fn once(is_so: bool) -> Progress<()> {
        match is_so {
            true => Progress::DONE,
            false => Progress::Blocked,
        }
    }
}

/// What ends without having to wait is done.
impl From<()> for Progress<()> {
    fn from((): ()) -> Progress<()> {
        Progress::DONE
    }
}

/// The former name of [`Progress`].
#[deprecated(note = "it is called `Progress`: other things are outcomes, too")]
pub type Outcome = Progress;

/// Why a step has no next state.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Stop {
    /// A property is violated.
    Violation(Violation),
    /// The program outgrew the model's numbers.
    Limit(Limit),
}

impl From<Limit> for Stop {
    fn from(limit: Limit) -> Stop {
        Stop::Limit(limit)
    }
}
