//! The classical tests whose verdicts the authors of x86-TSO published, where a copy lies beside the project.

#![allow(clippy::unwrap_used)] // A test that fails is to panic.

use std::path::Path;

use lazytlb_litmus::{LitmusVerdict, Options, read_bytes, run};

#[test]
fn the_published_verdicts_are_ours() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/litmus/x86-tso");
    let Ok(kinds) = std::fs::read_to_string(folder.join("kinds.txt")) else {
        println!("no copy of the tests here: {}", folder.display());
        return;
    };
    let mut compared = 0;
    for line in kinds.lines() {
        let mut words = line.split_whitespace();
        let (Some(name), Some(kind)) = (words.next(), words.next()) else {
            continue;
        };
        let text = std::fs::read(folder.join(format!("{name}.litmus"))).unwrap();
        let answer = run(&read_bytes(&text).unwrap(), &Options::default()).unwrap();
        let expected = match kind {
            "Allow" => LitmusVerdict::Allowed,
            "Forbid" => LitmusVerdict::Forbidden,
            other => panic!("{name}: {other}"),
        };
        assert_eq!(answer.verdict(), expected, "{answer}");
        compared += 1;
    }
    assert_eq!(compared, 28);
}
