//! What an exhibit is: a protocol, the smallest program that shows what is wrong with it, and proofs.

use lazytlb_check::{CheckError, Checker, Finding, Program, Progress, Verdict};
use lazytlb_model::{CpuModel, MemoryModel, Property};

/// What a check of a case must come to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Expected {
    /// A proof.
    Safe,
    /// A shortest counterexample.
    Violation {
        /// What it violates.
        property: Property,
        /// How many events it has.
        length: usize,
    },
}

/// A protocol in one shape, with the program that it is checked on.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// What shape of the protocol it is, in a few words.
    pub name: &'static str,
    /// What its check must come to.
    pub expected: Expected,
    /// The CPU model.
    pub cpu: CpuModel,
    /// The memory model.
    pub memory: MemoryModel,
    /// Builds the program, anew each time.
    pub build: fn() -> Program,
}

/// What a case is in its exhibit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// The protocol with its bug.
    Bug,
    /// The protocol with its fix, or as it stands.
    Proof,
    /// What else was asked.
    Also,
    /// What is broken on purpose.
    Broken,
}

impl Role {
    /// Returns the name that reports use.
    pub const fn name(self) -> &'static str {
        match self {
            Role::Bug => "bug",
            Role::Proof => "proof",
            Role::Also => "also",
            Role::Broken => "broken on purpose",
        }
    }
}

/// A bug of history, or the shootdown of a real kernel.
#[derive(Clone, Copy, Debug)]
pub struct Exhibit {
    /// The name that people type.
    pub name: &'static str,
    /// Whose code it is, and from when.
    pub kernel: &'static str,
    /// What goes wrong, or what is proved, as a clause.
    pub about: &'static str,
    /// Where the facts come from: file, function, commit.
    pub source: &'static str,
    /// What happens, in some sentences.
    pub story: &'static str,
    /// What the fix changes; of a protocol that needs none, why it holds.
    pub fix: &'static str,
    /// What the port leaves out, and so cannot show.
    pub left_out: &'static str,
    /// The protocol with its bug; of a protocol in which none was found, nothing.
    pub bug: Option<Case>,
    /// The protocol with its fix, each if there are several; or as it stands.
    pub proofs: &'static [Case],
    /// What else was asked about it.
    pub also: &'static [Case],
    /// The same, broken on purpose: a proof that would not see this is worth nothing.
    pub broken: &'static [Case],
}

impl Case {
    /// Makes a case on the weakest CPU under x86-TSO that must be safe.
    pub(crate) const fn safe(name: &'static str, build: fn() -> Program) -> Case {
        Case {
            name,
            expected: Expected::Safe,
            cpu: CpuModel::WEAKEST,
            memory: MemoryModel::TSO,
            build,
        }
    }

    /// Makes a case on the weakest CPU under x86-TSO that must violate a property.
    pub(crate) const fn unsafe_by(
        name: &'static str,
        (property, length): (Property, usize),
        build: fn() -> Program,
    ) -> Case {
        Case {
            expected: Expected::Violation { property, length },
            ..Case::safe(name, build)
        }
    }

    /// The same case on another CPU.
    pub(crate) const fn on(self, cpu: CpuModel) -> Case {
        Case { cpu, ..self }
    }

    /// The same case under another memory model.
    pub(crate) const fn under(self, memory: MemoryModel) -> Case {
        Case { memory, ..self }
    }

    /// Checks it, and tells its progress now and then. `checker` says with which bounds; the machine is the case's own.
    ///
    /// # Errors
    /// If the case's code is nondeterministic, or does not fit into the model: an error of this crate's.
    pub fn check(
        &self,
        checker: &Checker,
        progress: impl FnMut(Progress),
    ) -> Result<Verdict, CheckError> {
        let checker = checker.clone().cpu_model(self.cpu).memory(self.memory);
        checker.try_check_built(self.build, progress)
    }

    /// Says whether a verdict on this case is what it must be: a proof, or a counterexample to the property that is
    /// named. Its length is not compared: it hangs on the reduction.
    pub fn is_as_expected(&self, verdict: &Verdict) -> bool {
        match self.expected {
            Expected::Safe => verdict.is_safe(),
            Expected::Violation { property, .. } => verdict
                .violation()
                .is_some_and(|violation| violation.property == property),
        }
    }
}

impl Exhibit {
    /// Lists all its cases: the bug, the proofs, what else was asked, and what is broken on purpose.
    pub fn cases(&self) -> impl Iterator<Item = (Role, Case)> {
        let of = |role, cases: &'static [Case]| cases.iter().map(move |case| (role, *case));
        let bug = self.bug.into_iter().map(|case| (Role::Bug, case));
        bug.chain(of(Role::Proof, self.proofs))
            .chain(of(Role::Also, self.also))
            .chain(of(Role::Broken, self.broken))
    }
}

/// Returns how many events a counterexample has; `None` if the verdict has none.
pub fn length(verdict: &Verdict) -> Option<usize> {
    match &verdict.finding {
        Finding::Violation { timeline, .. } => Some(timeline.events.len()),
        Finding::Safe | Finding::Incomplete { .. } => None,
    }
}
