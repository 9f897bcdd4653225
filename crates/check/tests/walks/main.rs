//! Programs whose verdicts hang on what walks may do: in flight, under another PCID, for an instruction fetch.
//!
//! | file | what |
//! | --- | --- |
//! | `pcids` | tables that are freed while an inactive PCID's entries lead there |
//! | `fetches` | instruction fetches, whose walks may have read entries earlier |
//! | `touches` | what touches without data set in the entries on their way |

#![allow(clippy::unwrap_used)] // A test that fails is to panic.

mod fetches;
mod pcids;
mod touches;
