//! IPIs to idle CPUs, priced by the idle state that each was in: streams whose counts were worked out by hand, and the
//! shipped recording, whose machine is given idle states.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::path::Path;

use lazytlb::{Policy, Quirks};
use lazytlb_price::{
    Costs, Counts, Decision, Difference, Parameter, PcidsOn, Replay, Replayed, Sleep, price_trace,
    price_trace_on,
};
use lazytlb_trace::{
    IdleStateIndex, IdleStates, MmId, Onto, Operation, OperationKind, Range, Tables, TraceReader,
};

const A: MmId = MmId(7);
const SAFE: [Policy; 3] = [Policy::InitMm, Policy::Ipi, Policy::IpiOnTableFree];

/// What a CPU does, or how deep it sleeps from there on.
#[derive(Clone, Copy)]
enum Then {
    Does(OperationKind),
    Sleeps(Sleep),
}

const RUNS: Then = Then::Does(OperationKind::Switch { mm: A });
const RUNS_B: Then = Then::Does(OperationKind::Switch { mm: MmId(8) });
const IDLES: Then = Then::Does(OperationKind::GoLazy { onto: Onto::Idle });
const FREES_TABLES: Then = Then::Does(OperationKind::Flush {
    mm: A,
    range: Range::All,
    tables: Tables::Freed,
});
const AWAKE: Then = Then::Sleeps(Sleep::Awake);
const FLUSHED: Then = Then::Sleeps(Sleep::Flushed);

fn light(state: u32, exit_latency_us: u64) -> Then {
    let state = IdleStateIndex::new(state).unwrap();
    Then::Sleeps(Sleep::Light {
        state,
        exit_latency_us,
    })
}

fn replay(policy: Policy, pcids: PcidsOn, stream: &[(u16, Then)]) -> Counts {
    let mut replay = Replay::on(policy, Quirks::default(), pcids);
    for &(cpu, then) in stream {
        match then {
            Then::Sleeps(sleep) => replay.sleep(cpu, sleep),
            Then::Does(kind) => {
                let operation = Operation {
                    cpu,
                    time_ns: 0,
                    kind,
                    initial: None,
                };
                replay.apply(&operation).unwrap();
            }
        }
    }
    replay.finish()
}

/// Shootdowns to idle CPUs, those to known sleeps, what these wait for; IPIs to idle CPUs, those to known sleeps, what
/// these disturb.
fn idle(counts: &Counts) -> [u64; 6] {
    [
        counts.shootdowns_to_idle,
        counts.shootdowns_to_known_sleep,
        counts.idle_wait_us,
        counts.ipis_to_idle,
        counts.ipis_to_known_sleep,
        counts.idle_wake_us,
    ]
}

#[test]
fn a_shootdown_waits_for_the_slowest_target_and_disturbs_each() {
    let stream = [
        (0, RUNS),
        (1, RUNS),
        (2, RUNS),
        (3, RUNS),
        (1, IDLES),
        (1, light(1, 2)),
        (2, IDLES),
        (2, light(2, 10)),
        // Between two idle states.
        (3, IDLES),
        (3, AWAKE),
        (0, FREES_TABLES),
    ];
    for policy in [Policy::Ipi, Policy::IpiOnTableFree] {
        let counts = replay(policy, PcidsOn::No, &stream);
        assert_eq!(idle(&counts), [1, 1, 10, 3, 3, 12], "{policy}");
        assert_eq!(counts.ipis_by_idle_state[..4], [0, 1, 1, 0], "{policy}");
        let paid = |parameter: Parameter| parameter.count(&counts);
        assert_eq!([Parameter::IdleWait, Parameter::IdleWake].map(paid), [0, 0]);
        let by_state = [Parameter::IdleWaitPerUs, Parameter::IdleWakePerUs];
        assert_eq!(by_state.map(paid), [10, 12]);
    }
    assert_eq!(idle(&replay(Policy::InitMm, PcidsOn::No, &stream)), [0; 6]);
}

#[test]
fn a_cpu_that_polls_costs_no_more_than_its_ipi() {
    let stream = [
        (0, RUNS),
        (1, RUNS),
        (1, IDLES),
        (1, light(0, 0)),
        (0, FREES_TABLES),
    ];
    let counts = replay(Policy::Ipi, PcidsOn::No, &stream);
    assert_eq!(idle(&counts), [1, 1, 0, 1, 1, 0]);
    assert_eq!((counts.ipis_by_idle_state[0], counts.ipis), (1, 1));
}

#[test]
fn who_waits_for_a_cpu_of_unknown_sleep_too_waits_as_for_any_idle_cpu() {
    let stream = [
        (0, RUNS),
        (1, RUNS),
        (2, RUNS),
        (1, IDLES),
        (1, light(2, 10)),
        (2, IDLES),
        (0, FREES_TABLES),
    ];
    let counts = replay(Policy::Ipi, PcidsOn::No, &stream);
    assert_eq!(idle(&counts), [1, 0, 0, 2, 1, 10]);
    let paid = |parameter: Parameter| parameter.count(&counts);
    assert_eq!([Parameter::IdleWait, Parameter::IdleWake].map(paid), [1, 1]);
}

/// Before the state it leaves: a load of init_mm, and one on the way back. Nothing interrupts it in between.
#[test]
fn no_ipi_meets_a_cpu_that_left_before_it_slept() {
    let stream = [
        (0, RUNS),
        (1, RUNS),
        (1, IDLES),
        (1, FLUSHED),
        (0, FREES_TABLES),
        (0, FREES_TABLES),
        (1, AWAKE),
        (1, RUNS),
    ];
    for policy in [Policy::Ipi, Policy::IpiOnTableFree] {
        let counts = replay(policy, PcidsOn::No, &stream);
        assert_eq!((counts.ipis, counts.left_before_sleep), (0, 1), "{policy}");
        assert_eq!(
            (counts.cr3_flush, counts.refills_after_load),
            (4, 3),
            "{policy}"
        );
        assert_eq!(counts.full_flushes, 2, "{policy}: the initiator's own");
    }
    // By this policy it had left when it went idle: the same loads.
    let counts = replay(Policy::InitMm, PcidsOn::No, &stream);
    assert_eq!((counts.ipis, counts.left_before_sleep), (0, 0));
    assert_eq!((counts.cr3_flush, counts.refills_after_load), (4, 3));
}

/// With PCIDs a CPU is in the cpumask of a space that it ran before, too, until it loads init_mm.
#[test]
fn with_pcids_a_cpu_that_left_before_it_slept_is_woken_for_no_space() {
    let away = [(0, RUNS), (1, RUNS), (1, RUNS_B), (1, RUNS)];
    // Its PCID is known now: this load keeps what is cached.
    let asleep = |sleep| [(1, RUNS_B), (1, IDLES), (1, sleep), (0, FREES_TABLES)];
    for (sleep, expected) in [(FLUSHED, (0, 0, 1)), (light(2, 10), (1, 1, 0))] {
        let stream = [away, asleep(sleep)].concat();
        let counts = replay(Policy::IpiOnTableFree, PcidsOn::Yes, &stream);
        let found = (counts.ipis_elsewhere, counts.ipis_by_idle_state[2]);
        assert_eq!((found.0, found.1, counts.left_before_sleep), expected);
    }
}

#[test]
fn a_cpu_that_runs_or_has_nothing_to_leave_leaves_nothing() {
    let stream = [(0, FLUSHED), (0, RUNS), (0, FLUSHED), (0, RUNS)];
    let counts = replay(Policy::Ipi, PcidsOn::No, &stream);
    assert_eq!((counts.left_before_sleep, counts.cr3_flush), (0, 1));
}

/// CPU 1 runs `sh`, idles and enters a state, before which it leaves or not; CPU 0 frees tables; it wakes, and an interrupt
/// makes it leave, or not. Then all of it again.
fn two_shootdowns(before: &str, after: &str) -> String {
    let once = format!(
        "  <idle>-0 [001] d..2. 1.000001: sched_switch: prev_pid=0 ==> next_comm=sh next_pid=9 next_prio=120
  <idle>-0 [001] d.Z1. 1.000001: switch_mm: (f+0x35/0x470) next=0xf0 tsk=0xe0 nctx=7
      sh-9 [001] d..2. 1.000002: sched_switch: prev_pid=9 ==> next_comm=swapper/1 next_pid=0 next_prio=120
      sh-9 [001] d.Z1. 1.000002: enter_lazy: (f+0xd/0x30) mm=0xf0 tsk=0xe8 loaded=0xf0
{before}  <idle>-0 [001] d..1. 1.000003: cpu_idle: state=2 cpu_id=1
      sh-8 [000] d.Z.. 1.000004: flush_mm_range: (f+0x5/0x170) mm=0xf0 start=0x1000 end=0x3000 stride=12 freed=1 ctx=7
  <idle>-0 [001] ...1. 1.000005: cpu_idle: state=4294967295 cpu_id=1
{after}"
    );
    once.clone() + &once.replace(" 1.00000", " 1.00001")
}

/// The idle task leaves its space.
const LEAVES: &str =
    "  <idle>-0 [001] d..1. 1.000002: tlb_flush: pages:-1 reason:flush on task switch (0)\n";
/// It is made to by an interrupt.
const INTERRUPTED: &str =
    "  <idle>-0 [001] d.h1. 1.000006: tlb_flush: pages:-1 reason:flush on task switch (0)\n";

fn priced(text: &str, states: &str) -> Counts {
    let states = IdleStates::parse(states, "states").unwrap();
    let reader = TraceReader::new(text.as_bytes(), "t").unwrap();
    let mut reader = reader.with_idle_states(states);
    let replayed = price_trace(&mut reader, &[Policy::Ipi], Quirks::default(), |_| {});
    replayed.unwrap()[0].counts
}

#[test]
fn a_recordings_events_tell_the_state_and_the_list_its_latency() {
    let text = two_shootdowns("", "");
    let counts = priced(&text, "idle-driver intel_idle\nidle-state 2 C1E 10\n");
    assert_eq!(idle(&counts), [2, 2, 20, 2, 2, 20]);
    let counts = priced(&text, "idle-driver intel_idle\nidle-state 2 C6 133\n");
    assert_eq!((idle(&counts), counts.left_before_sleep), ([0; 6], 2));
    // Of another state it tells nothing.
    let counts = priced(&text, "idle-state 1 C1 2 tlb=kept\n");
    assert_eq!(idle(&counts), [2, 0, 0, 2, 0, 0]);
}

/// AMD's C2, by firmware: whether the kernel leaves the space before is unknown until the recording shows it.
#[test]
fn what_a_recording_shows_of_a_state_prices_the_ipis_after_it() {
    let states = "idle-driver acpi_idle\nidle-state 2 C2 400\n";
    let counts = priced(&two_shootdowns("", ""), states);
    assert_eq!(idle(&counts), [2, 0, 0, 2, 0, 0]);
    // An interrupt finds the space loaded.
    let counts = priced(&two_shootdowns("", INTERRUPTED), states);
    assert_eq!(idle(&counts), [2, 1, 400, 2, 1, 400]);
    // It leaves before it enters.
    let counts = priced(&two_shootdowns(LEAVES, ""), states);
    assert_eq!((idle(&counts), counts.left_before_sleep), ([0; 6], 2));
}

/// The shipped recording `threads`, on CPUs whose only idle state is this one.
fn threads(states: Option<&str>) -> Vec<Replayed> {
    let traces = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../traces");
    let mut reader = TraceReader::open(traces.join("linux61-smp8-threads.trace.txt.xz")).unwrap();
    if let Some(states) = states {
        reader = reader.with_idle_states(IdleStates::parse(states, "given").unwrap());
    }
    let pcids = [PcidsOn::No];
    price_trace_on(&mut reader, &SAFE, &pcids, Quirks::default(), |_| {}).unwrap()
}

/// The regret of `ipi-on-table-free`, and how much of it one figure's end makes at most, in cycles.
fn regret_and_its_greatest_part(replayed: &[Replayed], costs: &Costs) -> (f64, f64) {
    let own = replayed
        .iter()
        .find(|one| one.policy == Policy::IpiOnTableFree);
    let own = own.unwrap();
    let decision = Decision::among(&[replayed], costs).unwrap();
    let regret = decision.standing(own.policy).unwrap().regret;
    let against = replayed.iter().map(|other| {
        let difference = Difference::between(&own.counts, &other.counts, costs);
        (difference.high, other.counts)
    });
    let (_, other) = against.max_by(|a, b| a.0.total_cmp(&b.0)).unwrap();
    let part = |parameter: Parameter| {
        let times = parameter.count(&own.counts) as f64 - parameter.count(&other) as f64;
        let figure = costs.figure(parameter);
        times * (figure.high - figure.low)
    };
    let parts = Parameter::ALL.map(part);
    (regret, parts.into_iter().fold(0.0, f64::max))
}

/// In Mcycles, and in percent of the regret.
fn told((regret, part): (f64, f64)) -> (u64, u64) {
    let round = |number: f64| number.round() as u64;
    (round(regret / 1e6), round(100.0 * part / regret))
}

#[test]
fn the_idle_state_takes_the_regret_from_one_figures_range() {
    let costs = Costs::shipped();
    let regret = |states| told(regret_and_its_greatest_part(&threads(states), &costs));
    // Three quarters are the range of idle_wake.
    assert_eq!(regret(None), (202, 75));
    // Of a halt a fifth is left; and before C6 nobody has a space that an IPI could be about.
    assert_eq!(regret(Some("idle-state 1 C1 2 tlb=kept")), (47, 62));
    let asleep = threads(Some("idle-driver intel_idle\nidle-state 1 C6 133"));
    assert_eq!(told(regret_and_its_greatest_part(&asleep, &costs)).0, 4);
    for one in &asleep {
        let paid = |parameter: Parameter| parameter.count(&one.counts);
        let by_idle = [
            Parameter::IdleWait,
            Parameter::IdleWake,
            Parameter::IdleWaitPerUs,
            Parameter::IdleWakePerUs,
        ];
        assert_eq!(by_idle.map(paid), [0; 4], "{}", one.policy);
    }
}

/// Where the kernel does not leave before a deep state, the same states turn the choice.
#[test]
fn a_deep_state_that_keeps_the_space_makes_leaving_it_cheaper() {
    let replayed = threads(Some("idle-state 1 C2 400 tlb=kept"));
    let decision = Decision::among(&[&replayed], &Costs::shipped()).unwrap();
    assert_eq!(decision.choice.policy, Policy::InitMm);
    assert_eq!(decision.choice.loss_typical, 0.0);
    let halted = threads(Some("idle-state 1 C1 2 tlb=kept"));
    let decision = Decision::among(&[&halted], &Costs::shipped()).unwrap();
    assert_eq!(decision.choice.policy, Policy::IpiOnTableFree);
}

/// What is counted otherwise is not touched by it.
#[test]
fn states_that_keep_the_space_change_no_other_count() {
    let both = threads(None)
        .into_iter()
        .zip(threads(Some("idle-state 1 C1 2 tlb=kept")));
    for (without, with) in both {
        let counts = Counts {
            shootdowns_to_known_sleep: 0,
            idle_wait_us: 0,
            ipis_to_known_sleep: 0,
            ipis_by_idle_state: Default::default(),
            idle_wake_us: 0,
            ..with.counts
        };
        assert_eq!(counts, without.counts);
        let known = with.counts.ipis_to_known_sleep;
        assert_eq!(known, with.counts.ipis_to_idle, "{}", with.policy);
    }
}
