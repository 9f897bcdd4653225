//! The examples do what they say: each asserts its own claims.

use lazytlb_check::CheckError;

#[path = "../examples/any_length.rs"]
#[allow(dead_code)] // Its `main`.
mod any_length;
#[path = "../examples/batched_flush.rs"]
mod batched_flush;
#[path = "../examples/kernel_page.rs"]
mod kernel_page;
#[path = "../examples/small_kernel/main.rs"]
mod small_kernel;
#[path = "../examples/stranger/main.rs"]
mod stranger;

#[test]
fn a_batched_flush_is_returned_by_another_cpu() {
    batched_flush::main();
}

#[test]
fn a_kernel_page_is_flushed_under_every_root() {
    kernel_page::main();
}

#[test]
fn a_small_kernel_is_safe_under_every_safe_policy_and_whatever_it_forgets_is_found() {
    small_kernel::main();
}

#[test]
fn a_strangers_protocol_that_is_generic_over_the_seam_is_safe_and_each_omission_is_found() {
    stranger::main();
}

#[test]
fn a_protocol_that_only_compares_generations_is_proved_and_one_that_subtracts_is_refused() {
    let compares = any_length::check(|seen, now| seen != now);
    assert!(
        matches!(&compares, Ok(verdict) if verdict.is_safe()),
        "{compares:?}"
    );
    let subtracts = any_length::check(|seen, now| (1..40).contains(&(now - seen)));
    let Err(CheckError::FalseClaim(how)) = subtracts else {
        panic!("{subtracts:?}")
    };
    assert!(how.contains("CPU 1 in \"work\""), "{how}");
    let never = any_length::check(|_, _| false);
    assert!(
        matches!(&never, Ok(verdict) if verdict.violation().is_some()),
        "{never:?}"
    );
}
