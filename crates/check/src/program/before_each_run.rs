//! What is called before any code of a program runs.

use std::sync::Arc;

use super::Program;
use crate::routine::OperationFn;

impl Program {
    /// Calls a function before each run of an operation or a handler that the program has by now, on the thread of that run, and so many
    /// times as the checker runs code. It is for what code reads without the seam and every run finds alike, such as which of several
    /// implementations it takes from a thread-local variable: what the function does is not explored, and must not differ between calls.
    pub fn before_each_run(&mut self, call: impl Fn() + Send + Sync + 'static) {
        let call = Arc::new(call);
        let operations = self.operations.iter_mut().flatten();
        let operations = operations.map(|operation| &mut operation.run);
        let handlers = [
            &mut self.handler,
            &mut self.nmi_handler,
            &mut self.timer_handler,
        ];
        for code in operations.chain(handlers.into_iter().flatten()) {
            let (run, call) = (Arc::clone(code), Arc::clone(&call));
            let both: OperationFn = Arc::new(move |hw| {
                call();
                run(hw);
            });
            *code = both;
        }
    }
}
