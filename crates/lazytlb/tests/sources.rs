//! The table of source hashes names every file, and each hash is that of the file on disk.
#![allow(clippy::unwrap_used)] // A file that cannot be read fails the test.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use lazytlb::sources::{SOURCES, SourceHash};

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
    let manifest = fs::read(root.join("Cargo.toml")).unwrap();
    on_disk.insert("Cargo.toml".to_owned(), SourceHash::of(&manifest));
    let table = SOURCES.map(|file| (file.name.to_owned(), file.hash));
    assert_eq!(on_disk, BTreeMap::from(table));
}
