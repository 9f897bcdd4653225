//! How long functions and files are.

use syn::spanned::Spanned;
use syn::visit::{self, Visit};

use super::finding::{Check, Finding};
use super::source::Source;

/// Lines that a function may have, from its `fn` to its closing brace.
const FUNCTION: usize = 70;
/// Lines of code that a file may have.
const FILE: usize = 450;

/// Finds functions and files that are too long. Tests may have long functions.
pub(super) fn check(sources: &[Source]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in sources {
        if source.code_lines > FILE {
            findings.push(Finding {
                check: Check::FileLength,
                file: source.path.clone(),
                line: 1,
                name: "file".to_owned(),
                complaint: format!(
                    "{} lines of code: make it two files, one concept each, of at most {FILE}",
                    source.code_lines
                ),
            });
        }
        if !source.is_test() {
            let mut functions = Functions {
                source,
                findings: &mut findings,
            };
            functions.visit_file(&source.tree);
        }
    }
    findings
}

/// Visits the functions of a file, but not those of its tests.
struct Functions<'a> {
    source: &'a Source,
    findings: &'a mut Vec<Finding>,
}

impl Functions<'_> {
    fn measure(&mut self, signature: &syn::Signature, body: &syn::Block) {
        let line = signature.fn_token.span().start().line;
        let lines = body.span().end().line + 1 - line;
        if lines > FUNCTION {
            let name = signature.ident.to_string();
            self.findings.push(Finding {
                check: Check::FunctionLength,
                file: self.source.path.clone(),
                line,
                complaint: format!(
                    "`{name}` has {lines} lines: name its steps, {FUNCTION} are the most"
                ),
                name,
            });
        }
    }
}

impl<'ast> Visit<'ast> for Functions<'_> {
    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        if !is_test(&item.attrs) {
            self.measure(&item.sig, &item.block);
            visit::visit_item_fn(self, item);
        }
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.measure(&item.sig, &item.block);
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        if let Some(body) = &item.default {
            self.measure(&item.sig, body);
        }
        visit::visit_trait_item_fn(self, item);
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if !is_test(&item.attrs) {
            visit::visit_item_mod(self, item);
        }
    }
}

/// Says whether attributes mark a test: `#[test]`, `#[cfg(test)]`.
pub(super) fn is_test(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let is_cfg_test = attribute.path().is_ident("cfg")
            && attribute
                .parse_args::<syn::Ident>()
                .is_ok_and(|word| word == "test");
        attribute.path().is_ident("test") || is_cfg_test
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn names(text: &str) -> Vec<String> {
        let source = Source::parse(Path::new("crates/a/src/a.rs"), text).unwrap();
        check(&[source])
            .into_iter()
            .map(|finding| finding.name)
            .collect()
    }

    #[test]
    fn a_long_function_is_found_and_a_long_test_is_not() {
        let body = "    work();\n".repeat(70);
        assert_eq!(names(&format!("fn long() {{\n{body}}}\n")), ["long"]);
        assert!(names(&format!("#[test]\nfn long() {{\n{body}}}\n")).is_empty());
        let in_tests = format!("#[cfg(test)]\nmod tests {{\nfn long() {{\n{body}}}\n}}\n");
        assert!(names(&in_tests).is_empty());
        let short = "    work();\n".repeat(68);
        assert!(names(&format!("fn short() {{\n{short}}}\n")).is_empty());
    }

    #[test]
    fn a_long_file_is_found() {
        assert_eq!(names(&"use a::b;\n".repeat(451)), ["file"]);
        assert!(names(&"use a::b;\n\n".repeat(450)).is_empty());
    }
}
