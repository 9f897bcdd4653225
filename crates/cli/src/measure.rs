//! How to measure each figure of the cost file, with tools that exist.

use lazytlb_price::Parameter;

/// Says in a sentence how a parameter is measured on one's own machine.
pub(crate) const fn how_to_measure(parameter: Parameter) -> &'static str {
    match parameter {
        Parameter::IpiSend | Parameter::IpiWait => {
            "`lazytlb calibrate`, on the host, not in a guest: mprotect of a page beside a thread that runs on another CPU, \
             less the same alone: sending and waiting together"
        }
        Parameter::IpiTarget => {
            "`lazytlb calibrate`, on the host: mprotect of a page beside more threads that run: the slope"
        }
        Parameter::IpiHandler => {
            "`lazytlb calibrate`, on the host: what a thread that counts does not count for each shootdown"
        }
        Parameter::IpiLazyExtra => {
            "not from user space: ftrace's function_graph on the flush's handler, on CPUs that run a kernel thread, less \
             the same on others"
        }
        Parameter::IdleWait => {
            "`lazytlb calibrate`, on the host: munmap of a page table beside a thread that sleeps; or `cpupower idle-info`: the \
             latency of the idle state that the CPUs sleep in, if it is none before which the kernel leaves the space (C3, C6 and \
             deeper), times the clock"
        }
        Parameter::IdleWake => {
            "it is what a disturbed sleep is worth to you: 0 if nobody wants an idle CPU's cycles, else the latency of \
             the idle state (`cpupower idle-info`) times the clock"
        }
        Parameter::IdleWaitPerUs => {
            "a program that sets a timer while the CPU sleeps in the state, and reads how late it wakes (`wult` of Intel's \
             wult project): cycles over the state's latency (`cpupower idle-info`) in us"
        }
        Parameter::IdleWakePerUs => {
            "it is what a disturbed sleep is worth to you: 0 if nobody wants an idle CPU's cycles, else as idle_wait_per_us"
        }
        Parameter::Cr3LoadFlush | Parameter::Cr3LoadKeep => {
            "nanoBench's kernel module on `MOV RAX, CR3; MOV CR3, RAX`, with bit 63 clear to flush, and set to keep"
        }
        Parameter::Invlpg => "nanoBench's kernel module on `INVLPG [R14]`",
        Parameter::Refill => {
            "`lazytlb calibrate`, for data in caches; or, for the workload itself, `perf stat -e \
             dtlb_load_misses.walk_active,itlb_misses.walk_active` (Intel's names), for each flush"
        }
        Parameter::Locked => {
            "`lazytlb calibrate`: the low end; where lines move between cores, `perf c2c`"
        }
        Parameter::Fence => "`lazytlb calibrate`: behind one store",
        Parameter::RemoteRead => {
            "Intel's Memory Latency Checker, `mlc --c2c_latency`; or `perf c2c`"
        }
    }
}
