//! Whether two programs are the same, but for their code: a second run needs the program once more.

use crate::program::Program;
use crate::routine::Operation;

impl Program {
    /// Says in what it differs from a program that is to be the same, but for the code itself.
    pub(crate) fn difference(&self, other: &Program) -> Option<&'static str> {
        let names = |program: &Program| -> Vec<Vec<String>> {
            let lists = program.operations.iter();
            let name = |operation: &Operation| operation.name.clone();
            lists.map(|list| list.iter().map(name).collect()).collect()
        };
        let handlers = |program: &Program| {
            [
                program.handler.is_some(),
                program.nmi_handler.is_some(),
                program.timer_handler.is_some(),
            ]
        };
        let parts = [
            (self.name == other.name, "its name"),
            (names(self) == names(other), "its operations"),
            (
                self.lazy_words == other.lazy_words,
                "the words that say who is lazy",
            ),
            (
                self.cpu_numbers == other.cpu_numbers,
                "the numbers of its CPUs",
            ),
            (handlers(self) == handlers(other), "its handlers"),
            (self.atomics == other.atomics, "its shared cells"),
            (self.apart == other.apart, "the cells that count apart"),
            (self.own_cells == other.own_cells, "its private words"),
            (self.frames == other.frames, "its frames"),
            (self.page_words == other.page_words, "its pages' words"),
            (
                self.entries == other.entries,
                "its first page-table entries",
            ),
            (
                self.watched_entries == other.watched_entries,
                "the entries it watches",
            ),
            (self.root == other.root, "its first root"),
            (
                self.user_halves == other.user_halves,
                "its spaces' roots in user mode",
            ),
            (self.cr4 == other.cr4, "its CR4"),
            (self.features == other.features, "its features"),
            (
                self.garbage == other.garbage,
                "what becomes of walks of freed tables",
            ),
            (self.ignored == other.ignored, "the properties it ignores"),
        ];
        let differing = parts.into_iter().find(|(is_same, _)| !is_same);
        differing.map(|(_, what)| what)
    }
}
