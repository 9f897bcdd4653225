//! Instructions that read and write some bytes of a page-table entry, of every width, with LOCK and without.
#![allow(clippy::unwrap_used)] // A test that fails is to panic.

use lazytlb_litmus::{LitmusVerdict, Options, read, run};

/// The entry of x at the end of a thread, and what its first cell read into rcx, as the answer tells them.
fn after(line: &str, cells: &str) -> String {
    let text = format!(
        "X86_64 T\n{line}\n{{ x=1; 0:rbx=PTE(x); 0:rcx=0; 0:rdx=0xfe; }}\n P0 ;\n {cells} ;\n\
         locations [0:rcx; PTE(x);]\nexists (x=1)\n"
    );
    let answer = run(&read(&text).unwrap(), &Options::default()).unwrap();
    assert_eq!(answer.verdict(), LitmusVerdict::Allowed, "{answer}");
    let states: Vec<&str> = answer.states.iter().map(|state| &*state.text).collect();
    states.join(" or ")
}

#[test]
fn every_width_changes_its_bytes_alone() {
    let present = "0:rcx=0; [PTE(x)]=(oa:PA(x));";
    let absent = "0:rcx=0; [PTE(x)]=(oa:PA(x), valid:0);";
    let executable = "0:rcx=0; [PTE(x)]=(oa:PA(x), nx:1);";
    let empty = "0:rcx=0; [PTE(x)]=(valid:0); [x]=1;";
    for (cells, expected) in [
        ("lock andb $0xfe,(PTE(x))", absent),
        ("andb $0xfe,(PTE(x))", absent),
        ("andb %dl,(%rbx)", absent),
        ("lock btr $0,(PTE(x))", absent),
        ("lock btrl $0,(PTE(x))", absent),
        ("btrw $0,(PTE(x))", absent),
        ("lock andl $0xfffffffe,(PTE(x))", absent),
        ("lock andw $0xfffe,(%rbx)", absent),
        ("lock subb $1,(PTE(x))", absent),
        ("lock orl $0x80000000,4(%rbx)", executable),
        ("movb $0x80,7(%rbx)", executable),
        ("lock orb $0x80,7(%rbx)", executable),
        ("movw $0,6(%rbx)", present),
        ("movl $0,(PTE(x))", empty),
        ("movl $0,(%rbx)", empty),
    ] {
        let told = after("", cells);
        assert!(
            told.starts_with(expected.trim_end_matches(" [x]=1;")),
            "{cells}: {told}"
        );
    }
}

#[test]
fn what_was_there_is_answered_in_the_width() {
    for (cells, expected) in [
        ("movb (PTE(x)),%cl", "0:rcx=103;"),
        ("lock xaddb %cl,(PTE(x))", "0:rcx=103;"),
        ("xchgb %cl,(PTE(x))", "0:rcx=103;"),
        ("movb 7(%rbx),%cl", "0:rcx=0;"),
    ] {
        let told = after("", cells);
        assert!(told.starts_with(expected), "{cells}: {told}");
    }
}

#[test]
fn a_mapped_table_takes_stores_of_bytes_too() {
    let text = "X86_64 T\n{ x=1; y=2; VA(x)=0x200000; [PTE(y)]=(oa:PT(x)); }\n P0 ;\n \
                andb $0xfe,(y) ;\n invlpg (x) ;\n L: movq (x),%rax ;\nforall (fault(P0:L,x))\n";
    let answer = run(&read(text).unwrap(), &Options::default()).unwrap();
    assert_eq!(answer.is_ok(), Some(true), "{answer}");
}

#[test]
fn where_a_and_d_are_tracked_they_are_among_the_bytes_or_the_instruction_is_locked() {
    let locked = after("Accessed=on", "lock orb $0x80,7(%rbx)");
    assert!(locked.contains("nx:1"), "{locked}");
    let text = "X86_64 T\nAccessed=on\n{ x=1; 0:rbx=PTE(x); }\n P0 ;\n movb $0x80,7(%rbx) ;\nexists (x=1)\n";
    let error = run(&read(text).unwrap(), &Options::default()).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("beside A and D, which are tracked"),
        "{error}"
    );
}
