//! Shootdowns in parts and within one another, with interrupts off, in handlers; and the end of a space anywhere.

mod forgetful;

use forgetful::{Forgetful, NeverServes, OnlyTheFirstPart, ReapsAtOnce};
use lazytlb::{CpuId, CpuSet, GarbageWalksAccepted, Hw, Policy, Until, ValueKind};
use lazytlb_check::{
    CheckError, Checker, Finding, LazyTlb, Menus, PageTableLock, Program, Protocol, ShippedProgram,
    TwoWords, Verdict, WithPcids,
};
use lazytlb_model::{CpuModel, MemoryModel, Property};

const SAFE: [Policy; 3] = [Policy::InitMm, Policy::Ipi, Policy::IpiOnTableFree];
const DEFER: Policy = Policy::Defer(GarbageWalksAccepted);
const BOTH: [MemoryModel; 2] = [MemoryModel::Sc, MemoryModel::TSO];

const PROGRAMS: [&str; 21] = [
    "two-adds",
    "added-after-a-send",
    "nested-shootdown",
    "nested-elsewhere",
    "shootdown-in-a-handler",
    "waits-with-interrupts-off",
    "lock-and-flush",
    "retire-anywhere",
    "retire-two",
    "retire-in-a-handler",
    "retire-while-reaping",
    "flush-trim-retire",
    "retire-while-coming",
    "nothing-to-flush",
    "kernel-two-initiators",
    "many-ranges",
    "full-batch",
    "full-batch-of-pages",
    "detached-subtree",
    "no-room",
    "table-freed-in-a-handler",
];

fn check<P: Protocol>(name: &str, policy: Policy, checker: &Checker) -> Verdict {
    let program = ShippedProgram::<P>::by_name(name).expect("it is shipped");
    checker.check_built(|| program.build(policy))
}

fn property(verdict: &Verdict) -> Option<Property> {
    match &verdict.finding {
        Finding::Safe => None,
        Finding::Violation { violation, .. } => Some(violation.property),
        Finding::Incomplete { why } => panic!("{why}"),
    }
}

/// Checks a program: safe under every safe policy, and on both memory models unsafe under `defer` if it frees tables that
/// lazy CPUs may walk. What is safe under TSO is safe under sequential consistency (`hardware/memory_models.rs`).
fn is_proved<P: Protocol>(name: &str) {
    is_proved_if_safe::<P>(name);
    for memory in BOTH {
        let checker = Checker::new().memory(memory);
        let frees_tables = [
            "flush-trim-retire",
            "full-batch",
            "full-batch-of-pages",
            "detached-subtree",
            "no-room",
            "table-freed-in-a-handler",
        ];
        let frees_tables = frees_tables.contains(&name);
        let expected = frees_tables.then_some(Property::TableUseAfterFree);
        let deferred = check::<P>(name, DEFER, &checker);
        assert_eq!(property(&deferred), expected, "{name}, {memory:?}");
    }
}

#[test]
fn each_program_is_proved_without_pcids() {
    PROGRAMS.into_iter().for_each(is_proved::<LazyTlb>);
}

/// They take longest, and have one space on a CPU: a second slot changes nothing.
const WITHOUT_SWITCHES: [&str; 2] = ["two-adds", "shootdown-in-a-handler"];

#[test]
fn each_program_is_proved_with_one_slot() {
    for name in PROGRAMS {
        match WITHOUT_SWITCHES.contains(&name) {
            true => is_proved_if_safe::<WithPcids<1>>(name),
            false => is_proved::<WithPcids<1>>(name),
        }
    }
}

#[test]
fn each_program_is_proved_with_two_slots() {
    let programs = PROGRAMS.into_iter();
    let programs = programs.filter(|name| !WITHOUT_SWITCHES.contains(name));
    programs.for_each(is_proved::<WithPcids<2>>);
}

#[test]
fn each_program_is_proved_where_every_second_cpu_is_in_the_second_word_of_a_mask() {
    for name in PROGRAMS {
        is_proved::<TwoWords<1, false>>(name);
    }
    for name in [
        "exit",
        "flush-trim-retire",
        "retire-two",
        "nested-shootdown",
    ] {
        is_proved_if_safe::<TwoWords<2, true>>(name);
    }
}

fn is_proved_if_safe<P: Protocol>(name: &str) {
    for policy in SAFE {
        let verdict = check::<P>(name, policy, &Checker::new());
        assert!(verdict.is_safe(), "{name}, {policy}: {verdict:?}");
    }
}

#[test]
fn each_program_is_proved_on_every_cpu_model() {
    for cpu_model in CpuModel::ALL {
        let checker = Checker::new().cpu_model(cpu_model);
        for name in PROGRAMS {
            let verdict = match cpu_model.pcids && !WITHOUT_SWITCHES.contains(&name) {
                true => check::<WithPcids<2>>(name, Policy::IpiOnTableFree, &checker),
                false => check::<LazyTlb>(name, Policy::IpiOnTableFree, &checker),
            };
            assert!(
                verdict.is_safe(),
                "{name} on {}: {verdict:?}",
                cpu_model.name
            );
        }
    }
}

#[test]
fn who_does_not_serve_its_inbox_in_a_loop_with_interrupts_off_is_deadlocked() {
    let stuck = check::<Forgetful<NeverServes>>("lock-and-flush", Policy::Ipi, &Checker::new());
    assert_eq!(property(&stuck), Some(Property::Deadlock));
}

#[test]
fn a_part_that_is_lost_is_found() {
    for memory in BOTH {
        let checker = Checker::new().memory(memory);
        let lost = check::<Forgetful<OnlyTheFirstPart>>("two-adds", Policy::Ipi, &checker);
        assert_eq!(property(&lost), Some(Property::StaleUse), "{memory:?}");
    }
}

#[test]
fn a_root_that_is_freed_before_the_space_is_reaped_is_found() {
    for name in [
        "retire-anywhere",
        "retire-in-a-handler",
        "retire-two",
        "flush-trim-retire",
    ] {
        for memory in BOTH {
            let checker = Checker::new().memory(memory);
            let freed = check::<Forgetful<ReapsAtOnce>>(name, Policy::Ipi, &checker);
            let expected = Some(Property::TableUseAfterFree);
            assert_eq!(property(&freed), expected, "{name}, {memory:?}");
        }
    }
}

type States = [u64; 3];

/// States of the proofs with the page-table lock taken with interrupts off, in the order of [`SAFE`]: of the second menus
/// only without PCIDs.
#[rustfmt::skip]
const INTERRUPTS_OFF: [(&str, States, Option<States>); 2] = [
    ("map,unmap,switch,touch/map,unmap,switch", [29_417, 29_417, 29_417], Some([79_453, 79_453, 79_453])),
    ("map,free,switch/map,unmap,switch,touch,lazy", [72_601, 111_692, 111_692], None),
];

fn with_interrupts_off<P: Protocol>(menus: &str, policy: Policy) -> Verdict {
    let menus: Menus = menus.parse().expect("these are menus");
    let menus = menus.lock(PageTableLock::InterruptsOff);
    Checker::new().check_built(|| menus.program::<P>(policy))
}

#[test]
fn flushes_with_interrupts_off_under_the_lock_are_proved_of_any_length() {
    for (menus, off, one_slot) in INTERRUPTS_OFF {
        for (number, policy) in SAFE.into_iter().enumerate() {
            let is_proved = |verdict: Verdict, states: [u64; 3]| {
                assert!(verdict.is_safe(), "{menus}, {policy}: {verdict:?}");
                assert_eq!(verdict.effort.states, states[number], "{menus}, {policy}");
            };
            is_proved(with_interrupts_off::<LazyTlb>(menus, policy), off);
            if let Some(states) = one_slot {
                is_proved(with_interrupts_off::<WithPcids<1>>(menus, policy), states);
            }
        }
    }
}

#[test]
fn of_any_length_who_does_not_serve_its_inbox_is_deadlocked() {
    let menus = "map,unmap,switch,touch/map,unmap,switch";
    let stuck = with_interrupts_off::<Forgetful<NeverServes>>(menus, Policy::Ipi);
    assert_eq!(property(&stuck), Some(Property::Deadlock));
}

#[test]
fn two_parts_of_one_space_are_proved_of_any_length() {
    let menus: Menus = "map,map-next,unmap-two,free/switch,touch,touch-next,lazy"
        .parse()
        .expect("these are menus");
    for memory in BOTH {
        let checker = Checker::new().memory(memory);
        for policy in SAFE {
            let verdict = checker.check_built(|| menus.program::<LazyTlb>(policy));
            assert!(verdict.is_safe(), "{policy}, {memory:?}: {verdict:?}");
        }
        let lost = menus.program::<Forgetful<OnlyTheFirstPart>>(Policy::Ipi);
        let found = property(&checker.check(&lost));
        assert_eq!(found, Some(Property::StaleUse), "{memory:?}");
    }
}

/// CPU 1, as number 64, waits to be interrupted.
fn interrupted(number: u16) -> Program {
    let mut program = Program::new("far apart", 2);
    program.number_cpus([0, 64]);
    let told = program.atomic("told", 0);
    program.operation(0, "interrupt it", move |hw| {
        let mut targets = CpuSet::<2>::EMPTY;
        targets.insert(CpuId(number));
        hw.send_ipi(&targets);
    });
    program.operation(1, "wait", move |hw| {
        hw.pause_until(&told, Until::Equals(64))
    });
    program.on_flush_interrupt(move |hw| hw.store(&told, hw.cpu().0.into()));
    program.proves("it is interrupted");
    program
}

#[test]
fn cpus_have_the_numbers_that_they_are_given() {
    assert!(Checker::new().check(&interrupted(64)).is_safe());
    let other = property(&Checker::new().check(&interrupted(0)));
    assert_eq!(other, Some(Property::Deadlock));
    // There is no CPU 1.
    let none = property(&Checker::new().check(&interrupted(1)));
    assert_eq!(none, Some(Property::Panic));
}

#[test]
fn numbers_that_are_no_numbers_of_so_many_cpus_are_an_error() {
    for numbers in [&[0, 64, 128][..], &[0], &[64, 64]] {
        let mut program = Program::new("numbers", 2);
        program.number_cpus(numbers.iter().copied());
        program.operation(0, "nothing", |_| {});
        program.proves("nothing");
        let error = Checker::new().try_check(&program, |_| {}).err();
        let message = error.map(|error| error.to_string()).unwrap_or_default();
        assert!(message.contains("a number of its own"), "{message}");
    }
}

#[test]
fn a_set_of_cpus_has_bits_of_their_numbers_only() {
    for (bits, is_claimed) in [(1 << 1, true), (1 << 2, false)] {
        let mut program = Program::new("bits", 2);
        program.number_cpus([65, 129]);
        let set = program.atomic_of_kind(ValueKind::CpuSet, "set", 0);
        program.operation(0, "enter", move |hw| {
            hw.fetch_or(&set, bits);
        });
        program.proves("what is claimed");
        let result = Checker::new().try_check(&program, |_| {});
        let is_false = matches!(result, Err(CheckError::FalseClaim(_)));
        assert_eq!(is_false, !is_claimed, "{bits:#x}");
    }
}
