//! The files of the project's own litmus tests.

use std::path::{Path, PathBuf};

/// Lists them, sorted.
pub(crate) fn suite() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../model/litmus");
    let mut files = Vec::new();
    let mut folders = vec![folder];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path
                .extension()
                .is_some_and(|extension| extension == "litmus")
            {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}
