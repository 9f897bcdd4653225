//! Themes about address spaces: PCIDs, global pages, control registers, tables that two spaces share.

use super::draft::Draft;
use super::pieces::{invalidate, one_of, perhaps, touch};
use crate::random::Random;

/// Adds a load of CR3 with a PCID.
fn switch(draft: &mut Draft, random: &mut Random, space: &str, pcid: usize, keep: u32) {
    let keep = if random.chance(keep) { ", keep" } else { "" };
    draft.line(0, format!("movq $CR3({space}, pcid:{pcid}{keep}), %cr3"));
}

/// Adds an invalidation that names a PCID, or not.
fn invalidate_somewhere(draft: &mut Draft, random: &mut Random) {
    let pcid = random.below(3);
    let line = match random.below(9) {
        0 | 1 => "invlpg (x)".to_owned(),
        2 => "invlpg (z)".to_owned(),
        3 | 4 => format!("invpcid $0, ${pcid}, (x)"),
        5 => format!("invpcid $1, ${pcid}"),
        6 => one_of(random, &["invpcid $2, $0", "invpcid $3, $0"]),
        7 => one_of(
            random,
            &["movq $CR4(pge:0), %cr4", "movq $CR4(smep:1), %cr4"],
        ),
        _ => {
            let what = one_of(
                random,
                &["va:x", "pcid:1", "va:x, pcid:2", "va:x, global:1"],
            );
            draft.line(0, "mfence");
            draft.line(0, format!("invlpgb $({what})"));
            "tlbsync".to_owned()
        }
    };
    draft.line(0, line);
}

/// A page changes while another PCID is current.
pub(super) fn pcids(random: &mut Random) -> Draft {
    let mut draft = Draft::of_threads(1);
    draft.key("PCIDs=on");
    for first in ["x=1", "y=2", "z=3"] {
        draft.init(first);
    }
    let in_other = one_of(random, &["(oa:PA(x))", "(oa:PA(y))", "(valid:0)"]);
    draft.init(format!("[PTE(x,B)]={in_other}"));
    perhaps(random, 25, |_| draft.init("[PTE(x)]=(oa:PA(x), g:1)"));
    switch(&mut draft, random, "A", 1, 30);
    perhaps(random, 30, |random| touch(&mut draft, random, 0, "x"));
    let changes_first = random.chance(40);
    let change = |draft: &mut Draft| draft.line(0, "movq $(oa:PA(y)),(PTE(x))");
    if changes_first {
        change(&mut draft);
    }
    let pcid = *random.one_of(&[2, 2, 2, 1]);
    switch(&mut draft, random, "B", pcid, 40);
    if !changes_first {
        change(&mut draft);
    }
    perhaps(random, 60, |random| {
        invalidate_somewhere(&mut draft, random)
    });
    perhaps(random, 30, |random| touch(&mut draft, random, 0, "x"));
    perhaps(random, 80, |random| switch(&mut draft, random, "A", 1, 80));
    touch(&mut draft, random, 0, "x");
    draft.show("[PA(x)]");
    draft.show("[PA(y)]");
    draft
}

/// A global page changes.
pub(super) fn globals(random: &mut Random) -> Draft {
    let mut draft = Draft::of_threads(1);
    draft.init("x=1");
    draft.init("y=2");
    draft.init("z=3");
    perhaps(random, 20, |_| draft.key("Global=off"));
    match random.below(4) {
        0 => draft.init("[PDE(x)]=(oa:PT(x), g:1)"),
        1 => draft.init("[PTE(x)]=(oa:PA(x), w:0, g:1)"),
        _ => draft.init("[PTE(x)]=(oa:PA(x), g:1)"),
    }
    perhaps(random, 30, |random| touch(&mut draft, random, 0, "x"));
    let changed = one_of(
        random,
        &["(oa:PA(y))", "(oa:PA(y), g:1)", "(valid:0)", "(oa:PA(x))"],
    );
    draft.line(0, format!("movq ${changed},(PTE(x))"));
    invalidate(&mut draft, random, 0, &["x", "x", "z"]);
    perhaps(random, 20, |random| {
        invalidate(&mut draft, random, 0, &["x", "z"])
    });
    touch(&mut draft, random, 0, "x");
    perhaps(random, 50, |random| touch(&mut draft, random, 0, "x"));
    draft.show("[PA(x)]");
    draft
}

/// Control registers are loaded with what they may not hold, or may.
pub(super) fn control_registers(random: &mut Random) -> Draft {
    let mut draft = Draft::of_threads(1);
    perhaps(random, 50, |_| draft.key("PCIDs=on"));
    draft.init("x=1");
    draft.init("y=2");
    draft.init("[PTE(x,B)]=(oa:PA(y))");
    perhaps(random, 50, |random| {
        let pcid = random.below(2);
        switch(&mut draft, random, "A", pcid, 20);
        draft.line(0, "movq $CR4(pcide:1), %cr4");
    });
    for _ in 0..1 + random.below(3) {
        match random.below(7) {
            0 | 1 => {
                let (space, pcid) = (one_of(random, &["A", "B"]), random.below(2));
                switch(&mut draft, random, &space, pcid, 40);
            }
            2 => draft.line(0, "movq $CR4(pcide:1), %cr4"),
            3 => draft.line(0, "movq $CR4(pcide:0), %cr4"),
            4 => {
                let line = one_of(
                    random,
                    &["invpcid $1, $1", "invpcid $0, $0, (x)", "invpcid $1, $0"],
                );
                draft.line(0, line);
            }
            5 => draft.line(0, "movq $(oa:PA(y)),(PTE(x))"),
            _ => draft.load(0, "x"),
        }
    }
    draft.load(0, "x");
    draft
}

/// A page is there only while its space is not loaded (H12a): a walk may have waited for it.
pub(super) fn excursions(random: &mut Random) -> Draft {
    let mut draft = Draft::of_threads(2);
    draft.key("PCIDs=on");
    for first in ["x=1", "y=2", "away=0", "back=0", "VA(x)=0x8000000000"] {
        draft.init(first);
    }
    let (level, there) = *random.one_of(&[
        ("PTE", "(oa:PA(y))"),
        ("PTE", "(oa:PA(y))"),
        ("PDE", "(oa:PT(x))"),
        ("PML4E", "(oa:PDPT(x))"),
    ]);
    draft.init(format!("[{level}(x)]=(valid:0)"));
    perhaps(random, 50, |_| draft.init("[PTE(x,B)]=(oa:PA(x))"));
    perhaps(random, 70, |random| switch(&mut draft, random, "B", 1, 80));
    draft.line(0, "movq $1,(PA(away))");
    perhaps(random, 20, |random| {
        invalidate_somewhere(&mut draft, random)
    });
    draft.line(0, "wait (PA(back)),$1");
    perhaps(random, 15, |random| touch(&mut draft, random, 0, "x"));
    switch(&mut draft, random, "A", 0, 80);
    touch(&mut draft, random, 0, "x");
    draft.line(1, "wait (PA(away)),$1");
    draft.line(1, format!("movq ${there},({level}(x))"));
    draft.line(1, format!("movq $(valid:0),({level}(x))"));
    draft.line(1, "movq $1,(PA(back))");
    draft.show("[PA(x)]");
    draft.show("[PA(y)]");
    draft
}

/// Two spaces share their tables, and one of them changes (H19, H38).
pub(super) fn shared_tables(random: &mut Random) -> Draft {
    let mut draft = Draft::of_threads(1);
    draft.key("PCIDs=on");
    for first in ["x=0", "y=2", "z=3", "[PML4E(x,B)]=(oa:PDPT(x))"] {
        draft.init(first);
    }
    let first = one_of(random, &["(valid:0)", "(oa:PA(x), g:1)", "(oa:PA(x))"]);
    draft.init(format!("[PTE(x)]={first}"));
    switch(&mut draft, random, "B", 2, 30);
    switch(&mut draft, random, "A", 1, 30);
    draft.line(0, "movq $(valid:0),(PDE(x))");
    perhaps(random, 80, |random| {
        invalidate_somewhere(&mut draft, random)
    });
    let made = one_of(random, &["(oa:PA(y))", "(oa:PA(y), g:1)"]);
    draft.line(0, format!("movq ${made},(PTE(x))"));
    perhaps(random, 70, |random| switch(&mut draft, random, "B", 2, 80));
    draft.line(0, "mfence");
    draft.load(0, "x");
    draft
}
