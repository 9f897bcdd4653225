//! # What a `safe` means, and what it does not
//!
//! *Every execution of this program's operations, on the modelled machine, keeps every property that is looked at;
//! and at least one promise that the proof rests on was kept.* Each word of that is a bound. This page says which.
//!
//! # What is explored
//! Every order of the CPUs' seam calls, every moment at which an interrupt, an NMI or a tick can come, every moment
//! at which a buffered store can become visible, and everything that hardware may cache meanwhile. The code
//! itself runs, not a model of it. What is checked is what
//! [`Property::ALL`](lazytlb_model::Property::ALL) lists, less what [`Program::ignore`](crate::Program::ignore)
//! leaves out.
//!
//! # What a proof rests on
//! The checker knows only from the program what a flush is *for*: that is a promise. It begins
//! ([`Promises::promise_begins`](lazytlb::Promises::promise_begins), or the older
//! [`Memory::flush_begins`](lazytlb::Memory::flush_begins)) when what the flush covers is removed from the page
//! tables, and is kept ([`Promises::promise_kept`](lazytlb::Promises::promise_kept),
//! [`Memory::flush_returned`](lazytlb::Memory::flush_returned)) when the caller relies on it. From then on every use
//! of a covered entry, by whichever CPU, is `stale-use`. Without promises no use is ever stale, and a search finds
//! nothing because it looks for nothing.
//!
//! So [`Verdict::rests_on`](crate::Verdict::rests_on) counts the places in the code that kept a promise which
//! *covered an entry that some CPU might have cached when it began*, those in handlers that an interrupt came to,
//! and those that freed a page table. If no such promise was kept, the verdict is `nothing proved`
//! ([`Verdict::nothing_proved`](crate::Verdict::nothing_proved)), unless the program says in a sentence what it
//! proves instead ([`Program::proves`](crate::Program::proves)); the sentence stands in the verdict. With `stale-use`
//! left out ([`Program::ignore`](crate::Program::ignore)) a promise bears on nothing but stores that are on their way
//! to a device: then only those count that covered a device's entry.
//!
//! [`Verdict::unreached`](crate::Verdict::unreached) and
//! [`Verdict::never_happened`](crate::Verdict::never_happened) list what the proof is silent about. A place is a
//! seam call after certain answers, so no count hangs on [`Reduction`](crate::Reduction) or on threads. A promise
//! about the wrong range or space covers nothing, and nothing is ever stale by it: `never_happened` names each place
//! at which one begins that never covered an entry which some CPU might have cached.
//!
//! A promise is about what was overwritten *as the CPU sees it that begins it*. Begun on behalf of another CPU whose
//! store to the entry still waits in a store buffer, it does not cover that entry: begin it where the store was made,
//! or after something that the store has drained before.
//!
//! # What bounds it
//! * *This program.* A proof speaks of the operations that are written down, in their order on each CPU, and of as
//!   many CPUs, spaces, pages and tables as there are. Another order of operations is another program.
//!   A program with menus ([`Program::offer`](crate::Program::offer)) stands for every program over them, of any
//!   length; [`Verdict::statement`](crate::Verdict::statement) says in a sentence what its proof holds within.
//! * *The CPU model*, which the verdict names. `weakest` has what any CPU does; what a CPU does beside its manual
//!   (errata) is in the model of that CPU only.
//! * *The depth of the store buffers* under TSO: 2 stores, if nobody says otherwise. Real ones are deeper.
//! * *The allocator.* The lowest free frame is taken first, so that reuse comes at once; other orders are not
//!   explored.
//! * *Limits of time, memory and states*: a search that meets one is `incomplete`, never `safe`.
//!
//! # What is assumed
//! * The rules of `SOURCES.md`; those marked ASSUMED are backed by no source.
//! * That the compiler keeps the order of seam calls (H39), and that the code between them touches nothing that
//!   another CPU or a handler sees.
//! * With [`Reduction::CollapseLocal`](crate::Reduction::CollapseLocal), that merged steps commute with every other
//!   CPU's, as [`lazytlb_model::locality`] argues; what that hangs on is checked while exploring.
//! * With [`Storage::Fingerprints`](crate::Storage::Fingerprints), that no two states have one fingerprint:
//!   [`Verdict::omission_probability`](crate::Verdict::omission_probability).
//! * One level of translation; what `lazytlb_model` lists as out of scope.
//!
//! # The second run
//! The search takes it that code is a function of what the seam answers. A captured flag, a guard that takes
//! something back when it drops, a lock, a thread-local variable would make it another function each time, and
//! a bug could hide there. So before any verdict every way through the code is gone once more, and must make
//! the same calls:
//!
//! | way | with what run before | finds |
//! | --- | --- | --- |
//! | alone | nothing: a fresh instance, on a fresh thread | flags that the first run set, thread-local variables |
//! | after others | all others, forwards and backwards; then right after each other one | what one routine leaves behind for another |
//! | amid others | another routine is suspended at a seam call, and goes on afterwards | guards, locks, counters that are shared with a handler |
//!
//! Fresh instances come from the function that builds the program
//! ([`Checker::check_built`](crate::Checker::check_built)). [`Checker::check`](crate::Checker::check) has only the
//! closures that have run already: what they captured is not fresh, and a flag that stays set is not seen.
//!
//! It does not see: a `static` that is set once, because no instance is fresh of it; state that shows only after
//! three routines in one order, or in the third of three that are nested (a captured depth that an operation, the
//! handler that interrupts it, and an NMI's handler all count up: pairs are nested, not more); of programs with
//! very many places, a pair that was not tried (the table below says how many are); and what changes no call.
//! [`Checker::outcomes`](crate::Checker::outcomes) has no second run.
//!
//! Code that does not come back is an error: after [`Checker::max_time`](crate::Checker::max_time), at least 1
//! second and at most 10. The thread that it runs on is left behind. Code that ends the process ends the
//! checker with it: so a verdict comes last, and the JSON of `lazytlb check` ends with the record
//! `{"complete":true,…}`. Without that record, an output is no answer.
//!
//! The function that builds a program is not left behind: it may borrow from its caller, and so runs on its
//! thread, before the search and for each fresh instance. If it does not come back, nor does the check, whatever
//! `max_time` says; after that time a message on the standard error output names it.
//!
//! # Waiting
//! A `deadlock` is a state in which every CPU has ended, waits, or polls without changing anything; or CPUs that change
//! something for ever, with no end that comes by itself: a CPU whose code can go on does in the end, a store leaves its
//! buffer, an interrupt that is pending is taken once interrupts are on. A CPU that tries something now and then may find
//! it wrong each time. An iteration of a poll is run again
//! after others: a retry that gives up after more than 10,000 is taken for one that never does. A timer interrupt
//! helps no wait but [`Poll::poll_until_tick`](lazytlb::Poll::poll_until_tick); while one CPU waits so, others' lost
//! interrupts may be repaired unnoticed. [`Ticks::AtMost`](lazytlb_model::Ticks::AtMost) is a bound on executions.
//! Only operations sleep ([`ModelHw::halt`](crate::ModelHw::halt)), never handlers.
//!
//! # Limits
//! A program that needs more is refused with an error that says so.
//!
//! | what | most |
//! | --- | --- |
//! | CPUs | 8 |
//! | shared cells | 200 |
//! | cells of one CPU | 200 |
//! | cells and page-table entries | 252 |
//! | page-table entries, if `features().page_table_entries` says nothing else | 16 |
//! | entries in a page table | 512 |
//! | stores to one page-table entry | 127 |
//! | levels of page tables | 5 |
//! | frames | 200 |
//! | translations | 64 |
//! | distinct large values: those above the small ones | 96 |
//! | small values, from 0 on, which need no number | 160 |
//! | separate pieces gone of one cached large page | 2 |
//! | separate stale parts of one large page | 2 |
//! | PCIDs | 256 |
//! | open promises of a CPU | 8 |
//! | open promises of a CPU, if `features().promises` says nothing else | 2 |
//! | different spaces and ranges that promises are about | 254 |
//! | roots that one promise names | 4 |
//! | broadcast invalidations | 8 |
//! | stores in a buffer | 63 |
//! | stores in a buffer, if nobody says otherwise | 2 |
//! | places in its code | 4294967295 |
//! | seam calls in one operation | 1000 |
//! | states | 4293918719 |
//! | fresh instances in the second run | 64 |
//! | runs amid others in the second run, and as many right after another | 5000 |
//!
//! # What it does not mean
//! Not that the protocol is right for another program, more CPUs, or deeper buffers; not that it is live beyond
//! what `deadlock` and `lost-wakeup` say; not that a real CPU has no errata that the model lacks; not that the
//! kernel keeps the promise's side of the bargain: that it begins one for *every* change that needs a flush.

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use lazytlb_model::{Features, Limit, Machine, MemoryModel};

    use crate::checker::MOST_STATES;
    use crate::run::CALL_BUDGET;
    use crate::second_run::{MOST_AMID, MOST_INSTANCES};

    /// The page's own table: what is limited, and to how many.
    fn told() -> BTreeMap<&'static str, usize> {
        let page = include_str!("what_safe_means.rs");
        let rows = page.lines().filter_map(|line| {
            let row = line.strip_prefix("//! | ")?.strip_suffix(" |")?;
            let (what, most) = row.split_once(" | ")?;
            Some((what, most.parse().ok()?))
        });
        rows.collect()
    }

    #[test]
    fn the_limits_on_this_page_are_those_of_the_code() {
        let mut limits: BTreeMap<&str, usize> = Machine::limits()
            .into_iter()
            .map(|Limit { what, most }| (what, most))
            .collect();
        let small = Features::small();
        limits.extend([
            (
                "page-table entries, if `features().page_table_entries` says nothing else",
                usize::from(small.page_table_entries),
            ),
            (
                "open promises of a CPU, if `features().promises` says nothing else",
                usize::from(small.promises),
            ),
            (
                "stores in a buffer, if nobody says otherwise",
                usize::from(MemoryModel::TSO.buffer_depth()),
            ),
            ("seam calls in one operation", CALL_BUDGET),
            ("states", MOST_STATES as usize),
            ("fresh instances in the second run", MOST_INSTANCES),
            (
                "runs amid others in the second run, and as many right after another",
                MOST_AMID,
            ),
        ]);
        assert_eq!(told(), limits);
    }
}
