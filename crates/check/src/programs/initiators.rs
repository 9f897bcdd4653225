//! Several CPUs flush at once.

use lazytlb::Policy;

use super::setup::{FAR_PAGE, PAGE, Setup, USER};
use crate::program::Program;
use crate::protocol::Protocol;

pub(super) fn two_initiators<P: Protocol>(name: &str, policy: Policy) -> Program {
    let mut setup = Setup::<P>::new(name, 2, 1, policy);
    setup.program.free_frames(2);
    for (cpu, own, others) in [(0, &[PAGE], FAR_PAGE), (1, &[FAR_PAGE], PAGE)] {
        setup.switch(cpu, "switch to the space", USER);
        let table = setup.hook_table(cpu, USER, own[0]);
        setup.map_and_free_pages(cpu, USER, table, own);
        setup.touch(cpu, others);
    }
    setup.program
}

pub(super) fn two_initiators_one_target<P: Protocol>(name: &str, policy: Policy) -> Program {
    let mut setup = Setup::<P>::new(name, 3, 1, policy);
    setup.program.free_frames(1);
    setup.flush_all(0, "flush everything", USER);
    let table = setup.hook_table(1, USER, PAGE);
    setup.map_and_free_pages(1, USER, table, &[PAGE]);
    setup.free_table(1, USER, table, PAGE);
    setup.switch(2, "switch to the space", USER);
    setup.touch(2, PAGE);
    setup.go_lazy(2);
    setup.program
}

pub(super) fn lazy_initiator<P: Protocol>(name: &str, policy: Policy) -> Program {
    let mut setup = Setup::<P>::new(name, 2, 1, policy);
    setup.program.free_frames(1);
    setup.switch(0, "switch to the space", USER);
    let table = setup.hook_table(0, USER, FAR_PAGE);
    setup.go_lazy(0);
    setup.map_and_free_pages(0, USER, table, &[FAR_PAGE]);
    setup.switch(1, "switch to the space", USER);
    let table = setup.hook_table(1, USER, PAGE);
    setup.flush_all(1, "flush everything", USER);
    setup.free_table(1, USER, table, PAGE);
    setup.program
}
