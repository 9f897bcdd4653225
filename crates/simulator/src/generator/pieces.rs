//! What fills a place in a skeleton.

use super::draft::Draft;
use crate::random::Random;

/// Says yes in `percent` of all cases, and then does something.
pub(super) fn perhaps(random: &mut Random, percent: u32, act: impl FnOnce(&mut Random)) {
    if random.chance(percent) {
        act(random);
    }
}

/// Draws one of several texts.
pub(super) fn one_of(random: &mut Random, all: &[&str]) -> String {
    (*random.one_of(all)).to_owned()
}

/// Adds a fence, or something that might be taken for one, or nothing.
pub(super) fn fence(draft: &mut Draft, random: &mut Random, column: usize) {
    let line = random.one_of(&["", "mfence", "mfence", "mfence", "cpuid", "lock", "sfence"]);
    match *line {
        "" => {}
        "lock" => {
            draft.init("count=0");
            draft.line(column, "lock incq (PA(count))");
        }
        line => draft.line(column, line),
    }
}

/// Adds an invalidation of one of several addresses, or of more, on the CPU that executes it.
pub(super) fn invalidate(draft: &mut Draft, random: &mut Random, column: usize, at: &[&str]) {
    let address = *random.one_of(at);
    let line = match random.below(10) {
        0..=3 => format!("invlpg ({address})"),
        4 | 5 => format!("invpcid $0, $0, ({address})"),
        6 => "invpcid $1, $0".to_owned(),
        7 => one_of(random, &["invpcid $2, $0", "invpcid $3, $0"]),
        8 => "movq $CR3(A), %cr3".to_owned(),
        _ => one_of(
            random,
            &[
                "movq $CR4(pge:0), %cr4",
                "movq $CR4(smep:1), %cr4",
                "movq $CR4(pge:1), %cr4",
            ],
        ),
    };
    draft.line(column, line);
}

/// Returns what an entry of a page may become: another frame, other permissions, or nothing.
pub(super) fn page(random: &mut Random, frames: &[&str]) -> String {
    let frame = *random.one_of(frames);
    one_of(
        random,
        &[
            &format!("(oa:PA({frame}))"),
            &format!("(oa:PA({frame}))"),
            &format!("(oa:PA({frame}), w:0)"),
            &format!("(oa:PA({frame}), g:1)"),
            "(valid:0)",
        ],
    )
}

/// Adds a load or a store by an address.
pub(super) fn touch(draft: &mut Draft, random: &mut Random, column: usize, variable: &str) {
    match random.below(6) {
        0..=3 => draft.load(column, variable),
        4 => draft.access(column, &format!("movq $5,({variable})")),
        _ => draft.access(column, &format!("lock incq ({variable})")),
    }
}
