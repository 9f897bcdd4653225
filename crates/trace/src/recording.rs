//! How to make a recording that this crate can read.

/// Gives the commands that record every event this crate needs, and what must be adapted.
///
/// Origin: the probe definitions of the project's own recordings of Linux 6.1.192 (Debian
/// 6.1.0-56-amd64). The instruction offsets and registers of `switch_mm` and `flush_func`, and the
/// structure offsets +768 (`mm_struct.context.ctx_id`), +84 (`mm_users`) and +1096 (cpumask), hold
/// for that kernel only.
pub const HOW_TO_RECORD: &str = "\
To record: `sudo lazytlb record -o my.dat -- COMMAND`, which finds out what the kernel offers; where it cannot run, as root the
script that `lazytlb record --dry-run` prints; or at least tlb:tlb_flush, sched:sched_switch, task:task_newtask,
sched:sched_process_exec and sched:sched_process_exit of all CPUs, by trace-cmd record or perf record -a.
By hand (as root; offsets and registers are those of Debian's Linux 6.1.0-56-amd64):
  cd /sys/kernel/tracing
  echo 'p:switch_mm switch_mm_irqs_off+53 prev=%di:x64 next=%bx:x64 tsk=%r12:x64 loaded=%bp:x64 lazy=%dx:u8 nctx=+768(%bx):u64' > kprobe_events
  echo 'p:enter_lazy enter_lazy_tlb+13 mm=%di:x64 tsk=%si:x64 loaded=%ax:x64' >> kprobe_events
  echo 'p:flush_mm_range flush_tlb_mm_range+5 mm=%di:x64 start=%si:x64 end=%dx:x64 stride=%cx:u8 freed=%r8:u8 ctx=+768(%di):u64 users=+84(%di):s32 mask=+1096(%di):x64' >> kprobe_events
  echo 'p:flush_func flush_tlb_func+56 mm=+0(%di):x64 newgen=+24(%di):u64 initcpu=+32(%di):u32 loaded=%dx:x64' >> kprobe_events
  echo 'p:mmdrop __mmdrop+5 mm=%di:x64 ctx=+768(%di):u64' >> kprobe_events
  echo global > trace_clock; echo 0 > options/overwrite; echo 65536 > buffer_size_kb
  echo 1 > events/kprobes/enable; echo 1 > events/sched/sched_switch/enable
  (run the workload)
  echo 0 > tracing_on; cp trace /tmp/my.trace.txt
On another kernel: +768 is the offset of context.ctx_id in mm_struct (`pahole -C mm_struct vmlinux`);
switch_mm can be probed at its entry with next=%si:x64 tsk=%dx:x64 nctx=+768(%si):u64 (loaded and
lazy are optional). Lines of `kprobe_profile` with missed hits mean an incomplete recording.";
