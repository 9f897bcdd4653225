//! scratch
use lazytlb::Policy;
use lazytlb_check::*;
use lazytlb_model::*;
fn main() {
    let args: Vec<String> = std::env::args().collect();
    let mem = if args[3] == "sc" { MemoryModel::Sc } else { MemoryModel::TSO };
    let red = if args.get(4).map(String::as_str) == Some("none") { Reduction::None } else { Reduction::CollapseLocal };
    for p in Policy::ALL {
        if args[2] != "all" && args[2] != p.name() { continue }
        let prog = ShippedProgram::<LazyTlb>::by_name(&args[1]).unwrap().build(p);
        let mut storage = Storage::FullStates; if args.get(5).is_some() { storage = Storage::Fingerprints; }
        let v = Checker::new().memory(mem).reduction(red).storage(storage).max_states(60_000_000).check(&prog);
        println!("{} {} {:?} {:.0} st/s {:.1} B/st", p, v.name(), v.effort, v.effort.states_per_second(), v.effort.bytes_per_state());
        if let Finding::Violation { timeline, violation } = &v.finding { println!("{violation:?}"); if args[2] != "all" { println!("{timeline}"); } }
        println!("  unreached {:?}", v.unreached);
    }
}
