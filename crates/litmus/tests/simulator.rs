//! What the random simulator reaches, the model allows: on random programs.
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use lazytlb_litmus::{Options, read, run};
use lazytlb_simulator::{Amended, Simulation, generate};

fn number(name: &str, usual: u64) -> u64 {
    std::env::var(name).ok().map_or(usual, |value| value.parse().unwrap())
}

fn compare(seed: u64, runs: u64, amended: Amended) -> Result<(u64, u64), String> {
    let text = generate(seed);
    let test = read(&text).map_err(|e| format!("{e}\n{text}"))?;
    let simulation = Simulation::new(&test, amended).map_err(|e| format!("{e}\n{text}"))?;
    let mut reached: BTreeMap<String, u64> = BTreeMap::new();
    let mut given_up = 0;
    for run in 0..runs {
        match simulation.run(seed.wrapping_mul(1_000_003) ^ run) { Some(o) => *reached.entry(o.text).or_default() += 1, None => given_up += 1 }
    }
    let answer = run(&test, &Options::default()).map_err(|e| format!("{e}\n{text}"))?;
    if let Some(why) = &answer.incomplete { return Err(format!("incomplete {why}\n{text}")); }
    let allowed: BTreeSet<String> = answer.states.iter().map(|s| normal(&s.text)).collect();
    if allowed.iter().any(|s| s.contains("table-use-after-free")) { return Ok((0, given_up)); }
    let extra: Vec<_> = reached.iter().filter(|(o, _)| !allowed.contains(&normal(o))).collect();
    let found = reached.len() as u64 * 100 / allowed.len().max(1) as u64;
    if extra.is_empty() { Ok((found, given_up)) } else { Err(format!("reached {extra:?}\nallowed {allowed:?}\n{text}")) }
}

#[test]
fn explore() {
    let programs = number("PROGRAMS", 2000);
    let first = number("FIRST", 0);
    let runs = number("RUNS", 300);
    let off = std::env::var("OFF").is_ok();
    let amended = if off { Amended { early_fetches: false, late_translations: false, late_updates: false, dirty_without_writable: false, unordered_uncached_loads: false, walks_across_bit_63: false } } else { Amended::WEAKEST };
    let next = AtomicU64::new(first);
    let failures = Mutex::new(Vec::new());
    let percent = AtomicU64::new(0);
    let lost = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..number("JOBS", 2) {
            scope.spawn(|| loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= first + programs { break; }
                match compare(seed, runs, amended) { Ok((p, g)) => { percent.fetch_add(p, Ordering::Relaxed); lost.fetch_add(g, Ordering::Relaxed); } Err(e) => failures.lock().unwrap().push(e) }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    for f in failures.iter().take(number("SHOW", 10) as usize) { println!("----\n{f}"); }
    println!("{} of {programs} differ; reached {} % of the states on average; {} runs given up", failures.len(), percent.into_inner() / programs, lost.into_inner());
}
fn normal(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(i) = rest.find("oa:0x") {
        out.push_str(&rest[..i]); out.push_str("oa:table");
        rest = rest[i+5..].trim_start_matches(|c: char| c.is_ascii_hexdigit());
    }
    out + rest
}
