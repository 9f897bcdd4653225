//! The plan as a shell script.

use std::fmt::Write;
use std::path::Path;

use crate::plan::Plan;
use crate::probes::Probe;
use crate::tracefs::Tracefs;

impl Plan {
    /// Writes the shell script that would do the same as a recording, but for the file: it is the kernel's text, which
    /// `lazytlb` reads as well.
    pub fn script(&self, tracefs: &Tracefs, output: &Path, command: &[String]) -> String {
        let root = quoted(&tracefs.path("").display().to_string());
        let output = quoted(&output.display().to_string());
        let mut script = format!(
            "#!/bin/sh\n# Run as root.\nset -eu\nT={root}\nI=$T/instances/{name}\nout={output}\nreader=\noptimized=\n\
             finish() {{\n  trap - EXIT INT TERM\n  echo 0 > \"$I/tracing_on\"\n  if [ -n \"$reader\" ]; then\n    \
             sleep 1 # it reads what is left\n    kill \"$reader\" 2>/dev/null || true\n    wait \"$reader\" || true\n  fi\n  grep -H -E 'overrun|dropped' \"$I\"/per_cpu/cpu*/stats | grep -v ': 0$' \
             && echo 'events were lost: record again with a larger buffer_size_kb' >&2\n  \
             for e in \"$I\"/events/*/enable; do echo 0 > \"$e\" || true; done\n  rmdir \"$I\"\n",
            name = self.name
        );
        if !self.probes.is_empty() {
            let name = &self.name;
            let _ = writeln!(
                script,
                "  grep -F ':{name}/' \"$T/kprobe_events\" 2>/dev/null | sed -n 's|^p[^:]*:\\([^ ]*\\).*|-:\\1|p' | while read -r line; do\n    \
                 echo \"$line\" >> \"$T/kprobe_events\"\n  done\n  \
                 [ \"$optimized\" != 1 ] || echo 1 > /proc/sys/debug/kprobes-optimization"
            );
        }
        script.push_str("}\nmkdir \"$I\"\ntrap finish EXIT INT TERM\necho 0 > \"$I/tracing_on\"\n");
        if !self.probes.is_empty() {
            let _ = write!(
                script,
                "if [ -e \"$T/kprobe_events\" ]; then\n{}else\n  echo 'note: this kernel has no kprobes' >&2\nfi\n",
                self.arming()
            );
        }
        script.push_str(SET);
        for (file, value) in &self.settings {
            let _ = writeln!(script, "setting {} {value}", file.display());
        }
        script.push_str(
            "cat \"$I/trace_pipe\" > \"$out\" &\nreader=$!\ncp /proc/interrupts \"$out.interrupts.before\"\n\
             for t in /proc/[0-9]*/task/[0-9]*; do\n  \
             awk -v t=\"${t##*/}\" '/^Tgid/{g=$2} /^Name/{n=$2} /^VmSize/{m=1} END{print \"task\", t, g, n, m+0}' \"$t/status\" \
             2>/dev/null || true\ndone > \"$out.tasks\"\n",
        );
        script.push_str(IDLE_STATES);
        script.push_str("echo 1 > \"$I/tracing_on\"\n");
        match command {
            [] => {
                script.push_str("echo 'recording; Ctrl-C ends it' >&2\nwhile :; do sleep 1; done\n")
            }
            words => {
                let words: Vec<String> = words.iter().map(|word| quoted(word)).collect();
                let _ = writeln!(script, "{} || true", words.join(" "));
            }
        }
        script.push_str(
            "cp /proc/interrupts \"$out.interrupts.after\"\necho \"next: lazytlb decide --tasks $out.tasks$states $out\" >&2\n",
        );
        script
    }

    /// The part that arms kprobes: where there is ENDBR64, past it.
    fn arming(&self) -> String {
        let name = &self.name;
        let [with, _] = Probe::places(true);
        let [without, at_entry] = Probe::places(false);
        let mut script = format!(
            "# Breakpoints, not jumps, whose handlers can be interrupted and then miss hits.\noptimized=$(cat /proc/sys/debug/kprobes-optimization || echo 0)\n\
             [ \"$optimized\" != 1 ] || echo 0 > /proc/sys/debug/kprobes-optimization\narm() {{ # event, function, fields\n  at={without}\n  if echo \"p:{name}/trial $2+4\" >> \"$T/kprobe_events\"; then\n    \
             at={with}\n    echo \"-:{name}/trial\" >> \"$T/kprobe_events\"\n  fi 2>/dev/null\n  \
             echo \"p:{name}/$1 $2+$at $3\" >> \"$T/kprobe_events\" ||\n    \
             echo \"p:{name}/$1 $2+{at_entry} $3\" >> \"$T/kprobe_events\" || return 0\n  \
             echo 1 > \"$I/events/{name}/$1/enable\"\n}}\n"
        );
        for probe in &self.probes {
            let _ = writeln!(
                script,
                "arm {} {} '{}'",
                probe.name, probe.function, probe.fields
            );
        }
        script
    }
}

/// Writes into a file of the instance. Which events there are is known only where the script runs.
const SET: &str = "setting() { # file, value
  if [ -e \"$I/$1\" ]; then
    echo \"$2\" > \"$I/$1\"
  else
    echo \"note: this kernel has no $1\" >&2
  fi
}
";

/// Saves the idle states of each CPU, and the option by which they are read: none, if the kernel has no such driver.
const IDLE_STATES: &str = r#"{
  echo idle-driver "$(cat /sys/devices/system/cpu/cpuidle/current_driver 2>/dev/null)"
  for s in /sys/devices/system/cpu/cpu[0-9]*/cpuidle/state*; do
    [ -e "$s/latency" ] || continue
    c=${s#/sys/devices/system/cpu/cpu}
    echo idle-state "${s##*state}" "$(tr ' ' _ < "$s/name")" "$(cat "$s/latency")" "desc=$(tr ' ' _ < "$s/desc")" "cpus=${c%%/*}"
  done
} > "$out.idle-states"
states=
! grep -q '^idle-state ' "$out.idle-states" || states=" --idle-states $out.idle-states"
"#;

/// A word as the shell takes it literally.
fn quoted(word: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-=,:+@%".contains(&byte);
    match !word.is_empty() && word.bytes().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_survive_the_shell() {
        assert_eq!(quoted("make"), "make");
        assert_eq!(quoted("a b"), "'a b'");
        assert_eq!(quoted("it's"), "'it'\\''s'");
        assert_eq!(quoted(""), "''");
    }
}
