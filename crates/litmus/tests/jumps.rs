//! Comparisons, jumps and loops; and the instructions that came with them.
#![allow(clippy::unwrap_used)] // A test that fails is to panic.

use lazytlb_litmus::{Answer, LitmusVerdict, Options, RunError, read, run};

fn answer(text: &str) -> Result<Answer, RunError> {
    run(&read(text).unwrap(), &Options::default())
}

/// Answers a test of one thread, a cell a line.
fn thread(init: &str, cells: &[&str], condition: &str) -> Result<Answer, RunError> {
    let rows: String = cells.iter().map(|cell| format!(" {cell} ;\n")).collect();
    answer(&format!(
        "X86_64 T\n{{ {init} }}\n P0 ;\n{rows}{condition}\n"
    ))
}

fn always(init: &str, cells: &[&str], fact: &str) {
    let answer = thread(init, cells, &format!("forall ({fact})")).unwrap();
    assert_eq!(
        (answer.is_ok(), answer.positive()),
        (Some(true), 1),
        "{cells:?}\n{answer}"
    );
}

#[test]
fn every_condition_jumps_as_its_flags_say() {
    // Left, right, and the conditions that hold of `cmpb right,left`.
    for (left, right, holding) in [
        (1, 1, "e z ae nb nc be na ns ge nl le ng no"),
        (1, 2, "ne nz b c nae be na s l nge le ng no"),
        (2, 1, "ne nz ae nb nc a nbe ns ge nl g nle no"),
        (0x80, 1, "ne nz ae nb nc a nbe ns l nge le ng o"),
        (0x7f, 0xff, "ne nz b c nae be na s ge nl g nle o"),
    ] {
        let all = "e z ne nz b c nae ae nb nc be na a nbe s ns l nge ge nl le ng g nle o no";
        for condition in all.split(' ') {
            let jump = format!("j{condition} L");
            let cells = [
                &format!("cmpb ${right},%al"),
                jump.as_str(),
                "movq $1,%rbx",
                "L: nop",
            ];
            let jumps = holding.split(' ').any(|holds| holds == condition);
            let fact = format!("0:rbx={}", u8::from(!jumps));
            always(&format!("0:rax={left}; 0:rbx=0;"), &cells, &fact);
        }
    }
}

#[test]
fn arithmetic_and_bits_leave_flags() {
    let cells = |first| [first, "jc L", "movq $1,%rbx", "L: nop"];
    let init = "x=5; 0:rax=5; 0:rbx=0; 0:rcx=0;";
    for (instruction, carry) in [
        ("cmpq $6,(x)", true),
        ("cmpq (x),%rax", false),
        ("testq %rax,%rax", false),
        ("btq $0,(x)", true),
        ("btq $1,(x)", false),
        ("lock btrq $2,(x)", true),
        ("lock btsq $3,(x)", false),
        ("btcq $65,(x)", false),
        ("subq $6,(x)", true),
        ("lock addq $-5,(x)", true),
        ("lock cmpxchgq %rcx,(x)", false),
        ("addb $0xfb,%al", true),
    ] {
        always(
            init,
            &cells(instruction),
            &format!("0:rbx={}", u8::from(!carry)),
        );
    }
    always(
        init,
        &["lock btrq $2,(x)", "lock btsl $4,(x)", "btcq $0,(x)"],
        "x=16",
    );
    always(
        init,
        &["cmpq $5,(x)", "incq %rcx", "je L", "movq $9,%rcx", "L: nop"],
        "0:rcx=9",
    );
    let zero = ["lock cmpxchgq %rcx,(x)", "jne L", "movq $9,%rbx", "L: nop"];
    always(init, &zero, "0:rbx=9 /\\ x=0");
}

#[test]
fn a_counting_loop_runs_to_its_end() {
    let cells = [
        "movl $7,%ecx",
        "L: addq %rcx,%rax",
        "lock incq (x)",
        "decl %ecx",
        "jnz L",
    ];
    always("x=0; 0:rax=0;", &cells, "0:rax=28 /\\ x=7");
}

#[test]
fn a_loop_that_waits_for_a_word_sees_what_was_stored_before() {
    let text = |fact: &str| {
        format!(
            "X86_64 MP\n{{ x=0; y=0; }}\n P0 | P1 ;\n movl $1,(x) | L: movl (y),%eax ;\n \
             movl $1,(y) | testl %eax,%eax ;\n | je L ;\n | movl (x),%ebx ;\nexists ({fact})\n"
        )
    };
    let reordered = answer(&text("1:rbx=0")).unwrap();
    assert_eq!(reordered.verdict(), LitmusVerdict::Forbidden, "{reordered}");
    let seen = answer(&text("1:rax=1 /\\ 1:rbx=1")).unwrap();
    assert_eq!(
        (seen.verdict(), seen.negative()),
        (LitmusVerdict::Allowed, 0),
        "{seen}"
    );
}

/// Two threads that each take a lock, read a word and write it back.
fn counted_twice(take: &str, again: &str, release: &str) -> Answer {
    let thread = |name: &str| {
        [
            format!("{name}: movl $1,%eax"),
            take.to_owned(),
            "testl %eax,%eax".to_owned(),
            format!("{again} {name}"),
            "movl (x),%ebx".to_owned(),
            "incl %ebx".to_owned(),
            "movl %ebx,(x)".to_owned(),
            release.to_owned(),
        ]
    };
    let rows = thread("A").into_iter().zip(thread("B"));
    let rows: String = rows
        .map(|(one, other)| format!(" {one} | {other} ;\n"))
        .collect();
    let text = format!("X86_64 T\n{{ l=0; x=0; }}\n P0 | P1 ;\n{rows}exists (x=1)\n");
    answer(&text).unwrap()
}

#[test]
fn a_spin_lock_keeps_two_threads_apart() {
    let locked = counted_twice("xchgl %eax,(l)", "jne", "movl $0,(l)");
    assert_eq!(locked.verdict(), LitmusVerdict::Forbidden, "{locked}");
    assert_eq!(locked.states.len(), 1, "{locked}");
    let not_taken = counted_twice("movl (l),%eax", "jne", "movl $0,(l)");
    assert_eq!(not_taken.verdict(), LitmusVerdict::Allowed, "{not_taken}");
    let never_released = counted_twice("xchgl %eax,(l)", "jne", "nop");
    assert_eq!(never_released.states, [], "{never_released}");
    let told = never_released.to_string();
    let expected = "Verdict: Forbidden (no execution comes to its end: a loop goes on for ever)";
    assert!(told.contains(expected), "{told}");
}

#[test]
fn no_loop_hangs() {
    let endless = thread("x=1;", &["L: jmp L", "movq (x),%rax"], "exists (0:rax=1)").unwrap();
    assert!(endless.is_endless && endless.states.is_empty(), "{endless}");
    // Each round changes something, so none stands for the others.
    let counting = ["L: incq (x)", "jmp L"];
    let cut = thread("x=0;", &counting, "exists (x=99)").unwrap();
    assert_eq!(cut.verdict(), LitmusVerdict::Incomplete, "{cut}");
    let why = cut.incomplete.unwrap();
    assert!(
        why.contains("line 5, column 2: a loop was followed through 30 rounds only"),
        "{why}"
    );
    // Behind page tables, an access may change what is cached.
    let text = "X86_64 T\nPaging=4\n{ x=0; }\n P0 | P1 ;\n movq $1,(x) | L: movq (x),%rax ;\n \
                | cmpq $1,%rax ;\n | jne L ;\nexists (1:rax=1)\n";
    let waits = answer(text).unwrap();
    assert_eq!(waits.verdict(), LitmusVerdict::Allowed, "{waits}");
    assert!(waits.incomplete.unwrap().contains("wait (x), $1"));
    let other = answer(&text.replace("exists (1:rax=1)", "exists (1:rax=2)")).unwrap();
    assert_eq!(other.verdict(), LitmusVerdict::Incomplete, "{other}");
}

#[test]
fn a_round_that_is_left_out_hides_no_violation() {
    let text = "X86_64 T\n{ x=0; y=0; }\n P0 | P1 ;\n movq $1,(y) | wait (y),$1 ;\n L: movq (x),%rax | \
                movq $CR3(A, pcid:1),%cr3 ;\n testq %rax,%rax | movq $CR4(pcide:1),%cr4 ;\n je L | ;\n\
                exists (violation(general-protection))\n";
    assert_ne!(answer(text).unwrap().verdict(), LitmusVerdict::Forbidden);
}

#[test]
fn a_label_that_is_not_there_or_there_twice_is_an_error() {
    for (cells, told) in [
        (
            ["jmp M", "L: nop"],
            "line 4, column 2: found `M`, expected a label of this column",
        ),
        (
            ["L: jmp L", "L: nop"],
            "line 5, column 2: found the label `L` for the second time",
        ),
        (
            ["iretq", "nop"],
            "line 4, column 2: found `iretq` in a thread, expected a handler",
        ),
    ] {
        let error = thread("x=1;", &cells, "exists (x=1)").unwrap_err();
        assert!(error.to_string().contains(told), "{error}");
    }
    always("x=1;", &["jmp L", "movq $2,(x)", "L:"], "x=1");
}

#[test]
fn intel_syntax_jumps_too() {
    let text = "X86 T\n{ x=1; }\n P0 ;\n MOV EAX,[x] ;\n CMP EAX,$1 ;\n JE L0 ;\n MOV [x],$2 ;\n \
                L0: NOP ;\n NOPL [EAX] ;\n CLFLUSH [x] ;\nforall (x=1)\n";
    assert_eq!(answer(text).unwrap().is_ok(), Some(true));
}

#[test]
fn cr3_takes_what_a_register_holds() {
    let text = |line: &str, init: &str, first: &str, load: &str| {
        format!(
            "X86_64 T\n{line}\n{{ x=1; y=2; PTE(x,B)=(oa:PA(y)); {init} }}\n P0 ;\n {first} ;\n {load} ;\n \
             movq (x),%rax ;\nexists (0:rax=2)\n"
        )
    };
    let state = |text: String| {
        let answer = answer(&text).unwrap();
        answer
            .states
            .iter()
            .map(|state| state.text.clone())
            .collect::<Vec<_>>()
    };
    for (line, literal) in [
        ("", "CR3(B)"),
        ("PCIDs=on", "CR3(B, pcid:3)"),
        ("PCIDs=on", "CR3(B, pcid:3, keep)"),
        // The tag of what A's walks have cached: kept, and used.
        ("PCIDs=on", "CR3(B, pcid:0, keep)"),
        ("PCIDs=on", "CR3(A, pcid:3)"),
    ] {
        let known = state(text(line, "", "nop", &format!("movq ${literal},%cr3")));
        let by_init = text(line, &format!("0:rbx={literal};"), "nop", "movq %rbx,%cr3");
        assert_eq!(state(by_init), known, "{literal}");
        let by_move = text(line, "", &format!("movq ${literal},%rbx"), "movq %rbx,%cr3");
        assert_eq!(state(by_move), known, "{literal}");
    }
    let both = state(text(
        "PCIDs=on",
        "0:rbx=CR3(B, keep);",
        "nop",
        "movq %rbx,%cr3",
    ));
    assert_eq!(both.len(), 2, "{both:?}");
    let by_parts = text(
        "PCIDs=on",
        "0:rbx=ROOT(B);",
        "orq $3,%rbx",
        "movq %rbx,%cr3",
    );
    assert_eq!(state(by_parts), ["0:rax=2;"]);
    for (init, place) in [
        ("0:rbx=0x7777007;", "0x7777007"),
        ("0:rbx=PT(x);", ""),
        ("0:rbx=x;", "0x1000"),
    ] {
        let error = answer(&text("", init, "nop", "movq %rbx,%cr3"))
            .unwrap_err()
            .to_string();
        let told = format!("line 6, column 2: found the value {place}");
        assert!(error.contains(&told), "{error}");
    }
}

#[test]
fn clflush_faults_as_a_load_does_and_changes_nothing() {
    always(
        "x=5;",
        &["clflush (x)", "clwb (x)", "movq (x),%rax"],
        "0:rax=5",
    );
    let text = "X86_64 T\n{ x=1; [PTE(x)]=(valid:0); }\n P0 ;\n L: clflush (x) ;\nforall (fault(P0:L,x))\n";
    assert_eq!(answer(text).unwrap().is_ok(), Some(true));
}

#[test]
fn iretq_ends_a_handler_and_serializes() {
    let text = |last: &str| {
        format!(
            "X86_64 T\n{{ x=0; y=0; z=0; }}\n P0 | P1 | P1.ipi ;\n ipi P1 | wait (z),$1 | movq $1,(x) ;\n \
             wait (y),$1 | movq (PA(y)),%rax | {last} ;\n movq (PA(x)),%rbx | | movq $1,(y) ;\n \
             movq $1,(z) | | ;\nexists (y=1)\n"
        )
    };
    assert_eq!(
        answer(&text("nop")).unwrap().verdict(),
        LitmusVerdict::Allowed
    );
    // What stands behind it is never reached, so P0 waits for ever.
    let ended = answer(&text("iretq")).unwrap();
    assert!(!ended.has_ends, "{ended}");
    let text = |last: &str| {
        format!(
            "X86_64 T\n{{ x=0; y=0; }}\n P0 | P1 | P1.ipi ;\n ipi P1 | | movq $1,(x) ;\n \
             movq $1,(y) | movq (y),%rax | {last} ;\n mfence | movq (y),%rbx | ;\n \
             movq (x),%rcx | | ;\nexists (0:rcx=0 /\\ 1:rax=0 /\\ 1:rbx=1)\n"
        )
    };
    assert_eq!(
        answer(&text("iretq")).unwrap().verdict(),
        LitmusVerdict::Allowed
    );
}
