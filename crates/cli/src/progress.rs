//! Progress on a terminal; silence in a pipe.

use std::io::{self, IsTerminal};

use indicatif::{HumanBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};
use lazytlb_check::Progress;

use crate::numbers::grouped;

/// Times a second that the display is drawn.
const DRAWS_PER_SECOND: u8 = 8;

/// A line on the terminal that says how far the work is.
pub(crate) struct Display {
    bar: ProgressBar,
}

impl Display {
    /// Shows a line that begins with `what`.
    pub(crate) fn new(what: String) -> Display {
        let target = match io::stderr().is_terminal() {
            true => ProgressDrawTarget::stderr_with_hz(DRAWS_PER_SECOND),
            false => ProgressDrawTarget::hidden(),
        };
        let bar = ProgressBar::with_draw_target(None, target);
        let style = ProgressStyle::with_template("{spinner} {prefix}: {msg}");
        bar.set_style(style.expect("the template is right"));
        bar.set_prefix(what);
        Display { bar }
    }

    /// Says how far a search is.
    pub(crate) fn search(&self, progress: Progress) {
        let effort = progress.effort;
        self.bar.set_message(format!(
            "{} states, {} waiting, depth {}, {} states/s, {}",
            grouped(effort.states),
            grouped(progress.waiting),
            effort.depth,
            grouped(effort.states_per_second() as u64),
            HumanBytes(effort.memory_bytes),
        ));
        self.bar.tick();
    }

    /// Says how far a recording is.
    pub(crate) fn recording(&self, progress: lazytlb_record::Progress) {
        self.bar.set_message(format!(
            "{} s, {}",
            progress.time.as_secs(),
            HumanBytes(progress.bytes)
        ));
        self.bar.tick();
    }

    /// Says something.
    pub(crate) fn say(&self, what: String) {
        self.bar.set_message(what);
        self.bar.tick();
    }

    /// Says how many of a number of things are done.
    pub(crate) fn count(&self, done: u64, of: u64) {
        self.bar
            .set_message(format!("{} of {}", grouped(done), grouped(of)));
        self.bar.tick();
    }

    /// Takes the line away while something else is printed.
    pub(crate) fn pause(&self, print: impl FnOnce()) {
        self.bar.suspend(print);
    }

    /// Says how far a replay is.
    pub(crate) fn replay(&self, progress: lazytlb_price::Progress) {
        self.bar.set_message(format!(
            "{} operations, {} read",
            grouped(progress.operations),
            HumanBytes(progress.bytes_read)
        ));
        self.bar.tick();
    }
}

impl Drop for Display {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
