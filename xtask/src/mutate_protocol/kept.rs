//! Answers that are kept, so that a run which was ended goes on where it was.

use std::collections::HashMap;
use std::fs::{self, OpenOptions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// Where answers are kept, a file for each state of the sources and each round.
const FOLDER: &str = "target/mutate-protocol/answers";
/// What answers depend on: the protocol, the model, the checker, and what asks.
const SOURCES: &str = "crates";

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
        let file = root
            .join(FOLDER)
            .join(format!("{:016x}-{round}.jsonl", state(root)?));
        let text = match fs::read_to_string(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error).with_context(|| file.display().to_string()),
        };
        let mut lines = HashMap::new();
        for line in text.lines() {
            // The last line of a run that was ended may be torn: that change is asked about again.
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
            file.write_all(format!("{line}\n").as_bytes())
        };
        write().with_context(|| format!("cannot write {}", self.file.display()))
    }
}

/// A number that differs whenever the sources do: of what is committed, and what is changed since.
fn state(root: &Path) -> Result<u64> {
    let mut hasher = DefaultHasher::new();
    for args in [
        &["rev-parse", &format!("HEAD:{SOURCES}")][..],
        &["diff", "HEAD", "--", SOURCES],
        &["ls-files", "--others", "--exclude-standard", "--", SOURCES],
    ] {
        let output = Command::new("git").args(args).current_dir(root).output();
        let output = output.context(
            "cannot start git, which tells whether the sources are those of an earlier run",
        )?;
        ensure!(output.status.success(), "`git {}` failed", args.join(" "));
        output.stdout.hash(&mut hasher);
    }
    Ok(hasher.finish())
}
