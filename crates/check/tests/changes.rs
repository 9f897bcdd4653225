//! Pages that change their size or their type (H20, H28, H31, H31a), and CPUs with errata that come late.

#![allow(clippy::unwrap_used)] // A test that fails is to panic.

mod found;

use lazytlb::{GarbageWalksAccepted, Policy};
use lazytlb_check::{Checker, LazyTlb, ShippedProgram, WithPcids};
use lazytlb_model::{CpuModel, Property, Reading, WcReadings};

use found::{every_policy, found, found_with};

const DEFER: Policy = Policy::Defer(GarbageWalksAccepted);
const CONFLICT: Option<Property> = Some(Property::MultipleMatch);

#[test]
fn a_page_changes_its_size_safely_under_every_policy_on_every_cpu() {
    for model in CpuModel::ALL {
        for policy in every_policy() {
            for name in ["promote", "promote-data", "split"] {
                let case = format!("{name}, {policy} on {}", model.name);
                assert_eq!(found(model, name, policy), None, "{case}");
                if model.pcids {
                    let found = found_with::<WithPcids<1>>(model, name, policy);
                    assert_eq!(found, None, "{case}, with PCIDs");
                }
            }
        }
    }
}

#[test]
fn without_the_break_two_sizes_match_where_a_quirk_forbids_it() {
    for model in CpuModel::ALL {
        let forbids = ["amd-k10", "intel-skylake"].contains(&model.name);
        for policy in every_policy().filter(|policy| *policy != DEFER) {
            let in_place = found(model, "promote-in-place", policy);
            let expected = if forbids { CONFLICT } else { None };
            assert_eq!(in_place, expected, "{policy} on {}", model.name);
        }
    }
}

/// What a change does by the quirks that the kernel was told: on a CPU whose erratum it was not told of, it leaves the break out.
#[test]
fn an_erratum_that_was_not_detected_shows() {
    for (model, name, shows) in [
        (CpuModel::AMD_K10, "promote", true),
        (CpuModel::AMD_K10, "promote-data", true),
        (CpuModel::INTEL_SKYLAKE, "promote", true),
        // Nothing is fetched from there: it needs no break.
        (CpuModel::INTEL_SKYLAKE, "promote-data", false),
    ] {
        let mut program = ShippedProgram::<LazyTlb>::by_name(name)
            .unwrap()
            .build(Policy::Ipi);
        program.kernel_was_told(lazytlb::Quirks::NONE);
        let verdict = Checker::new().cpu_model(model).check(&program);
        let found = verdict.violation().map(|violation| violation.property);
        let expected = if shows { CONFLICT } else { None };
        assert_eq!(found, expected, "{name} on {}", model.name);
    }
}

#[test]
fn memory_changes_its_type_safely_under_every_policy_on_every_cpu() {
    for model in CpuModel::ALL {
        for reading in [Reading::Started, Reading::Retired] {
            let model = model.with_write_combining(WcReadings::all(reading));
            for policy in every_policy() {
                let case = format!("{policy} on {}, {reading:?}", model.name);
                for name in ["type-change", "type-change-from-write-back"] {
                    assert_eq!(found(model, name, policy), None, "{name}, {case}");
                    if model.pcids {
                        let found = found_with::<WithPcids<1>>(model, name, policy);
                        assert_eq!(found, None, "{name}, {case}, with PCIDs");
                    }
                }
                let in_place = found(model, "type-change-in-place", policy);
                assert_eq!(in_place, Some(Property::StaleSpeculation), "{case}");
            }
        }
    }
}

#[test]
fn a_cpu_that_comes_with_an_erratum_of_its_own_stays_off() {
    for policy in every_policy().filter(|policy| *policy != DEFER) {
        assert_eq!(found(CpuModel::AMD_K10, "late-quirk", policy), None);
    }
}

/// A CPU elsewhere looks nothing up of what it has left, but what it began to access there may go on (H12a), until it is told.
#[test]
fn memory_changes_its_type_safely_while_cpus_are_elsewhere() {
    for policy in every_policy() {
        for model in CpuModel::ALL.into_iter().filter(|model| model.pcids) {
            let found = found_with::<WithPcids<2>>(model, "type-change-elsewhere", policy);
            assert_eq!(found, None, "{policy} on {}", model.name);
        }
    }
}
