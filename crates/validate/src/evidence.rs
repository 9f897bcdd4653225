//! What a recording shows about its kernel.

use lazytlb_trace::{Context, Event, Kind, MmId, Tables};

use crate::cpu_set::HowMany;
use crate::flush::{Path, Recorded};
use crate::ids::Ids;
use crate::machine::Seen;

/// Facts of the recording that choose the rule, and what was recorded in all.
#[derive(Clone, Debug, Default)]
pub(crate) struct Evidence {
    /// The kernel's release, as `uname -r` prints it.
    pub(crate) release: Option<String>,
    kprobes: bool,
    pub(crate) flush_func: bool,
    /// A CR3 write that keeps was recorded.
    pub(crate) kept: u64,
    /// `remote wrong CPU` was recorded.
    pub(crate) wrong_cpu: u64,
    /// `flush_multi` that trims.
    pub(crate) trims: u64,
    /// Handlers that could be matched with a flush.
    pub(crate) arrived: u64,
    /// Handlers that showed themselves by `tlb_flush`.
    pub(crate) seen_arrivals: u64,
    /// Handlers without a flush that they could belong to.
    pub(crate) strays: u64,
    /// All handlers for another CPU.
    pub(crate) remote_handlers: u64,
    /// CPUs named by cpumasks, first word.
    pub(crate) named: u64,
    /// CPUs with events, first word.
    pub(crate) seen: u64,
    /// The task that was current at the latest event.
    pub(crate) pid: u32,
    pub(crate) ids: Ids,
    /// `remote shootdown`, which handlers alone emit; and such that are told to be a task's.
    pub(crate) handlers: u64,
    pub(crate) handlers_of_tasks: u64,
    newest: u64,
    fresh: bool,
    latest: Shown,
}

/// What the latest event shows of the request that is made from it. Not the event itself, which is as large as some
/// cache lines.
#[derive(Clone, Copy, Debug, Default)]
enum Shown {
    #[default]
    Other,
    Switch {
        generation: Option<u64>,
    },
    Flush {
        generation: Option<u64>,
        mask: Option<u64>,
    },
    Sends,
    FlushesItself,
}

impl Evidence {
    pub(crate) fn note(&mut self, event: &Event) {
        self.pid = event.pid;
        self.latest = Shown::Other;
        if event.cpu < 64 {
            self.seen |= 1 << event.cpu;
        }
        match event.kind {
            Kind::SwitchMm(switch) => {
                let generation = switch.generation;
                self.latest = Shown::Switch { generation };
                self.kprobes = true;
                self.fresh =
                    switch.mm.0 > self.newest && switch.generation.is_some_and(|at| at <= 1);
                self.newest = self.newest.max(switch.mm.0);
                self.ids.note(switch.mm, switch.next);
                self.named |= switch.mask.unwrap_or(0);
            }
            Kind::FlushMmRange(flush) => {
                self.latest = Shown::Flush {
                    generation: flush.generation,
                    mask: flush.mask,
                };
                self.kprobes = true;
                self.ids.note(flush.mm, flush.pointer);
                self.named |= flush.mask.unwrap_or(0);
            }
            Kind::EnterLazy { .. } => self.kprobes = true,
            Kind::FlushFunc(func) => {
                self.flush_func = true;
                if func.initiator != u64::from(event.cpu) {
                    self.remote_handlers += 1;
                }
            }
            Kind::FlushMulti(multi) => {
                self.named |= multi.mask.unwrap_or(0);
                self.trims += u64::from(multi.trims == Some(true));
            }
            Kind::TlbFlush {
                reason: 0,
                pages: 0,
            } => self.kept += 1,
            Kind::TlbFlush { reason: 1, .. } => {
                self.handlers += 1;
                self.handlers_of_tasks += u64::from(event.context == Context::Task);
            }
            Kind::TlbFlush { reason: 3, .. } => self.latest = Shown::FlushesItself,
            Kind::TlbFlush { reason: 4, .. } => self.latest = Shown::Sends,
            Kind::TlbFlush { reason: 5, .. } => self.wrong_cpu += 1,
            _ => {}
        }
    }

    /// The release, if it is one of Linux 6.14 or later.
    pub(crate) fn release_from_614(&self) -> Option<&str> {
        let release = self.release.as_deref()?;
        let mut numbers = release.split(|byte: char| !byte.is_ascii_digit());
        let mut number = || numbers.next()?.parse::<u32>().ok();
        let version = (number()?, number()?);
        (version >= (6, 14)).then_some(release)
    }

    /// Whether it is known by now that the kernel is one of Linux 6.14 or later.
    pub(crate) fn is_from_614(&self) -> bool {
        self.wrong_cpu > 0 || self.release_from_614().is_some()
    }

    pub(crate) fn has_kprobes(&self) -> bool {
        self.kprobes
    }

    /// Whether a space that was never named before is a new one.
    pub(crate) fn is_new(&self, mm: MmId) -> bool {
        match self.kprobes {
            true => self.fresh,
            false => !mm.is_older_than_recording(),
        }
    }

    /// What the event that a request was made from shows of its space's generation.
    ///
    /// A kprobe shows what its own CPU reads a moment later. Which of two CPUs was first, a raise or a switch, is told
    /// by nothing else: a virtual CPU may stop for long between the event of a flush and its raise.
    pub(crate) fn seen_generation(&self) -> Seen {
        let generation = match self.latest {
            Shown::Switch { generation } | Shown::Flush { generation, .. } => generation,
            Shown::Sends | Shown::FlushesItself | Shown::Other => None,
        };
        match generation {
            Some(generation) => Seen::Generation { generation },
            None => Seen::Nothing,
        }
    }

    /// What the event that a request was made from shows of it already.
    pub(crate) fn request<N: HowMany>(&self, tables: Tables) -> Recorded<N> {
        let mut recorded = Recorded::default();
        match self.latest {
            Shown::Flush { mask, .. } => {
                recorded.mask = mask;
                recorded.shows_every_arrival = self.flush_func;
            }
            Shown::Sends => recorded.path = Some(Path::Remote),
            // What a task flushes for itself may free tables or not; the end of a space is told otherwise.
            Shown::FlushesItself if tables != Tables::Freed => {
                recorded.path = Some(Path::Local);
            }
            Shown::FlushesItself | Shown::Switch { .. } | Shown::Other => {
                recorded.path_told = true;
            }
        }
        recorded
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_compared_by_number() {
        let from_614 = |release: &str| {
            let release = Some(release.to_owned());
            let evidence = Evidence {
                release,
                ..Evidence::default()
            };
            evidence.release_from_614().is_some()
        };
        assert!(from_614("6.14.0") && from_614("6.18.44-rc1") && from_614("7.0"));
        assert!(!from_614("6.1.0-56-amd64") && !from_614("6.9") && !from_614("odd"));
    }
}
