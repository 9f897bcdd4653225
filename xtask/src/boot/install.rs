//! Installing what a boot needs, from the distribution's packages.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

/// Makes sure that each of these programs is there, and installs `packages` if not.
///
/// # Errors
/// If a program is missing and cannot be installed: not root, or no `apt-get`. The error names the
/// packages.
pub(crate) fn ensure(programs: &[&str], packages: &[&str]) -> Result<()> {
    let Some(missing) = programs.iter().find(|program| !exists(program)) else {
        return Ok(());
    };
    let packages_line = packages.join(" ");
    let by_hand = format!("apt-get install --no-install-recommends {packages_line}");
    if !is_root() || !exists("apt-get") {
        bail!("`{missing}` is missing; as root, install the packages that have it:\n    {by_hand}");
    }
    println!("    `{missing}` is missing: {by_hand}");
    run(&["update"])?;
    let install = ["install", "-y", "--no-install-recommends"];
    run(&[&install[..], packages].concat())
        .with_context(|| format!("cannot install {packages_line}"))?;
    if let Some(missing) = programs.iter().find(|program| !exists(program)) {
        bail!("`{missing}` is missing still after {packages_line} were installed");
    }
    Ok(())
}

fn run(arguments: &[&str]) -> Result<()> {
    let output = Command::new("apt-get")
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .output()
        .context("cannot start apt-get")?;
    if !output.status.success() {
        print!("{}", String::from_utf8_lossy(&output.stdout));
        eprint!("{}", String::from_utf8_lossy(&output.stderr));
        bail!(
            "`apt-get {}` failed ({})",
            arguments.join(" "),
            output.status
        );
    }
    Ok(())
}

/// Says whether PATH leads to a program.
fn exists(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(program).is_file())
}

/// Says whether this is root, by what Linux tells of this process.
fn is_root() -> bool {
    let status = fs::read_to_string(Path::new("/proc/self/status")).unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    effective.and_then(|ids| ids.split_whitespace().nth(1)) == Some("0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_is_there_needs_no_package() {
        ensure(&["sh"], &["no-such-package"]).expect("every system has a shell");
    }

    #[test]
    fn a_program_that_nobody_has_is_missing() {
        assert!(!exists("no-such-program-anywhere"));
    }
}
