//! The zoo: the bugs of history, and the shootdowns of real kernels, as protocols of their own.
//!
//! Each exhibit is a small protocol over the seam ([`lazytlb::Hw`] and the traits beside it), written anew from public
//! sources: facts and algorithm, no code. It comes with the smallest program that shows its bug, the shortest counterexample
//! that the checker finds, and the fix, proved on the same program. A protocol in which nothing was found is proved as it
//! stands. And because a proof that could not fail is none, each is broken in two more ways, which the checker must find.
//!
//! Exhibits share what is nobody's subject (`setting`, `calls`), and nothing else: each file is a whole protocol, read alone, though two kernels of
//! one family look alike.
//!
//! `lazytlb zoo` runs it; `docs/zoo.md` has the table and the stories. What a port leaves out, its header says.
//!
//! ```
//! use lazytlb_check::Checker;
//!
//! let exhibit = lazytlb_zoo::by_name("z5").unwrap();
//! let bug = exhibit.bug.unwrap();
//! let verdict = bug.check(&Checker::new(), |_| {}).unwrap();
//! assert!(bug.is_as_expected(&verdict));
//! ```
//!
//! | file | what |
//! | --- | --- |
//! | `exhibit` | what an exhibit is, and its cases |
//! | `setting`, `calls` | the space that programs start from; calls by interrupt, which are no exhibit's subject |
//! | `z1_lazy_skipped` | Linux 4.14-rc: lazy CPUs are skipped by every flush |
//! | `z2_lazy_test_inverted` | Linux 4.18-rc: the test for them is the wrong way round |
//! | `z3_freed_before_the_flush` | Linux 4.18: tables go back on short cuts before the flush |
//! | `z4_mremap` | Linux 4.18: a lock is released before the flush |
//! | `z5_switching` | Linux 6.14: a CPU that is switching is skipped |
//! | `z6_freebsd` | FreeBSD: generations that are cleared too late |
//! | `z7_recycled_pcid` | a PCID that passes to another space |
//! | `z8_page_size` | a mapping that changes its size |
//! | `z9_exit` | a space that ends |
//! | `z10_missing_fence` | Linux 6.15: a fence that was a locked instruction |
//! | `xen`, `asterinas` | Xen's flush clock, and Asterinas: found safe |
//! | `redox` | Redox: four ways to fail |
#![forbid(unsafe_code)]

mod asterinas;
mod calls;
mod exhibit;
mod redox;
mod setting;
mod xen;
mod z10_missing_fence;
mod z1_lazy_skipped;
mod z2_lazy_test_inverted;
mod z3_freed_before_the_flush;
mod z4_mremap;
mod z5_switching;
mod z6_freebsd;
mod z7_recycled_pcid;
mod z8_page_size;
mod z9_exit;

pub use exhibit::{Case, Exhibit, Expected, Role, length};

/// Every exhibit, in the order of the table.
pub const ALL: &[Exhibit] = &[
    z1_lazy_skipped::EXHIBIT,
    z2_lazy_test_inverted::EXHIBIT,
    z3_freed_before_the_flush::EXHIBIT,
    z4_mremap::EXHIBIT,
    z5_switching::EXHIBIT,
    z6_freebsd::EXHIBIT,
    z7_recycled_pcid::EXHIBIT,
    z8_page_size::EXHIBIT,
    z9_exit::EXHIBIT,
    z10_missing_fence::EXHIBIT,
    xen::EXHIBIT,
    asterinas::EXHIBIT,
    redox::tables::EXHIBIT,
    redox::count::EXHIBIT,
    redox::space::EXHIBIT,
    redox::used_by::EXHIBIT,
];

/// Returns the exhibit of a name; `None` if there is none.
pub fn by_name(name: &str) -> Option<&'static Exhibit> {
    ALL.iter().find(|exhibit| exhibit.name == name)
}
