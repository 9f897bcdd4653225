//! The values of `--any`, sets of operations, one a CPU, and of `--lock`.

use std::ffi::OsStr;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use lazytlb_check::{MenuOperation, Menus, PageTableLock};

/// Reads menus. An operation that there is not is told as a value that there is not of any other option: with the
/// nearest one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MenusParser;

impl MenusParser {
    fn operations() -> PossibleValuesParser {
        let operations = MenuOperation::ALL;
        PossibleValuesParser::new(
            operations
                .map(|operation| PossibleValue::new(operation.name()).help(operation.about())),
        )
    }
}

impl TypedValueParser for MenusParser {
    type Value = Menus;

    fn parse_ref(
        &self,
        command: &clap::Command,
        argument: Option<&clap::Arg>,
        value: &OsStr,
    ) -> Result<Menus, clap::Error> {
        if let Some(text) = value.to_str() {
            let names = text.split(['/', ',']).map(str::trim);
            for name in names.filter(|name| !name.is_empty()) {
                let name = name.split_once(':').map_or(name, |(name, _space)| name);
                MenusParser::operations().parse_ref(command, argument, OsStr::new(name))?;
            }
        }
        let parse = |text: &str| text.parse::<Menus>();
        parse.parse_ref(command, argument, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        let operations = MenuOperation::ALL.into_iter();
        Some(Box::new(operations.map(|operation| {
            PossibleValue::new(operation.name()).help(operation.about())
        })))
    }
}

/// Reads how page tables are locked.
pub(crate) fn page_table_lock() -> impl TypedValueParser<Value = PageTableLock> {
    let values = PageTableLock::ALL.map(|lock| PossibleValue::new(lock.name()).help(lock.about()));
    PossibleValuesParser::new(values).map(|name| {
        let mut all = PageTableLock::ALL.into_iter();
        let named = all.find(|lock| lock.name() == name);
        named.expect("no other name is possible")
    })
}
