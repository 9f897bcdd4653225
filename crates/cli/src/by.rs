//! The values of `price --by`: by whom, or when, something was done.

use std::ffi::OsStr;

use clap::builder::{PossibleValue, TypedValueParser};

/// How a price is split.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum By {
    /// By the process that asked for it.
    Process,
    /// By intervals.
    Time {
        /// The length of each, in nanoseconds; not 0.
        interval_ns: u64,
    },
}

/// Reads `process`, `time` or `time=SECONDS`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ByParser;

/// The interval if none is given.
const SECOND_NS: u64 = 1_000_000_000;
/// The longest interval in seconds, longer than any recording: its nanoseconds are a 64-bit number.
const MOST_SECONDS: f64 = 1e9;

fn by(text: &str) -> Result<By, String> {
    match text.split_once('=') {
        None if text == "process" => Ok(By::Process),
        None if text == "time" => Ok(By::Time {
            interval_ns: SECOND_NS,
        }),
        Some(("time", seconds)) => {
            let number = seconds.parse::<f64>().ok();
            let number = number.filter(|seconds| (1e-9..=MOST_SECONDS).contains(seconds));
            let seconds = number.ok_or(
                "write the seconds of an interval, from 0.000000001 to 1000000000: time=0.5",
            )?;
            // At least 1 by the range above.
            let interval_ns = (seconds * SECOND_NS as f64).round() as u64;
            Ok(By::Time { interval_ns })
        }
        _ => Err("write `process`, `time`, or `time=SECONDS`".to_owned()),
    }
}

impl TypedValueParser for ByParser {
    type Value = By;

    fn parse_ref(
        &self,
        command: &clap::Command,
        argument: Option<&clap::Arg>,
        value: &OsStr,
    ) -> Result<By, clap::Error> {
        by.parse_ref(command, argument, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        let process = PossibleValue::new("process").help("by the process that asked for it");
        let time = PossibleValue::new("time").help("by intervals; time=SECONDS sets their length");
        Some(Box::new([process, time].into_iter()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_is_a_second_unless_it_is_given() {
        let time = |interval_ns| Ok(By::Time { interval_ns });
        assert_eq!(by("time"), time(SECOND_NS));
        assert_eq!(by("time=0.25"), time(250_000_000));
        assert_eq!(by("time=0.000000001"), time(1));
        assert_eq!(by("process"), Ok(By::Process));
        for bad in [
            "",
            "cpu",
            "time=",
            "time=0",
            "time=-1",
            "time=nan",
            "time=1e10",
            "process=1",
        ] {
            assert!(by(bad).is_err(), "{bad}");
        }
    }
}
