//! Bare integers for indices in signatures.
//!
//! In the model and inside the checker everything has a number: CPUs, frames, places in memory, versions,
//! cached entries, places in code. A number that is a type of its own cannot be taken for another. What
//! may be an integer is a *quantity*: a value that the checked code computes with, a count, a depth. The
//! quantities are listed by the names of their parameters; another name is a finding.

use syn::visit::{self, Visit};

use super::finding::{Check, Finding};
use super::length::is_test;
use super::source::Source;

/// Where every signature is looked at.
const MODEL: &str = "crates/model/src";
/// Where signatures that are not public are looked at: programs written against the public ones count
/// CPUs in integers.
const CHECKER: &str = "crates/check/src";
/// The files of the types themselves: where integers become indices.
const TYPES: [&str; 1] = ["crates/model/src/index.rs"];
/// Parameters that are quantities, not indices, and functions that return some.
const QUANTITIES: [&str; 0] = [];

/// Finds bare integers.
pub(super) fn check(sources: &[Source]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in sources {
        let public_too = source.path.starts_with(MODEL);
        let is_looked_at = public_too || source.path.starts_with(CHECKER);
        if !is_looked_at || TYPES.iter().any(|file| source.path.ends_with(file)) {
            continue;
        }
        let mut signatures = Signatures {
            source,
            public_too,
            findings: &mut findings,
        };
        signatures.visit_file(&source.tree);
    }
    findings
}

struct Signatures<'a> {
    source: &'a Source,
    public_too: bool,
    findings: &'a mut Vec<Finding>,
}

impl Signatures<'_> {
    fn look_at(&mut self, visibility: Option<&syn::Visibility>, signature: &syn::Signature) {
        if matches!(visibility, Some(syn::Visibility::Public(_))) && !self.public_too {
            return;
        }
        for input in &signature.inputs {
            if let syn::FnArg::Typed(parameter) = input
                && has_integer(&parameter.ty)
            {
                let names = names_in(&parameter.pat);
                if names
                    .iter()
                    .any(|name| !QUANTITIES.contains(&name.as_str()))
                {
                    self.found(signature, &names.join(", "));
                }
            }
        }
        if let syn::ReturnType::Type(_, returned) = &signature.output
            && has_integer(returned)
            && !QUANTITIES.contains(&signature.ident.to_string().as_str())
        {
            self.found(signature, "what it returns");
        }
    }

    fn found(&mut self, signature: &syn::Signature, what: &str) {
        let name = signature.ident.to_string();
        self.findings.push(Finding {
            check: Check::BareIndex,
            file: self.source.path.clone(),
            line: signature.ident.span().start().line,
            complaint: format!(
                "`{name}`: {what} is a bare integer: give it a type, or list it among the QUANTITIES"
            ),
            name,
        });
    }
}

impl<'ast> Visit<'ast> for Signatures<'_> {
    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        if !is_test(&item.attrs) {
            self.look_at(Some(&item.vis), &item.sig);
            visit::visit_item_fn(self, item);
        }
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.look_at(Some(&item.vis), &item.sig);
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        // A trait's signatures are the trait's; its conversions are where integers come in.
        if item.trait_.is_none() {
            visit::visit_item_impl(self, item);
        }
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        self.look_at(None, &item.sig);
        visit::visit_trait_item_fn(self, item);
    }

    fn visit_item_trait(&mut self, item: &'ast syn::ItemTrait) {
        if !matches!(item.vis, syn::Visibility::Public(_)) || self.public_too {
            visit::visit_item_trait(self, item);
        }
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if !is_test(&item.attrs) {
            visit::visit_item_mod(self, item);
        }
    }
}

/// Says whether an integer stands in a type; bytes in a row are data, and functions' types are theirs.
fn has_integer(of: &syn::Type) -> bool {
    match of {
        syn::Type::Path(path) => path.path.segments.iter().any(|segment| {
            let inside = match &segment.arguments {
                syn::PathArguments::AngleBracketed(arguments) => {
                    arguments.args.iter().any(|argument| match argument {
                        syn::GenericArgument::Type(inner) => {
                            has_integer(inner) && !is_bytes(segment, inner)
                        }
                        _ => false,
                    })
                }
                _ => false,
            };
            inside || is_integer(&segment.ident)
        }),
        syn::Type::Reference(reference) => has_integer(&reference.elem),
        syn::Type::Tuple(tuple) => tuple.elems.iter().any(has_integer),
        syn::Type::Slice(slice) => !is_byte(&slice.elem) && has_integer(&slice.elem),
        syn::Type::Array(array) => !is_byte(&array.elem) && has_integer(&array.elem),
        syn::Type::Group(group) => has_integer(&group.elem),
        syn::Type::Paren(paren) => has_integer(&paren.elem),
        _ => false,
    }
}

fn is_integer(word: &syn::Ident) -> bool {
    [
        "u8", "u16", "u32", "u64", "u128", "usize", "i8", "i16", "i32", "i64", "isize",
    ]
    .iter()
    .any(|integer| word == integer)
}

fn is_byte(of: &syn::Type) -> bool {
    matches!(of, syn::Type::Path(path) if path.path.is_ident("u8"))
}

/// Says whether a type is `Vec<u8>`.
fn is_bytes(segment: &syn::PathSegment, inner: &syn::Type) -> bool {
    segment.ident == "Vec" && is_byte(inner)
}

/// Returns the names that a pattern binds.
fn names_in(pattern: &syn::Pat) -> Vec<String> {
    struct Names(Vec<String>);
    impl<'ast> Visit<'ast> for Names {
        fn visit_pat_ident(&mut self, name: &'ast syn::PatIdent) {
            self.0.push(name.ident.to_string());
        }
    }
    let mut names = Names(Vec::new());
    names.visit_pat(pattern);
    names.0
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn found(path: &str, text: &str) -> Vec<String> {
        let source = Source::parse(Path::new(path), text).unwrap();
        let findings = check(&[source]).into_iter();
        findings.map(|finding| finding.name).collect()
    }

    #[test]
    fn an_integer_for_an_index_is_found_wherever_it_hides() {
        let text = "fn a(cpu: usize) {}\nfn b(set: Option<&u64>) {}\nfn c() -> (Cpu, u8) {}\n\
                    fn d(state: &mut [u8]) -> Vec<u8> {}\nfn e(cpu: Cpu) -> Option<Frame> {}\n\
                    pub fn f(frame: u8) {}\n";
        assert_eq!(found("crates/model/src/a.rs", text), ["a", "b", "c", "f"]);
        assert_eq!(found("crates/check/src/a.rs", text), ["a", "b", "c"]);
        assert!(found("crates/price/src/a.rs", text).is_empty());
    }
}
