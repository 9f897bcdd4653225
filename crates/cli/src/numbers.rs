//! How numbers are told.

use lazytlb_price::{Cost, Counts, Replayed};

/// Groups a number's digits: 1234567 becomes `1,234,567`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// Prints a cost's range in millions of cycles.
pub(crate) fn megacycles(cost: Cost) -> String {
    let millions = |cycles: f64| grouped((cycles / 1e6).round() as u64);
    format!(
        "{} / {} / {}",
        millions(cost.low),
        millions(cost.typical),
        millions(cost.high)
    )
}

/// Prints cycles in millions: with two digits behind the point if they are few.
pub(crate) fn millions(cycles: f64) -> String {
    let millions = cycles / 1e6;
    match millions {
        0.0 => "0".to_owned(),
        _ if millions < 9.995 => format!("{millions:.2}"),
        _ => grouped(millions.round() as u64),
    }
}

/// Prints cycles with their unit: `nothing`, `1,234 cycles`, `5.31 Mcycles`.
pub(crate) fn cycles(cycles: f64) -> String {
    match cycles {
        0.0 => "nothing".to_owned(),
        _ if cycles < 99_999.5 => format!("{} cycles", grouped(cycles.round() as u64)),
        _ => format!("{} Mcycles", millions(cycles)),
    }
}

/// Tells a count, or between what it lies where the recording leaves something unknown.
pub(crate) fn counted(replayed: &Replayed, of: impl Fn(&Counts) -> u64) -> String {
    between(of(&replayed.counts), of(&replayed.if_freed().counts))
}

/// Tells a number, or the two that it lies between.
pub(crate) fn between(one: u64, other: u64) -> String {
    match one == other {
        true => grouped(one),
        false => format!("{} to {}", grouped(one.min(other)), grouped(one.max(other))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_grouped_by_three() {
        for (number, expected) in [
            (0, "0"),
            (999, "999"),
            (1000, "1,000"),
            (1234567, "1,234,567"),
        ] {
            assert_eq!(grouped(number), expected);
        }
    }

    #[test]
    fn cycles_are_told_with_as_many_digits_as_matter() {
        let told = [0.0, 1.4, 99_999.0, 5_312_345.0, 318e6, 1e30].map(cycles);
        assert_eq!(
            told[..4],
            ["nothing", "1 cycles", "99,999 cycles", "5.31 Mcycles"]
        );
        assert_eq!(told[4], "318 Mcycles");
        assert!(
            told[5].ends_with(" Mcycles"),
            "the greatest counts and costs: {}",
            told[5]
        );
        assert_eq!(
            [0.0, 9_994_999.0, 9_995_000.0].map(millions),
            ["0", "9.99", "10"]
        );
    }
}
