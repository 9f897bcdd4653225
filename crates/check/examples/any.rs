use lazytlb_check::*;
fn main() {
    let args: Vec<String> = std::env::args().collect();
    let menus: Menus = args[1].parse().unwrap();
    let policy = *lazytlb::Policy::ALL.iter().find(|p| p.name() == args[2]).unwrap();
    let memory = if args[3] == "sc" { lazytlb_model::MemoryModel::Sc } else { lazytlb_model::MemoryModel::TSO };
    let program = menus.program::<LazyTlb>(policy);
    let most: u64 = args.get(4).map_or(5_000_000, |n| n.parse().unwrap());
    let started = std::time::Instant::now();
    let verdict = Checker::new().memory(memory).max_states(most).try_check(&program, |p| { if std::env::var("P").is_ok() { eprintln!("{p:?}") } });
    match verdict {
        Ok(v) => println!("{} {:?} {:.2}s", args[1..].join(" "), format!("{:?} {:?}", v.finding, v.effort).chars().take(400).collect::<String>(), started.elapsed().as_secs_f64()),
        Err(e) => println!("error {e}"),
    }
}
