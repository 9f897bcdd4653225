//! Executions that an answer hands out: each was replayed through the threads' own code, and ends as it says.
#![allow(clippy::unwrap_used)] // A test that fails is to panic.

mod suite_files;

use lazytlb_check::EventKind;
use lazytlb_litmus::{LitmusVerdict, Options, read, read_bytes, run, run_with_executions};
use lazytlb_model::Property;
use suite_files::suite;

#[test]
fn every_allowed_test_of_the_suite_has_a_witness_and_every_violation_an_execution() {
    let (mut witnesses, mut violations) = (0, 0);
    for file in suite() {
        let test = read_bytes(&std::fs::read(file).unwrap()).unwrap();
        let Ok(plain) = run(&test, &Options::default()) else {
            continue;
        };
        let (answer, executions) = run_with_executions(&test, &Options::default()).unwrap();
        assert_eq!(answer.to_string(), plain.to_string());
        let is_allowed = answer.verdict() == LitmusVerdict::Allowed;
        let (of_witness, others): (Vec<_>, Vec<_>) = executions
            .iter()
            .partition(|execution| execution.is_witness);
        assert_eq!(of_witness.len(), usize::from(is_allowed), "{answer}");
        for witness in of_witness {
            assert!(witness.state.holds, "{answer}");
            assert!(answer.states.contains(&witness.state), "{answer}");
            witnesses += 1;
        }
        for other in others {
            let property = other.violated.unwrap();
            assert!(
                answer
                    .violations
                    .iter()
                    .any(|violated| violated.property == property)
            );
            assert!(!other.timeline.story.is_empty(), "{answer}");
            violations += 1;
        }
    }
    assert!(
        witnesses > 100 && violations > 0,
        "{witnesses}, {violations}"
    );
}

#[test]
fn a_witness_of_store_buffering_has_both_loads_before_a_store_drains() {
    let text = "X86_64 SB\n{ x=0; y=0; }\n P0 | P1 ;\n movl $1,(x) | movl $1,(y) ;\n \
                movl (y),%eax | movl (x),%eax ;\nexists (0:rax=0 /\\ 1:rax=0)\n";
    let (_, executions) = run_with_executions(&read(text).unwrap(), &Options::default()).unwrap();
    let [witness] = &executions[..] else {
        panic!("{executions:?}");
    };
    assert_eq!(witness.state.text, "0:rax=0; 1:rax=0;");
    let events = witness.timeline.events.iter().filter(|event| event.visible);
    let told: Vec<(u8, &str)> = events
        .map(|event| (event.cpu, event.what.as_str()))
        .collect();
    let place = |event| told.iter().position(|known| *known == event).unwrap();
    assert!(
        place((0, "y → 0")) < place((1, "drains: y = 1")),
        "{told:?}"
    );
    assert!(
        place((1, "x → 0")) < place((0, "drains: x = 1")),
        "{told:?}"
    );
}

#[test]
fn a_witness_speaks_the_words_of_the_test() {
    let text = "X86_64 T\n{ x=1; y=2; }\n P0 ;\n movq $(oa:PA(y), w:0),(PTE(x)) ;\n invlpg (x) ;\n \
                movq (x),%rax ;\n L: movq $3,(x) ;\nexists (0:rax=2 /\\ fault(P0:L))\n";
    let (_, executions) = run_with_executions(&read(text).unwrap(), &Options::default()).unwrap();
    let events = executions[0].timeline.events.iter();
    let told: Vec<&str> = events
        .filter(|event| event.visible)
        .map(|event| &*event.what)
        .collect();
    let expected = [
        "PTE(x) = (oa:PA(y), w:0)",
        "drains: PTE(x) = (oa:PA(y), w:0)",
        "INVLPG x",
        "load x → 2",
        "store x = 3 → page fault",
    ];
    assert_eq!(told, expected);
}

#[test]
fn a_violation_has_an_execution_also_where_nothing_is_allowed() {
    let text = "X86_64 T\n{ x=0; y=0; }\n P0 | P1 ;\n movq $1,(y) | wait (x),$1 ;\n\
                exists (y=2)\n";
    let (answer, executions) =
        run_with_executions(&read(text).unwrap(), &Options::default()).unwrap();
    assert_eq!(answer.verdict(), LitmusVerdict::Forbidden);
    let [stuck] = &executions[..] else {
        panic!("{executions:?}");
    };
    assert_eq!(
        (stuck.violated, stuck.is_witness),
        (Some(Property::Deadlock), false)
    );
    assert!(
        stuck.timeline.story[0].contains("wait until x = 1"),
        "{:?}",
        stuck.timeline.story
    );
    let mut events = stuck.timeline.events.iter();
    assert!(events.any(|event| event.kind == EventKind::StoreDrained));
}
