//! What is checked: a shipped program, or every program over menus.

use anyhow::{Context, bail};
use lazytlb::Policy;
use lazytlb_check::{
    LazyTlb, Menus, PageTableLock, Program, Protocol, ShippedProgram, WithBroadcast, WithPcids,
};

use crate::arguments::Check;
use crate::global_ids::GlobalIds;
use crate::slots::Slots;

/// What is checked.
#[derive(Clone, Debug)]
pub(crate) struct Subject {
    pub(crate) programs: Programs,
    /// The slots for PCIDs that each CPU has; without, PCIDs are off.
    pub(crate) slots: Option<Slots>,
    /// The global ids that there are; without, nothing is broadcast.
    pub(crate) global_ids: Option<GlobalIds>,
}

/// A program, or many.
#[derive(Clone, Debug)]
pub(crate) enum Programs {
    /// A shipped program, by its name.
    Shipped(String),
    /// Every program over these menus.
    Any(Menus),
}

impl Subject {
    /// Returns what the command line names.
    ///
    /// # Errors
    /// If a number of CPUs, or a lock, does not go with the menus.
    pub(crate) fn of(options: &Check) -> anyhow::Result<Subject> {
        if options.global_ids.is_some() && options.pcids == Some(Slots::Three) {
            bail!("`--global-ids` goes with `--pcids 1` and `--pcids 2`");
        }
        Ok(Subject {
            programs: Programs::of(options)?,
            slots: options.pcids,
            global_ids: options.global_ids,
        })
    }

    /// Makes the program under a policy.
    pub(crate) fn build(&self, policy: Policy) -> Program {
        let programs = &self.programs;
        match (self.slots, self.global_ids) {
            (None, _) => programs.build::<LazyTlb>(policy),
            (Some(Slots::One), None) => programs.build::<WithPcids<1>>(policy),
            (Some(Slots::Two), None) => programs.build::<WithPcids<2>>(policy),
            (Some(Slots::Three), _) => programs.build::<WithPcids<3>>(policy),
            (Some(Slots::One), Some(GlobalIds::One)) => {
                programs.build::<WithBroadcast<1, 1>>(policy)
            }
            (Some(Slots::One), Some(GlobalIds::Two)) => {
                programs.build::<WithBroadcast<1, 2>>(policy)
            }
            (Some(Slots::Two), Some(GlobalIds::One)) => {
                programs.build::<WithBroadcast<2, 1>>(policy)
            }
            (Some(Slots::Two), Some(GlobalIds::Two)) => {
                programs.build::<WithBroadcast<2, 2>>(policy)
            }
        }
    }

    /// Returns the arguments that name it.
    pub(crate) fn arguments(&self) -> String {
        let programs = self.programs.arguments();
        match self.slots {
            None => programs,
            Some(slots) => {
                let ids = self.global_ids;
                let ids = ids.map_or(String::new(), |ids| format!(" --global-ids {}", ids.name()));
                format!("{programs} --pcids {}{ids}", slots.name())
            }
        }
    }
}

impl Programs {
    fn of(options: &Check) -> anyhow::Result<Programs> {
        let Some(sets) = &options.any else {
            return Ok(Programs::Shipped(options.program.clone()));
        };
        let menus = match options.cpus {
            None => sets.clone(),
            Some(cpus) => {
                let shared = sets.clone().shared_by(cpus.into());
                shared.with_context(|| format!("`--any {sets} --cpus {cpus}`"))?
            }
        };
        let menus = match options.isolation {
            false => menus,
            true => menus.isolated(),
        };
        match options.lock {
            None => Ok(Programs::Any(menus)),
            Some(_) if menus.page_table_lock().is_none() => bail!(
                "`--lock` says how CPUs lock page tables that several of them change, and in `--any {menus}` no two \
                 change those of one space: leave it out, or give `map` or `unmap` to a second CPU"
            ),
            Some(lock) => Ok(Programs::Any(menus.lock(lock))),
        }
    }

    fn build<P: Protocol>(&self, policy: Policy) -> Program {
        match self {
            Programs::Shipped(name) => ShippedProgram::<P>::by_name(name)
                .expect("the command line accepts only names of shipped programs")
                .build(policy),
            Programs::Any(menus) => menus.program::<P>(policy),
        }
    }

    fn arguments(&self) -> String {
        match self {
            Programs::Shipped(name) => format!("--program {name}"),
            Programs::Any(menus) => format!("--any {menus}{}", further_arguments(menus)),
        }
    }
}

/// `reference-3`; `every program over map,free/touch`; with ` --lock HOW` if that is not as usual, and the slots for
/// PCIDs, if there are.
impl std::fmt::Display for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.programs {
            Programs::Shipped(name) => f.write_str(name)?,
            Programs::Any(menus) => {
                write!(f, "every program over {menus}{}", further_arguments(menus))?;
            }
        }
        match self.slots {
            None => Ok(()),
            Some(Slots::One) => f.write_str(" with PCIDs, 1 slot a CPU,"),
            Some(slots) => write!(f, " with PCIDs, {} slots a CPU,", slots.name()),
        }?;
        match self.global_ids {
            None => Ok(()),
            Some(GlobalIds::One) => f.write_str(" and 1 global id,"),
            Some(ids) => write!(f, " and {} global ids,", ids.name()),
        }
    }
}

/// Returns the options that say how page tables are locked, and whether user mode has its own, where they are not left
/// out.
fn further_arguments(menus: &Menus) -> String {
    let lock = menus.page_table_lock();
    let lock = lock.filter(|&lock| lock != PageTableLock::default());
    let lock = lock.map_or(String::new(), |lock| format!(" --lock {}", lock.name()));
    match menus.are_isolated() {
        false => lock,
        true => lock + " --isolation",
    }
}
