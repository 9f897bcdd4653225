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

const THEMES: [Theme; 22] = [
    (10, "pages", paging::pages),
    (12, "upper-levels", paging::upper_levels),
    (10, "large-pages", paging::large_pages),
    (10, "accessed", paging::accessed),
    (5, "collected", paging::collected),
    (5, "fetches", paging::fetches),
    (4, "self-map", paging::self_map),
    (4, "rings", paging::rings),
    (5, "hooks", paging::hooks),
    (12, "pcids", spaces::pcids),
    (6, "globals", spaces::globals),
    (3, "control-registers", spaces::control_registers),
    (4, "shared-tables", spaces::shared_tables),
    (5, "excursions", spaces::excursions),
    (8, "interrupts", traffic::interrupts),
    (10, "broadcasts", traffic::broadcasts),
    (6, "combining", traffic::combining),
    (3, "devices", traffic::devices),
    (6, "order", traffic::order),
    (4, "memory-types", traffic::memory_types),
    (7, "late-walks", traffic::late_walks),
    (5, "own-walks", traffic::own_walks),
];

/// Writes the random test of a seed.
pub fn generate(seed: u64) -> String {
    let mut random = Random::new(seed);
    let weights = THEMES.map(|(weight, ..)| weight);
    let (_, name, theme) = THEMES[random.weighted(&weights)];
    theme(&mut random).text(&format!("{name}-{seed}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::readings::Amended;
    use crate::simulation::Simulation;

    #[test]
    fn every_random_test_can_be_read_and_executed() {
        for seed in 0..400 {
            let text = generate(seed);
            let test = lazytlb_litmus_syntax::read(&text);
            let test = test.unwrap_or_else(|error| panic!("{error}\n{text}"));
            let simulation = Simulation::new(&test, Amended::WEAKEST);
            let simulation = simulation.unwrap_or_else(|error| panic!("{error}\n{text}"));
            let ended = (0..40).filter_map(|seed| simulation.run(seed)).count();
            assert!(ended > 0, "every execution was given up\n{text}");
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_test_and_the_same_execution() {
        let text = generate(11);
        assert_eq!(text, generate(11));
        let test = lazytlb_litmus_syntax::read(&text).unwrap();
        let simulation = Simulation::new(&test, Amended::WEAKEST).unwrap();
        for seed in 0..20 {
            assert_eq!(simulation.run(seed), simulation.run(seed));
        }
    }

    #[test]
    fn every_theme_is_drawn() {
        let names: std::collections::BTreeSet<String> = (0..600)
            .map(|seed| generate(seed).lines().next().unwrap_or_default().to_owned())
            .filter_map(|line| Some(line.strip_prefix("X86_64 ")?.rsplit_once('-')?.0.to_owned()))
            .collect();
        assert_eq!(names.len(), THEMES.len());
    }
}
