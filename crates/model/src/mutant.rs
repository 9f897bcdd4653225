//! Rules broken on purpose: does any test notice?
//!
//! With the feature `mutants`, the variable `LAZYTLB_MODEL_MUTANT` names one rule of the *model* that is
//! then removed or inverted; `cargo xtask mutate-model` runs the tests once for each. Without the feature
//! every question below is the constant `false`. The protocol knows nothing of this.

/// Makes the enum, the list of all, and their names.
macro_rules! mutants {
    ($($(#[$about:meta])* $mutant:ident = $name:literal,)*) => {
        /// A rule of the model, broken.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum Mutant {
            $($(#[$about])* $mutant,)*
        }

        /// The names of all, for `LAZYTLB_MODEL_MUTANT`.
        pub const MUTANTS: &[&str] = &[$($name,)*];

        #[cfg(feature = "mutants")]
        impl Mutant {
            fn name(self) -> &'static str {
                match self {
                    $(Mutant::$mutant => $name,)*
                }
            }
        }
    };
}

mutants! {
    /// H1: a PCID in CR3 does not keep PCIDE from being set.
    PcideWithPcidAllowed = "h1-pcide-with-pcid-allowed",
    /// H1, H15: bit 63 is taken without PCIDE.
    KeepWithoutPcideAllowed = "h1-keep-without-pcide-allowed",
    /// H2: entries of every PCID are used.
    TagsIgnored = "h2-tags-ignored",
    /// H3: a walk caches without setting A.
    CachedWithoutAccessed = "h3-cached-without-accessed",
    /// H3: an entry with a reserved bit is cached.
    ReservedBitIgnored = "h3-reserved-bit-ignored",
    /// H4: nothing is filled again after an invalidation.
    NoRefill = "h4-no-refill",
    /// H5: a store to a page-table entry drops what was cached of it.
    StoreInvalidates = "h5-store-invalidates",
    /// H6: INVLPG of an address in a large page only drops it if it is the first.
    LargePageOnlyByStart = "h6-large-page-only-by-start",
    /// H6: a page fault, and INVPCID of an address, drop all of a large page.
    LargePagesInOnePiece = "h6-large-pages-in-one-piece",
    /// H7: a new page size replaces the old entries.
    NewSizeReplacesOld = "h7-new-size-replaces-old",
    /// H8: G means nothing.
    NoGlobals = "h8-no-globals",
    /// H8: G counts although CR4.PGE is clear.
    GlobalsWithoutPge = "h8-globals-without-pge",
    /// H9: upper levels' permissions are forgotten.
    UpperPermissionsForgotten = "h9-upper-permissions-forgotten",
    /// H10: an entry that leads to an empty table is not cached.
    EmptyTableNotCached = "h10-empty-table-not-cached",
    /// H11: every walk starts at the root.
    WalksStartAtTheRoot = "h11-walks-start-at-the-root",
    /// H12: a table serves one way to it only.
    OneWayToATable = "h12-one-way-to-a-table",
    /// H12a: without paging-structure caches, no walk is in flight.
    NoWalkInFlight = "h12a-no-walk-in-flight",
    /// H13: INVLPG leaves global entries.
    InvlpgLeavesGlobals = "h13-invlpg-leaves-globals",
    /// H13: INVLPG drops entries of other PCIDs.
    InvlpgReachesOtherPcids = "h13-invlpg-reaches-other-pcids",
    /// H13: INVLPG drops no paging-structure-cache entry.
    InvlpgLeavesUpperLevels = "h13-invlpg-leaves-upper-levels",
    /// H14: INVPCID 0 drops global entries.
    InvpcidAddressDropsGlobals = "h14-invpcid-address-drops-globals",
    /// H14: INVPCID 0 drops all upper levels of the PCID, as INVLPG does.
    InvpcidAddressDropsUpperLevels = "h14-invpcid-address-drops-upper-levels",
    /// H14: INVPCID 1 does nothing.
    InvpcidPcidIgnored = "h14-invpcid-pcid-ignored",
    /// H14: INVPCID 2 leaves global entries.
    InvpcidAllLeavesGlobals = "h14-invpcid-all-leaves-globals",
    /// H14: INVPCID 3 drops global entries.
    InvpcidNonGlobalDropsGlobals = "h14-invpcid-non-global-drops-globals",
    /// H15: a CR3 load drops global entries.
    Cr3LoadDropsGlobals = "h15-cr3-load-drops-globals",
    /// H15: a CR3 load drops every PCID's entries.
    Cr3LoadDropsEveryPcid = "h15-cr3-load-drops-every-pcid",
    /// H15: bit 63 is ignored.
    KeepIgnored = "h15-keep-ignored",
    /// H16: flipping PGE leaves global entries.
    PgeFlipLeavesGlobals = "h16-pge-flip-leaves-globals",
    /// H16: setting SMEP drops nothing.
    SmepDropsNothing = "h16-smep-drops-nothing",
    /// H17: a page fault drops nothing.
    FaultDropsNothing = "h17-fault-drops-nothing",
    /// H17: a page fault drops all upper levels.
    FaultDropsAllUpperLevels = "h17-fault-drops-all-upper-levels",
    /// H18: invalidating instructions do not wait for the store buffer.
    InvalidationsDoNotSerialize = "h18-invalidations-do-not-serialize",
    /// H21: a store does not set D.
    StoreSetsNoDirty = "h21-store-sets-no-dirty",
    /// H21: a store through an entry without D does not look at the page tables again.
    DirtyNotRechecked = "h21-dirty-not-rechecked",
    /// H21: an access sets A in a cached entry's source although software cleared it since.
    AccessedSetThroughStaleEntry = "h21-accessed-set-through-stale-entry",
    /// H24: MFENCE and locked instructions drop what is cached.
    FenceInvalidates = "h24-fence-invalidates",
    /// H25: stores are visible at once.
    NoStoreBuffer = "h25-no-store-buffer",
    /// H25: a load does not see its own CPU's buffered stores.
    NoForwarding = "h25-no-forwarding",
    /// H25: walks never see the own store buffer.
    WalksSkipTheStoreBuffer = "h25-walks-skip-the-store-buffer",
    /// H25: an interrupt is delivered over a full store buffer.
    DeliveryDrainsNothing = "h25-delivery-drains-nothing",
    /// H26: write-combining stores are visible at once.
    NoWriteCombining = "h26-no-write-combining",
    /// H26: SFENCE leaves the write-combining buffers alone.
    SfenceDrainsNothing = "h26-sfence-drains-nothing",
    /// H26: locked instructions leave the write-combining buffers alone.
    LockDrainsNoWriteCombining = "h26-lock-drains-no-write-combining",
    /// H27: an event that starts writes has finished them.
    StartedIsRetired = "h27-started-is-retired",
    /// H27: a read back pushes nothing before it.
    ReadBackPushesNothing = "h27-read-back-pushes-nothing",
    /// H27a: write-combining stores leave in their order.
    WriteCombiningInOrder = "h27a-write-combining-in-order",
    /// H28: two memory types at once are no conflict.
    MemoryTypesMix = "h28-memory-types-mix",
    /// H29: INVLPGB is done when it is issued.
    BroadcastIsSynchronous = "h29-broadcast-is-synchronous",
    /// H29: TLBSYNC waits for every CPU's broadcasts.
    TlbsyncWaitsForAll = "h29-tlbsync-waits-for-all",
    /// H29: TLBSYNC waits for nothing.
    TlbsyncWaitsForNothing = "h29-tlbsync-waits-for-nothing",
    /// H29: a broadcast of final translations drops upper levels.
    FinalOnlyIgnored = "h29-final-only-ignored",
    /// H30: a broadcast drops every 4 KiB page around the address.
    BroadcastByStride = "h30-broadcast-by-stride",
    /// H31: no machine check where two sizes match.
    SizeConflictIgnored = "h31-size-conflict-ignored",
    /// H33: a garbage entry is never global.
    GarbageNeverGlobal = "h33-garbage-never-global",
    /// H33: a garbage walk writes no Accessed bit.
    GarbageWalkWritesNothing = "h33-garbage-walk-writes-nothing",
    /// H34: INVLPG drops global entries on every model.
    NoInvlpgErratum = "h34-no-invlpg-erratum",
    /// H36: MFENCE holds up an IPI through an x2APIC.
    IpiWaitsForFences = "h36-ipi-waits-for-fences",
    /// H36: an IPI waits for earlier stores on every model.
    IpiWaitsForStores = "h36-ipi-waits-for-stores",
    /// H36: an IPI waits for earlier stores on no model.
    IpiNeverWaits = "h36-ipi-never-waits",
    /// H37: INVLPG drops all upper levels on every model.
    NoTranslationCacheExtension = "h37-no-translation-cache-extension",
    /// H38: paging-structure-cache entries serve every PCID where the leaf is global.
    UpperLevelsShared = "h38-upper-levels-shared",
}

/// Says whether this rule is broken in this run.
#[cfg(feature = "mutants")]
pub(crate) fn broken(mutant: Mutant) -> bool {
    use std::sync::OnceLock;
    static ASKED_FOR: OnceLock<Option<String>> = OnceLock::new();
    let asked_for = ASKED_FOR.get_or_init(|| std::env::var("LAZYTLB_MODEL_MUTANT").ok());
    asked_for.as_deref() == Some(mutant.name())
}

/// Says whether this rule is broken in this run: never, but in the build that is made for it.
#[cfg(not(feature = "mutants"))]
#[inline(always)]
pub(crate) const fn broken(_mutant: Mutant) -> bool {
    false
}
