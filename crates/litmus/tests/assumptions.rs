//! A verdict that hangs on something that a CPU model assumes names it; another names nothing.

#![allow(clippy::unwrap_used)] // A test that fails is to panic.

use std::path::Path;

use lazytlb_litmus::{LitmusVerdict, Options, hangs_on, read_bytes, run};
use lazytlb_model::CpuModel;

/// Returns the verdict on a test of the suite, and what it hangs on.
fn asked(test: &str, cpu_model: CpuModel) -> (LitmusVerdict, Vec<&'static str>) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../model/litmus");
    let file = folder.join(format!("{test}.litmus"));
    let test = read_bytes(&std::fs::read(file).unwrap()).unwrap();
    let options = Options {
        cpu_model,
        ..Options::default()
    };
    let answer = run(&test, &options).unwrap();
    let hangs = hangs_on(&test, &options, &answer).unwrap();
    let names = hangs.iter().map(|assumption| assumption.name).collect();
    (answer.verdict(), names)
}

#[test]
fn a_verdict_that_hangs_on_an_assumption_names_it() {
    let uncached_load = "translation/H43-uncached-load-passes-a-store";
    let skylake = asked(uncached_load, CpuModel::INTEL_SKYLAKE);
    assert_eq!(
        skylake,
        (LitmusVerdict::Forbidden, vec!["uncached-loads-wait"])
    );
    let weakest = asked(uncached_load, CpuModel::WEAKEST);
    assert_eq!(weakest, (LitmusVerdict::Allowed, vec![]));
    let tlbsync = "translation/H29-tlbsync-and-the-store-buffer";
    let zen3 = asked(tlbsync, CpuModel::AMD_ZEN3);
    assert_eq!(zen3, (LitmusVerdict::Forbidden, vec!["tlbsync-serializes"]));
    let weakest = asked(tlbsync, CpuModel::WEAKEST);
    assert_eq!(weakest, (LitmusVerdict::Allowed, vec![]));
    let without_w = "translation/H42-dirty-in-an-entry-without-W";
    let zen5 = asked(without_w, CpuModel::AMD_ZEN5);
    assert_eq!(zen5, (LitmusVerdict::Forbidden, vec!["dirty-checks-w"]));
    let uncached_stores = asked(
        "translation/H43-uncached-stores-are-in-order",
        CpuModel::WEAKEST,
    );
    assert_eq!(
        uncached_stores,
        (LitmusVerdict::Forbidden, vec!["uncached-stores-at-once"])
    );
    let zen3 = asked(
        "translation/H43-uncached-stores-are-in-order",
        CpuModel::AMD_ZEN3,
    );
    let together = vec!["uncached-loads-wait", "uncached-stores-at-once"];
    assert_eq!(zen3, (LitmusVerdict::Forbidden, together));
    let pieces = "translation/H6-invpcid-of-an-address-leaves-the-other-pieces";
    let zen3 = asked(pieces, CpuModel::AMD_ZEN3);
    assert_eq!(zen3, (LitmusVerdict::Forbidden, vec!["whole-large-pages"]));
}

#[test]
fn a_verdict_that_hangs_on_nothing_names_nothing() {
    for model in CpuModel::ALL {
        for test in ["tso/MP", "tso/SB", "translation/H13-invlpg-drops-the-page"] {
            assert_eq!(
                asked(test, model).1,
                Vec::<&str>::new(),
                "{test} on {}",
                model.name
            );
        }
    }
}
