//! The seam: all that the protocol asks of a machine.
//!
//! Three machines implement it: real x86 CPUs, an adversarial model that does whatever the manuals
//! allow, and one that counts. Between two calls the protocol is local and deterministic; that is
//! what lets a checker run the real code and still see every interleaving.
//!
//! # Memory ordering
//! Atomics take no ordering argument. Loads acquire, stores release, read-modify-writes are
//! sequentially consistent, and the instructions below clobber memory; so the compiler keeps the calls
//! in program order, and the only reordering left is x86-TSO's: a load may pass an earlier store.
//! Source: SDM 3A, "Memory Ordering".

use crate::addr::{PhysAddr, VirtAddr};
use crate::cpu_set::{CpuId, CpuSet};
use crate::words::{ProtocolWord, ValueKind};

/// Whether this CPU takes maskable interrupts.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Interrupts {
    /// They are taken (RFLAGS.IF = 1).
    Enabled,
    /// They are held back (RFLAGS.IF = 0).
    Disabled,
}

/// What a CR3 load does to the cached translations of the space that it loads.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Cr3Load {
    /// Invalidates them, paging-structure caches included; global entries stay (bit 63 = 0).
    Flush,
    /// Keeps them (bit 63 = 1): only with PCIDs.
    Keep,
}

/// The condition that a wait is for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Until {
    /// The atomic holds 0.
    Zero,
    /// The atomic holds this value.
    Equals(u64),
    /// The atomic holds this value or a greater one.
    AtLeast(u64),
}

impl Until {
    /// Says whether `value` meets the condition.
    pub const fn holds(self, value: u64) -> bool {
        match self {
            Until::Zero => value == 0,
            Until::Equals(wanted) => value == wanted,
            Until::AtLeast(least) => value >= least,
        }
    }
}

/// What software could find out about the CPU's errata that bear on walks of freed page tables.
///
/// Absence proves nothing: it says that no *known* erratum was detected. Errata are added to [`Quirks::NONE`]:
///
/// ```
/// use lazytlb::Quirks;
///
/// const OLD_AMD: Quirks = Quirks::NONE.with_erratum_383().with_walks_assume_dram();
/// assert!(OLD_AMD.garbage_walk_is_fatal());
/// ```
///
/// Others will be found: outside of this crate nobody can name them all.
/// ```compile_fail,E0639
/// let all = lazytlb::Quirks { erratum_383: true, walks_assume_dram: true };
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[non_exhaustive]
pub struct Quirks {
    /// AMD family 10h, erratum 383: two matching TLB entries end in a machine check.
    pub erratum_383: bool,
    /// The CPU assumes that page tables lie in write-back DRAM (HWCR.TlbCacheDis = 0): a walk
    /// that leaves it ends in a machine check.
    pub walks_assume_dram: bool,
    /// INVLPG leaves global entries where PCIDs are on (Intel: Alder Lake, Raptor Lake before a microcode update).
    pub invlpg_leaves_globals: bool,
    /// An instruction fetch that finds a page in two sizes can end in a machine check (Intel, CVE-2018-12207).
    pub itlb_multihit: bool,
}

/// Whether instructions may be fetched from a page, before it changes its size or after.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Fetched {
    /// It is executable in one of the two sizes at least.
    Perhaps,
    /// It is executable in neither.
    Never,
}

impl Quirks {
    /// No erratum was detected.
    pub const NONE: Quirks = Quirks {
        erratum_383: false,
        walks_assume_dram: false,
        invlpg_leaves_globals: false,
        itlb_multihit: false,
    };

    /// Adds erratum 383.
    #[must_use]
    pub const fn with_erratum_383(mut self) -> Quirks {
        self.erratum_383 = true;
        self
    }

    /// Adds that walks which leave DRAM end in a machine check.
    #[must_use]
    pub const fn with_walks_assume_dram(mut self) -> Quirks {
        self.walks_assume_dram = true;
        self
    }

    /// Adds that INVLPG leaves global entries where PCIDs are on.
    #[must_use]
    pub const fn with_invlpg_leaves_globals(mut self) -> Quirks {
        self.invlpg_leaves_globals = true;
        self
    }

    /// Adds that a fetch which finds a page in two sizes can end in a machine check.
    #[must_use]
    pub const fn with_itlb_multihit(mut self) -> Quirks {
        self.itlb_multihit = true;
        self
    }

    /// Returns the errata of either: what a kernel tells the protocol is the union over all of its CPUs.
    #[must_use]
    pub const fn union(self, other: Quirks) -> Quirks {
        Quirks {
            erratum_383: self.erratum_383 || other.erratum_383,
            walks_assume_dram: self.walks_assume_dram || other.walks_assume_dram,
            invlpg_leaves_globals: self.invlpg_leaves_globals || other.invlpg_leaves_globals,
            itlb_multihit: self.itlb_multihit || other.itlb_multihit,
        }
    }

    /// Says whether these are all the errata of `other` at least: whether a CPU with those may come to a kernel that was told of these.
    #[must_use]
    pub fn include(self, other: Quirks) -> bool {
        self.union(other) == self
    }

    /// Says whether a page must not be cached in two sizes at once.
    #[must_use]
    pub const fn forbid_two_sizes(self, fetched: Fetched) -> bool {
        self.erratum_383 || self.itlb_multihit && matches!(fetched, Fetched::Perhaps)
    }

    /// Says whether a walk of garbage is known to be fatal on this CPU.
    pub const fn garbage_walk_is_fatal(self) -> bool {
        self.erratum_383 || self.walks_assume_dram
    }
}

/// The machine under the protocol.
///
/// All memory that another CPU or an interrupt handler may see, and every hardware effect, goes
/// through here. An implementation may own the storage: its `Atomic` can be an `AtomicU64`, or a
/// number that stands for one.
pub trait Hw: Sized {
    /// A 64-bit word that every CPU may access.
    type Atomic;
    /// A 64-bit word that only one CPU and its interrupt handlers access.
    type Local;

    /// Returns the CPU that runs this code. Preemption must be off, or the answer is stale.
    fn cpu(&self) -> CpuId;

    /// Reads an atomic (acquire).
    fn load(&self, atomic: &Self::Atomic) -> u64;
    /// Writes an atomic (release). Other CPUs may see it later than this CPU's next loads.
    fn store(&self, atomic: &Self::Atomic, value: u64);
    /// Adds with wrap-around; returns the former value. A full fence.
    fn fetch_add(&self, atomic: &Self::Atomic, value: u64) -> u64;
    /// Sets bits; returns the former value. A full fence.
    fn fetch_or(&self, atomic: &Self::Atomic, bits: u64) -> u64;
    /// Keeps only these bits; returns the former value. A full fence.
    fn fetch_and(&self, atomic: &Self::Atomic, bits: u64) -> u64;
    /// Exchanges; returns the former value. A full fence.
    fn swap(&self, atomic: &Self::Atomic, value: u64) -> u64;
    /// Reads this CPU's own word.
    fn load_local(&self, local: &Self::Local) -> u64;
    /// Writes this CPU's own word.
    fn store_local(&self, local: &Self::Local, value: u64);
    /// Orders every earlier store before every later load (MFENCE, or a locked instruction).
    fn fence(&self);

    /// Returns whether this CPU takes interrupts.
    fn interrupts(&self) -> Interrupts;
    /// Disables interrupts and returns the former state, so that guards nest (PUSHF, CLI).
    fn disable_interrupts(&self) -> Interrupts;
    /// Restores a state that [`Hw::disable_interrupts`] returned (POPF).
    fn restore_interrupts(&self, former: Interrupts);
    /// Sends the flush interrupt to every CPU of the set. It is *not* a fence: on an x2APIC an earlier
    /// store may still be buffered when the target's handler runs.
    fn send_ipi<const WORDS: usize>(&self, targets: &CpuSet<WORDS>);
    /// Waits until the atomic meets the condition (PAUSE in a loop, or MWAIT). Called with
    /// interrupts enabled, so that this CPU serves others' requests meanwhile.
    fn pause_until(&self, atomic: &Self::Atomic, until: Until);

    /// Loads CR3 with a space's root table (MOV to CR3). A serializing instruction.
    fn load_cr3(&self, root: PhysAddr, load: Cr3Load);
    /// Invalidates one page of the loaded space, with its paging-structure caches (INVLPG). A
    /// serializing instruction.
    fn invlpg(&self, addr: VirtAddr);
    /// Returns the errata found at boot.
    fn quirks(&self) -> Quirks;
}

/// Waits that look at memory again and again: for more than one word, or with interrupts off.
///
/// A loop over loads is not a wait to a checker, which would have to follow it round for ever. Here the
/// machine has the loop, and the code has its body. Each iteration begins anew: what the body captures must
/// not change from one to the next, so a number of attempts has its place in a word of the machine, or in
/// a loop around bounded code.
///
/// Why a trait of its own: a machine has the loop, so each must be taught it, and this crate's protocol waits by
/// [`Hw::pause_until`] alone.
///
/// ```
/// use lazytlb::{Hw, Poll};
///
/// /// Waits for an answer with interrupts off, and serves what comes in meanwhile.
/// fn wait<H: Poll>(hw: &H, answer: &H::Atomic, inbox: &H::Atomic) -> u64 {
///     hw.poll(|hw| {
///         if hw.swap(inbox, 0) != 0 {
///             // Serve the request here.
///         }
///         match hw.load(answer) {
///             0 => None,
///             answer => Some(answer),
///         }
///     })
/// }
/// ```
pub trait Poll: Hw {
    /// Runs `body` until it finds something, and returns that (PAUSE in a loop). Interrupts stay as the
    /// caller has them, and each iteration must leave them as it found them.
    fn poll<R>(&self, body: impl Fn(&Self) -> Option<R>) -> R;

    /// As [`Poll::poll`], where only a timer interrupt may bring what the code waits for. A checker takes
    /// a timer for no help to any other wait: it would hide a lost IPI.
    fn poll_until_tick<R>(&self, body: impl Fn(&Self) -> Option<R>) -> R {
        self.poll(body)
    }
}

/// Makes the words that a [`crate::Mm`] and a [`crate::PerCpu`] consist of, when a kernel creates
/// them, and those of other protocols.
///
/// Two methods suffice, and their names are for people who debug. A machine to which it matters *which*
/// word of the protocol it makes overrides [`Cells::protocol_atomic`] and [`Cells::protocol_local`]; one to
/// which the *kind* of value matters, [`Cells::atomic_of_kind`] and [`Cells::local_of_kind`].
pub trait Cells<H: Hw> {
    /// Makes an atomic with a first value.
    fn atomic(&mut self, name: &'static str, value: u64) -> H::Atomic;
    /// Makes a word of the CPU whose [`crate::PerCpu`] is being made.
    fn local(&mut self, name: &'static str, value: u64) -> H::Local;

    /// Makes an atomic that holds values of a kind.
    fn atomic_of_kind(&mut self, kind: ValueKind, name: &'static str, value: u64) -> H::Atomic {
        let _ = kind;
        self.atomic(name, value)
    }
    /// Makes a word of this CPU that holds values of a kind.
    fn local_of_kind(&mut self, kind: ValueKind, name: &'static str, value: u64) -> H::Local {
        let _ = kind;
        self.local(name, value)
    }

    /// Makes a word of the protocol that every CPU may access.
    fn protocol_atomic(&mut self, word: ProtocolWord, value: u64) -> H::Atomic {
        self.atomic_of_kind(word.kind(), word.name(), value)
    }
    /// Makes a word of the protocol that is this CPU's own.
    fn protocol_local(&mut self, word: ProtocolWord, value: u64) -> H::Local {
        self.local_of_kind(word.kind(), word.name(), value)
    }
}
