//! Programs for those that poll: the other CPUs set a word each.

use lazytlb::Hw;
use lazytlb_check::{ModelHw, Program};
use lazytlb_model::AtomicCell;

/// A program in which CPU 0 does something, while the others set a word each.
pub(crate) fn with_setters(
    run: impl Fn(&ModelHw, &[AtomicCell]) + Send + Sync + 'static,
    setters: u8,
) -> Program {
    let mut program = Program::new("setters", 1 + setters);
    let words: Vec<_> = (0..setters)
        .map(|n| program.atomic(format!("word {n}"), 0))
        .collect();
    for (cpu, word) in (1..).zip(words.clone()) {
        program.operation(cpu, "set", move |hw| hw.store(&word, u64::from(cpu)));
    }
    program.operation(0, "poll", move |hw| run(hw, &words));
    program
}
