//! Tasks and interrupt counters: what a recording cannot tell by itself. A line each:
//!
//! ```text
//! task 1 1 init 1                 tid, tgid, name, whether it has a user space
//! interrupts start TLB 17 4       each CPU's count
//! ```

use std::fs;
use std::path::Path;

use procfs::process::{StatFlags, all_processes};

/// Rows of `/proc/interrupts` that a replay can be compared with.
const COUNTERS: [&str; 3] = ["TLB", "CAL", "RES"];

/// Says whether tasks have the numbers here that they have in the kernel's events: not in a container with its own.
pub(crate) fn numbers_are_the_kernels() -> bool {
    // Linux `PROC_PID_INIT_INO`, the first name space of tasks.
    fs::read_link("/proc/self/ns/pid").is_ok_and(|name| name == Path::new("pid:[4026531836]"))
}

/// Lists every task.
pub(crate) fn tasks() -> Vec<String> {
    let processes = all_processes().into_iter().flatten().flatten();
    let tasks = processes.flat_map(|process| process.tasks().into_iter().flatten().flatten());
    let line = |task: procfs::process::Task| {
        let stat = task.stat().ok()?;
        let flags = StatFlags::from_bits_truncate(stat.flags);
        let has_mm = stat.vsize > 0 && !flags.contains(StatFlags::PF_KTHREAD);
        let name = format!("{:_<1}", stat.comm.replace(char::is_whitespace, "_"));
        let (tid, tgid, has_mm) = (task.tid, task.pid, u8::from(has_mm));
        Some(format!("task {tid} {tgid} {name} {has_mm}"))
    };
    tasks.filter_map(line).collect()
}

/// Lists the counters of interrupts that matter, at a moment with a name.
pub(crate) fn interrupts(moment: &str) -> Vec<String> {
    counters(
        &fs::read_to_string("/proc/interrupts").unwrap_or_default(),
        moment,
    )
}

fn counters(table: &str, moment: &str) -> Vec<String> {
    let rows = table.lines().filter_map(|line| {
        let (name, rest) = line.trim_start().split_once(':')?;
        let numbers = rest
            .split_whitespace()
            .take_while(|word| word.bytes().all(|byte| byte.is_ascii_digit()));
        let numbers: Vec<&str> = numbers.collect();
        COUNTERS
            .contains(&name)
            .then(|| format!("interrupts {moment} {name} {}", numbers.join(" ")))
    });
    rows.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_each_cpus() {
        let table = "           CPU0       CPU1\n  0:  1  2  IO-APIC  2-edge  timer\nTLB:  17  4   TLB shootdowns\n\
                     RES:  3  0   Rescheduling interrupts\n";
        let expected = ["interrupts end TLB 17 4", "interrupts end RES 3 0"];
        assert_eq!(counters(table, "end"), expected);
        assert_eq!(counters("", "end"), Vec::<String>::new());
    }

    #[test]
    fn this_process_has_a_user_space() {
        let own = format!("task {pid} {pid} ", pid = std::process::id());
        let found = tasks().into_iter().find(|line| line.starts_with(&own));
        assert!(found.is_some_and(|line| line.ends_with(" 1")));
    }
}
