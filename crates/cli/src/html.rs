//! `--html`: a result as a page.
//!
//! | file | what |
//! | --- | --- |
//! | `decide`, `check`, `litmus` | the page of each command |
//! | `made_by` | which program and protocol |
//! | `recording` | how a workload was recorded, and what is unknown of it |
//! | `lanes` | the workload's timeline |
//! | `steps` | an execution to step through |

mod check;
mod decide;
mod lanes;
mod litmus;
mod made_by;
mod recording;
mod steps;

use anyhow::ensure;
use lazytlb_report::Page;

use crate::arguments::{Html, Output};
use crate::report::Report;

pub(crate) use check::{Checked, check_page};
pub(crate) use decide::{Decided, decide_page};
pub(crate) use lanes::LaneCollector;
pub(crate) use litmus::{LitmusPage, witnesses};

/// The file that the page goes to. It is replaced only by a whole page.
pub(crate) struct HtmlFile(Report);

impl HtmlFile {
    /// Opens it before the work begins, so that one that cannot be written is refused at once. `None` if no page is
    /// asked for.
    ///
    /// # Errors
    /// If it cannot be written, or is the file that the result goes to.
    pub(crate) fn open(html: &Html, output: &Output) -> anyhow::Result<Option<HtmlFile>> {
        let Some(path) = &html.html else {
            return Ok(None);
        };
        ensure!(
            output.output.as_ref() != Some(path),
            "--html and --output name the same file, {}: choose another one for the page",
            path.display()
        );
        Ok(Some(HtmlFile(Report::open_file(path, "--html")?)))
    }

    pub(crate) fn write(self, page: &Page) -> anyhow::Result<()> {
        let HtmlFile(mut file) = self;
        file.line(page.html())?;
        file.finish()
    }
}
