//! What stands around the events: headers, which promise how many there are.

use crate::error::{LineProblem, excerpt};
use crate::event::{Event, Kind};
use crate::summary::{Header, Summary};
use crate::text_layout::TextLayout;

/// Where a text is: comments stand before its events, never between them.
///
/// A task's name may hold a line feed and a `#`: were the rest of its line taken for a comment, a name could put a field of its own
/// in the place of a real one.
pub(crate) struct Comments {
    in_header: bool,
    /// The layout, if a header told it.
    pub(crate) layout: Option<TextLayout>,
    /// Which of the flags tells the context, if a header said it.
    pub(crate) context_at: Option<usize>,
    flags_named: usize,
    /// Whether the latest event holds text that user space chose, of any length.
    ends_in_text: bool,
}

impl Comments {
    /// Stands before the first line.
    pub(crate) fn new() -> Self {
        Comments {
            in_header: true,
            layout: None,
            context_at: None,
            flags_named: 0,
            ends_in_text: false,
        }
    }

    /// Whether the line is none of an event. Only the first of such lines need be told from events by more than their first byte.
    #[inline]
    pub(crate) fn is_comment(&self, line: &[u8]) -> bool {
        match line.first() {
            None | Some(b'#') => true,
            Some(b'c' | b'C') => self.in_header && is_of_trace_cmd(line),
            Some(_) => false,
        }
    }

    /// Notes that an event came.
    ///
    /// # Errors
    /// If there are more than a header announced.
    #[inline]
    pub(crate) fn event(&mut self, event: &Event, summary: &Summary) -> Result<(), LineProblem> {
        self.in_header = false;
        self.ends_in_text = matches!(event.kind, Kind::Other | Kind::ProcessExec { .. });
        if let Some(header) = summary.header
            && summary.events > header.entries_in_buffer
        {
            return Err(LineProblem::MoreThanAnnounced {
                announced: header.entries_in_buffer,
            });
        }
        Ok(())
    }

    /// Reads a line that is no event's.
    ///
    /// # Errors
    /// If it tells of lost events, or stands where no comment can.
    #[cold]
    pub(crate) fn read(&mut self, line: &[u8], summary: &mut Summary) -> Result<(), LineProblem> {
        if line.is_empty() {
            return Ok(());
        }
        if !self.in_header {
            self.begin_again(line, summary)?;
        }
        let text = String::from_utf8_lossy(line);
        if let Some(cpus) = text.strip_prefix("cpus=") {
            self.layout = Some(TextLayout::TraceCmd);
            summary.cpus_announced = cpus.trim().parse().ok().max(summary.cpus_announced);
        } else if let Some(entries) = text.strip_prefix("# entries-in-buffer/entries-written:") {
            read_entries(entries, summary)?;
        } else if let Some(latency) = text.strip_prefix("# latency:") {
            self.layout = Some(TextLayout::Latency);
            let entries = latency.split_once('#').map_or("", |(_, entries)| entries);
            read_entries(entries, summary)?;
        } else if let Some(cpus) = text.strip_prefix("# nrcpus online :") {
            summary.cpus_announced = cpus.trim().parse().ok().max(summary.cpus_announced);
        } else if let Some(release) = text.strip_prefix("# os release :") {
            summary.kernel = Some(release.trim().to_owned());
        } else if text.contains("=> ") {
            self.read_flag(&text);
        }
        Ok(())
    }

    /// Begins another recording in the same file: only where the one before is complete, and does not end in text that could have
    /// made this line.
    fn begin_again(&mut self, line: &[u8], summary: &Summary) -> Result<(), LineProblem> {
        let announced = summary.header.map(|header| header.entries_in_buffer);
        let is_complete = announced == Some(summary.events) && !self.ends_in_text;
        if !line.starts_with(b"# tracer: ") || !is_complete {
            return Err(LineProblem::CommentBetweenEvents {
                excerpt: excerpt(line),
            });
        }
        self.in_header = true;
        self.context_at = None;
        Ok(())
    }

    /// Reads a line of the drawing that names the flags from left to right: `#  | / _---=> hardirq/softirq`.
    fn read_flag(&mut self, text: &str) {
        if text.contains("=> irqs-off") {
            self.flags_named = 0;
        }
        if text.contains("=> CPU#") {
            return;
        }
        if text.contains("=> hardirq/softirq") {
            self.context_at = Some(self.flags_named);
        }
        self.flags_named += 1;
    }
}

/// `cpus=2`, `CPU 1 is empty`.
fn is_of_trace_cmd(line: &[u8]) -> bool {
    let is_number = |text: &[u8]| !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    let cpus = line.strip_prefix(b"cpus=").map(<[u8]>::trim_ascii_end);
    let empty = line.strip_prefix(b"CPU ");
    let empty = empty.and_then(|rest| rest.strip_suffix(b" is empty"));
    cpus.or(empty).is_some_and(is_number)
}

/// Reads `302390/302390   #P:8`; other comments say nothing.
fn read_entries(text: &str, summary: &mut Summary) -> Result<(), LineProblem> {
    let mut words = text.split([' ', ',', ')']).filter(|word| !word.is_empty());
    let entries = words.next().and_then(|word| word.split_once('/'));
    let parsed = entries.map(|(left, right)| (left.parse::<u64>(), right.parse::<u64>()));
    let Some((Ok(in_buffer), Ok(written))) = parsed else {
        return Ok(());
    };
    if in_buffer != written {
        return Err(LineProblem::Overrun { in_buffer, written });
    }
    let cpus = words.find_map(|word| word.strip_prefix("#P:")?.parse().ok());
    let header = summary.header.get_or_insert_with(Header::default);
    header.entries_in_buffer = header.entries_in_buffer.saturating_add(in_buffer);
    header.entries_written = header.entries_written.saturating_add(written);
    header.online_cpus = header.online_cpus.max(cpus);
    summary.cpus_announced = summary.cpus_announced.max(cpus);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &[&str]) -> (Comments, Summary) {
        let (mut comments, mut summary) = (Comments::new(), Summary::default());
        for line in lines {
            assert!(comments.is_comment(line.as_bytes()), "{line}");
            comments.read(line.as_bytes(), &mut summary).unwrap();
        }
        (comments, summary)
    }

    #[test]
    fn headers_tell_the_layout_and_the_numbers() {
        let (comments, summary) = read(&["cpus=2", "CPU 0 is empty"]);
        assert_eq!(comments.layout, Some(TextLayout::TraceCmd));
        assert_eq!(summary.cpus_announced, Some(2));
        let (comments, summary) = read(&[
            "# latency: 0 us, #1464/1464, CPU#0 | (M:PREEMPT(none) VP:0, KP:0, SP:0 HP:0 #P:2)",
        ]);
        assert_eq!(comments.layout, Some(TextLayout::Latency));
        let header = summary.header.unwrap();
        assert_eq!(
            (header.entries_in_buffer, header.online_cpus),
            (1464, Some(2))
        );
        let (_, summary) = read(&["# nrcpus online : 16", "# os release : 6.18.44"]);
        assert_eq!(summary.cpus_announced, Some(16));
        assert_eq!(summary.kernel.as_deref(), Some("6.18.44"));
    }

    #[test]
    fn the_drawing_tells_which_flag_is_the_context() {
        let (comments, _) = read(&[
            "#                                _-----=> irqs-off",
            "#                               / _----=> need-resched",
            "#                              | / _----=> need-resched_lazy",
            "#                              || / _---=> hardirq/softirq",
            "#                              ||| / _--=> preempt-depth",
        ]);
        assert_eq!(comments.context_at, Some(3));
        let (comments, _) = read(&[
            "#                    _------=> CPU#            ",
            "#                   / _-----=> irqs-off/BH-disabled",
            "#                  | / _----=> need-resched    ",
            "#                  || / _---=> hardirq/softirq ",
        ]);
        assert_eq!(comments.context_at, Some(2));
    }
}
