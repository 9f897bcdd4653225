//! The small inputs that once had wrong answers, where a copy lies beside the project: each with the right one.
//!
//! The project's own tests of the same kinds stand elsewhere; these files are others' words for them.
#![allow(clippy::unwrap_used)] // A test that fails is to panic.

use std::path::Path;

use lazytlb_litmus::{LitmusVerdict, Options, read_bytes, run};
use lazytlb_model::CpuModel;

/// What is right for a file.
#[derive(Clone, Copy)]
enum Right {
    Allowed,
    Forbidden,
    /// An error whose text has this in it.
    Error(&'static str),
}

use Right::{Allowed, Error, Forbidden};

/// Every file, and what is right on `weakest`.
const RIGHT: [(&str, Right); 24] = [
    ("01-fetch-before-own-entry", Allowed),
    ("01c-fetch-stale-permission-after-mfence", Allowed),
    ("02b", Allowed),
    ("03-store-translated-after-a-later-load", Allowed),
    ("03b", Allowed),
    ("04-walk-in-flight-across-bit-63", Allowed),
    ("04c-control-no-switch", Allowed),
    ("08-byte-store-to-entry", Allowed),
    ("08b-dword-store-to-entry", Allowed),
    ("18-accessed-and-a-later-load", Allowed),
    ("20-fault-ends-a-walk-in-flight", Allowed),
    ("21-mfence-walk-in-flight-control", Allowed),
    ("24-fault-in-a-large-page-drops-all-pieces", Forbidden),
    ("25-data-walk-misses-own-store", Forbidden),
    (
        "PCID-on",
        Error(
            "line 2, column 1: found `PCID=on`, expected a key of this syntax; the nearest is `PCIDs`",
        ),
    ),
    ("Paging-3", Error("line 2, column 1: found `Paging=3`")),
    (
        "Users-P0",
        Error(
            "line 2, column 1: found `Users=P0`, expected a key of this syntax; the nearest is `User`",
        ),
    ),
    ("mt-uc", Forbidden),
    ("mt-wc", Allowed),
    ("own-uc", Forbidden),
    ("own-wc", Allowed),
    ("populate-then-hook", Forbidden),
    ("rehook-one-cpu", Forbidden),
    ("rehook-other-cpu", Forbidden),
];

/// Files whose rule is another one on other models.
const ELSEWHERE: [(&str, CpuModel, Right); 1] =
    [("01-fetch-before-own-entry", CpuModel::AMD_ZEN3, Forbidden)];

/// Files whose rules are not in the model yet. Empty means that all is as it should be.
const PENDING: [&str; 0] = [];

/// Says how an answer differs from what is right.
fn difference(name: &str, cpu_model: CpuModel, right: Right) -> Option<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/cases/litmus");
    let bytes = std::fs::read(folder.join(format!("{name}.litmus"))).unwrap();
    let options = Options {
        cpu_model,
        ..Options::default()
    };
    let answer = run(&read_bytes(&bytes).unwrap(), &options);
    let is_right = match (&answer, right) {
        (Ok(answer), Allowed) => answer.verdict() == LitmusVerdict::Allowed,
        (Ok(answer), Forbidden) => answer.verdict() == LitmusVerdict::Forbidden,
        (Err(error), Error(told)) => error.to_string().contains(told),
        (Ok(_), Error(_)) | (Err(_), Allowed | Forbidden) => false,
    };
    let told = match answer {
        Ok(answer) => answer.to_string(),
        Err(error) => error.to_string(),
    };
    (!is_right).then(|| format!("{name} on {}:\n{told}", cpu_model.name))
}

#[test]
fn every_shared_case_has_the_right_answer() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/cases/litmus");
    let Ok(files) = std::fs::read_dir(&folder) else {
        println!("no copy of the cases here: {}", folder.display());
        return;
    };
    let mut names: Vec<String> = files
        .map(|entry| entry.unwrap().path())
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    names.sort();
    let mut known = RIGHT.map(|(name, _)| name);
    known.sort_unstable();
    assert_eq!(
        names, known,
        "a file without a right answer, or the other way round"
    );
    let weakest = RIGHT.map(|(name, right)| (name, CpuModel::WEAKEST, right));
    let all = weakest.into_iter().chain(ELSEWHERE);
    let due = all.filter(|(name, ..)| !PENDING.contains(name));
    let wrong = due.filter_map(|(name, model, right)| difference(name, model, right));
    let wrong: Vec<String> = wrong.collect();
    assert!(
        wrong.is_empty(),
        "{} are wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}
