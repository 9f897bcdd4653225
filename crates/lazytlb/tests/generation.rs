//! Generations are only compared: what the compiler does not refuse (the examples of `NextGen` show what it
//! does), because it happens where their numbers are known, or on their way to people and tables.
#![allow(clippy::unwrap_used)] // A file that cannot be read fails the test.

#[path = "../examples/machine/mod.rs"]
#[allow(dead_code, missing_docs, unreachable_pub)]
mod machine;

use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicU64;

use lazytlb::{Cells, FlushRange, Kernel, Mm, MmId, PhysAddr, Policy, Tables, TlbGen};
use machine::{Machine, USER, boot};

/// The one file that knows the numbers.
const THEIR_FILE: &str = "generation.rs";

/// Returns each source file's name with its lines of code, without indentation.
fn sources() -> Vec<(String, Vec<String>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let files = fs::read_dir(folder).unwrap().map(|entry| {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let text = fs::read_to_string(path).unwrap();
        let lines = text.lines().map(str::trim);
        let code = lines.filter(|line| !line.is_empty() && !line.starts_with("//"));
        (name, code.map(str::to_owned).collect())
    });
    files.collect()
}

fn code_of_their_file() -> Vec<String> {
    let mut sources = sources().into_iter();
    sources.find(|(name, _)| name == THEIR_FILE).unwrap().1
}

#[test]
fn the_file_that_knows_their_numbers_is_short() {
    let lines = code_of_their_file().len();
    assert!(lines < 60, "{lines} lines of code: too many to believe");
}

#[test]
fn nothing_public_takes_or_gives_a_number() {
    let code = code_of_their_file();
    let public = code.iter().filter(|line| line.starts_with("pub "));
    let public: Vec<_> = public.map(String::as_str).collect();
    let expected = [
        "pub type TlbGen = Generation<true>;",
        "pub type NextGen = Generation<false>;",
        "pub struct Generation<const HAS_NEXT: bool>(u64);",
        "pub const fn next(self) -> NextGen {",
    ];
    assert_eq!(public, expected);
    let numbers = code.iter().filter(|line| line.contains("u64"));
    assert_eq!(numbers.count(), 1, "only the struct itself speaks of u64");
}

#[test]
fn the_protocol_neither_formats_nor_hashes_generations() {
    let ways_out = ["fmt::", "format_args", "write!", "Hasher", ".hash("];
    // These print hashes of files, and names; they have no generation.
    let print_others = ["sources.rs", "policy.rs"];
    for (name, code) in sources() {
        if print_others.contains(&name.as_str()) {
            let uses = code.iter().any(|line| line.contains("generation::"));
            assert!(!uses, "{name} prints, and knows generations");
            continue;
        }
        let found = code
            .iter()
            .find(|line| ways_out.iter().any(|way| line.contains(way)));
        assert_eq!(found, None, "{name} could get at a generation's number");
    }
}

/// Makes plain words.
struct Words;

impl Cells<Machine> for Words {
    fn atomic(&mut self, _name: &'static str, value: u64) -> AtomicU64 {
        AtomicU64::new(value)
    }
    fn local(&mut self, _name: &'static str, value: u64) -> AtomicU64 {
        AtomicU64::new(value)
    }
}

#[test]
fn each_flush_raises_the_generation_to_the_next() {
    let (machine, tlb) = (Machine::default(), boot(Policy::Ipi));
    let generation = || -> TlbGen { tlb.kernel().mm(USER).tlb_gen(&machine) };
    let before = generation();
    assert!(before < before.next() && before.next() > before);
    assert_ne!(before, before.next());
    tlb.flush(&machine, USER, FlushRange::All, Tables::Kept);
    assert_eq!(generation(), before.next());
    assert_eq!(before.next(), generation());
    tlb.flush(&machine, USER, FlushRange::All, Tables::Kept);
    assert!(generation() > before.next());
}

#[test]
fn every_space_begins_with_the_same_generation() {
    let machine = Machine::default();
    let new = |id| -> Mm<Machine> { Mm::new(MmId(id), PhysAddr(0), &mut Words) };
    assert_eq!(new(1).tlb_gen(&machine), new(2).tlb_gen(&machine));
}
