//! One-line changes of the protocol, made from its syntax: a statement removed, a condition decided, an operator replaced.

use std::ops::Range;

use anyhow::{Result, anyhow};
use proc_macro2::Span;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{BinOp, Block, Expr, ImplItemFn, ItemFn, Pat, Stmt, UnOp};

/// The folder of the protocol's sources.
pub(super) const SOURCES: &str = "crates/lazytlb/src";

/// A change of one place in one file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Change {
    /// A name that no other has, which can name a module.
    pub(super) name: String,
    /// The file, without its folder and ending.
    pub(super) module: String,
    /// The function that is changed.
    pub(super) function: String,
    /// The line that is changed, counted from one.
    pub(super) line: usize,
    /// What was done.
    pub(super) what: What,
    /// The expression or statement that it is a part of, in one line.
    pub(super) code: String,
    /// Where it stood, in bytes.
    place: Range<usize>,
    /// Where the expression or statement stands that it is a part of.
    whole: Range<usize>,
}

/// What is done to a place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum What {
    /// A statement is removed.
    Removed,
    /// A condition is always true.
    True,
    /// A condition is always false.
    False,
    /// A binary operator stands for another one.
    Operator(&'static str),
    /// A negation is left out.
    NotNegated,
}

impl What {
    /// Says it, for people and for the table of what is argued.
    pub(super) fn text(self) -> String {
        match self {
            What::Removed => "removed".to_owned(),
            What::True => "always true".to_owned(),
            What::False => "always false".to_owned(),
            What::Operator(operator) => format!("with {operator}"),
            What::NotNegated => "not negated".to_owned(),
        }
    }
}

impl Change {
    /// Returns the file's text with the change.
    pub(super) fn apply(&self, text: &str) -> String {
        let old = &text[self.place.clone()];
        let new = match self.what {
            What::Removed => String::new(),
            What::True => "true".to_owned(),
            What::False => "false".to_owned(),
            What::Operator(operator) => operator.to_owned(),
            What::NotNegated => old[1..].to_owned(),
        };
        put(text, &self.place, &new)
    }

    /// Returns the file's text with a panic where the change would be: it is reached where that panics.
    pub(super) fn reached(&self, text: &str) -> String {
        let end = match self.what {
            What::Removed => ";",
            _ => "",
        };
        put(text, &self.whole, &format!("panic!(\"reached\"){end}"))
    }
}

fn put(text: &str, place: &Range<usize>, new: &str) -> String {
    format!("{}{new}{}", &text[..place.start], &text[place.end..])
}

/// Lists every change of a file, in the order of its lines.
///
/// # Errors
/// If the text is not Rust.
pub(super) fn of_file(module: &str, text: &str) -> Result<Vec<Change>> {
    let tree =
        syn::parse_file(text).map_err(|error| anyhow!("{module}.rs is not Rust ({error})"))?;
    let mut finder = Finder {
        module,
        text,
        function: String::new(),
        changes: Vec::new(),
    };
    finder.visit_file(&tree);
    let mut changes = finder.changes;
    changes.sort_by_key(|change| (change.place.start, change.place.end));
    for (number, change) in changes.iter_mut().enumerate() {
        change.name = format!("{module}_{}_{number}", change.line);
    }
    Ok(changes)
}

/// Walks through a file.
struct Finder<'a> {
    module: &'a str,
    text: &'a str,
    function: String,
    changes: Vec<Change>,
}

impl Finder<'_> {
    fn add(&mut self, span: Span, what: What) {
        self.add_part(span, span, what);
    }

    fn add_part(&mut self, whole: Span, part: Span, what: What) {
        let place = part.byte_range();
        let code: Vec<&str> = self.text[whole.byte_range()].split_whitespace().collect();
        self.changes.push(Change {
            name: String::new(),
            module: self.module.to_owned(),
            function: self.function.clone(),
            line: part.start().line,
            what,
            code: code.join(" "),
            place,
            whole: whole.byte_range(),
        });
    }

    fn condition(&mut self, condition: &Expr) {
        // `let` in a condition binds what its block needs.
        let mut binds = Binds(false);
        binds.visit_expr(condition);
        if !binds.0 {
            self.add(condition.span(), What::True);
            self.add(condition.span(), What::False);
        }
    }

    fn within(&mut self, name: &syn::Ident, block: &Block) {
        let outer = std::mem::replace(&mut self.function, name.to_string());
        self.visit_block(block);
        self.function = outer;
    }
}

/// Whether an expression has a `let`.
struct Binds(bool);

impl Visit<'_> for Binds {
    fn visit_expr_let(&mut self, _: &syn::ExprLet) {
        self.0 = true;
    }
}

/// Says whether a statement can go without a trace: nothing uses a value of its.
fn can_go(statement: &Stmt, is_last: bool) -> bool {
    match statement {
        Stmt::Local(local) => match &local.pat {
            Pat::Wild(_) => true,
            Pat::Ident(ident) => ident.ident.to_string().starts_with('_'),
            _ => false,
        },
        Stmt::Expr(Expr::Return(_) | Expr::Break(_) | Expr::Continue(_), _) => false,
        Stmt::Expr(_, Some(_)) => true,
        Stmt::Expr(Expr::ForLoop(_) | Expr::While(_), None) => true,
        Stmt::Expr(Expr::If(_) | Expr::Match(_) | Expr::Block(_), None) => !is_last,
        // Contracts, and what a unit test has.
        Stmt::Macro(_) | Stmt::Expr(..) | Stmt::Item(_) => false,
    }
}

/// What stands for an operator; `None` if nothing does.
fn instead_of(operator: &BinOp) -> Option<&'static str> {
    Some(match operator {
        BinOp::Eq(_) => "!=",
        BinOp::Ne(_) => "==",
        BinOp::Lt(_) => "<=",
        BinOp::Le(_) => "<",
        BinOp::Gt(_) => ">=",
        BinOp::Ge(_) => ">",
        BinOp::And(_) => "||",
        BinOp::Or(_) => "&&",
        BinOp::Add(_) => "-",
        BinOp::Sub(_) => "+",
        BinOp::BitAnd(_) => "|",
        BinOp::BitOr(_) => "&",
        BinOp::AddAssign(_) => "-=",
        BinOp::SubAssign(_) => "+=",
        _ => return None,
    })
}

impl<'ast> Visit<'ast> for Finder<'_> {
    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        if module.ident != "tests" {
            visit::visit_item_mod(self, module);
        }
    }

    fn visit_item_fn(&mut self, function: &'ast ItemFn) {
        self.within(&function.sig.ident, &function.block);
    }

    fn visit_impl_item_fn(&mut self, function: &'ast ImplItemFn) {
        self.within(&function.sig.ident, &function.block);
    }

    fn visit_trait_item_fn(&mut self, function: &'ast syn::TraitItemFn) {
        // A default is there to be replaced.
        let _ = function;
    }

    fn visit_macro(&mut self, _: &'ast syn::Macro) {}

    fn visit_block(&mut self, block: &'ast Block) {
        let last = block.stmts.len().saturating_sub(1);
        for (at, statement) in block.stmts.iter().enumerate() {
            if can_go(statement, at == last) {
                self.add(statement.span(), What::Removed);
            }
        }
        visit::visit_block(self, block);
    }

    fn visit_expr_if(&mut self, expression: &'ast syn::ExprIf) {
        self.condition(&expression.cond);
        visit::visit_expr_if(self, expression);
    }

    fn visit_expr_while(&mut self, expression: &'ast syn::ExprWhile) {
        // Always true, it is a loop without end.
        if !matches!(*expression.cond, Expr::Let(_)) {
            self.add(expression.cond.span(), What::False);
        }
        visit::visit_expr_while(self, expression);
    }

    fn visit_pat_guard(&mut self, pattern: &'ast syn::PatGuard) {
        self.condition(&pattern.guard);
        visit::visit_pat_guard(self, pattern);
    }

    fn visit_expr_binary(&mut self, expression: &'ast syn::ExprBinary) {
        if let Some(operator) = instead_of(&expression.op) {
            let whole = expression.span();
            self.add_part(whole, expression.op.span(), What::Operator(operator));
        }
        visit::visit_expr_binary(self, expression);
    }

    fn visit_expr_unary(&mut self, expression: &'ast syn::ExprUnary) {
        if matches!(expression.op, UnOp::Not(_)) {
            self.add(expression.span(), What::NotNegated);
        }
        visit::visit_expr_unary(self, expression);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "
impl A {
    fn f(&self) -> bool {
        let _off = off();
        self.g();
        if self.a == 1 && !self.b {
            return true;
        }
        self.c < 2
    }
}
#[cfg(test)]
mod tests {
    fn g() { h(); }
}
";

    #[test]
    fn each_place_is_changed_in_each_way_and_tests_are_left_alone() {
        let changes = of_file("a", TEXT).unwrap();
        let said: Vec<String> = changes
            .iter()
            .map(|change| {
                format!(
                    "{} {} {}: {}",
                    change.line,
                    change.function,
                    change.what.text(),
                    change.code
                )
            })
            .collect();
        assert_eq!(
            said,
            [
                "4 f removed: let _off = off();",
                "5 f removed: self.g();",
                "6 f removed: if self.a == 1 && !self.b { return true; }",
                "6 f always true: self.a == 1 && !self.b",
                "6 f always false: self.a == 1 && !self.b",
                "6 f with !=: self.a == 1",
                "6 f with ||: self.a == 1 && !self.b",
                "6 f not negated: !self.b",
                "9 f with <=: self.c < 2",
            ]
        );
    }

    #[test]
    fn a_change_leaves_the_rest_as_it_was() {
        let changes = of_file("a", TEXT).unwrap();
        let of = |said: &str| {
            changes
                .iter()
                .find(|change| change.what.text() == said)
                .unwrap()
        };
        assert_eq!(of("with <=").apply(TEXT), TEXT.replace("c < 2", "c <= 2"));
        assert_eq!(
            of("not negated").apply(TEXT),
            TEXT.replace("!self.b", "self.b")
        );
        assert!(of("removed").reached(TEXT).contains("panic!(\"reached\")"));
        for change in &changes {
            for text in [change.apply(TEXT), change.reached(TEXT)] {
                assert!(syn::parse_file(&text).is_ok(), "{text}");
            }
        }
    }
}
