//! The machine that a script runs on.

use lazytlb_model::cpu_model::{BroadcastAnswer, DirtyUpdate, Tlbsync, UncachedLoads};
use lazytlb_model::{CpuModel, KeepLoad, MemoryModel, Reading, UpperLevels, WcReadings};

use super::Family;
use crate::random::Random;
use crate::setting::Setting;

/// Draws a machine on which the families mean something, mostly.
pub(super) fn draw_setting(random: &mut Random, families: &[Family]) -> Setting {
    let (weakest, k10) = (CpuModel::WEAKEST, CpuModel::AMD_K10);
    let (zen3, alder_lake) = (CpuModel::AMD_ZEN3, CpuModel::INTEL_ALDER_LAKE);
    let is = |family| families.contains(&family);
    let rare = random.percent(10);
    let mut cpu_model = match rare {
        false if is(Family::Broadcast) => random.among(&[weakest, zen3]),
        false if is(Family::Tags) || is(Family::KeepLoads) => {
            random.among(&[weakest, zen3, alder_lake])
        }
        false if is(Family::Fetches) => random.among(&[weakest, zen3]),
        false if is(Family::LargePages) => random.among(&[weakest, k10, k10]),
        _ => random.among(&[weakest, weakest, k10, zen3, alder_lake]),
    };
    if cpu_model == weakest {
        let (cached, in_flight) = (UpperLevels::Cached, UpperLevels::OnlyInFlight);
        let upper = random.among(&[cached, cached, in_flight, UpperLevels::Atomic]);
        cpu_model = cpu_model.with_upper_levels(upper);
        if random.percent(30) {
            cpu_model.dirty = DirtyUpdate::ChecksWritable;
            cpu_model.uncached_loads = UncachedLoads::WaitForStores;
        }
    }
    // The naive model does not know which way its stores went.
    cpu_model.broadcast_answer = BroadcastAnswer::AtOnce;
    if is(Family::Broadcast) {
        cpu_model.tlbsync = random.among(&[Tlbsync::OnlyWaits, Tlbsync::Serializes]);
    }
    if random.percent(25) {
        cpu_model = cpu_model.with_keep_load(KeepLoad::EndsWalks);
    }
    if is(Family::WriteCombining) {
        let reading = random.among(&[Reading::Started, Reading::Retired]);
        cpu_model = cpu_model.with_write_combining(WcReadings::all(reading));
    }
    let memory = random.among(&[MemoryModel::Sc, MemoryModel::TSO]);
    Setting { memory, cpu_model }
}
