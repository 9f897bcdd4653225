//! Runs an emulator, reads what the kernel prints, and judges how it ended.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::emulator::Emulated;
use super::end::{self, End, Watchdog};

/// What came of a boot.
pub(crate) struct Watched {
    /// How it ended.
    pub(crate) end: End,
    /// Everything that the kernel printed.
    pub(crate) lines: Vec<String>,
    /// How long it took.
    pub(crate) taken: Duration,
}

/// The emulator, killed when this goes out of scope: no error leaves it behind.
struct Guard(Child);

impl Drop for Guard {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to kill.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// How long an emulator may take to end after the kernel's last word.
const LAST_WORD_PATIENCE: Duration = Duration::from_secs(5);

/// Starts the emulator and watches it to its end; each line goes to `show` too.
///
/// # Errors
/// If the emulator cannot be started.
pub(crate) fn run(mut emulated: Emulated, mut show: impl FnMut(&str)) -> Result<Watched> {
    let start = Instant::now();
    let child = emulated
        .command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {:?}", emulated.command.get_program()))?;
    let mut guard = Guard(child);
    let received = lines_of(&mut guard.0);
    let (mut lines, mut last_word) = (Vec::new(), None);
    let mut dog = Watchdog::default();
    let finished = |end, lines| {
        Ok(Watched {
            end,
            lines,
            taken: start.elapsed(),
        })
    };
    loop {
        match received.recv_timeout(Duration::from_millis(200)) {
            Ok(line) => {
                show(&line);
                last_word = last_word.or(end::of_line(&line));
                let hangs = dog.line(start.elapsed(), &line);
                lines.push(line);
                if hangs {
                    return finished(End::Hang, lines);
                }
            }
            Err(RecvTimeoutError::Timeout) => {
                let patience = match last_word {
                    Some(_) => LAST_WORD_PATIENCE,
                    None => emulated.patience,
                };
                if dog.silent(start.elapsed(), patience) {
                    return finished(last_word.unwrap_or(End::Hang), lines);
                }
            }
            Err(RecvTimeoutError::Disconnected) => {
                let status = guard.0.wait().context("cannot wait for the emulator")?;
                let end = end::of_status(last_word, status.code(), emulated.reset_status);
                return finished(end, lines);
            }
        }
    }
}

/// Reads both of the emulator's outputs in the background, line by line.
fn lines_of(child: &mut Child) -> Receiver<String> {
    let (sender, receiver) = channel();
    let outputs: [Option<Box<dyn std::io::Read + Send>>; 2] = [
        child.stdout.take().map(|output| Box::new(output) as _),
        child.stderr.take().map(|output| Box::new(output) as _),
    ];
    for output in outputs.into_iter().flatten() {
        let sender = sender.clone();
        thread::spawn(move || {
            for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).trim_end().to_owned();
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
    }
    receiver
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn shell(script: &str, patience: u64) -> Watched {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        let patience = Duration::from_millis(patience);
        run(
            Emulated {
                command,
                reset_status: 0,
                patience,
            },
            |_| {},
        )
        .expect("every system has a shell")
    }

    #[test]
    fn every_end_is_told_from_the_others() {
        let minute = 60_000;
        assert_eq!(
            shell("echo outcome: passed; exit 33", minute).end,
            End::Passed
        );
        assert_eq!(
            shell("echo outcome: violation; exit 35", minute).end,
            End::Violation
        );
        assert_eq!(shell("echo hello; exit 0", minute).end, End::TripleFault);
        assert_eq!(shell("exit 1", minute).end, End::EmulatorCrash);
        assert_eq!(shell("kill -SEGV $$", minute).end, End::EmulatorCrash);
        assert_eq!(shell("echo hello; exec sleep 60", 500).end, End::Hang);
        let still = "for t in 1 10 40; do echo alive t=$t ops=3; done; exec sleep 60";
        assert_eq!(shell(still, minute).end, End::Hang);
    }

    #[test]
    fn the_lines_are_kept() {
        assert_eq!(shell("echo one; echo two", 60_000).lines, ["one", "two"]);
    }
}
