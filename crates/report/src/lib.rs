//! A result as one HTML page that needs no network: tables, a timeline to zoom into, an execution to step through.
//!
//! ```
//! use lazytlb_report::{Block, Page, Section};
//!
//! let page = Page {
//!     title: "lazytlb decide".to_owned(),
//!     about: "</script> does no harm".to_owned(),
//!     made_by: "lazytlb".to_owned(),
//!     sections: vec![Section::new("Decision", vec![Block::text("init-mm")])],
//! };
//! let html = page.html();
//! assert!(html.contains("init-mm") && !html.contains("</script> does no harm"));
//! ```
//!
//! The page holds its data as JSON, and a script that shows it. Text becomes text nodes, never markup, so nothing that
//! stands in a recording can act; a content security policy in the page forbids all that is not in it.
//!
//! | file | what |
//! | --- | --- |
//! | `page` | the page: its sections, and what they are made of |
//! | `lanes` | a timeline: what each CPU did, in bins of time; collected as a recording is read |
//! | `runs` | numbers, most of which are repeated |
//! | `steps` | an execution to step through |
//! | `page.html`, `page.css` | the frame and its style |
//! | `page.js`, `lanes.js`, `steps.js` | the script: blocks; the timeline; the stepper |
#![forbid(unsafe_code)]

mod lanes;
mod page;
mod runs;
mod steps;

pub use lanes::{Activity, LaneRecorder, Lanes};
pub use page::{Block, Cell, Column, Fact, Mark, Page, Section};
pub use runs::Runs;
pub use steps::{CpuState, EntryState, Event, FrameState, Held, MachineState, Steps};
