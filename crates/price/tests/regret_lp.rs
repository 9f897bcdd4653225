//! Regrets beside the answers of a linear-programming library.
//!
//! The greatest loss of a policy `p` against the best of the others `q` is, as one linear program: choose weights `w_q`
//! that sum to 1, and for each `q` figures `low * w_q + x_q` with `0 <= x_q <= (high - low) * w_q`, so that the sum over
//! `q` of these times `counts(p) - counts(q)` is greatest. Its vertices have one weight of 1: a `q`, and a corner of the box.
#![allow(clippy::unwrap_used)] // A test that fails is to panic.

use lazytlb::Policy;
use lazytlb_price::{Costs, Counts, Decision, Parameter, PcidsOn, Replayed};
use microlp::{ComparisonOp, OptimizationDirection, Problem, SolveOutcome};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

fn regret_by_linear_program(place: usize, scenarios: &[&[Replayed]], costs: &Costs) -> f64 {
    let mut program = Problem::new(OptimizationDirection::Maximize);
    let mut weights = Vec::new();
    for scenario in scenarios {
        let own = &scenario[place].counts;
        for other in *scenario {
            let times = |parameter: Parameter| {
                parameter.count(own) as f64 - parameter.count(&other.counts) as f64
            };
            let at_low =
                Parameter::ALL.map(|parameter| times(parameter) * costs.figure(parameter).low);
            let weight = program.add_var(at_low.iter().sum(), (0.0, 1.0));
            weights.push((weight, 1.0));
            for parameter in Parameter::ALL {
                let figure = costs.figure(parameter);
                let above_low = program.add_var(times(parameter), (0.0, f64::INFINITY));
                let range = [(above_low, 1.0), (weight, figure.low - figure.high)];
                program.add_constraint(range, ComparisonOp::Le, 0.0);
            }
        }
    }
    program.add_constraint(weights, ComparisonOp::Eq, 1.0);
    match program.solve().unwrap() {
        SolveOutcome::Solution(solution) => solution.objective(),
        SolveOutcome::Interrupted(_) => panic!("nothing limits the search"),
    }
}

fn any_counts() -> impl Strategy<Value = Counts> {
    proptest::array::uniform18(0..100_u64).prop_map(|n| Counts {
        shootdowns: n[0],
        shootdowns_to_idle: n[1],
        ipis: n[2],
        ipis_to_running: n[3],
        ipis_to_lazy: n[4],
        ipis_to_idle: n[5],
        cr3_flush: n[6],
        cr3_keep: n[7],
        full_flushes: n[8],
        invlpg: n[9],
        refills_after_load: n[10],
        locked: n[11],
        fences: n[12],
        remote_reads: n[13],
        shootdowns_to_known_sleep: n[14].min(n[1]),
        ipis_to_known_sleep: n[15].min(n[5]),
        idle_wait_us: n[16],
        idle_wake_us: n[17],
        ..Counts::default()
    })
}

fn any_table() -> impl Strategy<Value = Vec<Replayed>> {
    let rows = proptest::collection::vec(any_counts(), Policy::ALL.len());
    rows.prop_map(|rows| {
        let rows = Policy::ALL.iter().zip(rows);
        let rows = rows.map(|(&policy, counts)| Replayed {
            policy,
            pcids: PcidsOn::No,
            counts,
            counts_if_freed: None,
        });
        rows.collect()
    })
}

fn any_costs() -> impl Strategy<Value = Costs> {
    let ranges =
        proptest::collection::vec(proptest::array::uniform3(0..50_u32), Parameter::ALL.len());
    ranges.prop_map(|ranges| {
        let mut costs = Costs::shipped();
        for (parameter, mut ends) in Parameter::ALL.into_iter().zip(ranges) {
            ends.sort_unstable();
            let [low, typical, high] = ends;
            let range = format!("{}={low},{typical},{high}", parameter.name());
            costs.set(&range).unwrap();
        }
        costs
    })
}

#[test]
fn regrets_are_what_a_linear_programming_library_finds_on_a_thousand_tables() {
    let mut runner = TestRunner::new(Config::with_cases(1000));
    let tables = (proptest::collection::vec(any_table(), 1..3), any_costs());
    let ran = runner.run(&tables, |(tables, costs)| {
        let scenarios: Vec<&[Replayed]> = tables.iter().map(Vec::as_slice).collect();
        let decision = Decision::among(&scenarios, &costs).unwrap();
        let mut least = f64::INFINITY;
        for (place, standing) in decision.standings.iter().enumerate() {
            let expected = regret_by_linear_program(place, &scenarios, &costs);
            prop_assert!(
                (standing.regret - expected).abs() < 1e-6 * expected.max(1.0),
                "{standing:?}, but {expected}"
            );
            least = least.min(standing.regret);
        }
        prop_assert_eq!(decision.choice.regret, least);
        Ok(())
    });
    ran.unwrap();
}
