//! The lines `Key=Value` of a header: what changes the meaning is never taken for a comment, and what herd's
//! tools write for themselves changes nothing.
#![allow(clippy::unwrap_used)] // A test that fails is to panic.

use lazytlb_litmus::{Answer, LitmusVerdict, Options, RunError, read, run};
use lazytlb_model::CpuModel;

/// A test in which P0 loads x, with a line before the init section.
fn answer_on(cpu_model: CpuModel, line: &str) -> Result<Answer, RunError> {
    let text = format!(
        "X86_64 T\n\"a title\"\n{line}\n{{ x=1; }}\n P0 ;\n movq (x),%rax ;\nexists (0:rax=1)\n"
    );
    let options = Options {
        cpu_model,
        ..Options::default()
    };
    run(&read(&text).unwrap(), &options)
}

fn answer(line: &str) -> Result<Answer, RunError> {
    answer_on(CpuModel::WEAKEST, line)
}

fn refused(line: &str, told: &str) {
    match answer(line) {
        Err(RunError::Meaning(error)) => {
            assert_eq!(error.line, 3, "{line}\n{error}");
            assert!(error.to_string().contains(told), "{line}\n{error}");
        }
        other => panic!("{line}\n{other:?}"),
    }
}

#[test]
fn a_key_that_is_misspelt_or_in_the_wrong_case_is_an_error_with_the_nearest() {
    for (line, nearest) in [
        ("PCID=on", "`PCIDs`"),
        ("PCIDS=on", "`PCIDs`"),
        ("pcids=on", "`PCIDs`"),
        ("Users=P0", "`User`"),
        ("user=P0", "`User`"),
        ("paging=4", "`Paging`"),
        ("Pagging=4", "`Paging`"),
        ("Acessed=on", "`Accessed`"),
        ("ACCESSED=on", "`Accessed`"),
        ("Globals=off", "`Global`"),
        ("wc=retired", "`WC`"),
        ("Ipi=xapic", "`IPI`"),
        ("mt=x:UC", "`MT`"),
        ("Memorytype=x:UC", "`MemoryType`"),
        ("Memory=x:UC", "`MemoryType`"),
        ("expect=Allowed", "`Expect`"),
        ("Expects=Allowed", "`Expect`"),
        ("Except=Allowed", "`Expect`"),
        ("Cpu=weakest", "`CPU`"),
        ("rule=H1", "`Rule`"),
        ("Cylce=Fre", "`Cycle`"),
        ("EL0=P0", "`User`"),
        ("TTHM=HA", "`Accessed`"),
    ] {
        refused(line, "line 3, column 1: found");
        refused(line, &format!("the nearest is {nearest}"));
    }
    refused(
        "Frobnication=on",
        "those that set something are Paging, PCIDs",
    );
}

#[test]
fn a_setting_in_free_text_is_an_error() {
    for (line, place) in [
        (
            "with PCIDs=on",
            "line 3, column 6: found `PCIDs` in free text",
        ),
        ("-PCIDs=on", "column 2: found `PCIDs`"),
        ("PCIDs: on", "column 1: found `PCIDs`"),
        ("* user: P0", "column 3: found `user`"),
        ("set paging = 5;", "column 5: found `paging`"),
        ("and Expect@amd-k10: Allowed", "column 5: found `Expect`"),
    ] {
        refused(line, place);
    }
    for line in [
        "two CPUs, each with PCIDs",
        "Note: an interrupt",
        "P0: a load",
        "Author: the user",
        "IPI is an interrupt",
    ] {
        assert!(answer(line).is_ok(), "{line}");
    }
}

#[test]
fn a_key_with_a_colon_is_an_error_with_the_right_spelling() {
    for (line, right) in [
        ("Expect: Forbidden", "`Expect=`"),
        ("Expect : Forbidden", "`Expect=`"),
        ("expect:Forbidden", "`Expect=`"),
        ("Expect@amd-k10: Forbidden", "`Expect@amd-k10=`"),
        ("CPU: amd-k10", "`CPU=`"),
        ("PCIDs: on", "`PCIDs=`"),
        ("PCIDs: yes", "`PCIDs=`"),
        ("Paging: 4", "`Paging=`"),
        ("Global: off", "`Global=`"),
        ("Accessed: on", "`Accessed=`"),
        ("User: P0", "`User=`"),
        ("User: all", "`User=`"),
        ("WC: retired", "`WC=`"),
        ("IPI: xapic", "`IPI=`"),
        ("KeepLoads: end-walks", "`KeepLoads=`"),
        ("MT: x:UC", "`MT=`"),
        ("MemoryType: x:UC", "`MemoryType=`"),
        ("Rule: H1", "`Rule=`"),
        ("Because: it is so", "`Because=`"),
        ("PCID: on", "`PCIDs=`"),
        ("Expected: Forbidden", "`Expect=`"),
    ] {
        refused(line, "line 3, column 1: found");
        refused(line, right);
    }
}

#[test]
fn values_that_a_key_cannot_have_are_errors_at_its_line() {
    for line in [
        "Paging=3",
        "Paging=",
        "Paging=4 PCIDs=on",
        "PCIDs=yes",
        "PCIDs=On",
        "Global=0",
        "Accessed=1",
        "User=P7",
        "User=0",
        "User=",
        "WC=later",
        "WC=sfnce:retired",
        "IPI=apic",
        "MT=x",
        "MT=",
        "MT=x:WT",
        "MT=x:WP",
        "MT=x:UC,x:WB",
        "MT=nowhere:UC",
        "Expect=Perhaps",
        "Expect=allowed",
        "Expect@amd-k11=Allowed",
        "Expect@amd-k10=No",
        "CPU=amd-k11",
        "Variant=memtag",
        "PCIDs=on\nPCIDs=off",
        "Expect=Allowed\nExpect=Forbidden",
        "MT=x:UC\nMemoryType=x:WC",
    ] {
        let Err(RunError::Meaning(error)) = answer(line) else {
            panic!("{line}");
        };
        let expected = 3 + line.lines().count() - 1;
        assert_eq!(error.line, expected, "{line}\n{error}");
    }
    let told = |line| answer_on(CpuModel::AMD_K10, line).unwrap_err().to_string();
    assert!(told("PCIDs=on").starts_with("line 3, column 1"));
    assert!(told("Paging=5").starts_with("line 3, column 1"));
}

#[test]
fn what_herds_tools_write_is_harmless_in_any_case() {
    let lines = [
        "Generator=diy7 (version 7.57+1)",
        "Com=Rf Fr",
        "Orig=PodWW Rfe PodRR Fre",
        "Cycle=Fre PodWR",
        "Relax=",
        "Safe=Fre PodWR",
        "Prefetch=0:x=F,0:y=T",
        "Hash=b3d8a8cf9c1d1e2f",
        "Doc=SB",
        "Author=N. N.",
        "Libdir=/usr/share/herd",
        "Stable=X",
        "Align=x:64",
        "Variant=mixed",
        "hash=0",
        "Rule=H1",
        "Because=of this",
    ];
    for line in lines {
        let answer = answer(line).unwrap();
        assert_eq!(answer.verdict(), LitmusVerdict::Allowed, "{line}");
    }
    assert!(answer(&lines.join("\n")).is_ok());
}

#[test]
fn herds_memory_types_mean_the_type_of_the_entry() {
    let stores = |init: &str, line: &str| {
        let text = format!(
            "X86_64 T\n{line}\n{{ x=0; y=0; {init} }}\n P0 | P1 ;\n movl $1,(x) | movl (y),%eax ;\n \
             movl $1,(y) | movl (x),%ebx ;\nexists (1:rax=1 /\\ 1:rbx=0)\n"
        );
        let answer = run(&read(&text).unwrap(), &Options::default()).unwrap();
        answer.verdict()
    };
    let (allowed, forbidden) = (LitmusVerdict::Allowed, LitmusVerdict::Forbidden);
    assert_eq!(stores("[PTE(x)]=(oa:PA(x), type:wc);", ""), allowed);
    for line in ["MT=x:WC", "MT=x:wc y:WB", "MemoryType=y:WB, x:WC"] {
        assert_eq!(stores("", line), allowed, "{line}");
    }
    for line in ["", "MT=x:WB", "MT=x:UC"] {
        assert_eq!(stores("", line), forbidden, "{line}");
    }
    let loads = |line: &str| {
        let text = format!(
            "X86_64 T\n{line}\n{{ x=0; y=0; }}\n P0 | P1 ;\n movl $1,(x) | movl $1,(y) ;\n \
             movl (y),%eax | movl (x),%eax ;\nexists (0:rax=0 /\\ 1:rax=0)\n"
        );
        let answer = run(&read(&text).unwrap(), &Options::default()).unwrap();
        answer.verdict()
    };
    assert_eq!(loads(""), allowed);
    assert_eq!(loads("MT=x:UC y:UC"), forbidden);
}

#[test]
fn a_type_in_the_header_and_an_entry_in_the_init_section_are_one_too_many() {
    let text = "X86_64 T\nMT=x:UC\n{ x=1; [PTE(x)]=(oa:PA(x)); }\n P0 ;\n movq (x),%rax ;\n\
                exists (0:rax=1)\n";
    let error = run(&read(text).unwrap(), &Options::default()).unwrap_err();
    let told = "line 2, column 1: found a memory type for `x`, whose entry the init section sets";
    assert!(error.to_string().contains(told), "{error}");
}

#[test]
fn the_expected_verdict_is_the_models_own_first() {
    let expected = |line: &str| answer(line).unwrap().expected;
    let (allowed, forbidden) = (LitmusVerdict::Allowed, LitmusVerdict::Forbidden);
    assert_eq!(expected(""), None);
    assert_eq!(expected("Expect=Allowed"), Some(allowed));
    assert_eq!(
        expected("Expect@weakest=Forbidden\nExpect=Allowed"),
        Some(forbidden)
    );
    assert_eq!(
        expected("Expect@amd-k10=Forbidden\nExpect=Allowed"),
        Some(allowed)
    );
    assert_eq!(expected("Expect=Forbidden\nCPU=amd-k10, amd-zen3"), None);
    assert_eq!(expected("Expect=Forbidden\nCPU=weakest"), Some(forbidden));
    let answer = answer("Expect=Forbidden").unwrap();
    assert!(answer.differs());
    assert!(
        answer.to_string().contains("\nExpected: Forbidden"),
        "{answer}"
    );
}
