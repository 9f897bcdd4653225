//! Prices the policies of the lazy TLB protocol on a recorded workload.
//!
//! Which way of treating lazy CPUs is cheapest depends on the workload: IPIs to CPUs that sleep,
//! against CR3 loads on every way into idleness and back, against flushes to catch up. This crate
//! takes the requests of a recording (`lazytlb-trace`), replays them through the *same* protocol
//! code that boots and that is checked (`lazytlb`), on a machine that only counts, and multiplies
//! the counts by figures that have ranges and origins.
//!
//! ```text
//!  TraceReader ──► Operation ──┬──► Replay (policy A) ──► Counts ─┐
//!                  read once   ├──► Replay (policy B) ──► Counts ─┼─► price ──► Cost
//!                              └──► ...                           └─► Decision, over the
//!                                     │                     Costs ──►  whole range of all figures
//!                                     ▼
//!                       lazytlb::Tlb on the counting machine
//! ```
//!
//! ```
//! use lazytlb::{Policy, Quirks};
//! use lazytlb_price::{Costs, Decision, price, price_trace};
//! use lazytlb_trace::TraceReader;
//!
//! let text: &[u8] = b"\
//!   <idle>-0 [001] d.Z1. 1.000001: switch_mm: (f+0x35/0x470) next=0xf0 tsk=0xe0 nctx=7\n\
//!       sh-9 [001] d.Z1. 1.000002: enter_lazy: (f+0xd/0x30) mm=0xf0 tsk=0xe8 loaded=0xf0\n\
//!       sh-9 [000] d.Z.. 1.000003: flush_mm_range: (f+0x5/0x170) mm=0xf0 start=0x1000 \
//! end=0x3000 stride=12 freed=1 ctx=7\n";
//! let mut reader = TraceReader::new(text, "example")?;
//! let replayed = price_trace(&mut reader, &[Policy::InitMm, Policy::Ipi], Quirks::default(), |_| {})?;
//! assert_eq!((replayed[0].counts.ipis, replayed[1].counts.ipis), (0, 1));
//!
//! let costs = Costs::shipped();
//! let cycles = price(&replayed[0].counts, &costs);
//! assert!(cycles.low <= cycles.typical && cycles.typical <= cycles.high);
//! let decision = Decision::among(&[&replayed], &costs).expect("there are policies");
//! println!("{cycles:?}; {} can lose {} cycles", decision.choice.policy, decision.choice.regret);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! | file, in reading order | what |
//! | --- | --- |
//! | `replay` | [`Replay`]: open loop, and what that means |
//! | `requests`, `replayer` | what an operation asks of every machine; one policy's machine, which does it |
//! | `machine`, `cells`, `pcids_on` | what is counted, and how a CPU takes an IPI; the words that it counts at; what it is compiled for |
//! | `holding`, `gathered` | under `quarantine`: what a flush holds back, how much that is, and when it comes back |
//! | `sleep` | [`Sleep`]: how deep an idle CPU sleeps |
//! | `spaces`, `slots` | which space is which; where a machine keeps it |
//! | `counts` | [`Counts`] |
//! | `sums` | counts added up, over recordings and over operations |
//! | `price_trace`, `replayed` | one pass over a recording, for every policy; what that returns |
//! | `pass`, `alike` | the replays of a pass; those that cannot come out differently, which are one |
//! | `split` | [`Split`]: what replays count, by whose operations caused it |
//! | `received` | [`SplitReceived`]: the IPIs that CPUs were sent, by whose CPU time they take |
//! | `costs`, `costs_file`, `cost_argument` | [`Costs`]: figures with ranges and origins; read from a file like `costs/default.toml`; set by themselves |
//! | `price` | [`price()`], [`Difference`] and [`cheapest`] |
//! | `regret`, `measure_first` | [`Decision`]: the policy that can lose least; the figure whose knowledge helps most |
//!
//! What a replay cannot show: races and waiting times (one operation runs at a time), the
//! workload's own reaction to a cheaper policy, and what a flush costs the code that runs next, beyond
//! the range that `refill` has. From tracepoints alone, operations are reconstructed, and counts are off by up to a tenth on the
//! recordings that have kprobes, too. How many page tables a flush frees no recording tells: under `quarantine` both ends are replayed.
//! With PCIDs, a translation that is kept counts as cached still: that others
//! have displaced it meanwhile is not modelled, nor that an idle state which flushes TLBs flushes that, too.
#![forbid(unsafe_code)]

mod alike;
mod cells;
mod cost_argument;
mod costs;
mod costs_file;
mod counts;
mod gathered;
mod holding;
mod machine;
mod measure_first;
mod pass;
mod pcids_on;
mod price;
mod price_trace;
mod received;
mod regret;
mod replay;
mod replayed;
mod replayer;
mod requests;
mod sleep;
mod slots;
mod spaces;
mod split;
mod sums;

pub use cost_argument::CostArgumentError;
pub use costs::{Costs, Figure, MAX_FIGURE_CYCLES, Parameter};
pub use costs_file::{CostsError, CostsProblem};
pub use counts::Counts;
pub use machine::MAX_CPUS;
pub use measure_first::MeasureFirst;
pub use pass::Replays;
pub use pcids_on::PcidsOn;
pub use price::{Cheapest, Cost, Difference, cheapest, price, price_replayed};
pub use price_trace::{price_trace, price_trace_on, price_trace_seen, price_trace_watched};
pub use received::{Received, SplitReceived};
pub use regret::{Decision, Standing};
pub use replay::Replay;
pub use replayed::{PriceError, Progress, Replayed};
pub use requests::ReplayError;
pub use sleep::Sleep;
pub use split::Split;
