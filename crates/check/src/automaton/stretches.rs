//! Whether code that is started for ever only compares generations: each place once more, with others that compare
//! alike.
//!
//! A search without end renames generations (`renumber.rs`), which is sound if code asks for nothing but whether two
//! are equal, which is the greater, and whether one is the next of another. Renaming keeps gaps at two, so code that
//! acts on a gap of three would never be seen to. So every place of the code is come to again along logs whose
//! generations lie elsewhere: those next to each other still are, all other gaps are drawn anew, of any size up to
//! nearly 2^58, each power of two as likely as another, and generations that are said to count apart lie in another order.
//! Then each two of those that count apart are made equal: next to each other, too, for the next of each is one of them.
//! The code must make the same calls, with the generations in them renamed. If it does not, and does with the same gaps
//! within each range and the ranges in their order, then they do not count apart, and the search begins anew without
//! that claim.
//!
//! A run passes every place on its way, and each of its calls must be as expected. So code runs along the ways that lead on nowhere, and
//! every place is on one.

use std::collections::HashSet;

use lazytlb::Until;
use lazytlb_model::{AtomicCell, Call, Rmw};

use super::{Automaton, Missing, Next, Node, NodeId, Nodes};
use crate::event::call_for_people;
use crate::generations::{Generation, GenerationWords, Range};
use crate::rehearsal::Rehearsal;
use crate::rests_on::Stretched;
use crate::run::Ran;
use crate::step::StepError;

/// How often each way is gone with other generations.
const STRETCHES: u64 = 16;
/// For each two that are to be equal, so many stretches are tried: not each can be moved so.
const MOST_TRIED: u64 = 8;
/// The largest gap is below two to this.
const LARGEST_GAP: u32 = 58;

impl Automaton<'_> {
    /// Comes to every place with stretched generations.
    ///
    /// # Errors
    /// If the code does something else there.
    pub(crate) fn stretch_all(&self, words: &GenerationWords) -> Result<Stretched, StepError> {
        let nodes = self.read();
        self.calls_compare_no_ranges(&nodes, words)?;
        let mut stretched = Stretched::default();
        for (id, _) in nodes.all() {
            stretched.places += u64::from(!words.read_along(&nodes.log_of(id)).is_empty());
        }
        for id in nodes.ends() {
            let (node, log) = (nodes.get(id), nodes.log_of(id));
            let generations = words.read_along(&log);
            if generations.is_empty() {
                continue;
            }
            for stretch in Stretch::all_of(&generations, u64::from(id.number())) {
                stretched.runs += 1;
                if self.does_the_same(node, &log, words, &stretch).is_err() {
                    return Err(self.where_it_differs(&nodes, id, words, &stretch));
                }
            }
        }
        Ok(stretched)
    }

    /// Says what the code does otherwise on the way to a place, at the first place where it does.
    fn where_it_differs(
        &self,
        nodes: &Nodes,
        end: NodeId,
        words: &GenerationWords,
        stretch: &Stretch,
    ) -> StepError {
        let on_the_way = nodes.way(nodes.get(end).from).into_iter();
        let on_the_way = on_the_way.map(|(id, _)| id).chain([end]);
        for id in on_the_way {
            let (node, log) = (nodes.get(id), nodes.log_of(id));
            let Err(ran) = self.does_the_same(node, &log, words, stretch) else {
                continue;
            };
            let with_its_gaps = self.does_the_same(node, &log, words, &stretch.in_order());
            if self.program.claims_ranges() && with_its_gaps.is_ok() {
                return StepError::ComparesRanges;
            }
            return self.more_than_compared(node, &ran);
        }
        StepError::Nondeterminism(
            "code that differed with other generations did not when it ran once more".to_owned(),
        )
    }

    /// Tests that the code does the same at a place with other generations; if not, returns what it does.
    fn does_the_same(
        &self,
        node: &Node,
        log: &[(Call, u64)],
        words: &GenerationWords,
        stretch: &Stretch,
    ) -> Result<(), Ran> {
        let rename = |value: u64| stretch.of_value(value);
        let renamed = log.iter().map(|&(call, answer)| {
            let answer = words.renamed_answer(&call, answer, &rename);
            (words.renamed_call(call, &rename), answer)
        });
        let missing = Missing {
            cpu: node.cpu,
            routine: node.routine,
            from: None,
        };
        let ran = self
            .run(missing, renamed.collect(), Rehearsal::default())
            .ran;
        let expected = node.next.call();
        let expected = expected.map(|&call| words.renamed_call(call, &rename));
        match is_as_expected(node, expected, &ran) {
            true => Ok(()),
            false => Err(ran),
        }
    }

    /// Tests that no wait and no compare-exchange compares a generation with a word that may hold one which counts
    /// apart from it. There the machine compares, whatever the code does.
    fn calls_compare_no_ranges(
        &self,
        nodes: &Nodes,
        words: &GenerationWords,
    ) -> Result<(), StepError> {
        let calls = || {
            let nodes = nodes.all().map(|(_, node)| node);
            nodes.filter_map(|node| Some((node, *node.next.call()?)))
        };
        let stored = calls().filter_map(|(_, call)| match call {
            Call::Store(word, value) | Call::Rmw(word, Rmw::Swap | Rmw::SwapIf(_), value) => {
                Some((word, value))
            }
            _ => None,
        });
        let first = words.shared.iter();
        let first =
            first.map(|&word| (word, self.program.atomics[usize::from(word.0)].first_value));
        let held: HashSet<(AtomicCell, Range)> = first
            .chain(stored)
            .filter(|&(_, value)| value != 0)
            .map(|(word, value)| (word, Range::of(value)))
            .collect();
        for (node, call) in calls() {
            let (word, value) = match call {
                Call::PauseUntil(word, Until::Equals(value) | Until::AtLeast(value))
                | Call::Rmw(word, Rmw::SwapIf(value), _) => (word, value),
                _ => continue,
            };
            let is_apart =
                |&(held, range): &(AtomicCell, Range)| held == word && range != Range::of(value);
            if value != 0 && words.shared.contains(&word) && held.iter().any(is_apart) {
                if self.program.claims_ranges() {
                    return Err(StepError::ComparesRanges);
                }
                return Err(StepError::FalseClaim(format!(
                    "CPU {} in \"{}\" compares generations that are said to count apart: by the call \"{}\"",
                    node.cpu.0,
                    self.routine_name(node.cpu, node.routine),
                    call_for_people(self.program, &call)
                )));
            }
        }
        Ok(())
    }

    fn more_than_compared(&self, node: &Node, ran: &Ran) -> StepError {
        let program = self.program;
        let did = match node.next.call() {
            Some(call) => format!("makes the call \"{}\"", call_for_people(program, call)),
            None => "ends".to_owned(),
        };
        let does = match ran {
            Ran::Asks(call, _) => format!("makes the call \"{}\"", call_for_people(program, call)),
            Ran::Ended => "ends".to_owned(),
            Ran::Panicked(message) => format!("panics: {message}"),
            Ran::Again(_) => "polls once more".to_owned(),
            Ran::Diverged(how) => format!("comes to another place: {how}"),
        };
        StepError::FalseClaim(format!(
            "CPU {} in \"{}\" does more with generations than compare them: it {did} in one execution, and with others \
             that are equal, greater and next to each other alike, it {does}. Words of `ValueKind::Generation` are \
             for numbers of which only that is asked",
            node.cpu.0,
            self.routine_name(node.cpu, node.routine),
        ))
    }
}

fn is_as_expected(node: &Node, expected: Option<Call>, ran: &Ran) -> bool {
    match (ran, &node.next) {
        (Ran::Asks(call, interrupts), Next::Call(_)) => {
            Some(*call) == expected && *interrupts == node.interrupts
        }
        (Ran::Ended, Next::Ended) | (Ran::Panicked(_), Next::Panicked(_)) => true,
        _ => false,
    }
}

/// Other generations, which compare as those that they stand for.
struct Stretch {
    /// The generations, in order, each with its stand-in.
    stand_ins: Vec<(u64, u64)>,
}

impl Stretch {
    /// Makes those that a place is come to with.
    fn all_of(generations: &[Generation], place: u64) -> Vec<Stretch> {
        let draw = |seed: u64| Stretch::of(generations, seed << 32 | place);
        let mut all: Vec<Stretch> = (0..STRETCHES).map(draw).collect();
        for (index, one) in generations.iter().enumerate() {
            for other in &generations[index + 1..] {
                let (one, other) = (one.value, other.value);
                if one != 0 && Range::of(one) != Range::of(other) {
                    let mut tried = (0..MOST_TRIED).map(draw);
                    all.extend(tried.find_map(|stretch| stretch.with_equal(one, other)));
                }
            }
        }
        all
    }

    /// Moves one of two ranges so that a generation of the first is one of the second; `None` if neither can move so.
    fn with_equal(mut self, one: u64, other: u64) -> Option<Stretch> {
        let (to, from) = (self.of_value(one), self.of_value(other));
        // The first range has the neighbour of 0, which code may know: it stays.
        let (moved, to, from) = match to < from || Range::of(one) == Range::default() {
            true => (Range::of(other), to, from),
            false => (Range::of(one), from, to),
        };
        for (value, stand_in) in &mut self.stand_ins {
            if Range::of(*value) == moved {
                *stand_in = (*stand_in + to)
                    .checked_sub(from)
                    .filter(|&moved| moved > 0)?;
            }
        }
        Some(self)
    }

    /// Returns those with the same gaps within each range, and the ranges in the order in which they were.
    fn in_order(&self) -> Stretch {
        let mut stand_ins = Vec::with_capacity(self.stand_ins.len());
        let mut taken = 0;
        for range in self
            .stand_ins
            .chunk_by(|(one, _), (next, _)| Range::of(*one) == Range::of(*next))
        {
            let (first, its_stand_in) = range[0];
            let moves_to = match Range::of(first) == Range::default() {
                true => its_stand_in,
                false => taken + 2,
            };
            for &(value, stand_in) in range {
                taken = stand_in - its_stand_in + moves_to;
                stand_ins.push((value, taken));
            }
        }
        Stretch { stand_ins }
    }

    fn of(generations: &[Generation], seed: u64) -> Stretch {
        let mut random = Random(seed);
        let most = LARGEST_GAP - generations.len().next_power_of_two().ilog2();
        let mut ranges: Vec<&[Generation]> = generations
            .chunk_by(|one, next| Range::of(one.value) == Range::of(next.value))
            .collect();
        random.shuffle(&mut ranges);
        let mut stand_ins: Vec<(u64, u64)> = Vec::with_capacity(generations.len());
        let mut taken = 0;
        for range in ranges {
            // Code may know 0 without having read it.
            let (mut before, mut its_stand_in) = (Generation::read(0), 0);
            for &one in range {
                its_stand_in = match one.value - before.value {
                    0 => its_stand_in,
                    1 if before.may_be_raised => its_stand_in + 1,
                    _ => {
                        let least = u64::from(!before.may_be_raised);
                        its_stand_in.max(taken) + random.gap(most) - least
                    }
                };
                stand_ins.push((one.value, its_stand_in));
                before = one;
            }
            taken = taken.max(its_stand_in);
        }
        stand_ins.sort_unstable();
        Stretch { stand_ins }
    }

    fn of_value(&self, value: u64) -> u64 {
        let found = self
            .stand_ins
            .binary_search_by_key(&value, |&(value, _)| value);
        found.map_or(value, |index| self.stand_ins[index].1)
    }
}

/// Numbers that follow from a seed (SplitMix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// Draws a gap of two or more, each power of two below 2^`most` as likely as another.
    fn gap(&mut self, most: u32) -> u64 {
        let power = 1 + self.next() % u64::from(most - 1);
        let least = 1 << power;
        least + self.next() % least
    }

    fn shuffle<T>(&mut self, all: &mut [T]) {
        for last in (1..all.len()).rev() {
            all.swap(last, (self.next() % (last as u64 + 1)) as usize);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stretch_keeps_order_and_what_is_next_and_has_gaps_of_every_size() {
        let generations = [0, 3, 4, 9];
        let mut gaps = std::collections::BTreeSet::new();
        for seed in 0..2000 {
            let stretch = Stretch::of(&generations.map(Generation::read), seed);
            let [none, first, next, last] = generations.map(|value| stretch.of_value(value));
            assert!(none == 0 && first >= 2 && next == first + 1 && last >= next + 2);
            gaps.insert((last - next).ilog2());
        }
        assert!((1..LARGEST_GAP - 2).all(|power| gaps.contains(&power)));
    }

    #[test]
    fn ranges_that_count_apart_change_places() {
        let second = 1 << 32;
        let generations = [0, 1, 6, second + 1, second + 2];
        let mut orders = std::collections::BTreeSet::new();
        for seed in 0..100 {
            let stretch = Stretch::of(&generations.map(Generation::read), seed);
            let [none, known, first, other, next] =
                generations.map(|value| stretch.of_value(value));
            assert!(none == 0 && known == 1 && next == other + 1 && first >= 3 && other >= 2);
            assert!(first.abs_diff(other) >= 2 && first.abs_diff(next) >= 2);
            orders.insert(first < other);
            let in_order = stretch.in_order();
            let same = generations.map(|value| in_order.of_value(value));
            assert_eq!(same[..3], [none, known, first]);
            assert!(same[3] >= first + 2 && same[4] == same[3] + 1);
        }
        assert_eq!(orders.len(), 2);
    }
}
