//! How interrupts come between a CPU's calls: the flush interrupt, the timer's, and NMIs.

use lazytlb::{CpuId, Interrupts};
use lazytlb_model::{Call, State, Tick};

use crate::automaton::{Next, NodeId, Nodes, Routine};
use crate::hardware::{Tried, Way, Ways};
use crate::reduction::Merge;
use crate::step::{StepError, Unwatched};
use crate::system::{System, call_of};

impl<M: Merge> System<'_, M> {
    pub(crate) fn deliver_nmi(
        &self,
        nodes: &Nodes,
        state: &mut State,
        cpu: CpuId,
        way: Way,
    ) -> Result<Tried, StepError> {
        let in_handler = self.hardware.nmi_node(state, cpu).is_some();
        if in_handler || !self.hardware.can_deliver_nmi(state, cpu) {
            return Ok(Tried::Impossible);
        }
        let handler = nodes.start(cpu, Routine::Nmi)?;
        let interrupted = self.interrupt(nodes, state, cpu, Routine::Nmi, way)?;
        if interrupted != Tried::Impossible {
            self.hardware.deliver_nmi(state, cpu);
            self.settle(nodes, state, cpu, handler)?;
        }
        Ok(interrupted)
    }

    #[inline(always)]
    pub(crate) fn deliver(
        &self,
        nodes: &Nodes,
        state: &mut State,
        cpu: CpuId,
        way: Way,
    ) -> Result<Tried, StepError> {
        if self.automaton.program.handler.is_none()
            || !self.hardware.can_deliver(state, cpu)
            || !self.takes_interrupts(nodes, state, cpu)
        {
            return Ok(Tried::Impossible);
        }
        let handler = nodes.start(cpu, Routine::Handler)?;
        let interrupted = self.interrupt(nodes, state, cpu, Routine::Handler, way)?;
        if interrupted != Tried::Impossible {
            self.hardware.deliver(state, cpu);
            self.settle(nodes, state, cpu, handler)?;
        }
        Ok(interrupted)
    }

    /// Lets a timer interrupt come, if it could be taken.
    pub(crate) fn take_tick(
        &self,
        nodes: &Nodes,
        state: &mut State,
        cpu: CpuId,
        tick: Tick,
        way: Way,
    ) -> Result<Tried, StepError> {
        if !self.hardware.can_tick(state, cpu, tick) || !self.takes_interrupts(nodes, state, cpu) {
            return Ok(Tried::Impossible);
        }
        let handler = nodes.start(cpu, Routine::Timer)?;
        let interrupted = self.interrupt(nodes, state, cpu, Routine::Timer, way)?;
        if interrupted != Tried::Impossible {
            self.hardware.tick(state, cpu, tick);
            self.settle(nodes, state, cpu, handler)?;
            self.run_local(nodes, state, cpu, &mut Unwatched)?;
        }
        Ok(interrupted)
    }

    /// Lets an interrupt come between a CPU's calls. One that comes at a HLT has two ways: it ends the sleep, or it
    /// comes just before the instruction, and the CPU sleeps after it. Nothing but an NMI comes between STI and HLT.
    #[inline]
    fn interrupt(
        &self,
        nodes: &Nodes,
        state: &mut State,
        cpu: CpuId,
        handler: Routine,
        way: Way,
    ) -> Result<Tried, StepError> {
        let Some(id) = self.halted_at(nodes, state, cpu) else {
            return Ok(match way {
                Way::FIRST => Tried::Done(Ways::Last),
                _ => Tried::Impossible,
            });
        };
        let were_on = nodes.get(id).interrupts == Interrupts::Enabled;
        let may_come_before = were_on || handler == Routine::Nmi;
        if way == Way::FIRST {
            self.settle(nodes, state, cpu, nodes.successor(id, 0)?)?;
            return Ok(Tried::Done(Ways::more_if(may_come_before)));
        }
        Ok(match may_come_before && way == Way::FIRST.next() {
            true => Tried::Done(Ways::Last),
            false => Tried::Impossible,
        })
    }

    /// Returns where a CPU sleeps, or is about to, if it is in no handler.
    pub(crate) fn halted_at(&self, nodes: &Nodes, state: &State, cpu: CpuId) -> Option<NodeId> {
        let in_handler = self.hardware.handler_node(state, cpu).is_some()
            || self.hardware.nmi_node(state, cpu).is_some();
        let id = self.hardware.node(state, cpu)?;
        (!in_handler && matches!(call_of(nodes.get(id)), Call::Halt)).then_some(id)
    }

    /// Says whether a CPU takes interrupts now: it has them on, and is in no handler.
    #[inline(always)]
    pub(crate) fn takes_interrupts(&self, nodes: &Nodes, state: &State, cpu: CpuId) -> bool {
        let (node, handler) = self.hardware.node_and_handler_node(state, cpu);
        if handler.is_some() || self.has_nmis && self.hardware.nmi_node(state, cpu).is_some() {
            return false;
        }
        match node {
            None => true,
            // STI; HLT: nothing comes between the two.
            Some(id) => {
                let node = nodes.get(id);
                node.interrupts == Interrupts::Enabled
                    || matches!(node.next, Next::Call(Call::Halt))
            }
        }
    }
}
