//! `lazytlb cpus`: what each CPU model has, and what this machine's CPU says of itself.

use anyhow::Context;
use comfy_table::ContentArrangement;
use lazytlb_model::cpu_model::{
    BroadcastAnswer, DirtyUpdate, InvlpgGlobals, InvlpgReach, IpiOrder, LargePages, Mfence,
    SizeConflict, Tlbsync, UncachedLoads, WalkOutsideDram,
};
use lazytlb_model::{Assumption, CpuModel, KeepLoad, UpperLevels};
use serde::Serialize;

use crate::arguments::Cpus;
use crate::hardware::told_readings;
use crate::report::{Ending, Report, table};

/// Runs the command.
pub(crate) fn run(options: &Cpus) -> anyhow::Result<Ending> {
    let mut report = Report::open(&options.output)?;
    if options.detect {
        detect(&mut report, options.output.json)?;
    } else {
        list(&mut report, options.output.json)?;
    }
    report.finish()?;
    Ok(Ending::Good)
}

/// A line of the table: what a model has, the rule, and how to say it of one model.
type Line = (&'static str, &'static str, fn(CpuModel) -> String);

fn yes_or_no(has: bool) -> String {
    if has { "yes" } else { "no" }.to_owned()
}

const LINES: [Line; 21] = [
    ("PCIDs", "H1", |model| yes_or_no(model.pcids)),
    ("INVPCID", "H14", |model| yes_or_no(model.invpcid)),
    ("five levels of page tables", "H9", |model| {
        yes_or_no(model.five_levels)
    }),
    ("INVLPGB and TLBSYNC", "H29", |model| {
        yes_or_no(model.broadcast)
    }),
    ("TLBSYNC serializes", "H29", |model| {
        yes_or_no(model.broadcast && model.tlbsync == Tlbsync::Serializes)
    }),
    ("a broadcast waits for stores", "H29", |model| {
        yes_or_no(model.broadcast && model.broadcast_answer == BroadcastAnswer::AfterStores)
    }),
    ("paging-structure caches", "H9, H12a", |model| {
        match model.upper_levels {
            UpperLevels::Cached => "every level".to_owned(),
            UpperLevels::OnlyInFlight => "in flight only".to_owned(),
            UpperLevels::Atomic => "none, atomic walks".to_owned(),
        }
    }),
    ("INVLPG drops of them", "H13, H37", |model| {
        match model.invlpg {
            InvlpgReach::AllUpperLevels => "all of the PCID".to_owned(),
            InvlpgReach::LeadingToAddress => "leading there".to_owned(),
        }
    }),
    (
        "INVLPG and global entries",
        "H13, H34",
        |model| match model.invlpg_globals {
            InvlpgGlobals::Dropped => "dropped".to_owned(),
            InvlpgGlobals::MayStay => "may stay with PCIDs on".to_owned(),
        },
    ),
    ("INVPCID in a large page", "H6, H14", |model| {
        match model.large_pages {
            LargePages::Whole => "drop all".to_owned(),
            LargePages::InPieces => "may drop a piece".to_owned(),
        }
    }),
    (
        "CR3 loads with bit 63: walks in flight",
        "H12a, H15",
        |model| match model.keep_load {
            KeepLoad::WalksGoOn => "go on (ASSUMED)".to_owned(),
            KeepLoad::EndsWalks => "end (ASSUMED)".to_owned(),
        },
    ),
    ("MFENCE serializes", "H40", |model| {
        yes_or_no(model.mfence == Mfence::Serializes)
    }),
    ("an IPI waits for earlier stores", "H36", |model| {
        yes_or_no(model.ipi == IpiOrder::AfterStores)
    }),
    ("D in an entry that lost W", "H42", |model| {
        yes_or_no(model.dirty == DirtyUpdate::MaySetWithoutW)
    }),
    ("an uncached load waits for stores", "H43", |model| {
        yes_or_no(model.uncached_loads == UncachedLoads::WaitForStores)
    }),
    (
        "two page sizes for an address",
        "H7, H31, H31a",
        |model| match model.size_conflict {
            SizeConflict::EitherIsUsed => "either is used".to_owned(),
            SizeConflict::MachineCheck => "machine check".to_owned(),
            SizeConflict::FetchMachineCheck => "a fetch: machine check".to_owned(),
        },
    ),
    ("a walk outside DRAM", "H32", |model| {
        match model.walk_outside_dram {
            WalkOutsideDram::ReturnsGarbage => "returns garbage".to_owned(),
            WalkOutsideDram::MachineCheck => "machine check".to_owned(),
        }
    }),
    ("writes to a device, once drained, have", "H27", |model| {
        told_readings(model.write_combining)
    }),
    ("reports erratum 383", "H31", |model| {
        yes_or_no(model.quirks.erratum_383)
    }),
    ("reports multi-hits of the ITLB", "H31a", |model| {
        yes_or_no(model.quirks.itlb_multihit)
    }),
    ("reports that walks assume DRAM", "H32", |model| {
        yes_or_no(model.quirks.walks_assume_dram)
    }),
];

#[derive(Serialize)]
struct ModelRecord {
    name: &'static str,
    about: &'static str,
    has: serde_json::Map<String, serde_json::Value>,
}

fn list(report: &mut Report, json: bool) -> anyhow::Result<()> {
    if json {
        for model in CpuModel::ALL {
            let has = LINES.map(|(what, _, of)| (what.to_owned(), of(model).into()));
            report.json(&ModelRecord {
                name: model.name,
                about: model.about,
                has: has.into_iter().collect(),
            })?;
        }
        return Ok(());
    }
    for model in CpuModel::ALL {
        report.line(format_args!("{:<17} {}", model.name, model.about))?;
    }
    report.line("")?;
    let mut header = vec!["", "rule"];
    header.extend(CpuModel::ALL.map(|model| model.name));
    let mut rows = table(&header, 0..0);
    // On a terminal that is too narrow, cells take several lines.
    rows.set_content_arrangement(ContentArrangement::Dynamic);
    for (what, rule, of) in LINES {
        let mut row = vec![what.to_owned(), rule.to_owned()];
        row.extend(CpuModel::ALL.map(of));
        rows.add_row(row);
    }
    report.line(rows)?;
    report.line(
        "`weakest` is everything that the manuals allow at once: it does whatever another model does, but for what\n\
         an erratum causes, and for the exception that a missing feature is (#UD, #GP). Errata that it does not have:\n\
         383 (H31: amd-k10); multi-hits of the ITLB (H31a: intel-skylake); INVLPG and global entries (H34: intel-alder-lake);\n\
         that of no model (A and D in absent entries, H42). `--cpu all` asks every model.",
    )?;
    report.line("ASSUMED, because no manual says so; a verdict that hangs on one names it:")?;
    for assumption in Assumption::ALL {
        let models = CpuModel::ALL.into_iter();
        let models = models.filter(|model| Assumption::of(*model).any(|made| made == assumption));
        let models: Vec<&str> = models.map(|model| model.name).collect();
        let by = match models.is_empty() {
            true => "only if asked for".to_owned(),
            false => models.join(", "),
        };
        report.line(format_args!("  {assumption} [{by}]"))?;
    }
    Ok(())
}

#[cfg(not(target_arch = "x86_64"))]
fn detect(_report: &mut Report, _json: bool) -> anyhow::Result<()> {
    anyhow::bail!(
        "this machine's CPU is no x86-64: `lazytlb cpus` without --detect lists the models"
    )
}

#[cfg(target_arch = "x86_64")]
fn detect(report: &mut Report, json: bool) -> anyhow::Result<()> {
    use lazytlb_x86::detect::{Detected, native};

    #[derive(Serialize)]
    struct QuirkRecord {
        name: &'static str,
        means: &'static str,
        remedy: &'static str,
        source: &'static str,
    }
    #[derive(Serialize)]
    struct DetectedRecord {
        vendor: String,
        family: u16,
        model: u16,
        stepping: u8,
        microcode: Option<u32>,
        hypervisor: bool,
        quirks: Vec<QuirkRecord>,
        closest_model: Option<&'static str>,
    }

    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo")
        .context("cannot read /proc/cpuinfo, which tells the microcode's revision")
        .unwrap_or_default();
    let detected = Detected::detect(native(), &Told::from(cpuinfo.as_str()));
    let closest = closest(&detected).map(|model| model.name);
    if json {
        let identity = detected.identity;
        return report.json(&DetectedRecord {
            vendor: format!("{:?}", identity.vendor),
            family: identity.family,
            model: identity.model,
            stepping: identity.stepping,
            microcode: identity.microcode,
            hypervisor: identity.hypervisor,
            quirks: detected
                .found()
                .map(|quirk| QuirkRecord {
                    name: quirk.name,
                    means: quirk.means,
                    remedy: quirk.remedy,
                    source: quirk.source,
                })
                .collect(),
            closest_model: closest,
        });
    }
    report.line(detected.to_string())?;
    for quirk in detected.found() {
        report.line(format_args!(
            "  {}: {}\n    remedy: {}\n    source: {}",
            quirk.name, quirk.means, quirk.remedy, quirk.source
        ))?;
    }
    report.line(match closest {
        Some(name) => format!("closest model: {name} (lazytlb check --cpu {name})"),
        None => "closest model: none; weakest covers what is architectural".to_owned(),
    })
}

/// What the system tells of the registers that only a kernel can read: the microcode's revision.
#[cfg(target_arch = "x86_64")]
struct Told {
    microcode: Option<u64>,
    is_intel: bool,
}

#[cfg(target_arch = "x86_64")]
impl From<&str> for Told {
    fn from(cpuinfo: &str) -> Told {
        let line = cpuinfo.lines().find(|line| line.starts_with("microcode"));
        let revision = line
            .and_then(|line| line.split_once("0x"))
            .map(|(_, hex)| hex.trim());
        Told {
            microcode: revision.and_then(|hex| u64::from_str_radix(hex, 16).ok()),
            is_intel: cpuinfo.contains("GenuineIntel"),
        }
    }
}

#[cfg(target_arch = "x86_64")]
impl lazytlb_x86::detect::ReadMsr for Told {
    fn read(&self, msr: u32) -> Option<u64> {
        const MICROCODE: u32 = 0x8b;
        // Intel keeps the revision in the high half.
        let shift = if self.is_intel { 32 } else { 0 };
        (msr == MICROCODE)
            .then_some(self.microcode?)
            .map(|revision| revision << shift)
    }
}

/// Returns the model that comes closest to a CPU; `None` for a vendor or a generation without one.
#[cfg(target_arch = "x86_64")]
fn closest(detected: &lazytlb_x86::detect::Detected) -> Option<CpuModel> {
    use lazytlb_x86::detect::{KnownQuirk, Vendor};

    let (identity, features) = (detected.identity, detected.features);
    match identity.vendor {
        Vendor::Amd if identity.family == 0x10 => Some(CpuModel::AMD_K10),
        Vendor::Amd if identity.family >= 0x1a => Some(CpuModel::AMD_ZEN5),
        Vendor::Amd if identity.family == 0x19 && features.tce => Some(CpuModel::AMD_ZEN5),
        Vendor::Amd if identity.family == 0x19 => Some(CpuModel::AMD_ZEN3),
        Vendor::Intel if identity.family == 6 && features.pcid => {
            Some(match detected.has(KnownQuirk::InvlpgLeavesGlobals) {
                true => CpuModel::INTEL_ALDER_LAKE,
                false => CpuModel::INTEL_SKYLAKE,
            })
        }
        _ => None,
    }
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use lazytlb_x86::detect::ReadMsr;

    use super::*;

    #[test]
    fn the_microcodes_revision_is_where_each_vendor_keeps_it() {
        let intel = Told::from("vendor_id\t: GenuineIntel\nmicrocode\t: 0x2e\n");
        assert_eq!(intel.read(0x8b), Some(0x2e << 32));
        let amd = Told::from("vendor_id\t: AuthenticAMD\nmicrocode\t: 0xa201210\n");
        assert_eq!(amd.read(0x8b), Some(0xa20_1210));
        assert_eq!(amd.read(0xc001_0015), None, "what nobody told is not known");
        assert_eq!(Told::from("").read(0x8b), None);
    }
}
