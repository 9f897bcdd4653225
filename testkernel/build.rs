//! Tells the linker to leave out the C runtime, the C library and everything dynamic, and to lay the
//! image out as `linker.ld` says: stable Rust for the host's target then makes a kernel.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=linker.ld");
    let script = format!("-T{}/linker.ld", env!("CARGO_MANIFEST_DIR"));
    let arguments = [
        "-nostartfiles",
        "-nostdlib",
        "-static",
        "-no-pie",
        "-Wl,--build-id=none",
        "-Wl,-z,max-page-size=4096",
        "-Wl,-z,norelro",
        &script,
    ];
    for argument in arguments {
        println!("cargo:rustc-link-arg-bins={argument}");
    }
}
