//! Checks the shape of the sources: how long functions and files are, which files stand in circles, and
//! which signatures take a bare integer for an index.
//!
//! Each of these once let a wrong answer through, or hid one: a function that does nine things swallows
//! an error on the way, two files that need each other cannot be understood alone, and a CPU's number
//! passes for a frame's without a word from the compiler. So they are counted, not left to taste. What is
//! to be excepted stands in [`EXCEPTIONS`] with its reason, circles in `ARCHITECTURE.md`.
//!
//! | file | what |
//! | --- | --- |
//! | `source` | the files, parsed |
//! | `finding` | what is wrong, and where |
//! | `length` | functions of 70 lines, files of 450 lines of code |
//! | `circles` | files of one crate that use each other |
//! | `tables` | files that their crate's table does not name |
//! | `indices` | bare integers in signatures of the model and of the checker's inside |

mod circles;
mod finding;
mod indices;
mod length;
mod source;
mod tables;

use std::path::Path;

use anyhow::{Result, bail};
use cargo_metadata::Metadata;

use finding::{Check, Finding};

/// A finding that is allowed to stand.
struct Exception {
    check: Check,
    /// The file, relative to the workspace's root.
    file: &'static str,
    /// The name of the finding.
    name: &'static str,
    /// Why it may stand.
    #[expect(dead_code, reason = "for those who read the table")]
    because: &'static str,
}

/// What may stand, and why. An exception that is not needed any more is an error, too.
const EXCEPTIONS: &[Exception] = &[
    Exception {
        check: Check::FunctionLength,
        file: "crates/model/src/step.rs",
        name: "call",
        because: "the one dispatch of all calls: a line for each, where its fields fit into one",
    },
    Exception {
        check: Check::BareIndex,
        file: "crates/check/src/hardware.rs",
        name: "number_for_people",
        because: "reports are public, and count CPUs in integers",
    },
    Exception {
        check: Check::BareIndex,
        file: "crates/model/src/ends.rs",
        name: "entry_values",
        because: "a program names entries as the seam's `Memory` does: a table, and an index in it",
    },
    Exception {
        check: Check::BareIndex,
        file: "crates/model/src/start.rs",
        name: "put_first_entries",
        because: "as `entry_values`",
    },
    Exception {
        check: Check::BareIndex,
        file: "crates/model/src/index/numbered.rs",
        name: "byte",
        because: "the one place where a count becomes the byte of an index",
    },
    Exception {
        check: Check::BareIndex,
        file: "crates/model/src/limit.rs",
        name: "check",
        because: "it hands on how many there are",
    },
];

/// The step of `cargo xtask test`.
///
/// # Errors
/// If there is a finding without an exception, or an exception without a finding.
pub(crate) fn test(workspace: &Metadata) -> Result<()> {
    let root = workspace.workspace_root.as_std_path();
    let sources = source::all(root)?;
    let mut findings = length::check(&sources);
    findings.extend(circles::check(root, &sources)?);
    findings.extend(indices::check(&sources));
    findings.extend(tables::check(&sources));
    let mut problems: Vec<String> = findings
        .iter()
        .filter(|finding| {
            !EXCEPTIONS
                .iter()
                .any(|exception| excepts(exception, finding))
        })
        .map(Finding::to_string)
        .collect();
    let unused = EXCEPTIONS
        .iter()
        .filter(|exception| !findings.iter().any(|finding| excepts(exception, finding)));
    problems.extend(unused.map(|exception| {
        let Exception { file, name, .. } = exception;
        format!(
            "{file}: `{name}` needs its exception no more: remove it from xtask/src/structure.rs"
        )
    }));
    if !problems.is_empty() {
        bail!("{} problems:\n{}", problems.len(), problems.join("\n"));
    }
    println!("    {} files are in shape", sources.len());
    Ok(())
}

fn excepts(exception: &Exception, finding: &Finding) -> bool {
    exception.check == finding.check
        && finding.file == Path::new(exception.file)
        && exception.name == finding.name
}
