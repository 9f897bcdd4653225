//! Which program and protocol a page is of.

use lazytlb::sources;

/// Names the program and the protocol that it checked.
pub(super) fn made_by() -> String {
    format!(
        "lazytlb {}, protocol hash {}",
        env!("CARGO_PKG_VERSION"),
        sources::combined()
    )
}
