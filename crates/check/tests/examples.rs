//! The examples do what they say: each asserts its own claims.

#[path = "../examples/batched_flush.rs"]
mod batched_flush;
#[path = "../examples/kernel_page.rs"]
mod kernel_page;

#[test]
fn a_batched_flush_is_returned_by_another_cpu() {
    batched_flush::main();
}

#[test]
fn a_kernel_page_is_flushed_under_every_root() {
    kernel_page::main();
}
