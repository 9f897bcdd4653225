//! Reads a translation test that uses most of the extension.

use lazytlb_litmus_syntax::{Handler, InitItem, Instruction, Quantifier};

const TEST: &str = r#"X86_64 shootdown
"unmap, then tell the other CPU"
Rule=H13,H38
Expect=Forbidden
Expect@amd-k10=Allowed
PCIDs=on
{
  x = 1; uint64_t y; frame F; table T; device D;
  VA(y) = 0x200000;
  [PTE(x)] = (oa:PA(x), w:0); [PDE(y,B)] = (oa:PA(F), ps:1, g:1);
  [T[3]] = (valid:0); [T[x]] = (oa:PA(x), type:uc);
  [PDE(x)] = (oa:T); [PDPTE(x,B)] = (oa:PD(x)); [PA(F)] = 2; 1:rbx = PTE(x);
}
 P0                              | P1                             | P1.ipi     ;
 movq $(valid:0), (PTE(x))       | L0: movq (x), %rax             | invlpg (x) ;
 mfence                          | movq (%rbx), %rcx              |            ;
 ipi P1                          | fetch (y)                      |            ;
 wait (y), $1                    | invpcid $0, $1, (x)            |            ;
 movq $CR3(B, pcid:2, keep),%cr3 | movq $CR4(pge:0, pcide:1)      |            ;
 invlpgb $(va:x, stride:2m)      | movnti $1,(D)                  |            ;
 tlbsync                         | lock; orq $1, (PTE(x,B))       |            ;
 (* a comment *) cli             | sti                            | cpuid      ;
locations [x; [PTE(x)]; 1:rax;]
~exists (1:rax=1 /\ ~fault(P1:L0,x) /\ a(PTE(x))=1 /\ d(1:rcx)=0
         /\ [PTE(x)]=(valid:0) \/ violation(multiple-match))
<< ignored >>
"#;

#[test]
fn the_extension_is_read() {
    let test = lazytlb_litmus_syntax::read(TEST).expect("reads");
    assert_eq!(test.metadata("Expect@amd-k10"), Some("Allowed"));
    assert_eq!(test.init.len(), 14);
    assert!(
        test.init
            .iter()
            .any(|item| item.value == InitItem::Table("T".into()))
    );
    let lengths: Vec<_> = test
        .threads
        .iter()
        .map(|thread| thread.instructions.len())
        .collect();
    assert_eq!(lengths, [8, 9, 2]);
    assert_eq!(test.threads[2].handler, Some(Handler::Ipi));
    assert_eq!(
        test.threads[1].instructions[0].value,
        Instruction::Label("L0".into())
    );
    assert_eq!(test.condition.quantifier, Quantifier::NotExists);
    assert_eq!(test.locations.len(), 3);
}

#[test]
fn no_prefix_of_a_test_panics() {
    for (end, _) in TEST.char_indices() {
        let _ = lazytlb_litmus_syntax::read(&TEST[..end]);
    }
}
