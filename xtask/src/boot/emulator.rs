//! The emulators: what they need, how they are started, how long their silence may last.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::install;
use super::plan::{Boot, Emulator, Threads};

/// An emulator, ready to be started.
pub(crate) struct Emulated {
    /// The command to start; what the kernel prints comes on its standard output.
    pub(crate) command: Command,
    /// Its status after the CPU has reset itself.
    pub(crate) reset_status: i32,
    /// How long it may be silent before that is a hang, in the host's time.
    pub(crate) patience: Duration,
}

/// Installs an emulator if it is missing.
///
/// # Errors
/// As [`install::ensure`].
pub(crate) fn prepare(emulator: Emulator) -> Result<()> {
    match emulator {
        Emulator::Qemu => install::ensure(&["qemu-system-x86_64"], &["qemu-system-x86"]),
        Emulator::Bochs => install::ensure(
            &["bochs", "script", "grub-mkrescue", "xorriso", "mformat"],
            &[
                "bochs",
                "bochs-term",
                "bochsbios",
                "vgabios",
                "grub-common",
                "grub-pc-bin",
                "xorriso",
                "mtools",
            ],
        ),
    }
}

/// Prepares a boot of `image`; `scratch` is an empty folder for it.
///
/// # Errors
/// If a file cannot be written, or GRUB cannot make its disc.
pub(crate) fn emulated(boot: &Boot, image: &Path, scratch: &Path) -> Result<Emulated> {
    match boot.emulator {
        Emulator::Qemu => Ok(qemu(boot, image)),
        Emulator::Bochs => bochs(boot, image, scratch),
    }
}

/// QEMU's time is the host's, so 20 s of it and some slack.
const QEMU_PATIENCE: Duration = Duration::from_secs(25);
/// A second of Bochs' own takes some 4 s of the host's with two CPUs, and more with more: silence may be long.
const BOCHS_PATIENCE: Duration = Duration::from_secs(180);

fn qemu(boot: &Boot, image: &Path) -> Emulated {
    let threads = match boot.threads {
        Threads::Multi => "multi",
        Threads::Single => "single",
    };
    let mut command = Command::new("qemu-system-x86_64");
    command
        .args(["-accel", &format!("tcg,thread={threads}")])
        .args(["-machine", "pc", "-cpu", "max", "-m", "256"])
        .args([
            "-smp",
            &format!("{0},sockets=1,cores={0},threads=1", boot.cpus),
        ])
        .arg("-kernel")
        .arg(image)
        .args(["-append", &boot.kernel_line()])
        .args([
            "-display", "none", "-serial", "stdio", "-monitor", "none", "-net", "none",
        ])
        .args([
            "-no-reboot",
            "-device",
            "isa-debug-exit,iobase=0xf4,iosize=4",
        ]);
    Emulated {
        command,
        reset_status: 0,
        patience: QEMU_PATIENCE,
    }
}

/// Bochs boots from a disc that GRUB makes: it cannot load a kernel by itself.
fn bochs(boot: &Boot, image: &Path, scratch: &Path) -> Result<Emulated> {
    let tree = scratch.join("disc");
    let grub = tree.join("boot/grub");
    fs::create_dir_all(&grub).with_context(|| format!("cannot make {}", grub.display()))?;
    fs::copy(image, tree.join("boot/testkernel")).context("cannot copy the kernel's image")?;
    let menu = format!(
        "set timeout=0\nset default=0\nterminal_output console\nmenuentry t {{\n  multiboot /boot/testkernel {}\n  boot\n}}\n",
        boot.kernel_line()
    );
    fs::write(grub.join("grub.cfg"), menu).context("cannot write GRUB's menu")?;
    let disc = scratch.join("disc.iso");
    let output = Command::new("grub-mkrescue")
        .arg("-o")
        .arg(&disc)
        .arg(&tree)
        .output();
    let output = output.context("cannot start grub-mkrescue")?;
    if !output.status.success() {
        bail!(
            "grub-mkrescue failed: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    let settings = scratch.join("bochsrc");
    fs::write(
        &settings,
        bochs_settings(boot, &disc, &scratch.join("bochs.log")),
    )
    .context("cannot write Bochs' settings")?;
    // Debian's build has the debugger on: it waits for `c` before it runs.
    let debugger = scratch.join("debugger.rc");
    fs::write(&debugger, "c\nq\n").context("cannot write the debugger's commands")?;
    // Its one display without a window wants a terminal, which `script` plays; the serial port goes to
    // descriptor 3, past all that, and so to our standard output.
    let bochs = format!(
        "bochs -q -f {} -rc {}",
        settings.display(),
        debugger.display()
    );
    let mut command = Command::new("sh");
    command
        .args([
            "-c",
            "exec script -qfec \"$0\" /dev/null 3>&1 >/dev/null 2>&1",
        ])
        .arg(bochs)
        .env("TERM", "xterm");
    Ok(Emulated {
        command,
        reset_status: 1,
        patience: BOCHS_PATIENCE,
    })
}

fn bochs_settings(boot: &Boot, disc: &Path, log: &Path) -> String {
    let (disc, log): (PathBuf, PathBuf) = (disc.into(), log.into());
    format!(
        "cpu: model=corei7_skylake_x, count={}, ips=50000000, quantum=16, reset_on_triple_fault=0\n\
         memory: guest=256, host=256\n\
         romimage: file=/usr/share/bochs/BIOS-bochs-latest\n\
         vgaromimage: file=/usr/share/bochs/VGABIOS-lgpl-latest\n\
         display_library: term\n\
         ata0-master: type=cdrom, path=\"{}\", status=inserted\n\
         boot: cdrom\n\
         com1: enabled=1, mode=file, dev=/proc/self/fd/3\n\
         clock: sync=none\n\
         log: {}\n\
         panic: action=fatal\nerror: action=report\ninfo: action=ignore\ndebug: action=ignore\n",
        boot.cpus,
        disc.display(),
        log.display()
    )
}
