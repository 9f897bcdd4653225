//! The words of shared and per-CPU state: which of the protocol's they are, and what kind of value they hold.
//!
//! Whoever makes a word ([`crate::Cells`]) is told both. *Which word* lets a machine treat one of them in a
//! way of its own: the counting machine counts a read of another CPU's lazy flag. *What kind* is for
//! anybody's protocol: a checker holds what the code does against it. Both say what a name only hints at;
//! names are for people.

/// Names a word of a [`crate::Mm`] or a [`crate::PerCpu`]: the field that it is, or is a part of.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum ProtocolWord {
    /// The generation of a space.
    TlbGen,
    /// A part of a space's cpumask.
    Cpumask,
    /// The space whose root is in this CPU's CR3.
    LoadedMm,
    /// The same, as other CPUs see it.
    Whereabouts,
    /// The space that a slot of this CPU belongs to.
    SlotMm,
    /// The same space's handle, while this CPU is in its cpumask.
    SlotJoined,
    /// How far this CPU has flushed what is cached under a slot's PCID.
    FlushedTo,
    /// Which halves of a slot are to be flushed when they are loaded next.
    SlotDue,
    /// Whether the kernel's own PCID is to be flushed when it is loaded next.
    KernelDue,
    /// How far this CPU has flushed kernel ranges.
    KernelFlushedTo,
    /// The slot of the user space that this CPU has loaded, or had last.
    CurrentSlot,
    /// The slot that is replaced next.
    NextVictim,
    /// Whether a CPU is lazy.
    IsLazy,
    /// Whether software walks page tables on a CPU.
    IsWalking,
    /// A part of a CPU's inbox.
    Inbox,
    /// How many writes of requests a CPU has begun.
    RequestsBegun,
    /// How many writes of requests a CPU has ended.
    RequestsDone,
    /// A request's space.
    RequestMm,
    /// A request's generation.
    RequestNewGen,
    /// What a request says was removed.
    RequestRemoved,
    /// How many gathers are begun in a space and not finished.
    OpenGathers,
    /// Whether a space is retired.
    IsRetired,
    /// The space that was retired before another one.
    RetiredBefore,
    /// The space that a CPU retired last.
    Retired,
    /// How many tables of a space are held back.
    HeldTables,
    /// A part of the set of CPUs that were spared by a flush after tables of a space were unhooked.
    Spared,
    /// The space of a batch of tables that a CPU holds back.
    BatchMm,
    /// A part of the set of CPUs that may walk such a batch.
    BatchAwaits,
    /// How many gathers of this CPU put something into such a batch.
    BatchPins,
    /// The global id of a space.
    GlobalIdOfMm,
    /// The global id under which this CPU uses the space of a slot.
    SlotGlobal,
    /// The global id under which a CPU uses the space that it has loaded.
    LoadedGlobal,
    /// A part of the set of global ids that spaces have.
    GlobalIdsTaken,
}

impl ProtocolWord {
    /// Every word.
    pub const ALL: [ProtocolWord; 33] = [
        ProtocolWord::TlbGen,
        ProtocolWord::Cpumask,
        ProtocolWord::LoadedMm,
        ProtocolWord::Whereabouts,
        ProtocolWord::SlotMm,
        ProtocolWord::SlotJoined,
        ProtocolWord::FlushedTo,
        ProtocolWord::SlotDue,
        ProtocolWord::KernelDue,
        ProtocolWord::KernelFlushedTo,
        ProtocolWord::CurrentSlot,
        ProtocolWord::NextVictim,
        ProtocolWord::IsLazy,
        ProtocolWord::IsWalking,
        ProtocolWord::Inbox,
        ProtocolWord::RequestsBegun,
        ProtocolWord::RequestsDone,
        ProtocolWord::RequestMm,
        ProtocolWord::RequestNewGen,
        ProtocolWord::RequestRemoved,
        ProtocolWord::OpenGathers,
        ProtocolWord::IsRetired,
        ProtocolWord::RetiredBefore,
        ProtocolWord::Retired,
        ProtocolWord::HeldTables,
        ProtocolWord::Spared,
        ProtocolWord::BatchMm,
        ProtocolWord::BatchAwaits,
        ProtocolWord::BatchPins,
        ProtocolWord::GlobalIdOfMm,
        ProtocolWord::SlotGlobal,
        ProtocolWord::LoadedGlobal,
        ProtocolWord::GlobalIdsTaken,
    ];

    /// Returns the name that people who debug see.
    pub const fn name(self) -> &'static str {
        match self {
            ProtocolWord::TlbGen => "tlb_gen",
            ProtocolWord::Cpumask => "cpumask",
            ProtocolWord::LoadedMm => "loaded_mm",
            ProtocolWord::Whereabouts => "whereabouts",
            ProtocolWord::SlotMm => "slot.mm",
            ProtocolWord::SlotJoined => "slot.joined",
            ProtocolWord::FlushedTo => "flushed_to",
            ProtocolWord::SlotDue => "slot.due",
            ProtocolWord::KernelDue => "kernel_due",
            ProtocolWord::KernelFlushedTo => "kernel_flushed_to",
            ProtocolWord::CurrentSlot => "current_slot",
            ProtocolWord::NextVictim => "next_victim",
            ProtocolWord::IsLazy => "is_lazy",
            ProtocolWord::IsWalking => "is_walking",
            ProtocolWord::Inbox => "inbox",
            ProtocolWord::RequestsBegun => "requests.begun",
            ProtocolWord::RequestsDone => "requests.done",
            ProtocolWord::RequestMm => "request.mm",
            ProtocolWord::RequestNewGen => "request.new_gen",
            ProtocolWord::RequestRemoved => "request.removed",
            ProtocolWord::OpenGathers => "open_gathers",
            ProtocolWord::IsRetired => "is_retired",
            ProtocolWord::RetiredBefore => "retired_before",
            ProtocolWord::Retired => "retired",
            ProtocolWord::HeldTables => "held_tables",
            ProtocolWord::BatchMm => "batch.mm",
            ProtocolWord::Spared => "spared",
            ProtocolWord::BatchAwaits => "batch.awaits",
            ProtocolWord::BatchPins => "batch.pins",
            ProtocolWord::GlobalIdOfMm => "global_id",
            ProtocolWord::SlotGlobal => "slot.global",
            ProtocolWord::LoadedGlobal => "loaded_global",
            ProtocolWord::GlobalIdsTaken => "global_ids.taken",
        }
    }

    /// Returns the kind of value that it holds.
    pub const fn kind(self) -> ValueKind {
        match self {
            ProtocolWord::TlbGen
            | ProtocolWord::FlushedTo
            | ProtocolWord::KernelFlushedTo
            | ProtocolWord::RequestsBegun
            | ProtocolWord::RequestsDone => ValueKind::Generation,
            ProtocolWord::Cpumask
            | ProtocolWord::Inbox
            | ProtocolWord::Spared
            | ProtocolWord::BatchAwaits => ValueKind::CpuSet,
            ProtocolWord::IsLazy
            | ProtocolWord::IsWalking
            | ProtocolWord::IsRetired
            | ProtocolWord::KernelDue => ValueKind::Flag,
            ProtocolWord::RequestMm | ProtocolWord::RequestRemoved => {
                ValueKind::Message(Payload::Other)
            }
            ProtocolWord::RequestNewGen => ValueKind::Message(Payload::Generation),
            // A handle is the kernel's: an index, or a pointer. Identities and slots are only compared.
            ProtocolWord::LoadedMm
            | ProtocolWord::Whereabouts
            | ProtocolWord::SlotMm
            | ProtocolWord::SlotJoined
            | ProtocolWord::SlotDue
            | ProtocolWord::CurrentSlot
            | ProtocolWord::NextVictim
            | ProtocolWord::OpenGathers
            | ProtocolWord::RetiredBefore
            | ProtocolWord::Retired
            | ProtocolWord::HeldTables
            | ProtocolWord::BatchMm
            | ProtocolWord::BatchPins
            | ProtocolWord::GlobalIdOfMm
            | ProtocolWord::SlotGlobal
            | ProtocolWord::LoadedGlobal
            | ProtocolWord::GlobalIdsTaken => ValueKind::Other,
        }
    }
}

/// Says what kind of value a word holds.
///
/// It is a claim about the code that uses the word, which the checker tests on every run of that code and
/// never believes: `lazytlb-check` says for each kind what it tests. A real machine has no use for it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum ValueKind {
    /// A generation: only compared, copied, and raised to the next one.
    Generation,
    /// A set of CPUs, or a part of one: a bit each.
    CpuSet,
    /// A flag: 0 or 1.
    Flag,
    /// A part of a message: written as a whole by its sender, read by whoever is told of it, and dead once
    /// the operation that sent it has ended.
    Message(Payload),
    /// A lock: 0 while it is free, 1 while it is taken.
    Lock,
    /// The name of a promise that somebody keeps: only copied and compared.
    Promise,
    /// Anything else; nothing is claimed.
    #[default]
    Other,
}

/// Says what a word of a message carries.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Payload {
    /// A generation, as in [`ValueKind::Generation`].
    Generation,
    /// Anything else.
    Other,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_listed_once_under_a_name_of_its_own() {
        assert!(ProtocolWord::ALL.is_sorted_by(|left, right| left < right));
        for (n, word) in ProtocolWord::ALL.iter().enumerate() {
            let others = &ProtocolWord::ALL[..n];
            assert!(others.iter().all(|other| other.name() != word.name()));
        }
    }
}
