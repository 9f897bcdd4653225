//! Feeds the reader with noise: bytes, and words of the syntax in no order.

use lazytlb_litmus_syntax::{read, read_bytes};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

const WORDS: &[&str] = &[
    "X86_64 T",
    "X86 T",
    "{",
    "}",
    "(",
    ")",
    "[",
    "]",
    "(*",
    "*)",
    "<<",
    ">>",
    "\"",
    "\n",
    "\r\n",
    "\t",
    "|",
    ";",
    ",",
    ":",
    "=",
    "!=",
    "<>",
    "=>",
    "==",
    "$",
    "%",
    ".",
    "-",
    "+",
    "*",
    "~",
    "/\\",
    "\\/",
    "&",
    "x",
    "y",
    "T[3]",
    "T[x]",
    "[x]",
    "(x)",
    "(%rax)",
    "8(%rax)",
    "x(%rip)",
    "[EAX]",
    "P0",
    "P1",
    "P1.ipi",
    "P1.nmi",
    "P0 ;",
    "P0 | P1 ;",
    "L0:",
    "0:rax",
    "0:EAX",
    "1:",
    "%eax",
    "%rax",
    "%cr3",
    "%cr4",
    "EAX",
    "$1",
    "$-1",
    "$x",
    "$0x10",
    "18446744073709551616",
    "-9223372036854775808",
    "0x",
    "2m",
    "0",
    "1",
    "int",
    "uint64_t",
    "frame",
    "table",
    "device",
    "VA(x)",
    "PA(x)",
    "PTE(x)",
    "PDE(x,B)",
    "PT(x)",
    "ROOT(A)",
    "(oa:PA(y), w:0)",
    "(valid:0)",
    "oa:",
    "type:wc",
    "a(PTE(x))",
    "mov",
    "movq",
    "movl",
    "MOV",
    "xchgl",
    "lock",
    "lock;",
    "incl",
    "xaddl",
    "cmpxchg",
    "addb",
    "mfence",
    "nop",
    "movnti",
    "invlpg",
    "invpcid",
    "invlpgb",
    "$CR3(A)",
    "$CR3(B, pcid:2, keep)",
    "$CR4(pge:0)",
    "$(va:x, stride:2m)",
    "tlbsync",
    "cpuid",
    "cli",
    "sti",
    "hlt",
    "ipi",
    "nmi",
    "wait",
    "fetch",
    "exists",
    "not",
    "forall",
    "final",
    "filter",
    "locations",
    "true",
    "false",
    "fault(P0,x)",
    "violation(a-b)",
    "with",
    "Key=Value",
    "\u{e9}",
    "\u{feff}",
    "@",
    "'",
];

/// Starts that bring the noise to each part of a file.
const STARTS: &[&str] = &[
    "",
    "X86_64 T\n",
    "X86_64 T\n{",
    "X86_64 T\n{}\n",
    "X86_64 T\n{}\nP0 | P1 ;\n",
    "X86 T\n{}\nP0 ;\n",
    "X86_64 T\n{}\nP0 ;\nexists ",
    "X86_64 T\n{}\nP0 ;\nexists (x=1) ",
    "X86_64 T\n{}\nP0 ;\nlocations [",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_never_panic(start in select(STARTS), bytes in vec(any::<u8>(), 0..400)) {
        let _ = read_bytes(&bytes);
        let _ = read_bytes(&[start.as_bytes(), &bytes].concat());
    }

    #[test]
    fn words_of_the_syntax_never_panic(
        start in select(STARTS),
        words in vec((select(WORDS), any::<bool>()), 0..80),
    ) {
        let mut text = String::from(start);
        for (word, blank) in words {
            text.push_str(word);
            if blank {
                text.push(' ');
            }
        }
        if let Err(error) = read(&text) {
            // Behind the last line feed stands an empty line, so there is one more line than feeds.
            prop_assert!(error.line <= text.matches('\n').count() + 1);
            prop_assert!(error.column >= 1);
        }
    }
}
