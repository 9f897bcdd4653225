//! Idle states as sysfs tells them: each CPU's, those that are alike in one line.
//!
//! ```text
//! idle-driver intel_idle
//! idle-state 1 C1 2 residency=2 desc=MWAIT_0x00 cpus=0-7    number, name, exit latency in us
//! ```
//!
//! Sysfs shows no flags. Before which states the kernel leaves the user space, the reader tells by driver, name and
//! description, or learns from the recording itself.

use std::fs;
use std::path::Path;

/// Where the kernel tells of CPUs.
const CPUS: &str = "/sys/devices/system/cpu";

/// Lists the driver and the idle states of every CPU; nothing, if the kernel has no such driver.
pub(crate) fn idle_states() -> Vec<String> {
    lines(Path::new(CPUS))
}

fn lines(root: &Path) -> Vec<String> {
    // By state: its line without CPUs, and the CPUs that have it.
    let mut states: Vec<(String, Vec<u16>)> = Vec::new();
    for cpu in cpus(root) {
        let folder = root.join(format!("cpu{cpu}/cpuidle"));
        for state in (0..).map_while(|number| state(&folder, number)) {
            match states.iter_mut().find(|(known, _)| *known == state) {
                Some((_, cpus)) => cpus.push(cpu),
                None => states.push((state, vec![cpu])),
            }
        }
    }
    let driver = word(&root.join("cpuidle/current_driver"));
    let driver = driver.filter(|_| !states.is_empty());
    let driver = driver.map(|driver| format!("idle-driver {driver}"));
    let states = states.into_iter();
    let states = states.map(|(state, cpus)| format!("{state} cpus={}", ranges(&cpus)));
    driver.into_iter().chain(states).collect()
}

/// The numbers of the CPUs that there are, in ascending order.
fn cpus(root: &Path) -> Vec<u16> {
    let entries = fs::read_dir(root).into_iter().flatten().flatten();
    let number = |entry: fs::DirEntry| {
        let name = entry.file_name();
        name.to_str()?.strip_prefix("cpu")?.parse().ok()
    };
    let mut cpus: Vec<u16> = entries.filter_map(number).collect();
    cpus.sort_unstable();
    cpus
}

fn state(folder: &Path, number: u32) -> Option<String> {
    let read = |file: &str| word(&folder.join(format!("state{number}/{file}")));
    let (name, latency) = (read("name")?, read("latency")?);
    let mut line = format!("idle-state {number} {name} {latency}");
    for (key, file) in [("residency", "residency"), ("desc", "desc")] {
        if let Some(value) = read(file) {
            line += &format!(" {key}={value}");
        }
    }
    Some(line)
}

/// Reads a file as one word; `None` if there is none in it.
fn word(path: &Path) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let word = text.trim().replace(char::is_whitespace, "_");
    (!word.is_empty()).then_some(word)
}

/// Tells numbers in ascending order as `0-3,8`.
fn ranges(cpus: &[u16]) -> String {
    let runs = cpus.chunk_by(|one, next| one + 1 == *next);
    let told = runs.map(|run| match run {
        [first, .., last] => format!("{first}-{last}"),
        run => run.iter().map(u16::to_string).collect(),
    });
    told.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(root: &Path, file: &str, text: &str) {
        let path = root.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn each_cpus_states_are_told_and_what_is_alike_once() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        put(root, "cpuidle/current_driver", "intel_idle\n");
        put(root, "cpufreq/policy0", "");
        for cpu in [0, 1, 2, 10] {
            put(root, &format!("cpu{cpu}/cpuidle/state0/name"), "POLL\n");
            put(root, &format!("cpu{cpu}/cpuidle/state0/latency"), "0\n");
            let latency = if cpu == 2 { "130\n" } else { "170\n" };
            put(root, &format!("cpu{cpu}/cpuidle/state1/name"), "C6\n");
            put(root, &format!("cpu{cpu}/cpuidle/state1/latency"), latency);
            put(root, &format!("cpu{cpu}/cpuidle/state1/residency"), "600\n");
            put(
                root,
                &format!("cpu{cpu}/cpuidle/state1/desc"),
                "MWAIT 0x20\n",
            );
        }
        let expected = [
            "idle-driver intel_idle",
            "idle-state 0 POLL 0 cpus=0-2,10",
            "idle-state 1 C6 170 residency=600 desc=MWAIT_0x20 cpus=0-1,10",
            "idle-state 1 C6 130 residency=600 desc=MWAIT_0x20 cpus=2",
        ];
        assert_eq!(lines(root), expected);
    }

    #[test]
    fn a_kernel_without_a_driver_tells_nothing() {
        let root = tempfile::tempdir().unwrap();
        put(root.path(), "cpuidle/current_driver", "none\n");
        put(root.path(), "cpu0/online", "1\n");
        assert_eq!(lines(root.path()), Vec::<String>::new());
        assert_eq!(lines(&root.path().join("absent")), Vec::<String>::new());
    }
}
