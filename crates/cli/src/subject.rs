//! What is checked: a shipped program, or every program over menus.

use anyhow::Context;
use lazytlb::Policy;
use lazytlb_check::{LazyTlb, Menus, Program, ShippedProgram};

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
    /// If a number of CPUs does not go with the menus.
    pub(crate) fn of(options: &Check) -> anyhow::Result<Subject> {
        match (&options.any, options.cpus) {
            (None, _) => Ok(Subject::Shipped(options.program.clone())),
            (Some(menus), None) => Ok(Subject::Any(menus.clone())),
            (Some(menus), Some(cpus)) => {
                let shared = menus.clone().shared_by(cpus.into());
                let shared = shared.with_context(|| format!("`--any {menus} --cpus {cpus}`"))?;
                Ok(Subject::Any(shared))
            }
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
            Subject::Any(menus) => format!("--any {menus}"),
        }
    }
}

/// `reference-3`; `every program over map,free/touch`.
impl std::fmt::Display for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Subject::Shipped(name) => f.write_str(name),
            Subject::Any(menus) => write!(f, "every program over {menus}"),
        }
    }
}
