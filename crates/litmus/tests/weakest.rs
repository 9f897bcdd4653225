//! `weakest` has every behaviour of every CPU model that no erratum causes: compared over the whole suite, by all
//! that an execution can end in.
//!
//! What a test looks at is widened: to every register that an instruction names, to every variable and entry,
//! and to the faults of every thread.

#![allow(clippy::unwrap_used)] // A test that fails is to panic.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use lazytlb_litmus::{Answer, LitmusTest, Options, read_bytes, run};
use lazytlb_litmus_syntax::{
    Atom, Expr, Instruction, Located, Location, Memory, Operand, Place, Position, Thread,
};
use lazytlb_model::CpuModel;

/// What a model has and `weakest` has not, because an erratum causes it: the model, the test, and all that is
/// missing there; each with its reason.
const ERRATA: [(&str, &str, &str); 0] = [];

fn suite() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../model/litmus");
    let mut files = Vec::new();
    for part in ["translation", "tso"] {
        for entry in std::fs::read_dir(folder.join(part)).unwrap() {
            files.push(entry.unwrap().path());
        }
    }
    files.sort();
    files
}

/// Lets a test look at everything that its instructions name.
fn widened(mut test: LitmusTest) -> LitmusTest {
    let mut places = BTreeSet::new();
    for thread in &test.threads {
        for instruction in &thread.instructions {
            for location in named(thread, &instruction.value) {
                if places.insert(format!("{location:?}")) {
                    test.locations.push(location);
                }
            }
        }
    }
    let faults = test.threads.iter().filter(|thread| thread.handler.is_none());
    let faults = faults.map(|thread| {
        let atom = Atom::Fault {
            thread: thread.id,
            label: None,
            variable: None,
        };
        Expr::Atom(Located {
            value: atom,
            position: Position::START,
        })
    });
    let all: Vec<Expr> = std::iter::once(test.condition.expr.clone()).chain(faults).collect();
    test.condition.expr = Expr::Or(all);
    test
}

/// Lists the registers and the places in memory that an instruction names.
fn named(thread: &Thread, instruction: &Instruction) -> Vec<Location> {
    let operands: Vec<Operand> = match instruction {
        Instruction::Mov { src, dst, .. } | Instruction::Xchg { src, dst, .. } => {
            vec![src.clone(), dst.clone()]
        }
        Instruction::Alu { src, dst, .. } => src.iter().chain([dst]).cloned().collect(),
        Instruction::Movnti { src, dst, .. } => vec![src.clone(), Operand::Memory(dst.clone())],
        _ => Vec::new(),
    };
    let location = |operand: Operand| match operand {
        Operand::Register(register) => Some(Location::Register {
            thread: thread.id,
            register,
        }),
        Operand::Memory(Memory::Place(place)) => Some(Location::Memory(place)),
        _ => None,
    };
    operands.into_iter().filter_map(location).collect()
}

fn endings(test: &LitmusTest, cpu_model: CpuModel) -> Option<BTreeSet<String>> {
    let options = Options {
        cpu_model,
        ..Options::default()
    };
    let Answer {
        states, incomplete, ..
    } = run(test, &options).ok()?;
    assert_eq!(incomplete, None, "{} on {}", test.name, cpu_model.name);
    Some(states.into_iter().map(|state| state.text).collect())
}

#[test]
fn weakest_ends_in_whatever_any_model_ends_in() {
    let mut missing = BTreeSet::new();
    let mut compared = 0;
    for file in suite() {
        let test = widened(read_bytes(&std::fs::read(&file).unwrap()).unwrap());
        let Some(weakest) = endings(&test, CpuModel::WEAKEST) else {
            panic!("{} does not run on weakest", file.display());
        };
        for model in &CpuModel::ALL[1..] {
            let Some(own) = endings(&test, *model) else {
                continue;
            };
            compared += 1;
            let lacking: Vec<&str> = own.difference(&weakest).map(String::as_str).collect();
            if !lacking.is_empty() {
                missing.insert((model.name, test.name.clone(), lacking.join(" | ")));
            }
        }
    }
    println!("{compared} comparisons");
    let excepted = ERRATA.map(|(model, test, what)| (model, test.to_owned(), what.to_owned()));
    assert_eq!(missing, BTreeSet::from(excepted), "weakest lacks these, or has what the list excepts");
}
