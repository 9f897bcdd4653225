//! Bare integers for indices in signatures.
//!
//! In the model and inside the checker everything has a number: CPUs, frames, places in memory, versions,
//! cached entries, places in code. A number that is a type of its own cannot be taken for another. So in a
//! signature there, an integer is a finding if it is narrower than a word of memory, whatever its name (but
//! a count, a length, a depth may be one: [`QUANTITIES`]), or if its name is that of an index
//! ([`INDICES`]), however wide it is. A type's own conversions are where integers come in: the
//! functions of a struct that wraps one may take and return it.

use std::collections::BTreeSet;

use syn::visit::{self, Visit};

use super::finding::{Check, Finding};
use super::length::is_test;
use super::source::Source;

/// Where every signature is looked at.
const MODEL: &str = "crates/model/src";
/// Where signatures that are not public are looked at: programs written against the public ones count
/// CPUs in integers.
const CHECKER: &str = "crates/check/src";
/// What an index is called.
const INDICES: [&str; 16] = [
    "cpu",
    "entry",
    "frame",
    "level",
    "location",
    "node",
    "number",
    "owner",
    "root",
    "set",
    "slot",
    "table",
    "target",
    "targets",
    "translation",
    "version",
];
/// Parameters, and functions that return some, that are quantities: how many, how long, how deep.
const QUANTITIES: [&str; 13] = [
    "older",
    "atomics",
    "count",
    "cpus",
    "depth",
    "frames",
    "len",
    "most",
    "own_cells",
    "shift",
    "used",
    "user_spaces",
    "width",
];
/// What the names of other quantities end in: their units.
const UNITS: [&str; 4] = ["_bytes", "_depth", "_len", "_slots"];
/// What the seam and the instructions have as an integer: an entry's index in its table, and a PCID before
/// it is a tag.
const OPERANDS: [&str; 4] = ["index", "pcid", "root_index", "table_index"];

/// Finds bare integers.
pub(super) fn check(sources: &[Source]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in sources {
        let public_too = source.path.starts_with(MODEL);
        let is_looked_at = public_too || source.path.starts_with(CHECKER);
        if !is_looked_at {
            continue;
        }
        let mut signatures = Signatures {
            source,
            public_too,
            wrappers: wrappers_in(&source.tree),
            in_wrapper: false,
            findings: &mut findings,
        };
        signatures.visit_file(&source.tree);
    }
    findings
}

struct Signatures<'a> {
    source: &'a Source,
    public_too: bool,
    /// Structs of this file that wrap an integer.
    wrappers: BTreeSet<String>,
    /// Whether a function of one of them is being read.
    in_wrapper: bool,
    findings: &'a mut Vec<Finding>,
}

impl Signatures<'_> {
    fn look_at(&mut self, visibility: Option<&syn::Visibility>, signature: &syn::Signature) {
        if matches!(visibility, Some(syn::Visibility::Public(_))) && !self.public_too {
            return;
        }
        if self.in_wrapper {
            return;
        }
        for input in &signature.inputs {
            if let syn::FnArg::Typed(parameter) = input {
                let names = names_in(&parameter.pat);
                let is_index = |name: &String| is_index(name, &parameter.ty);
                if names.iter().any(is_index) || names.is_empty() && is_index(&String::new()) {
                    self.found(signature, &names.join(", "));
                }
            }
        }
        if let syn::ReturnType::Type(_, returned) = &signature.output
            && is_index(&signature.ident.to_string(), returned)
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
            complaint: format!("`{name}`: {what} is a bare integer: give it a type of its own"),
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
            let of_wrapper = matches!(&*item.self_ty, syn::Type::Path(path)
                if path.path.get_ident().is_some_and(|name| self.wrappers.contains(&name.to_string())));
            let before = std::mem::replace(&mut self.in_wrapper, of_wrapper);
            visit::visit_item_impl(self, item);
            self.in_wrapper = before;
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

/// Says whether something of this name and type is an index in a bare integer.
fn is_index(name: &str, of: &syn::Type) -> bool {
    let is_quantity = QUANTITIES.contains(&name) || UNITS.iter().any(|unit| name.ends_with(unit));
    if is_quantity || OPERANDS.contains(&name) {
        return false;
    }
    let narrow = ["u8", "u16", "u32", "usize", "i8", "i16", "i32", "isize"];
    let wide = ["u64", "i64", "u128", "i128"];
    has_integer(of, &narrow) || INDICES.contains(&name) && has_integer(of, &wide)
}

/// Returns the structs of a file that wrap an integer, and nothing else.
fn wrappers_in(tree: &syn::File) -> BTreeSet<String> {
    let structs = tree.items.iter().filter_map(|item| match item {
        syn::Item::Struct(item) => Some(item),
        _ => None,
    });
    let wrappers = structs.filter(|item| {
        matches!(&item.fields, syn::Fields::Unnamed(fields)
            if fields.unnamed.len() == 1 && fields.unnamed.iter().all(|field| is_number(&field.ty)))
    });
    wrappers.map(|item| item.ident.to_string()).collect()
}

/// Says whether a type is an integer, as such or known not to be 0.
fn is_number(of: &syn::Type) -> bool {
    let syn::Type::Path(path) = of else {
        return false;
    };
    let is_nonzero = |word: &syn::Ident| word.to_string().starts_with("NonZero");
    has_integer(of, &["u8", "u16", "u32", "u64", "usize"])
        || path
            .path
            .segments
            .iter()
            .any(|segment| is_nonzero(&segment.ident))
}

/// Says whether one of these integers stands in a type; bytes in a row are data, and functions' types are
/// theirs.
fn has_integer(of: &syn::Type, integers: &[&str]) -> bool {
    match of {
        syn::Type::Path(path) => path.path.segments.iter().any(|segment| {
            let inside = match &segment.arguments {
                syn::PathArguments::AngleBracketed(arguments) => {
                    arguments.args.iter().any(|argument| match argument {
                        syn::GenericArgument::Type(inner) => {
                            has_integer(inner, integers) && !is_bytes(segment, inner)
                        }
                        _ => false,
                    })
                }
                _ => false,
            };
            inside || integers.iter().any(|integer| segment.ident == integer)
        }),
        syn::Type::Reference(reference) => has_integer(&reference.elem, integers),
        syn::Type::Tuple(tuple) => tuple.elems.iter().any(|elem| has_integer(elem, integers)),
        syn::Type::Slice(slice) => !is_byte(&slice.elem) && has_integer(&slice.elem, integers),
        syn::Type::Array(array) => !is_byte(&array.elem) && has_integer(&array.elem, integers),
        syn::Type::Group(group) => has_integer(&group.elem, integers),
        syn::Type::Paren(paren) => has_integer(&paren.elem, integers),
        _ => false,
    }
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
                    pub fn f(frame: u8) {}\nfn g(value: u64, len: usize) -> u64 {}\n";
        assert_eq!(found("crates/model/src/a.rs", text), ["a", "b", "c", "f"]);
        assert_eq!(found("crates/check/src/a.rs", text), ["a", "b", "c"]);
        assert!(found("crates/price/src/a.rs", text).is_empty());
    }

    #[test]
    fn a_struct_that_wraps_an_integer_may_take_and_return_it() {
        let text = "struct Cpu(u8);\nimpl Cpu { fn new(number: u8) -> Cpu {} }\n\
                    struct Two { one: u8 }\nimpl Two { fn new(number: u8) -> Two {} }\n";
        assert_eq!(found("crates/model/src/a.rs", text), ["new"]);
    }
}
