//! What CPUID and a few MSRs tell about TLB coherence: capabilities, and a table of quirks.
//!
//! Absence proves nothing: the table has the *known* errata, and a hypervisor may hide the CPU under
//! it. Detection reads through two traits, so it runs on recorded CPUs too.

use core::fmt;
use core::num::NonZeroU16;

use lazytlb::Quirks;
use raw_cpuid::{CpuId, CpuIdReader, CpuIdResult};

/// Reads model-specific registers.
pub trait ReadMsr {
    /// Reads a register that this CPU's vendor and family have; `None` if it cannot be read here.
    fn read(&self, msr: u32) -> Option<u64>;
}

/// Returns a reader of the CPUID instruction on the CPU that runs this code.
pub fn native() -> impl CpuIdReader {
    |leaf, subleaf| -> CpuIdResult { raw_cpuid::native_cpuid::cpuid_count(leaf, subleaf) }
}

/// Who made a CPU.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Vendor {
    /// `GenuineIntel`.
    Intel,
    /// `AuthenticAMD`, and Hygon's descendants.
    Amd,
    /// Anyone else.
    Other,
}

/// Which CPU it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Identity {
    /// Who made it.
    pub vendor: Vendor,
    /// Family, the extended one added: 0x10 for AMD's family 10h.
    pub family: u16,
    /// Model, with the extended one's four bits above.
    pub model: u16,
    /// Stepping.
    pub stepping: u8,
    /// The microcode's revision, if it could be read.
    pub microcode: Option<u32>,
    /// Whether a hypervisor stands between: what it hides cannot be seen.
    pub hypervisor: bool,
}

/// What the CPU can do that bears on TLB coherence.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Features {
    /// Global pages, CR4.PGE (H8).
    pub global_pages: bool,
    /// PCIDs, CR4.PCIDE (H1).
    pub pcid: bool,
    /// INVPCID (H14).
    pub invpcid: bool,
    /// x2APIC mode (H36).
    pub x2apic: bool,
    /// Five-level paging, CR4.LA57.
    pub la57: bool,
    /// Pages of 1 GiB.
    pub gigabyte_pages: bool,
    /// INVLPGB and TLBSYNC (H29), with the most pages that one instruction invalidates.
    pub invlpgb_pages: Option<u16>,
    /// EFER.TCE can be set (H37).
    pub tce: bool,
    /// The MSR is there in which Intel's CPUs promise what they do not do (H31a).
    pub arch_capabilities: bool,
}

/// Names a row of [`QUIRKS`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum KnownQuirk {
    /// Two page sizes for one address end in a machine check (H31).
    Erratum383,
    /// A walk that leaves DRAM ends in a machine check (H32).
    WalksAssumeDram,
    /// INVLPG may leave global entries (H34).
    InvlpgLeavesGlobals,
    /// A fetch that finds a page in two sizes can end in a machine check (H31a).
    ItlbMultihit,
    /// An IPI does not wait for earlier stores (H36).
    X2apicNeedsFence,
    /// INVLPG may drop only the upper-level entries that lead to its address (H37).
    TranslationCacheExtension,
}

/// Something that a CPU does and software must know.
#[derive(Debug)]
pub struct Quirk {
    /// Which one it is, for code; the name is for people.
    pub which: KnownQuirk,
    /// Its name in a boot log.
    pub name: &'static str,
    /// What it means for TLB coherence.
    pub means: &'static str,
    /// What software does about it.
    pub remedy: &'static str,
    /// Where it is documented.
    pub source: &'static str,
    found: fn(&Found<'_>) -> bool,
    seam: fn(&mut Quirks),
}

/// What a row of the table may look at.
struct Found<'a> {
    identity: Identity,
    features: Features,
    msr: &'a dyn ReadMsr,
    osvw: bool,
}

/// AMD, OS-visible workarounds: how many ids are known, and a bit for each.
const OSVW_LENGTH: u32 = 0xc001_0140;
const OSVW_STATUS: u32 = 0xc001_0141;
/// The id of erratum 383 there.
const OSVW_ERRATUM_383: u32 = 3;
/// AMD, hardware configuration, and its bit TlbCacheDis.
const HWCR: u32 = 0xc001_0015;
const TLB_CACHE_DIS: u64 = 1 << 3;
/// The microcode's revision: in the high half on Intel, in the low half on AMD.
const MICROCODE: u32 = 0x8b;

/// Intel, what the CPU's architecture promises, and its bit IF_PSCHANGE_MC_NO: no machine check for a change of page size.
const ARCH_CAPABILITIES: u32 = 0x10a;
const NO_MACHINE_CHECK_ON_SIZE_CHANGE: u64 = 1 << 6;
/// Intel models of family 6 whose ITLB has no multi-hits, though they are too old to say so: Atoms and Xeon Phis.
const NO_ITLB_MULTIHIT: [u16; 19] = [
    0x1c, 0x26, // Bonnell
    0x27, 0x35, 0x36, // Saltwell
    0x37, 0x4a, 0x4d, // Silvermont
    0x4c, 0x5a, 0x75, // Airmont
    0x5c, 0x5f, 0x7a, // Goldmont, Goldmont Plus
    0x86, 0x96, 0x9c, // Tremont
    0x57, 0x85, // Knights Landing, Knights Mill
];

/// Intel models with the INVLPG erratum, and the first microcode that mends it.
const INVLPG_LEAVES_GLOBALS: [(u16, u32); 6] = [
    (0x97, 0x2e),   // Alder Lake
    (0x9a, 0x42c),  // Alder Lake, mobile
    (0xbe, 0x11),   // Alder Lake-N
    (0xb7, 0x118),  // Raptor Lake
    (0xba, 0x4117), // Raptor Lake, mobile
    (0xbf, 0x2e),   // Raptor Lake S
];

/// Every quirk that is looked for.
pub const QUIRKS: [Quirk; 6] = [
    Quirk {
        which: KnownQuirk::Erratum383,
        name: "erratum-383",
        means: "two TLB entries of different size for one address end in a machine check (H31)",
        remedy: "clear the entry and flush everywhere, lazy CPUs too, before a page changes its size: `Gather::change_size`",
        source: "AMD revision guide for family 10h, erratum 383; OSVW id 3",
        found: |cpu| {
            let id = cpu.identity;
            if id.vendor != Vendor::Amd || id.family != 0x10 {
                return false;
            }
            // The firmware knows best, if it speaks of this erratum at all.
            let known = cpu.osvw.then(|| cpu.msr.read(OSVW_LENGTH)).flatten();
            match known {
                Some(length) if length > u64::from(OSVW_ERRATUM_383) => cpu
                    .msr
                    .read(OSVW_STATUS)
                    .is_none_or(|status| status >> OSVW_ERRATUM_383 & 1 != 0),
                _ => true,
            }
        },
        seam: |quirks| quirks.erratum_383 = true,
    },
    Quirk {
        which: KnownQuirk::WalksAssumeDram,
        name: "walks-assume-dram",
        means: "a walk through a freed table that leaves write-back DRAM ends in a machine check (H32)",
        remedy: "let no CPU walk a freed table: any policy but `defer`",
        source: "AMD BKDG for family 10h and later PPRs, HWCR[3] TlbCacheDis",
        found: |cpu| {
            let id = cpu.identity;
            // Where the register cannot be read, its reset value holds: the assumption is on.
            id.vendor == Vendor::Amd
                && id.family >= 0xf
                && cpu
                    .msr
                    .read(HWCR)
                    .is_none_or(|value| value & TLB_CACHE_DIS == 0)
        },
        seam: |quirks| quirks.walks_assume_dram = true,
    },
    Quirk {
        which: KnownQuirk::InvlpgLeavesGlobals,
        name: "invlpg-leaves-globals",
        means: "with PCIDs enabled, INVLPG may leave global entries in place (H34)",
        remedy: "`Tlb::flush_kernel` flushes everything there; or keep CR4.PCIDE clear, or update the microcode",
        source: "Intel specification updates for 12th and 13th generation; Linux ce0b15d11ad8",
        found: |cpu| {
            let id = cpu.identity;
            let row = INVLPG_LEAVES_GLOBALS
                .iter()
                .find(|(model, _)| *model == id.model);
            // A hypervisor shows the microcode that it likes.
            let revision = id.microcode.filter(|_| !id.hypervisor).unwrap_or(0);
            id.vendor == Vendor::Intel
                && id.family == 6
                && row.is_some_and(|&(_, mended)| revision < mended)
        },
        seam: |quirks| quirks.invlpg_leaves_globals = true,
    },
    Quirk {
        which: KnownQuirk::ItlbMultihit,
        name: "itlb-multihit",
        means: "an instruction fetch that finds a page in two sizes can end in a machine check (H31a)",
        remedy: "clear the entry and flush everywhere before executable pages change their size: `Gather::change_size`",
        source: "Intel, CVE-2018-12207 (INTEL-SA-00210); MSR 10AH, IF_PSCHANGE_MC_NO; the list of models: Linux 6.x",
        found: |cpu| {
            let id = cpu.identity;
            if id.vendor != Vendor::Intel || id.family != 6 || NO_ITLB_MULTIHIT.contains(&id.model)
            {
                return false;
            }
            // A CPU that says nothing promises nothing.
            let promises = match cpu.features.arch_capabilities {
                true => cpu.msr.read(ARCH_CAPABILITIES).unwrap_or(0),
                false => 0,
            };
            promises & NO_MACHINE_CHECK_ON_SIZE_CHANGE == 0
        },
        seam: |quirks| quirks.itlb_multihit = true,
    },
    Quirk {
        which: KnownQuirk::X2apicNeedsFence,
        name: "x2apic-needs-fence",
        means: "an IPI sent in x2APIC mode may arrive before earlier stores are visible (H36)",
        remedy: "MFENCE and LFENCE before the command: `X2Apic` does so",
        source: "SDM 3A, \"MSR Access in x2APIC Mode\"",
        found: |cpu| cpu.features.x2apic,
        seam: |_| {},
    },
    Quirk {
        which: KnownQuirk::TranslationCacheExtension,
        name: "tce",
        means: "if EFER.TCE is set, INVLPG drops only upper-level entries that lead to its address (H37)",
        remedy: "unhook a table together with an address that it translates, as `Gather` does",
        source: "APM 2, \"Translation Cache Extension\"",
        found: |cpu| cpu.features.tce,
        seam: |_| {},
    },
];

/// What was found out about a CPU.
#[derive(Clone, Copy, Debug)]
pub struct Detected {
    /// Which CPU it is.
    pub identity: Identity,
    /// What it can do.
    pub features: Features,
    found: [bool; QUIRKS.len()],
}

impl Detected {
    /// Looks at the CPU behind `cpuid` and `msr`: on Intel reads the microcode's revision, on AMD
    /// also OSVW and HWCR, where the family has them.
    pub fn detect(cpuid: impl CpuIdReader, msr: &dyn ReadMsr) -> Self {
        let id = CpuId::with_cpuid_reader(cpuid.clone());
        let features = Features::read(&id, cpuid);
        let identity = Identity::read(&id, msr);
        let extended = id.get_extended_processor_and_feature_identifiers();
        let osvw = extended.is_some_and(|extended| extended.has_osvw());
        let cpu = Found {
            identity,
            features,
            msr,
            osvw,
        };
        let found = QUIRKS.each_ref().map(|quirk| (quirk.found)(&cpu));
        Detected {
            identity,
            features,
            found,
        }
    }

    /// Says whether a quirk was found.
    pub fn has(&self, wanted: KnownQuirk) -> bool {
        self.found().any(|quirk| quirk.which == wanted)
    }

    /// Returns the quirks found, in the table's order.
    pub fn found(&self) -> impl Iterator<Item = &'static Quirk> + use<'_> {
        let table: &'static [Quirk; QUIRKS.len()] = &QUIRKS;
        table
            .iter()
            .zip(self.found)
            .filter_map(|(quirk, found)| found.then_some(quirk))
    }

    /// Returns what the protocol wants to know. A kernel hands over the union over all CPUs.
    pub fn quirks(&self) -> Quirks {
        let mut quirks = Quirks::default();
        self.found().for_each(|quirk| (quirk.seam)(&mut quirks));
        quirks
    }
}

impl Identity {
    fn read<R: CpuIdReader>(id: &CpuId<R>, msr: &dyn ReadMsr) -> Self {
        let vendor = match id.get_vendor_info() {
            Some(info) if info.as_str() == "GenuineIntel" => Vendor::Intel,
            Some(info) if ["AuthenticAMD", "HygonGenuine"].contains(&info.as_str()) => Vendor::Amd,
            _ => Vendor::Other,
        };
        let info = id.get_feature_info();
        let base = info.as_ref().map_or(0, |info| info.base_family_id());
        let hypervisor = info.as_ref().is_some_and(|info| info.has_hypervisor());
        let family = match base {
            0xf => {
                0xf + info
                    .as_ref()
                    .map_or(0, |info| u16::from(info.extended_family_id()))
            }
            base => u16::from(base),
        };
        let extended_model = info.as_ref().map_or(0, |info| info.extended_model_id());
        let base_model = info.as_ref().map_or(0, |info| info.base_model_id());
        let extends = base == 0xf || (base == 6 && vendor != Vendor::Amd);
        let model = u16::from(base_model)
            | if extends {
                u16::from(extended_model) << 4
            } else {
                0
            };
        let microcode = match vendor {
            Vendor::Intel => msr.read(MICROCODE).map(|value| (value >> 32) as u32),
            Vendor::Amd if family >= 0xf => msr.read(MICROCODE).map(|value| value as u32),
            _ => None,
        };
        Identity {
            vendor,
            family,
            model,
            stepping: info.as_ref().map_or(0, |info| info.stepping_id()),
            microcode: microcode.filter(|&revision| revision != 0),
            hypervisor,
        }
    }
}

impl Features {
    /// Returns how many addresses one INVLPGB takes, as [`crate::X86::with_broadcasts`] wants it: the least over all CPUs.
    pub fn most_addresses(&self) -> Option<NonZeroU16> {
        self.invlpgb_pages.and_then(NonZeroU16::new)
    }

    fn read<R: CpuIdReader>(id: &CpuId<R>, raw: impl CpuIdReader) -> Self {
        let basic = id.get_feature_info();
        let seven = id.get_extended_feature_info();
        let extended = id.get_extended_processor_and_feature_identifiers();
        // Leaf 8000_0008: EBX[3] announces INVLPGB, EDX[15:0] its greatest count. Leaf 8000_0001: ECX[17]
        // announces TCE. `raw-cpuid` has no names for the last two.
        let last = raw.cpuid1(0x8000_0000).eax;
        let leaf = |leaf| {
            if last >= leaf {
                Some(raw.cpuid1(leaf))
            } else {
                None
            }
        };
        let basic_last = raw.cpuid1(0).eax;
        let amd = id
            .get_vendor_info()
            .is_some_and(|v| v.as_str() != "GenuineIntel");
        let sizes = leaf(0x8000_0008).filter(|sizes| amd && sizes.ebx >> 3 & 1 != 0);
        Features {
            global_pages: basic.as_ref().is_some_and(|basic| basic.has_pge()),
            pcid: basic.as_ref().is_some_and(|basic| basic.has_pcid()),
            invpcid: seven.as_ref().is_some_and(|seven| seven.has_invpcid()),
            x2apic: basic.as_ref().is_some_and(|basic| basic.has_x2apic()),
            la57: seven.as_ref().is_some_and(|seven| seven.has_la57()),
            gigabyte_pages: extended.as_ref().is_some_and(|more| more.has_1gib_pages()),
            // The field counts pages beyond the first.
            invlpgb_pages: sizes.map(|sizes| (sizes.edx as u16).saturating_add(1)),
            arch_capabilities: !amd && basic_last >= 7 && raw.cpuid2(7, 0).edx >> 29 & 1 != 0,
            tce: amd && leaf(0x8000_0001).is_some_and(|leaf| leaf.ecx >> 17 & 1 != 0),
        }
    }
}

/// Writes the lines of a boot log, without an end of line.
impl fmt::Display for Detected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Identity {
            vendor,
            family,
            model,
            stepping,
            ..
        } = self.identity;
        write!(
            f,
            "CPU: {vendor:?} family {family:#x} model {model:#x} stepping {stepping}"
        )?;
        if let Some(revision) = self.identity.microcode {
            write!(f, ", microcode {revision:#x}")?;
        }
        if self.identity.hypervisor {
            f.write_str(", under a hypervisor, which may hide quirks")?;
        }
        let features = self.features;
        let names = [
            (features.global_pages, "global pages"),
            (features.pcid, "PCID"),
            (features.invpcid, "INVPCID"),
            (features.x2apic, "x2APIC"),
            (features.la57, "LA57"),
            (features.gigabyte_pages, "1 GiB pages"),
            (features.invlpgb_pages.is_some(), "INVLPGB"),
            (features.tce, "TCE"),
        ];
        f.write_str("\nfeatures:")?;
        for (_, name) in names.iter().filter(|(present, _)| *present) {
            write!(f, " {name};")?;
        }
        f.write_str("\nquirks:")?;
        if self.found().next().is_none() {
            f.write_str(" none known")?;
        }
        self.found()
            .try_for_each(|quirk| write!(f, " {};", quirk.name))
    }
}
