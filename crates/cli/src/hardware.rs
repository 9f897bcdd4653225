//! The CPU that a question is about: a model, and what is assumed of it.

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{Args, ValueEnum};
use lazytlb_model::cpu_model::BroadcastAnswer;
use lazytlb_model::{CpuModel, KeepLoad, Reading, UpperLevels, WcReadings};

/// The hardware of a check.
#[derive(Args, Debug)]
pub(crate) struct Hardware {
    /// The CPU model: `lazytlb cpus` lists what each has; `all` asks every one
    #[arg(long, value_name = "MODEL|all", default_value = "weakest", value_parser = cpu_choice())]
    cpu: CpuChoice,
    /// Assume what no CPU promises, to see what a verdict hangs on
    #[arg(long, value_name = "WHAT", value_delimiter = ',')]
    assume: Vec<Assumption>,
    /// What empties write-combining buffers only starts the writes to a device, or retires them: for all
    /// events, or as `EVENT=READING` for sfence, mfence, locked, serializing, interrupt, uncached
    #[arg(long, value_name = "[EVENT=]READING", value_delimiter = ',', value_parser = wc_reading)]
    wc: Vec<(Option<String>, Reading)>,
}

/// One CPU model, or each.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum CpuChoice {
    One(CpuModel),
    All,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
enum Assumption {
    /// No paging-structure caches; a walk in flight still holds a table's address
    NoPsc,
    /// With no-psc: a walk reads all levels at one time
    AtomicWalks,
    /// A CR3 load ends the walks in flight also with bit 63 set
    Cr3LoadEndsWalks,
    /// A CPU answers a broadcast when its stores through what goes have drained
    BroadcastWaitsForStores,
}

fn wc_reading(text: &str) -> Result<(Option<String>, Reading), String> {
    let (event, name) = match text.split_once('=') {
        Some((event, name)) => (Some(event), name),
        None => (None, text),
    };
    let reading = Reading::by_name(name)
        .ok_or_else(|| format!("`{name}` is no reading: write started or retired"))?;
    if let Some(event) = event
        && WcReadings::all(reading).with(event, reading).is_none()
    {
        let known = WcReadings::all(reading).each().map(|(name, _)| name);
        return Err(format!(
            "`{event}` is no event that empties write-combining buffers: {}",
            known.join(", ")
        ));
    }
    Ok((event.map(str::to_owned), reading))
}

pub(crate) fn cpu_model() -> impl TypedValueParser<Value = CpuModel> {
    let models = CpuModel::ALL.map(|model| PossibleValue::new(model.name).help(model.about));
    PossibleValuesParser::new(models)
        .map(|name| CpuModel::by_name(&name).expect("only names of models are accepted"))
}

fn cpu_choice() -> impl TypedValueParser<Value = CpuChoice> {
    let models = CpuModel::ALL.map(|model| PossibleValue::new(model.name).help(model.about));
    let all = PossibleValue::new("all").help("every model, a row each");
    PossibleValuesParser::new(models.into_iter().chain([all]))
        .map(|name| CpuModel::by_name(&name).map_or(CpuChoice::All, CpuChoice::One))
}

impl Hardware {
    /// Says whether every model is asked.
    pub(crate) fn is_every(&self) -> bool {
        self.cpu == CpuChoice::All
    }

    /// Returns the model with the assumptions; `weakest`, if every model is asked.
    ///
    /// # Errors
    /// If the assumptions make no sense together.
    pub(crate) fn model(&self) -> anyhow::Result<CpuModel> {
        match self.cpu {
            CpuChoice::One(model) => self.applied_to(model),
            CpuChoice::All => self.applied_to(CpuModel::WEAKEST),
        }
    }

    /// Returns the models that are asked, with the assumptions.
    ///
    /// # Errors
    /// As [`Hardware::model`].
    pub(crate) fn models(&self) -> anyhow::Result<Vec<CpuModel>> {
        let models = match self.cpu {
            CpuChoice::One(model) => vec![model],
            CpuChoice::All => CpuModel::ALL.to_vec(),
        };
        models
            .into_iter()
            .map(|model| self.applied_to(model))
            .collect()
    }

    fn applied_to(&self, cpu: CpuModel) -> anyhow::Result<CpuModel> {
        let assumes = |what| self.assume.contains(&what);
        let upper_levels = match (assumes(Assumption::NoPsc), assumes(Assumption::AtomicWalks)) {
            (false, false) => cpu.upper_levels,
            (true, false) => UpperLevels::OnlyInFlight,
            (true, true) => UpperLevels::Atomic,
            (false, true) => anyhow::bail!(
                "`--assume atomic-walks` alone changes nothing: a paging-structure cache holds a table's \
                 address longer than any walk. Write `--assume no-psc,atomic-walks`"
            ),
        };
        let mut readings = cpu.write_combining;
        for (event, reading) in &self.wc {
            readings = match event {
                None => WcReadings::all(*reading),
                Some(event) => readings
                    .with(event, *reading)
                    .expect("the command line accepts only known events"),
            };
        }
        let keep_load = match assumes(Assumption::Cr3LoadEndsWalks) {
            true => KeepLoad::EndsWalks,
            false => cpu.keep_load,
        };
        let broadcast_answer = match assumes(Assumption::BroadcastWaitsForStores) {
            true => BroadcastAnswer::AfterStores,
            false => cpu.broadcast_answer,
        };
        Ok(cpu
            .with_upper_levels(upper_levels)
            .with_keep_load(keep_load)
            .with_broadcast_answer(broadcast_answer)
            .with_write_combining(readings))
    }

    /// Returns the arguments that repeat this choice for one model.
    pub(crate) fn arguments_for(&self, model: CpuModel) -> String {
        format!("--cpu {}{}", model.name, self.assumptions())
    }

    fn assumptions(&self) -> String {
        let mut arguments = String::new();
        let assume: Vec<String> = self
            .assume
            .iter()
            .filter_map(|what| Some(what.to_possible_value()?.get_name().to_owned()))
            .collect();
        if !assume.is_empty() {
            arguments.push_str(&format!(" --assume {}", assume.join(",")));
        }
        let wc = self.wc.iter().map(|(event, reading)| match event {
            Some(event) => format!("{event}={}", reading.name()),
            None => reading.name().to_owned(),
        });
        let wc: Vec<String> = wc.collect();
        if !wc.is_empty() {
            arguments.push_str(&format!(" --wc {}", wc.join(",")));
        }
        arguments
    }
}

/// Lists what is assumed of a model, by the names that `--assume` takes.
pub(crate) fn assumed(model: CpuModel) -> Vec<&'static str> {
    let mut assumed = match model.upper_levels {
        UpperLevels::Cached => Vec::new(),
        UpperLevels::OnlyInFlight => vec!["no-psc"],
        UpperLevels::Atomic => vec!["no-psc", "atomic-walks"],
    };
    if model.keep_load == KeepLoad::EndsWalks {
        assumed.push("cr3-load-ends-walks");
    }
    // Some models assume it by themselves, as they do other things: see `lazytlb cpus`.
    let by_itself = CpuModel::by_name(model.name).map(|model| model.broadcast_answer);
    if model.broadcast_answer == BroadcastAnswer::AfterStores
        && by_itself != Some(BroadcastAnswer::AfterStores)
    {
        assumed.push("broadcast-waits-for-stores");
    }
    assumed
}

/// Describes a model with what is assumed of it, for people.
pub(crate) fn told(model: CpuModel) -> String {
    match &assumed(model)[..] {
        [] => model.name.to_owned(),
        assumed => format!("{} (ASSUMED: {})", model.name, assumed.join(", ")),
    }
}

/// Describes the readings of what empties write-combining buffers: `started`, or each event's.
pub(crate) fn told_readings(readings: WcReadings) -> String {
    let each = readings.each();
    if each.iter().all(|(_, reading)| *reading == each[0].1) {
        return each[0].1.name().to_owned();
    }
    let each = each.map(|(event, reading)| format!("{event}={}", reading.name()));
    each.join(" ")
}
