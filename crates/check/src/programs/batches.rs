//! What one flush covers, and what is freed after it.

use lazytlb::Policy;

use super::setup::{CPU_0, CPU_1, NEXT_PAGE, PAGE, Setup, USER};
use crate::program::Program;
use crate::protocol::Protocol;

pub(super) fn table_after_pages<P: Protocol>(name: &str, policy: Policy) -> Program {
    let mut setup = Setup::<P>::new(name, 2, 1, policy);
    setup.program.free_frames(1);
    setup.switch(CPU_0, "switch to the space", USER);
    let table = setup.hook_table(CPU_0, USER, PAGE);
    setup.map_and_free_pages(CPU_0, USER, table, &[PAGE]);
    setup.free_table(CPU_0, USER, table, PAGE);
    setup.switch(CPU_1, "switch to the space", USER);
    setup.go_lazy(CPU_1);
    setup.program
}

pub(super) fn two_pages_at_once<P: Protocol>(name: &str, policy: Policy) -> Program {
    let mut setup = Setup::<P>::new(name, 2, 1, policy);
    setup.program.free_frames(2);
    setup.switch(CPU_0, "switch to the space", USER);
    let table = setup.hook_table(CPU_0, USER, PAGE);
    setup.map_and_free_pages(CPU_0, USER, table, &[PAGE, NEXT_PAGE]);
    setup.switch(CPU_1, "switch to the space", USER);
    setup.touch(CPU_1, PAGE);
    setup.touch(CPU_1, NEXT_PAGE);
    setup.program
}
