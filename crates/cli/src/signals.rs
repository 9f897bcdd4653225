//! What is removed before a signal ends the program.

use std::thread;

use lazytlb_trace::remove_temporary_files;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;

/// Removes temporary files when Ctrl-C or the like comes, and lets it end the program then.
pub(crate) fn remove_files_first() {
    // Without it, a signal ends the program all the same.
    let Ok(mut signals) = Signals::new([SIGINT, SIGTERM, SIGHUP]) else {
        return;
    };
    thread::spawn(move || {
        for signal in signals.forever() {
            remove_temporary_files();
            let _ = emulate_default_handler(signal);
        }
    });
}
