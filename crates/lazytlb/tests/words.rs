//! Every word of a space and of a CPU says which it is when it is made, also to who only asks for names.
#![allow(missing_docs)]

#[path = "../examples/machine/mod.rs"]
#[allow(dead_code, unreachable_pub)]
mod machine;

use std::sync::atomic::AtomicU64;

use lazytlb::{Cells, GlobalIdWord, Mm, MmHandle, MmId, PerCpu, PhysAddr, ProtocolWord};
use machine::Machine;

/// Makes words, and remembers which.
#[derive(Default)]
struct Which(Vec<ProtocolWord>);

impl Cells<Machine> for Which {
    fn atomic(&mut self, name: &'static str, _value: u64) -> AtomicU64 {
        unreachable!("{name} is made without saying which word it is")
    }
    fn local(&mut self, name: &'static str, _value: u64) -> AtomicU64 {
        unreachable!("{name} is made without saying which word it is")
    }
    fn protocol_atomic(&mut self, word: ProtocolWord, value: u64) -> AtomicU64 {
        self.0.push(word);
        AtomicU64::new(value)
    }
    fn protocol_local(&mut self, word: ProtocolWord, value: u64) -> AtomicU64 {
        self.protocol_atomic(word, value)
    }
}

/// Makes words as an implementation does that was written before words said which they are.
#[derive(Default)]
struct Names(Vec<&'static str>);

impl Cells<Machine> for Names {
    fn atomic(&mut self, name: &'static str, value: u64) -> AtomicU64 {
        self.0.push(name);
        AtomicU64::new(value)
    }
    fn local(&mut self, name: &'static str, value: u64) -> AtomicU64 {
        self.atomic(name, value)
    }
}

fn make_all(cells: &mut impl Cells<Machine>) {
    let _mm: Mm<Machine> = Mm::new(MmId(1), PhysAddr(0), cells);
    let _cpu: PerCpu<Machine> = PerCpu::new(MmHandle(0), cells);
    let _ids: GlobalIdWord<Machine> = GlobalIdWord::new(64, cells);
}

#[test]
fn a_space_and_a_cpu_consist_of_all_words_that_there_are() {
    let mut which = Which::default();
    make_all(&mut which);
    which.0.sort();
    which.0.dedup();
    assert_eq!(which.0, ProtocolWord::ALL);
}

#[test]
fn two_methods_suffice_and_are_told_the_names() {
    let (mut which, mut names) = (Which::default(), Names::default());
    make_all(&mut which);
    make_all(&mut names);
    let expected: Vec<_> = which.0.iter().map(|word| word.name()).collect();
    assert_eq!(names.0, expected);
}
