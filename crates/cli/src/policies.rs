//! What each policy does, in one table for the help, the README and the answers; and what one is on a CPU.

use lazytlb::{GarbageWalksAccepted, Policy, Quirks};

/// What each policy does: in the order of [`Policy::ALL`].
const ABOUT: [(Policy, &str); 6] = [
    (
        Policy::Defer(GarbageWalksAccepted),
        "a CPU that goes lazy keeps the space loaded; flushes skip it, and it catches up when it comes back. Unsafe where \
         page tables are freed",
    ),
    (
        Policy::DeferUnlessQuirk,
        "`ipi` on a CPU that reports an erratum which makes walks of freed page tables fatal, `defer` on any other",
    ),
    (
        Policy::InitMm,
        "a CPU that goes lazy loads init_mm, so that no flush is for it: CR3 loads on the way out and back, and no IPIs",
    ),
    (
        Policy::Ipi,
        "a CPU that goes lazy keeps the space loaded; a flush interrupts it as any other, and it leaves for init_mm: one \
         IPI ends a lazy stay",
    ),
    (
        Policy::IpiOnTableFree,
        "a CPU that goes lazy keeps the space loaded; flushes skip it, and it catches up when it comes back, but for those \
         that free page tables: they interrupt it, and it leaves for init_mm. As Linux does since 4.20",
    ),
    (
        Policy::Quarantine,
        "a CPU that goes lazy keeps the space loaded; flushes skip it. Page tables that it may still walk are held back until it \
         has flushed or left; where too many would be held, a flush interrupts it as under `ipi-on-table-free`",
    ),
];

/// Returns the table.
pub(crate) fn all() -> impl Iterator<Item = (Policy, &'static str)> {
    ABOUT.into_iter()
}

/// Returns the table as lines for a terminal.
pub(crate) fn lines() -> String {
    let lines = ABOUT.map(|(policy, about)| format!("  {policy}: {about}"));
    format!("Policies:\n{}", lines.join("\n"))
}

/// What a policy that asks for errata is here: `defer`, or on several CPU models, `defer or ipi`. `None` if it asks for
/// none.
pub(crate) fn is_here(policy: Policy, models: &[Quirks]) -> Option<String> {
    if policy != Policy::DeferUnlessQuirk {
        return None;
    }
    let is_fatal = |quirks: &Quirks| quirks.garbage_walk_is_fatal();
    let fatal = models.iter().filter(|quirks| is_fatal(quirks)).count();
    let defer = Policy::Defer(GarbageWalksAccepted);
    Some(match fatal {
        0 => defer.to_string(),
        _ if fatal == models.len() => Policy::Ipi.to_string(),
        _ => format!("{defer} or {}", Policy::Ipi),
    })
}

/// Names a policy, and what it is here: `defer-unless-quirk (here: defer)`.
pub(crate) fn named_here(policy: Policy, models: &[Quirks]) -> String {
    match is_here(policy, models) {
        Some(here) => format!("{policy} (here: {here})"),
        None => policy.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn every_policy_is_in_the_table_in_its_order() {
        let listed = ABOUT.map(|(policy, _)| policy);
        assert_eq!(listed, Policy::ALL);
    }

    #[test]
    fn the_readme_has_the_table() {
        let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../README.md");
        let readme = std::fs::read_to_string(readme).unwrap();
        let rows = ABOUT.map(|(policy, about)| format!("| `{policy}` | {about} |\n"));
        let table = format!(
            "| policy | what it does |\n| --- | --- |\n{}",
            rows.concat()
        );
        assert!(readme.contains(&table), "put into the README:\n{table}");
    }

    #[test]
    fn what_asks_for_errata_is_told_as_what_it_is_here() {
        let (none, known) = (Quirks::NONE, Quirks::NONE.with_erratum_383());
        for (models, here) in [
            (&[none][..], "defer-unless-quirk (here: defer)"),
            (&[known], "defer-unless-quirk (here: ipi)"),
            (&[none, known], "defer-unless-quirk (here: defer or ipi)"),
        ] {
            assert_eq!(named_here(Policy::DeferUnlessQuirk, models), here);
            assert_eq!(named_here(Policy::Ipi, models), "ipi");
        }
    }
}
