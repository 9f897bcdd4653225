//! What is written into which file of tracefs: one list, for a recording and for the script that would do the same.

use std::path::PathBuf;

use crate::error::RecordError;
use crate::events::TRACEPOINTS;
use crate::offsets::Offsets;
use crate::probes::Probe;
use crate::tracefs::Tracefs;

/// The kernel describes its structures here.
const BTF: &str = "/sys/kernel/btf/vmlinux";

/// What to record.
#[derive(Clone, Debug)]
pub struct Options {
    /// The name of the instance, and of the group of kprobes: nobody else's are touched.
    pub name: String,
    /// The size of each CPU's buffer, in KiB.
    pub buffer_kib: u64,
    /// Whether kprobes are tried.
    pub kprobes: bool,
}

/// What will be done.
#[derive(Clone, Debug)]
pub struct Plan {
    pub(crate) name: String,
    /// The size of each CPU's buffer, in KiB.
    pub(crate) buffer_kib: u64,
    /// Files of the instance, and what is written into them, in this order, before it is turned on.
    pub(crate) settings: Vec<(PathBuf, String)>,
    /// To be armed before, as far as the kernel takes them.
    pub(crate) probes: Vec<Probe>,
    /// What a reader will not be able to tell, and why.
    pub(crate) notes: Vec<String>,
}

impl Plan {
    /// Finds out what this kernel offers.
    ///
    /// # Errors
    /// [`RecordError::NoEvents`] if it does not offer what nothing can be told without.
    pub fn make(tracefs: &Tracefs, options: &Options) -> Result<Plan, RecordError> {
        let mut notes = Vec::new();
        let mut settings = buffer_settings(options);
        for tracepoint in TRACEPOINTS {
            let enable = tracepoint.enable();
            match (tracefs.has(&enable), tracepoint.without) {
                (true, _) => settings.push((enable, "1".to_owned())),
                (false, None) => {
                    return Err(RecordError::NoEvents {
                        missing: tracepoint.name,
                    });
                }
                (false, Some(what)) => notes.push(format!(
                    "this kernel has no tracepoint {}: {what} stays unknown",
                    tracepoint.name
                )),
            }
        }
        let probes = match (options.kprobes, tracefs.has("kprobe_events")) {
            (false, _) => Vec::new(),
            (true, false) => {
                notes.push(
                    "this kernel has no kprobes (CONFIG_KPROBE_EVENTS): spaces are told by tasks, and whether page \
                     tables were freed has bounds only"
                        .to_owned(),
                );
                Vec::new()
            }
            (true, true) => probes(&mut notes),
        };
        Ok(Plan {
            name: options.name.clone(),
            buffer_kib: options.buffer_kib,
            settings,
            probes,
            notes,
        })
    }

    /// Plans for a kernel whose tracefs may not be looked into: everything, as far as it turns out to be there.
    pub fn unseen(options: &Options) -> Plan {
        let mut notes = Vec::new();
        let mut settings = buffer_settings(options);
        settings.extend(TRACEPOINTS.iter().map(|it| (it.enable(), "1".to_owned())));
        Plan {
            name: options.name.clone(),
            buffer_kib: options.buffer_kib,
            settings,
            probes: match options.kprobes {
                true => probes(&mut notes),
                false => Vec::new(),
            },
            notes,
        }
    }

    /// What a reader will not be able to tell, and why.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }
}

fn buffer_settings(options: &Options) -> Vec<(PathBuf, String)> {
    vec![
        ("options/overwrite".into(), "0".to_owned()),
        ("trace_clock".into(), "mono".to_owned()),
        ("buffer_size_kb".into(), options.buffer_kib.to_string()),
    ]
}

fn probes(notes: &mut Vec<String>) -> Vec<Probe> {
    let probes = Offsets::of_kernel(BTF.as_ref()).map_or_else(Vec::new, |it| Probe::all(&it));
    if probes.is_empty() {
        notes.push(format!(
            "no kprobes: {BTF} does not say where the fields of mm_struct lie (CONFIG_DEBUG_INFO_BTF)"
        ));
    }
    probes
}
