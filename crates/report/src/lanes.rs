//! A timeline: what each CPU did, in bins of time, collected as a recording is read.
//!
//! How long a recording lasts is not known before its end. So bins begin short, and two become one wherever there would
//! be too many of them.

use serde::Serialize;

use crate::runs::Runs;

/// Bins of a lane, at most.
const MOST_BINS: usize = 2000;
/// Bins of all lanes together, at most: those of sixteen CPUs.
const MOST_BINS_IN_ALL: usize = 16 * MOST_BINS;
/// And at least of each, however many there are.
const FEWEST_BINS: usize = 128;

/// A timeline.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Lanes {
    /// What it shows, in a few words.
    caption: String,
    /// When the first bin begins, in nanoseconds of the recording's clock.
    start_ns: u64,
    /// How long a bin is.
    bin_ns: u64,
    /// How many there are.
    bins: usize,
    /// The names of those whose interrupts are counted.
    ipis_of: Vec<String>,
    /// Which of them are shown first.
    first: usize,
    lanes: Vec<Lane>,
}

/// What a CPU did, bin by bin.
#[derive(Clone, PartialEq, Debug, Serialize)]
struct Lane {
    cpu: u16,
    /// Of each bin, how many hundredths the CPU ran a user task, a kernel thread, or nothing.
    running: Runs,
    kernel_thread: Runs,
    idle: Runs,
    /// Flushes that it asked for.
    flushes: Runs,
    /// Of them, those that free page tables.
    frees: Runs,
    /// The distinct courses of interrupts sent; which is whose, `ipis` says, in the order of [`Lanes::ipis_of`].
    courses: Vec<Runs>,
    ipis: Vec<usize>,
}

impl Lanes {
    /// Shows the interrupts of one of the policies first.
    pub fn showing(self, first: usize) -> Lanes {
        Lanes { first, ..self }
    }
}

/// What a CPU does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Activity {
    /// It runs a task with a user space.
    Running,
    /// It is lazy, and runs a kernel thread.
    KernelThread,
    /// It is lazy, and idles.
    Idle,
}

/// Collects a timeline.
#[derive(Clone, Debug, Default)]
pub struct LaneRecorder {
    start_ns: Option<u64>,
    last_ns: u64,
    /// Base-2 logarithm of a bin's length in nanoseconds.
    bin_shift: u32,
    lanes: Vec<LaneBins>,
}

#[derive(Clone, Debug, Default)]
struct LaneBins {
    now: Option<(Activity, u64)>,
    /// Nanoseconds of each activity, flushes, flushes that free tables, then interrupts of each.
    columns: Vec<Vec<u64>>,
}

const FLUSHES: usize = 3;
const FREES: usize = 4;
const IPIS: usize = 5;

impl LaneRecorder {
    /// A CPU does something else from here on.
    pub fn becomes(&mut self, cpu: u16, time_ns: u64, activity: Activity) {
        let time = self.at(cpu, time_ns);
        let before = self.lane(cpu).now.replace((activity, time));
        if let Some((activity, since)) = before {
            self.spend(cpu, activity, since, time);
        }
    }

    /// A CPU flushes.
    pub fn flushes(&mut self, cpu: u16, time_ns: u64, frees_tables: bool) {
        let time = self.at(cpu, time_ns);
        self.add(cpu, FLUSHES, time, 1);
        self.add(cpu, FREES, time, u64::from(frees_tables));
    }

    /// A CPU sends interrupts, under one of several policies.
    pub fn interrupts(&mut self, cpu: u16, time_ns: u64, policy: usize, count: u64) {
        let time = self.at(cpu, time_ns);
        self.add(cpu, IPIS + policy, time, count);
    }

    /// Ends the timeline; `ipis_of` names the policies that interrupts were counted under.
    pub fn finish(mut self, caption: String, ipis_of: Vec<String>) -> Lanes {
        let last = self.last_ns;
        for cpu in 0..self.lanes.len() as u16 {
            if let Some((activity, since)) = self.lane(cpu).now {
                self.spend(cpu, activity, since, last);
            }
        }
        let bins = self.bin(last) + 1;
        let lanes = self.lanes.iter().zip(0..);
        let lanes = lanes.map(|(lane, cpu)| lane.packed(cpu, bins, self.bin_shift, ipis_of.len()));
        Lanes {
            caption,
            start_ns: self.start_ns.unwrap_or(0),
            bin_ns: 1 << self.bin_shift,
            bins,
            lanes: lanes.collect(),
            ipis_of,
            first: 0,
        }
    }

    /// Makes room for a CPU and a time, and returns the time since the start.
    fn at(&mut self, cpu: u16, time_ns: u64) -> u64 {
        let time = time_ns.saturating_sub(*self.start_ns.get_or_insert(time_ns));
        self.last_ns = self.last_ns.max(time);
        let lanes = self.lanes.len().max(usize::from(cpu) + 1);
        self.lanes.resize_with(lanes, LaneBins::default);
        let most = (MOST_BINS_IN_ALL / lanes).clamp(FEWEST_BINS, MOST_BINS);
        while self.bin(self.last_ns) >= most {
            self.bin_shift += 1;
            for column in self.lanes.iter_mut().flat_map(|lane| &mut lane.columns) {
                *column = column.chunks(2).map(|two| two.iter().sum()).collect();
            }
        }
        time
    }

    fn bin(&self, time: u64) -> usize {
        (time >> self.bin_shift) as usize
    }

    fn lane(&mut self, cpu: u16) -> &mut LaneBins {
        &mut self.lanes[usize::from(cpu)]
    }

    fn spend(&mut self, cpu: u16, activity: Activity, from: u64, to: u64) {
        let (mut from, length) = (from, 1 << self.bin_shift);
        while from < to {
            let end = to.min((from / length + 1) * length);
            self.add(cpu, activity as usize, from, end - from);
            from = end;
        }
    }

    fn add(&mut self, cpu: u16, column: usize, time: u64, count: u64) {
        if count == 0 {
            return;
        }
        let bin = self.bin(time);
        let columns = &mut self.lane(cpu).columns;
        let width = columns.len().max(column + 1);
        columns.resize_with(width, Vec::new);
        let bins = &mut columns[column];
        let len = bins.len().max(bin + 1);
        bins.resize(len, 0);
        bins[bin] += count;
    }
}

impl LaneBins {
    fn packed(&self, cpu: u16, bins: usize, bin_shift: u32, policies: usize) -> Lane {
        let at = |column: usize, bin: usize| {
            let column = self.columns.get(column);
            column
                .and_then(|column| column.get(bin).copied())
                .unwrap_or(0)
        };
        let counts = |column| Runs::of((0..bins).map(|bin| at(column, bin)));
        let shares = |activity: Activity| {
            let hundredths = |bin| {
                ((at(activity as usize, bin) * 100) as f64 / (1_u64 << bin_shift) as f64).round()
            };
            Runs::of((0..bins).map(|bin| hundredths(bin) as u64))
        };
        let mut courses: Vec<Runs> = Vec::new();
        let ipis = (0..policies).map(|policy| {
            let course = counts(IPIS + policy);
            let known = courses.iter().position(|other| *other == course);
            known.unwrap_or_else(|| {
                courses.push(course);
                courses.len() - 1
            })
        });
        let ipis = ipis.collect();
        Lane {
            cpu,
            running: shares(Activity::Running),
            kernel_thread: shares(Activity::KernelThread),
            idle: shares(Activity::Idle),
            flushes: counts(FLUSHES),
            frees: counts(FREES),
            courses,
            ipis,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_lost_when_bins_become_longer() {
        let mut recorder = LaneRecorder::default();
        let start = 5_000;
        for second in 0..10_u64 {
            let time = start + second * 1_000_000_000;
            let activity = match second % 2 {
                0 => Activity::Running,
                _ => Activity::Idle,
            };
            recorder.becomes(0, time, activity);
            recorder.flushes(0, time, second == 3);
            recorder.interrupts(0, time, 1, 4);
        }
        recorder.becomes(1, start + 10_000_000_000, Activity::KernelThread);
        assert!(recorder.bin(recorder.last_ns) < MOST_BINS);
        let sum = |recorder: &LaneRecorder, column: usize| -> u64 {
            recorder.lanes[0].columns[column].iter().sum()
        };
        assert_eq!(sum(&recorder, FLUSHES), 10);
        assert_eq!(sum(&recorder, FREES), 1);
        assert_eq!(sum(&recorder, IPIS + 1), 40);
        assert_eq!(sum(&recorder, Activity::Running as usize), 5_000_000_000);
        let lanes = recorder.finish(
            "ten seconds".to_owned(),
            vec!["a".to_owned(), "b".to_owned()],
        );
        assert!(
            lanes.bins > MOST_BINS / 2 && lanes.bins <= MOST_BINS,
            "{}",
            lanes.bins
        );
        assert_eq!(lanes.lanes[0].courses.len(), 2);
        assert_eq!(lanes.lanes[0].ipis, [0, 1]);
    }

    #[test]
    fn many_cpus_share_the_bins() {
        let mut recorder = LaneRecorder::default();
        for cpu in 0..300 {
            recorder.becomes(cpu, u64::from(cpu) << 20, Activity::Running);
        }
        let lanes = recorder.finish(String::new(), Vec::new());
        assert!(lanes.bins <= FEWEST_BINS);
        assert_eq!(
            LaneRecorder::default()
                .finish(String::new(), Vec::new())
                .bins,
            1
        );
    }
}
