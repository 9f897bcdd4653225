//! Random programs that poll, against a naive search for executions without end: another model, and another algorithm.
#![allow(missing_docs, clippy::expect_used, clippy::unwrap_used)]

mod random;

use std::collections::HashMap;

use lazytlb::{Hw, Poll};
use lazytlb_check::{Checker, Finding, MenuItem, ModelHw, Program, Reduction};
use lazytlb_model::{AtomicCell, MemoryModel, Property};
use random::Random;

const WORDS: usize = 3;
const BUFFER: usize = 2;

#[derive(Clone, Copy, Debug)]
enum What {
    Load,
    Store(u64),
    Swap(u64),
}

/// One instruction of an iteration.
#[derive(Clone, Copy, Debug)]
struct Instruction {
    what: What,
    word: usize,
    /// It is skipped unless an earlier one answered so.
    only_if: Option<(usize, u64)>,
    /// The iteration finds something if it answers so.
    finds: Option<u64>,
}

/// Goes round until it finds something; or once, if it does not poll.
#[derive(Clone, Debug)]
struct Block {
    polls: bool,
    body: Vec<Instruction>,
}

fn draw(seed: u64) -> Vec<Vec<Block>> {
    let mut random = Random(seed.wrapping_mul(0x2545_f491_4f6c_dd1d));
    let cpus = 2 + usize::from(random.below(4) == 0);
    let instruction = |random: &mut Random, before: usize| Instruction {
        what: match random.below(4) {
            0 => What::Load,
            1 => What::Store(random.below(2)),
            _ => What::Swap(random.below(2)),
        },
        word: random.below(WORDS as u64) as usize,
        only_if: (before > 0 && random.below(2) == 0)
            .then(|| (random.below(before as u64) as usize, random.below(2))),
        finds: (random.below(2) == 0).then(|| random.below(2)),
    };
    let block = |random: &mut Random| Block {
        polls: random.below(3) > 0,
        body: (0..1 + random.below(3) as usize)
            .map(|before| instruction(random, before))
            .collect(),
    };
    (0..cpus)
        .map(|_| {
            let blocks = 1 + random.below(if cpus == 2 { 2 } else { 1 });
            (0..blocks).map(|_| block(&mut random)).collect()
        })
        .collect()
}

fn run(hw: &ModelHw, words: &[AtomicCell], body: &[Instruction]) -> Option<()> {
    let mut answers = vec![None; body.len()];
    for (index, instruction) in body.iter().enumerate() {
        if is_skipped(instruction, &answers) {
            continue;
        }
        let word = &words[instruction.word];
        let answer = match instruction.what {
            What::Load => hw.load(word),
            What::Swap(value) => hw.swap(word, value),
            What::Store(value) => {
                hw.store(word, value);
                continue;
            }
        };
        answers[index] = Some(answer);
        if instruction.finds == Some(answer) {
            return Some(());
        }
    }
    None
}

fn is_skipped(instruction: &Instruction, answers: &[Option<u64>]) -> bool {
    let only_if = instruction.only_if;
    only_if.is_some_and(|(earlier, answer)| answers[earlier] != Some(answer))
}

/// As operations in a row, or as one that starts again and again.
fn program(sketch: &[Vec<Block>], endless: bool) -> Program {
    let mut program = Program::new("random", sketch.len() as u8);
    let words: Vec<_> = (0..WORDS)
        .map(|n| program.atomic(format!("word {n}"), 0))
        .collect();
    for (cpu, blocks) in (0..).zip(sketch) {
        let (words, blocks) = (words.clone(), blocks.clone());
        let operation = move |hw: &ModelHw| {
            for block in &blocks {
                match block.polls {
                    true => hw.poll(|hw| run(hw, &words, &block.body)),
                    false => {
                        run(hw, &words, &block.body);
                    }
                }
            }
        };
        match endless {
            true => program.offer(cpu, MenuItem::new("go", operation)),
            false => program.operation(cpu, "go", operation),
        }
    }
    program.proves("all come to rest");
    program
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Cpu {
    block: usize,
    next: usize,
    answers: Vec<Option<u64>>,
    buffer: Vec<(usize, u64)>,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct State {
    memory: [u64; WORDS],
    cpus: Vec<Cpu>,
}

impl Cpu {
    /// Goes past what is skipped, to the next block, or to the head of the poll.
    fn settle(&mut self, blocks: &[Block]) {
        while let Some(block) = blocks.get(self.block) {
            match block.body.get(self.next) {
                Some(instruction) if is_skipped(instruction, &self.answers) => self.next += 1,
                Some(_) => return,
                None if block.polls => self.begin(blocks, self.block),
                None => self.begin(blocks, self.block + 1),
            }
        }
    }

    fn begin(&mut self, blocks: &[Block], block: usize) {
        let len = blocks.get(block).map_or(0, |block| block.body.len());
        (self.block, self.next, self.answers) = (block, 0, vec![None; len]);
    }
}

impl State {
    fn first(sketch: &[Vec<Block>]) -> State {
        let cpu = |blocks: &Vec<Block>| {
            let mut cpu = Cpu {
                block: 0,
                next: 0,
                answers: Vec::new(),
                buffer: Vec::new(),
            };
            cpu.begin(blocks, 0);
            cpu
        };
        State {
            memory: [0; WORDS],
            cpus: sketch.iter().map(cpu).collect(),
        }
    }

    /// Takes a step: a CPU's next instruction, or for numbers from the CPUs' on, a drain.
    fn step(&self, sketch: &[Vec<Block>], step: usize, buffers: bool) -> Option<State> {
        let mut next = self.clone();
        if step >= sketch.len() {
            let cpu = &mut next.cpus[step - sketch.len()];
            if cpu.buffer.is_empty() {
                return None;
            }
            let (word, value) = cpu.buffer.remove(0);
            next.memory[word] = value;
            return Some(next);
        }
        let (blocks, cpu) = (&sketch[step], &mut next.cpus[step]);
        let instruction = blocks.get(cpu.block)?.body[cpu.next];
        let word = instruction.word;
        let answer = match instruction.what {
            What::Load => {
                let own = cpu.buffer.iter().rfind(|(to, _)| *to == word);
                Some(own.map_or(next.memory[word], |&(_, value)| value))
            }
            What::Store(_) if buffers && cpu.buffer.len() == BUFFER => return None,
            What::Store(value) if buffers => {
                cpu.buffer.push((word, value));
                None
            }
            What::Store(value) => {
                next.memory[word] = value;
                None
            }
            What::Swap(_) if !cpu.buffer.is_empty() => return None,
            What::Swap(value) => Some(std::mem::replace(&mut next.memory[word], value)),
        };
        cpu.answers[cpu.next] = answer;
        match answer.is_some() && instruction.finds == answer {
            true => cpu.begin(blocks, cpu.block + 1),
            false => cpu.next += 1,
        }
        cpu.settle(blocks);
        Some(next)
    }
}

/// States with the step that led there; and for each which steps are possible, and where they lead.
struct Graph {
    last: Vec<usize>,
    steps: Vec<Vec<(usize, usize)>>,
}

const MOST: usize = 20_000;

fn explore(sketch: &[Vec<Block>], buffers: bool) -> Option<Graph> {
    let mut graph = Graph {
        last: vec![usize::MAX],
        steps: Vec::new(),
    };
    let mut states = vec![State::first(sketch)];
    let mut seen = HashMap::from([((states[0].clone(), usize::MAX), 0)]);
    while graph.steps.len() < states.len() {
        let state = states[graph.steps.len()].clone();
        let mut steps = Vec::new();
        for step in 0..2 * sketch.len() {
            if let Some(next) = state.step(sketch, step, buffers) {
                let to = *seen.entry((next.clone(), step)).or_insert_with(|| {
                    states.push(next);
                    graph.last.push(step);
                    states.len() - 1
                });
                steps.push((step, to));
            }
        }
        graph.steps.push(steps);
        if states.len() > MOST {
            return None;
        }
    }
    Some(graph)
}

/// Says whether some execution has no end, by the greatest fixpoint of Emerson and Lei: the states from which one can go
/// on, within them, to one in which a step is not possible or was just taken; for each step.
fn goes_on_for_ever(graph: &Graph, steps: usize) -> bool {
    let len = graph.steps.len();
    let mut within = vec![true; len];
    loop {
        let before = within.clone();
        for step in 0..steps {
            let is_kept = |at: usize| {
                let is_possible = graph.steps[at]
                    .iter()
                    .any(|&(possible, _)| possible == step);
                !is_possible || graph.last[at] == step
            };
            let mut leads: Vec<bool> = (0..len).map(|at| within[at] && is_kept(at)).collect();
            loop {
                let mut grows = false;
                for at in 0..len {
                    if within[at] && !leads[at] && graph.steps[at].iter().any(|&(_, to)| leads[to])
                    {
                        leads[at] = true;
                        grows = true;
                    }
                }
                if !grows {
                    break;
                }
            }
            let goes_on: Vec<bool> = (0..len)
                .map(|at| within[at] && graph.steps[at].iter().any(|&(_, to)| leads[to]))
                .collect();
            within = goes_on;
        }
        if within == before {
            return within.contains(&true);
        }
    }
}

#[test]
fn random_programs_come_to_rest_or_not_as_a_naive_search_says() {
    let (mut endless, mut quiet, mut rest) = (0, 0, 0);
    let count = std::env::var("LIVELOCK_PROGRAMS").map_or(120, |count| count.parse().unwrap());
    for seed in 0..count {
        let sketch = draw(seed);
        for memory in [MemoryModel::Sc, MemoryModel::TSO] {
            let Some(graph) = explore(&sketch, memory != MemoryModel::Sc) else {
                continue;
            };
            let expected = goes_on_for_ever(&graph, 2 * sketch.len());
            for reduction in [Reduction::CollapseLocal, Reduction::None] {
                let checker = Checker::new().memory(memory).reduction(reduction);
                let verdict = checker.check(&program(&sketch, false));
                let found = verdict.violation().map(|of| of.property);
                let expects = expected.then_some(Property::Deadlock);
                assert_eq!(found, expects, "seed {seed}, {checker:?}: {sketch:?}");
                match &verdict.finding {
                    Finding::Safe => rest += 1,
                    Finding::Violation { timeline, .. } if timeline.again_from.is_some() => {
                        endless += 1;
                    }
                    _ => quiet += 1,
                }
            }
            // What can happen once can happen again.
            if expected {
                let verdict = Checker::new().memory(memory).check(&program(&sketch, true));
                let found = verdict.violation().map(|of| of.property);
                assert_eq!(found, Some(Property::Deadlock), "seed {seed}: {sketch:?}");
            }
        }
    }
    println!("{endless} go on for ever, {quiet} wait for ever, {rest} come to rest");
    assert!(endless * 50 > count && quiet * 50 > count && rest * 50 > count);
}
