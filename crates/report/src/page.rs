//! The page: its sections, and what they are made of.

use serde::Serialize;

use crate::lanes::Lanes;
use crate::steps::Steps;

const FRAME: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
/// In this order: the last one starts.
const SCRIPTS: [&str; 3] = [
    include_str!("lanes.js"),
    include_str!("steps.js"),
    include_str!("page.js"),
];

/// A page.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Page {
    /// The title.
    pub title: String,
    /// What it is about, in a sentence.
    pub about: String,
    /// The program that made it, with its version.
    pub made_by: String,
    /// What it says.
    pub sections: Vec<Section>,
}

/// A section with a heading, which the table of contents lists.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Section {
    /// The heading.
    pub heading: String,
    /// What stands under it.
    pub blocks: Vec<Block>,
}

/// A piece of a section.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Block {
    /// A paragraph.
    Text {
        /// The text.
        text: String,
    },
    /// A doubt that a reader must know.
    Warning {
        /// The text.
        text: String,
    },
    /// A command to copy.
    Command {
        /// The command.
        text: String,
    },
    /// A list.
    List {
        /// Its items.
        items: Vec<String>,
    },
    /// An answer with its facts.
    Answer {
        /// What it is an answer for.
        heading: String,
        /// The answer, in a word or two.
        answer: String,
        /// How sure it is, or what kind of answer.
        mark: Mark,
        /// Its reason.
        text: String,
        /// More to know.
        facts: Vec<Fact>,
        /// What else could be.
        notes: Vec<String>,
    },
    /// A table.
    Table {
        /// What it shows.
        caption: String,
        /// Its columns; the first one heads the rows.
        columns: Vec<Column>,
        /// Its rows.
        rows: Vec<Vec<Cell>>,
    },
    /// A timeline.
    Lanes(Lanes),
    /// An execution.
    Steps(Steps),
}

/// A fact with its name.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Fact {
    /// What it is.
    pub name: String,
    /// Which.
    pub value: String,
}

/// A column of a table.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Column {
    /// The heading.
    pub name: String,
    /// Whether it holds numbers.
    pub numbers: bool,
}

/// A cell of a table.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Cell {
    /// Words, or a number as it is told.
    Text {
        /// The text.
        text: String,
    },
    /// A verdict, or what comes of one.
    Marked {
        /// The text.
        text: String,
        /// Its kind.
        mark: Mark,
    },
    /// A range, told and drawn: all of a column on one logarithmic scale.
    Range {
        /// The range as it is told.
        text: String,
        /// Its low end.
        low: f64,
        /// What is typical.
        typical: f64,
        /// Its high end.
        high: f64,
    },
}

/// What kind of thing a word stands for. Its sign and colour follow.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mark {
    /// Safe, allowed, as it should be.
    Good,
    /// Unsafe.
    Bad,
    /// Nobody knows.
    Open,
    /// It is the choice.
    Chosen,
}

impl Section {
    /// Makes a section.
    pub fn new(heading: impl Into<String>, blocks: Vec<Block>) -> Section {
        let heading = heading.into();
        Section { heading, blocks }
    }
}

impl Block {
    /// Makes a paragraph.
    pub fn text(text: impl Into<String>) -> Block {
        Block::Text { text: text.into() }
    }

    /// Makes a table. A `#` before a column's name says that it holds numbers.
    pub fn table(caption: impl Into<String>, columns: &[&str], rows: Vec<Vec<Cell>>) -> Block {
        let columns = columns.iter().map(|column| Column {
            name: column.trim_start_matches('#').to_owned(),
            numbers: column.starts_with('#'),
        });
        Block::Table {
            caption: caption.into(),
            columns: columns.collect(),
            rows,
        }
    }
}

impl Cell {
    /// Makes a cell of words.
    pub fn text(text: impl Into<String>) -> Cell {
        Cell::Text { text: text.into() }
    }

    /// Makes a cell with a mark.
    pub fn marked(mark: Mark, text: impl Into<String>) -> Cell {
        let text = text.into();
        Cell::Marked { text, mark }
    }
}

impl Page {
    /// Returns the page.
    pub fn html(&self) -> String {
        let data = serde_json::to_string(self).expect("names are text, and numbers no keys");
        let parts = [
            ("{{title}}", as_markup(&self.title)),
            ("{{style}}", STYLE.to_owned()),
            ("{{data}}", as_script_data(&data)),
            ("{{script}}", SCRIPTS.concat()),
        ];
        // One pass, so that nothing in one part is taken for the place of another.
        let (mut html, mut rest) = (String::new(), FRAME);
        for (place, part) in parts {
            let (before, after) = rest
                .split_once(place)
                .expect("the frame has each place once, in order");
            html.push_str(before);
            html.push_str(&part);
            rest = after;
        }
        html.push_str(rest);
        html
    }
}

fn as_markup(text: &str) -> String {
    let text = text.replace('&', "&amp;");
    text.replace('<', "&lt;").replace('>', "&gt;")
}

/// In JSON these stand in strings alone, where an escape is the same character. So no `</script>` and no `<!--` is left.
fn as_script_data(json: &str) -> String {
    let json = json.replace('<', "\\u003c").replace('>', "\\u003e");
    json.replace('&', "\\u0026")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(text: &str) -> Page {
        Page {
            title: text.to_owned(),
            about: text.to_owned(),
            made_by: text.to_owned(),
            sections: vec![Section::new(text, vec![Block::text(text)])],
        }
    }

    #[test]
    fn no_text_of_a_recording_becomes_markup() {
        let harmless = page("a").html();
        let tags = |html: &str| html.matches('<').count();
        for text in [
            "</script><script>alert(1)</script>",
            "<!--<script>",
            "{{script}}{{data}}",
            "<img src=x onerror=alert(1)>",
            "\u{2028}</SCRIPT\n>",
        ] {
            let html = page(text).html();
            assert_eq!(tags(&html), tags(&harmless), "{text}");
            let (_, data) = html.split_once("type=\"application/json\">").unwrap();
            let (data, _) = data.split_once("</script>").unwrap();
            let read: serde_json::Value = serde_json::from_str(data).unwrap();
            assert_eq!(read["about"], text);
        }
    }

    #[test]
    fn nothing_is_fetched() {
        let html = page("a").html();
        for fetches in [
            "src=",
            "href=\"http",
            "url(",
            "@import",
            "fetch(",
            "XMLHttpRequest",
        ] {
            assert!(!html.contains(fetches), "{fetches}");
        }
        assert!(html.contains("default-src 'none'"));
    }
}
