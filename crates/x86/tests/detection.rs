//! Detection on recorded CPUs: the CPUID leaves are real, the MSRs are the test's.
#![allow(clippy::unwrap_used)] // A dump that does not parse fails the test.

use std::collections::HashMap;

use lazytlb::Fetched;
use lazytlb_x86::detect::{Detected, Features, ReadMsr, Vendor};
use raw_cpuid::CpuIdResult;

/// Registers as the test says; any other cannot be read.
struct Msrs(&'static [(u32, u64)]);

impl ReadMsr for Msrs {
    fn read(&self, msr: u32) -> Option<u64> {
        let found = self.0.iter().find(|(other, _)| *other == msr);
        found.map(|(_, value)| *value)
    }
}

const OSVW_LENGTH: u32 = 0xc001_0140;
const OSVW_STATUS: u32 = 0xc001_0141;
const HWCR: u32 = 0xc001_0015;
const MICROCODE: u32 = 0x8b;
const ARCH_CAPABILITIES: u32 = 0x10a;
/// IF_PSCHANGE_MC_NO.
const SIZES_MAY_CHANGE: u64 = 1 << 6;

/// Reads a dump: a line for each leaf, `leaf subleaf eax ebx ecx edx`, all hexadecimal.
fn detect(dump: &str, msrs: &'static [(u32, u64)]) -> Detected {
    let mut leaves = HashMap::new();
    for line in dump.lines().filter(|line| !line.starts_with('#')) {
        let words = line
            .split(' ')
            .map(|word| u32::from_str_radix(word, 16).unwrap());
        let [leaf, subleaf, eax, ebx, ecx, edx] = words.collect::<Vec<_>>().try_into().unwrap();
        leaves.insert((leaf, subleaf), CpuIdResult { eax, ebx, ecx, edx });
    }
    let nothing = CpuIdResult {
        eax: 0,
        ebx: 0,
        ecx: 0,
        edx: 0,
    };
    let reader = move |leaf, subleaf| *leaves.get(&(leaf, subleaf)).unwrap_or(&nothing);
    Detected::detect(reader, &Msrs(msrs))
}

fn names(detected: &Detected) -> Vec<&'static str> {
    detected.found().map(|quirk| quirk.name).collect()
}

const K10: &str = include_str!("cpuid/amd-k10.txt");
const ZEN3: &str = include_str!("cpuid/amd-zen3.txt");
const ZEN5: &str = include_str!("cpuid/amd-zen5.txt");
const SKYLAKE: &str = include_str!("cpuid/intel-skylake.txt");
const ALDER_LAKE: &str = include_str!("cpuid/intel-alder-lake.txt");
const CONROE: &str = include_str!("cpuid/intel-conroe.txt");

#[test]
fn family_and_model_are_those_of_the_data_sheets() {
    let cpus = [
        (K10, Vendor::Amd, 0x10, 0x4),
        (ZEN3, Vendor::Amd, 0x19, 0x21),
        (ZEN5, Vendor::Amd, 0x1a, 0x44),
        (SKYLAKE, Vendor::Intel, 6, 0x5e),
        (ALDER_LAKE, Vendor::Intel, 6, 0x97),
        (CONROE, Vendor::Intel, 6, 0xf),
    ];
    for (dump, vendor, family, model) in cpus {
        let id = detect(dump, &[]).identity;
        assert_eq!((id.vendor, id.family, id.model), (vendor, family, model));
        assert!(!id.hypervisor, "all dumps are from bare metal");
    }
}

#[test]
fn features_are_those_that_the_leaves_announce() {
    let old = Features {
        global_pages: true,
        ..Features::default()
    };
    assert_eq!(detect(CONROE, &[]).features, old);
    let k10 = Features {
        gigabyte_pages: true,
        ..old
    };
    assert_eq!(detect(K10, &[]).features, k10);
    let skylake = Features {
        pcid: true,
        invpcid: true,
        x2apic: true,
        ..k10
    };
    assert_eq!(detect(SKYLAKE, &[]).features, skylake);
    let alder_lake = Features {
        arch_capabilities: true,
        ..skylake
    };
    assert_eq!(detect(ALDER_LAKE, &[]).features, alder_lake);
    // These two desktop parts announce INVPCID but no PCIDs, and no INVLPGB.
    let zen3 = Features {
        invpcid: true,
        x2apic: true,
        tce: true,
        ..k10
    };
    assert_eq!(detect(ZEN3, &[]).features, zen3);
    assert_eq!(
        detect(ZEN5, &[]).features,
        Features {
            x2apic: false,
            ..zen3
        }
    );
}

#[test]
fn broadcasts_are_announced_with_the_number_of_addresses_beyond_the_first() {
    // A server's leaf: EBX[3], and EDX[15:0]; what stands above it is another number.
    let leaf = "80000008 0 00003030 111EF657 0000400B 00010000";
    for (changed, most) in [
        ("80000008 0 00003030 111EF65F 0000400B 00010007", Some(8)),
        ("80000008 0 00003030 111EF65F 0000400B 00010000", Some(1)),
        (
            "80000008 0 00003030 111EF65F 0000400B 0001FFFF",
            Some(0xffff),
        ),
        ("80000008 0 00003030 111EF657 0000400B 00010007", None),
    ] {
        let features = detect(&ZEN3.replace(leaf, changed), &[]).features;
        assert_eq!(features.invlpgb_pages, most);
        assert_eq!(features.most_addresses().map(u16::from), most);
    }
    let leaf = "80000008 0 00003027 00000000 00000000 00000000";
    let changed = "80000008 0 00003027 00000008 00000000 00000007";
    assert!(SKYLAKE.contains(leaf));
    let intel = detect(&SKYLAKE.replace(leaf, changed), &[]).features;
    assert_eq!(intel.most_addresses(), None, "the bit is AMD's");
}

#[test]
fn erratum_383_is_found_unless_the_firmware_says_that_it_is_mended() {
    let affected: [&[_]; 3] = [
        // OSVW speaks of ids 0 to 3, and sets the bit of id 3.
        &[(OSVW_LENGTH, 4), (OSVW_STATUS, 0b1000)],
        // OSVW does not speak of id 3.
        &[(OSVW_LENGTH, 3), (OSVW_STATUS, 0)],
        // OSVW cannot be read.
        &[],
    ];
    for msrs in affected {
        let detected = detect(K10, msrs);
        assert!(names(&detected).contains(&"erratum-383"));
        assert!(detected.quirks().erratum_383);
    }
    let mended = detect(K10, &[(OSVW_LENGTH, 4), (OSVW_STATUS, 0)]);
    assert!(!mended.quirks().erratum_383);
    for dump in [ZEN3, ZEN5, SKYLAKE, ALDER_LAKE, CONROE] {
        assert!(!detect(dump, &[]).quirks().erratum_383);
    }
}

#[test]
fn amd_walks_assume_dram_unless_the_register_says_otherwise() {
    for dump in [K10, ZEN3, ZEN5] {
        assert!(detect(dump, &[(HWCR, 0)]).quirks().walks_assume_dram);
        assert!(detect(dump, &[]).quirks().walks_assume_dram);
        assert!(!detect(dump, &[(HWCR, 1 << 3)]).quirks().walks_assume_dram);
    }
    for dump in [SKYLAKE, ALDER_LAKE, CONROE] {
        assert!(!detect(dump, &[(HWCR, 0)]).quirks().walks_assume_dram);
    }
}

#[test]
fn the_invlpg_erratum_goes_with_the_microcode() {
    let found = |dump, msrs| names(&detect(dump, msrs)).contains(&"invlpg-leaves-globals");
    assert!(found(ALDER_LAKE, &[(MICROCODE, 0x2d << 32)]));
    assert!(found(ALDER_LAKE, &[]));
    assert!(!found(ALDER_LAKE, &[(MICROCODE, 0x2e << 32)]));
    assert!(!found(SKYLAKE, &[]));
}

#[test]
fn the_itlbs_multi_hits_are_there_unless_the_cpu_promises_otherwise() {
    let promise: &[_] = &[(ARCH_CAPABILITIES, SIZES_MAY_CHANGE)];
    for dump in [CONROE, SKYLAKE, ALDER_LAKE] {
        assert!(detect(dump, &[]).quirks().itlb_multihit);
        assert!(
            detect(dump, &[(ARCH_CAPABILITIES, !SIZES_MAY_CHANGE)])
                .quirks()
                .itlb_multihit
        );
    }
    assert!(!detect(ALDER_LAKE, promise).quirks().itlb_multihit);
    // The leaf does not announce that register here: what is read there is no promise.
    assert!(detect(SKYLAKE, promise).quirks().itlb_multihit);
    // Model 1Ch is an Atom.
    let signature = |model: &str| format!("00000001 0 {model} ");
    let of_skylake = SKYLAKE
        .lines()
        .find(|line| line.starts_with("00000001 0 "))
        .unwrap();
    let atom = SKYLAKE.replace(&of_skylake[..20], &signature("000106C2"));
    assert_eq!(detect(&atom, &[]).identity.model, 0x1c);
    assert!(!detect(&atom, &[]).quirks().itlb_multihit);
    for dump in [K10, ZEN3, ZEN5] {
        assert!(!detect(dump, &[]).quirks().itlb_multihit);
    }
}

/// Reads a row of a table of `docs/errata.md`, by its first cell.
fn row(first: &str) -> Vec<&'static str> {
    let errata = include_str!("../../../docs/errata.md");
    let mut rows = errata
        .lines()
        .map(|line| line.split('|').map(str::trim).collect::<Vec<_>>());
    let found = rows.find(|cells| cells.get(1) == Some(&first));
    found.unwrap_or_else(|| panic!("docs/errata.md has no row for {first}"))
}

#[test]
fn the_tables_of_the_documentation_say_what_the_code_does() {
    for quirk in &lazytlb_x86::detect::QUIRKS {
        let rule = row(&format!("`{}`", quirk.name))[2];
        assert!(quirk.means.contains(&format!("({rule})")), "{}", quirk.name);
    }
    for (cpu, dump) in [
        ("AMD family 10h (Phenom II)", K10),
        ("AMD Zen 3", ZEN3),
        ("AMD Zen 5", ZEN5),
        ("Intel Conroe", CONROE),
        ("Intel Skylake", SKYLAKE),
        ("Intel Alder Lake", ALDER_LAKE),
    ] {
        let (detected, cells) = (detect(dump, &[]), row(cpu));
        let found = names(&detected).into_iter().map(|name| format!("`{name}`"));
        assert_eq!(cells[2], found.collect::<Vec<_>>().join(", "), "{cpu}");
        let quirks = detected.quirks();
        let change = match (
            quirks.forbid_two_sizes(Fetched::Perhaps),
            quirks.forbid_two_sizes(Fetched::Never),
        ) {
            (true, true) => "break, flush, make",
            (true, false) => "break, flush, make; data: make, flush",
            (false, _) => "make, flush",
        };
        assert_eq!(cells[3], change, "{cpu}");
        let lazy = match quirks.garbage_walk_is_fatal() {
            true => "is interrupted",
            false => "is spared: unsafe",
        };
        assert_eq!(cells[4], lazy, "{cpu}");
    }
}

#[test]
fn the_boot_log_names_cpu_features_and_quirks() {
    let msrs = &[
        (MICROCODE, 0x2d << 32),
        (ARCH_CAPABILITIES, SIZES_MAY_CHANGE),
    ];
    let log = detect(ALDER_LAKE, msrs).to_string();
    assert_eq!(
        log,
        "CPU: Intel family 0x6 model 0x97 stepping 2, microcode 0x2d\n\
         features: global pages; PCID; INVPCID; x2APIC; 1 GiB pages;\n\
         quirks: invlpg-leaves-globals; x2apic-needs-fence;"
    );
}

#[test]
fn every_quirk_says_what_it_means_and_what_to_do() {
    for quirk in &lazytlb_x86::detect::QUIRKS {
        assert!(quirk.means.contains("(H"), "{} names its rule", quirk.name);
        assert!(!quirk.remedy.is_empty() && !quirk.source.is_empty());
    }
}
