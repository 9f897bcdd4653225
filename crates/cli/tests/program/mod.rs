//! Runs the program `lazytlb` as a user does.
#![allow(dead_code)] // Each test uses a part of this.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// What a run printed, and how it ended.
pub(crate) struct Run {
    pub(crate) exit_code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Run {
    /// Parses standard output as JSON, one object a line.
    pub(crate) fn json(&self) -> Vec<Value> {
        let parse = |line| serde_json::from_str(line).expect("each line is a JSON object");
        self.stdout.lines().map(parse).collect()
    }
}

/// Runs the program with arguments.
pub(crate) fn lazytlb(arguments: &[&str]) -> Run {
    let output = Command::new(env!("CARGO_BIN_EXE_lazytlb"))
        .args(arguments)
        .output();
    let output = output.expect("the program was built with this test");
    Run {
        exit_code: output.status.code().expect("no signal ended it"),
        stdout: String::from_utf8(output.stdout).expect("it prints UTF-8"),
        stderr: String::from_utf8(output.stderr).expect("it prints UTF-8"),
    }
}

/// Returns the path of a recording that ships with the project.
pub(crate) fn shipped_trace(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../traces")
        .join(name)
}
