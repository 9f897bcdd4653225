use lazytlb::Policy;
use lazytlb_check::*;
use lazytlb_model::MemoryModel;
pub(crate) fn main() {
    let a: Vec<String> = std::env::args().collect();
    let menus: Menus = a[1].parse().unwrap();
    let policy = Policy::ALL.into_iter().find(|p| p.name() == a[2]).unwrap();
    let memory = if a[3] == "sc" {
        MemoryModel::Sc
    } else {
        MemoryModel::TSO
    };
    let program = menus.program::<LazyTlb>(policy);
    let mut last = 0;
    let v = Checker::new()
        .memory(memory)
        .max_states(a.get(4).map_or(3_000_000, |n| n.parse().unwrap()))
        .try_check(&program, |p| {
            if p.effort.depth >= last + 10 {
                last = p.effort.depth;
                eprintln!("{} {} {}", p.effort.depth, p.effort.states, p.waiting);
            }
        });
    match v {
        Err(e) => println!("ERR {e}"),
        Ok(v) => {
            println!("{} {:?} {:?}", v.name(), v.effort, v.unreached);
            if let Finding::Violation {
                timeline,
                violation,
            } = v.finding
            {
                println!("{violation:?}");
                if a.len() > 5 {
                    println!("{timeline}");
                }
            } else if let Finding::Incomplete { why } = v.finding {
                println!("{why}");
            }
        }
    }
}
