//! Calls the cargo that runs this program, in the root of the workspace.

use std::ffi::OsString;
use std::process::Command;

use anyhow::{Context, Result, bail};
use cargo_metadata::{Metadata, MetadataCommand};

/// The profile of all that these steps build and no user does: with one, what two steps need is built once.
pub(crate) const PROFILE: [&str; 2] = ["--profile", "checks"];

/// Reads the workspace's members and directories, without resolving external dependencies.
///
/// # Errors
/// If the current directory is in no workspace, or a manifest does not parse.
pub(crate) fn metadata() -> Result<Metadata> {
    MetadataCommand::new()
        .cargo_path(program())
        .no_deps()
        .exec()
        .context("cannot read the workspace; make `cargo metadata` work in its root first")
}

/// Runs `cargo` with `args`; what it prints goes straight to the terminal.
///
/// # Errors
/// If cargo cannot be started, or exits with a failure.
pub(crate) fn run(workspace: &Metadata, args: &[&str]) -> Result<()> {
    run_with_env(workspace, args, &[])
}

/// Runs `cargo` as [`run`] does, with further environment variables.
///
/// # Errors
/// As [`run`].
pub(crate) fn run_with_env(
    workspace: &Metadata,
    args: &[&str],
    env: &[(&str, &str)],
) -> Result<()> {
    let assignments: String = env
        .iter()
        .map(|(name, value)| format!("{name}={} ", quoted(value)))
        .collect();
    let shown = format!("{assignments}{}", shown(args));
    println!("    {shown}");
    let status = command(workspace, args)
        .envs(env.iter().copied())
        .status()
        .with_context(|| format!("cannot start `{shown}`; is cargo installed?"))?;
    if !status.success() {
        bail!("`{shown}` failed ({status})");
    }
    Ok(())
}

/// Runs `cargo` with `args`, and prints what it printed only if it fails.
///
/// # Errors
/// As [`run`].
pub(crate) fn run_quietly(workspace: &Metadata, args: &[&str]) -> Result<()> {
    output(workspace, args).map(|_| ())
}

/// Runs `cargo` as [`run_quietly`] does, and returns what it printed to standard output.
///
/// # Errors
/// As [`run`].
pub(crate) fn output(workspace: &Metadata, args: &[&str]) -> Result<String> {
    let shown = shown(args);
    println!("    {shown}");
    let output = command(workspace, args)
        .output()
        .with_context(|| format!("cannot start `{shown}`; is cargo installed?"))?;
    let printed = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        print!("{printed}");
        eprint!("{}", String::from_utf8_lossy(&output.stderr));
        bail!("`{shown}` failed ({})", output.status);
    }
    Ok(printed.into_owned())
}

/// Prepares a call of cargo in the workspace's root.
pub(crate) fn command(workspace: &Metadata, args: &[&str]) -> Command {
    let mut command = Command::new(program());
    command.args(args).current_dir(&workspace.workspace_root);
    command
}

/// Finds the cargo that started us, so that a toolchain override holds for the steps too.
fn program() -> OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// Writes a call of cargo so that it can be pasted into a shell.
pub(crate) fn shown(args: &[&str]) -> String {
    args.iter()
        .fold("cargo".to_owned(), |line, arg| line + " " + &quoted(arg))
}

/// Quotes a word for the shell, if it needs quotes.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=,:+@".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shown_command_can_be_pasted() {
        assert_eq!(shown(&["doc", "--no-deps"]), "cargo doc --no-deps");
        assert_eq!(shown(&["run", "a b", "it's"]), r"cargo run 'a b' 'it'\''s'");
    }
}
