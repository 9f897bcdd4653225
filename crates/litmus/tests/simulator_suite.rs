//! The random simulator on the suite's own tests.
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use lazytlb_litmus::{LitmusTest, read_bytes, run, Options};
use lazytlb_simulator::{Amended, Simulation};

fn suite() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../model/litmus");
    let mut files = Vec::new();
    let mut folders = vec![folder];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path); }
            else if path.extension().is_some_and(|e| e == "litmus") { files.push(path); }
        }
    }
    files.sort();
    files
}

#[test]
fn explore() {
    let runs: u64 = std::env::var("RUNS").ok().and_then(|r| r.parse().ok()).unwrap_or(5000);
    let (mut allowed, mut reached) = (0, 0);
    for file in suite() {
        let test: LitmusTest = read_bytes(&std::fs::read(&file).unwrap()).unwrap();
        let expect = test.metadata("Expect@weakest").or(test.metadata("Expect")).unwrap().to_owned();
        if test.metadata("CPU").is_some_and(|c| !c.contains("weakest")) { continue; }
        let sim = match Simulation::new(&test, Amended::WEAKEST) { Ok(s) => s, Err(e) => { println!("{}: {e}", test.name); continue; } };
        let mut outs = BTreeMap::new();
        let mut given_up = 0;
        for seed in 0..runs { match sim.run(seed) { Some(o) => *outs.entry(o).or_insert(0) += 1, None => given_up += 1 } }
        let holds = outs.keys().any(|o| o.holds);
        if expect == "Allowed" { allowed += 1; reached += u32::from(holds);
            if !holds { println!("NOT REACHED {} (given up {given_up}) {:?}", test.name, outs.keys().map(|o| &o.text).collect::<Vec<_>>()); } }
        else if holds { println!("BAD {}: {:?}", test.name, outs.iter().filter(|(o,_)| o.holds).collect::<Vec<_>>()); }
        if std::env::var("NOMODEL").is_err() {
        let answer = run(&test, &Options::default()).unwrap();
        let texts: BTreeSet<String> = answer.states.iter().map(|s| normal(&s.text)).collect();
        for o in outs.keys() { if !texts.contains(&normal(&o.text)) && expect == "Allowed" || (!texts.contains(&normal(&o.text)) && !o.holds) { println!("EXTRA {}: {} not in {:?}", test.name, o.text, texts); break; } }
        }
    }
    println!("reached {reached} of {allowed}");
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
