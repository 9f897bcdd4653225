//! What the README shows is what the program prints: each `console` block is run.

#![allow(clippy::unwrap_used)] // A test that fails is to panic.

mod program;

use std::path::Path;

use program::lazytlb;

#[test]
fn every_console_block_of_the_readme_prints_what_it_shows() {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../README.md");
    let readme = std::fs::read_to_string(readme).unwrap();
    let blocks: Vec<&str> = readme
        .split("```console\n")
        .skip(1)
        .map(|rest| rest.split("```").next().unwrap())
        .collect();
    assert!(
        blocks.len() >= 2,
        "the README shows a counterexample and a decision"
    );
    for block in blocks {
        let (command, shown) = block.split_once('\n').unwrap();
        let arguments = command
            .strip_prefix("$ lazytlb ")
            .expect("a block runs lazytlb");
        let mut arguments: Vec<&str> = arguments.split(' ').collect();
        if arguments == ["decide"] {
            // It is about what is printed, and not about how fast a machine is that runs other tests, too.
            arguments.extend(["--proof-seconds", "600"]);
        }
        let run = lazytlb(&arguments);
        let lines = |text: &str| text.lines().map(comparable).collect::<Vec<_>>();
        assert_eq!(
            lines(&run.stdout),
            lines(shown),
            "`{command}` prints something else now"
        );
    }
}

/// Leaves out how the words are spaced, how many seconds something took, and what follows in that row: the
/// memory of a state, which hangs on allocations. A hash of the sources changes with every edit.
fn comparable(line: &str) -> String {
    let is_time = |word: &&str| word.contains('.') && word.parse::<f64>().is_ok();
    let is_hash = |word: &str| word.len() == 32 && word.bytes().all(|b| b.is_ascii_hexdigit());
    line.split_whitespace()
        .take_while(|word| !is_time(word))
        .map(|word| if is_hash(word) { "…" } else { word })
        .collect::<Vec<_>>()
        .join(" ")
}
