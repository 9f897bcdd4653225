//! Tests that can be read, and mean nothing: they get an error that says where, and no verdict.
#![allow(clippy::unwrap_used)] // A test that fails is to panic.

use lazytlb_litmus::{Options, read, run};
use lazytlb_model::CpuModel;

/// Init section, the cells of one thread, and what the error says.
const REFUSED: [(&str, &str, &str); 10] = [
    (
        "",
        "movq $23,%rbx ; movl $1,(%rbx) ; movq (x),%rax",
        "line 6, column 2: found the address 0x17",
    ),
    (
        "0:rbx=x;",
        "movl $1,6(%rbx)",
        "line 5, column 2: found 4 bytes at the address 0x1006",
    ),
    (
        "0:rbx=x;",
        "movq $1,8(%rbx)",
        "found the address 0x1008 in a register",
    ),
    (
        "VA(x)=0x1008;",
        "movq (x),%rax",
        "line 3, column 3: found `VA(x) = 0x1008`",
    ),
    (
        "VA(x)=0x800000000000;",
        "movq (x),%rax",
        "the start of a page of the lower half",
    ),
    (
        "VA(x)=0x2000; VA(y)=0x2000;",
        "movq (x),%rax",
        "a page of its own for each variable",
    ),
    (
        "VA(x)=0x2000; VA(x)=0x3000;",
        "movq (x),%rax",
        "a page of its own for each variable",
    ),
    (
        "",
        "movnti $1,(PA(x))",
        "line 5, column 2: found a non-temporal store without translation",
    ),
    (
        "",
        "invlpg (PA(x))",
        "line 5, column 2: found an operand without translation",
    ),
    (
        "",
        "invlpg (PTE(x))",
        "found an operand without translation",
    ),
];

fn test(init: &str, cells: &str) -> String {
    let cells = cells.replace(" ; ", " ;\n ");
    format!("X86_64 refused\nPaging=4\n{{ {init} }}\n P0 ;\n {cells} ;\nexists (x=1)\n")
}

#[test]
fn what_means_nothing_has_no_verdict() {
    for (init, cells, told) in REFUSED {
        let text = test(init, cells);
        let error = run(&read(&text).unwrap(), &Options::default()).expect_err(&text);
        assert!(error.to_string().contains(told), "{text}{error}");
    }
}

#[test]
fn what_the_machine_has_not_has_no_verdict() {
    let cases = [
        (
            "PCIDs=on",
            "nop",
            "x=1",
            "`PCIDs=on`, expected a CPU with PCIDs",
        ),
        (
            "Paging=5",
            "nop",
            "x=1",
            "`Paging=5`, expected a CPU with five levels",
        ),
        (
            "User=P0",
            "invlpg (x)",
            "x=1",
            "line 5, column 2: found a privileged instruction",
        ),
        (
            "User=P0",
            "cli",
            "x=1",
            "found a privileged instruction in a thread of ring 3",
        ),
        (
            "Paging=4",
            "movq (%rbx),%rax",
            "fault(P0,x)",
            "a fault told by its variable",
        ),
        (
            "Paging=4",
            "L: movq (%rbx),%rax",
            "fault(P0:L,x)",
            "a fault told by its variable",
        ),
    ];
    let options = Options {
        cpu_model: CpuModel::AMD_K10,
        ..Options::default()
    };
    for (setting, cell, condition, told) in cases {
        let text =
            format!("X86_64 T\n{setting}\n{{ x=1; }}\n P0 ;\n {cell} ;\nexists ({condition})\n");
        let error = run(&read(&text).unwrap(), &options).expect_err(&text);
        assert!(error.to_string().contains(told), "{text}{error}");
    }
}

#[test]
fn an_interrupt_without_a_handler_has_no_verdict() {
    for (columns, cells, told) in [
        (
            "P0 | P1",
            "ipi P1 | nop",
            "line 4, column 2: found `ipi P1` without a handler, expected a column `P1.ipi`",
        ),
        (
            "P0 | P1",
            "nmi P1 | nop",
            "line 4, column 2: found `nmi P1` without a handler, expected a column `P1.nmi`",
        ),
        ("P0 | P1 | P1.nmi", "ipi P1 | nop | nop", "`P1.ipi`"),
        ("P0 | P1 | P0.ipi", "ipi P1 | nop | nop", "`P1.ipi`"),
        ("P0 | P1 | P1.ipi", "nmi P1 | nop | nop", "`P1.nmi`"),
        ("P0 | P1 | P1.ipi", "nop | nop | nmi P0", "`P0.nmi`"),
        ("P0", "ipi P0", "`P0.ipi`"),
    ] {
        let text = format!("X86_64 T\n{{ x=1; }}\n {columns} ;\n {cells} ;\nexists (x=1)\n");
        let error = run(&read(&text).unwrap(), &Options::default()).expect_err(&text);
        assert!(error.to_string().contains(told), "{text}{error}");
    }
    for (columns, cells) in [
        ("P0 | P1 | P1.ipi", "ipi P1 | nop | nop"),
        ("P0 | P1.nmi | P1", "nmi P1 | nop | nop"),
        ("P0 | P0.ipi", "ipi P0 | nop"),
    ] {
        let text = format!("X86_64 T\n{{ x=1; }}\n {columns} ;\n {cells} ;\nexists (x=1)\n");
        assert!(
            run(&read(&text).unwrap(), &Options::default()).is_ok(),
            "{text}"
        );
    }
}

#[test]
fn a_fault_by_a_register_is_told_by_its_label() {
    let text = "X86_64 T\n{ x=1; 0:rbx=x; [PTE(x)]=(valid:0); }\n P0 ;\n L: movq (%rbx),%rax ;\n\
        movq (x),%rcx ;\nforall (fault(P0:L))\n";
    let answer = run(&read(text).unwrap(), &Options::default()).unwrap();
    assert_eq!((answer.positive(), answer.negative()), (1, 0), "{answer}");
}

#[test]
fn variables_without_an_address_keep_clear_of_those_with_one() {
    let text = "X86_64 clear\nPaging=4\n{ x=1; y=2; VA(y)=0x1000; }\n P0 ;\n movq (x),%rax ;\n \
        movq (y),%rbx ;\nforall (0:rax=1 /\\ 0:rbx=2)\n";
    let answer = run(&read(text).unwrap(), &Options::default()).unwrap();
    assert_eq!((answer.positive(), answer.negative()), (1, 0), "{answer}");
}

#[test]
fn a_word_may_hold_any_value_behind_page_tables() {
    for value in ["-1", "0x8000000000000000", "0x10000000000001"] {
        let text = format!(
            "X86_64 any\nPaging=4\n{{ x={value}; }}\n P0 ;\n movq (x),%rax ;\n\
             forall (0:rax={value})\n"
        );
        let answer = run(&read(&text).unwrap(), &Options::default()).unwrap();
        assert_eq!((answer.positive(), answer.negative()), (1, 0), "{answer}");
    }
}
