//! What a counterexample says, whatever a program's words and operations are called.

#![allow(clippy::unwrap_used)] // A test that fails is to panic.

use lazytlb::{Cr3Load, Entry, FrameKind, Hw, Memory, Until, VirtAddr};
use lazytlb_check::{Checker, EventKind, Finding, Program, Timeline, TimelineEvent};
use lazytlb_model::{Call, MemoryModel};

fn timeline(memory: MemoryModel, program: &Program) -> Timeline {
    match Checker::new().memory(memory).check(program).finding {
        Finding::Violation { timeline, .. } => timeline,
        other => panic!("{other:?}"),
    }
}

fn texts(timeline: &Timeline) -> Vec<&str> {
    let events = timeline.events.iter();
    events.map(|event| event.what.as_str()).collect()
}

#[test]
fn a_word_whose_name_begins_like_an_allocation_holds_no_frame() {
    let mut program = Program::new("names", 1);
    let word = program.atomic("allocated", 8192);
    program.free_frames(1);
    program.operation(0, "read", move |hw| {
        hw.load(&word);
        hw.alloc_frame(FrameKind::Page);
        panic!("enough");
    });
    let timeline = timeline(MemoryModel::Sc, &program);
    assert_eq!(
        texts(&timeline),
        ["allocated → 8192", "alloc a page → frame 1"]
    );
    let kind = timeline.events[0].kind;
    assert_eq!(
        kind,
        EventKind::Call {
            call: Call::Load(word),
            answer: Some(8192)
        }
    );
}

#[test]
fn an_operation_may_be_called_store_buffer() {
    let mut program = Program::new("names", 1);
    let word = program.atomic("word", 0);
    program.operation(0, "store buffer", move |hw| {
        hw.store(&word, 1);
        hw.fence();
        panic!("enough");
    });
    let timeline = timeline(MemoryModel::TSO, &program);
    assert_eq!(texts(&timeline), ["word = 1", "drains: word = 1", "fence"]);
    let printed = timeline.to_string();
    assert_eq!(printed.matches("[store buffer]").count(), 1, "{printed}");
    assert_eq!(timeline.story[1], "CPU 0 came here by: store buffer.");
}

#[test]
fn a_drain_names_the_store_that_drains() {
    let mut program = Program::new("drains", 1);
    let (table, word) = (program.table(), program.atomic("word", 0));
    let (page, of_page) = (program.page(), program.atomic("data", 0));
    program.give_word(page, of_page);
    program.operation(0, "store", move |hw| {
        hw.store(&word, 7);
        hw.write_entry(table, 3, Entry(page.0 | 7));
        hw.store_bytes(&word, 0b10, 0x200);
        hw.fence();
        panic!("enough");
    });
    let timeline = timeline(MemoryModel::TSO, &program);
    let drained: Vec<&str> = texts(&timeline)
        .into_iter()
        .filter(|text| text.starts_with("drains"))
        .collect();
    let bytes = "drains: word, bytes 0b00000010 = 0x200";
    assert_eq!(
        drained,
        ["drains: word = 7", "drains: frame 1[3] = frame 2", bytes]
    );
}

#[test]
fn a_program_may_name_its_entries_addresses_and_frames() {
    let mut program = Program::new("names", 1);
    let (root, table) = (program.first_root(), program.table());
    program.name_entry(table, 3, "PTE(x)");
    program.name_frame(table, "T");
    program.name_frame(root, "R");
    program.name_address(VirtAddr(0x3000), "x");
    program.tell_entries(|entry| format!("<{:#x}>", entry.0));
    program.operation(0, "all", move |hw| {
        hw.write_entry(table, 3, Entry(0));
        hw.write_entry(table, 4, Entry(0));
        hw.read_entry(table, 3);
        hw.load_cr3(root, Cr3Load::Flush);
        hw.invlpg(VirtAddr(0x3000));
        panic!("enough");
    });
    let timeline = timeline(MemoryModel::Sc, &program);
    let expected = [
        "PTE(x) = <0x0>",
        "T[4] = <0x0>",
        "read PTE(x) → <0x0>",
        "load CR3: root in R",
        "INVLPG x",
    ];
    assert_eq!(texts(&timeline), expected);
}

#[test]
fn a_deadlock_names_the_word_that_each_cpu_waits_for() {
    let mut program = Program::new("stuck", 2);
    let (here, there) = (program.atomic("here", 0), program.atomic("there", 0));
    program.operation(0, "one", move |hw| hw.pause_until(&here, Until::Equals(2)));
    program.operation(1, "other", move |hw| {
        hw.pause_until(&there, Until::AtLeast(1))
    });
    let timeline = timeline(MemoryModel::Sc, &program);
    let told = &timeline.story[0];
    assert!(
        told.contains("CPU 0 waits in \"one\" with interrupts on (wait until here = 2: it is 0)"),
        "{told}"
    );
    assert!(
        told.contains(
            "CPU 1 waits in \"other\" with interrupts on (wait until there ≥ 1: it is 0)"
        ),
        "{told}"
    );
}

#[test]
fn an_nmi_is_no_flush_interrupt() {
    let mut program = Program::new("nmi", 2);
    let word = program.atomic("word", 0);
    program.on_nmi(move |hw| {
        hw.load(&word);
        panic!("enough");
    });
    program.operation(0, "send", |hw| hw.send_nmi(0b10));
    let timeline = timeline(MemoryModel::Sc, &program);
    let nmi: Vec<&TimelineEvent> = timeline
        .events
        .iter()
        .filter(|event| event.kind == EventKind::Nmi)
        .collect();
    assert_eq!((&*nmi[0].operation, &*nmi[0].what), ("NMI", "⚡ NMI"));
    assert_eq!(timeline.story[1], "CPU 1 came here by: NMI.");
}

#[test]
fn what_a_cpu_was_about_to_do_has_no_answer() {
    let mut program = Program::new("foreign", 2);
    let word = program.local(0, "own", 0);
    program.operation(1, "reach over", move |hw| {
        hw.load_local(&word);
    });
    let timeline = timeline(MemoryModel::Sc, &program);
    assert_eq!(texts(&timeline), ["own → ?"]);
}

/// Programs written before the type had its name.
#[test]
#[allow(deprecated)]
fn events_have_their_former_name_too() {
    let read = |event: &lazytlb_check::Event| (event.cpu, event.visible, event.frees);
    let also: fn(&lazytlb_check::timeline::Event) -> _ = read;
    let mut program = Program::new("stuck", 1);
    let word = program.atomic("word", 0);
    program.operation(0, "fail", move |hw| {
        hw.store(&word, 1);
        panic!("enough");
    });
    let timeline = timeline(MemoryModel::Sc, &program);
    assert_eq!(also(&timeline.events[0]), (0, true, None));
}
