//! The sources of the protocol, and of what makes one of the checker's protocols of it.

use std::fs;

/// The modules that are copied, and may be mutated: the protocol.
pub(super) const COPIED: [&str; 27] = [
    "generation",
    "global_id",
    "kernel",
    "mm",
    "slots",
    "requests",
    "per_cpu",
    "policy",
    "batches",
    "quarantine",
    "software_walks",
    "interrupts",
    "pinned",
    "tlb",
    "switch",
    "serve",
    "shootdown",
    "shootdown_broadcast",
    "transition",
    "targets",
    "retire",
    "kernel_ranges",
    "isolation",
    "ranges",
    "device",
    "gather",
    "changes",
];
/// The modules that every copy shares with the real crate, so that their types are the same: the
/// seam.
const SHARED: &str = "addr, broadcast, compare_exchange, cpu_set, hw, memory, pcids, words";
const FOLDER: &str = "../lazytlb/src";
/// What makes a protocol of `lazytlb`, and of each copy, in this folder: the line of each that names the protocol is replaced.
const ADAPTERS: [&str; 4] = ["reports", "sinks", "storage", "adapter"];
const ADAPTERS_IN: &str = "../check/src/protocol";
const NAMES_PROTOCOL: &str = "use lazytlb as protocol;";

/// A source file, as lines of code: without comments and unit tests.
#[derive(Clone)]
pub(super) struct Source {
    pub(super) module: &'static str,
    pub(super) text: String,
}

/// The protocol and what adapts it, as they are without a change.
pub(super) struct Sources {
    pub(super) protocol: Vec<Source>,
    adapters: Vec<Source>,
}

impl Source {
    pub(super) fn read(module: &'static str, file: &str) -> Result<Source, String> {
        let text = read(file)?;
        let mut lines: Vec<&str> = text
            .lines()
            .take_while(|line| *line != "#[cfg(test)]")
            .filter(|line| !line.trim_start().starts_with("//") && !line.trim().is_empty())
            .collect();
        lines.push("");
        let text = lines.join("\n");
        Ok(Source { module, text })
    }

    /// Reads a file that adapts the protocol, and refuses one that names it in no line, or in two.
    fn read_adapter(module: &'static str) -> Result<Source, String> {
        let file = format!("{ADAPTERS_IN}/{module}.rs");
        let source = Source::read(module, &file)?;
        let lines = source.text.lines();
        match lines.filter(|line| *line == NAMES_PROTOCOL).count() {
            1 => Ok(source),
            found => Err(format!(
                "{file} has {found} lines, not one, with: {NAMES_PROTOCOL}"
            )),
        }
    }
}

impl Sources {
    /// Reads them, and has cargo run this again when they change.
    ///
    /// # Errors
    /// If one cannot be read, or an adapter does not name the protocol once.
    pub(super) fn read() -> Result<Sources, String> {
        for module in ADAPTERS {
            println!("cargo::rerun-if-changed={ADAPTERS_IN}/{module}.rs");
        }
        for module in COPIED {
            println!("cargo::rerun-if-changed={FOLDER}/{module}.rs");
        }
        let protocol = COPIED.map(|module| Source::read(module, &format!("{FOLDER}/{module}.rs")));
        let adapters = ADAPTERS.map(Source::read_adapter);
        Ok(Sources {
            protocol: protocol.into_iter().collect::<Result<_, _>>()?,
            adapters: adapters.into_iter().collect::<Result<_, _>>()?,
        })
    }

    /// Returns a whole protocol, as modules of a module `name`: the text of each file as it is made of the source and the text that
    /// would be its copy's, and what adapts them.
    pub(super) fn protocol(&self, name: &str, text_of: impl Fn(&Source) -> String) -> String {
        let mut text = format!("pub use lazytlb::{{{SHARED}}};\n");
        for source in &self.protocol {
            let lines = text_of(source);
            text += &format!("pub mod {} {{\n{lines}\n}}\n", source.module);
        }
        let names_this = format!("use crate::protocols::{name} as protocol;");
        for adapter in &self.adapters {
            let lines = adapter.text.replace(NAMES_PROTOCOL, &names_this);
            text += &format!("pub mod {} {{\n{lines}\n}}\n", adapter.module);
        }
        text
    }
}

/// Returns code of the protocol as code of its copy in a module `name`.
pub(super) fn moved_to(name: &str, text: &str) -> String {
    text.replace("crate::", &format!("crate::protocols::{name}::"))
}

pub(super) fn read(file: &str) -> Result<String, String> {
    fs::read_to_string(file).map_err(|error| format!("{file}: {error}"))
}
