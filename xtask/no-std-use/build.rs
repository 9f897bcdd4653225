//! Tells the linker to leave out the C runtime, the C library and everything dynamic.

fn main() {
    // `-no-pie`, because a position-independent static program would need start-up code that
    // relocates it, and that is part of the C runtime.
    for argument in ["-nostartfiles", "-nostdlib", "-static", "-no-pie"] {
        println!("cargo:rustc-link-arg-bins={argument}");
    }
    println!("cargo:rerun-if-changed=build.rs");
}
