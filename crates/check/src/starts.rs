//! How operations start and end: in their order, or off a CPU's menu.

use lazytlb::CpuId;
use lazytlb_model::State;

use crate::automaton::Nodes;
use crate::hardware::{Called, Tried, Way, Ways};
use crate::reduction::Merge;
use crate::routine::{OperationIndex, Routine};
use crate::step::{CallWatcher, StepError};
use crate::system::{System, call_of};

impl<M: Merge> System<'_, M> {
    /// Starts one of the operations that a CPU's menu offers now, in the order of the menu, and takes its first visible
    /// call along: whatever comes between the two might as well come before the start, which nobody can tell.
    pub(crate) fn start_offered(
        &self,
        nodes: &Nodes,
        state: &mut State,
        cpu: CpuId,
        way: Way,
        watcher: &mut impl CallWatcher,
    ) -> Result<Tried, StepError> {
        let (index, ways) = {
            let mut offered = self.offered(state, cpu).skip(way.index());
            let Some(index) = offered.next() else {
                return Ok(Tried::Impossible);
            };
            (index, Ways::more_if(offered.next().is_some()))
        };
        let first = nodes.start(cpu, Routine::Operation(index))?;
        watcher.operation_starts(cpu);
        self.settle(nodes, state, cpu, first)?;
        if !self.merge.takes_first_along() {
            return Ok(Tried::Done(ways));
        }
        self.run_local(nodes, state, cpu, watcher)?;
        if let Some(id) = self.hardware.node(state, cpu) {
            let node = nodes.get(id);
            let call = call_of(node);
            if !call.has_ways() && !node.is_head && !self.has_nmis {
                let takes_next = self.merge.takes_next_along(call);
                let called = self.make_call(nodes, state, cpu, id, Way::FIRST, watcher)?;
                if takes_next && called != Called::Blocked {
                    self.run_local(nodes, state, cpu, watcher)?;
                    self.take_next_along(nodes, state, cpu, watcher)?;
                }
            }
        }
        Ok(Tried::Done(ways))
    }

    /// Lists the operations of its menu that a CPU may start now.
    pub(crate) fn offered(
        &self,
        state: &State,
        cpu: CpuId,
    ) -> impl Iterator<Item = OperationIndex> {
        let is_idle = self.active_node(state, cpu).is_none();
        let menu = self.automaton.program.menu_of(cpu).filter(move |_| is_idle);
        menu.filter_map(|(index, offer)| {
            let mode = self.hardware.mode(state, offer.mode);
            offer.starts_in.contains(mode).then_some(index)
        })
    }

    /// Ends an operation: the next one starts, or the CPU has nothing under way, in the mode that the operation leads
    /// to.
    pub(crate) fn end_operation(
        &self,
        nodes: &Nodes,
        state: &mut State,
        cpu: CpuId,
        index: OperationIndex,
    ) -> Result<(), StepError> {
        let operation = self.automaton.program.operation_of(cpu, index);
        let Some(offer) = operation.and_then(|operation| operation.offer) else {
            return self.start_operation(nodes, state, cpu, index.next());
        };
        if let Some(mode) = offer.leads_to {
            self.hardware.set_mode(state, offer.mode, mode)?;
        }
        Ok(self
            .hardware
            .set_node(state, cpu, Routine::Operation(index), None)?)
    }

    pub(crate) fn start_operation(
        &self,
        nodes: &Nodes,
        state: &mut State,
        cpu: CpuId,
        index: OperationIndex,
    ) -> Result<(), StepError> {
        let routine = Routine::Operation(index);
        let operation = self.automaton.program.operation_of(cpu, index);
        if operation.is_none_or(|operation| operation.offer.is_some()) {
            return Ok(self.hardware.set_node(state, cpu, routine, None)?);
        }
        self.settle(nodes, state, cpu, nodes.start(cpu, routine)?)
    }
}
