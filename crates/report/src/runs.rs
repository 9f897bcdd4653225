//! Numbers, most of which are repeated.

use serde::Serialize;

/// Numbers in their order. What is repeated is written once, followed by how often more, negative: `7, 7, 7, 0` becomes
/// `7, -2, 0`. Before the first one stands a zero that is not there.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(transparent)]
pub struct Runs(Vec<i64>);

impl Runs {
    /// Packs numbers; those past `i64::MAX` count as that.
    pub fn of(numbers: impl IntoIterator<Item = u64>) -> Runs {
        let (mut runs, mut last) = (Vec::new(), 0);
        for number in numbers {
            let number = i64::try_from(number).unwrap_or(i64::MAX);
            match runs.last_mut() {
                _ if number != last => runs.push(number),
                Some(repeated) if *repeated < 0 => *repeated -= 1,
                _ => runs.push(-1),
            }
            last = number;
        }
        Runs(runs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_repeated_is_counted() {
        for (numbers, packed) in [
            (&[][..], &[][..]),
            (&[0, 0, 0], &[-3]),
            (&[0, 7, 7, 7, 0, 0], &[-1, 7, -2, 0, -1]),
            (&[1, 2, 2, 1], &[1, 2, -1, 1]),
        ] {
            assert_eq!(Runs::of(numbers.iter().copied()).0, packed, "{numbers:?}");
        }
    }
}
