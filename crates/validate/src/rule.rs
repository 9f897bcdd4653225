//! The rules that Linux has had, and how a recording tells which.

use std::fmt;

/// Linux `should_trim_cpumask`: at most once a second (`HZ` jiffies) a space.
pub(crate) const TRIM_PERIOD_NS: u64 = 1_000_000_000;

/// When a CPU drops out of the cpumask of a space that it no longer runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MaskRule {
    /// As it loads another one.
    Eager,
    /// When an interrupt finds it elsewhere.
    Lasting,
}

/// Every rule, in the order of its number.
pub(crate) const EACH_RULE: [MaskRule; 2] = [MaskRule::Eager, MaskRule::Lasting];

/// The recorded kernel's own rule. It is none of this project's policies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KernelRule {
    /// Linux 4.20 to 6.13: a CPU that loads another space leaves the cpumask at once.
    LinuxTo613,
    /// The same, with the trimming of 6.14 backported, which then finds nothing to trim (stable kernels).
    LinuxTo613TrimBackported,
    /// Linux 6.14 and later: a CPU stays in the cpumask until an interrupt finds it elsewhere.
    LinuxFrom614,
}

impl KernelRule {
    pub(crate) fn mask(self) -> MaskRule {
        match self {
            KernelRule::LinuxTo613 | KernelRule::LinuxTo613TrimBackported => MaskRule::Eager,
            KernelRule::LinuxFrom614 => MaskRule::Lasting,
        }
    }
}

impl fmt::Display for KernelRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            KernelRule::LinuxTo613 => "Linux to 6.13",
            KernelRule::LinuxTo613TrimBackported => "Linux to 6.13, trim backported",
            KernelRule::LinuxFrom614 => "Linux from 6.14",
        })
    }
}
