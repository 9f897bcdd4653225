//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use lazytlb_check::{Menus, PageTableLock};
use lazytlb_litmus::Options;
use lazytlb_model::CpuModel;
use lazytlb_zoo::Exhibit;

use crate::argument_values::{Memory, Pcids, Policies, exhibit, policies, program};
use crate::by::{By, ByParser};
use crate::global_ids::{GlobalIds, global_ids};
use crate::hardware::{Hardware, cpu_model};
use crate::menus::{MenusParser, page_table_lock};
use crate::policies;
use crate::pricing::Pricing;
use crate::slots::{Slots, slots};

const EXIT_CODES: &str = "Exit codes: 0 safe, or a table was printed; 1 a violation was found; 2 bad usage or \
                          bad input; 3 the search ended early, nothing is proved; 4 all was searched, and \
                          no promise was kept that a proof could rest on.";

/// What `price` and `decide` do with several recordings.
const SEVERAL: &str = "Several recordings, of one host each: each is read once, and counts add up, so the regret and the choice of \
                       the sum are exact. Shares are of all CPU times together; if the times of one are emulated, losses of \
                       the sum are for each 1,000 operations (--times is for all). With --json, `recording` is the file's \
                       name, and null in the rows of the sum: DuckDB's `select * from 'x.json' where recording is not null`. \
                       If one cannot be read, nothing is answered.";

/// Lazy TLB mode: which policy is safe, and what does it cost here?
///
/// A CPU that idles or runs a kernel thread may keep the last user address space loaded. Whether a TLB
/// flush must interrupt it is decided by a policy. This program proves policies safe by running the
/// real protocol against all that the modelled rules allow x86 hardware to do, and prices them by replaying a recorded
/// workload through the same code.
#[derive(Parser, Debug)]
#[command(name = "lazytlb", version, after_help = EXIT_CODES)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Joins proof and price in one table: which policy is safe on this CPU, and which safe one can lose least on this
    /// workload
    #[command(
        after_help = format!("Examples:\n  lazytlb decide\n  lazytlb decide my.trace.xz --cpu amd-k10 --cost \
                            idle_wait=3000\n  lazytlb decide --proof-seconds 300\n  \
                            lazytlb decide host-a.dat host-b.dat --json\n\nSafe is what is safe in every \
                            program, of any length, over each of three \
                            menus: three CPUs, two that flush at one time, two spaces; with PCIDs, over each of two: \
                            two spaces with a slot each, and with one slot; of quarantine, without PCIDs, over each of four \
                            smaller ones of its own; the answer names them. Searches run \
                            side by side, one a core, and share --proof-seconds. A policy of which one does not end is not \
                            called safe. Unsafe policies are part of the answer: decide exits 0 when every row has a \
                            verdict, 3 when a search ended early, 4 when one proves nothing.\n\nThe choice is the safe \
                            policy of the least regret: the most that it costs beyond the best one, over all costs within \
                            their ranges.\n\n{SEVERAL}\n\n{}", policies::lines())
    )]
    Decide(Decide),
    /// Checks policies exhaustively: a proof within bounds, a shortest counterexample, or `incomplete`
    #[command(after_help = format!("Examples:\n  lazytlb check --policy defer --program reference-3 --cpu amd-k10\n  \
                            lazytlb check --program no-table-free --memory sc --json\n  \
                            lazytlb check --policy ipi --any map,unmap,free,switch,touch,lazy/switch,touch,lazy\n  \
                            lazytlb check --policy ipi --any map,unmap,free,switch,touch,lazy --cpus 2\n\n\
                            The last two are one question: is every program safe in which CPU 0 starts any of the six \
                            operations, and CPU 1 any of the last three, for ever? A proof then says in a sentence \
                            what it is of (`statement` in JSON).\n\n{}\n\n{EXIT_CODES}", policies::lines()))]
    Check(Check),
    /// Answers litmus tests in herd's syntax, also about translations: what can a small program end in?
    #[command(
        after_help = "Examples:\n  lazytlb litmus SB.litmus\n  lazytlb litmus --witness SB.litmus\n  lazytlb litmus --cpu amd-k10 --json \
                            crates/model/litmus\n  lazytlb litmus --kinds kinds.txt @all\n\nA file may be a \
                            directory, with all .litmus files below it, or a list @NAME, a path a line; several \
                            tests end with a summary. docs/litmus.md has the syntax.\n\nA line before the init section \
                            whose key this program does not know is an error, so that a slip changes no meaning; what \
                            herd's tools write (Cycle=, Com=, …) is skipped. `Expect=Allowed` or `Expect=Forbidden` there \
                            is compared with the verdict, as --kinds is.\n\nExit codes, of which 2 goes before 1, and 1 \
                            before 3: 0 all were answered, as expected; 1 a verdict is not the one expected; 2 a file \
                            could not be read, the others were; 3 an exploration ended early."
    )]
    Litmus(Litmus),
    /// Replays a recorded workload under policies: IPIs, CR3 loads, flushes, and what they cost
    #[command(
        after_help = format!("Reads what `lazytlb record`, trace-cmd and perf record (trace.dat, perf.data), what they print, and the \
                            kernel's own text, in gz, xz or zstd, too. With kprobes on the memory-management functions counts are exact; from \
                            tracepoints alone, what stays unknown gives ranges.\n\n\
                            Examples:\n  lazytlb price traces/linux61-smp8-mixed.trace.txt.xz --policy all\n  lazytlb \
                            price my.trace.xz --cost idle_wait=3000 --cost invlpg=200,250,300\n  lazytlb price host-a.dat host-b.dat \
                            --json\n  lazytlb price my.dat --by process --top 5 --policy ipi\n  lazytlb price my.dat --by \
                            time=0.5 --json\n\n--by: what an operation causes is whose operation it is, the handlers that it \
                            interrupts on other CPUs, too. A switch is the process's that comes, going lazy that of the one \
                            that goes, a flush that of the task that asks, the end of a space its owner's; what lazy CPUs do \
                            is the kernel's. IPIs are those that it sends; received, those that interrupt it: what ran on the \
                            CPU that was sent one, a process, a kernel thread (kernel) or the idle task (idle). A process older than the recording is told by \
                            its first task that was seen. Names are those that tasks had when they last left a CPU.\n\n{SEVERAL}\n\n{}", policies::lines())
    )]
    Price(Price),
    /// Records what this machine's kernel does about its TLBs, for `price` and `decide`
    #[command(
        after_help = "Examples:\n  lazytlb record -o build.dat -- make -j8\n  lazytlb record -o minute.dat --seconds 60\n  \
                            lazytlb record --dry-run -- make\n\nNeeds root, and tracefs. Everything is recorded into an instance \
                            of tracefs that is its own, and read out as it fills; others' tracing goes on. Kprobes of a \
                            group of its own tell the kernel's spaces and whether page tables are freed, where the kernel \
                            has kprobes and BTF. The file is a trace.dat, which trace-cmd and KernelShark open. Ctrl-C ends a \
                            recording, and the file is whole.\n\nExit codes: 0 recorded; 1 recorded, but events were lost, and a \
                            replay would be wrong; 2 not recorded. The command's own is told, and changes nothing."
    )]
    Record(Record),
    /// Replays the recorded kernel's own rule and compares it, decision by decision, with what the kernel did
    #[command(
        after_help = "Examples:\n  lazytlb validate traces/linux61-smp8-mixed.trace.txt.xz\n  lazytlb validate my.trace.txt.xz \
                            --tasks tasks.txt --json\n  lazytlb validate host-a.dat host-b.dat\n\nThe rule is Linux's, as the recording shows it: to 6.13, or from \
                            6.14; it is none of the policies of `price`. Open loop: handlers of interrupts are compared, \
                            and are no input. Disagreements fall into a closed list of classes; the first of each are told \
                            with their times.\n\nExit codes: 0 they agree; 1 a kind of decision, or the count of shootdowns, is \
                            off by more than the greater of 5 % and 20; 2 bad usage or bad input."
    )]
    Validate(Validate),
    /// Lists the CPU models and what each has; or, with --detect, what this machine's CPU has
    #[command(
        after_help = "Examples:\n  lazytlb cpus\n  lazytlb cpus --detect\n\nThe rules H1 to H43 are listed in \
                            SOURCES.md; --detect reads CPUID, and the microcode's revision where the system tells it."
    )]
    Cpus(Cpus),
    /// Measures here what user space can measure of the costs, and writes a file for --costs
    #[command(
        after_help = "Examples:\n  lazytlb calibrate -o mine.toml\n  lazytlb decide --costs mine.toml\n\nMeasured are \
                            interrupts to threads that run (membarrier), shootdowns to threads that run and to CPUs that sleep \
                            (mprotect and munmap beside pinned threads), the latter by idle state too, switches to another \
                            process (`cat`), refills after a full flush, locked instructions and fences; it takes some \
                            seconds, and the machine should be idle. All else is as shipped, and says so. In a guest whose \
                            hypervisor flushes for it, interrupts are measured, shootdowns are not. Exit codes: 0 written; 2 not."
    )]
    Calibrate(Calibrate),
    /// Finds the bugs of history, in protocols of their own, and proves their fixes; and what was found in the shootdowns of real
    /// kernels
    #[command(
        after_help = "Examples:\n  lazytlb zoo\n  lazytlb zoo z10\n  lazytlb zoo redox-count --json\n\nEach exhibit is a small protocol, \
                            written anew from public sources, on the smallest program that shows its bug. Without a name: a table, a \
                            row each: the bug, the property that it violates, the events of the shortest counterexample, the \
                            states of the proof of each fix, and the seconds of all. With a name: what happened, the counterexample, what \
                            the fix changes; and the same protocol broken on purpose in more ways, to see that the proof can \
                            fail. docs/zoo.md has the stories, and says what a port cannot show.\n\nExit codes: 0 each bug was found, \
                            by the property that it is listed with, and each fix proved; 1 not so; 2 bad usage; 3 a search \
                            ended early."
    )]
    Zoo(Zoo),
    /// Prints the shipped file of costs: every figure with its range and origin, to edit for --costs
    Costs,
    /// Prints a completion script for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

#[derive(Args, Debug)]
pub(crate) struct Decide {
    /// Recorded workloads, of one host each, `-` for standard input; without one, the recording that ships with the
    /// program. Of several, the choice is for their sum, and each has its own besides
    #[arg(value_name = "TRACE")]
    pub(crate) traces: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) hardware: Hardware,
    /// Whether the CPUs have PCIDs. No recording tells whether its kernel had them: as-recorded shows both
    #[arg(long, value_enum, default_value_t = Pcids::AsRecorded)]
    pub(crate) pcids: Pcids,
    /// In place of the menus, one program that every policy must keep safe
    #[arg(long, value_name = "NAME", value_parser = program())]
    pub(crate) program: Option<String>,
    /// The seconds that all searches of the menus may take together, on each CPU model; what does not end is incomplete
    #[arg(long, value_name = "N", default_value_t = 120, conflicts_with = "program", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) proof_seconds: u64,
    #[command(flatten)]
    pub(crate) pricing: Pricing,
    #[command(flatten)]
    pub(crate) recording: Recording,
    #[command(flatten)]
    pub(crate) bounds: Bounds,
    #[command(flatten)]
    pub(crate) html: Html,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Args, Debug)]
pub(crate) struct Calibrate {
    /// The file of costs to write; without it, the table alone
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Overwrite the file if there is one
    #[arg(long, requires = "output")]
    pub(crate) force: bool,
    /// One JSON object a figure in place of the table
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Record {
    /// The file to write
    #[arg(short, long, value_name = "FILE", default_value = "lazytlb.dat")]
    pub(crate) output: PathBuf,
    /// Overwrite the file if there is one
    #[arg(long)]
    pub(crate) force: bool,
    /// End after this many seconds
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) seconds: Option<u64>,
    /// The size of each CPU's buffer; a larger one survives longer without being read
    #[arg(long, value_name = "KIB", default_value_t = 8192, value_parser = clap::value_parser!(u64).range(64..))]
    pub(crate) buffer_kib: u64,
    /// Use tracepoints alone
    #[arg(long)]
    pub(crate) no_kprobes: bool,
    /// Print the shell script that would do the same, and do nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// What to run meanwhile; without it, until Ctrl-C or --seconds
    #[arg(last = true, value_name = "COMMAND")]
    pub(crate) command: Vec<String>,
}

#[derive(Args, Debug)]
pub(crate) struct Check {
    /// The policy, or all that `decide` chooses among
    #[arg(long, value_name = "P|all", default_value = "all", value_parser = policies())]
    pub(crate) policy: Policies,
    /// The program: what the CPUs do
    #[arg(long, value_name = "NAME", default_value = "reference-3", value_parser = program())]
    pub(crate) program: String,
    /// In place of a program, every program of any length: each CPU starts operations of its set, in any order, any
    /// number of times
    ///
    /// A set is a list with commas; sets of CPUs stand between slashes, CPU 0's first. An operation starts when the CPU
    /// has none under way. Where several CPUs change page tables, they take a lock for that (--lock). An operation is in the first
    /// user space, or, as `switch:2` and `unmap:3`, in a second or third one.
    #[arg(long, value_name = "SET[/SET...]", conflicts_with = "program", value_parser = MenusParser)]
    pub(crate) any: Option<Menus>,
    /// With one set for --any: the CPUs that it is for; what changes page tables (map, unmap, free, protect) is for
    /// CPU 0 alone, the rest for all
    #[arg(long, value_name = "N", requires = "any", value_parser = clap::value_parser!(u8).range(1..=Menus::MOST_CPUS as i64))]
    pub(crate) cpus: Option<u8>,
    /// With sets for --any in which several CPUs change page tables: how they lock them
    #[arg(long, value_name = "HOW", requires = "any", value_parser = page_table_lock())]
    pub(crate) lock: Option<PageTableLock>,
    /// With --any, page-table isolation: each space has a second root, which is loaded in user mode
    #[arg(long, requires = "any")]
    pub(crate) isolation: bool,
    /// CPUs with PCIDs, of which the protocol uses so many at a time on each; without this, PCIDs are off
    #[arg(long, value_name = "SLOTS", value_parser = slots())]
    pub(crate) pcids: Option<Slots>,
    /// With --pcids, on a CPU model with INVLPGB: so many PCIDs that mean the same space on every CPU, so that flushes are broadcast. A space gets
    /// one as soon as a flush has interrupted a CPU in it
    #[arg(long, value_name = "IDS", requires = "pcids", value_parser = global_ids())]
    pub(crate) global_ids: Option<GlobalIds>,
    #[command(flatten)]
    pub(crate) hardware: Hardware,
    /// The memory model
    #[arg(long, value_enum, default_value_t = Memory::Tso)]
    pub(crate) memory: Memory,
    /// Remember states by 128-bit fingerprints: a tiny chance of an omission, stated in the verdict
    #[arg(long)]
    pub(crate) fingerprints: bool,
    /// Make every seam call a step of its own, instead of collapsing those that no CPU can observe
    #[arg(long)]
    pub(crate) no_reduction: bool,
    /// Name the rules that are ASSUMED and that each verdict hangs on: search again without any, and if the
    /// verdict differs, without each
    #[arg(long)]
    pub(crate) assumptions: bool,
    #[command(flatten)]
    pub(crate) bounds: Bounds,
    #[command(flatten)]
    pub(crate) html: Html,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Args, Debug)]
pub(crate) struct Litmus {
    /// Files, directories, or lists of files
    #[arg(required = true)]
    pub(crate) files: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) hardware: Hardware,
    /// The memory model: x86-TSO has store buffers as deep as the test needs
    #[arg(long, value_enum, default_value_t = Memory::Tso)]
    pub(crate) memory: Memory,
    /// Print an execution, step by step: one to a state in which the proposition holds, if there is one, and
    /// one to each violation
    #[arg(long)]
    pub(crate) witness: bool,
    /// Compare the verdicts with a file of them: a test's name and Allow or Forbid a line
    #[arg(long, value_name = "FILE")]
    pub(crate) kinds: Option<PathBuf>,
    /// End a test as incomplete after this many states
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) max_states: Option<u64>,
    #[command(flatten)]
    pub(crate) html: Html,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Args, Debug)]
pub(crate) struct Price {
    /// The recorded workloads, of one host each; `-` for standard input. Of several, each has its rows, and their sum
    #[arg(value_name = "TRACE", required = true)]
    pub(crate) traces: Vec<PathBuf>,
    /// The policy, or all of them
    #[arg(long, value_name = "P|all", default_value = "all", value_parser = policies())]
    pub(crate) policy: Policies,
    /// The CPU model, whose errata `defer-unless-quirk` heeds
    #[arg(long, value_name = "MODEL", default_value = "weakest", value_parser = cpu_model())]
    pub(crate) cpu: CpuModel,
    /// Whether the CPUs have PCIDs. No recording tells whether its kernel had them: as-recorded shows both
    #[arg(long, value_enum, default_value_t = Pcids::AsRecorded)]
    pub(crate) pcids: Pcids,
    /// Split the price of a recording: by the process that asked for what is done, or by intervals of so many seconds, 1 if
    /// not given. The parts add up to the whole
    #[arg(long, value_name = "process|time[=SECONDS]", value_parser = ByParser)]
    pub(crate) by: Option<By>,
    /// With --by process: the processes that are told one by one, the dearest first; the rest are summed
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) top: u32,
    #[command(flatten)]
    pub(crate) pricing: Pricing,
    #[command(flatten)]
    pub(crate) recording: Recording,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Args, Debug)]
pub(crate) struct Validate {
    /// The recordings; `-` for standard input
    #[arg(value_name = "TRACE", required = true)]
    pub(crate) traces: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) recording: Recording,
    /// Interrupt counters before and after, as in /proc/interrupts: their rows `TLB:` are compared,
    /// instead of those that a recording by `lazytlb record` has itself
    #[arg(long, value_name = "FILE")]
    pub(crate) counters: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) output: Output,
}

/// What is known of a recording besides.
#[derive(Args, Debug)]
pub(crate) struct Recording {
    /// The tasks that ran before a recording without kprobes, a line `task TID TGID COMM HAS_MM` each
    #[arg(long, value_name = "FILE")]
    pub(crate) tasks: Option<PathBuf>,
    /// The machine's idle states, in place of those that a recording of `lazytlb record` brings, a line `idle-state NUMBER
    /// NAME LATENCY_US` each
    #[arg(long, value_name = "FILE")]
    pub(crate) idle_states: Option<PathBuf>,
    /// Accept a recording that lacks CPUs which its header announces
    #[arg(long)]
    pub(crate) partial: bool,
    /// Go on with a recording that contradicts a replay of its own kernel's rule
    #[arg(long)]
    pub(crate) unvalidated: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Zoo {
    /// The exhibit to show; without one, all of them in a table
    #[arg(value_name = "NAME", value_parser = exhibit())]
    pub(crate) name: Option<&'static Exhibit>,
    #[command(flatten)]
    pub(crate) bounds: Bounds,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Args, Debug)]
pub(crate) struct Cpus {
    /// Tell what this machine's CPUID says, the quirks found, and which model comes closest
    #[arg(long)]
    pub(crate) detect: bool,
    #[command(flatten)]
    pub(crate) output: Output,
}

/// How far a search goes before it gives up.
#[derive(Args, Debug)]
pub(crate) struct Bounds {
    /// End as incomplete after this many states
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) max_states: Option<u64>,
    /// End as incomplete after this many seconds, for each search
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) max_seconds: Option<u64>,
    /// End as incomplete when states take this many MiB; half of the available memory if not given
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(1..1 << 40))]
    pub(crate) max_memory: Option<u64>,
    /// Threads that explore; the verdict and its counts do not depend on it
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) threads: u16,
}

/// The page that a result is written to, beside what is printed.
#[derive(Args, Debug)]
pub(crate) struct Html {
    /// Write the result as one HTML page, too, which needs no network: tables, and executions to step through
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
}

/// Where the result goes, and in which form.
#[derive(Args, Debug)]
pub(crate) struct Output {
    /// Print JSON, one object a line
    #[arg(long)]
    pub(crate) json: bool,
    /// Write the result to a file
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

impl Decide {
    /// Returns the seconds that all searches share, if they do.
    pub(crate) fn seconds_for_all(&self) -> Option<u64> {
        self.program.is_none().then_some(self.proof_seconds)
    }
}

impl Litmus {
    /// Returns the machine that the tests run on.
    pub(crate) fn machine(&self) -> anyhow::Result<Options> {
        let usual = Options::default();
        Ok(Options {
            cpu_model: self.hardware.model()?,
            sequentially_consistent: matches!(self.memory, Memory::Sc),
            max_states: self.max_states.unwrap_or(usual.max_states),
        })
    }
}
