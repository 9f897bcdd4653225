//! What a decision is made of: a policy's proofs beside its price, and the choice among those that are safe.

use lazytlb::Quirks;
use lazytlb_check::{Finding, Verdict};
use lazytlb_price::{Costs, PcidsOn, Replayed, Standing};
use lazytlb_trace::IdleStates;

use crate::arguments::Decide;
use crate::by_recording::Choices;
use crate::choice::Choice;
use crate::pricing::Yardstick;
use crate::proofs::{self, Proof, Question};
use crate::slots::Slots;
use crate::subject::Subject;

/// A policy's proofs and price, without PCIDs or with them.
pub(crate) struct Row<'a> {
    pub(crate) replayed: &'a Replayed,
    pub(crate) proofs: Vec<&'a Proof<'a>>,
    /// What tells best why the policy is unsafe, and what it is a verdict on.
    pub(crate) story: Option<(Subject, Verdict)>,
}

impl<'a> Row<'a> {
    /// Puts beside each price the proofs of the same policy, on CPUs that have PCIDs as those of the replay.
    ///
    /// # Errors
    /// Those of checking.
    pub(crate) fn all(
        options: &Decide,
        replayed: &'a [Replayed],
        proofs: &'a [Proof<'a>],
    ) -> anyhow::Result<Vec<Row<'a>>> {
        let rows = replayed.iter().map(|replayed| {
            let own = proofs.iter().filter(|proof| {
                proof.policy == replayed.policy && proof.question.pcids() == replayed.pcids
            });
            Row::new(options, replayed, own.collect())
        });
        rows.collect()
    }

    fn new(
        options: &Decide,
        replayed: &'a Replayed,
        proofs: Vec<&'a Proof<'a>>,
    ) -> anyhow::Result<Row<'a>> {
        let violations = proofs
            .iter()
            .filter(|proof| proof.verdict.violation().is_some());
        let shortest = violations.min_by_key(|proof| proof.verdict.effort.depth);
        let story = match shortest {
            None => None,
            Some(shortest) => Some(match proofs::story(options, shortest)? {
                Some(told) => told,
                None => (shortest.question.subject.clone(), shortest.verdict.clone()),
            }),
        };
        Ok(Row {
            replayed,
            proofs,
            story,
        })
    }

    /// Puts the same proofs beside another price of the policy: a verdict hangs on no recording.
    pub(crate) fn with_price(&self, replayed: &'a Replayed) -> Row<'a> {
        Row {
            replayed,
            proofs: self.proofs.clone(),
            story: self.story.clone(),
        }
    }

    /// The verdict on the policy: the shortest story if it is unsafe, else the worst of the proofs.
    pub(crate) fn verdict(&self) -> &Verdict {
        match &self.story {
            Some((_, verdict)) => verdict,
            None => proofs::worst(self.verdicts()).expect("something is asked of every policy"),
        }
    }

    /// The verdicts of all its proofs.
    pub(crate) fn verdicts(&self) -> impl Iterator<Item = &Verdict> {
        self.proofs.iter().map(|proof| &proof.verdict)
    }

    /// The verdicts on a question: one for each CPU model.
    pub(crate) fn verdicts_on(&self, question: &Question) -> Vec<&Verdict> {
        let on = self
            .proofs
            .iter()
            .filter(|proof| proof.question.number == question.number);
        on.map(|proof| &proof.verdict).collect()
    }

    /// Says whether some of these questions, which are about CPUs of one kind, are asked of the policy on such CPUs.
    pub(crate) fn is_asked(&self, questions: &[&Question]) -> bool {
        let (policy, pcids) = (self.replayed.policy, self.replayed.pcids);
        let mut questions = questions.iter();
        questions.any(|question| question.is_asked_of(policy) && question.pcids() == pcids)
    }

    /// The slots for PCIDs of what [`Row::verdict`] is on.
    pub(crate) fn slots(&self) -> Option<Slots> {
        match &self.story {
            Some((subject, _)) => subject.slots,
            None => {
                let of_the_verdict = self
                    .proofs
                    .iter()
                    .find(|proof| std::ptr::eq(&proof.verdict, self.verdict()));
                of_the_verdict.and_then(|proof| proof.question.subject.slots)
            }
        }
    }

    /// The policy's name, with `with PCIDs` if they are on.
    pub(crate) fn name(&self) -> String {
        match self.replayed.pcids {
            PcidsOn::No => self.replayed.policy.to_string(),
            PcidsOn::Yes => format!("{} with PCIDs", self.replayed.policy),
        }
    }
}

/// Which safe policy can lose least on CPUs of one kind. PCIDs are no choice between rows: a machine has them or not.
pub(crate) struct Answer<'a> {
    pub(crate) pcids: PcidsOn,
    /// The choice among the safe policies; `None` if none is proved safe.
    pub(crate) choice: Option<Choice<'a>>,
    /// Whether it is known of each policy if it is safe.
    pub(crate) is_complete: bool,
}

impl<'a> Answer<'a> {
    /// Answers for each kind of CPU that there is a row of.
    pub(crate) fn all(
        rows: &[Row<'_>],
        costs: &'a Costs,
        yardstick: Yardstick,
        models: &'a [Quirks],
    ) -> Vec<Answer<'a>> {
        let kinds = PcidsOn::ALL.into_iter().filter_map(|pcids| {
            let of_kind = |row: &&Row<'_>| row.replayed.pcids == pcids;
            let rows: Vec<&Row<'_>> = rows.iter().filter(of_kind).collect();
            let safe = rows.iter().filter(|row| row.verdict().is_safe());
            let safe: Vec<Replayed> = safe.map(|row| *row.replayed).collect();
            let is_known =
                |row: &&Row<'_>| !matches!(row.verdict().finding, Finding::Incomplete { .. });
            (!rows.is_empty()).then(|| Answer {
                pcids,
                choice: Choice::among(safe, costs, yardstick, models),
                is_complete: rows.iter().all(is_known),
            })
        });
        kinds.collect()
    }

    /// Tells the answer.
    pub(crate) fn lines(&self) -> Vec<String> {
        let machine = match self.pcids {
            PcidsOn::No => "Without PCIDs",
            PcidsOn::Yes => "With PCIDs",
        };
        match (&self.choice, self.is_complete) {
            (None, _) => vec![format!("{machine}: no policy is proved safe here.")],
            (Some(choice), true) => choice.lines(&format!("{machine}, of the safe policies")),
            (Some(choice), false) => choice.lines(&format!(
                "{machine}, of the policies that are proved safe, others being incomplete"
            )),
        }
    }
}

/// What is decided on one recording, or on all together.
pub(crate) struct Outcome<'a> {
    /// The file's name; `None`: all together.
    pub(crate) recording: Option<&'a str>,
    /// The events of it, or of all.
    pub(crate) events: u64,
    /// The machine's idle states; `None` if they are not known, or of all recordings together.
    pub(crate) idle_states: Option<&'a IdleStates>,
    pub(crate) rows: Vec<Row<'a>>,
    pub(crate) answers: Vec<Answer<'a>>,
    pub(crate) yardstick: Yardstick,
}

impl<'a> Outcome<'a> {
    /// What each policy did.
    pub(crate) fn replayed(&self) -> impl Iterator<Item = &Replayed> {
        self.rows.iter().map(|row| row.replayed)
    }

    /// The choices that there are: none where no policy is proved safe.
    pub(crate) fn choices(&self) -> Choices<'_, 'a> {
        let answers = self.answers.iter();
        let choices = answers.filter_map(|one| Some((one.pcids, one.choice.as_ref()?)));
        choices.collect()
    }
}

/// How a policy stands among the safe ones with PCIDs as its own, if it is one of them: in words, and in numbers.
pub(crate) fn standing<'s>(
    answers: &'s [Answer<'_>],
    row: &Row<'_>,
) -> Option<(&'static str, &'s Standing)> {
    let mut own = answers.iter();
    let own = own.find(|answer| answer.pcids == row.replayed.pcids)?;
    let (choice, policy) = (own.choice.as_ref()?, row.replayed.policy);
    let standing = choice.decision.standing(policy)?;
    Some((choice.mark(policy), standing))
}
