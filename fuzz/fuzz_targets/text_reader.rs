//! Reads any lines in each layout of text: the answer is events or an error with a line, never a panic or a hang; and never more
//! events than the header announces.
#![no_main]

use lazytlb_trace::{Step, TraceError, TraceReader};
use libfuzzer_sys::fuzz_target;

/// Refuses, and so aborts, where the reader would hold more than any may: libFuzzer's own limit of a single allocation takes a sanitizer.
#[global_allocator]
static MEMORY: cap::Cap<std::alloc::System> = cap::Cap::new(std::alloc::System, 256 << 20);

/// First lines, each of another layout. None is empty: what follows would then choose the format by its magic, and a trace.dat has no lines.
const BEGINNINGS: [&str; 5] = [
    "# tracer: nop\n",
    "# entries-in-buffer/entries-written: 3/3   #P:4\n",
    "# latency: 0 us, #3/3, CPU#0 | (#P:4)\n",
    "cpus=4\n",
    "  sh  9 [001] 0.000000: power:cpu_idle: state=1 cpu_id=1\n",
];

fuzz_target!(|bytes: &[u8]| {
    for beginning in BEGINNINGS {
        let text = [beginning.as_bytes(), bytes].concat();
        let Ok(mut reader) = TraceReader::new(text.as_slice(), "input") else {
            continue;
        };
        let mut before = 0;
        loop {
            match reader.next_step() {
                Ok(Some(Step::Event(event))) => {
                    assert!(event.time_ns >= before, "time runs backwards");
                    before = event.time_ns;
                    let lines = reader.summary().lines;
                    assert!(reader.summary().events <= lines, "an event without a line");
                }
                Ok(Some(Step::Operation(_))) => {}
                Ok(None) => break,
                Err(TraceError::Line { at, .. }) => {
                    assert!(at.line >= 1 && at.line <= 1 + reader.summary().lines);
                    break;
                }
                Err(error) => {
                    assert!(error.to_string().contains("input"), "{error}");
                    break;
                }
            }
        }
        if let Some(header) = reader.summary().header {
            assert!(reader.summary().events <= header.entries_in_buffer.saturating_add(1));
        }
    }
});
