//! Where variables lie: their virtual addresses.

use std::collections::{BTreeMap, BTreeSet};

use lazytlb::VirtAddr;
use lazytlb_litmus_syntax::{InitItem, Level, LitmusTest, SyntaxError};

use crate::page_tables::span_bits;

/// Bytes of a page.
const PAGE: u64 = 0x1000;

/// Gives each variable a page of its own: where init puts it, or the next free one.
///
/// # Errors
/// If init puts a variable where none can lie, or two at one address.
pub(crate) fn addresses(
    test: &LitmusTest,
    variables: &[String],
    top: Level,
) -> Result<BTreeMap<String, VirtAddr>, SyntaxError> {
    let given = given(test, variables, top)?;
    let taken: BTreeSet<u64> = given.values().copied().collect();
    let mut free = (1..)
        .map(|page| page * PAGE)
        .filter(|page| !taken.contains(page));
    let mut place = |name: &String| {
        let given = given.get(name.as_str()).copied();
        let address = given.unwrap_or_else(|| free.next().expect("pages do not end"));
        (name.clone(), VirtAddr(address))
    };
    Ok(variables.iter().map(&mut place).collect())
}

/// Returns the addresses that init gives: `VA(x) = 0x200000`.
fn given<'t>(
    test: &'t LitmusTest,
    variables: &[String],
    top: Level,
) -> Result<BTreeMap<&'t str, u64>, SyntaxError> {
    let lower_half = 1 << (span_bits(top) + 8);
    let mut given: BTreeMap<&str, u64> = BTreeMap::new();
    for item in &test.init {
        let InitItem::Address { variable, address } = &item.value else {
            continue;
        };
        let refuse = |expected: &str, advice: &str| {
            let found = format!("`VA({variable}) = {address:#x}`");
            Err(SyntaxError::new(item.position, found, expected, advice))
        };
        if *address >= lower_half || address % PAGE != 0 {
            return refuse(
                "the start of a page of the lower half",
                "write a multiple of 0x1000 below 2^47, or 2^56 with five levels",
            );
        }
        if given.contains_key(variable.as_str()) || given.values().any(|taken| taken == address) {
            return refuse(
                "a page of its own for each variable",
                "map one frame twice to give a page two addresses: `[PTE(y)]=(oa:PA(x))`",
            );
        }
        if !variables.contains(variable) {
            return refuse(
                "a variable",
                "a spare frame has no address; map it: `[PTE(x)]=(oa:PA(F))`",
            );
        }
        given.insert(variable, *address);
    }
    Ok(given)
}
