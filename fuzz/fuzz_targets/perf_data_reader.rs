//! Reads any bytes as a perf.data file, also such that the magic is missing: the answer is events or an error that names the file,
//! never a panic, a hang or much memory.
#![no_main]

use libfuzzer_sys::fuzz_target;

/// Refuses, and so aborts, where the reader would hold more than any may: libFuzzer's own limit of a single allocation takes a sanitizer.
#[global_allocator]
static MEMORY: cap::Cap<std::alloc::System> = cap::Cap::new(std::alloc::System, 256 << 20);

fuzz_target!(|bytes: &[u8]| {
    const MAGIC: &[u8] = b"PERFILE2";
    let mut file = MAGIC.to_vec();
    file.extend(bytes.strip_prefix(MAGIC).unwrap_or(bytes));
    let mut reader = match lazytlb_trace::TraceReader::new(file.as_slice(), "input") {
        Ok(reader) => reader,
        Err(error) => {
            assert!(error.to_string().contains("input"), "{error}");
            return;
        }
    };
    let mut before = 0;
    loop {
        match reader.next_step() {
            Ok(Some(lazytlb_trace::Step::Event(event))) => {
                assert!(event.time_ns >= before, "time runs backwards");
                before = event.time_ns;
            }
            Ok(Some(lazytlb_trace::Step::Operation(_))) => {}
            Ok(None) => break,
            Err(error) => {
                assert!(error.to_string().contains("input"), "{error}");
                break;
            }
        }
    }
});
