//! One boot: what the kernel is told, and the command that repeats it.

use std::fmt::Write as _;

use clap::ValueEnum;

use super::end::End;

/// The policies, as the kernel knows them.
pub(crate) const POLICIES: [&str; 6] = [
    "defer",
    "defer-unless-quirk",
    "init-mm",
    "ipi",
    "ipi-on-table-free",
    "quarantine",
];

/// The kernel's tests, and what each is.
pub(crate) const TESTS: [(&str, &str); 16] = [
    (
        "all",
        "instructions, counters, isolation and the storms: seven, and under quarantine that of held tables",
    ),
    (
        "counters",
        "whom a flush interrupts and skips, one by one, as the policy promises",
    ),
    (
        "instructions",
        "INVLPG, CR3, CR4 and INVPCID: the new mapping is seen after each",
    ),
    (
        "isolation",
        "what of the kernel is mapped in ring 3: nearly nothing with page-table isolation, else everything",
    ),
    (
        "pages",
        "storm: map, unmap, remap, protect; one page, or neighbours",
    ),
    (
        "tables",
        "storm: the same, and page tables are freed and reused",
    ),
    (
        "exit",
        "storm: the same, and spaces die while lazily borrowed",
    ),
    (
        "split",
        "storm: pages of two spaces in one shootdown in steps, with interrupts on and off",
    ),
    (
        "drop",
        "storm: the last reference to a space is dropped anywhere, the idle loop reaps",
    ),
    (
        "held",
        "storm: page tables are held back for lazy CPUs, one change at a time: nobody is interrupted but at the bound",
    ),
    (
        "changes",
        "storm: pages become large and small again, and change their type, while others read them",
    ),
    (
        "walks",
        "storm: page tables are freed and reused while software walks them without a lock",
    ),
    (
        "sources",
        "the hashes of the protocol's sources, from the image",
    ),
    ("panic", "ends in a panic"),
    ("triple-fault", "ends in a triple fault"),
    ("hang", "makes no progress"),
];

/// The promises that can be broken, and how.
pub(crate) const BREAKS: [(&str, &str); 22] = [
    ("skip-ipis", "no flush interrupt is sent, and nobody waits"),
    ("forget-invlpg", "INVLPG does nothing"),
    (
        "forget-cr3-reload",
        "a CR3 load of the loaded root does nothing",
    ),
    (
        "free-before-flush",
        "pages are freed before the flush (window: 50 us)",
    ),
    (
        "acknowledge-early",
        "the handler invalidates at the next tick only (window: 300 us)",
    ),
    (
        "do-not-wait",
        "the initiator does not wait for answers (they come 50 us late)",
    ),
    (
        "keep-on-recycling",
        "a PCID that goes to another space is not flushed (noticed by the kernel's books)",
    ),
    (
        "keep-when-behind",
        "a space that missed flushes while another was loaded is not flushed (noticed by the kernel's books)",
    ),
    (
        "lose-add",
        "of two spaces in one shootdown, the second is not added",
    ),
    (
        "wait-without-serving",
        "who waits with interrupts off serves nobody meanwhile: a hang",
    ),
    (
        "lock-without-serving",
        "who spins for a lock with interrupts off serves nobody meanwhile: a hang",
    ),
    (
        "free-on-retire",
        "a space's tables are freed before it is reaped (noticed by the kernel's books)",
    ),
    (
        "forget-user-half",
        "with isolation, a user half that is due for a flush is kept (noticed by the kernel's books)",
    ),
    (
        "forget-invpcid",
        "with isolation, INVPCID does nothing (noticed by the kernel's books)",
    ),
    (
        "ask-user-half-early",
        "with isolation, what to load for ring 3 is asked 50 us before interrupts are off for good (noticed by the kernel's books)",
    ),
    (
        "free-held-at-once",
        "under quarantine, page tables that are to be held back are freed at once (noticed by the kernel's books)",
    ),
    (
        "forget-hold-bound",
        "under quarantine, any number of page tables may be held back (noticed by the kernel's books)",
    ),
    (
        "deny-hold-room",
        "under quarantine, lazy CPUs are interrupted though their page tables could be held back (noticed by the kernel's books)",
    ),
    (
        "name-new-size",
        "small pages that become a large one are named in their new size",
    ),
    ("retype-in-place", "a page's type is changed by make, flush"),
    (
        "forget-errata",
        "the protocol is told of no errata, and CPUs come online with theirs (noticed as they come)",
    ),
    (
        "walk-unguarded",
        "software walks page tables with nothing but interrupts off (window: 50 us at each table)",
    ),
];

/// Returns the policy under which there is something of a break: what was asked for, or the one that holds page tables back.
pub(crate) fn policy_for_break<'a>(asked: &'a str, broken: Option<&str>) -> &'a str {
    match broken {
        Some(broken) if BREAKS_OF_HOLDING.contains(&broken) => "quarantine",
        _ => asked,
    }
}

/// Returns the storm that shows a break soonest.
pub(crate) fn storm_for(broken: &str) -> &'static str {
    match broken {
        "lose-add" | "wait-without-serving" | "lock-without-serving" => "split",
        "free-on-retire" => "drop",
        "name-new-size" | "retype-in-place" => "changes",
        "walk-unguarded" => "walks",
        _ if BREAKS_OF_HOLDING.contains(&broken) => "held",
        _ => "pages",
    }
}

/// Returns how a boot must end in which a promise is broken.
pub(crate) fn end_of(broken: &str) -> End {
    match broken {
        "wait-without-serving" | "lock-without-serving" => End::Hang,
        _ => End::Violation,
    }
}

/// Those of [`BREAKS`] that there is nothing of without PCIDs: no read in ring 3 notices them.
pub(crate) const BREAKS_OF_PCIDS: [&str; 5] = [
    "keep-on-recycling",
    "keep-when-behind",
    "forget-user-half",
    "forget-invpcid",
    "ask-user-half-early",
];

/// Those of [`BREAKS`] that there is nothing of unless page tables are held back: the kernel's books notice them.
pub(crate) const BREAKS_OF_HOLDING: [&str; 3] =
    ["free-held-at-once", "forget-hold-bound", "deny-hold-room"];

/// Those of them that there is nothing of without page-table isolation.
const BREAKS_OF_ISOLATION: [&str; 3] =
    ["forget-user-half", "forget-invpcid", "ask-user-half-early"];

/// Says whether a boot has page-table isolation: if that is asked for, or `broken` needs it.
pub(crate) fn isolation_for_break(asked: bool, broken: Option<&str>) -> bool {
    asked || broken.is_some_and(|broken| BREAKS_OF_ISOLATION.contains(&broken))
}

/// An emulator.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Emulator {
    /// QEMU's TCG: fast, CPUs in parallel; no PCIDs
    Qemu,
    /// Bochs: slow; PCIDs, INVPCID, x2APIC, global pages
    Bochs,
}

/// How QEMU runs the CPUs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Threads {
    /// One host thread for each CPU
    Multi,
    /// One thread for all, in turns of up to 100 ms
    Single,
}

/// Which APIC driver the kernel uses.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Apic {
    /// x2APIC where the CPU has it
    Auto,
    /// The one behind memory
    Xapic,
    /// The one behind MSRs
    X2apic,
}

/// Whether the kernel's protocol uses PCIDs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Pcids {
    /// Where the CPU has them: under Bochs
    Auto,
    /// Yes; refused where the CPU has none
    On,
    /// No
    Off,
    /// The protocol believes so, every load flushes: for QEMU, whose CPUs have none
    Pretend,
}

impl Pcids {
    /// Returns what a boot needs in which `broken` is broken, where it is left open.
    pub(crate) fn for_break(self, broken: Option<&str>, emulator: Emulator) -> Pcids {
        let needed = broken.is_some_and(|broken| BREAKS_OF_PCIDS.contains(&broken));
        match (self, emulator) {
            (Pcids::Auto, Emulator::Qemu) if needed => Pcids::Pretend,
            (pcids, _) => pcids,
        }
    }
}

/// One boot.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Boot {
    pub(crate) emulator: Emulator,
    pub(crate) threads: Threads,
    pub(crate) apic: Apic,
    pub(crate) pcids: Pcids,
    pub(crate) isolation: bool,
    pub(crate) expects_erratum_383: bool,
    pub(crate) cpus: u8,
    pub(crate) policy: String,
    pub(crate) test: String,
    pub(crate) seed: u64,
    pub(crate) seconds: u32,
    pub(crate) broken: Option<String>,
}

/// Writes a value as the command line does.
fn name(value: impl ValueEnum) -> String {
    let value = value.to_possible_value().expect("no value is hidden");
    value.get_name().to_owned()
}

impl Boot {
    /// Returns the kernel's command line.
    pub(crate) fn kernel_line(&self) -> String {
        let (apic, pcids) = (name(self.apic), name(self.pcids));
        let Boot {
            cpus,
            policy,
            test,
            seed,
            seconds,
            ..
        } = self;
        let mut line = format!(
            "cpus={cpus} policy={policy} test={test} seed={seed} seconds={seconds} apic={apic} pcids={pcids}"
        );
        if self.isolation {
            line.push_str(" isolation=on");
        }
        if self.expects_erratum_383 {
            line.push_str(" expect=erratum-383");
        }
        if let Some(broken) = &self.broken {
            write!(line, " break={broken}").expect("a string takes all");
        }
        line
    }

    /// Returns the command that repeats this boot.
    pub(crate) fn command(&self) -> String {
        let Boot {
            cpus,
            policy,
            test,
            seed,
            seconds,
            ..
        } = self;
        let mut command = format!(
            "cargo xtask boot --emulator {} --cpus {cpus} --threads {} --apic {} --pcids {} --policy {policy} \
             --test {test} --seed {seed} --seconds {seconds}",
            name(self.emulator),
            name(self.threads),
            name(self.apic),
            name(self.pcids)
        );
        if self.isolation {
            command.push_str(" --isolation");
        }
        if self.expects_erratum_383 {
            command.push_str(" --expect-erratum-383");
        }
        if let Some(broken) = &self.broken {
            write!(command, " --break {broken}").expect("a string takes all");
        }
        command
    }

    /// Names the boot in one line.
    pub(crate) fn title(&self) -> String {
        let broken = self
            .broken
            .as_ref()
            .map_or(String::new(), |broken| format!(", break {broken}"));
        format!(
            "{} {} CPUs {}, PCIDs {}, {}{}{}, test {}, seed {}{broken}",
            name(self.emulator),
            self.cpus,
            name(self.threads),
            name(self.pcids),
            if self.isolation { "isolation, " } else { "" },
            if self.expects_erratum_383 {
                "erratum 383 expected, "
            } else {
                ""
            },
            self.policy,
            self.test,
            self.seed
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_is_told_all_and_the_command_repeats_it() {
        let boot = Boot {
            emulator: Emulator::Qemu,
            threads: Threads::Single,
            apic: Apic::Auto,
            pcids: Pcids::Pretend,
            isolation: true,
            expects_erratum_383: true,
            cpus: 4,
            policy: "ipi".to_owned(),
            test: "pages".to_owned(),
            seed: 7,
            seconds: 2,
            broken: Some("skip-ipis".to_owned()),
        };
        assert_eq!(
            boot.kernel_line(),
            "cpus=4 policy=ipi test=pages seed=7 seconds=2 apic=auto pcids=pretend isolation=on expect=erratum-383 break=skip-ipis"
        );
        assert_eq!(
            boot.command(),
            "cargo xtask boot --emulator qemu --cpus 4 --threads single --apic auto --pcids pretend --policy ipi \
             --test pages --seed 7 --seconds 2 --isolation --expect-erratum-383 --break skip-ipis"
        );
    }

    #[test]
    fn a_break_of_isolation_has_isolation_and_pcids() {
        for (broken, _) in BREAKS {
            let needed = BREAKS_OF_ISOLATION.contains(&broken);
            assert_eq!(isolation_for_break(false, Some(broken)), needed, "{broken}");
            assert!(isolation_for_break(true, Some(broken)));
        }
        assert!(!isolation_for_break(false, None));
        let pcids = |name| BREAKS_OF_PCIDS.contains(name);
        assert!(BREAKS_OF_ISOLATION.iter().all(pcids));
    }

    #[test]
    fn a_break_of_pcids_has_pcids_and_no_other_boot_pretends() {
        for (broken, _) in BREAKS {
            let needed = BREAKS_OF_PCIDS.contains(&broken);
            let pcids = Pcids::Auto.for_break(Some(broken), Emulator::Qemu);
            assert_eq!(pcids == Pcids::Pretend, needed, "{broken}");
            let real = Pcids::Auto.for_break(Some(broken), Emulator::Bochs);
            assert_eq!(real, Pcids::Auto);
            // What was asked for stays: the kernel refuses what cannot be.
            let off = Pcids::Off.for_break(Some(broken), Emulator::Qemu);
            assert_eq!(off, Pcids::Off);
        }
        assert_eq!(Pcids::Auto.for_break(None, Emulator::Qemu), Pcids::Auto);
        let names = BREAKS.map(|(name, _)| name);
        assert!(BREAKS_OF_PCIDS.iter().all(|name| names.contains(name)));
        assert!(BREAKS_OF_HOLDING.iter().all(|name| names.contains(name)));
    }

    #[test]
    fn a_break_of_held_tables_is_booted_where_tables_are_held() {
        for (broken, _) in BREAKS {
            let holds = policy_for_break("ipi", Some(broken)) == "quarantine";
            assert_eq!(holds, BREAKS_OF_HOLDING.contains(&broken), "{broken}");
            assert_eq!(holds, storm_for(broken) == "held", "{broken}");
        }
        assert_eq!(policy_for_break("ipi", None), "ipi");
    }
}
