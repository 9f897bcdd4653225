//! What is checked: a shipped program, or every program over menus.

use anyhow::{Context, bail};
use lazytlb::Policy;
use lazytlb_check::{LazyTlb, Menus, PageTableLock, Program, ShippedProgram};

use crate::arguments::Check;

/// What is checked.
#[derive(Clone, Debug)]
pub(crate) enum Subject {
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
        let Some(sets) = &options.any else {
            return Ok(Subject::Shipped(options.program.clone()));
        };
        let menus = match options.cpus {
            None => sets.clone(),
            Some(cpus) => {
                let shared = sets.clone().shared_by(cpus.into());
                shared.with_context(|| format!("`--any {sets} --cpus {cpus}`"))?
            }
        };
        match options.lock {
            None => Ok(Subject::Any(menus)),
            Some(_) if menus.page_table_lock().is_none() => bail!(
                "`--lock` says how CPUs lock page tables that several of them change, and in `--any {menus}` no two \
                 change those of one space: leave it out, or give `map` or `unmap` to a second CPU"
            ),
            Some(lock) => Ok(Subject::Any(menus.lock(lock))),
        }
    }

    /// Makes the program under a policy.
    pub(crate) fn build(&self, policy: Policy) -> Program {
        match self {
            Subject::Shipped(name) => ShippedProgram::<LazyTlb>::by_name(name)
                .expect("the command line accepts only names of shipped programs")
                .build(policy),
            Subject::Any(menus) => menus.program::<LazyTlb>(policy),
        }
    }

    /// Returns the arguments that name it.
    pub(crate) fn arguments(&self) -> String {
        match self {
            Subject::Shipped(name) => format!("--program {name}"),
            Subject::Any(menus) => format!("--any {menus}{}", lock_argument(menus)),
        }
    }
}

/// `reference-3`; `every program over map,free/touch`; with ` --lock HOW` if that is not as usual.
impl std::fmt::Display for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Subject::Shipped(name) => f.write_str(name),
            Subject::Any(menus) => write!(f, "every program over {menus}{}", lock_argument(menus)),
        }
    }
}

/// Returns the option that says how page tables are locked, where it is not left out.
fn lock_argument(menus: &Menus) -> String {
    let lock = menus.page_table_lock();
    let lock = lock.filter(|&lock| lock != PageTableLock::default());
    lock.map_or(String::new(), |lock| format!(" --lock {}", lock.name()))
}
