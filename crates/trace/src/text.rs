//! Text: lines, as the kernel and its tools print them, become events.
//!
//! Text holds what user space chose: names of tasks (15 bytes, any of them), file names of exec and trace markers (of any length).
//! A name cannot forge an event, nor another's field: each layout is matched such that 15 bytes do not suffice, fields are searched
//! from the end that names do not reach, and what a line feed leaves of a line is no event and no comment, hence an error. A marker
//! or a file name can hold whole lines. Where the header announces the number of events (the kernel's file, with latency-format,
//! too), lines too many are an error. `trace-cmd report`, `perf script` and a file without its header announce nothing: there a forged
//! line is an error only if its time lies outside the events around it, and cannot be told from a real one otherwise. The binary
//! recordings (trace.dat, perf.data) have no such fault. Nor does `perf script` print that samples were lost.
//!
//! | file, in reading order | what |
//! | --- | --- |
//! | `lines` | bytes to lines, in a fixed buffer |
//! | `layout` | which of the layouts it is |
//! | `header` | `COMM-PID [CPU] FLAGS SECONDS: EVENT:`, the kernel's and trace-cmd's |
//! | `latency`, `perf_script`, `dead_tasks` | the other two |
//! | `fields` | `key=value` |
//! | `kinds` | what the fields of which event mean |
//! | `comments` | what stands before the events, and promises how many there are |
//! | `events` | lines to events, with what the header promises |

mod comments;
mod dead_tasks;
mod events;
mod fields;
mod header;
mod kinds;
mod latency;
mod layout;
mod lines;
mod perf_script;

pub(crate) use events::TextEvents;
