//! The project's own litmus tests, each on every CPU model that it is for, against the verdict in its header.

#![allow(clippy::unwrap_used)] // A test that fails is to panic.

mod suite_files;

use std::path::Path;

use lazytlb_litmus::{LitmusTest, LitmusVerdict, Options, read_bytes, run};
use lazytlb_model::CpuModel;
use suite_files::suite;

fn test_in(file: &Path) -> LitmusTest {
    match read_bytes(&std::fs::read(file).unwrap()) {
        Ok(test) => test,
        Err(error) => panic!("{}: {error}", file.display()),
    }
}

/// The models that a test is for: all, or those that its line `CPU=` names.
fn models(test: &LitmusTest) -> Vec<CpuModel> {
    let Some(names) = test.metadata("CPU") else {
        return CpuModel::ALL.to_vec();
    };
    let model = |name: &str| {
        CpuModel::by_name(name).unwrap_or_else(|| panic!("{}: no CPU model `{name}`", test.name))
    };
    names.split(',').map(|name| model(name.trim())).collect()
}

fn expected(test: &LitmusTest, model: CpuModel) -> LitmusVerdict {
    let of_model = test.metadata(&format!("Expect@{}", model.name));
    match of_model.or_else(|| test.metadata("Expect")) {
        Some("Allowed") => LitmusVerdict::Allowed,
        Some("Forbidden") => LitmusVerdict::Forbidden,
        other => panic!("{}: `Expect={other:?}` is no verdict", test.name),
    }
}

#[test]
fn every_test_comes_to_the_verdict_in_its_header_on_every_model() {
    let mut wrong = Vec::new();
    let mut runs = 0;
    for file in suite() {
        let test = test_in(&file);
        for cpu_model in models(&test) {
            let options = Options {
                cpu_model,
                ..Options::default()
            };
            let answer = run(&test, &options);
            let answer = answer.unwrap_or_else(|error| panic!("{}: {error}", file.display()));
            runs += 1;
            if answer.verdict() != expected(&test, cpu_model) {
                wrong.push(format!("on {}:\n{answer}", cpu_model.name));
            }
        }
    }
    println!("{runs} runs");
    assert!(
        wrong.is_empty(),
        "{} of {runs} differ:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

#[test]
fn the_suite_is_as_large_as_it_claims_and_has_both_verdicts() {
    let tests: Vec<LitmusTest> = suite().iter().map(|file| test_in(file)).collect();
    let about_translation = tests.iter().filter(|test| test.metadata("Rule").is_some());
    assert!(about_translation.count() >= 80);
    for verdict in ["Allowed", "Forbidden"] {
        let of_verdict = tests
            .iter()
            .filter(|test| test.metadata("Expect") == Some(verdict));
        assert!(of_verdict.count() >= 30, "{verdict}");
    }
    for test in tests {
        assert!(
            test.metadata("Expect").is_some(),
            "{} has no verdict",
            test.name
        );
        if test.metadata("Rule").is_some() {
            assert!(
                test.metadata("Because").is_some(),
                "{} has no reason",
                test.name
            );
        }
    }
}
