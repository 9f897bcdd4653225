//! `weakest` has every behaviour of every CPU model that no erratum causes: compared over the whole suite, by all
//! that an execution can end in.
//!
//! What a test looks at is widened: to every register that an instruction names, to every variable and entry,
//! and to the faults of every thread.

#![allow(clippy::unwrap_used)] // A test that fails is to panic.

mod suite_files;

use std::collections::BTreeSet;

use lazytlb_litmus::{Answer, LitmusTest, Options, read_bytes, run};
use lazytlb_litmus_syntax::{
    Atom, Expr, Instruction, Located, Location, Memory, Operand, Position, Thread,
};
use lazytlb_model::CpuModel;
use suite_files::suite;

/// Why `weakest` lacks what another model has.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Because {
    /// Erratum 383 (H31), or multi-hits of the ITLB (H31a): two page sizes for one address are a machine check.
    TwoSizes,
    /// INVLPG may leave global entries while PCIDs are on (H34).
    InvlpgLeavesGlobals,
    /// The test uses an instruction or a feature that the model lacks, which is an exception there.
    NoSuchFeature,
}

/// The tests in which erratum 383 shows. Of those, and in one more, multi-hits of the ITLB.
const MULTIPLE_MATCH: [&str; 11] = [
    "H20-1g-page-is-split-without-a-flush",
    "H20-break-make-flush",
    "H20-flush-of-one-small-page-of-several",
    "H20-flush-reaches-one-cpu-of-two",
    "H31-resize-of-an-active-mapping",
    "H31-resize-seen-by-another-cpu",
    "H31-split-of-a-large-page",
    "H31a-data-may-be-cached-in-two-sizes",
    "H31a-resize-under-a-fetched-page",
    "H7-invlpg-drops-both-page-sizes",
    "H7-small-and-large-translation-alternate",
];

/// The test in which multi-hits show under PCIDs, which no CPU with erratum 383 has.
const KEPT_SIZES: &str = "H31a-sizes-kept-under-a-pcid";

/// The tests in which Alder Lake's INVLPG shows.
const GLOBALS_STAY: [&str; 2] = [
    "H34-invlpg-of-a-global-entry-with-pcids",
    "H38-global-page-and-upper-levels",
];

/// Returns the reason why a model may end a test in something that `weakest` does not; `None` if there is none.
fn reason(model: &CpuModel, test: &LitmusTest, ending: &str) -> Option<Because> {
    let name = test.name.as_str();
    if ending == "violation(multiple-match);" {
        let shows = match model.name {
            "amd-k10" => MULTIPLE_MATCH.contains(&name),
            "intel-skylake" => {
                let of_data = name == "H31a-data-may-be-cached-in-two-sizes";
                MULTIPLE_MATCH.contains(&name) && !of_data || name == KEPT_SIZES
            }
            _ => false,
        };
        return shows.then_some(Because::TwoSizes);
    }
    if ending == "violation(general-protection);" {
        let mut instructions = test.threads.iter().flat_map(|thread| &thread.instructions);
        let lacks = |instruction: &Instruction| match instruction {
            Instruction::Invlpgb { .. } | Instruction::Tlbsync => !model.broadcast,
            Instruction::Invpcid { .. } => !model.invpcid,
            Instruction::MovCr4 { pcide, .. } => *pcide == Some(true) && !model.pcids,
            _ => false,
        };
        let lacks_one = instructions.any(|located| lacks(&located.value));
        return lacks_one.then_some(Because::NoSuchFeature);
    }
    let shows = model.name == "intel-alder-lake" && GLOBALS_STAY.contains(&name);
    shows.then_some(Because::InvlpgLeavesGlobals)
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
    let faults = test
        .threads
        .iter()
        .filter(|thread| thread.handler.is_none());
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
    let all: Vec<Expr> = std::iter::once(test.condition.expr.clone())
        .chain(faults)
        .collect();
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
    let (mut missing, mut excepted) = (Vec::new(), BTreeSet::new());
    let mut compared = 0;
    for file in suite() {
        let test = widened(read_bytes(&std::fs::read(&file).unwrap()).unwrap());
        let Some(weakest) = endings(&test, CpuModel::WEAKEST) else {
            panic!("{} does not run on weakest", file.display());
        };
        for model in &CpuModel::ALL[1..] {
            let Some(own) = endings(&test, *model) else {
                // The test sets what the model lacks.
                continue;
            };
            compared += 1;
            for ending in own.difference(&weakest) {
                match reason(model, &test, ending) {
                    Some(because) => drop(excepted.insert((because, test.name.clone()))),
                    None => missing.push((model.name, test.name.clone(), ending.clone())),
                }
            }
        }
    }
    println!("{compared} comparisons");
    assert!(missing.is_empty(), "weakest lacks {missing:#?}");
    // What is excepted is there: no name stands in a list for nothing.
    let of_errata = excepted
        .iter()
        .filter(|(because, _)| *because != Because::NoSuchFeature);
    let listed = MULTIPLE_MATCH.len() + [KEPT_SIZES].len() + GLOBALS_STAY.len();
    assert_eq!(of_errata.count(), listed);
}

#[test]
fn a_behaviour_that_weakest_lacks_would_be_noticed() {
    // A model that is stronger in one point than another: what takes its place must not pass.
    let file = "H42-dirty-in-an-entry-without-W.litmus";
    let file = suite()
        .into_iter()
        .find(|path| path.ends_with(file))
        .unwrap();
    let test = widened(read_bytes(&std::fs::read(file).unwrap()).unwrap());
    let [weaker, stronger] = [CpuModel::INTEL_SKYLAKE, CpuModel::INTEL_ALDER_LAKE]
        .map(|model| endings(&test, model).unwrap());
    let lacking: Vec<&String> = weaker.difference(&stronger).collect();
    assert!(!lacking.is_empty());
    for ending in lacking {
        assert_eq!(reason(&CpuModel::INTEL_SKYLAKE, &test, ending), None);
    }
}
