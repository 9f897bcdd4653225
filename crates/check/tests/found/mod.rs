//! What is found of a shipped program, on a CPU model and under a policy.

use lazytlb::Policy;
use lazytlb_check::{Checker, LazyTlb, Protocol, ShippedProgram};
use lazytlb_model::{CpuModel, Property};

pub(crate) fn every_policy() -> impl Iterator<Item = Policy> {
    Policy::ALL.iter().copied()
}

/// Checks it to its end: nothing found is a proof.
pub(crate) fn found_with<P: Protocol>(
    model: CpuModel,
    name: &str,
    policy: Policy,
) -> Option<Property> {
    let program = ShippedProgram::<P>::by_name(name).unwrap().build(policy);
    let verdict = Checker::new().cpu_model(model).check(&program);
    assert!(verdict.is_safe() || verdict.violation().is_some());
    verdict.violation().map(|violation| violation.property)
}

pub(crate) fn found(model: CpuModel, name: &str, policy: Policy) -> Option<Property> {
    found_with::<LazyTlb>(model, name, policy)
}
