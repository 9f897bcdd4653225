//! Conditions that what the test is makes true or false, whatever runs: slips, refused with their place. And
//! answers that say so where the executions do.
#![allow(clippy::unwrap_used)] // A test that fails is to panic.

use lazytlb_litmus::{Answer, LitmusVerdict, Options, RunError, read, run};

fn answer(text: &str) -> Result<Answer, RunError> {
    run(&read(text).unwrap(), &Options::default())
}

/// What is `asked` of a test with a handler on P1 stands in line 6.
fn asked(asked: &str) -> Result<Answer, RunError> {
    answer(&format!(
        "X86_64 T\n{{ x=1; y=2; [PTE(x)]=(valid:0); 1:rdx=7; }}\n P0 | P1 | P1.ipi ;\n \
         ipi P1 | L: movq (y),%rax | movq (x),%rcx ;\n movq (PA(x)),%rbx | M: cpuid | ;\n{asked}\n"
    ))
}

fn refused(condition: &str, told: &str) {
    match asked(condition) {
        Err(RunError::Meaning(error)) => {
            assert!(error.to_string().contains(told), "{condition}\n{error}");
            assert_eq!(error.line, 6, "{condition}\n{error}");
        }
        other => panic!("{condition}\n{other:?}"),
    }
}

#[test]
fn a_register_that_nothing_writes_is_not_compared_with_its_0() {
    for (condition, register) in [
        ("exists (1:rbx=0)", "`1:rbx`"),
        ("~exists (0:rax=0)", "`0:rax`"),
        ("forall (0:eax=0)", "`0:eax`"),
        // The handler's rcx is its own.
        ("exists (1:rcx=0)", "`1:rcx`"),
        ("exists (1:rax=2 /\\ w(1:rsi)=0)", "`1:rsi`"),
        ("filter (0:rcx=0) exists (1:rax=2)", "`0:rcx`"),
    ] {
        refused(
            condition,
            &format!("found {register}, expected a register that"),
        );
    }
    for condition in ["exists (1:eax=2)", "exists (0:rbx=1)", "exists (1:dl=7)"] {
        let answer = asked(condition).unwrap();
        assert_eq!(answer.verdict(), LitmusVerdict::Allowed, "{answer}");
    }
    // What a report only shows, it may show.
    assert!(asked("locations [1:rbx;] exists (1:rax=2)").is_ok());
}

#[test]
fn every_instruction_that_writes_a_register_counts() {
    for (cell, register) in [
        ("movq $1,%rbx", "rbx"),
        ("movb $1,%bl", "rbx"),
        ("xchgq %rbx,(x)", "rbx"),
        ("xchgq %rbx,%rcx", "rcx"),
        ("lock xaddq %rbx,(x)", "rbx"),
        ("lock cmpxchgq %rbx,(x)", "rax"),
        ("cmpxchgq %rbx,(x)", "rax"),
        ("incq %rbx", "rbx"),
        ("addq (x),%rbx", "rbx"),
        ("xaddq %rcx,%rbx", "rcx"),
    ] {
        let text = format!("X86_64 T\n{{ x=1; }}\n P0 ;\n {cell} ;\nforall (0:{register}=99)\n");
        assert!(answer(&text).is_ok(), "{text}");
    }
    let text = "X86_64 T\n{ x=1; }\n P0 ;\n lock cmpxchgq %rbx,(x) ;\nforall (0:rbx=0)\n";
    assert!(answer(text).is_err());
}

#[test]
fn a_fault_that_cannot_be_is_a_slip() {
    for (condition, told) in [
        // Only P1's handler can take it, and handlers' faults are not seen.
        ("exists (fault(P1,x))", "nothing in P1 accesses `x`"),
        ("~exists (fault(P1,x))", "nothing in P1 accesses `x`"),
        // P0 goes to x by its frame.
        ("exists (fault(P0,x))", "nothing in P0 accesses `x`"),
        (
            "exists (fault(P1:L,x))",
            "nothing at the label `L` of P1 accesses `x`",
        ),
        ("exists (fault(P1:M))", "`M`"),
    ] {
        refused(condition, told);
    }
    for condition in [
        "exists (fault(P1,y))",
        "exists (fault(P1:L,y))",
        "exists (fault(P1))",
        "exists (fault(P0))",
    ] {
        assert_eq!(
            asked(condition).unwrap().verdict(),
            LitmusVerdict::Forbidden
        );
    }
}

#[test]
fn locations_that_mean_nothing_are_told_where_they_stand() {
    for (list, column) in [("locations [x; 7:rax;]", 15), ("locations [PTE(zz);]", 12)] {
        let text = format!("X86_64 T\n{{ x=1; }}\n P0 ;\n nop ;\n{list}\nexists (x=1)\n");
        let Err(RunError::Meaning(error)) = answer(&text) else {
            panic!("{text}");
        };
        assert_eq!((error.line, error.column), (5, column), "{error}");
    }
}

#[test]
fn an_entry_without_frame_keeps_its_other_fields() {
    let text = "X86_64 T\n{ x=1; [PTE(x)]=(valid:0, d:1); }\n P0 ;\n movq (PTE(x)),%rax ;\n\
                forall (d(PTE(x))=1 /\\ d(0:rax)=1 /\\ w(0:rax)=0 /\\ [PTE(x)]=(valid:0, d:1))\n";
    let known = answer(text).unwrap();
    assert_eq!((known.positive(), known.negative()), (1, 0), "{known}");
    assert!(
        known.states[0].text.contains("[PTE(x)]=(valid:0, d:1);"),
        "{known}"
    );
    let text = "X86_64 T\n{ x=1; }\n P0 ;\n movq $(valid:0, nx:1, type:uc),(PTE(x)) ;\n\
                forall (nx(PTE(x))=1 /\\ type(PTE(x))=uc /\\ w(PTE(x))=0)\n";
    let stored = answer(text).unwrap();
    assert_eq!((stored.positive(), stored.negative()), (1, 0), "{stored}");
    let text = "X86_64 T\n{ x=1; }\n P0 ;\n movq $(valid:0),(PTE(x)) ;\n movq (PTE(x)),%rax ;\n\
                forall (0:rax=0)\n";
    let empty = answer(text).unwrap();
    assert_eq!((empty.positive(), empty.negative()), (1, 0), "{empty}");
}

#[test]
fn positive_and_negative_count_as_herd_does() {
    let text = |quantifier: &str| {
        format!(
            "X86_64 SB\n{{ x=0; y=0; }}\n P0 | P1 ;\n movl $1,(x) | movl $1,(y) ;\n \
             movl (y),%eax | movl (x),%eax ;\n{quantifier} (0:rax=0 /\\ 1:rax=0)\n"
        )
    };
    for (quantifier, witnesses, result) in [
        ("exists", "Positive: 1 Negative: 3", "Ok"),
        ("~exists", "Positive: 3 Negative: 1", "No"),
        ("forall", "Positive: 1 Negative: 3", "No"),
    ] {
        let told = answer(&text(quantifier)).unwrap().to_string();
        for line in [
            witnesses,
            result,
            "Observation SB Sometimes 1 3",
            "Verdict: Allowed",
        ] {
            assert!(told.lines().any(|found| found == line), "{line} in\n{told}");
        }
    }
}

#[test]
fn a_test_without_ends_says_so_beside_its_verdict() {
    for (line, cells, property) in [
        (
            "",
            "movq $CR3(A, pcid:1),%cr3 ;\n movq $CR4(pcide:1),%cr4",
            "general-protection",
        ),
        ("", "wait (x),$2", "deadlock"),
        ("", "cli ;\n hlt", "lost-wakeup"),
    ] {
        for quantifier in ["exists", "~exists"] {
            let text = format!(
                "X86_64 T\n{line}\n{{ x=1; }}\n P0 ;\n {cells} ;\n movq (x),%rax ;\n{quantifier} (0:rax=1)\n"
            );
            let known = answer(&text).unwrap();
            assert!(!known.has_ends, "{known}");
            let told = known.to_string();
            let verdict =
                format!("Verdict: Forbidden (every execution ends in a violation: {property})");
            assert!(told.lines().any(|found| found == verdict), "{told}");
        }
    }
    let ends = answer("X86_64 T\n{ x=1; }\n P0 ;\n movq (x),%rax ;\nexists (0:rax=2)\n").unwrap();
    assert!(ends.to_string().ends_with("Verdict: Forbidden\n"), "{ends}");
    let text = "X86_64 T\n{ x=1; }\n P0 ;\n movq (x),%rax ;\nfilter (x=2)\nexists (0:rax=1)\n";
    let filtered = answer(text).unwrap().to_string();
    assert!(
        filtered.contains("Verdict: Forbidden (no execution passes the filter)"),
        "{filtered}"
    );
}
