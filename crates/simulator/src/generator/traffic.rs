//! Themes about what passes between CPUs: stores, interrupts, broadcasts, memory types.

use super::draft::Draft;
use super::pieces::{fence, one_of, perhaps, touch};
use crate::random::Random;

/// A shootdown by interrupt, with everything that may be missing from it.
pub(super) fn interrupts(random: &mut Random) -> Draft {
    let mut draft = Draft::of_threads(2);
    let by = *random.one_of(&["ipi", "ipi", "nmi"]);
    let handler = draft.handler(&format!("P1.{by}"));
    for first in ["x=1", "y=2", "ack=0", "seen=9"] {
        draft.init(first);
    }
    perhaps(random, 15, |_| draft.key("IPI=xapic"));
    match random.below(3) {
        0 | 1 => {
            let changed = one_of(random, &["(oa:PA(y))", "(valid:0)", "(oa:PA(x), w:0)"]);
            draft.line(0, format!("movq ${changed},(PTE(x))"));
        }
        _ => draft.access(0, "movq $4,(x)"),
    }
    perhaps(random, 60, |_| draft.line(0, "mfence"));
    perhaps(random, 40, |_| draft.line(0, "lfence"));
    draft.line(0, format!("{by} P1"));
    let waits = random.chance(50);
    if waits {
        draft.line(0, "wait (ack),$1");
    }
    match random.below(3) {
        0 => draft.line(0, "movq $7,(PA(x))"),
        1 => draft.load(0, "PA(seen)"),
        _ => draft.load(0, "x"),
    }
    perhaps(random, 30, |_| draft.line(1, "cli"));
    for _ in 0..1 + random.below(2) {
        let touched = one_of(random, &["x", "x", "PA(x)"]);
        touch(&mut draft, random, 1, &touched);
    }
    let mut lines = vec!["lock incq (PA(ack))"];
    perhaps(random, 70, |_| lines.push("invlpg (x)"));
    perhaps(random, 50, |_| lines.reverse());
    for line in lines {
        draft.line(handler, line);
    }
    perhaps(random, 60, |random| {
        let from = one_of(random, &["x", "PA(x)"]);
        draft.line(handler, format!("movq ({from}),%rbx"));
        draft.line(handler, "movq %rbx,(PA(seen))");
    });
    draft.show("[PA(x)]");
    draft.show("[PA(seen)]");
    draft
}

/// A shootdown by broadcast, with everything that may be missing from it.
pub(super) fn broadcasts(random: &mut Random) -> Draft {
    let threads = 1 + random.below(2);
    let mut draft = Draft::of_threads(threads);
    for first in ["x=1", "y=2", "z=3"] {
        draft.init(first);
    }
    let about_tables = random.chance(40);
    let is_large = !about_tables && random.chance(20);
    if about_tables {
        draft.init("[PTE(x)]=(valid:0)");
        draft.init("VA(x)=0x200000");
        let far = one_of(random, &["0x8000000000", "0x40000000", "0x201000"]);
        draft.init(format!("VA(z)={far}"));
        draft.line(0, "movq $(valid:0),(PDE(x))");
    } else if is_large {
        draft.init("[PDE(x)]=(oa:PA(x), ps:1)");
        draft.line(0, "movq $(oa:PA(z), ps:1),(PDE(x))");
    } else {
        let first = one_of(random, &["(oa:PA(x))", "(oa:PA(x), g:1)"]);
        draft.init(format!("[PTE(x)]={first}"));
        draft.line(0, "movq $(oa:PA(y)),(PTE(x))");
    }
    perhaps(random, 80, |_| draft.line(0, "mfence"));
    let what = one_of(
        random,
        &[
            "va:x",
            "va:x",
            "va:z",
            "va:x, global:1",
            "va:x, final:1",
            "va:y, stride:2m",
            "global:1",
        ],
    );
    draft.line(0, format!("invlpgb $({what})"));
    let syncs_elsewhere = threads == 2 && random.chance(30);
    if !syncs_elsewhere && random.chance(70) {
        draft.line(0, "tlbsync");
    }
    if about_tables {
        draft.line(0, "movq $(oa:PA(y)),(PTE(x))");
        draft.line(0, "mfence");
    }
    let touched = if is_large {
        one_of(random, &["x", "y"])
    } else {
        "x".to_owned()
    };
    if threads == 2 {
        draft.init("flag=0");
        draft.line(0, "movq $1,(PA(flag))");
        draft.load(1, "PA(flag)");
        if syncs_elsewhere {
            draft.line(1, "tlbsync");
        }
        touch(&mut draft, random, 1, &touched);
    } else {
        touch(&mut draft, random, 0, &touched);
        perhaps(random, 30, |random| touch(&mut draft, random, 0, &touched));
    }
    draft.show("[PA(x)]");
    draft
}

/// Non-temporal stores and plain ones, in the shapes of litmus tests.
pub(super) fn combining(random: &mut Random) -> Draft {
    let mut draft = Draft::of_threads(2);
    draft.init("x=0");
    draft.init("y=0");
    perhaps(random, 30, |_| draft.init("[PTE(x)]=(oa:PA(x), type:wc)"));
    for column in 0..2 {
        let writes = column == 0 || random.chance(40);
        for position in 0..2 {
            let variable = if (column == 0) == (position == 0) {
                "x"
            } else {
                "y"
            };
            let value = 1 + position;
            match (writes, random.below(3)) {
                (true, 0 | 1) => draft.access(column, &format!("movnti ${value},({variable})")),
                (true, _) => draft.access(column, &format!("movq ${value},({variable})")),
                (false, _) => draft.load(column, variable),
            }
            perhaps(random, 40, |random| {
                let between = one_of(random, &["sfence", "sfence", "mfence", "lfence", "cpuid"]);
                draft.line(column, between);
            });
        }
        perhaps(random, 40, |random| {
            let variable = one_of(random, &["x", "y"]);
            draft.load(column, &variable);
        });
    }
    draft.show("[x]");
    draft.show("[y]");
    draft
}

/// Writes to a device, and what says that they have arrived (H27).
pub(super) fn devices(random: &mut Random) -> Draft {
    let mut draft = Draft::of_threads(2);
    let readings = ["WC=started", "WC=retired", "WC=started,sfence:retired"];
    let readings = *random.one_of(&readings);
    draft.key(readings);
    draft.init("device D");
    draft.init("flag=0");
    draft.init("[PTE(D)]=(oa:PA(D), type:wc)");
    draft.access(0, "movq $1,(D)");
    fence(&mut draft, random, 0);
    if random.chance(30) {
        draft.access(0, "movq $2,(D)");
    }
    draft.line(0, "movq $1,(PA(flag))");
    draft.load(1, "PA(flag)");
    draft.load(1, "PA(D)");
    draft.show("[PA(D)]");
    draft
}

/// Plain memory, in several widths.
pub(super) fn order(random: &mut Random) -> Draft {
    let mut draft = Draft::of_threads(2 + random.below(2));
    draft.init("x=0");
    draft.init("y=0");
    perhaps(random, 50, |_| draft.key("Paging=4"));
    for column in 0..2 {
        for _ in 0..2 + random.below(2) {
            let variable = one_of(random, &["x", "y"]);
            let value = 1 + random.below(3);
            match random.below(8) {
                0 | 1 => draft.load(column, &variable),
                2 | 3 => draft.access(column, &format!("movq ${value},({variable})")),
                4 => {
                    let width = one_of(random, &["b", "w", "l"]);
                    draft.access(column, &format!("mov{width} ${value},({variable})"));
                }
                5 => {
                    let op = one_of(random, &["incq", "lock incq", "lock decq", "decq"]);
                    draft.access(column, &format!("{op} ({variable})"));
                }
                6 => {
                    let register = draft.register(column);
                    let op = one_of(random, &["xchgq", "lock xaddq", "lock cmpxchgq", "xaddq"]);
                    draft.line(column, format!("movq ${value},%{register}"));
                    draft.access(column, &format!("{op} %{register},({variable})"));
                }
                _ => draft.line(column, "mfence"),
            }
        }
    }
    draft.load(1, "x");
    draft.show("[x]");
    draft.show("[y]");
    draft
}

/// Stores whose walks a later load of theirs may pass, and entries that change meanwhile (H41).
pub(super) fn late_walks(random: &mut Random) -> Draft {
    let mut draft = Draft::of_threads(2);
    for first in ["x=0", "y=2", "z=3"] {
        draft.init(first);
    }
    let tracked = random.chance(30);
    if tracked {
        draft.key("Accessed=on");
        draft.init("[PTE(y)]=(oa:PA(y), a:0, d:0)");
    }
    draft.access(0, "movq $1,(x)");
    perhaps(random, 30, |random| fence(&mut draft, random, 0));
    match random.below(4) {
        0 if tracked => draft.load_flags(0, "PTE(y)"),
        0 => draft.load(0, "y"),
        1 => draft.line(0, "movq $(oa:PA(y), w:0),(PTE(y))"),
        _ => draft.line(0, "movq $(oa:PA(z)),(PTE(y))"),
    }
    match random.below(4) {
        0 => draft.load(1, "y"),
        _ => draft.access(1, "movq $5,(y)"),
    }
    perhaps(random, 30, |random| fence(&mut draft, random, 1));
    let loaded = one_of(random, &["x", "x", "PA(x)"]);
    draft.load(1, &loaded);
    perhaps(random, 20, |_| draft.load(1, "y"));
    for shown in ["[PA(x)]", "[PA(y)]", "[PA(z)]"] {
        draft.show(shown);
    }
    draft
}

/// Store buffering with an entry: a CPU's own walk sees what another CPU does not see yet (H25).
pub(super) fn own_walks(random: &mut Random) -> Draft {
    let mut draft = Draft::of_threads(2);
    for first in ["x=1", "y=2", "flag=0"] {
        draft.init(first);
    }
    perhaps(random, 80, |_| draft.init("[PTE(x)]=(valid:0)"));
    let made = one_of(
        random,
        &["(oa:PA(y))", "(oa:PA(y))", "(oa:PA(y), w:0)", "(valid:0)"],
    );
    draft.line(0, format!("movq ${made},(PTE(x))"));
    perhaps(random, 20, |random| fence(&mut draft, random, 0));
    touch(&mut draft, random, 0, "x");
    draft.load(0, "PA(flag)");
    draft.line(1, "movq $1,(PA(flag))");
    perhaps(random, 70, |_| draft.line(1, "mfence"));
    match random.chance(70) {
        true => draft.load(1, "x"),
        false => draft.load_flags(1, "PTE(x)"),
    }
    draft
}

/// Loads and stores through mappings that are uncached or write-combining.
pub(super) fn memory_types(random: &mut Random) -> Draft {
    let mut draft = Draft::of_threads(2);
    draft.init("x=0");
    draft.init("y=0");
    for variable in ["x", "y"] {
        let caching = one_of(random, &["wb", "wc", "uc"]);
        draft.init(format!(
            "[PTE({variable})]=(oa:PA({variable}), type:{caching})"
        ));
    }
    for (column, [first, second]) in [["x", "y"], ["y", "x"]].into_iter().enumerate() {
        draft.access(column, &format!("movq $1,({first})"));
        perhaps(random, 40, |random| fence(&mut draft, random, column));
        perhaps(random, 30, |_| draft.load(column, first));
        match random.chance(70) {
            true => draft.load(column, second),
            false => draft.access(column, &format!("movq $2,({second})")),
        }
    }
    draft.show("[x]");
    draft.show("[y]");
    draft
}
