//! Tests of the suite with words lost, doubled, swapped or taken from another test: whatever they mean by
//! then, running them ends in an answer or an error, never in a panic.
#![allow(clippy::unwrap_used)] // A test that fails is to panic.

mod suite_files;

use std::sync::LazyLock;

use lazytlb_litmus::{Options, read, run};
use lazytlb_model::CpuModel;
use proptest::prelude::*;
use proptest::sample::Index;
use suite_files::suite;

/// What happens to a word: its place, and another word's.
#[derive(Clone, Debug)]
enum Garble {
    Lose(Index),
    Double(Index),
    Swap(Index, Index),
    Replace(Index, Index),
}

fn garble() -> impl Strategy<Value = Garble> {
    let two = any::<(Index, Index)>();
    prop_oneof![
        any::<Index>().prop_map(Garble::Lose),
        any::<Index>().prop_map(Garble::Double),
        two.clone()
            .prop_map(|(one, other)| Garble::Swap(one, other)),
        two.prop_map(|(one, other)| Garble::Replace(one, other)),
    ]
}

static SUITE: LazyLock<Vec<String>> = LazyLock::new(|| {
    let texts: Vec<String> = suite()
        .iter()
        .filter_map(|file| std::fs::read_to_string(file).ok())
        .collect();
    assert!(texts.len() > 200, "the suite is there");
    texts
});

/// Splits a text into words, numbers and single marks; put together they are the text again.
fn words(text: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut in_word = false;
    for character in text.chars() {
        let is_word = character.is_alphanumeric() || character == '_';
        match words.last_mut().filter(|_| is_word && in_word) {
            Some(word) => word.push(character),
            None => words.push(character.into()),
        }
        in_word = is_word;
    }
    words
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_garbled_test_ends_in_an_answer_or_an_error(
        which in any::<Index>(),
        model in any::<Index>(),
        garbles in proptest::collection::vec(garble(), 1..4),
    ) {
        let mut words = words(&SUITE[which.index(SUITE.len())]);
        for garble in garbles {
            let at = |index: &Index| index.index(words.len());
            match garble {
                Garble::Lose(place) => {
                    let place = at(&place);
                    words.remove(place);
                }
                Garble::Double(place) => {
                    let place = at(&place);
                    words.insert(place, words[place].clone());
                }
                Garble::Swap(one, other) => {
                    let (one, other) = (at(&one), at(&other));
                    words.swap(one, other);
                }
                Garble::Replace(one, other) => {
                    let (one, other) = (at(&one), at(&other));
                    words[one] = words[other].clone();
                }
            }
        }
        let text = words.concat();
        let options = Options {
            cpu_model: *model.get(&CpuModel::ALL),
            max_states: 3000,
            ..Options::default()
        };
        if let Ok(test) = read(&text) {
            let told = match run(&test, &options) {
                Ok(answer) => answer.to_string(),
                Err(error) => error.to_string(),
            };
            prop_assert!(!told.is_empty());
        }
    }
}
