//! A single figure from a command line: `idle_wait=3000`, `idle_wait=2000,3000,9000`.

use crate::costs::{Costs, Figure, MAX_FIGURE_CYCLES, Parameter};

/// The key of the clock.
pub(crate) const CLOCK: &str = "reference_ghz";
/// What the clock may be.
pub(crate) const CLOCK_RANGE: std::ops::RangeInclusive<f64> = 0.001..=1000.0;

/// Says what is wrong with a figure that was given by itself.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CostArgumentError {
    /// There is no name, or no value.
    #[error("`{argument}` sets nothing: write NAME=VALUE or NAME=LOW,TYPICAL,HIGH, in cycles")]
    Form {
        /// What was given.
        argument: String,
    },
    /// There is no such figure.
    #[error("there is no cost `{name}`: take one of {known}")]
    UnknownName {
        /// The name.
        name: String,
        /// The names that there are.
        known: String,
    },
    /// A value is no number, or not one that is possible.
    #[error("`{name}`: `{value}` is no number of {unit} from {range}")]
    Value {
        /// The figure.
        name: String,
        /// The value as it was written.
        value: String,
        /// What the number counts.
        unit: &'static str,
        /// What is allowed.
        range: &'static str,
    },
    /// There are not as many values as a figure has.
    #[error("`{name}` has {given} values: write one, or three: LOW,TYPICAL,HIGH")]
    Number {
        /// The figure.
        name: String,
        /// How many there are.
        given: usize,
    },
    /// The figures of a range are not in order.
    #[error("`{argument}`: LOW, TYPICAL and HIGH must not fall")]
    Order {
        /// What was given.
        argument: String,
    },
}

/// Single figures.
impl Costs {
    /// Sets one figure, in cycles, or the clock, in GHz: `invlpg=250` knows it exactly, `invlpg=200,250,300` has a range.
    ///
    /// # Errors
    /// If no figure has that name, or the values are no range. Nothing is changed then.
    pub fn set(&mut self, argument: &str) -> Result<(), CostArgumentError> {
        let form = || CostArgumentError::Form {
            argument: argument.to_owned(),
        };
        let (name, values) = argument.split_once('=').ok_or_else(form)?;
        let (name, values) = (name.trim(), values.trim());
        if values.is_empty() {
            return Err(form());
        }
        let values: Vec<&str> = values.split(',').map(str::trim).collect();
        let count_is_wrong = || CostArgumentError::Number {
            name: name.to_owned(),
            given: values.len(),
        };
        if name == CLOCK {
            let &[value] = values.as_slice() else {
                return Err(count_is_wrong());
            };
            self.set_reference_ghz(number(name, value)?);
            return Ok(());
        }
        let mut all = Parameter::ALL.into_iter();
        let parameter = all.find(|parameter| parameter.name() == name);
        let parameter = parameter.ok_or_else(|| CostArgumentError::UnknownName {
            name: name.to_owned(),
            known: known_names(),
        })?;
        let [low, typical, high] = match *values.as_slice() {
            [value] => [number(name, value)?; 3],
            [low, typical, high] => [
                number(name, low)?,
                number(name, typical)?,
                number(name, high)?,
            ],
            _ => return Err(count_is_wrong()),
        };
        if !(low <= typical && typical <= high) {
            let argument = argument.to_owned();
            return Err(CostArgumentError::Order { argument });
        }
        let origin = format!("given by itself: {argument}");
        self.set_figure(
            parameter,
            Figure {
                low,
                typical,
                high,
                origin,
            },
        );
        Ok(())
    }
}

/// Lists what can be set.
pub(crate) fn known_names() -> String {
    let names = Parameter::ALL.map(|parameter| parameter.name());
    format!("{CLOCK}, {}", names.join(", "))
}

fn number(name: &str, value: &str) -> Result<f64, CostArgumentError> {
    let (allowed, unit, range) = match name == CLOCK {
        true => (CLOCK_RANGE, "GHz", "0.001 to 1000"),
        false => (0.0..=MAX_FIGURE_CYCLES, "cycles", "0 to 1e12"),
    };
    let number = value.replace('_', "").parse::<f64>();
    let number = number.ok().filter(|number| allowed.contains(number));
    number.ok_or_else(|| CostArgumentError::Value {
        name: name.to_owned(),
        value: value.to_owned(),
        unit,
        range,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::counts::Counts;
    use crate::price::price;

    #[test]
    fn one_value_is_known_exactly_and_three_are_a_range() {
        let mut costs = Costs::shipped();
        costs.set("idle_wait=3000").unwrap();
        costs.set(" invlpg = 1, 2.5 ,30_000").unwrap();
        costs.set("reference_ghz=2.5").unwrap();
        let range = |parameter| {
            let figure = costs.figure(parameter);
            (figure.low, figure.typical, figure.high)
        };
        assert_eq!(range(Parameter::IdleWait), (3000.0, 3000.0, 3000.0));
        assert_eq!(range(Parameter::Invlpg), (1.0, 2.5, 30_000.0));
        assert_eq!(costs.reference_ghz(), 2.5);
    }

    #[test]
    fn what_sets_nothing_is_refused_and_changes_nothing() {
        for (argument, words) in [
            ("invlpg", "NAME=VALUE"),
            ("invlpg=", "NAME=VALUE"),
            (
                "invlpeg=3",
                "no cost `invlpeg`: take one of reference_ghz, ipi_send",
            ),
            ("=3", "take one of"),
            ("invlpg=nan", "`nan` is no number of cycles"),
            ("invlpg=inf", "`inf`"),
            ("invlpg=1e999", "0 to 1e12"),
            ("invlpg=-1", "`-1`"),
            ("invlpg=1,,3", "`` is no number"),
            ("invlpg=1,2", "has 2 values"),
            ("invlpg=1,2,3,4", "has 4 values"),
            ("invlpg=3,2,4", "must not fall"),
            ("invlpg=1,5,4", "must not fall"),
            ("reference_ghz=0", "GHz"),
            ("reference_ghz=1,2,3", "has 3 values"),
        ] {
            let mut costs = Costs::shipped();
            let error = costs.set(argument).unwrap_err().to_string();
            assert!(error.contains(words), "{argument}: {error}");
            assert_eq!(costs, Costs::shipped(), "{argument}");
        }
    }

    #[test]
    fn every_parameter_moves_the_price_of_what_it_is_for() {
        let one_of_each = Counts {
            shootdowns: 1,
            shootdowns_to_idle: 2,
            shootdowns_to_known_sleep: 1,
            idle_wait_us: 1,
            ipis: 4,
            ipis_to_running: 1,
            ipis_to_lazy: 1,
            ipis_to_idle: 2,
            ipis_to_known_sleep: 1,
            idle_wake_us: 1,
            cr3_flush: 1,
            cr3_keep: 1,
            full_flushes: 1,
            invlpg: 1,
            refills_after_load: 1,
            refills_after_flush: 1,
            locked: 1,
            fences: 1,
            remote_reads: 1,
            ..Counts::default()
        };
        let before = price(&one_of_each, &Costs::shipped());
        for parameter in Parameter::ALL {
            let mut costs = Costs::shipped();
            costs.set(&format!("{}=1e9", parameter.name())).unwrap();
            let after = price(&one_of_each, &costs);
            let times = parameter.count(&one_of_each) as f64;
            let figure = costs.figure(parameter).low;
            let moved = after.low - before.low;
            let expected = times * (figure - Costs::shipped().figure(parameter).low);
            assert!(
                times > 0.0 && moved == expected,
                "{}: {moved}",
                parameter.name()
            );
        }
    }
}
