//! What a program names and its machine does not have is an error that says what to do: never a panic of the
//! checker, and never `safe`.
#![allow(missing_docs, clippy::expect_used)]

use lazytlb::{
    Access, CpuId, CpuSet, Cr3Load, Entry, FlushRange, Hw, Memory, PhysAddr, Until, VirtAddr,
};
use lazytlb_check::{CheckError, Checker, ModelHw, Program, Reduction};
use lazytlb_model::{
    AtomicCell, Broadcast, Cr4, Features, Invpcid, LocalCell, MemoryModel, Privilege, Rmw,
};

/// Checks that a program is refused in words, however it is searched.
#[track_caller]
fn is_refused(program: &Program, named: &[&str]) {
    for checker in [
        Checker::new(),
        Checker::new().reduction(Reduction::None).threads(2),
        Checker::new().memory(MemoryModel::Sc),
    ] {
        let error = checker
            .try_check(program, |_| {})
            .expect_err("the program makes no sense");
        let CheckError::Limit(message) = &error else {
            panic!("{error:?}");
        };
        for text in named {
            assert!(message.contains(text), "{text} is not in: {message}");
        }
        checker.outcomes(program).expect_err("and has no ends");
    }
}

/// Checks that the code of an operation is refused, by its name.
#[track_caller]
fn call_is_refused(named: &[&str], run: impl Fn(&ModelHw) + Send + Sync + 'static) {
    let mut program = Program::new("misuse", 2);
    program.atomic("word", 5);
    program.local(0, "own", 0);
    program.table();
    program.operation(0, "do it", run);
    is_refused(&program, &[&["\"do it\"", "CPU 0"], named].concat());
}

#[track_caller]
fn declaration_is_refused(named: &[&str], declare: impl FnOnce(&mut Program)) {
    let mut program = Program::new("misuse", 2);
    declare(&mut program);
    is_refused(&program, named);
}

const WORD: AtomicCell = AtomicCell(0);
const TABLE: PhysAddr = PhysAddr(1 << 12);
const NO_FRAME: PhysAddr = PhysAddr(77 << 12);

#[test]
fn a_cell_of_another_program() {
    const FOREIGN: AtomicCell = AtomicCell(7);
    let named = ["cell 7", "another program", "Program::atomic"];
    call_is_refused(&named, |hw| hw.store(&FOREIGN, 1));
    call_is_refused(&named, |hw| {
        hw.load(&FOREIGN);
    });
    call_is_refused(&named, |hw| {
        hw.fetch_add(&FOREIGN, 1);
    });
    call_is_refused(&named, |hw| hw.pause_until(&FOREIGN, Until::Zero));
    call_is_refused(&named, |hw| hw.store_bytes(&FOREIGN, 1, 1));
    call_is_refused(&named, |hw| {
        hw.locked_rmw(&FOREIGN, 1, Rmw::Or, 1);
    });
    let named = ["private cell 3 of CPU 0", "has made 1", "Program::local"];
    for index in [3, 200] {
        let own = LocalCell { owner: 0, index };
        call_is_refused(&named[1..], move |hw| hw.store_local(&own, 1));
        call_is_refused(&named[1..], move |hw| {
            hw.load_local(&own);
        });
    }
    let nobodys = LocalCell { owner: 9, index: 0 };
    call_is_refused(&["CPU 9", "Program::local"], move |hw| {
        hw.load_local(&nobodys);
    });
}

#[test]
fn an_access_of_no_bytes_or_of_bytes_that_are_apart() {
    let all = ["0 bytes", "0xff"];
    call_is_refused(&all, |hw| {
        hw.locked_rmw(&WORD, 0, Rmw::Add, 1);
    });
    call_is_refused(&all, |hw| hw.store_bytes(&WORD, 0, 1));
    let apart = ["0b00000101", "side by side"];
    call_is_refused(&apart, |hw| {
        hw.locked_rmw(&WORD, 0b101, Rmw::Add, 1);
    });
    call_is_refused(&apart, |hw| {
        hw.rmw_virtual(VirtAddr(0), 0b101, Rmw::Add, 1, Privilege::User);
    });
}

#[test]
fn an_interrupt_that_nobody_handles() {
    let named = ["IPI", "no handler", "Program::on_flush_interrupt"];
    call_is_refused(&named, |hw| {
        let mut targets = CpuSet::<1>::EMPTY;
        targets.insert(CpuId(1));
        hw.send_ipi(&targets);
    });
    call_is_refused(&["NMI", "no handler", "Program::on_nmi"], |hw| {
        hw.send_nmi(0b10);
    });
    // To nobody at all, it needs none.
    let mut program = Program::new("to nobody", 1);
    program.operation(0, "send", |hw| hw.send_ipi(&CpuSet::<1>::EMPTY));
    assert!(Checker::new().try_check(&program, |_| {}).is_ok());
}

#[test]
fn an_nmi_handler_is_a_use_of_nmis_whatever_the_features_say() {
    let mut program = Program::new("nmi", 2);
    let seen = program.atomic("seen", 0);
    program.on_nmi(move |hw| hw.store(&seen, 1));
    *program.features() = Features::small();
    program.operation(0, "send", |hw| hw.send_nmi(0b10));
    program.operation(1, "look", move |hw| assert!(hw.load(&seen) == 0, "it came"));
    let verdict = Checker::new().check(&program);
    assert!(verdict.violation().is_some(), "the NMI's handler runs");
}

#[test]
fn an_index_past_the_end_of_a_table() {
    let named = ["index 512", "0 to 511"];
    call_is_refused(&named, |hw| hw.write_entry(TABLE, 512, Entry::ABSENT));
    call_is_refused(&named, |hw| {
        hw.read_entry(TABLE, 512);
    });
    call_is_refused(&named, |hw| {
        hw.rmw_entry(TABLE, 512, Rmw::Or, Entry(1));
    });
    declaration_is_refused(&named, |program| {
        let table = program.table();
        program.first_entry(table, 512, Entry::to(table));
    });
    declaration_is_refused(&named, |program| {
        let table = program.table();
        program.watch_entry(table, 512);
    });
}

#[test]
fn a_frame_that_is_none() {
    let named = ["frame 77", "Program::table"];
    call_is_refused(&named, |hw| hw.write_entry(NO_FRAME, 0, Entry::ABSENT));
    call_is_refused(&named, |hw| hw.free_frame(NO_FRAME));
    call_is_refused(&named, |hw| hw.read_device(NO_FRAME));
    call_is_refused(&named, |hw| hw.load_cr3(NO_FRAME, Cr3Load::Flush));
    call_is_refused(&named, |hw| hw.flush_begins(NO_FRAME, FlushRange::All));
    for frame in [NO_FRAME, PhysAddr(7 << 40)] {
        let named = ["frame", "Program::table"];
        declaration_is_refused(&named, |program| program.start_with_root(frame));
        declaration_is_refused(&named, |program| {
            program.first_entry(frame, 0, Entry::ABSENT);
        });
        declaration_is_refused(&["frame", "Program::page"], |program| {
            let word = program.atomic("word", 0);
            program.give_word(frame, word);
        });
    }
    declaration_is_refused(&["cell 9", "another program"], |program| {
        program.page_with_word(AtomicCell(9));
    });
    // The index is one, not a part of the address.
    call_is_refused(&["0x1008", "did you mean 0x1000"], |hw| {
        hw.write_entry(PhysAddr(TABLE.0 + 8), 0, Entry::ABSENT);
    });
}

#[test]
fn an_address_that_no_page_table_of_the_program_translates() {
    let kernel = VirtAddr(0xffff_8000_0000_0000);
    let named = ["0xffff800000000000", "features().levels"];
    call_is_refused(&named, move |hw| hw.touch(kernel, Access::Load));
    call_is_refused(&named, move |hw| {
        hw.load_virtual(kernel, Privilege::Supervisor);
    });
    call_is_refused(&named, move |hw| {
        hw.fetch(kernel, Privilege::Supervisor);
    });
}

#[test]
fn what_the_features_leave_out() {
    call_is_refused(&["non-temporal", "features().write_combining"], |hw| {
        hw.touch_non_temporal(VirtAddr(0));
    });
    call_is_refused(&["CR4", "features().tags"], |hw| hw.write_cr4(Cr4::PGE));
    declaration_is_refused(&["0 levels", "features().levels"], |program| {
        program.features().levels = 0;
    });
}

#[test]
fn a_pcid_that_has_no_number() {
    let named = ["PCID 300", "0 to 255"];
    let calls: [fn(&ModelHw); 3] = [
        |hw| hw.load_cr3_with_pcid(PhysAddr(0), 300, Cr3Load::Flush),
        |hw| hw.invpcid(Invpcid::Pcid(300)),
        |hw| {
            hw.invlpgb(Broadcast {
                addr: None,
                pcid: Some(300),
                globals: false,
                final_only: false,
            });
        },
    ];
    for run in calls {
        let mut program = Program::new("pcids", 1);
        program.start_with_cr4(Cr4::PCIDE);
        program.features().broadcasts = true;
        program.operation(0, "do it", run);
        is_refused(&program, &named);
    }
}

#[test]
fn a_cpu_that_the_program_does_not_have() {
    let named = ["CPU 9", "Program::new"];
    declaration_is_refused(&named, |program| {
        program.local(9, "word", 0);
    });
    declaration_is_refused(&named, |program| program.operation(9, "nothing", |_| {}));
}

#[test]
fn a_store_buffer_that_lets_no_store_through() {
    let mut program = Program::new("depth", 1);
    let word = program.atomic("word", 0);
    program.operation(0, "store", move |hw| hw.store(&word, 1));
    let checker = Checker::new().memory(MemoryModel::Tso { buffer_depth: 0 });
    let error = checker
        .try_check(&program, |_| {})
        .expect_err("no store would ever drain");
    assert!(error.to_string().contains("MemoryModel::Sc"), "{error}");
}
