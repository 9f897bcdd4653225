//! How to measure each figure of the cost file, with tools that exist.

use lazytlb_price::Parameter;

/// Says in a sentence how a parameter is measured on one's own machine.
pub(crate) const fn how_to_measure(parameter: Parameter) -> &'static str {
    match parameter {
        Parameter::IpiSend | Parameter::IpiWait => {
            "time membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED) beside one thread that spins on another CPU, less the same \
             alone: sending and waiting together"
        }
        Parameter::IpiTarget => {
            "time membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED) beside 1, 2, 4, ... threads that spin on other CPUs: the \
             slope"
        }
        Parameter::IpiHandler => {
            "let a thread read the TSC in a loop while another CPU's thread of the process calls \
             membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED): the gaps"
        }
        Parameter::IpiLazyExtra => {
            "not from user space: ftrace's function_graph on the flush's handler, on CPUs that run a kernel thread, less \
             the same on others"
        }
        Parameter::IdleWait => {
            "`cpupower idle-info` lists the latency of each idle state: take that of the one that the CPUs sleep in, if it \
             is none before which the kernel leaves the space (C3, C6 and deeper), times the clock"
        }
        Parameter::IdleWake => {
            "it is what a disturbed sleep is worth to you: 0 if nobody wants an idle CPU's cycles, else the latency of \
             the idle state (`cpupower idle-info`) times the clock"
        }
        Parameter::Cr3LoadFlush | Parameter::Cr3LoadKeep => {
            "nanoBench's kernel module on `MOV RAX, CR3; MOV CR3, RAX`, with bit 63 clear to flush, and set to keep"
        }
        Parameter::Invlpg => "nanoBench's kernel module on `INVLPG [R14]`",
        Parameter::Refill => {
            "`perf stat -e dtlb_load_misses.walk_active,itlb_misses.walk_active` on the workload (Intel's names), for each \
             flush; or `taskset -c 1 perf bench sched pipe` with and without -T, booted with nopcid: half of what a \
             round takes longer between processes, less cr3_load_flush"
        }
        Parameter::Locked => {
            "nanoBench on `LOCK XADD [R14], RAX`: the low end; where lines move between cores, `perf c2c`"
        }
        Parameter::Fence => "nanoBench on `MFENCE`",
        Parameter::RemoteRead => {
            "Intel's Memory Latency Checker, `mlc --c2c_latency`; or `perf c2c`"
        }
    }
}
