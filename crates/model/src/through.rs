//! The way of an access to a page: the cached entry that translates, and the one that gets A and D. Rules: H42.

use crate::translation::Translation;

/// A way of an access to a page.
#[derive(Clone, Copy)]
pub(crate) struct Through<'m> {
    /// The entry that translates.
    pub(crate) used: &'m Translation,
    /// The entry whose way through memory gets A, and D for a store: the same, but where the update of D finds that
    /// W is lost (H42).
    pub(crate) marks: &'m Translation,
}

impl<'m> Through<'m> {
    pub(crate) fn same(used: &'m Translation) -> Through<'m> {
        Through { used, marks: used }
    }
}
