//! The shipped recording, plain, once and many times over: speed, and memory that does not grow.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use cargo_metadata::Metadata;
use serde_json::Value;

use super::process::{self, Output};
use super::repeated;
use crate::cargo;

/// How often the recording is repeated for the long one.
const REPETITIONS: u64 = 10;
const RECORDING: &str = "traces/linux61-smp8-threads.trace.txt.xz";

/// Replays one policy.
///
/// # Errors
/// If the recording cannot be unpacked, or not be priced.
pub(super) fn measure(workspace: &Metadata, runs: u8) -> Result<()> {
    cargo::run(workspace, &["build", "--release", "--bin", "lazytlb"])?;
    let target = workspace.target_directory.as_std_path();
    let text = decompressed(&workspace.workspace_root.as_std_path().join(RECORDING))?;
    let dir = target.join("bench");
    fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    println!("| recording | policy | events | s | M events/s | peak memory |");
    println!("| --- | --- | ---: | ---: | ---: | ---: |");
    for repetitions in [1, REPETITIONS] {
        let path = dir.join(format!("repeated-{repetitions}.trace.txt"));
        repeated::write_text(&text, repetitions, &path)?;
        let mut price = Command::new(target.join("release/lazytlb"));
        // What is repeated contradicts itself where it begins again.
        price.arg("price").arg(&path);
        price.args(["--policy", "ipi-on-table-free", "--pcids", "off"]);
        price.args(["--json", "--unvalidated"]);
        let best = process::fastest(runs, &price, Output::Kept)?;
        let report: Value =
            serde_json::from_str(&best.output).context("lazytlb price printed no report")?;
        let events = report["events"]
            .as_u64()
            .context("the report has no events")?;
        println!(
            "| plain text, × {repetitions} | ipi-on-table-free | {events} | {:.2} | {:.1} | {:.1} MiB |",
            best.seconds,
            events as f64 / best.seconds / 1e6,
            best.peak_kib as f64 / 1024.0,
        );
        fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
    }
    Ok(())
}

fn decompressed(recording: &Path) -> Result<String> {
    let output = Command::new("xz").arg("-dc").arg(recording).output();
    let output = output.context("cannot run `xz`: install the package `xz-utils`")?;
    ensure!(
        output.status.success(),
        "xz cannot read {}",
        recording.display()
    );
    String::from_utf8(output.stdout).context("the shipped recording is not UTF-8")
}
