//! Replays a recording under each policy by itself, and prints counts, costs and speed; then says
//! which safe policy is cheapest.

use std::time::Instant;

use lazytlb::{Policy, Quirks};
use lazytlb_price::{Costs, Difference, cheapest, price, price_trace};
use lazytlb_trace::TraceReader;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).ok_or("give a recording's path")?;
    let costs = Costs::shipped();
    let mut all = Vec::new();
    for &policy in Policy::ALL {
        let start = Instant::now();
        let mut reader = TraceReader::open(&path)?;
        let replayed = price_trace(&mut reader, &[policy], Quirks::default(), |_| {})?;
        let seconds = start.elapsed().as_secs_f64();
        let counts = replayed[0].counts;
        println!("{policy}: {counts:?}\n  {:?}", price(&counts, &costs));
        let per_second = reader.summary().events as f64 / seconds / 1e6;
        println!("  {per_second:.2} M events/s");
        all.extend(replayed);
    }
    for a in &all {
        for b in &all {
            let difference = Difference::between(&a.counts, &b.counts, &costs);
            if difference.is_always_cheaper() {
                println!("{} is always cheaper than {}", a.policy, b.policy);
            }
        }
    }
    let (init_mm, on_table_free) = (&all[2].counts, &all[4].counts);
    let difference = Difference::between(on_table_free, init_mm, &costs);
    for (parameter, times) in difference.more.iter().chain(&difference.fewer) {
        let figure = difference.break_even(*parameter, &costs);
        println!("{} ({times}): break-even {figure:?}", parameter.name());
    }
    let start = Instant::now();
    let mut reader = TraceReader::open(&path)?;
    price_trace(&mut reader, Policy::ALL, Quirks::default(), |_| {})?;
    let seconds = start.elapsed().as_secs_f64();
    let per_second = reader.summary().events as f64 / seconds / 1e6;
    println!("all in one pass: {per_second:.2} M events/s");
    println!("cheapest of all: {:?}", cheapest(&all, &costs));
    println!("cheapest safe one: {:?}", cheapest(&all[2..], &costs));
    Ok(())
}
