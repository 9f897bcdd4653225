//! The page of `litmus`: answers, and their executions.

use std::path::Path;

use lazytlb_litmus::{Answer, Execution, LitmusVerdict};
use lazytlb_report::{Block, Cell, Mark, Page, Section};

use super::made_by::made_by;
use super::steps::{Of, steps};

/// The page, test by test.
#[derive(Default)]
pub(crate) struct LitmusPage {
    rows: Vec<Vec<Cell>>,
    sections: Vec<Section>,
}

/// The most executions that a page shows: a suite of tests would be hundreds.
const MOST_EXECUTIONS: usize = 40;

/// Says whether executions are still worth making, for a page.
pub(crate) fn witnesses(page: Option<&LitmusPage>) -> bool {
    page.is_some_and(|page| page.sections.len() < MOST_EXECUTIONS)
}

impl LitmusPage {
    /// Adds a test's answer, and its executions.
    pub(crate) fn add(
        &mut self,
        file: &Path,
        answer: &Answer,
        executions: &[Execution],
        (expected, as_expected): (Option<LitmusVerdict>, Option<bool>),
    ) {
        let verdict = answer.verdict();
        let mark = match (verdict, as_expected) {
            (_, Some(false)) => Mark::Bad,
            (LitmusVerdict::Incomplete, _) => Mark::Open,
            _ => Mark::Good,
        };
        let expected = expected.map_or("", LitmusVerdict::name);
        self.rows.push(vec![
            Cell::text(&answer.name),
            Cell::marked(mark, verdict.name()),
            Cell::text(expected),
            Cell::text(file.display().to_string()),
        ]);
        let room = MOST_EXECUTIONS.saturating_sub(self.sections.len());
        for execution in executions.iter().take(room) {
            let state = &execution.state.text;
            let what = match execution.is_witness {
                true => "Witness",
                false => "Execution",
            };
            let of = match execution.violated {
                Some(_) => Of::Violation,
                None => Of::Witness,
            };
            let caption = format!("{}: an execution, replayed, to {state}", answer.name);
            let mut blocks = vec![Block::text(answer.to_string().trim_end())];
            blocks.push(Block::Steps(steps(caption, &execution.timeline, of)));
            let heading = format!("{what}: {}", answer.name);
            self.sections.push(Section::new(heading, blocks));
        }
    }

    pub(crate) fn finish(self, about: String) -> Page {
        let columns = ["test", "verdict", "expected", "file"];
        let mut blocks = vec![Block::table("Answers", &columns, self.rows)];
        if self.sections.len() >= MOST_EXECUTIONS {
            let text = format!("Only the first {MOST_EXECUTIONS} executions are on this page.");
            blocks.push(Block::Warning { text });
        }
        let mut sections = vec![Section::new("Answers", blocks)];
        sections.extend(self.sections);
        Page {
            title: "lazytlb litmus".to_owned(),
            about,
            made_by: made_by(),
            sections,
        }
    }
}
