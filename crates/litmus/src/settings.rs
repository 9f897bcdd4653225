//! What the lines before the init section set of the machine.

use std::collections::BTreeMap;

use lazytlb_litmus_syntax::{Caching, Level, LitmusTest, Located, Metadata, Position, SyntaxError};
use lazytlb_model::cpu_model::IpiOrder;
use lazytlb_model::{CpuModel, Cr4, KeepLoad, Privilege, Reading, WcReadings};

use crate::keys::{Keys, bad_value};

/// What a test's metadata set.
pub(crate) struct Settings {
    /// The entries of the topmost tables; `None`: not said.
    pub(crate) top: Option<Level>,
    /// Whether A and D bits are tracked.
    pub(crate) tracks_accessed: bool,
    /// How variables are cached, where `MT=` says so.
    pub(crate) memory_types: BTreeMap<String, Located<Caching>>,
    pcids: bool,
    globals: bool,
    user_threads: Vec<u32>,
    readings: Option<WcReadings>,
    keep_load: Option<KeepLoad>,
    /// IPIs go through an xAPIC, whose uncached write is ordered (H36).
    xapic: bool,
    positions: Positions,
}

/// Where the settings stand that a CPU model may lack.
struct Positions {
    pcids: Position,
    top: Position,
}

impl Settings {
    /// Reads the settings of a test.
    ///
    /// # Errors
    /// If a key has a value that it cannot have.
    pub(crate) fn of(test: &LitmusTest, keys: &Keys<'_>) -> Result<Settings, SyntaxError> {
        let at = |key| keys.get(key).map_or(Position::START, |line| line.position);
        Ok(Settings {
            top: top(keys)?,
            tracks_accessed: is_on(keys, "Accessed")?.unwrap_or(false),
            memory_types: memory_types(keys)?,
            pcids: is_on(keys, "PCIDs")?.unwrap_or(false),
            globals: is_on(keys, "Global")?.unwrap_or(true),
            user_threads: user_threads(test, keys)?,
            readings: readings(keys)?,
            keep_load: match keys.get("KeepLoads") {
                None => None,
                Some(line) => Some(KeepLoad::by_name(line.value).ok_or_else(|| {
                    bad_value(line, line.value, "write `walks-go-on` or `end-walks`")
                })?),
            },
            xapic: match keys.get("IPI") {
                None => false,
                Some(line) => match line.value {
                    "x2apic" => false,
                    "xapic" => true,
                    other => return Err(bad_value(line, other, "write `xapic` or `x2apic`")),
                },
            },
            positions: Positions {
                pcids: at("PCIDs"),
                top: at("Paging"),
            },
        })
    }

    /// Says whether the settings make a test one of translation.
    pub(crate) fn are_about_translation(&self) -> bool {
        self.top.is_some() || self.have_other_caching()
    }

    /// Says whether some variable is not write-back.
    pub(crate) fn have_other_caching(&self) -> bool {
        let mut types = self.memory_types.values();
        types.any(|caching| caching.value != Caching::WriteBack)
    }

    /// Returns the CPU model with what the test sets of it.
    ///
    /// # Errors
    /// If the model lacks what a setting needs.
    pub(crate) fn applied_to(&self, model: CpuModel) -> Result<CpuModel, SyntaxError> {
        let advice = format!(
            "choose a model that has them with `--cpu`: {} does not",
            model.name
        );
        let lacks = |at, found, expected| Err(SyntaxError::new(at, found, expected, &advice));
        if self.pcids && !model.pcids {
            return lacks(self.positions.pcids, "`PCIDs=on`", "a CPU with PCIDs");
        }
        if self.top == Some(Level::Pml5e) && !model.five_levels {
            return lacks(self.positions.top, "`Paging=5`", "a CPU with five levels");
        }
        let mut model = match self.readings {
            Some(readings) => model.with_write_combining(readings),
            None => model,
        };
        if let Some(keep_load) = self.keep_load {
            model = model.with_keep_load(keep_load);
        }
        if self.xapic {
            model.ipi = IpiOrder::AfterStores;
        }
        Ok(model)
    }

    /// Returns CR4 at the start.
    pub(crate) fn cr4(&self) -> Cr4 {
        Cr4::default()
            .with(Cr4::PGE, self.globals)
            .with(Cr4::PCIDE, self.pcids)
    }

    /// Returns the ring that a thread runs in.
    pub(crate) fn privilege(&self, thread: u32) -> Privilege {
        match self.user_threads.contains(&thread) {
            true => Privilege::User,
            false => Privilege::Supervisor,
        }
    }
}

/// Reads a switch; `None` if it is not set.
fn is_on(keys: &Keys<'_>, key: &str) -> Result<Option<bool>, SyntaxError> {
    let Some(line) = keys.get(key) else {
        return Ok(None);
    };
    match line.value {
        "on" => Ok(Some(true)),
        "off" => Ok(Some(false)),
        other => Err(bad_value(line, other, "write `on` or `off`")),
    }
}

/// Reads the number of levels: `Paging=4`.
fn top(keys: &Keys<'_>) -> Result<Option<Level>, SyntaxError> {
    let Some(line) = keys.get("Paging") else {
        return Ok(None);
    };
    match line.value {
        "4" => Ok(Some(Level::Pml4e)),
        "5" => Ok(Some(Level::Pml5e)),
        other => {
            let (found, advice) = (
                format!("`Paging={other}`"),
                "write `Paging=4` or `Paging=5`",
            );
            Err(SyntaxError::new(line.position, found, "4 or 5", advice))
        }
    }
}

/// Splits a value at commas and blanks.
fn parts<'t>(line: Metadata<'t>) -> impl Iterator<Item = &'t str> {
    let parts = line.value.split(|c: char| c == ',' || c.is_whitespace());
    parts.filter(|part| !part.is_empty())
}

/// Reads the threads in ring 3: `User=P1,P2`.
fn user_threads(test: &LitmusTest, keys: &Keys<'_>) -> Result<Vec<u32>, SyntaxError> {
    const ADVICE: &str = "name threads of the test: `User=P1`";
    let Some(line) = keys.get("User") else {
        return Ok(Vec::new());
    };
    let thread = |name: &str| {
        let id = name.strip_prefix('P').and_then(|id| id.parse().ok());
        let known = id.filter(|id| test.threads.iter().any(|thread| thread.id == *id));
        known.ok_or_else(|| bad_value(line, name, ADVICE))
    };
    let threads: Vec<u32> = parts(line).map(thread).collect::<Result<_, _>>()?;
    match threads.is_empty() {
        true => Err(bad_value(line, "", ADVICE)),
        false => Ok(threads),
    }
}

/// Reads how variables are cached, as herdtools7 writes it: `MT=x:UC y:WC`, `MemoryType=x:UC`.
fn memory_types(keys: &Keys<'_>) -> Result<BTreeMap<String, Located<Caching>>, SyntaxError> {
    const ADVICE: &str = "write `MT=x:UC y:WC`; the types are UC, WC and WB";
    let line = match (keys.get("MT"), keys.get("MemoryType")) {
        (None, None) => return Ok(BTreeMap::new()),
        (Some(line), None) | (None, Some(line)) => line,
        (Some(_), Some(line)) => {
            return Err(bad_value(
                line,
                line.value,
                "`MT=` says it already: remove one of the two",
            ));
        }
    };
    let mut types = BTreeMap::new();
    for part in parts(line) {
        let bad = || bad_value(line, part, ADVICE);
        let (variable, name) = part.split_once(':').ok_or_else(bad)?;
        let value = Caching::named(&name.to_ascii_lowercase()).ok_or_else(bad)?;
        let caching = Located {
            value,
            position: line.position,
        };
        if types.insert(variable.to_owned(), caching).is_some() {
            return Err(bad_value(line, part, "give each variable one type"));
        }
    }
    match types.is_empty() {
        true => Err(bad_value(line, "", ADVICE)),
        false => Ok(types),
    }
}

/// Reads what empties write-combining buffers: `WC=retired`, `WC=sfence:retired`.
fn readings(keys: &Keys<'_>) -> Result<Option<WcReadings>, SyntaxError> {
    let Some(line) = keys.get("WC") else {
        return Ok(None);
    };
    let mut readings = WcReadings::all(Reading::Started);
    for part in line.value.split(',').map(str::trim) {
        let advice = "write `started`, `retired`, or `sfence:retired`";
        let bad = || bad_value(line, part, advice);
        readings = match part.split_once(':') {
            None => WcReadings::all(Reading::by_name(part).ok_or_else(bad)?),
            Some((event, reading)) => {
                let reading = Reading::by_name(reading).ok_or_else(bad)?;
                readings.with(event, reading).ok_or_else(bad)?
            }
        };
    }
    Ok(Some(readings))
}
