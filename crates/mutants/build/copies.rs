//! The protocols that are compiled: one copy for all changes that stay within a function, and one for each that does not.

use std::collections::BTreeMap;
use std::path::Path;
use std::{env, fs};

use super::bodies::{Choices, Functions};
use super::sources::{Source, Sources, moved_to};

/// The copy in which a number chooses what is changed.
const SWITCHABLE: &str = "switchable";

/// What is compiled.
pub(super) struct Copies {
    pub(super) sources: Sources,
    functions: BTreeMap<&'static str, Functions>,
    choices: BTreeMap<&'static str, Choices>,
    /// The last number that was given.
    number: u32,
    /// The copies' modules.
    modules: String,
}

/// Where a changed protocol is to be found.
pub(super) struct Place {
    module: String,
    number: u32,
}

impl Place {
    /// Returns what makes its programs, as an expression.
    pub(super) fn build(&self, adapter: &str) -> String {
        let Place { module, number } = self;
        format!(
            "Build {{ number: {number}, make: crate::make::<crate::protocols::{module}::adapter::{adapter}> }}"
        )
    }
}

impl Copies {
    /// Begins with none.
    ///
    /// # Errors
    /// If a source cannot be read.
    pub(super) fn new() -> Result<Copies, String> {
        let sources = Sources::read()?;
        let functions = sources.protocol.iter();
        let functions = functions.map(|source| Ok((source.module, Functions::of(source)?)));
        Ok(Copies {
            functions: functions.collect::<Result<_, String>>()?,
            choices: BTreeMap::new(),
            sources,
            number: 0,
            modules: String::new(),
        })
    }

    /// Adds the protocol with a file changed.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub(super) fn add(&mut self, name: &str, changed: &Source) -> Result<Place, String> {
        let mut sources = self.sources.protocol.iter();
        let source = sources.find(|source| source.module == changed.module);
        let source = source.ok_or_else(|| format!("{} is not copied", changed.module))?;
        let body = self.functions[source.module].changed(&source.text, &changed.text);
        let Some(body) = body else {
            let of_file = |source: &Source| match source.module == changed.module {
                true => moved_to(name, &changed.text),
                false => moved_to(name, &source.text),
            };
            let text = self.sources.protocol(name, of_file);
            self.write_module(name, text)?;
            return Ok(Place {
                module: name.to_owned(),
                number: 0,
            });
        };
        self.number += 1;
        let choices = self.choices.entry(source.module).or_default();
        choices.add(body.place, self.number, name);
        write(&format!("{name}.rs"), moved_to(SWITCHABLE, &body.text))?;
        Ok(Place {
            module: SWITCHABLE.to_owned(),
            number: self.number,
        })
    }

    /// Writes what was added, and the modules of all.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub(super) fn finish(mut self) -> Result<(), String> {
        let text =
            self.sources
                .protocol(SWITCHABLE, |source| match self.choices.get(source.module) {
                    Some(choices) => moved_to(SWITCHABLE, &choices.write_into(&source.text)),
                    None => moved_to(SWITCHABLE, &source.text),
                });
        self.write_module(SWITCHABLE, text)?;
        write("protocols.rs", self.modules)
    }

    fn write_module(&mut self, name: &str, text: String) -> Result<(), String> {
        write(&format!("{name}.rs"), text)?;
        let file = format!("include!(concat!(env!(\"OUT_DIR\"), \"/{name}.rs\"));");
        self.modules += &format!(
            "#[allow(missing_docs, unreachable_pub, unused, clippy::all)]\n\
             pub mod {name} {{ {file} }}\n"
        );
        Ok(())
    }
}

/// Writes a file among what this build makes.
pub(super) fn write(file: &str, text: String) -> Result<(), String> {
    let out = env::var("OUT_DIR").map_err(|error| error.to_string())?;
    let path = Path::new(&out).join(file);
    fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))
}
