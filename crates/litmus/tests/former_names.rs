//! Programs written against former names still compile.
#![allow(deprecated, clippy::unwrap_used)] // Former names are deprecated; a test that fails is to panic.

use lazytlb_litmus::{EntryLiteral, MemoryType, Options, Verdict, read, run};

#[test]
fn former_names_mean_what_they_meant() {
    let entry = EntryLiteral::default();
    let caching = match entry.memory_type {
        MemoryType::WriteBack => "wb",
        MemoryType::WriteCombining => "wc",
        MemoryType::Uncacheable => "uc",
    };
    assert_eq!(caching, "wb");
    let test = read("X86_64 T\n{ x=1; }\n P0 ;\n movq (x),%rax ;\nexists (0:rax=1)\n").unwrap();
    let verdict = match run(&test, &Options::default()).unwrap().verdict() {
        Verdict::Allowed => "Allowed",
        Verdict::Forbidden => "Forbidden",
        Verdict::Incomplete => "Incomplete",
    };
    assert_eq!(verdict, "Allowed");
}
