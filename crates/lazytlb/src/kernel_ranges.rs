//! Flushing what the kernel maps for itself, in every space: on every CPU that is online.
//!
//! The kernel's own space counts these generations, and its cpumask is the set of CPUs that are online. A kernel page is mapped in
//! every space. Where it is global, one INVLPG drops it. Where it is not, it is cached under any PCID, and INVLPG drops it under the
//! loaded one: every other is flushed by the load that comes to it. A kernel *table* lies below the upper levels that are cached
//! under any PCID, and below pages that may be global (H13, H38): there everything goes at once.

use crate::addr::{FlushRange, PageRange};
use crate::cpu_set::members_of_word;
use crate::generation::{NextGen, TlbGen};
use crate::hw::{Hw, Quirks};
use crate::interrupts::InterruptsOff;
use crate::kernel::Kernel;
use crate::mm::MmId;
use crate::pcids::Pcids;
use crate::per_cpu::PerCpu;
use crate::pinned::PreemptionIsOff;
use crate::policy::Tables;
use crate::requests::Removed;
use crate::serve::{Served, short};
use crate::shootdown::{Flushed, Shootdown};
use crate::slots::Halves;
use crate::tlb::Tlb;

/// A CPU must not come online: it has errata of which the protocol was not told at boot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NotAdmitted {
    /// What [`Hw::quirks`] would have to say, from boot on.
    pub needed: Quirks,
}

impl<K: Kernel<WORDS, SLOTS>, const WORDS: usize, const SLOTS: usize> Tlb<K, WORDS, SLOTS> {
    /// Says whether a CPU with these errata may come online, before [`Tlb::cpu_online`] and any other call of it.
    ///
    /// What the protocol does about errata is decided by [`Hw::quirks`], which is fixed: [`crate::Policy::DeferUnlessQuirk`] spares lazy CPUs where it names none,
    /// and [`crate::Gather::change_size`] leaves out the break. A CPU that comes later and has one of its own would be spared and
    /// left out just so: it stays off. A kernel that wants it says so at boot, in the quirks that it gives its machine.
    ///
    /// # Errors
    /// If it has an erratum that the machine was not told of.
    ///
    /// Checked by: program `late-quirk`.
    ///
    /// ```
    /// # mod machine { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/machine/mod.rs")); } use machine::*;
    /// use lazytlb::{Policy, Quirks};
    /// let (machine, tlb) = (Machine::default(), boot(Policy::DeferUnlessQuirk));
    /// // What `lazytlb-x86` detects on the CPU that comes:
    /// let late = Quirks::NONE.with_erratum_383();
    /// assert_eq!(tlb.admits(&machine, late).unwrap_err().needed, late);
    /// assert!(tlb.admits(&machine, Quirks::NONE).is_ok());
    /// ```
    pub fn admits(&self, hw: &K::Hw, quirks: Quirks) -> Result<(), NotAdmitted> {
        let told = hw.quirks();
        if told.include(quirks) {
            return Ok(());
        }
        let needed = told.union(quirks);
        Err(NotAdmitted { needed })
    }

    /// Flushes a range of kernel addresses in every space, on every CPU that is online ([`Tlb::cpu_online`]).
    ///
    /// The page-table changes must be written before. When it returns, no CPU uses a translation that they removed, nor, with
    /// [`Tables::Freed`], can walk a table that they unhooked. Lazy and idle CPUs are interrupted: they run kernel code. In steps, it is [`Tlb::add`] with
    /// the kernel's own space.
    ///
    /// Cost: an IPI to every other CPU that is online. With tables, each flushes everything. Interrupts and locks are as for [`Tlb::flush`].
    /// [`Tlb::gather_kernel`] is the safer way to free.
    ///
    /// # Panics
    /// On a machine that does not implement [`Pcids::flush_everything`], when everything is to be flushed: with tables, for long ranges, or
    /// where a request was not found; on another CPU, its handler does.
    ///
    /// Checked by: programs `kernel-page`, `kernel-table`.
    pub fn flush_kernel(&self, hw: &K::Hw, range: FlushRange, tables: Tables) -> Flushed {
        let mut shootdown = self.start(hw, &PreemptionIsOff, ());
        self.add(hw, &mut shootdown, self.kernel.init_mm(), range, tables);
        self.send(hw, &mut shootdown);
        self.wait(hw, shootdown).1
    }

    /// Takes this CPU into those that [`Tlb::flush_kernel`] asks, before it touches anything that may be unmapped.
    ///
    /// First it enters the set, then it flushes everything: what is removed before it is in the set is not cached after that.
    /// Interrupts may be in either state. Cost: a locked instruction, and a flush of everything. A CPU that was not there at boot asks [`Tlb::admits`] first.
    ///
    /// # Panics
    /// On a machine that does not implement [`Pcids::flush_everything`]: so a kernel that lacks it learns that at boot.
    pub fn cpu_online(&self, hw: &K::Hw) {
        self.assert_in_use(hw.cpu());
        let _off = InterruptsOff::new(hw);
        let (me, init_mm) = (
            self.kernel.this_cpu(hw),
            self.kernel.mm(self.kernel.init_mm()),
        );
        init_mm.join(hw, hw.cpu());
        // I3: read before the flush.
        let current = init_mm.tlb_gen(hw);
        self.flush_everything(hw, me);
        me.kernel_flushed_to.store(hw, current);
    }

    /// Takes this CPU out of those that [`Tlb::flush_kernel`] asks, and out of every space. What it touches from here on must never be unmapped.
    ///
    /// Interrupts may be in either state. One that comes back calls [`Tlb::cpu_online`].
    pub fn cpu_offline(&self, hw: &K::Hw) {
        self.switch_mm(hw, self.kernel.init_mm());
        self.kernel.mm(self.kernel.init_mm()).leave(hw, hw.cpu());
    }

    /// Catches up with the newest generation of the kernel's own space. Interrupts are off.
    #[inline(always)]
    pub(crate) fn catch_up_kernel(
        &self,
        hw: &K::Hw,
        me: &PerCpu<K::Hw, WORDS, SLOTS>,
        find: impl Fn(MmId, NextGen) -> Option<Removed>,
    ) -> Served {
        let init_mm = self.kernel.mm(self.kernel.init_mm());
        let current = init_mm.tlb_gen(hw);
        if me.kernel_flushed_to.load(hw) == current {
            return Served::UpToDate;
        }
        self.flush_kernel_here(hw, me, current, |new_gen| find(init_mm.id(), new_gen))
    }

    #[inline(never)]
    fn flush_kernel_here(
        &self,
        hw: &K::Hw,
        me: &PerCpu<K::Hw, WORDS, SLOTS>,
        current: TlbGen,
        find: impl Fn(NextGen) -> Option<Removed>,
    ) -> Served {
        let leaves_globals = hw.pcids_are_on() && hw.quirks().invlpg_leaves_globals;
        let next = me.kernel_flushed_to.load(hw).next();
        let pages = match find(next) {
            Some(Removed {
                range,
                tables: Tables::Kept,
            }) if current == next && !leaves_globals => {
                short(range, u64::from(self.single_page_ceiling()))
            }
            _ => None,
        };
        let served = match pages {
            Some(pages) => {
                self.invalidate_kernel_pages(hw, me, pages);
                Served::InvalidatedPages
            }
            None => {
                self.flush_everything(hw, me);
                Served::FlushedAll
            }
        };
        me.kernel_flushed_to.store(hw, current);
        served
    }

    /// Invalidates pages that the kernel maps, under every PCID.
    fn invalidate_kernel_pages(
        &self,
        hw: &K::Hw,
        me: &PerCpu<K::Hw, WORDS, SLOTS>,
        pages: PageRange,
    ) {
        pages.pages().for_each(|page| hw.invlpg(page));
        if !hw.pcids_are_on() || self.kernel.kernel_pages_are_global() {
            return;
        }
        let is_in_user_space = me.loaded_mm(hw) != self.kernel.init_mm();
        me.slots.set_all_due(hw, Halves::BOTH);
        if is_in_user_space {
            // INVLPG was for this half.
            me.slots.set_due(hw, me.slots.current(hw), Halves::USER);
        }
        me.slots.set_kernel_due(hw, is_in_user_space);
    }

    /// Flushes everything of every PCID, global entries included. Nothing is due then.
    fn flush_everything(&self, hw: &K::Hw, me: &PerCpu<K::Hw, WORDS, SLOTS>) {
        hw.flush_everything();
        if hw.pcids_are_on() {
            me.slots.set_all_due(hw, Halves::NONE);
            me.slots.set_kernel_due(hw, false);
        }
    }

    /// Chooses every other CPU that is online.
    pub(crate) fn choose_online<T>(&self, hw: &K::Hw, shootdown: &mut Shootdown<'_, T, WORDS>) {
        let init_mm = self.kernel.mm(self.kernel.init_mm());
        for word in 0..self.cpu_words() {
            let online = members_of_word(word, init_mm.cpumask_word(hw, word));
            online
                .filter(|&cpu| cpu != hw.cpu())
                .for_each(|cpu| shootdown.choose(cpu));
        }
    }
}
