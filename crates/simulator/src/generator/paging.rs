//! Themes about translations: stale pages, stale upper levels, large pages, A and D, fetches, rings.

use super::draft::Draft;
use super::pieces::{fence, invalidate, one_of, page, perhaps, touch};
use crate::random::Random;

/// Stores to a part of an entry: its flags, its lower half, P, W, A, D.
const PARTS: [&str; 7] = [
    "lock andb $0xfe,(PTE(x))",
    "lock btrq $1,(PTE(x))",
    "lock btrl $6,(PTE(x))",
    "lock btsl $1,(PTE(x))",
    "andb $0x9f,(PTE(x))",
    "movl $0,(PTE(x))",
    "movb $0x65,(PTE(x))",
];

/// A page's entry changes, with or without a flush, under one CPU or two.
pub(super) fn pages(random: &mut Random) -> Draft {
    let threads = 1 + random.below(2);
    let mut draft = Draft::of_threads(threads);
    draft.init("x=1");
    draft.init("y=2");
    perhaps(random, 50, |random| {
        let first = page(random, &["x", "x", "y"]);
        draft.init(format!("[PTE(x)]={first}"));
    });
    perhaps(random, 40, |random| touch(&mut draft, random, 0, "x"));
    perhaps(random, 20, |random| {
        invalidate(&mut draft, random, 0, &["x"])
    });
    for _ in 0..1 + random.below(2) {
        let changed = page(random, &["y", "y", "x"]);
        let line = match random.below(5) {
            0 => one_of(random, &PARTS),
            _ => format!("movq ${changed},(PTE(x))"),
        };
        draft.line(0, line);
    }
    if random.chance(60) {
        fence(&mut draft, random, 0);
    } else {
        invalidate(&mut draft, random, 0, &["x", "x", "y"]);
    }
    touch(&mut draft, random, 0, "x");
    perhaps(random, 50, |random| touch(&mut draft, random, 0, "x"));
    if threads == 2 {
        perhaps(random, 60, |_| {
            draft.init("flag=0");
            draft.line(0, "movq $1,(PA(flag))");
            draft.load(1, "PA(flag)");
        });
        perhaps(random, 50, |random| fence(&mut draft, random, 1));
        touch(&mut draft, random, 1, "x");
    }
    draft.show("[PA(x)]");
    draft.show("[PA(y)]");
    draft
}

/// An upper-level entry changes above a page that is made present later.
pub(super) fn upper_levels(random: &mut Random) -> Draft {
    let mut draft = Draft::of_threads(1);
    for first in ["x=0", "y=2", "z=3", "VA(x)=0x200000"] {
        draft.init(first);
    }
    let far = one_of(
        random,
        &["0x8000000000", "0x40000000", "0x201000", "0x400000"],
    );
    draft.init(format!("VA(z)={far}"));
    draft.init("VA(y)=0x10000000000");
    let level = one_of(random, &["PDE", "PDE", "PDPTE", "PML4E"]);
    let table = match &level[..] {
        "PDE" => "PT",
        "PDPTE" => "PD",
        _ => "PDPT",
    };
    // Either the page is made present in the old table, or the table was always empty.
    let spare = level == "PDE" && random.chance(40);
    let page = if spare { "T[x]" } else { "PTE(x)" };
    if spare {
        draft.init("table T");
        draft.init("[PDE(x)]=(oa:T)");
    } else {
        draft.init("[PTE(x)]=(valid:0)");
    }
    perhaps(random, 40, |_| draft.init("[PTE(z)]=(valid:0)"));
    let changed = match random.below(4) {
        0..=2 => "(valid:0)".to_owned(),
        _ if spare => "(oa:PT(x))".to_owned(),
        _ => format!("(oa:{table}(x), w:0)"),
    };
    draft.line(0, format!("movq ${changed},({level}(x))"));
    match random.below(4) {
        0 => fence(&mut draft, random, 0),
        1 => {
            draft.line(0, "mfence");
            let touched = one_of(random, &["z", "z", "x"]);
            draft.load(0, &touched);
        }
        _ => invalidate(&mut draft, random, 0, &["x", "z", "z"]),
    }
    let made = one_of(random, &["(oa:PA(y))", "(oa:PA(y))", "(oa:PA(y), g:1)"]);
    draft.line(0, format!("movq ${made},({page})"));
    perhaps(random, 80, |_| draft.line(0, "mfence"));
    touch(&mut draft, random, 0, "x");
    perhaps(random, 20, |random| touch(&mut draft, random, 0, "x"));
    draft.show("[PA(y)]");
    draft
}

/// A table is filled and hooked in, in one order or the other, by one CPU or under the eyes of another (H25).
pub(super) fn hooks(random: &mut Random) -> Draft {
    let threads = 1 + random.below(2);
    let mut draft = Draft::of_threads(threads);
    for first in ["x=1", "y=2", "z=3", "VA(x)=0x200000", "table T"] {
        draft.init(first);
    }
    perhaps(random, 70, |_| draft.init("[T[x]]=(oa:PA(y))"));
    perhaps(random, 70, |_| draft.init("[PDE(x)]=(valid:0)"));
    let filled = one_of(random, &["(oa:PA(z))", "(valid:0)", "(oa:PA(z), w:0)"]);
    let mut lines = vec![
        format!("movq ${filled},(T[x])"),
        "movq $(oa:T),(PDE(x))".to_owned(),
    ];
    perhaps(random, 30, |_| lines.reverse());
    for line in lines {
        draft.line(0, line);
    }
    perhaps(random, 50, |random| fence(&mut draft, random, 0));
    touch(&mut draft, random, 0, "x");
    perhaps(random, 40, |random| touch(&mut draft, random, 0, "x"));
    if threads == 2 {
        draft.init("flag=0");
        draft.line(0, "movq $1,(PA(flag))");
        draft.load(1, "PA(flag)");
        touch(&mut draft, random, 1, "x");
    }
    draft
}

/// A large page changes, or its size; it may be held in pieces.
pub(super) fn large_pages(random: &mut Random) -> Draft {
    let mut draft = Draft::of_threads(1);
    for first in ["x=1", "y=2", "z=3"] {
        draft.init(first);
    }
    let is_large = random.chance(70);
    let size = one_of(random, &["PDE", "PDE", "PDE", "PDPTE"]);
    if is_large {
        let more = one_of(random, &["", ", w:0", ", g:1"]);
        draft.init(format!("[{size}(x)]=(oa:PA(x), ps:1{more})"));
    }
    perhaps(random, 40, |random| touch(&mut draft, random, 0, "x"));
    let changed = match random.below(4) {
        0..=1 => "(oa:PA(z), ps:1)".to_owned(),
        2 => "(oa:PA(x), ps:1)".to_owned(),
        _ if size == "PDE" => "(oa:PT(x))".to_owned(),
        _ => "(valid:0)".to_owned(),
    };
    draft.line(0, format!("movq ${changed},({size}(x))"));
    match random.below(5) {
        0 | 1 => draft.line(0, "mfence"),
        2 => {
            draft.line(0, "mfence");
            draft.access(0, "movq $5,(x)");
        }
        3 => draft.line(0, "invpcid $0, $0, (x)"),
        _ => invalidate(&mut draft, random, 0, &["x", "y"]),
    }
    for _ in 0..1 + random.below(2) {
        let touched = one_of(random, &["x", "y", "y"]);
        touch(&mut draft, random, 0, &touched);
    }
    draft.show("[PA(x)]");
    draft.show("[PA(z)]");
    draft
}

/// A and D are set, cleared, and read.
pub(super) fn accessed(random: &mut Random) -> Draft {
    let threads = 1 + random.below(2);
    let mut draft = Draft::of_threads(threads);
    draft.key("Accessed=on");
    draft.init("x=1");
    draft.init("y=2");
    let flags = ["", ", a:0, d:0", ", d:0", ", w:0, d:0"];
    let first = *random.one_of(&flags);
    draft.init(format!("[PTE(x)]=(oa:PA(x){first})"));
    perhaps(random, 15, |_| draft.init("[PDE(x)]=(oa:PT(x), a:0)"));
    for column in 0..threads {
        for _ in 0..1 + random.below(3) {
            let frame = one_of(random, &["x", "x", "y"]);
            let flags = *random.one_of(&flags);
            match random.below(9) {
                0..=1 => draft.load(column, "x"),
                2 | 3 => draft.access(column, "movq $5,(x)"),
                4 => draft.line(column, format!("movq $(oa:PA({frame}){flags}),(PTE(x))")),
                5 => {
                    let value = one_of(random, &["0", "(oa:PA(x), w:0, a:0, d:0)"]);
                    draft.exchange_flags(column, &value, "PTE(x)");
                }
                6 => draft.load_flags(column, "PTE(x)"),
                7 if random.chance(50) => {
                    let line = one_of(random, &PARTS);
                    draft.line(column, line);
                }
                7 => draft.line(column, "mfence"),
                _ => invalidate(&mut draft, random, column, &["x"]),
            }
        }
    }
    perhaps(random, 20, |random| {
        touch(&mut draft, random, 0, "x");
        fence(&mut draft, random, 0);
    });
    perhaps(random, 40, |_| draft.load_flags(0, "PTE(x)"));
    draft.show("[PTE(x)]");
    draft.show("[PA(x)]");
    draft
}

/// One CPU uses a page and says so, another takes the entry away and collects A and D (H41, H42).
pub(super) fn collected(random: &mut Random) -> Draft {
    let mut draft = Draft::of_threads(2);
    draft.key("Accessed=on");
    for first in ["x=1", "y=2", "flag=0"] {
        draft.init(first);
    }
    let flags = *random.one_of(&["a:0, d:0", "d:0", "d:0"]);
    draft.init(format!("[PTE(x)]=(oa:PA(x), {flags})"));
    match random.chance(70) {
        true => draft.access(0, "movq $5,(x)"),
        false => draft.load(0, "x"),
    }
    perhaps(random, 20, |random| fence(&mut draft, random, 0));
    draft.line(0, "movq $1,(PA(flag))");
    draft.load(1, "PA(flag)");
    let taken = [
        "(oa:PA(x), w:0, d:0)",
        "(oa:PA(x), w:0, a:0, d:0)",
        "(oa:PA(x), a:0, d:0)",
        "(oa:PA(y), a:0, d:0)",
        "0",
    ];
    let taken = *random.one_of(&taken);
    draft.exchange_flags(1, taken, "PTE(x)");
    perhaps(random, 30, |_| draft.load_flags(1, "PTE(x)"));
    draft.show("[PTE(x)]");
    draft.show("[PA(x)]");
    draft
}

/// A page becomes present, or executable, before it is fetched from (H40).
pub(super) fn fetches(random: &mut Random) -> Draft {
    let threads = 1 + random.below(2);
    let mut draft = Draft::of_threads(threads);
    draft.init("x=1");
    let states = ["(valid:0)", "(oa:PA(x), nx:1)", "(oa:PA(x))"];
    let first = *random.one_of(&states);
    draft.init(format!("[PTE(x)]={first}"));
    let changed = *random.one_of(&states);
    draft.line(0, format!("movq ${changed},(PTE(x))"));
    perhaps(random, 20, |random| {
        let again = *random.one_of(&states);
        draft.line(0, format!("movq ${again},(PTE(x))"));
    });
    if random.chance(60) {
        fence(&mut draft, random, 0);
    } else {
        invalidate(&mut draft, random, 0, &["x"]);
    }
    draft.access(0, "fetch (x)");
    perhaps(random, 40, |_| draft.load(0, "x"));
    if threads == 2 {
        draft.init("flag=0");
        draft.line(0, "movq $1,(PA(flag))");
        draft.load(1, "PA(flag)");
        perhaps(random, 60, |random| fence(&mut draft, random, 1));
        draft.access(1, "fetch (x)");
    }
    draft
}

/// The root leads to itself, so that a page table can be read through itself (H12).
pub(super) fn self_map(random: &mut Random) -> Draft {
    let mut draft = Draft::of_threads(1);
    for first in ["x=1", "w=0", "VA(x)=0x1000", "VA(w)=0x8000000000"] {
        draft.init(first);
    }
    let flags = *random.one_of(&["", ", w:0", ", u:0"]);
    draft.init(format!("[PML4E(w)]=(oa:ROOT(A){flags})"));
    perhaps(random, 30, |_| draft.load(0, "x"));
    perhaps(random, 60, |random| {
        let cleared = one_of(random, &["(valid:0)", "(oa:ROOT(A), w:0)"]);
        draft.line(0, format!("movq ${cleared},(PML4E(w))"));
        match random.chance(50) {
            true => draft.line(0, "mfence"),
            false => invalidate(&mut draft, random, 0, &["w", "x"]),
        }
    });
    let register = draft.register(0);
    draft.access(0, &format!("movq (w),%{register}"));
    draft.line(0, format!("andq $0x67,%{register}"));
    perhaps(random, 50, |_| draft.load(0, "x"));
    draft
}

/// Permissions of users and supervisors change on some level.
pub(super) fn rings(random: &mut Random) -> Draft {
    let mut draft = Draft::of_threads(2);
    draft.key("User=P1");
    for first in ["x=1", "flag=0", "VA(x)=0x40000000"] {
        draft.init(first);
    }
    let states = [
        "(oa:PT(x))",
        "(oa:PT(x), u:0)",
        "(oa:PT(x), w:0)",
        "(oa:PT(x), nx:1)",
    ];
    let first = *random.one_of(&states);
    draft.init(format!("[PDE(x)]={first}"));
    perhaps(random, 40, |_| draft.init("[PTE(x)]=(valid:0)"));
    let changed = *random.one_of(&states);
    draft.line(0, format!("movq ${changed},(PDE(x))"));
    perhaps(random, 50, |_| draft.line(0, "movq $(oa:PA(x)),(PTE(x))"));
    perhaps(random, 30, |random| {
        invalidate(&mut draft, random, 0, &["x"])
    });
    draft.line(0, "movq $1,(PA(flag))");
    draft.load(1, "PA(flag)");
    let uses = ["movq $5,(x)", "fetch (x)"];
    for column in [1, 0] {
        match random.chance(50) {
            true => draft.load(column, "x"),
            false => {
                let used = *random.one_of(&uses);
                draft.access(column, used);
            }
        }
    }
    draft.show("[PA(x)]");
    draft
}
