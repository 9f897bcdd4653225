//! The page of `check`: verdicts, and the counterexample of each violation.

use lazytlb_check::{Finding, Verdict};
use lazytlb_report::{Block, Cell, Mark, Page, Section};

use super::made_by::made_by;
use super::steps::{Of, steps};
use crate::numbers::grouped;
use crate::verdict_words::{outcome, unproved};

/// A verdict, of what, and the command that repeats it.
pub(crate) struct Checked<'a> {
    pub(crate) name: String,
    pub(crate) verdict: &'a Verdict,
    pub(crate) command: String,
}

/// Makes the page; `about` says what was checked.
pub(crate) fn check_page(about: String, checked: &[Checked<'_>]) -> Page {
    let mut sections = vec![Section::new("Verdicts", verdicts(checked))];
    for one in checked {
        if let Some(blocks) = counterexample(one.verdict, &one.command) {
            sections.push(Section::new(
                format!("Counterexample: {}", one.name),
                blocks,
            ));
        }
    }
    Page {
        title: "lazytlb check".to_owned(),
        about,
        made_by: made_by(),
        sections,
    }
}

fn verdicts(checked: &[Checked<'_>]) -> Vec<Block> {
    let rows = checked.iter().map(|one| {
        let effort = one.verdict.effort;
        vec![
            Cell::text(&one.name),
            Cell::marked(mark(one.verdict), outcome(one.verdict)),
            Cell::text(grouped(effort.states)),
            Cell::text(grouped(effort.transitions)),
            Cell::text(effort.depth.to_string()),
            Cell::text(format!("{:.2}", effort.seconds)),
        ]
    });
    let columns = [
        "policy",
        "verdict",
        "#states",
        "#transitions",
        "#depth",
        "#seconds",
    ];
    let mut blocks = vec![Block::table("What was found", &columns, rows.collect())];
    for Checked {
        name,
        verdict,
        command,
    } in checked
    {
        blocks.extend(statement(name, verdict));
        if let Finding::Incomplete { why } = &verdict.finding {
            let text = format!("{name}: {}", unproved(verdict, why));
            blocks.push(Block::Warning { text });
        }
        // That of a violation stands beside its execution.
        if verdict.violation().is_none() {
            blocks.push(Block::Command {
                text: command.clone(),
            });
        }
    }
    blocks
}

/// Says what is proved of something, in a sentence, if it is a proof that has one.
pub(super) fn statement(name: &str, verdict: &Verdict) -> Option<Block> {
    let statement = verdict.statement.as_ref()?;
    Some(Block::text(format!("Proved of {name}: {statement}.")))
}

pub(super) fn mark(verdict: &Verdict) -> Mark {
    match verdict.finding {
        Finding::Safe => Mark::Good,
        Finding::Violation { .. } => Mark::Bad,
        Finding::Incomplete { .. } => Mark::Open,
    }
}

/// Tells a violation, if it is one: what it is, the command that repeats it, and the execution.
pub(super) fn counterexample(verdict: &Verdict, command: &str) -> Option<Vec<Block>> {
    let Finding::Violation {
        violation,
        timeline,
    } = &verdict.finding
    else {
        return None;
    };
    let caption = format!("A shortest execution to {}", violation.property);
    Some(vec![
        Block::text(format!("{}: {}.", violation.property, violation.what)),
        Block::Command {
            text: command.to_owned(),
        },
        Block::Steps(steps(caption, timeline, Of::Violation)),
    ])
}
