//! Installs a program that a benchmark needs, from Debian's packages, if we may.

use std::process::{Command, Stdio};

use anyhow::{Result, bail, ensure};

/// Makes sure that `programs` are there; `packages` bring them.
///
/// # Errors
/// If one is not there, and cannot be installed.
pub(crate) fn need(programs: &[&str], packages: &[&str]) -> Result<()> {
    let missing = |programs: &[&str]| {
        programs
            .iter()
            .find(|program| !is_there(program))
            .map(|program| program.to_string())
    };
    let Some(program) = missing(programs) else {
        return Ok(());
    };
    let names = packages.join(" ");
    println!("    apt-get install --yes {names}");
    let install = [&["install", "--yes", "--quiet"][..], packages].concat();
    for arguments in [&["update", "--quiet"][..], &install] {
        let status = Command::new("apt-get")
            .args(arguments)
            .stdout(Stdio::null())
            .status();
        if !status.is_ok_and(|status| status.success()) {
            bail!("`{program}` is missing: install it (as root: apt-get install {names})");
        }
    }
    let missing = missing(programs);
    ensure!(
        missing.is_none(),
        "the packages {names} brought no program `{}`",
        missing.unwrap_or_default()
    );
    Ok(())
}

/// Says whether a program is on the search path. It is not started: a browser would open a window.
fn is_there(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}
