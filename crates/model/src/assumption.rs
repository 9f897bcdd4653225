//! What a CPU model assumes beyond its manuals, as data: each with the weak reading that takes it away.
//!
//! A verdict *hangs* on an assumption if it differs without it. To find out, ask once with every assumption
//! taken away; only if that differs, ask once for each: [`hangs_on`].
//!
//! What the model assumes and has no weak reading for is not here: loads from write-combining memory keep their
//! order; a broadcast ends the walks of a fetch; an update of A or D that is owed to an entry of a table that is freed is made before that, or not at all, also
//! where a broadcast has reached the CPU, which bounds no update (H41).

use std::fmt;

use crate::cpu_model::{
    BroadcastAnswer, CpuModel, DirtyUpdate, IpiOrder, KeepLoad, LargePages, MfenceForIpis,
    ReadBack, Reading, Tlbsync, UncachedLoads, UncachedStores, UpperLevels, WcReadings,
};

/// Something that no manual says, and that a CPU model assumes.
#[derive(Clone, Copy, Debug)]
pub struct Assumption {
    /// The name that people type.
    pub name: &'static str,
    /// The rule that it is about.
    pub rule: &'static str,
    /// What is assumed, as a sentence without its full stop.
    pub about: &'static str,
    /// The field of [`CpuModel`] that it stands in.
    pub field: &'static str,
    is_made: fn(&CpuModel) -> bool,
    take_away: fn(&mut CpuModel),
}

impl Assumption {
    /// Every assumption that has a weak reading.
    pub const ALL: [Assumption; 12] = [
        Assumption {
            name: "no-psc",
            rule: "H9",
            about: "there are no paging-structure caches",
            field: "upper_levels",
            is_made: |model| model.upper_levels != UpperLevels::Cached,
            take_away: |model| model.upper_levels = UpperLevels::Cached,
        },
        Assumption {
            name: "atomic-walks",
            rule: "H12a",
            about: "a walk reads all its levels at one time",
            field: "upper_levels",
            is_made: |model| model.upper_levels == UpperLevels::Atomic,
            take_away: |model| model.upper_levels = UpperLevels::OnlyInFlight,
        },
        Assumption {
            name: "cr3-load-ends-walks",
            rule: "H12a",
            about: "a CR3 load with bit 63 set ends walks in flight",
            field: "keep_load",
            is_made: |model| model.keep_load == KeepLoad::EndsWalks,
            take_away: |model| model.keep_load = KeepLoad::WalksGoOn,
        },
        Assumption {
            name: "whole-large-pages",
            rule: "H6",
            about: "INVPCID and INVLPGB of an address drop all of a large page",
            field: "large_pages",
            is_made: |model| model.large_pages == LargePages::Whole,
            take_away: |model| model.large_pages = LargePages::InPieces,
        },
        Assumption {
            name: "tlbsync-serializes",
            rule: "H29",
            about: "TLBSYNC is a serializing instruction",
            field: "tlbsync",
            is_made: |model| model.broadcast && model.tlbsync == Tlbsync::Serializes,
            take_away: |model| model.tlbsync = Tlbsync::OnlyWaits,
        },
        Assumption {
            name: "broadcast-waits-for-stores",
            rule: "H29",
            about: "a CPU answers a broadcast when its stores through what goes have drained",
            field: "broadcast_answer",
            is_made: |model| {
                model.broadcast && model.broadcast_answer == BroadcastAnswer::AfterStores
            },
            take_away: |model| model.broadcast_answer = BroadcastAnswer::AtOnce,
        },
        Assumption {
            name: "mfence-orders-ipis",
            rule: "H36",
            about: "an MFENCE orders a later IPI, without an LFENCE",
            field: "mfence_for_ipis",
            is_made: |model| {
                let may_pass = model.ipi == IpiOrder::Unordered;
                may_pass && model.mfence_for_ipis == MfenceForIpis::UnlessWeak
            },
            take_away: |model| model.mfence_for_ipis = MfenceForIpis::Never,
        },
        Assumption {
            name: "dirty-checks-w",
            rule: "H42",
            about: "D is not set in an entry that has just lost W",
            field: "dirty",
            is_made: |model| model.dirty == DirtyUpdate::ChecksWritable,
            take_away: |model| model.dirty = DirtyUpdate::MaySetWithoutW,
        },
        Assumption {
            name: "uncached-loads-wait",
            rule: "H43",
            about: "a load of uncached memory waits for buffered stores",
            field: "uncached_loads",
            is_made: |model| model.uncached_loads == UncachedLoads::WaitForStores,
            take_away: |model| model.uncached_loads = UncachedLoads::PassStores,
        },
        Assumption {
            name: "uncached-stores-at-once",
            rule: "H43",
            about: "a store to uncached memory is not buffered",
            field: "uncached_stores",
            is_made: |model| model.uncached_stores == UncachedStores::AtOnce,
            take_away: |model| model.uncached_stores = UncachedStores::Buffered,
        },
        Assumption {
            name: "wc-retired",
            rule: "H27",
            about: "what empties write-combining buffers waits until the writes have arrived",
            field: "write_combining",
            is_made: |model| model.write_combining != WcReadings::all(Reading::Started),
            take_away: |model| model.write_combining = WcReadings::all(Reading::Started),
        },
        Assumption {
            name: "read-back-pushes-all",
            rule: "H27",
            about: "one CPU's read back from a device pushes the writes that other CPUs have started",
            field: "read_back",
            is_made: |model| model.read_back == ReadBack::PushesEveryCpus,
            take_away: |model| model.read_back = ReadBack::PushesItsOwn,
        },
    ];

    /// Lists what a CPU model assumes.
    pub fn of(model: CpuModel) -> impl Iterator<Item = Assumption> {
        let all = Assumption::ALL.into_iter();
        all.filter(move |assumption| (assumption.is_made)(&model))
    }

    /// Returns a model without the assumption.
    #[must_use]
    pub fn without(&self, mut model: CpuModel) -> CpuModel {
        (self.take_away)(&mut model);
        model
    }
}

impl PartialEq for Assumption {
    fn eq(&self, other: &Assumption) -> bool {
        self.name == other.name
    }
}

impl Eq for Assumption {}

/// `uncached-loads-wait (H43): a load of uncached memory waits for buffered stores`
impl fmt::Display for Assumption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): {}", self.name, self.rule, self.about)
    }
}

/// Lists the assumptions of a CPU model that an answer hangs on, because it differs without them. `ask` answers
/// for a model. Where it takes several at once to make a difference, those are as few as will do.
///
/// # Errors
/// Those of `ask`.
pub fn hangs_on<A: PartialEq, E>(
    model: CpuModel,
    answer: &A,
    mut ask: impl FnMut(CpuModel) -> Result<A, E>,
) -> Result<Vec<Assumption>, E> {
    let made: Vec<Assumption> = Assumption::of(model).collect();
    let weakened = made.iter().fold(model, |model, one| one.without(model));
    if made.is_empty() || ask(weakened)? == *answer {
        return Ok(Vec::new());
    }
    let mut alone = Vec::new();
    for assumption in &made {
        if ask(assumption.without(model))? != *answer {
            alone.push(*assumption);
        }
    }
    if alone.is_empty() {
        alone.clone_from(&made);
        for assumption in &made {
            let others = alone.iter().filter(|one| *one != assumption);
            let weakened = others.fold(model, |model, one| one.without(model));
            if ask(weakened)? != *answer {
                alone.retain(|one| one != assumption);
            }
        }
    }
    Ok(alone)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn taking_an_assumption_away_takes_it_away() {
        let strong = CpuModel {
            upper_levels: UpperLevels::Atomic,
            keep_load: KeepLoad::EndsWalks,
            ipi: IpiOrder::Unordered,
            ..CpuModel::AMD_ZEN3
        }
        .with_write_combining(WcReadings::all(Reading::Retired));
        assert_eq!(Assumption::of(strong).count(), Assumption::ALL.len());
        for assumption in Assumption::ALL {
            let weaker = assumption.without(strong);
            assert!(!Assumption::of(weaker).any(|one| one == assumption));
        }
    }

    #[test]
    fn weakest_assumes_only_what_it_says() {
        let assumed: Vec<_> = Assumption::of(CpuModel::WEAKEST)
            .map(|assumption| assumption.name)
            .collect();
        assert_eq!(
            assumed,
            [
                "mfence-orders-ipis",
                "uncached-stores-at-once",
                "read-back-pushes-all"
            ]
        );
    }

    #[test]
    fn an_answer_hangs_on_what_changes_it_and_on_as_few_as_do_together() {
        let model = CpuModel::AMD_ZEN3;
        let waits = |model: CpuModel| {
            let waits = model.uncached_loads == UncachedLoads::WaitForStores;
            Ok::<bool, ()>(waits)
        };
        let names = |all: Vec<Assumption>| all.iter().map(|one| one.name).collect::<Vec<_>>();
        let hangs = hangs_on(model, &true, waits).unwrap();
        assert_eq!(names(hangs), ["uncached-loads-wait"]);
        let either = |model: CpuModel| {
            let waits = model.uncached_loads == UncachedLoads::WaitForStores;
            Ok::<bool, ()>(waits || model.dirty == DirtyUpdate::ChecksWritable)
        };
        let hangs = hangs_on(model, &true, either).unwrap();
        assert_eq!(names(hangs), ["dirty-checks-w", "uncached-loads-wait"]);
        assert!(
            hangs_on(model, &1, |_| Ok::<i32, ()>(1))
                .unwrap()
                .is_empty()
        );
    }
}
