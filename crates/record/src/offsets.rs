//! Where fields lie in the kernel's structures: its own BTF says, never a table of builds.

use std::path::Path;

use btf_rs::{Btf, Struct, Type};

/// The offsets that probes need, in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Offsets {
    pub(crate) mm_ctx_id: Option<u32>,
    pub(crate) mm_generation: Option<u32>,
    pub(crate) mm_users: Option<u32>,
    pub(crate) mm_cpumask: Option<u32>,
    pub(crate) info_mm: Option<u32>,
    pub(crate) info_start: Option<u32>,
    pub(crate) info_end: Option<u32>,
    pub(crate) info_generation: Option<u32>,
    pub(crate) info_initiator: Option<u32>,
    pub(crate) info_freed: Option<u32>,
    pub(crate) info_trims: Option<u32>,
}

impl Offsets {
    /// Reads a file like `/sys/kernel/btf/vmlinux`; `None` if the kernel has none that can be read.
    pub(crate) fn of_kernel(file: &Path) -> Option<Offsets> {
        let btf = Btf::from_file(file).ok()?;
        let mm = |path: &[&str]| offset(&btf, "mm_struct", path);
        let info = |field: &str| offset(&btf, "flush_tlb_info", &[field]);
        Some(Offsets {
            mm_ctx_id: mm(&["context", "ctx_id"]),
            mm_generation: mm(&["context", "tlb_gen"]),
            mm_users: mm(&["mm_users"]),
            mm_cpumask: mm(&["cpu_bitmap"]).or_else(|| mm(&["flexible_array"])),
            info_mm: info("mm"),
            info_start: info("start"),
            info_end: info("end"),
            info_generation: info("new_tlb_gen"),
            info_initiator: info("initiating_cpu"),
            info_freed: info("freed_tables"),
            info_trims: info("trim_cpumask"),
        })
    }
}

/// Returns the offset of a field of a field of a structure.
fn offset(btf: &Btf, structure: &str, path: &[&str]) -> Option<u32> {
    let types = btf.resolve_types_by_name(structure).ok()?;
    types.into_iter().find_map(|found| match found {
        Type::Struct(members) => offset_in(btf, &members, path),
        _ => None,
    })
}

/// Structures and unions without a name lend their fields to the one around them.
fn offset_in(btf: &Btf, structure: &Struct, path: &[&str]) -> Option<u32> {
    let (first, rest) = path.split_first()?;
    structure.members.iter().find_map(|member| {
        let name = btf.resolve_name(member).ok().unwrap_or_default();
        let inside = |path| match target(btf, member)? {
            Type::Struct(members) | Type::Union(members) => offset_in(btf, &members, path),
            _ => None,
        };
        let here = member.bit_offset() / 8;
        match (name.as_str(), rest) {
            ("", _) => Some(here + inside(path)?),
            (name, []) if name == *first => Some(here),
            (name, rest) if name == *first => Some(here + inside(rest)?),
            _ => None,
        }
    })
}

/// The type of a member, below its names and qualifiers.
fn target(btf: &Btf, member: &btf_rs::Member) -> Option<Type> {
    let mut found = btf.resolve_chained_type(member).ok()?;
    while let Type::Typedef(_) | Type::Const(_) | Type::Volatile(_) = found {
        found = btf.resolve_chained_type(found.as_btf_type()?).ok()?;
    }
    Some(found)
}
