//! Names that nothing has, in conditions and where else a slip would go unnoticed: each is an error with its
//! place. An answer would be wrong without a word: of what is not there, every fact is false.
#![allow(clippy::unwrap_used)] // A test that fails is to panic.

use lazytlb_litmus::{Answer, LitmusVerdict, Options, RunError, read, run};

/// A test with a spare frame, a spare table, a second space and a label. What is `asked` stands in line 5.
fn answer(init: &str, asked: &str) -> Result<Answer, RunError> {
    let text = format!(
        "X86_64 T\n{{ frame F; table T; x=1; [PTE(x,B)]=(oa:PA(x)); {init} }}\n P0 ;\n \
         L: movq (x),%rax ;\n{asked}\n"
    );
    run(&read(&text).unwrap(), &Options::default())
}

fn refused(init: &str, asked: &str, told: &str) {
    match answer(init, asked) {
        Err(RunError::Meaning(error)) => {
            assert!(error.to_string().contains(told), "{init} {asked}\n{error}");
        }
        other => panic!("{init} {asked}\n{other:?}"),
    }
}

#[test]
fn a_condition_with_an_unknown_name_is_an_error_with_its_place() {
    for (fact, name) in [
        ("oa(PTE(x))=PA(yy)", "`yy`"),
        ("oa(PTE(x))!=PA(yy)", "`yy`"),
        ("oa(PTE(x))=PT(z)", "`z`"),
        ("oa(PTE(x))=PT(x,Q)", "`Q`"),
        ("oa(PTE(x))=T9", "`T9`"),
        ("oa(PTE(x))=ROOT(Q)", "`Q`"),
        ("oa(0:rax)=PA(yy)", "`yy`"),
        ("[PTE(x)]=(oa:PA(yy))", "`yy`"),
        ("[PTE(x)]=(oa:T9)", "`T9`"),
        ("a(PTE(zz))=1", "`zz`"),
        ("a(PTE(x,Q))=1", "`Q`"),
        ("T9[3]=(valid:0)", "`T9[`"),
        ("T[zz]=(valid:0)", "`zz`"),
        ("yy=0", "`yy`"),
        ("[PA(yy)]=0", "`yy`"),
        ("0:rax=yy", "`yy`"),
        ("0:rax=PTE(yy)", "`yy`"),
        ("7:rax=0", "thread 7"),
        ("fault(P7,x)", "thread 7"),
        ("fault(P0,yy)", "`yy`"),
        ("fault(P0:M,x)", "`M`"),
        ("violation(never)", "`never`"),
    ] {
        let told = format!("line 5, column 19: found {name}, expected");
        for quantifier in ["   exists", "~  exists", "   forall"] {
            refused("", &format!("{quantifier} (x=1 /\\ {fact})"), &told);
        }
        let told = format!("line 5, column 9: found {name}, expected");
        refused("", &format!("filter ({fact}) exists (x=1)"), &told);
    }
}

#[test]
fn a_condition_may_ask_for_all_that_a_test_has() {
    for (fact, expected) in [
        ("oa(PTE(x))=PA(x)", LitmusVerdict::Allowed),
        ("oa(PTE(x,B))=PA(x)", LitmusVerdict::Allowed),
        ("oa(PTE(x))=PA(F)", LitmusVerdict::Forbidden),
        ("oa(PTE(x))=T", LitmusVerdict::Forbidden),
        ("oa(PDE(x,B))=PT(x,B)", LitmusVerdict::Allowed),
        ("oa(PML4E(x))=PDPT(x)", LitmusVerdict::Allowed),
        ("oa(PTE(x))=ROOT(B)", LitmusVerdict::Forbidden),
        ("T[x]=(valid:0)", LitmusVerdict::Allowed),
        ("0:rax=x", LitmusVerdict::Forbidden),
        ("fault(P0:L,x)", LitmusVerdict::Forbidden),
    ] {
        let answer = answer("", &format!("exists ({fact})")).unwrap();
        assert_eq!(answer.verdict(), expected, "{answer}");
    }
}

#[test]
fn locations_are_looked_up_like_conditions_but_may_name_a_new_variable() {
    refused("", "locations [7:rax;] exists (x=1)", "found thread 7");
    refused("", "locations [PTE(zz);] exists (x=1)", "found `zz`");
    refused("", "locations [PTE(x,Q);] exists (x=1)", "found `Q`");
    let answer = answer("", "locations [new;] exists (x=1)").unwrap();
    assert_eq!(answer.states[0].text, "[new]=0; [x]=1;");
}

#[test]
fn an_init_section_with_an_unknown_name_is_an_error_with_its_place() {
    let asked = "exists (x=1)";
    for (init, told) in [
        ("7:rax=1;", "line 2, column 49: found thread 7"),
        ("uint64_t 7:rax;", "line 2, column 49: found thread 7"),
        ("y=F;", "line 2, column 49: found `F`, expected a number"),
        (
            "VA(F)=0x9000;",
            "column 49: found `VA(F) = 0x9000`, expected a variable",
        ),
        ("frame T;", "column 49: found `T` for things of two kinds"),
        ("device F;", "column 49: found `F` for things of two kinds"),
        ("T=3;", "column 12: found `T` for things of two kinds"),
        ("[PTE(x)]=(oa:T9);", "column 49: found `T9`"),
    ] {
        refused(init, asked, told);
    }
}

#[test]
fn a_spare_frame_starts_with_what_init_says() {
    let answer = answer("[PA(F)]=2;", "forall (PA(F)=2)").unwrap();
    assert_eq!((answer.positive(), answer.negative()), (1, 0), "{answer}");
}

#[test]
fn an_entry_that_init_leaves_empty_has_an_address_of_its_own() {
    let text = "X86_64 T\n{ x=1; 0:rbx=PTE(x,B); }\n P0 ;\n movq $(oa:PA(x)),(%rbx) ;\n\
                forall ([PTE(x,B)]=(oa:PA(x)))\n";
    let answer = run(&read(text).unwrap(), &Options::default()).unwrap();
    assert_eq!((answer.positive(), answer.negative()), (1, 0), "{answer}");
}

#[test]
fn what_cannot_be_fetched_is_not_skipped() {
    for (init, cell) in [
        ("", "fetch (PTE(x))"),
        ("", "fetch (PA(x))"),
        ("0:rbx=PTE(x);", "fetch (%rbx)"),
    ] {
        let text = format!("X86_64 T\n{{ x=1; {init} }}\n P0 ;\n {cell} ;\nexists (x=1)\n");
        let error = run(&read(&text).unwrap(), &Options::default()).expect_err(&text);
        let told = "line 4, column 2: found an operand without translation";
        assert!(error.to_string().contains(told), "{text}{error}");
    }
}

#[test]
fn memory_becomes_write_combining_by_any_instruction() {
    for change in [
        "movq $(oa:PA(x), type:wc), (PTE(x))",
        "lock orq $(oa:PA(x), type:wc), (PTE(x))",
    ] {
        let text = format!(
            "X86_64 T\n{{ x=0; y=0; }}\n P0 | P1 ;\n {change} | ;\n invlpg (x) | ;\n \
             movq $1,(x) | movq (y),%rax ;\n movq $1,(y) | movq (PA(x)),%rbx ;\n\
             exists (1:rax=1 /\\ 1:rbx=0)\n"
        );
        let answer = run(&read(&text).unwrap(), &Options::default()).unwrap();
        assert_eq!(answer.verdict(), LitmusVerdict::Allowed, "{text}{answer}");
    }
}
