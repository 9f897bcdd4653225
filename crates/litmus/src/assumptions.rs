//! What a verdict hangs on: assumptions of the CPU model that it differs without.

use lazytlb_litmus_syntax::LitmusTest;
use lazytlb_model::Assumption;
use lazytlb_model::assumption;

use crate::answer::Answer;
use crate::run::{Options, RunError, run};

/// Lists the assumptions that the verdict of an answer hangs on: the test is answered once more without any, and
/// if the verdict differs, once without each.
///
/// # Errors
/// As [`run`].
pub fn hangs_on(
    test: &LitmusTest,
    options: &Options,
    answer: &Answer,
) -> Result<Vec<Assumption>, RunError> {
    let ask = |cpu_model| {
        let options = Options {
            cpu_model,
            ..options.clone()
        };
        Ok(run(test, &options)?.verdict())
    };
    assumption::hangs_on(options.cpu_model, &answer.verdict(), ask)
}
