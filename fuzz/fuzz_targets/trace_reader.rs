//! Reads any bytes as a recording, trace.dat or text, compressed or not: the answer is operations or an error that names the
//! file, never a panic, a hang or much memory.
#![no_main]

use libfuzzer_sys::fuzz_target;

/// Refuses, and so aborts, where the reader would hold more than any may: libFuzzer's own limit of a single allocation takes a sanitizer.
#[global_allocator]
static MEMORY: cap::Cap<std::alloc::System> = cap::Cap::new(std::alloc::System, 256 << 20);

fuzz_target!(|bytes: &[u8]| {
    let mut reader = match lazytlb_trace::TraceReader::new(bytes, "input") {
        Ok(reader) => reader,
        Err(error) => {
            assert!(error.to_string().contains("input"), "{error}");
            return;
        }
    };
    let mut before = 0;
    loop {
        match reader.next_operation() {
            Ok(Some(operation)) => {
                assert!(operation.time_ns >= before, "time runs backwards");
                before = operation.time_ns;
            }
            Ok(None) => break,
            Err(error) => {
                assert!(error.to_string().contains("input"), "{error}");
                break;
            }
        }
    }
});
