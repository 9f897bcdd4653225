//! Why a check has no verdict: the program is not what it must be.

/// The checker cannot give a verdict, because the program is not what it must be.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CheckError {
    /// The program's code is not a function of the seam's answers.
    #[error("{0}")]
    Nondeterminism(String),
    /// A word does not hold the kind of value that it was made for ([`crate::Program::atomic_of_kind`]).
    #[error("{0}")]
    FalseClaim(String),
    /// The program does not fit into the model: it is too large, or names what its machine does not have.
    #[error("{0}")]
    Limit(String),
}
