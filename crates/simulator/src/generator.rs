//! Random litmus tests, each from a seed: small programs about one part of the machine, full of what a kernel
//! does there, rightly or wrongly.
//!
//! Programs drawn blindly from all instructions say nothing: a stale translation needs an entry that changes, a
//! use of it, and between them an invalidation that does not quite fit. So each theme has a skeleton, whose
//! places are filled at random, or left empty.
//!
//! | file | what |
//! | --- | --- |
//! | `draft` | a test that is being written: columns, registers, what final states show |
//! | `pieces` | what fills a place: a change of an entry, an invalidation, a fence |
//! | `paging` | themes about translations on one CPU or two |
//! | `spaces` | themes about PCIDs, globals and control registers |
//! | `traffic` | themes about buffers, interrupts and broadcasts |

mod draft;
mod paging;
mod pieces;
mod spaces;
mod traffic;

use draft::Draft;

use crate::random::Random;

/// A theme: how often it is drawn, its name, and what writes a test of it.
type Theme = (u32, &'static str, fn(&mut Random) -> Draft);

const THEMES: [Theme; 18] = [
    (10, "pages", paging::pages),
    (12, "upper-levels", paging::upper_levels),
    (10, "large-pages", paging::large_pages),
    (10, "accessed", paging::accessed),
    (5, "fetches", paging::fetches),
    (4, "self-map", paging::self_map),
    (4, "rings", paging::rings),
    (5, "hooks", paging::hooks),
    (12, "pcids", spaces::pcids),
    (6, "globals", spaces::globals),
    (3, "control-registers", spaces::control_registers),
    (4, "shared-tables", spaces::shared_tables),
    (8, "interrupts", traffic::interrupts),
    (10, "broadcasts", traffic::broadcasts),
    (6, "combining", traffic::combining),
    (3, "devices", traffic::devices),
    (6, "order", traffic::order),
    (4, "memory-types", traffic::memory_types),
];

/// Writes the random test of a seed.
pub fn generate(seed: u64) -> String {
    let mut random = Random::new(seed);
    let weights = THEMES.map(|(weight, ..)| weight);
    let (_, name, theme) = THEMES[random.weighted(&weights)];
    theme(&mut random).text(&format!("{name}-{seed}"))
}
