//! What many litmus tests came to, counted.

use std::fmt;
use std::path::Path;

use lazytlb_litmus::LitmusVerdict;
use serde::Serialize;

/// The last word on a directory, or on several files.
#[derive(Default, Serialize)]
pub(crate) struct Summary {
    /// Tests that were read and answered; with `--cpu all`, on so many models together.
    read: u64,
    allowed: u64,
    forbidden: u64,
    incomplete: u64,
    /// Of those that were read: how many had an expected verdict.
    compared: u64,
    differing: Vec<Differing>,
    unreadable: Vec<Unreadable>,
}

#[derive(Serialize)]
struct Differing {
    file: String,
    expected: &'static str,
    verdict: &'static str,
}

#[derive(Serialize)]
struct Unreadable {
    file: String,
    error: String,
}

/// A summary as JSON: an object that no answer looks like.
#[derive(Serialize)]
pub(crate) struct SummaryRecord<'s> {
    pub(crate) summary: &'s Summary,
}

impl Summary {
    /// Counts an answer.
    pub(crate) fn count(
        &mut self,
        file: &Path,
        verdict: LitmusVerdict,
        expected: Option<LitmusVerdict>,
        as_expected: Option<bool>,
    ) {
        self.read += 1;
        *match verdict {
            LitmusVerdict::Allowed => &mut self.allowed,
            LitmusVerdict::Forbidden => &mut self.forbidden,
            LitmusVerdict::Incomplete => &mut self.incomplete,
        } += 1;
        self.compared += u64::from(as_expected.is_some());
        if let (Some(false), Some(expected)) = (as_expected, expected) {
            self.differing.push(Differing {
                file: file.display().to_string(),
                expected: expected.name(),
                verdict: verdict.name(),
            });
        }
    }

    /// Counts a file that has no answer.
    pub(crate) fn count_unreadable(&mut self, file: &Path, error: String) {
        let file = file.display().to_string();
        self.unreadable.push(Unreadable { file, error });
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Summary {
            read,
            allowed,
            forbidden,
            incomplete,
            compared,
            differing,
            unreadable,
        } = self;
        write!(
            f,
            "Summary: {read} read: {allowed} Allowed, {forbidden} Forbidden, {incomplete} Incomplete; \
             {} unreadable; {} of {compared} differ from the verdict expected",
            unreadable.len(),
            differing.len()
        )?;
        for Differing {
            file,
            expected,
            verdict,
        } in differing
        {
            write!(f, "\n  {file}: {verdict}, expected {expected}")?;
        }
        for Unreadable { file, .. } in unreadable {
            write!(f, "\n  {file}: unreadable")?;
        }
        Ok(())
    }
}
