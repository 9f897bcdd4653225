//! Device memory that is unmapped (H26, H27): the thread's second reason.

#![allow(clippy::unwrap_used)] // A test that fails is to panic.

mod found;

use lazytlb_check::WithPcids;
use lazytlb_model::assumption::{self, Assumption};
use lazytlb_model::{CpuModel, Property, Reading, WcReadings};

use found::{every_policy, found, found_with};

const WRITE: Option<Property> = Some(Property::DeviceWriteAfterFlush);

fn reading(model: CpuModel, reading: Reading) -> CpuModel {
    model.with_write_combining(WcReadings::all(reading))
}

#[test]
fn with_the_read_back_a_device_may_be_unmapped_under_every_policy_on_every_cpu() {
    for model in CpuModel::ALL.map(|model| reading(model, Reading::Started)) {
        for policy in every_policy() {
            let case = format!("{policy} on {}", model.name);
            assert_eq!(found(model, "device-unmap", policy), WRITE, "{case}");
            for name in ["device-unmap-read-back", "device-unmap-read-back-each"] {
                assert_eq!(found(model, name, policy), None, "{case}: {name}");
            }
        }
    }
}

#[test]
fn so_it_is_with_pcids() {
    for policy in every_policy() {
        let found = |name| found_with::<WithPcids<1>>(CpuModel::WEAKEST, name, policy);
        assert_eq!(found("device-unmap"), WRITE, "{policy}");
        assert_eq!(found("device-unmap-read-back"), None, "{policy}");
        assert_eq!(found("device-unmap-read-back-each"), None, "{policy}");
    }
}

#[test]
fn without_it_that_hangs_on_the_reading() {
    for policy in every_policy() {
        let retired = reading(CpuModel::WEAKEST, Reading::Retired);
        assert_eq!(found(retired, "device-unmap", policy), None, "{policy}");
    }
}

#[test]
fn that_one_cpu_reads_back_for_all_is_assumed_and_a_verdict_names_it() {
    let hangs_on = |name: &str, policy| {
        let ask = |model| Ok::<_, ()>(found(model, name, policy));
        let hangs_on = assumption::hangs_on(CpuModel::WEAKEST, &None, ask).unwrap();
        hangs_on.iter().map(|one| one.name).collect::<Vec<_>>()
    };
    for policy in every_policy() {
        let one = hangs_on("device-unmap-read-back", policy);
        assert_eq!(one, ["read-back-pushes-all"], "{policy}");
        let each = hangs_on("device-unmap-read-back-each", policy);
        assert_eq!(each, [""; 0], "{policy}");
    }
    assert!(Assumption::of(CpuModel::WEAKEST).any(|one| one.name == "read-back-pushes-all"));
}

/// The dispute is about each kind of event. A lazy CPU that is skipped has only its locked exchange; here none is, so each has
/// all that a running one has: the interrupt, and its locked answer.
#[test]
fn a_lazy_cpu_is_interrupted_under_every_policy_so_it_is_no_worse_than_a_running_one() {
    let retired = WcReadings::all(Reading::Retired);
    for event in ["locked", "interrupt"] {
        let readings = retired.with(event, Reading::Started).unwrap();
        let model = CpuModel::WEAKEST.with_write_combining(readings);
        for policy in every_policy() {
            let found = found(model, "device-unmap", policy);
            assert_eq!(found, None, "{policy}, {event}");
        }
    }
}
