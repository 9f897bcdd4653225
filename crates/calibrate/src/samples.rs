//! Times, and what is typical of them.

use std::time::Duration;

/// Times of one thing that was done often, in nanoseconds, sorted.
#[derive(Clone, Debug)]
pub(crate) struct Samples {
    sorted: Vec<f64>,
}

impl Samples {
    /// Sorts times.
    ///
    /// # Panics
    /// If there are none.
    pub(crate) fn of(times: impl IntoIterator<Item = Duration>) -> Samples {
        let times = times.into_iter().map(|time| time.as_nanos() as f64);
        let mut sorted: Vec<f64> = times.collect();
        assert!(!sorted.is_empty(), "something was measured");
        sorted.sort_by(f64::total_cmp);
        Samples { sorted }
    }

    /// The time that this share of all does not exceed.
    pub(crate) fn quantile(&self, share: f64) -> f64 {
        let last = self.sorted.len() - 1;
        self.sorted[(last as f64 * share).round() as usize]
    }

    /// What these take longer than others do as a rule: at the least, as a rule, at the most, leaving out a tenth on each side.
    pub(crate) fn beyond(&self, others: &Samples) -> Span {
        let base = others.quantile(0.5);
        let at = |share| (self.quantile(share) - base).max(0.0);
        Span {
            low: at(0.1),
            typical: at(0.5),
            high: at(0.9),
        }
    }
}

/// A range of times, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Span {
    pub(crate) low: f64,
    pub(crate) typical: f64,
    pub(crate) high: f64,
}

impl Span {
    /// As a range, each number less this one, and not below nothing.
    pub(crate) fn less(self, time: f64) -> Span {
        Span {
            low: (self.low - time).max(0.0),
            typical: (self.typical - time).max(0.0),
            high: (self.high - time).max(0.0),
        }
    }

    /// As a range, no number below this one.
    pub(crate) fn at_least(self, time: f64) -> Span {
        Span {
            low: self.low.max(time),
            typical: self.typical.max(time),
            high: self.high.max(time),
        }
    }

    /// As a range, each number by this factor.
    pub(crate) fn times(self, factor: f64) -> Span {
        Span {
            low: self.low * factor,
            typical: self.typical * factor,
            high: self.high * factor,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenth_on_each_side_is_left_out() {
        let times = (1..=11).map(Duration::from_nanos).rev();
        let samples = Samples::of(times);
        assert_eq!(samples.quantile(0.5), 6.0);
        let base = Samples::of([Duration::from_nanos(3)]);
        let expected = Span {
            low: 0.0,
            typical: 3.0,
            high: 7.0,
        };
        assert_eq!(samples.beyond(&base), expected);
    }
}
