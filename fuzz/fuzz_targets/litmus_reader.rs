//! Reads any bytes as a litmus test: the answer is a test or an error with a place in the file, never a
//! panic, a hang or an overflowing stack.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    match lazytlb_litmus_syntax::read_bytes(bytes) {
        Ok(test) => assert!(!test.name.is_empty(), "a test without a name was read"),
        Err(error) => {
            // Lines and columns count from 1, and a file has at most one line more than line feeds.
            let lines = 1 + bytes.iter().filter(|&&byte| byte == b'\n').count();
            assert!(
                (1..=lines).contains(&error.line),
                "{error}: the file has {lines} lines"
            );
            assert!(
                (1..=bytes.len() + 1).contains(&error.column),
                "{error}: no such column"
            );
        }
    }
});
