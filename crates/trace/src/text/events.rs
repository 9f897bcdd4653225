//! Lines to events, with what the header promises.

use std::io::Read;

use super::comments::Comments;
use super::dead_tasks::DeadTasks;
use super::fields::prev_comm;
use super::layout::malformed;
use super::lines::{Lines, Next};
use crate::compression::Compression;
use crate::error::{BinaryKind, LinePart, LineProblem, Place, TraceError, excerpt};
use crate::event::{Event, Kind};
use crate::source::Source;
use crate::summary::Summary;
use crate::text_layout::TextLayout;

/// The events of a text.
pub(crate) struct TextEvents<R> {
    file: String,
    source: Source<R>,
    lines: Lines,
    comments: Comments,
    layout: Option<TextLayout>,
    dead: DeadTasks,
}

impl<R: Read> TextEvents<R> {
    /// Begins to read.
    ///
    /// # Errors
    /// If the first bytes cannot be read, there are none, or they are not text.
    pub(crate) fn new(file: String, source: Source<R>) -> Result<Self, TraceError> {
        let mut text = TextEvents {
            file,
            source,
            lines: Lines::new(),
            comments: Comments::new(),
            layout: None,
            dead: DeadTasks::default(),
        };
        let head = match text.lines.head(&mut text.source) {
            Ok(head) => head,
            Err(error) => return Err(text.source.explain(&text.file, error)),
        };
        if head.is_empty() {
            return Err(TraceError::Empty { file: text.file });
        }
        if let Some(found) = BinaryKind::of(head) {
            return Err(TraceError::Binary {
                file: text.file,
                found,
            });
        }
        Ok(text)
    }

    /// Reads the next event; `false` if there is none.
    ///
    /// # Errors
    /// At the first line that cannot be right.
    #[inline]
    pub(crate) fn next(
        &mut self,
        summary: &mut Summary,
        event: &mut Event,
    ) -> Result<bool, TraceError> {
        loop {
            let next = match self.lines.next(&mut self.source) {
                Ok(next) => next,
                Err(error) => return Err(self.source.explain(&self.file, error)),
            };
            let result = match next {
                Next::Line(line) => State {
                    comments: &mut self.comments,
                    layout: &mut self.layout,
                    dead: &mut self.dead,
                }
                .read_line(line, summary, event),
                Next::Cut(line) => Err(LineProblem::CutAtEnd {
                    excerpt: excerpt(line),
                }),
                Next::TooLong => Err(LineProblem::TooLong),
                Next::End => return self.check_header(summary),
            };
            match result {
                Ok(false) => {}
                Ok(true) => return Ok(true),
                Err(problem) => return Err(self.at_last_line(problem)),
            }
        }
    }

    /// Says of a problem that it is the last line's.
    pub(crate) fn at_last_line(&self, problem: LineProblem) -> TraceError {
        let at = Place {
            file: self.file.clone(),
            line: self.lines.count,
        };
        TraceError::Line { at, problem }
    }

    /// How the text is compressed.
    pub(crate) fn compression(&self) -> Compression {
        self.source.compression()
    }

    /// The bytes of the file that were used so far.
    pub(crate) fn bytes_read(&self) -> u64 {
        self.source.offset()
    }

    /// Compares, at the end, with what the header announced.
    fn check_header(&self, summary: &Summary) -> Result<bool, TraceError> {
        let header = summary.header;
        let announced = header.map_or(0, |header| header.entries_in_buffer);
        if summary.events < announced {
            return Err(TraceError::EntriesMissing {
                file: self.file.clone(),
                lines: summary.lines,
                announced,
                read: summary.events,
            });
        }
        Ok(false)
    }
}

/// What the lines before tell about a line.
struct State<'a> {
    comments: &'a mut Comments,
    layout: &'a mut Option<TextLayout>,
    dead: &'a mut DeadTasks,
}

impl State<'_> {
    #[inline]
    fn read_line(
        &mut self,
        text: &[u8],
        summary: &mut Summary,
        event: &mut Event,
    ) -> Result<bool, LineProblem> {
        summary.lines += 1;
        if self.comments.is_comment(text) {
            return self.comments.read(text, summary).map(|()| false);
        }
        let layout = match *self.layout {
            Some(layout) => layout,
            None => self.first_event(text)?,
        };
        let line = layout.parse(text, self.comments.context_at)?;
        line.read(event)?;
        if layout == TextLayout::PerfScript {
            if line.pid.is_none() {
                let pid = self.dead.pid(event, line.fields);
                event.pid = pid.ok_or_else(|| malformed(layout, LinePart::Tid, text))?;
            }
            self.dead.observe(event);
        }
        match summary.last_time_ns {
            Some(before_ns) if event.time_ns < before_ns => {
                return Err(LineProblem::TimeBackwards {
                    before_ns,
                    now_ns: event.time_ns,
                });
            }
            Some(_) => {}
            None => summary.resolution_ns = Some(line.resolution_ns.into()),
        }
        if let Kind::SchedSwitch { .. } = event.kind
            && let Some(names) = &mut summary.task_names
            && let Some(name) = prev_comm(line.fields, event.pid)
        {
            names.note(event.pid, name);
        }
        summary.count(event, line.name);
        self.comments.event(event, summary)?;
        Ok(true)
    }

    /// Finds out the layout, once: what a header said, else what fits the first event.
    #[cold]
    fn first_event(&mut self, line: &[u8]) -> Result<TextLayout, LineProblem> {
        let found = match (self.comments.layout, TextLayout::of(line)) {
            // `trace-cmd report -l` has both.
            (Some(TextLayout::TraceCmd), Ok(TextLayout::Latency)) => TextLayout::Latency,
            (Some(told), _) => told,
            (None, found) => found?,
        };
        *self.layout = Some(found);
        Ok(found)
    }
}
