//! Finds out in which of its layouts a text was printed, and reads lines by it.

use super::header::Line;
use super::{latency, perf_script};
use crate::error::{LinePart, LineProblem, excerpt};
use crate::text_layout::TextLayout;

impl TextLayout {
    /// Tells the layout by the first line of an event.
    ///
    /// A task's name cannot decide: no layout fits the lines of another, whatever a name of 15 bytes adds.
    ///
    /// # Errors
    /// If it fits none.
    pub(crate) fn of(line: &[u8]) -> Result<Self, LineProblem> {
        let layouts = [
            TextLayout::Kernel,
            TextLayout::PerfScript,
            // Last: a name of 15 bytes, which others print whole, could fit it.
            TextLayout::Latency,
        ];
        for layout in layouts {
            match layout.parse(line, None) {
                Err(LineProblem::Malformed { .. }) => {}
                _ => return Ok(layout),
            }
        }
        if perf_script::has_event_name(line) {
            return Ok(TextLayout::PerfScript);
        }
        Err(malformed(TextLayout::Kernel, LinePart::Layout, line))
    }

    /// Parses a line up to the event's name. `context_at` is which of the flags tells the context, if the header said it.
    ///
    /// # Errors
    /// [`LineProblem`], for anything but an event.
    #[inline]
    pub(crate) fn parse<'a>(
        self,
        line: &'a [u8],
        context_at: Option<usize>,
    ) -> Result<Line<'a>, LineProblem> {
        let parsed = match self {
            TextLayout::Kernel | TextLayout::TraceCmd => Line::parse(line, context_at),
            TextLayout::Latency => latency::parse(line, context_at),
            TextLayout::PerfScript => perf_script::parse(line),
        };
        match parsed {
            Ok(parsed) => parsed.checked(),
            Err(missing) => Err(self.explain(line, missing)),
        }
    }

    #[cold]
    fn explain(self, line: &[u8], missing: LinePart) -> LineProblem {
        lost_events(line).unwrap_or_else(|| malformed(self, missing, line))
    }
}

/// Says what a line lacks.
#[cold]
pub(super) fn malformed(layout: TextLayout, missing: LinePart, line: &[u8]) -> LineProblem {
    LineProblem::Malformed {
        layout,
        missing,
        excerpt: excerpt(line),
    }
}

/// Recognises `CPU:3 [LOST 12 EVENTS]` (kernel) and `CPU:3 [12 EVENTS DROPPED]` (trace-cmd).
fn lost_events(line: &[u8]) -> Option<LineProblem> {
    let (cpu, rest) = super::header::number(line.strip_prefix(b"CPU:")?)?;
    let text = rest.trim_ascii().strip_prefix(b"[")?.strip_suffix(b"]")?;
    let counted = text
        .strip_prefix(b"LOST")
        .unwrap_or(text)
        .trim_ascii_start();
    memchr::memmem::find(text, b"EVENTS")?;
    Some(LineProblem::LostEvents {
        cpu,
        count: super::header::number(counted).map(|(count, _)| count),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_event_tells_the_layout_whatever_the_task_is_called() {
        for comm in [
            "sh",
            "-1 [0] 1.000000",
            "1 [0] 1.000000:",
            "-1 0d..2. 1us :",
            "-1 0. 1us : e:",
            "a-b c:d: [1]",
            "-",
            "x:y:",
            "1",
        ] {
            let short: String = comm.chars().take(8).collect();
            let lines = [
                (
                    TextLayout::Kernel,
                    format!("{comm:>16}-100     [003] d..2.    10.000003: e: x: f"),
                ),
                (
                    TextLayout::Kernel,
                    format!("{comm:>16}-100     [003]    10.000003: e: x: f"),
                ),
                (
                    TextLayout::Latency,
                    format!("{short:>8}-100       3d..2. 10000003us+: e: x: f"),
                ),
                (
                    TextLayout::Latency,
                    format!("{short:>8}-100       3d..2.    10.000003: e: x: f"),
                ),
                (
                    TextLayout::PerfScript,
                    format!("{comm:>16}   100 [003]    10.000003:      e:x: f"),
                ),
            ];
            for (layout, line) in lines {
                assert_eq!(TextLayout::of(line.as_bytes()), Ok(layout), "{line}");
                let parsed = layout.parse(line.as_bytes(), None).unwrap();
                let found = (parsed.pid, parsed.cpu, parsed.time_ns);
                assert_eq!(found, (Some(100), 3, 10_000_003_000), "{line}");
            }
        }
    }

    #[test]
    fn lost_events_are_named() {
        let lost = |cpu, count| Some(LineProblem::LostEvents { cpu, count });
        assert_eq!(lost_events(b"CPU:3 [LOST 12 EVENTS]"), lost(3, Some(12)));
        assert_eq!(lost_events(b"CPU:3 [LOST EVENTS]"), lost(3, None));
        assert_eq!(lost_events(b"CPU:3 [12 EVENTS DROPPED]"), lost(3, Some(12)));
        assert_eq!(lost_events(b"CPU:3 [EVENTS DROPPED]"), lost(3, None));
    }
}
