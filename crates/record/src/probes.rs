//! Which kprobes are recorded, and with which fields.
//!
//! They stand at the beginnings of the functions, where the calling convention says what is in which register; and past
//! the bytes that ftrace patches, so that they are breakpoints: probes at a patched place lose hits that come in the middle of
//! another probe's handler, as do those that the kernel has turned into jumps, which a recording forbids it meanwhile. What registers do not offer there, the loaded space and whether the CPU is lazy, is for the
//! reader to reconstruct.

use crate::offsets::Offsets;

/// Bytes of the instruction that ftrace patches at a function's beginning.
const PATCHED: u32 = 5;
/// Bytes of ENDBR64, which may stand before it.
const ENDBR64: u32 = 4;

/// A kprobe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Probe {
    /// The event's name.
    pub(crate) name: &'static str,
    /// The kernel's function.
    pub(crate) function: &'static str,
    /// Its fields: `name=place:type …`.
    pub(crate) fields: String,
}

impl Probe {
    /// Where to try a probe, in bytes from the function's beginning, the best place first. `ENDBR64` is at a function's
    /// beginning if an instruction ends four bytes past it.
    pub(crate) fn places(has_endbr: bool) -> [u32; 2] {
        match has_endbr {
            true => [ENDBR64 + PATCHED, 0],
            false => [PATCHED, 0],
        }
    }

    /// The line that arms it, as one of a group.
    pub(crate) fn definition(&self, group: &str, place: u32) -> String {
        let Probe {
            name,
            function,
            fields,
        } = self;
        format!("p:{group}/{name} {function}+{place} {fields}")
    }

    /// The line that tells whether an instruction ends where one that is `ENDBR64` would: it is refused if not.
    pub(crate) fn trial(&self, group: &str) -> String {
        format!("p:{group}/trial {}+{ENDBR64}", self.function)
    }

    /// All that the kernel's structures allow.
    pub(crate) fn all(offsets: &Offsets) -> Vec<Probe> {
        let Some(ctx_id) = offsets.mm_ctx_id else {
            return Vec::new();
        };
        let field = |name: &str, offset: Option<u32>, register: &str, kind: &str| {
            offset.map_or_else(String::new, |offset| {
                format!(" {name}=+{offset}(%{register}):{kind}")
            })
        };
        let mut probes = vec![
            Probe {
                name: "switch_mm",
                function: "switch_mm_irqs_off",
                fields: format!("next=%si:x64 tsk=%dx:x64 nctx=+{ctx_id}(%si):u64")
                    + &field("ngen", offsets.mm_generation, "si", "u64")
                    + &field("nmask", offsets.mm_cpumask, "si", "x64"),
            },
            Probe {
                name: "enter_lazy",
                function: "enter_lazy_tlb",
                fields: "mm=%di:x64 tsk=%si:x64".to_owned(),
            },
            Probe {
                name: "flush_mm_range",
                function: "flush_tlb_mm_range",
                fields: format!(
                    "mm=%di:x64 start=%si:x64 end=%dx:x64 stride=%cx:u8 freed=%r8:u8 ctx=+{ctx_id}(%di):u64"
                ) + &field("gen", offsets.mm_generation, "di", "u64")
                    + &field("users", offsets.mm_users, "di", "s32")
                    + &field("mask", offsets.mm_cpumask, "di", "x64"),
            },
            Probe {
                name: "exit_mmap",
                function: "exit_mmap",
                fields: format!("mm=%di:x64 ctx=+{ctx_id}(%di):u64"),
            },
            Probe {
                name: "mmdrop",
                function: "__mmdrop",
                fields: format!("mm=%di:x64 ctx=+{ctx_id}(%di):u64"),
            },
        ];
        if let (Some(mm), Some(generation), Some(initiator)) = (
            offsets.info_mm,
            offsets.info_generation,
            offsets.info_initiator,
        ) {
            let request = |register: &str| {
                format!(
                    "mm=+{mm}(%{register}):x64 newgen=+{generation}(%{register}):u64 initcpu=+{initiator}(%{register}):u32"
                ) + &field("start", offsets.info_start, register, "x64")
                    + &field("end", offsets.info_end, register, "x64")
                    + &field("freed", offsets.info_freed, register, "u8")
                    + &field("trim", offsets.info_trims, register, "u8")
            };
            probes.push(Probe {
                name: "flush_multi",
                function: "native_flush_tlb_multi",
                fields: format!("cpumask0=+0(%di):x64 {}", request("si")),
            });
            probes.push(Probe {
                name: "flush_func",
                function: "flush_tlb_func",
                fields: request("di"),
            });
        }
        probes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probes_take_what_the_kernel_offers() {
        assert_eq!(Probe::all(&Offsets::default()), []);
        let mut offsets = Offsets {
            mm_ctx_id: Some(768),
            ..Offsets::default()
        };
        let names = |offsets: &Offsets| -> Vec<&str> {
            Probe::all(offsets).iter().map(|probe| probe.name).collect()
        };
        let first = [
            "switch_mm",
            "enter_lazy",
            "flush_mm_range",
            "exit_mmap",
            "mmdrop",
        ];
        assert_eq!(names(&offsets), first);
        offsets.info_mm = Some(0);
        offsets.info_generation = Some(24);
        offsets.info_initiator = Some(32);
        assert_eq!(names(&offsets).len(), 7);
        let drop = Probe::all(&offsets).swap_remove(4);
        assert_eq!(
            drop.definition("lazytlb_7", 9),
            "p:lazytlb_7/mmdrop __mmdrop+9 mm=%di:x64 ctx=+768(%di):u64"
        );
    }

    #[test]
    fn a_probe_stands_past_what_is_patched() {
        assert_eq!(Probe::places(true), [9, 0]);
        assert_eq!(Probe::places(false), [5, 0]);
    }
}
