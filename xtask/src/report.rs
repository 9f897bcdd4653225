//! Looks at the pages that `--html` writes in a real browser: no complaints on its console, the stepper steps, nothing
//! overflows, light and dark.
//!
//! Chromium loads a page that holds those under test in frames of a width each; `report/harness.js` has what is asked of
//! them.
//!
//! | file | what |
//! | --- | --- |
//! | `report/harness.js` | the questions |

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use cargo_metadata::Metadata;

use crate::{cargo, packages};

const HARNESS: &str = include_str!("report/harness.js");
const BROWSER: &str = "chromium";
/// The most that a page may take, in bytes, though its recording has 300,000 events.
const MOST_BYTES: usize = 2_000_000;
/// A recording whose name is markup, if it is taken for that.
const RECORDING: &str = "traces/linux61-smp8-threads.trace.txt.xz";
const FORGED: &str = "<img src=x onerror=complaints.push('forged')><!--<script>.trace.txt.xz";

/// The pages: what makes each, how it ends, and how many executions it lets one step through.
const PAGES: [(&[&str], i32, usize); 3] = [
    (&["decide", FORGED, "--program", "smoke"], 0, 1),
    (
        &["check", "--policy", "defer", "--program", "reference-3"],
        1,
        1,
    ),
    (&["litmus", "test.litmus"], 0, 1),
];
/// As a setting of Blink's has them.
const THEMES: [(&str, u8); 2] = [("dark", 0), ("light", 1)];

/// Makes the pages, and asks a browser.
pub(crate) fn test(workspace: &Metadata) -> Result<()> {
    packages::need(&[BROWSER], &[BROWSER])?;
    let root = workspace.workspace_root.as_std_path();
    let folder = tempfile::tempdir().context("making a folder for the pages")?;
    fs::copy(root.join(RECORDING), folder.path().join(FORGED))?;
    fs::copy(
        root.join("crates/model/litmus/tso/SB+sfences.litmus"),
        folder.path().join("test.litmus"),
    )?;
    let build = ["build", "--quiet", "--package", "lazytlb-cli"];
    let build = [&build[..], &cargo::PROFILE].concat();
    cargo::run(workspace, &build)?;
    let program = workspace.target_directory.join("checks/lazytlb");
    let mut pages = Vec::new();
    for (arguments, ending, executions) in PAGES {
        let html = page(program.as_std_path(), folder.path(), arguments, ending)?;
        println!("    {}: {} bytes", arguments[0], html.len());
        pages.push(
            serde_json::json!({ "name": arguments[0], "html": html, "executions": executions }),
        );
    }
    // As in the pages: in a script, nothing may look like its end.
    let pages = serde_json::to_string(&pages)?.replace('<', "\\u003c");
    for (theme, setting) in THEMES {
        let harness = format!(
            "<!DOCTYPE html><meta charset=utf-8><meta name=color-scheme content=\"light dark\"><pre id=outcome></pre><script>const pages = {pages};\nconst theme = \
             \"{theme}\";\n{HARNESS}</script>"
        );
        let file = folder.path().join("harness.html");
        fs::write(&file, harness)?;
        ask(&file, setting).with_context(|| format!("theme {theme}"))?;
    }
    Ok(())
}

fn page(program: &Path, folder: &Path, arguments: &[&str], ending: i32) -> Result<String> {
    let output = Command::new(program)
        .args(arguments)
        .args(["--html", "page.html"])
        .current_dir(folder)
        .output()?;
    ensure!(
        output.status.code() == Some(ending),
        "lazytlb {arguments:?}: {}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    let html = fs::read_to_string(folder.join("page.html"))?;
    ensure!(
        html.len() < MOST_BYTES,
        "the page of {arguments:?} has {} bytes",
        html.len()
    );
    Ok(html)
}

/// Loads a file in the browser until its script is done, and looks for what it found wrong.
fn ask(file: &Path, theme: u8) -> Result<()> {
    let profile = tempfile::tempdir()?;
    let output = Command::new(BROWSER)
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
        ])
        .args([
            "--enable-logging=stderr",
            "--window-size=1700,1000",
            "--virtual-time-budget=60000",
        ])
        .arg(format!("--blink-settings=preferredColorScheme={theme}"))
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg("--dump-dom")
        .arg(format!("file://{}", file.display()))
        .output()
        .context("starting chromium")?;
    let (dom, log) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    if let Some(complaint) = log.lines().find(|line| line.contains("CONSOLE")) {
        bail!("the browser's console: {complaint}");
    }
    let outcome = dom
        .split_once("<pre id=\"outcome\">")
        .and_then(|(_, rest)| rest.split_once("</pre>"));
    let (outcome, _) = outcome.with_context(|| format!("no outcome: {log}"))?;
    ensure!(outcome.starts_with("done"), "{outcome}");
    println!("    {outcome}");
    Ok(())
}
