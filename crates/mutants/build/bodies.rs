//! Changes that stay within the body of one function: all of them are compiled in one copy of the protocol, in which a number chooses
//! whose body runs.

use std::collections::BTreeMap;
use std::ops::Range;

use syn::spanned::Spanned;
use syn::visit::{self, Visit};

use super::sources::Source;

/// The functions of a file, by where their bodies lie.
pub(super) struct Functions(Vec<Range<usize>>);

/// A body that is changed.
pub(super) struct Changed {
    /// Where the body lies that it stands for, braces included.
    pub(super) place: Range<usize>,
    /// The changed one.
    pub(super) text: String,
}

impl Functions {
    /// Finds them.
    ///
    /// # Errors
    /// If the source is not Rust.
    pub(super) fn of(source: &Source) -> Result<Functions, String> {
        let tree = syn::parse_file(&source.text);
        let tree = tree.map_err(|error| format!("{}.rs: {error}", source.module))?;
        let mut finder = Finder(Vec::new());
        finder.visit_file(&tree);
        Ok(Functions(finder.0))
    }

    /// Returns the body that a change of the file stays in; `None` if it does not stay in one that can be chosen as the program runs.
    pub(super) fn changed(&self, before: &str, after: &str) -> Option<Changed> {
        let alike = |pairs: &mut dyn Iterator<Item = (u8, u8)>| {
            pairs.take_while(|(left, right)| left == right).count()
        };
        let start = alike(&mut before.bytes().zip(after.bytes()));
        let (left, right) = (&before[start..], &after[start..]);
        let end = alike(&mut left.bytes().rev().zip(right.bytes().rev()));
        let mut bodies = self.0.iter();
        let body = bodies.find(|body| body.start < start && before.len() - end < body.end)?;
        let text = after[body.start..after.len() - (before.len() - body.end)].to_owned();
        Some(Changed {
            place: body.clone(),
            text,
        })
    }
}

/// Collects bodies, of functions that stand in no other.
struct Finder(Vec<Range<usize>>);

impl Finder {
    fn add(&mut self, signature: &syn::Signature, body: &syn::Block) {
        // Constants are computed before anything runs; and what `impl` stands for is one type, whichever body runs.
        let mut opaque = Opaque(false);
        opaque.visit_return_type(&signature.output);
        if signature.constness.is_none() && !opaque.0 {
            self.0.push(body.span().byte_range());
        }
    }
}

impl<'ast> Visit<'ast> for Finder {
    fn visit_item_fn(&mut self, function: &'ast syn::ItemFn) {
        self.add(&function.sig, &function.block);
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        self.add(&function.sig, &function.block);
    }

    fn visit_trait_item_fn(&mut self, function: &'ast syn::TraitItemFn) {
        if let Some(body) = &function.default {
            self.add(&function.sig, body);
        }
    }
}

/// Whether a type has an `impl`.
struct Opaque(bool);

impl<'ast> Visit<'ast> for Opaque {
    fn visit_type_impl_trait(&mut self, it: &'ast syn::TypeImplTrait) {
        self.0 = true;
        visit::visit_type_impl_trait(self, it);
    }
}

/// The bodies of a file that can be chosen, by where the body lies that they stand for: each with its number and the name of the file
/// that holds it.
#[derive(Default)]
pub(super) struct Choices(BTreeMap<usize, Choice>);

struct Choice {
    end: usize,
    bodies: Vec<(u32, String)>,
}

impl Choices {
    pub(super) fn add(&mut self, place: Range<usize>, number: u32, name: &str) {
        let choice = self.0.entry(place.start).or_insert_with(|| Choice {
            end: place.end,
            bodies: Vec::new(),
        });
        choice.bodies.push((number, name.to_owned()));
    }

    /// Returns the file's text, in which the number that is chosen says which body runs: by the macros of `lib.rs`.
    pub(super) fn write_into(&self, text: &str) -> String {
        let mut written = text.to_owned();
        for (&start, Choice { end, bodies }) in self.0.iter().rev() {
            let arms = bodies.iter().map(|(number, name)| {
                let body = format!("include!(concat!(env!(\"OUT_DIR\"), \"/{name}.rs\"))");
                format!("{number} => apart!({body}),\n")
            });
            let arms: String = arms.collect();
            let first = &text[start..*end];
            let body = format!("{{ match chosen!() {{\n{arms}_ => {first} }} }}");
            written.replace_range(start..*end, &body);
        }
        written
    }
}
