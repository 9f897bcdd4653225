//! What the lines before the init section set of the machine.

use lazytlb_litmus_syntax::{Level, LitmusTest, Position, SyntaxError};
use lazytlb_model::cpu_model::IpiOrder;
use lazytlb_model::{CpuModel, Cr4, KeepLoad, Privilege, Reading, WcReadings};

/// What a test's metadata set. A key that nothing here asks for sets nothing.
pub(crate) struct Settings {
    /// The entries of the topmost tables; `None`: not said.
    pub(crate) top: Option<Level>,
    /// Whether A and D bits are tracked.
    pub(crate) tracks_accessed: bool,
    pcids: bool,
    globals: bool,
    user_threads: Vec<u32>,
    readings: Option<WcReadings>,
    keep_load: Option<KeepLoad>,
    /// IPIs go through an xAPIC, whose uncached write is ordered (H36).
    xapic: bool,
}

impl Settings {
    /// Reads the settings of a test.
    ///
    /// # Errors
    /// If a key has a value that it cannot have.
    pub(crate) fn of(test: &LitmusTest) -> Result<Settings, SyntaxError> {
        Ok(Settings {
            top: top(test)?,
            tracks_accessed: is_on(test, "Accessed")?.unwrap_or(false),
            pcids: is_on(test, "PCIDs")?.unwrap_or(false),
            globals: is_on(test, "Global")?.unwrap_or(true),
            user_threads: user_threads(test)?,
            readings: readings(test)?,
            keep_load: match test.metadata("KeepLoads") {
                None => None,
                Some(name) => Some(KeepLoad::by_name(name).ok_or_else(|| {
                    let advice = "write `walks-go-on` or `end-walks`";
                    bad_value("KeepLoads", name, advice)
                })?),
            },
            xapic: match test.metadata("IPI") {
                None | Some("x2apic") => false,
                Some("xapic") => true,
                Some(other) => return Err(bad_value("IPI", other, "write `xapic` or `x2apic`")),
            },
        })
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
        let lacks = |found, expected| {
            let at = Position::START;
            Err(SyntaxError::new(at, found, expected, &advice))
        };
        if self.pcids && !model.pcids {
            return lacks("`PCIDs=on`", "a CPU with PCIDs");
        }
        if self.top == Some(Level::Pml5e) && !model.five_levels {
            return lacks("`Paging=5`", "a CPU with five levels");
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
fn is_on(test: &LitmusTest, key: &str) -> Result<Option<bool>, SyntaxError> {
    match test.metadata(key) {
        None => Ok(None),
        Some("on") => Ok(Some(true)),
        Some("off") => Ok(Some(false)),
        Some(other) => Err(bad_value(key, other, "write `on` or `off`")),
    }
}

/// Reads the number of levels: `Paging=4`.
fn top(test: &LitmusTest) -> Result<Option<Level>, SyntaxError> {
    match test.metadata("Paging") {
        None => Ok(None),
        Some("4") => Ok(Some(Level::Pml4e)),
        Some("5") => Ok(Some(Level::Pml5e)),
        Some(other) => {
            let (found, advice) = (
                format!("`Paging={other}`"),
                "write `Paging=4` or `Paging=5`",
            );
            Err(SyntaxError::new(Position::START, found, "4 or 5", advice))
        }
    }
}

/// Reads the threads in ring 3: `User=P1,P2`.
fn user_threads(test: &LitmusTest) -> Result<Vec<u32>, SyntaxError> {
    let names = test.metadata("User").unwrap_or_default().split(',');
    let names = names.map(str::trim).filter(|name| !name.is_empty());
    let thread = |name: &str| {
        let id = name.strip_prefix('P').and_then(|id| id.parse().ok());
        let known = id.filter(|id| test.threads.iter().any(|thread| thread.id == *id));
        known.ok_or_else(|| bad_value("User", name, "name threads of the test: `User=P1`"))
    };
    names.map(thread).collect()
}

/// Reads what empties write-combining buffers: `WC=retired`, `WC=sfence:retired`.
fn readings(test: &LitmusTest) -> Result<Option<WcReadings>, SyntaxError> {
    let Some(written) = test.metadata("WC") else {
        return Ok(None);
    };
    let mut readings = WcReadings::all(Reading::Started);
    for part in written.split(',').map(str::trim) {
        let advice = "write `started`, `retired`, or `sfence:retired`";
        let bad = || bad_value("WC", part, advice);
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

fn bad_value(key: &str, value: &str, advice: &str) -> SyntaxError {
    let found = format!("`{key}={value}`");
    SyntaxError::new(Position::START, found, "another value", advice)
}
