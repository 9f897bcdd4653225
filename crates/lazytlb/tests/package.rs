//! The crate that is published is the one that was checked: what `cargo package` makes has the same hashes.
#![allow(clippy::unwrap_used)] // A file that cannot be read fails the test.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use lazytlb::sources::{EDITION, SOURCES, SourceHash};

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {stderr}");
}

#[test]
fn a_packaged_crate_has_the_hashes_of_the_checked_one() {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("package");
    // Nothing of a former run may be taken for this one's.
    if target.exists() {
        fs::remove_dir_all(&target).unwrap();
    }
    run(Command::new(env!("CARGO"))
        .args(["package", "--no-verify", "--offline", "--allow-dirty"])
        .args(["--package", "lazytlb", "--target-dir"])
        .arg(&target)
        .current_dir(env!("CARGO_MANIFEST_DIR")));
    let name = format!("lazytlb-{}", env!("CARGO_PKG_VERSION"));
    let packaged = target.join("package");
    run(Command::new("tar")
        .arg("xf")
        .arg(packaged.join(format!("{name}.crate")))
        .arg("-C")
        .arg(&packaged));
    let unpacked = packaged.join(name);

    let mut found = BTreeMap::new();
    for entry in fs::read_dir(unpacked.join("src")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        found.insert(name, SourceHash::of(&fs::read(&path).unwrap()));
    }
    let checked = SOURCES.map(|file| (file.name.to_owned(), file.hash));
    assert_eq!(found, BTreeMap::from(checked));

    let manifest = fs::read_to_string(unpacked.join("Cargo.toml")).unwrap();
    let edition = format!("edition = \"{EDITION}\"");
    assert!(manifest.lines().any(|line| line == edition), "{manifest}");
    for file in ["README.md", "LICENSE-APACHE", "LICENSE-MIT"] {
        let text = fs::read_to_string(unpacked.join(file)).unwrap();
        assert!(text.lines().count() > 5, "{file}: {text}");
    }
}
