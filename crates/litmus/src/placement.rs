//! Gives every name of a test its place in a program: cells, frames, tables, and what they hold at the start.

use std::collections::{BTreeMap, BTreeSet};

use lazytlb::{Entry, VirtAddr};
use lazytlb_check::Program;
use lazytlb_litmus_syntax::{
    EntryLiteral, InitItem, Level, LitmusTest, Located, Location, Place, SyntaxError, Value,
};

use crate::entry_bits;
use crate::layout;
use crate::names::Names;
use crate::page_tables::{FIRST_SPACE, PageTables, number_of};
use crate::settings::Settings;
use crate::world::{SpareFrame, Variable, World};

/// Makes what a test names.
///
/// # Errors
/// If a name or a value of the init section makes no sense.
pub(crate) fn place(
    test: &LitmusTest,
    settings: &Settings,
    program: &mut Program,
) -> Result<World, SyntaxError> {
    let names = Names::of(test, settings)?;
    let top = settings.top.unwrap_or(Level::Pml4e);
    let addresses = layout::addresses(test, &names.variables, top)?;
    let mut world = World {
        is_translated: names.is_translated,
        variables: BTreeMap::new(),
        spare_frames: BTreeMap::new(),
        spare_tables: BTreeMap::new(),
        page_tables: PageTables::new(top, program.first_root()),
        addressed: BTreeSet::new(),
    };
    for name in &names.variables {
        let value = first_value(test, name, &addresses)?;
        let cell = program.atomic(name.clone(), value);
        let frame = match (names.is_translated, names.devices.contains(name)) {
            (false, _) => None,
            (true, false) => Some(program.page_with_word(cell)),
            (true, true) => {
                let frame = program.device();
                program.give_word(frame, cell);
                Some(frame)
            }
        };
        let variable = Variable {
            cell,
            address: addresses[name],
            width: test.width_of(name),
            frame,
        };
        world.variables.insert(name.clone(), variable);
    }
    if world.is_translated {
        for name in &names.frames {
            let value = first_value(test, name, &addresses)?;
            let cell = program.atomic(format!("PA({name})"), value);
            let frame = program.page_with_word(cell);
            let spare = SpareFrame { frame, cell };
            world.spare_frames.insert(name.clone(), spare);
        }
        build_tables(&mut world, &names, program);
        set_memory_types(&mut world, test, settings)?;
        set_entries(&mut world, test)?;
        for (slot, entry) in world.page_tables.entries() {
            program.first_entry(slot.table, slot.index, entry);
        }
        name_places(&world, &names, program);
        program.features().levels = number_of(top);
        program.start_with_cr4(settings.cr4());
    }
    Ok(world)
}

/// Returns the value that init gives to a variable, or to the cell of a spare frame; 0 if it gives none.
fn first_value(
    test: &LitmusTest,
    name: &str,
    addresses: &BTreeMap<String, VirtAddr>,
) -> Result<u64, SyntaxError> {
    let mut first = 0;
    for (place, value) in first_values(test) {
        let (Place::Variable(of) | Place::Frame(of)) = place else {
            continue;
        };
        if of != name {
            continue;
        }
        let refuse = |found: String, advice: &str| {
            let expected = "a number or a variable's address";
            Err(SyntaxError::new(value.position, found, expected, advice))
        };
        first = match value.value {
            Value::Number(number) => *number as u64,
            Value::Address(of) => match addresses.get(of) {
                Some(address) => address.0,
                None => return refuse(format!("`{of}`"), "a spare frame has no address"),
            },
            Value::EntryAddress(_) | Value::Frame(_) | Value::Entry(_) | Value::Cr3(_) => {
                let found = "an entry or a frame as the value of a variable".to_owned();
                return refuse(
                    found,
                    "entries belong into page tables: `[PTE(x)] = (oa:PA(y))`",
                );
            }
        };
    }
    Ok(first)
}

/// Lists the places in memory that init sets, and to what.
fn first_values(test: &LitmusTest) -> impl Iterator<Item = (&Place, Located<&Value>)> {
    test.init.iter().filter_map(|item| match &item.value {
        InitItem::Set {
            location: Location::Memory(place),
            value: Some(value),
            ..
        } => {
            let position = item.position;
            Some((place, Located { value, position }))
        }
        InitItem::Set { .. }
        | InitItem::Address { .. }
        | InitItem::Frame(_)
        | InitItem::Table(_)
        | InitItem::Device(_) => None,
    })
}

/// Makes the tables, and maps every variable in the first space.
fn build_tables(world: &mut World, names: &Names, program: &mut Program) {
    for name in &names.tables {
        world.spare_tables.insert(name.clone(), program.table());
    }
    for space in &names.spaces {
        world.page_tables.add_space(space, program);
    }
    for name in &names.variables {
        let variable = world.variables[name];
        world
            .page_tables
            .reach(FIRST_SPACE, variable.address, program);
        let slot = world
            .page_tables
            .slot(FIRST_SPACE, Level::Pte, variable.address);
        if let (Some(slot), Some(frame)) = (slot, variable.frame) {
            let mapped = entry_bits::entry(&EntryLiteral::default(), frame);
            world.page_tables.set(slot, mapped);
        }
    }
    for entry in &names.entries {
        // A name that nothing has is refused where it gets its meaning, with its place.
        if let Some(variable) = world.variables.get(&entry.variable) {
            let space = entry.space.as_deref().unwrap_or(FIRST_SPACE);
            world.page_tables.reach(space, variable.address, program);
        }
    }
    for entry in &names.addressed {
        let Some(variable) = world.variables.get(&entry.variable) else {
            continue;
        };
        let space = entry.space.as_deref().unwrap_or(FIRST_SPACE);
        let slot = world.page_tables.slot(space, entry.level, variable.address);
        world.addressed.extend(slot);
    }
}

/// Tells a program what its places are called, for the timelines of executions.
fn name_places(world: &World, names: &Names, program: &mut Program) {
    let tables = &world.page_tables;
    for (table, frame) in &world.spare_tables {
        program.name_frame(*frame, table);
    }
    let others = names.spaces.iter().map(String::as_str);
    for space in others
        .filter(|space| *space != FIRST_SPACE)
        .chain([FIRST_SPACE])
    {
        let in_space = match space {
            FIRST_SPACE => String::new(),
            other => format!(",{other}"),
        };
        // Of several names for one place, the first variable's stays.
        for (name, variable) in world.variables.iter().rev() {
            for level in Level::ALL {
                if let Some(slot) = tables.slot(space, level, variable.address) {
                    let entry = format!("{}({name}{in_space})", level.entry_name());
                    program.name_entry(slot.table, slot.index, entry);
                }
            }
        }
        if let Some(root) = tables.root(space) {
            program.name_frame(root, format!("ROOT({space})"));
        }
    }
    for (name, variable) in &world.variables {
        program.name_address(variable.address, name);
    }
    let told = world.clone();
    program.tell_entries(move |entry| told.told_entry(entry.0));
}

/// Maps variables of the first space as `MT=` says that they are cached.
fn set_memory_types(
    world: &mut World,
    test: &LitmusTest,
    settings: &Settings,
) -> Result<(), SyntaxError> {
    for (name, caching) in &settings.memory_types {
        let at = caching.position;
        let variable = world.variable(name, at)?;
        let is_the_entry = |place: &Place| match place {
            Place::Entry(entry) => entry.level == Level::Pte && entry.variable == *name,
            Place::Variable(_) | Place::Frame(_) | Place::Slot { .. } => false,
        };
        if first_values(test).any(|(place, _)| is_the_entry(place)) {
            let found = format!("a memory type for `{name}`, whose entry the init section sets");
            let advice = "give the type there, `type:uc`, or leave the entry out";
            return Err(SyntaxError::new(at, found, "one of the two", advice));
        }
        let slot = world
            .page_tables
            .slot(FIRST_SPACE, Level::Pte, variable.address);
        if let (Some(slot), Some(frame)) = (slot, variable.frame) {
            let literal = EntryLiteral {
                memory_type: caching.value,
                ..EntryLiteral::default()
            };
            world
                .page_tables
                .set(slot, entry_bits::entry(&literal, frame));
        }
    }
    Ok(())
}

/// Sets the entries that init sets. Every entry with a first value has an address.
fn set_entries(world: &mut World, test: &LitmusTest) -> Result<(), SyntaxError> {
    let mut set = Vec::new();
    for (place, value) in first_values(test) {
        let at = value.position;
        let slot = match place {
            Place::Entry(name) => world.entry(name, at)?,
            Place::Slot { table, index } => world.spare_entry(table, index, at)?,
            Place::Variable(_) | Place::Frame(_) => continue,
        };
        set.push((slot, value));
    }
    let hooked = world.page_tables.entries().map(|(slot, _)| slot);
    world.addressed.extend(hooked);
    world.addressed.extend(set.iter().map(|(slot, _)| *slot));
    for (slot, value) in set {
        let entry = Entry(world.number(value.value, value.position)?);
        world.page_tables.set(slot, entry);
    }
    Ok(())
}
