//! Records in guests: two of Debian's kernels, as they are, with kprobes, under QEMU.
//!
//! What boots is a kernel's package and an archive with busybox, `lazytlb` and its libraries. The recording comes out through a serial
//! line.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::told::{events_told, read_by_trace_cmd, succeeded};
use crate::packages;

/// Packages that depend on the newest kernel of a series.
const KERNELS: [&str; 2] = ["linux-image-amd64", "linux-image-6.12-amd64"];
/// Commands that busybox is in the guest.
const COMMANDS: [&str; 16] = [
    "sh", "ls", "mount", "cat", "gzip", "true", "sleep", "stty", "poweroff", "mkdir", "rmdir",
    "grep", "sed", "awk", "cp", "kill",
];
/// Kprobes that must have been armed.
const PROBES: [&str; 7] = [
    "switch_mm",
    "enter_lazy",
    "flush_mm_range",
    "exit_mmap",
    "mmdrop",
    "flush_multi",
    "flush_func",
];
/// What the guest does: processes that begin and end, and threads that map and unmap.
const INIT: &str = "#!/bin/sh
mount -t proc none /proc
mount -t sysfs none /sys
mount -t devtmpfs none /dev
mount -t tracefs none /sys/kernel/tracing
mount -t tmpfs none /tmp
cat > /tmp/work <<'EOF'
for n in 1 2 3 4; do
  (for m in 1 2 3 4 5 6 7 8; do ls -lR /sys/class > /dev/null; done) &
done
lazytlb decide --proof-seconds 3 > /dev/null
wait
EOF
lazytlb record -o /tmp/guest.dat -- sh /tmp/work > /tmp/log 2>&1
echo \"exit code $?\"
cat /tmp/log
lazytlb record --dry-run -o /tmp/script.txt -- sh -c 'ls -lR /sys/class > /dev/null' > /tmp/script.sh
sh /tmp/script.sh
echo \"script: exit code $?, $(grep -c ': switch_mm: ' /tmp/script.txt) switches, $(grep -c '^task ' /tmp/script.txt.tasks) tasks\"
echo \"left: $(ls /sys/kernel/tracing/instances) $(cat /sys/kernel/tracing/kprobe_events)\"
stty raw < /dev/ttyS1
gzip -1 < /tmp/guest.dat > /dev/ttyS1
sleep 1
poweroff -f
";

/// Records under each kernel.
pub(super) fn test(lazytlb: &Path, files: &Path) -> Result<()> {
    packages::need(&["qemu-system-x86_64"], &["qemu-system-x86"])?;
    let files = files.join("guest");
    fs::create_dir_all(&files)?;
    let archive = archive(lazytlb, &files)?;
    for meta in KERNELS {
        let name = package_behind(meta)?;
        let kernel = unpacked(&name, "boot/vmlinuz", &files)?;
        let recording = files.join(format!("{name}.dat"));
        let mut told = boot(&kernel, &archive, &recording)?;
        if told.contains(" events were lost") {
            // A host that is busy can stop a guest's CPU for longer than a buffer lasts; that this is told is what counts then.
            println!("    {name}: events were lost, and that was told; once more");
            told = boot(&kernel, &archive, &recording)?;
        }
        ensure!(told.contains("exit code 0"), "{name}: {told}");
        ensure!(
            told.contains("left:  \n") || told.contains("left:  \r"),
            "{name}: {told}"
        );
        let by_script = between(&told, "script: exit code 0, ", " switches");
        let tasks = between(&told, " switches, ", " tasks");
        ensure!(
            by_script.is_some_and(|switches| switches > 0) && tasks.is_some_and(|tasks| tasks > 2),
            "{name}: the script of --dry-run recorded no kprobes, or no tasks: {told}"
        );
        let with = format!("with kprobes {}", PROBES.join(", "));
        ensure!(
            told.contains(&with),
            "{name}: not every kprobe was armed: {told}"
        );
        let (events, read) = (events_told(&told)?, read_by_trace_cmd(&recording)?);
        ensure!(
            read == events && events > 1000,
            "{name}: {events} events were recorded, and trace-cmd reads {read}"
        );
        let validate = Command::new(lazytlb)
            .arg("validate")
            .arg(&recording)
            .output()?;
        succeeded(&validate).with_context(|| {
            let told = String::from_utf8_lossy(&validate.stdout);
            format!("{name}: `lazytlb validate {}`: {told}", recording.display())
        })?;
        println!(
            "    {name}: {events} events with kprobes, and trace-cmd reads as many; validated"
        );
    }
    Ok(())
}

/// Returns the number that stands between two texts.
fn between(told: &str, before: &str, after: &str) -> Option<u64> {
    let (_, rest) = told.split_once(before)?;
    rest.split_once(after)?.0.trim().parse().ok()
}

/// Returns the package that a package of packages brings.
fn package_behind(meta: &str) -> Result<String> {
    let ask = || -> Result<Option<String>> {
        let depends = ["depends", "--important", meta];
        let output = Command::new("apt-cache").args(depends).output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let mut lines = text.lines();
        Ok(lines.find_map(|line| line.trim().strip_prefix("Depends: ").map(str::to_owned)))
    };
    if let Some(name) = ask()? {
        return Ok(name);
    }
    // Lists that were never fetched know no package.
    let update = Command::new("apt-get")
        .args(["update", "--quiet"])
        .output()?;
    succeeded(&update)?;
    ask()?.with_context(|| {
        format!("`apt-cache depends {meta}` names no kernel: this takes Debian 12")
    })
}

/// Downloads a package, unless it is there, and returns the file in it whose path begins so.
fn unpacked(package: &str, begins: &str, files: &Path) -> Result<PathBuf> {
    let root = files.join(package);
    if !root.exists() {
        println!("    apt-get download {package}");
        let unfinished = files.join(format!("{package}.unfinished"));
        fs::create_dir_all(&unfinished)?;
        let download = "{ apt-get download --quiet \"$0\" || { apt-get update --quiet && apt-get download --quiet \"$0\"; }; } && dpkg-deb --extract ./*.deb . && rm ./*.deb";
        let run = Command::new("sh")
            .args(["-euc", download, package])
            .current_dir(&unfinished)
            .output()?;
        succeeded(&run).with_context(|| format!("downloading {package}"))?;
        fs::rename(&unfinished, &root)?;
    }
    let (directory, name) = begins.rsplit_once('/').unwrap_or(("", begins));
    let entries = fs::read_dir(root.join(directory))?;
    let mut found = entries.flatten().map(|entry| entry.path()).filter(|path| {
        let its_name = path.file_name().unwrap_or_default().to_string_lossy();
        its_name.starts_with(name)
    });
    found
        .next()
        .with_context(|| format!("{package} has no {begins}"))
}

/// Makes the archive that the guest's root is.
fn archive(lazytlb: &Path, files: &Path) -> Result<PathBuf> {
    let busybox = unpacked("busybox-static", "bin/busybox", files)?;
    let root = files.join("root");
    if root.exists() {
        fs::remove_dir_all(&root)?;
    }
    for directory in ["bin", "proc", "sys", "dev", "tmp"] {
        fs::create_dir_all(root.join(directory))?;
    }
    fs::copy(&busybox, root.join("bin/busybox"))?;
    for command in COMMANDS {
        symlink("busybox", root.join("bin").join(command))?;
    }
    fs::copy(lazytlb, root.join("bin/lazytlb"))?;
    let libraries = Command::new("ldd").arg(lazytlb).output()?;
    let libraries = String::from_utf8_lossy(&libraries.stdout).into_owned();
    for library in libraries
        .split_whitespace()
        .filter(|word| word.starts_with('/'))
    {
        let place = root.join(library.trim_start_matches('/'));
        fs::create_dir_all(place.parent().context("a library has a directory")?)?;
        fs::copy(library, &place)?;
    }
    fs::write(root.join("init"), INIT)?;
    fs::set_permissions(root.join("init"), fs::Permissions::from_mode(0o755))?;
    let archive = files.join("root.cpio");
    let pack = "find . | \"$0\" cpio -o -H newc > \"$1\"";
    let run = Command::new("sh")
        .args(["-euc", pack])
        .args([&busybox, &archive])
        .current_dir(&root)
        .output()?;
    succeeded(&run)?;
    Ok(archive)
}

/// Boots, and returns what the console said; the recording is unpacked to a file.
fn boot(kernel: &Path, archive: &Path, recording: &Path) -> Result<String> {
    let packed = recording.with_extension("gz");
    let mut output = run(kernel, archive, &packed)?;
    if output.status.code() == Some(TIMED_OUT) {
        // The emulated machine was seen to hang once, and why is not known: what it told says how far it came.
        let told = String::from_utf8_lossy(&output.stdout);
        println!("    no end after {PATIENCE} s; once more. It told until then:\n{told}");
        output = run(kernel, archive, &packed)?;
    }
    succeeded(&output).with_context(|| {
        let told = String::from_utf8_lossy(&output.stdout);
        format!("the guest told: {told}")
    })?;
    let unpacked = Command::new("gzip").arg("-dc").arg(&packed).output()?;
    succeeded(&unpacked)?;
    fs::write(recording, unpacked.stdout)?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Seconds after which a guest is given up; it takes some twenty.
const PATIENCE: &str = "150";
/// How `timeout` ends then.
const TIMED_OUT: i32 = 124;

/// Runs the emulator until the guest turns itself off.
fn run(kernel: &Path, archive: &Path, packed: &Path) -> Result<std::process::Output> {
    let output = Command::new("timeout")
        .args([
            PATIENCE,
            "qemu-system-x86_64",
            "-accel",
            "tcg,thread=multi",
            "-cpu",
            "max",
        ])
        .args([
            "-smp",
            "4",
            "-m",
            "1024",
            "-no-reboot",
            "-display",
            "none",
            "-monitor",
            "none",
        ])
        .arg("-kernel")
        .arg(kernel)
        .arg("-initrd")
        .arg(archive)
        .args([
            "-append",
            "console=ttyS0 panic=-1 quiet mitigations=off tsc=reliable rdinit=/init",
        ])
        .args(["-serial", "stdio", "-serial"])
        .arg(format!("file:{}", packed.display()))
        .stdin(Stdio::null())
        .output()?;
    Ok(output)
}
