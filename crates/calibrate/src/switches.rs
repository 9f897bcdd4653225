//! What a context switch takes longer because it changes the address space.

use std::io::{self, PipeReader, PipeWriter, Read, Write, pipe};
use std::process::{Child, Command, Stdio};
use std::thread::{JoinHandle, spawn};
use std::time::{Duration, Instant};

use crate::samples::{Samples, Span};

/// Round trips that are timed together: few, so that hardly any other work of the machine comes between.
const TRIPS: u32 = 10;
/// How often they are, with a thread and with a process in turn.
const ROUNDS: usize = 600;
/// Switches of a round trip: there and back.
const SWITCHES: u32 = 2;

/// Times a byte that goes to and fro on this thread's CPU, with a thread of this process and with another process, `cat`; what the
/// latter takes longer is of changing the address space. In nanoseconds, for each switch.
///
/// # Errors
/// If there is no `cat`, or no pipe.
pub(crate) fn measure() -> io::Result<Span> {
    let (mut process, mut thread) = (Partner::process()?, Partner::thread()?);
    let (mut far, mut near) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        // The first trips start what must be started, and warm the caches after the other partner.
        thread.trips()?;
        near.push(thread.trips()?);
        process.trips()?;
        far.push(process.trips()?);
    }
    let each = 1.0 / f64::from(TRIPS * SWITCHES);
    Ok(Samples::of(far).beyond(&Samples::of(near)).times(each))
}

/// Who sends back what it is sent. It inherits the one CPU that the thread that starts it may use.
struct Partner {
    /// Closed first, which ends the other side.
    there: Option<PipeWriter>,
    back: PipeReader,
    runner: Runner,
}

enum Runner {
    Process(Child),
    Thread(Option<JoinHandle<()>>),
}

impl Partner {
    fn process() -> io::Result<Partner> {
        let ((input, there), (back, output)) = (pipe()?, pipe()?);
        // POSIX has -u for whoever would collect bytes otherwise.
        let cat = Command::new("cat")
            .arg("-u")
            .stdin(input)
            .stdout(output)
            .stderr(Stdio::null())
            .spawn();
        let cat = cat.map_err(|error| {
            io::Error::new(
                error.kind(),
                format!("`cat`, the other process, cannot be started: {error}"),
            )
        })?;
        Ok(Partner {
            there: Some(there),
            back,
            runner: Runner::Process(cat),
        })
    }

    fn thread() -> io::Result<Partner> {
        let ((mut input, there), (back, mut output)) = (pipe()?, pipe()?);
        let thread = spawn(move || {
            let mut bytes = [0; 64];
            while let Ok(count @ 1..) = input.read(&mut bytes) {
                if output.write_all(&bytes[..count]).is_err() {
                    break;
                }
            }
        });
        Ok(Partner {
            there: Some(there),
            back,
            runner: Runner::Thread(Some(thread)),
        })
    }

    fn trips(&mut self) -> io::Result<Duration> {
        let Some(there) = &mut self.there else {
            return Err(io::ErrorKind::BrokenPipe.into());
        };
        let mut byte = [1];
        let begin = Instant::now();
        for _ in 0..TRIPS {
            there.write_all(&byte)?;
            self.back.read_exact(&mut byte)?;
        }
        Ok(begin.elapsed())
    }
}

impl Drop for Partner {
    fn drop(&mut self) {
        self.there = None;
        match &mut self.runner {
            // Whoever is gone already is no harm.
            Runner::Process(cat) => drop(cat.wait()),
            Runner::Thread(thread) => drop(thread.take().map(JoinHandle::join)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::{cpus, pin};
    use crate::others::alone;

    #[test]
    fn a_byte_comes_back_from_a_thread_and_from_a_process() {
        let _alone = alone();
        pin(cpus().unwrap()[0]).unwrap();
        for partner in [Partner::thread(), Partner::process()] {
            let mut partner = match partner {
                Ok(partner) => partner,
                Err(error) => {
                    assert!(error.to_string().contains("`cat`"), "{error}");
                    continue;
                }
            };
            // Two switches and four system calls take longer than 100 ns on any machine.
            let least = TRIPS * Duration::from_nanos(100);
            assert!(partner.trips().unwrap() > least);
        }
    }
}
