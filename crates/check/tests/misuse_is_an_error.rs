//! What a program names and its machine does not have is an error that says what to do: never a panic of the
//! checker, and never `safe`.
#![allow(missing_docs, clippy::expect_used)]

use lazytlb::{
    Access, CpuId, CpuSet, Cr3Load, Entry, FlushRange, Hw, Memory, PageRange, PageSize, PhysAddr,
    Promises, Spaces, Until, VirtAddr,
};
use lazytlb_check::{CheckError, Checker, ModelHw, Program, Reduction};
use lazytlb_model::{
    AtomicCell, Broadcast, Cr4, Features, Invpcid, LocalCell, MemoryModel, Privilege, Rmw, Ticks,
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
    call_is_refused(&all, |hw| hw.write_entry_bytes(TABLE, 0, 0, 1));
    call_is_refused(&all, |hw| {
        hw.rmw_entry_bytes(TABLE, 0, 0, Rmw::Add, 1);
    });
    let apart = ["0b00000101", "side by side"];
    call_is_refused(&apart, |hw| hw.write_entry_bytes(TABLE, 0, 0b101, 1));
    call_is_refused(&apart, |hw| {
        hw.rmw_entry_bytes(TABLE, 0, 0b101, Rmw::Add, 1);
    });
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
    call_is_refused(&named, |hw| hw.write_entry_bytes(TABLE, 512, 1, 1));
    call_is_refused(&named, |hw| {
        hw.rmw_entry_bytes(TABLE, 512, 1, Rmw::Or, 1);
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
    call_is_refused(&named, |hw| hw.write_entry_bytes(NO_FRAME, 0, 1, 1));
    call_is_refused(&named, |hw| {
        hw.rmw_entry_bytes(NO_FRAME, 0, 1, Rmw::Or, 1);
    });
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

/// Nothing there is ever cached, so nothing would go: and a promise about it would cover nothing.
#[test]
fn an_invalidation_or_a_promise_past_the_page_tables() {
    const BEYOND: VirtAddr = VirtAddr(1 << 30);
    let named = ["0x40000000", "features().levels"];
    let calls: [fn(&ModelHw); 5] = [
        |hw| hw.invlpg(BEYOND),
        |hw| hw.invpcid(Invpcid::Address(0, BEYOND)),
        |hw| hw.flush_begins(PhysAddr(0), FlushRange::page(BEYOND)),
        |hw| {
            let _ = hw.promise_begins(Spaces::All, FlushRange::page(BEYOND));
        },
        |hw| {
            hw.invlpgb(Broadcast {
                addr: Some(BEYOND),
                pcid: None,
                globals: false,
                final_only: false,
            });
        },
    ];
    for run in calls {
        call_is_refused(&named, run);
    }
    // A range that only ends there is for what the page tables do translate.
    let mut program = Program::new("to the end", 1);
    let root = program.first_root();
    program.proves("nothing but that it is no misuse");
    program.operation(0, "flush", move |hw| {
        hw.flush_begins(
            root,
            FlushRange::Pages(PageRange {
                start: VirtAddr(0x1000),
                len_pages: u64::MAX,
                size: PageSize::Size4K,
            }),
        );
        hw.invlpg(VirtAddr(BEYOND.0 - 1));
        hw.flush_returned(root);
    });
    assert!(Checker::new().check(&program).is_safe());
    // More levels translate more.
    let mut program = Program::new("three levels", 1);
    program.features().levels = 3;
    program.proves("nothing but that it is no misuse");
    program.operation(0, "flush", |hw| hw.invlpg(BEYOND));
    assert!(Checker::new().check(&program).is_safe());
}

#[test]
fn a_first_entry_in_a_frame_that_is_no_table() {
    type Make = fn(&mut Program) -> PhysAddr;
    let makes: [(&str, Make); 3] = [
        ("a page's", |program| program.page()),
        ("a device's", |program| program.device()),
        ("free", |program| {
            program.free_frames(1);
            PhysAddr(1 << 12)
        }),
    ];
    for (what, make) in makes {
        declaration_is_refused(&["frame 1", what, "Program::table"], |program| {
            let frame = make(program);
            program.first_entry(frame, 0, Entry::to(PhysAddr(0)));
        });
    }
}

#[test]
fn a_program_without_cpus() {
    let mut program = Program::new("nobody", 0);
    program.proves("nothing happens");
    is_refused(&program, &["0 CPUs", "Program::new"]);
}

/// A second interrupt that waits would have to end the sleep amid the handler, and never does.
#[test]
fn a_handler_that_goes_to_sleep() {
    type Set = fn(&mut Program);
    let sets: [(&str, Set); 3] = [
        ("flush interrupt", |program| {
            program.on_flush_interrupt(|hw| hw.halt());
            program.operation(0, "send twice", |hw| {
                let mut targets = CpuSet::<1>::EMPTY;
                targets.insert(CpuId(1));
                hw.send_ipi(&targets);
                hw.send_ipi(&targets);
            });
        }),
        ("NMI", |program| {
            program.on_nmi(|hw| hw.halt());
            program.operation(0, "send", |hw| hw.send_nmi(0b10));
        }),
        ("timer interrupt", |program| {
            program.on_timer(Ticks::AtMost(1), |hw| hw.halt());
        }),
    ];
    for (handler, set) in sets {
        let mut program = Program::new("sleeps", 2);
        program.proves("it sleeps");
        set(&mut program);
        is_refused(&program, &[handler, "HLT", "only operations sleep"]);
    }
}

#[test]
fn what_the_features_leave_out() {
    call_is_refused(&["non-temporal", "features().write_combining"], |hw| {
        hw.touch_non_temporal(VirtAddr(0));
    });
    call_is_refused(&["CR4", "features().tags"], |hw| hw.write_cr4(Cr4::PGE));
    for levels in [0, 1] {
        let named = [&*format!("{levels} levels"), "features().levels", "2 to 5"];
        declaration_is_refused(&named, |program| program.features().levels = levels);
    }
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
