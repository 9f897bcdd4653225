//! Events by hand: each class of disagreements has its evidence, and is not told without it.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod compared;

use compared::{compared, percent};
use lazytlb_validate::{Agreement, Class, Decision};

fn compare_as(release: &str, text: &str) -> Agreement {
    compared(text.as_bytes(), Some(release))
}

fn compare(text: &str) -> Agreement {
    compare_as("6.1.0", text)
}

/// CPU 0 runs space 7 and flushes; CPU 1 runs it, or is lazy on it.
fn two_cpus(rest: &str) -> Agreement {
    let end = "\
  a-8 [000] d.Z1. 1.900000: enter_lazy: () mm=0xf0 tsk=0xd0 loaded=0xf0
";
    compare(&format!("{BEGIN}{rest}{end}"))
}

const BEGIN: &str = "\
  <idle>-0 [000] d.Z1. 1.000001: switch_mm: () next=0xf0 tsk=0xe0 loaded=0xc0 lazy=0 nctx=7 ngen=1
  <idle>-0 [000] d..1. 1.000002: tlb_flush: pages:-1 reason:flush on task switch (0)
  <idle>-0 [001] d.Z1. 1.000003: switch_mm: () next=0xf0 tsk=0xe8 loaded=0xc0 lazy=0 nctx=7 ngen=1
  <idle>-0 [001] d..1. 1.000004: tlb_flush: pages:-1 reason:flush on task switch (0)
  b-9 [001] ..... 1.000005: sched_process_fork: child_pid=11
";

/// A flush of CPU 0 at 1.5 s whose interrupts are sent to the CPUs in `sent`.
fn flush(mask: &str, sent: &str, more: &str) -> String {
    format!(
        "  a-8 [000] d.Z.. 1.500000: flush_mm_range: () mm=0xf0 start=0x1000 end=0x2000 stride=12 freed=0 ctx=7 gen=1 \
         mask={mask}\n  a-8 [000] d.Z.. 1.500001: flush_multi: () cpumask0={sent} mm=0xf0 newgen=2 initcpu=0 freed=0 \
         {more}\n  a-8 [000] d..1. 1.500002: tlb_flush: pages:1 reason:remote ipi send (4)\n  a-8 [000] d.Z.. \
         1.500003: flush_func: () mm=0xf0 newgen=2 initcpu=0 loaded=0xf0 localgen=1 mmgen=2\n"
    )
}

const ARRIVES: &str = "  b-9 [001] d.Z.. 1.500009: flush_func: () mm=0xf0 newgen=2 initcpu=0 loaded=0xf0 localgen=1 mmgen=2
";

fn classes(agreement: &Agreement, decision: Decision) -> Vec<(Class, u64)> {
    let kind = agreement
        .kinds
        .iter()
        .find(|kind| kind.decision == decision);
    kind.unwrap().classes.clone()
}

#[test]
fn each_class_has_its_evidence() {
    let interrupted = Decision::Interrupted;
    let good = two_cpus(&(flush("0x3", "0x3", "trim=0") + ARRIVES));
    assert_eq!(classes(&good, interrupted), []);
    assert_eq!(percent(&good, interrupted), 100.0);
    let silent = two_cpus(&flush("0x3", "0x3", "trim=0"));
    assert_eq!(classes(&silent, interrupted), [(Class::Unexplained, 1)]);
    let skipped = two_cpus(&flush("0x3", "0x1", "trim=0"));
    assert_eq!(
        classes(&skipped, interrupted),
        [(Class::ParavirtualSkip, 1)]
    );
    let goes = "  b-9 [001] d.Z1. 1.500004: enter_lazy: () mm=0xf0 tsk=0xd8 loaded=0xf0\n";
    let switched = two_cpus(&(flush("0x3", "0x3", "trim=0") + goes));
    assert_eq!(
        classes(&switched, interrupted),
        [(Class::SwitchInWindow, 1)]
    );
    let elsewhere = "\
  b-9 [001] d.Z1. 1.400000: switch_mm: () next=0xf8 tsk=0xe9 loaded=0xf0 lazy=0 nctx=8 ngen=1
  b-9 [001] d..1. 1.400001: tlb_flush: pages:-1 reason:flush on task switch (0)
  c-10 [001] ..... 1.400002: sched_process_fork: child_pid=12
";
    let trimmed = two_cpus(&format!(
        "{elsewhere}{}{ARRIVES}",
        flush("0x3", "0x3", "trim=1")
    ));
    assert_eq!(classes(&trimmed, interrupted), [(Class::Trim, 1)]);
}

/// CPU 1 goes lazy on space 7 at 1.4 s.
const GOES_LAZY: &str = "\
  b-9 [001] d..2. 1.399999: sched_switch: prev_pid=9 prev_state=S ==> next_comm=swapper/1 next_pid=0
  b-9 [001] d.Z1. 1.400000: enter_lazy: () mm=0xf0 tsk=0xd8 loaded=0xf0
  <idle>-0 [001] d..1. 1.400001: cpu_idle: state=1 cpu_id=1
";

/// CPU 1 comes back to space 7, whose generation the switch finds at `generation`, and flushes or not.
fn comes_back(generation: u32, then: &str) -> String {
    format!(
        "  <idle>-0 [001] d..2. 1.599999: sched_switch: prev_pid=0 prev_state=R ==> next_comm=b next_pid=9
  <idle>-0 [001] d.Z1. 1.600000: switch_mm: () next=0xf0 tsk=0xe8 loaded=0xf0 lazy=1 nctx=7 ngen={generation}\n{then}"
    )
}

const FLUSHES: &str =
    "  <idle>-0 [001] d..1. 1.600001: tlb_flush: pages:-1 reason:flush on task switch (0)\n";
const GOES_ON: &str = "  b-9 [001] ..... 1.600001: sched_process_fork: child_pid=12\n";
/// CPU 0 asks for a flush, and has shown no more of it.
const ASKS: &str = "  a-8 [000] d.Z.. 1.500000: flush_mm_range: () mm=0xf0 start=0x1000 end=0x2000 stride=12 freed=0 \
                    ctx=7 gen=1 mask=0x3\n";

#[test]
fn a_flush_that_is_raised_while_a_cpu_comes_back_is_a_generation_race() {
    let switch = Decision::Switch;
    // The event of the switch found generation 1; the raise came between that and what the switch read.
    let raced = two_cpus(&format!("{GOES_LAZY}{ASKS}{}", comes_back(1, FLUSHES)));
    assert_eq!(classes(&raced, switch), [(Class::GenerationRace, 1)]);
    let of_another_space = "  a-8 [000] d.Z.. 1.700000: flush_mm_range: () mm=0xf9 start=0x1000 end=0x2000 \
                            stride=12 freed=0 ctx=9 gen=1 mask=0x0\n";
    let no_flush = two_cpus(&format!(
        "{GOES_LAZY}{}{of_another_space}",
        comes_back(1, FLUSHES)
    ));
    assert_eq!(classes(&no_flush, switch), [(Class::Unexplained, 1)]);
}

#[test]
fn what_a_switch_finds_tells_whether_the_flush_was_first() {
    let switch = Decision::Switch;
    // The flush was asked for before, and is raised after: the CPU has nothing to catch up with.
    let before = two_cpus(&format!("{GOES_LAZY}{ASKS}{}", comes_back(1, GOES_ON)));
    assert_eq!(classes(&before, switch), []);
    let after = two_cpus(&format!("{GOES_LAZY}{ASKS}{}", comes_back(2, FLUSHES)));
    assert_eq!(classes(&after, switch), []);
    let kept = two_cpus(&format!("{GOES_LAZY}{ASKS}{}", comes_back(2, GOES_ON)));
    assert_ne!(classes(&kept, switch), []);
}

#[test]
fn a_switch_milliseconds_after_the_interrupts_explains_nothing() {
    let late = "  b-9 [001] d.Z1. 1.510000: enter_lazy: () mm=0xf0 tsk=0xd8 loaded=0xf0\n";
    let silent = two_cpus(&(flush("0x3", "0x3", "trim=0") + late));
    assert_eq!(
        classes(&silent, Decision::Interrupted),
        [(Class::Unexplained, 1)]
    );
}

#[test]
fn what_an_interrupt_in_flight_left_open_is_told_until_the_next_switch() {
    // By the times, the interrupt of 1.500001 came first; it came after CPU 1 had gone lazy, which then left.
    let crossed = "\
  b-9 [001] d..2. 1.500030: sched_switch: prev_pid=9 prev_state=S ==> next_comm=swapper/1 next_pid=0
  b-9 [001] d.Z1. 1.500031: enter_lazy: () mm=0xf0 tsk=0xd8 loaded=0xf0
  <idle>-0 [001] d.Z.. 1.500040: flush_func: () mm=0xf0 newgen=2 initcpu=0 loaded=0xf0 localgen=1 mmgen=2
  <idle>-0 [001] d.Z.. 1.500041: switch_mm: () next=0xc0 tsk=0x0 loaded=0xf0 lazy=1 nctx=1 ngen=0
  <idle>-0 [001] d.h1. 1.500042: tlb_flush: pages:-1 reason:flush on task switch (0)
  <idle>-0 [001] d..1. 1.500050: cpu_idle: state=1 cpu_id=1
  <idle>-0 [001] d..2. 1.599999: sched_switch: prev_pid=0 prev_state=R ==> next_comm=b next_pid=9
";
    let back = "  <idle>-0 [001] d.Z1. 1.600000: switch_mm: () next=0xf0 tsk=0xe8 loaded=0xc0 lazy=0 nctx=7 ngen=2\n";
    let begun = flush("0x3", "0x3", "trim=0");
    let agreement = two_cpus(&format!("{begun}{crossed}{back}{FLUSHES}"));
    assert_eq!(
        classes(&agreement, Decision::Left),
        [(Class::SwitchInWindow, 1)]
    );
    assert_eq!(
        classes(&agreement, Decision::Switch),
        [(Class::SwitchInWindow, 1)]
    );
}

#[test]
fn a_switch_in_the_window_explains_only_what_its_states_give() {
    let asked = flush("0x3", "0x3", "trim=0");
    let (before, itself) = asked.split_at(asked.find("  a-8 [000] d.Z.. 1.500003").unwrap());
    let of = |switch: &str| {
        let agreement = two_cpus(&format!("{before}{switch}{itself}"));
        classes(&agreement, Decision::Interrupted)
    };
    // From one thread of the space to another one: it runs in it all along, and must be interrupted.
    let to_a_sibling = "  b-9 [001] d.Z1. 1.500002: switch_mm: () next=0xf0 tsk=0xe9 loaded=0xf0 lazy=0 nctx=7 ngen=1\n";
    assert_eq!(of(to_a_sibling), [(Class::Unexplained, 1)]);
    let to_lazy = "  b-9 [001] d.Z1. 1.500002: enter_lazy: () mm=0xf0 tsk=0xd8 loaded=0xf0\n";
    assert_eq!(of(to_lazy), [(Class::SwitchInWindow, 1)]);
    let away = "  b-9 [001] d.Z1. 1.500002: switch_mm: () next=0xf8 tsk=0xe9 loaded=0xf0 lazy=0 nctx=8 ngen=1\n";
    assert_eq!(of(away), [(Class::SwitchInWindow, 1)]);
}

/// CPU 0 asks for a flush of space 7 that frees tables or not, at 1.5 s, and is about to send.
fn about_to_send(freed: u32) -> String {
    format!(
        "  a-8 [000] d.Z.. 1.500000: flush_mm_range: () mm=0xf0 start=0x1000 end=0x2000 stride=12 freed={freed} ctx=7 \
         gen=1 mask=0x3\n  a-8 [000] d.Z.. 1.500001: flush_multi: () cpumask0=0x3 mm=0xf0 newgen=2 initcpu=0 \
         freed={freed} trim=0\n"
    )
}

const SENDS: &str = "  a-8 [000] d..1. 1.502000: tlb_flush: pages:1 reason:remote ipi send (4)\n";
const FLUSHES_ITSELF: &str = "  a-8 [000] d.Z.. 1.503000: flush_func: () mm=0xf0 newgen=2 initcpu=0 loaded=0xf0 localgen=1 mmgen=2\n";

/// CPU 1 serves CPU 0's interrupt at so many seconds, and leaves for `init_mm`.
fn leaves(at: &str) -> String {
    format!(
        "  <idle>-0 [001] d.Z.. {at}0: flush_func: () mm=0xf0 newgen=2 initcpu=0 loaded=0xf0 localgen=1 mmgen=2
  <idle>-0 [001] d.Z.. {at}1: switch_mm: () next=0xc0 tsk=0x0 loaded=0xf0 lazy=1 nctx=1 ngen=0
  <idle>-0 [001] d.h1. {at}2: tlb_flush: pages:-1 reason:flush on task switch (0)
"
    )
}

#[test]
fn a_cpu_that_wakes_before_the_interrupts_are_sent_has_not_served_them() {
    let wakes = "\
  <idle>-0 [001] d..1. 1.501000: cpu_idle: state=4294967295 cpu_id=1
  <idle>-0 [001] d..1. 1.501001: cpu_idle: state=1 cpu_id=1
";
    let asked = about_to_send(1);
    let served = leaves("1.50301");
    let agreement = two_cpus(&format!(
        "{GOES_LAZY}{asked}{wakes}{SENDS}{FLUSHES_ITSELF}{served}"
    ));
    for decision in [Decision::Targets, Decision::Interrupted, Decision::Left] {
        assert_eq!(classes(&agreement, decision), [], "{decision:?}");
        assert_eq!(percent(&agreement, decision), 100.0);
    }
}

#[test]
fn a_switch_between_the_send_and_the_initiators_own_flush_leaves_open_what_the_interrupt_found() {
    let goes_lazy = "\
  b-9 [001] d..2. 1.502500: sched_switch: prev_pid=9 prev_state=S ==> next_comm=swapper/1 next_pid=0
  b-9 [001] d.Z1. 1.502501: enter_lazy: () mm=0xf0 tsk=0xd8 loaded=0xf0
  <idle>-0 [001] d..1. 1.502502: cpu_idle: state=1 cpu_id=1
";
    let asked = about_to_send(0);
    // Tables are freed, and CPU 1 is not interrupted: it left for `init_mm` before, or the kernel is wrong.
    let frees = flush("0x1", "0x1", "trim=0")
        .replace("1.500", "1.600")
        .replace("freed=0", "freed=1")
        .replace("gen=1", "gen=2")
        .replace("gen=2 init", "gen=3 init");
    let (interrupted, left) = (Decision::Interrupted, Decision::Left);
    let served = leaves("1.50301");
    let open = two_cpus(&format!(
        "{asked}{SENDS}{goes_lazy}{FLUSHES_ITSELF}{served}{frees}"
    ));
    assert_eq!(classes(&open, left), [(Class::SwitchInWindow, 1)]);
    assert_eq!(classes(&open, interrupted), [(Class::SwitchInWindow, 1)]);
    let served = ARRIVES.replace("1.500009", "1.502100");
    let closed = two_cpus(&format!(
        "{asked}{SENDS}{served}{goes_lazy}{FLUSHES_ITSELF}{frees}"
    ));
    assert_eq!(classes(&closed, left), []);
    assert_eq!(classes(&closed, interrupted), [(Class::Unexplained, 1)]);
}

/// CPU 0 has flushed, and sleeps; so its flush is over.
const IS_OVER: &str = "  a-8 [000] d.Z1. 1.550000: enter_lazy: () mm=0xf0 tsk=0xd0 loaded=0xf0\n";

/// CPU 1 comes back to space 7 at 1.45 s, and shows nothing of how that ends.
const COMES_BACK: &str = "\
  <idle>-0 [001] d..2. 1.450000: sched_switch: prev_pid=0 prev_state=R ==> next_comm=b next_pid=9
  <idle>-0 [001] d.Z1. 1.450001: switch_mm: () next=0xf0 tsk=0xe8 loaded=0xf0 lazy=1 nctx=7 ngen=1
";

#[test]
fn a_switch_that_catches_up_after_the_interrupts_was_in_the_window() {
    let begun = format!(
        "{GOES_LAZY}{COMES_BACK}{}{IS_OVER}",
        flush("0x3", "0x3", "trim=0")
    );
    let (interrupted, switch) = (Decision::Interrupted, Decision::Switch);
    // It was still lazy as CPU 0 looked: it found the raised generation 50 ms later.
    let stopped = two_cpus(&format!("{begun}{FLUSHES}"));
    assert_eq!(classes(&stopped, interrupted), [(Class::SwitchInWindow, 1)]);
    assert_eq!(classes(&stopped, switch), [(Class::GenerationRace, 1)]);
    // Nothing to catch up with: then it had read the generation before, and was seen running.
    let ran = two_cpus(&format!("{begun}{GOES_ON}"));
    assert_eq!(classes(&ran, interrupted), [(Class::Unexplained, 1)]);
    // The recording ends before the CPU shows anything.
    let silent = two_cpus(&begun);
    assert_eq!(classes(&silent, interrupted), [(Class::Unexplained, 1)]);
    // What catches up is a later switch; the one before the flush was over.
    let later = two_cpus(&format!(
        "{GOES_LAZY}{COMES_BACK}  b-9 [001] ..... 1.460000: sched_process_fork: child_pid=12\n{}{IS_OVER}{FLUSHES}",
        flush("0x3", "0x3", "trim=0")
    ));
    assert_eq!(classes(&later, interrupted), [(Class::Unexplained, 1)]);
}

#[test]
fn a_cpu_that_an_interrupt_finds_lazy_went_lazy_in_the_window_if_it_showed_nothing_since() {
    // To a kernel thread: no event shows that the switch is over.
    let goes_lazy = "\
  b-9 [001] d..2. 1.400000: sched_switch: prev_pid=9 prev_state=R ==> next_comm=kthread next_pid=15
  b-9 [001] d.Z1. 1.400001: enter_lazy: () mm=0xf0 tsk=0xd8 loaded=0xf0
";
    let asked = flush("0x3", "0x3", "trim=0");
    let served = leaves("1.50301").replace("<idle>-0", "kthread-15");
    let arrives = "  kthread-15 [001] d.h1. 1.503000: call_function_single_entry: vector=251\n";
    let of_skipped = |between: &str, served: &str| {
        let agreement = two_cpus(&format!("{goes_lazy}{between}{asked}{arrives}{served}"));
        classes(&agreement, Decision::Skipped)
    };
    assert_eq!(of_skipped("", &served), [(Class::SwitchInWindow, 1)]);
    let runs = "  kthread-15 [001] ..... 1.450000: sched_process_fork: child_pid=12\n";
    assert_eq!(of_skipped(runs, &served), [(Class::Unexplained, 1)]);
    let not_lazy = ARRIVES
        .replace("b-9", "kthread-15")
        .replace("1.500009", "1.503010");
    assert_eq!(of_skipped("", &not_lazy), [(Class::Unexplained, 1)]);
}

/// So many CPUs run space 7; then CPU 0 sends interrupts, and all arrive.
fn several_cpus(cpus: u32) -> String {
    let mut text = String::new();
    for cpu in 0..cpus {
        text.push_str(&format!(
            "  <idle>-0 [00{cpu}] d.Z1. 1.0000{cpu}0: switch_mm: () next=0xf0 tsk=0xe{cpu} loaded=0xc0 lazy=0 nctx=7 \
             ngen=1\n  <idle>-0 [00{cpu}] d..1. 1.0000{cpu}1: tlb_flush: pages:-1 reason:flush on task switch (0)\n"
        ));
    }
    text.push_str(&flush("0xf", "0xf", "trim=0"));
    for cpu in 1..cpus {
        text.push_str(&format!(
            "  b-{cpu} [00{cpu}] d.Z.. 1.50000{}: flush_func: () mm=0xf0 newgen=2 initcpu=0 loaded=0xf0 localgen=1 mmgen=2\n",
            3 + cpu
        ));
    }
    text
}

#[test]
fn a_flush_that_nobody_shows_is_a_broadcast_once_four_cpus_were_active() {
    let silent = "\
  a-8 [000] d.Z.. 1.700000: flush_mm_range: () mm=0xf0 start=0x1000 end=0x2000 stride=12 freed=0 ctx=7 gen=2 mask=0xf
  a-8 [000] d.Z1. 1.900000: enter_lazy: () mm=0xf0 tsk=0xd0 loaded=0xf0
";
    let path = |release, cpus| {
        let agreement = compare_as(release, &(several_cpus(cpus) + silent));
        classes(&agreement, Decision::Path)
    };
    assert_eq!(path("6.18.2", 4), [(Class::Broadcast, 1)]);
    // Linux gives a global PCID to spaces that four CPUs are active in, from 6.15 on.
    assert_eq!(path("6.18.2", 3), [(Class::Unexplained, 1)]);
    assert_eq!(path("6.1.0", 4), [(Class::Unexplained, 1)]);
}

#[test]
fn from_614_on_a_cpu_elsewhere_is_interrupted_once_when_tables_are_freed() {
    let elsewhere = "\
  b-9 [001] d.Z1. 1.400000: switch_mm: () next=0xf8 tsk=0xe9 loaded=0xf0 lazy=0 nctx=8 ngen=1
  b-9 [001] d..1. 1.400001: tlb_flush: pages:-1 reason:flush on task switch (0)
  c-10 [001] ..... 1.400002: sched_process_fork: child_pid=12
";
    let freed = |text: String| text.replace("freed=0", "freed=1");
    let arrives = "\
  c-10 [001] d.Z.. 1.500009: flush_func: () mm=0xf0 newgen=2 initcpu=0 loaded=0xf8 localgen=1 mmgen=1
  c-10 [001] d.h.. 1.500010: tlb_flush: pages:0 reason:remote wrong CPU (5)
";
    let again = "\
  a-8 [000] d.Z.. 1.700000: flush_mm_range: () mm=0xf0 start=0x1000 end=0x2000 stride=12 freed=1 ctx=7 gen=2 mask=0x1
  a-8 [000] d.Z.. 1.700003: flush_func: () mm=0xf0 newgen=3 initcpu=0 loaded=0xf0 localgen=2 mmgen=3
  a-8 [000] d.Z1. 1.900000: enter_lazy: () mm=0xf0 tsk=0xd0 loaded=0xf0
";
    let text = format!(
        "{BEGIN}{elsewhere}{}{arrives}{again}",
        freed(flush("0x3", "0x3", "trim=0"))
    );
    let agreement = compare_as("6.18.2", &text);
    for decision in [Decision::Path, Decision::Targets, Decision::Interrupted] {
        assert_eq!(classes(&agreement, decision), [], "{decision:?}");
        assert_eq!(percent(&agreement, decision), 100.0);
    }
    // Kept tables leave it alone, and it stays in the cpumask.
    let end = "  a-8 [000] d.Z1. 1.900000: enter_lazy: () mm=0xf0 tsk=0xd0 loaded=0xf0\n";
    let kept = format!("{BEGIN}{elsewhere}{}{end}", flush("0x3", "0x3", "trim=0"));
    assert_eq!(classes(&compare_as("6.18.2", &kept), Decision::Targets), []);
}
