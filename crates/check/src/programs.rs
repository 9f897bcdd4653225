//! The programs that ship: scenarios in which a protocol must keep every property.
//!
//! | file | what the programs there are about |
//! | --- | --- |
//! | `reference` | one CPU maps and frees, others come and go lazily: the debate of 2017 |
//! | `initiators` | several CPUs flush at once |
//! | `spaces` | several spaces, and the end of one |
//! | `parts` | shootdowns in parts, which are waited for once, and one within another |
//! | `interrupts_off` | flushes with interrupts off, and a lock that CPUs spin for so |
//! | `in_handlers` | a timer handler that flushes, or retires a space |
//! | `ends` | the end of a space, on a CPU that is in it |
//! | `batches` | what one flush covers, and what is freed after it |
//! | `memory_types` | write-combining stores, devices, and memory that changes its type |
//! | `nmi` | what an NMI handler may touch |
//! | `page_sizes` | a mapping that becomes a large page, and large pages that go |
//! | `kernel_ranges` | what the kernel maps for itself, in every space |
//! | `isolation` | two roots for a space |
//! | `software_walks` | software that walks page tables without a lock |
//! | `global_ids` | PCIDs that another space gets when one ends |
//! | [`any_length`] | menus of operations, of which each CPU starts whatever it likes, for ever |
//! | `setup` | what they are made of |
//! | `garbage` | walks of freed tables, followed to their ends |

pub mod any_length;
mod batches;
mod ends;
mod garbage;
mod global_ids;
mod in_handlers;
mod initiators;
mod interrupts_off;
mod isolation;
mod kernel_ranges;
mod memory_types;
mod nmi;
mod page_sizes;
mod parts;
mod reference;
mod setup;
mod software_walks;
mod spaces;

use std::fmt;

use lazytlb::Policy;

use crate::program::Program;
use crate::protocol::Protocol;
use setup::MakeProtocol;

/// How a program is made for a protocol under a policy.
type Build = fn(&str, MakeProtocol) -> Program;

/// A shipped program: its name, what it is for, and how to make it for a protocol.
pub struct ShippedProgram<P> {
    /// The name that people type.
    pub name: &'static str,
    /// What the CPUs do, in a sentence.
    pub about: &'static str,
    build: Build,
    protocol: std::marker::PhantomData<fn() -> P>,
}

impl<P> fmt::Debug for ShippedProgram<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShippedProgram")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl<P: Protocol> ShippedProgram<P> {
    /// Every shipped program.
    pub fn all() -> Vec<ShippedProgram<P>> {
        let shipped = PROGRAMS.into_iter().map(|(name, about, build)| {
            let protocol = std::marker::PhantomData;
            ShippedProgram {
                name,
                about,
                build,
                protocol,
            }
        });
        shipped.collect()
    }

    /// Finds a program by its name.
    pub fn by_name(name: &str) -> Option<ShippedProgram<P>> {
        Self::all().into_iter().find(|program| program.name == name)
    }

    /// Makes the program under a policy.
    pub fn build(&self, policy: Policy) -> Program {
        (self.build)(self.name, MakeProtocol::of::<P>(policy))
    }
}

/// The programs: a name, what the CPUs do, and what makes it. They are compiled once, for whatever protocol.
const PROGRAMS: [(&str, &str, Build); 77] = [
    (
        "smoke",
        "2 CPUs: one maps, unmaps and frees a table once; the other touches and goes lazy",
        reference::smoke,
    ),
    (
        "reference-3",
        "3 CPUs: one maps, unmaps and frees a table twice, in reused frames; two switch to the \
                 space, touch, go lazy, come back, touch",
        reference::reference_3,
    ),
    (
        "reference-4",
        "reference-3, and a fourth CPU that maps and unmaps a second address in the same space",
        reference::reference_4,
    ),
    (
        "no-table-free",
        "reference-3 without freeing tables: only pages come and go",
        reference::no_table_free,
    ),
    (
        "walked-from-outside",
        "2 CPUs: one maps and frees a table three times; the other, in the kernel's own space, walks the tables by \
                 software, without a lock",
        software_walks::walked_from_outside,
    ),
    (
        "walked-inside",
        "walked-from-outside, by a CPU that has switched to the space",
        software_walks::walked_inside,
    ),
    (
        "walked-by-a-lazy-cpu",
        "walked-from-outside, by a CPU that is lazy in the space",
        software_walks::walked_by_a_lazy_cpu,
    ),
    (
        "walked-while-parts-are-waited-for",
        "2 CPUs: one unhooks a table, flushes in two parts, waits once, and frees it; the other, in the kernel's own \
                 space, walks the tables by software",
        software_walks::walked_while_parts_are_waited_for,
    ),
    (
        "walked-beside-a-target",
        "walked-from-outside, and a third CPU that runs in the space",
        software_walks::walked_beside_a_target,
    ),
    (
        "walked-beside-a-lazy-cpu",
        "walked-from-outside, and a third CPU that goes lazy in the space, then leaves it",
        software_walks::walked_beside_a_lazy_cpu,
    ),
    (
        "two-initiators",
        "2 CPUs in one space: each unmaps an address of its own and flushes the other",
        initiators::two_initiators,
    ),
    (
        "two-initiators-one-target",
        "3 CPUs: one flushes everything, one unmaps a page and frees its table, both from the \
                 kernel's own space; the third switches to the space, touches, goes lazy",
        initiators::two_initiators_one_target,
    ),
    (
        "lazy-initiator",
        "2 CPUs: one goes lazy and, as a kernel thread that reclaims memory, unmaps a page of the \
                 space that it is lazy in; the other flushes everything there, then frees a table",
        initiators::lazy_initiator,
    ),
    (
        "two-spaces",
        "3 CPUs: one unmaps a page of the space that the second uses, then flushes the third's",
        spaces::two_spaces,
    ),
    (
        "lazy-between-spaces",
        "3 CPUs: two unmap a page, each in a space of its own; the third goes lazy in one space, \
                 and switches to the other",
        spaces::lazy_between_spaces,
    ),
    (
        "back-and-forth",
        "2 CPUs: one goes back and forth between two spaces, and touches in each; the other maps and unmaps \
                 a page in one of them, flushes everything there, and frees the table",
        spaces::back_and_forth,
    ),
    (
        "free-from-elsewhere",
        "2 CPUs: one frees a table of a space that it has left for another, where the second touches",
        spaces::free_from_elsewhere,
    ),
    (
        "exit",
        "3 CPUs: two leave the space, lazily; the third, lazy itself, retires it and frees its \
                 root",
        spaces::exit,
    ),
    (
        "retire-anywhere",
        "3 CPUs: one is lazy in a space, one switches to it and on; the third, which has it loaded, retires it \
                 with interrupts off, frees its root, and reuses the frame as a table",
        ends::retire_anywhere,
    ),
    (
        "retire-two",
        "2 CPUs: one has been in two spaces and idles in one; the other retires both, one after the other, and frees \
                 their roots",
        ends::retire_two,
    ),
    (
        "flush-trim-retire",
        "2 CPUs: one goes to another space, back, and lazy; the other unmaps a page, frees its table, and \
                 retires the space",
        ends::flush_trim_retire,
    ),
    (
        "retire-while-coming",
        "2 CPUs: one goes to a space, lazy, back, and lazy; the other, which has left it for another one, retires \
                 it and frees its root",
        ends::retire_while_coming,
    ),
    (
        "two-adds",
        "3 CPUs: one unmaps a page in each of two spaces, with one shootdown in two parts; each of \
                 the others is in one of them, and one goes lazy and comes back",
        parts::two_adds,
    ),
    (
        "added-after-a-send",
        "2 CPUs: one unmaps two pages with one shootdown, of which the second part is added when the first was sent; \
                 the other touches that",
        parts::added_after_a_send,
    ),
    (
        "nested-shootdown",
        "2 CPUs: one unmaps a page, and between sending that and waiting for it another one; the other touches \
                 both, goes lazy, comes back",
        parts::nested,
    ),
    (
        "nested-elsewhere",
        "2 CPUs: one unmaps a page, and between sending that and waiting for it one of another space; the other \
                 touches the first",
        parts::nested_elsewhere,
    ),
    (
        "shootdown-in-a-handler",
        "2 CPUs: one unmaps a page, and flushes everything; a tick anywhere there unmaps another page; the other \
                 touches both",
        in_handlers::shootdown,
    ),
    (
        "retire-in-a-handler",
        "2 CPUs: one unmaps a page of a space; a tick anywhere there retires another space, which the second CPU \
                 has left for the first",
        in_handlers::retire,
    ),
    (
        "table-freed-in-a-handler",
        "2 CPUs: one frees a table, and its timer handler another one, while the other is lazy",
        in_handlers::free_a_table,
    ),
    (
        "retire-while-reaping",
        "1 CPU: retires a space and reaps it, and its timer handler retires another one",
        in_handlers::retire_while_reaping,
    ),
    (
        "waits-with-interrupts-off",
        "2 CPUs in one space: each unmaps a page of its own with interrupts off, and flushes the other",
        interrupts_off::two_waits,
    ),
    (
        "lock-and-flush",
        "2 CPUs in one space: each unmaps a page under one lock; one spins for it, and flushes, with interrupts off",
        interrupts_off::lock_and_flush,
    ),
    (
        "nmi",
        "2 CPUs: one goes lazy and comes back, then to another space, and takes an NMI, whose handler touches \
                 user memory where it may; the other unmaps that",
        nmi::nmi,
    ),
    (
        "table-after-pages",
        "2 CPUs: one unmaps a page, then frees its table with a flush of its own; the other goes \
                 lazy in between",
        batches::table_after_pages,
    ),
    (
        "two-pages-at-once",
        "2 CPUs: one unmaps two pages with one flush, the other touches both",
        batches::two_pages_at_once,
    ),
    (
        "many-ranges",
        "2 CPUs: one unmaps five pages that lie apart with one flush, the other touches the last",
        batches::many_ranges,
    ),
    (
        "full-batch",
        "2 CPUs: one frees a page and two tables, one more than its batch takes, while the other is lazy",
        batches::full_batch,
    ),
    (
        "full-batch-of-pages",
        "2 CPUs: one frees two pages and then their table, one more than its batch takes, while the other is lazy",
        batches::full_batch_of_pages,
    ),
    (
        "no-room",
        "2 CPUs: one frees a page and its table without room to gather them, while the other is lazy",
        batches::no_room,
    ),
    (
        "detached-subtree",
        "2 CPUs: one frees a table that still leads to a page, while the other is lazy",
        batches::detached_subtree,
    ),
    (
        "nothing-to-flush",
        "2 CPUs: one unmaps and frees a page that the other uses; that one finds it unmapped, and relies on it",
        batches::nothing_to_flush,
    ),
    (
        "subtree",
        "2 CPUs: one frees two tables, and names an address below one of them; the other touches that",
        batches::subtree,
    ),
    (
        "isolated-subtree",
        "subtree, with page-table isolation",
        batches::isolated_subtree,
    ),
    (
        "write-combining",
        "2 CPUs: one writes a page of ordinary memory with non-temporal stores, and goes lazy; the \
                 other unmaps and frees the page",
        memory_types::ordinary,
    ),
    (
        "device-unmap",
        "2 CPUs: one writes to a device through a write-combining mapping, and goes lazy; the other \
                 unmaps the device",
        memory_types::device,
    ),
    (
        "device-unmap-read-back",
        "device-unmap, and the driver reads back from the device before the flush counts as done",
        memory_types::device_with_read_back,
    ),
    (
        "device-unmap-after-flushes",
        "device-unmap-read-back, after two flushes of the space",
        memory_types::device_after_flushes,
    ),
    (
        "device-unmap-read-back-each",
        "device-unmap, and each CPU that wrote reads back by itself: in the interrupt's handler, or as it leaves the \
                 space",
        memory_types::device_with_read_back_on_each,
    ),
    (
        "type-change",
        "2 CPUs: one writes to write-combining memory; the other makes it write-back: break, flush, \
                 make",
        memory_types::change_type,
    ),
    (
        "type-change-from-write-back",
        "type-change the other way: write-back memory becomes write-combining",
        memory_types::change_type_from_write_back,
    ),
    (
        "type-change-elsewhere",
        "2 CPUs: each has been in the space, and goes on to another one; the first changes the type of its memory \
                 from write-back to write-combining there, and comes back",
        memory_types::change_type_elsewhere,
    ),
    (
        "type-change-in-place",
        "type-change the unsound way: make, flush",
        memory_types::make_flush,
    ),
    (
        "promote",
        "2 CPUs: one uses a 4 KiB page; the other makes a 2 MiB page of it: break, flush, make where two sizes may \
                 not coexist",
        page_sizes::promote,
    ),
    (
        "promote-data",
        "promote, of pages that no instruction is fetched from",
        page_sizes::promote_data,
    ),
    (
        "promote-in-place",
        "promote without the break: make, flush",
        page_sizes::promote_in_place,
    ),
    (
        "split",
        "2 CPUs: one uses a 2 MiB page; the other makes 4 KiB pages of it",
        page_sizes::split,
    ),
    (
        "two-large-pages",
        "2 CPUs: one unmaps two pages of 2 MiB with one flush, the other touches both",
        page_sizes::two_large_pages,
    ),
    (
        "kernel-page",
        "2 CPUs: one unmaps and frees a page of the kernel's; the other uses it in two spaces, and lazily",
        kernel_ranges::page,
    ),
    (
        "kernel-page-global",
        "kernel-page, where it is mapped as global",
        kernel_ranges::global_page,
    ),
    (
        "kernel-table",
        "kernel-page, and the page's table goes too",
        kernel_ranges::table,
    ),
    (
        "kernel-two-initiators",
        "2 CPUs: each unmaps and frees a page of the kernel's, and uses the other one's",
        kernel_ranges::two_initiators,
    ),
    (
        "comes-online",
        "2 CPUs: one comes online, goes, and comes back, while the other unmaps and frees a page of the kernel's",
        kernel_ranges::comes_online,
    ),
    (
        "late-quirk",
        "2 CPUs: one unmaps a page and frees its table; the other comes later, with errata that the kernel was not \
                 told of",
        kernel_ranges::late_quirk,
    ),
    (
        "isolated",
        "2 CPUs, page-table isolation: one unmaps and frees a page, the other uses it in user mode",
        isolation::isolated,
    ),
    (
        "isolated-tables",
        "isolated, and the page's table goes too",
        isolation::isolated_tables,
    ),
    (
        "isolated-large",
        "2 CPUs, page-table isolation: one unmaps a 2 MiB page, the other uses a part of it in user mode",
        isolation::isolated_large,
    ),
    (
        "three-flushes",
        "2 CPUs: one flushes, unmaps a page, and frees its table; the other touches the page, goes lazy, comes back, \
                 touches",
        global_ids::moves,
    ),
    (
        "three-flushes-in-steps",
        "2 CPUs: one flushes twice, then unmaps a page by a shootdown in steps; the other touches it",
        global_ids::in_steps,
    ),
    (
        "three-flushes-isolated",
        "2 CPUs, page-table isolation: one flushes twice, then unmaps a page; the other uses it in user mode",
        global_ids::isolated,
    ),
    (
        "initiator-inside-in-steps",
        "2 CPUs: one flushes the space that it runs in by a shootdown in steps; the other flushes it, unmaps a page, \
                 and frees its table",
        global_ids::inside_in_steps,
    ),
    (
        "lazy-beside-steps",
        "3 CPUs: one flushes, then by a shootdown in steps, and frees a table; one is in the space, and one lazy there",
        global_ids::lazy_in_steps,
    ),
    (
        "two-global-ids",
        "2 CPUs: one is flushed in two spaces, goes to a third, touches a page, and comes back to the second, \
                 where that is not mapped",
        global_ids::two_ids,
    ),
    (
        "two-global-ids-isolated",
        "two-global-ids, in user mode, with page-table isolation",
        global_ids::two_ids_isolated,
    ),
    (
        "recycled-id",
        "2 CPUs: one is flushed in a space, and keeps what is cached while that ends; then in a second one, which \
                 gets the PCID of the first where it is the same on every CPU",
        global_ids::recycled,
    ),
    (
        "garbage-entry",
        "2 CPUs, garbage walks followed: one frees a table while the other is lazy, comes back and \
                 touches",
        garbage::entry,
    ),
    (
        "garbage-entry-without-pge",
        "garbage-entry with CR4.PGE clear: nothing survives the CR3 load that catches up",
        garbage::entry_without_pge,
    ),
    (
        "garbage-accessed-bit",
        "2 CPUs, garbage walks followed: one frees a table, and reuses the frame as a page, while \
                 the other is lazy",
        garbage::accessed_bit,
    ),
];
