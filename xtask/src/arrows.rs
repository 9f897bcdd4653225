//! Checks that the crates depend on each other only along the allowed arrows.
//!
//! The arrows are the architecture: the protocol knows none of the machines that it runs on, so
//! the code that is checked is the code that boots and the code that is priced. One wrong line in
//! a manifest would end that silently, hence this check.

use std::collections::BTreeSet;
use std::fmt;

use cargo_metadata::{DependencyKind, Metadata};

/// Says what one crate may depend on.
struct Row {
    /// The crate at the arrow's tail.
    package: &'static str,
    /// The crates of this workspace that it may use; each has a row further up.
    internal: &'static [&'static str],
    /// Whether it may use crates from outside.
    external: External,
}

/// Says whether a crate may use crates from outside the workspace.
#[derive(Clone, Copy, PartialEq, Eq)]
enum External {
    /// It may; `ARCHITECTURE.md` gives the reason for each.
    Allowed,
    /// It may only in its tests: a kernel that links the crate must get `core` and nothing else.
    TestsOnly,
}

/// The allowed arrows. A new crate gets a row below everything that it uses.
const ALLOWED: &[Row] = &[
    Row {
        package: "lazytlb",
        internal: &[],
        external: External::TestsOnly,
    },
    Row {
        package: "lazytlb-x86",
        internal: &["lazytlb"],
        external: External::Allowed,
    },
    Row {
        package: "lazytlb-model",
        internal: &["lazytlb"],
        external: External::Allowed,
    },
    Row {
        package: "lazytlb-check",
        internal: &["lazytlb", "lazytlb-model"],
        external: External::Allowed,
    },
    Row {
        package: "lazytlb-zoo",
        internal: &["lazytlb", "lazytlb-model", "lazytlb-check"],
        external: External::Allowed,
    },
    Row {
        package: "lazytlb-litmus-syntax",
        internal: &[],
        external: External::Allowed,
    },
    // A second opinion on the model: it must not depend on it, nor on the checker.
    Row {
        package: "lazytlb-simulator",
        internal: &["lazytlb-litmus-syntax"],
        external: External::Allowed,
    },
    Row {
        package: "lazytlb-litmus",
        internal: &[
            "lazytlb",
            "lazytlb-model",
            "lazytlb-check",
            "lazytlb-litmus-syntax",
            "lazytlb-simulator",
        ],
        external: External::Allowed,
    },
    Row {
        package: "lazytlb-mutants",
        internal: &["lazytlb", "lazytlb-model", "lazytlb-check"],
        external: External::Allowed,
    },
    Row {
        package: "lazytlb-trace",
        internal: &[],
        external: External::Allowed,
    },
    Row {
        package: "lazytlb-price",
        internal: &["lazytlb", "lazytlb-trace"],
        external: External::Allowed,
    },
    Row {
        package: "lazytlb-record",
        internal: &[],
        external: External::Allowed,
    },
    Row {
        package: "lazytlb-report",
        internal: &[],
        external: External::Allowed,
    },
    Row {
        package: "lazytlb-validate",
        internal: &["lazytlb-trace"],
        external: External::Allowed,
    },
    Row {
        package: "lazytlb-calibrate",
        internal: &["lazytlb-price"],
        external: External::Allowed,
    },
    Row {
        package: "lazytlb-cli",
        internal: &[
            "lazytlb",
            "lazytlb-x86",
            "lazytlb-model",
            "lazytlb-check",
            "lazytlb-litmus",
            "lazytlb-trace",
            "lazytlb-price",
            "lazytlb-record",
            "lazytlb-validate",
            "lazytlb-calibrate",
            "lazytlb-report",
            "lazytlb-zoo",
        ],
        external: External::Allowed,
    },
    Row {
        package: "xtask",
        internal: &[],
        external: External::Allowed,
    },
];

/// One dependency, as a manifest declares it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Edge {
    /// The crate whose manifest declares it.
    pub(crate) from: String,
    /// The crate that it names (its real name, if the manifest renames it).
    pub(crate) to: String,
    /// The section of the manifest: normal, build or dev.
    pub(crate) kind: DependencyKind,
}

/// One way in which the workspace departs from the table.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Violation {
    /// A crate of the workspace has no row.
    NotInTable(String),
    /// A row names a crate that the workspace does not have (any more).
    NotInWorkspace(&'static str),
    /// A dependency on a crate of the workspace that the table does not allow.
    ForbiddenArrow(Edge),
    /// A dependency on a crate from outside, in a crate that may have none.
    ForbiddenExternal(Edge),
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotInTable(package) => write!(
                f,
                "crate `{package}` has no row in xtask/src/arrows.rs; add one that says what it \
                 may depend on"
            ),
            Self::NotInWorkspace(package) => write!(
                f,
                "xtask/src/arrows.rs has a row for `{package}`, which is no crate of this \
                 workspace; remove the row"
            ),
            Self::ForbiddenArrow(Edge { from, to, kind }) => write!(
                f,
                "`{from}` must not depend on `{to}` ({kind} dependency); remove it from the \
                 manifest of `{from}`, or move the shared code down into a crate that both may use"
            ),
            Self::ForbiddenExternal(Edge { from, to, kind }) => write!(
                f,
                "`{from}` must depend on nothing but `core`, yet it names `{to}` ({kind} \
                 dependency); remove it from the manifest of `{from}`"
            ),
        }
    }
}

/// Compares the manifests of `workspace` with the table, and returns every difference.
pub(crate) fn check(workspace: &Metadata) -> Vec<Violation> {
    let packages = workspace.workspace_packages();
    let members: Vec<&str> = packages
        .iter()
        .map(|package| package.name.as_str())
        .collect();
    let edges: Vec<Edge> = packages
        .iter()
        .flat_map(|package| {
            package.dependencies.iter().map(|dependency| Edge {
                from: package.name.to_string(),
                to: dependency.name.clone(),
                kind: dependency.kind,
            })
        })
        .collect();
    violations(ALLOWED, &members, &edges)
}

/// Compares a graph, given by its nodes and edges, with a table.
///
/// A dev-dependency obeys the same arrows: a test that needs an upper crate belongs to that crate.
fn violations(table: &[Row], members: &[&str], edges: &[Edge]) -> Vec<Violation> {
    let members: BTreeSet<&str> = members.iter().copied().collect();
    let row_of = |package: &str| table.iter().find(|row| row.package == package);

    let unlisted = members
        .iter()
        .filter(|package| row_of(package).is_none())
        .map(|package| Violation::NotInTable((*package).to_owned()));
    let stale = table
        .iter()
        .filter(|row| !members.contains(row.package))
        .map(|row| Violation::NotInWorkspace(row.package));
    let forbidden = edges.iter().filter_map(|edge| {
        let row = row_of(&edge.from)?;
        if members.contains(edge.to.as_str()) {
            let allowed = row.internal.contains(&edge.to.as_str());
            return (!allowed).then(|| Violation::ForbiddenArrow(edge.clone()));
        }
        let allowed = row.external == External::Allowed || edge.kind == DependencyKind::Development;
        (!allowed).then(|| Violation::ForbiddenExternal(edge.clone()))
    });
    unlisted.chain(stale).chain(forbidden).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[Row] = &[
        Row {
            package: "bottom",
            internal: &[],
            external: External::TestsOnly,
        },
        Row {
            package: "top",
            internal: &["bottom"],
            external: External::Allowed,
        },
    ];

    fn edge(from: &str, to: &str, kind: DependencyKind) -> Edge {
        Edge {
            from: from.to_owned(),
            to: to.to_owned(),
            kind,
        }
    }

    #[test]
    fn allowed_arrows_pass_in_every_section() {
        let edges = [
            edge("top", "bottom", DependencyKind::Normal),
            edge("top", "bottom", DependencyKind::Build),
            edge("top", "bottom", DependencyKind::Development),
            edge("top", "serde", DependencyKind::Normal),
        ];
        assert_eq!(violations(TABLE, &["bottom", "top"], &edges), []);
    }

    #[test]
    fn an_arrow_that_points_up_is_forbidden_in_every_section() {
        for kind in [
            DependencyKind::Normal,
            DependencyKind::Build,
            DependencyKind::Development,
        ] {
            let up = edge("bottom", "top", kind);
            assert_eq!(
                violations(TABLE, &["bottom", "top"], std::slice::from_ref(&up)),
                [Violation::ForbiddenArrow(up)]
            );
        }
    }

    #[test]
    fn an_external_crate_below_is_forbidden_outside_tests() {
        let normal = edge("bottom", "libc", DependencyKind::Normal);
        let build = edge("bottom", "cc", DependencyKind::Build);
        let dev = edge("bottom", "proptest", DependencyKind::Development);
        assert_eq!(
            violations(
                TABLE,
                &["bottom", "top"],
                &[normal.clone(), build.clone(), dev]
            ),
            [
                Violation::ForbiddenExternal(normal),
                Violation::ForbiddenExternal(build)
            ]
        );
    }

    #[test]
    fn a_crate_without_a_row_and_a_row_without_a_crate_are_errors() {
        assert_eq!(
            violations(TABLE, &["bottom", "new"], &[]),
            [
                Violation::NotInTable("new".to_owned()),
                Violation::NotInWorkspace("top")
            ]
        );
    }

    #[test]
    fn a_forbidden_arrow_names_both_ends() {
        let message = Violation::ForbiddenArrow(edge("bottom", "top", DependencyKind::Normal));
        let message = message.to_string();
        assert!(
            message.contains("`bottom`") && message.contains("`top`"),
            "{message}"
        );
    }

    #[test]
    fn the_table_points_down_only() {
        let mut above: Vec<&str> = Vec::new();
        for row in ALLOWED {
            for used in row.internal {
                assert!(
                    above.contains(used),
                    "`{}` uses `{used}`, a later row",
                    row.package
                );
            }
            above.push(row.package);
        }
    }
}
