//! The table of source hashes names every file, each hash is that of the file on disk, and the manifest adds nothing to them.
#![allow(clippy::unwrap_used)] // A file that cannot be read fails the test.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use lazytlb::sources::{EDITION, SOURCES, SourceHash};

#[test]
fn the_table_holds_exactly_the_files_on_disk() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut on_disk = BTreeMap::new();
    for entry in fs::read_dir(root.join("src")).unwrap() {
        let path = entry.unwrap().path();
        assert!(path.is_file(), "{} is no file: hash it too", path.display());
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        on_disk.insert(name, SourceHash::of(&fs::read(&path).unwrap()));
    }
    let table = SOURCES.map(|file| (file.name.to_owned(), file.hash));
    assert_eq!(on_disk, BTreeMap::from(table));
}

#[test]
fn the_manifest_says_nothing_that_is_not_hashed() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manifest = fs::read_to_string(root.join("Cargo.toml")).unwrap();
    // A published crate has its edition itself; in the workspace it stands in the workspace's manifest.
    let edition = match manifest.contains("edition.workspace = true") {
        true => fs::read_to_string(root.join("../../Cargo.toml")).unwrap(),
        false => manifest.clone(),
    };
    let line = format!("edition = \"{EDITION}\"");
    assert!(edition.lines().any(|found| found == line), "{edition}");

    let mut table = "";
    for line in manifest.lines().map(str::trim) {
        if line.starts_with('[') {
            table = line;
            continue;
        }
        let changes_code = ["dependencies", "features", "target", "profile"]
            .iter()
            .any(|name| table.contains(name));
        assert!(!changes_code || line.is_empty(), "{table}: {line}");
        assert!(
            !line.starts_with("build =") || line == "build = false",
            "{line}"
        );
        assert!(!line.starts_with("proc-macro"), "{line}");
    }
    assert!(!root.join("build.rs").exists());
}
