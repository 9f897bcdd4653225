//! Answers that are kept, so that a run which was ended goes on where it was.

use std::collections::HashMap;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// Where answers are kept, a file for each state of the sources and each round.
const FOLDER: &str = "target/mutate-protocol/answers";
/// What answers depend on: the protocol, the model, the checker, what asks, and how it is compiled.
const SOURCES: [&str; 4] = [
    "crates",
    "Cargo.toml",
    "Cargo.lock",
    // Not what is said of the answers.
    ":(exclude)crates/mutants/argued.toml",
];
/// An index of git's for the sources as they lie there; the one of the checkout stays as it is.
const INDEX: &str = "target/mutate-protocol/index";

/// The lines of a round, over the sources as they are.
pub(super) struct Kept {
    file: PathBuf,
    /// By the change's name.
    pub(super) lines: HashMap<String, String>,
}

impl Kept {
    /// Reads what an earlier run of this round left over the same sources.
    ///
    /// # Errors
    /// If git does not tell the state of the sources, or a file cannot be read.
    pub(super) fn read(root: &Path, round: &str) -> Result<Kept> {
        let name = format!("{}-{round}.jsonl", state(root)?);
        Kept::read_file(root.join(FOLDER).join(name))
    }

    fn read_file(file: PathBuf) -> Result<Kept> {
        let text = match fs::read_to_string(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error).with_context(|| file.display().to_string()),
        };
        let mut lines = HashMap::new();
        for line in text.lines() {
            // The line at which a run was ended may be torn: that change is asked about again.
            let Ok(value) = serde_json::from_str::<serde_json::Value>(line) else {
                continue;
            };
            if let Some(change) = value["change"].as_str() {
                lines.insert(change.to_owned(), line.to_owned());
            }
        }
        Ok(Kept { file, lines })
    }

    /// Keeps a line.
    ///
    /// # Errors
    /// If it cannot be written.
    pub(super) fn keep(&self, line: &str) -> Result<()> {
        let folder = self.file.parent().unwrap_or(Path::new("."));
        let write = || -> std::io::Result<()> {
            fs::create_dir_all(folder)?;
            let mut file = OpenOptions::new()
                .create(true)
                .append(true)
                .open(&self.file)?;
            // Begun anew, whatever stands before it.
            file.write_all(format!("\n{line}\n").as_bytes())
        };
        write().with_context(|| format!("cannot write {}", self.file.display()))
    }
}

/// Names the state of the sources as they lie there, committed or not, by the hash of their tree.
fn state(root: &Path) -> Result<String> {
    let index = root.join(INDEX);
    let git = |args: &[&str]| -> Result<String> {
        let mut command = Command::new("git");
        command
            .args(args)
            .current_dir(root)
            .env("GIT_INDEX_FILE", &index);
        let output = command
            .output()
            .context("cannot start git, which tells whether the sources are those of an earlier run; install it")?;
        ensure!(
            output.status.success(),
            "`git {}` failed: {}",
            args.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    fs::create_dir_all(index.parent().unwrap_or(root))
        .with_context(|| format!("cannot make the folder of {}", index.display()))?;
    git(&[&["add", "--all", "--"][..], &SOURCES].concat())?;
    git(&["write-tree"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_kept_is_read_again_but_for_a_torn_line() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("answers/one.jsonl");
        let kept = Kept::read_file(file.clone()).unwrap();
        assert!(kept.lines.is_empty());
        kept.keep(r#"{"change":"first"}"#).unwrap();
        let mut torn = OpenOptions::new().append(true).open(&file).unwrap();
        torn.write_all(br#"{"change":"to"#).unwrap();
        kept.keep(r#"{"change":"last"}"#).unwrap();
        let kept = Kept::read_file(file).unwrap();
        let mut names: Vec<_> = kept.lines.keys().map(String::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["first", "last"]);
        assert_eq!(kept.lines["last"], r#"{"change":"last"}"#);
    }

    #[test]
    fn the_state_follows_files_that_git_does_not_know_yet() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let started = Command::new("git")
            .args(["init", "--quiet"])
            .current_dir(root)
            .status();
        assert!(started.unwrap().success());
        fs::create_dir(root.join("crates")).unwrap();
        for file in ["crates/new.rs", "Cargo.toml", "Cargo.lock"] {
            fs::write(root.join(file), "one").unwrap();
        }
        let before = state(root).unwrap();
        assert_eq!(state(root).unwrap(), before);
        fs::write(root.join("crates/new.rs"), "two").unwrap();
        let after = state(root).unwrap();
        assert_ne!(after, before);
        fs::create_dir(root.join("crates/mutants")).unwrap();
        fs::write(root.join("crates/mutants/argued.toml"), "argued").unwrap();
        assert_eq!(
            state(root).unwrap(),
            after,
            "what is argued changes no answer"
        );
    }
}
