//! Reads the public tests that lie beside the project, if they do.

use std::fs;
use std::path::Path;

#[test]
fn every_test_of_the_public_suite_is_read() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/litmus/x86-tso");
    let Ok(files) = fs::read_dir(&folder) else {
        return;
    };
    let mut count = 0;
    for file in files {
        let path = file.expect("the folder can be listed").path();
        if path
            .extension()
            .is_none_or(|extension| extension != "litmus")
        {
            continue;
        }
        let bytes = fs::read(&path).expect("the file can be read");
        match lazytlb_litmus::read_bytes(&bytes) {
            Ok(test) => {
                assert!(
                    test.threads
                        .iter()
                        .all(|thread| !thread.instructions.is_empty())
                );
                assert_eq!(
                    path.file_stem().and_then(|stem| stem.to_str()),
                    Some(&*test.name)
                );
            }
            Err(error) => panic!("{}: {error}", path.display()),
        }
        count += 1;
    }
    assert!(count > 0, "{} holds no tests", folder.display());
}
