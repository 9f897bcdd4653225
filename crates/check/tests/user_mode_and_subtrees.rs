//! Page-table isolation: when the CR3 value for user mode is computed; and subtrees that are detached at once.

use std::sync::Arc;

use lazytlb::{
    Access, CpuId, Entry, FlushRange, Hw, Kernel, Memory, Mm, MmHandle, MmId, PerCpu, PhysAddr,
    Policy, Promises, Spaces, Tables, Tlb, ValueKind, VirtAddr,
};
use lazytlb_check::{
    Checker, Finding, LazyTlb, ModelHw, Program, Protocol, ShippedProgram, Verdict, WithPcids,
};
use lazytlb_model::cpu_model::InvlpgReach;
use lazytlb_model::{CpuModel, Cr4, LocalCell, MemoryModel, Property};

const SAFE: [Policy; 3] = [Policy::InitMm, Policy::Ipi, Policy::IpiOnTableFree];
const BOTH: [MemoryModel; 2] = [MemoryModel::Sc, MemoryModel::TSO];

fn property(verdict: &Verdict) -> Option<Property> {
    match &verdict.finding {
        Finding::Safe => None,
        Finding::Violation { violation, .. } => Some(violation.property),
        Finding::Incomplete { why } => panic!("{why}"),
    }
}

/// A kernel with one user space, on two CPUs.
struct Storage {
    cpus: Vec<PerCpu<ModelHw, 1, 2>>,
    mms: Vec<Mm<ModelHw, 1>>,
}

impl Kernel<1, 2> for Storage {
    type Hw = ModelHw;
    fn per_cpu(&self, cpu: CpuId) -> &PerCpu<ModelHw, 1, 2> {
        &self.cpus[usize::from(cpu.0)]
    }
    fn mm(&self, handle: MmHandle) -> &Mm<ModelHw, 1> {
        &self.mms[usize::try_from(handle.0).expect("handles are small")]
    }
    fn init_mm(&self) -> MmHandle {
        MmHandle(0)
    }
}

const USER: MmHandle = MmHandle(1);
const PAGE: VirtAddr = VirtAddr(0);

/// When the CR3 value for user mode is computed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Computed {
    WithInterruptsOff,
    /// An interrupt may come between the value and the load.
    BeforeInterruptsAreDisabled,
}

fn goes_to_user_mode(computed: Computed) -> Program {
    let mut program = Program::new("goes to user mode", 2);
    program.start_with_cr4(Cr4::default().with(Cr4::PCIDE, true));
    let halves = [program.table(), program.table()];
    let (table, page) = (program.table(), program.page());
    program.first_entry(table, 0, Entry::to(page));
    for half in halves {
        program.first_entry(half, 0, Entry::to(table));
    }
    let tlb = Arc::new(Tlb::new(storage(&mut program, halves), Policy::Ipi));
    let in_user_mode = program.local_of_kind(1, ValueKind::Flag, "in user mode", 0);
    let handler = Arc::clone(&tlb);
    program.on_flush_interrupt(move |hw| {
        let was_in_user_mode = hw.cpu() == CpuId(1) && hw.load_local(&in_user_mode) != 0;
        if was_in_user_mode {
            kernel_half(&handler, hw);
        }
        handler.handle_flush_ipi(hw);
        if was_in_user_mode {
            let cr3 = handler.user_half(hw);
            cr3.expect("it has two roots").load(hw);
        }
    });
    let initiator = Arc::clone(&tlb);
    program.operation(0, "unmap, flush everything", move |hw| {
        hw.write_entry(table, 0, Entry::ABSENT);
        let spaces = Spaces::several(&halves).expect("two fit");
        let promise = hw.promise_begins(spaces, FlushRange::page(PAGE));
        initiator.flush(hw, USER, FlushRange::All, Tables::Kept);
        hw.promise_kept(promise);
    });
    let task = Arc::clone(&tlb);
    program.operation(1, "switch", move |hw| {
        task.switch_mm(hw, USER);
    });
    for _ in 0..2 {
        let task = Arc::clone(&tlb);
        program.operation(1, "touch in user mode", move |hw| {
            touch_in_user_mode(&task, hw, in_user_mode, computed);
        });
    }
    program
}

fn storage(program: &mut Program, [root, user_root]: [PhysAddr; 2]) -> Storage {
    let init_mm = Mm::new(
        MmId(1),
        program.first_root(),
        &mut program.cells("init_mm", 0),
    );
    let user = Mm::new(MmId(2), root, &mut program.cells("mm1", 0)).with_user_root(user_root);
    let cpus =
        (0..2).map(|cpu| PerCpu::new(MmHandle(0), &mut program.cells(format!("cpu{cpu}"), cpu)));
    Storage {
        cpus: cpus.collect(),
        mms: vec![init_mm, user],
    }
}

fn kernel_half(tlb: &Tlb<Storage, 1, 2>, hw: &ModelHw) {
    let cr3 = tlb.kernel_half(hw);
    cr3.expect("it has two roots").load(hw);
}

fn touch_in_user_mode(
    tlb: &Tlb<Storage, 1, 2>,
    hw: &ModelHw,
    in_user_mode: LocalCell,
    computed: Computed,
) {
    let former = hw.disable_interrupts();
    let cr3 = tlb.user_half(hw).expect("it has two roots");
    if computed == Computed::BeforeInterruptsAreDisabled {
        hw.restore_interrupts(former);
        hw.disable_interrupts();
    }
    cr3.load(hw);
    hw.store_local(&in_user_mode, 1);
    hw.restore_interrupts(former);
    hw.touch(PAGE, Access::Load);
    let former = hw.disable_interrupts();
    hw.store_local(&in_user_mode, 0);
    kernel_half(tlb, hw);
    hw.restore_interrupts(former);
}

#[test]
fn the_value_for_user_mode_must_be_computed_with_interrupts_off() {
    for (computed, expected) in [
        (Computed::WithInterruptsOff, None),
        (
            Computed::BeforeInterruptsAreDisabled,
            Some(Property::StaleUse),
        ),
    ] {
        for memory in BOTH {
            let verdict = Checker::new()
                .memory(memory)
                .check(&goes_to_user_mode(computed));
            assert_eq!(property(&verdict), expected, "{computed:?}, {memory:?}");
        }
    }
}

fn check<P: Protocol>(name: &str, policy: Policy, checker: &Checker) -> Verdict {
    let program = ShippedProgram::<P>::by_name(name).expect("it is shipped");
    checker.check_built(|| program.build(policy))
}

/// `Gather::unhooked` asks for an address below each table. One for two tables happens to do where INVLPG drops all upper
/// levels, and nowhere else.
#[test]
fn a_subtree_by_one_address_is_unsafe_on_cpus_with_tce() {
    for cpu_model in CpuModel::ALL {
        let expected = match cpu_model.invlpg {
            InvlpgReach::AllUpperLevels => None,
            InvlpgReach::LeadingToAddress => Some(Property::TableUseAfterFree),
        };
        for memory in BOTH {
            let checker = Checker::new().memory(memory).cpu_model(cpu_model);
            for policy in SAFE {
                for name in ["subtree", "isolated-subtree"] {
                    let case = format!("{name}, {policy}, {memory:?}, {}", cpu_model.name);
                    let found = property(&check::<LazyTlb>(name, policy, &checker));
                    assert_eq!(found, expected, "{case}");
                    if cpu_model.pcids {
                        let found = property(&check::<WithPcids<2>>(name, policy, &checker));
                        assert_eq!(found, expected, "{case}, with PCIDs");
                    }
                }
            }
        }
    }
}
