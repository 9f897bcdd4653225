//! A test that is being written.

use std::collections::BTreeSet;

/// The registers that loads go to, in this order. `rax` is left to compare-and-exchange.
const REGISTERS: [&str; 7] = ["rbx", "rcx", "rdx", "rsi", "rdi", "r8", "r9"];

/// A column of the table.
#[derive(Default)]
struct Column {
    name: String,
    lines: Vec<String>,
    /// How many registers its loads have taken.
    taken: usize,
    labels: usize,
}

/// A test.
#[derive(Default)]
pub(super) struct Draft {
    keys: Vec<String>,
    init: Vec<String>,
    columns: Vec<Column>,
    shown: BTreeSet<String>,
}

impl Draft {
    /// Starts a test with so many threads.
    pub(super) fn of_threads(threads: usize) -> Draft {
        let columns = (0..threads).map(|number| Column {
            name: format!("P{number}"),
            ..Column::default()
        });
        Draft {
            columns: columns.collect(),
            ..Draft::default()
        }
    }

    /// Adds a handler's column; returns its number.
    pub(super) fn handler(&mut self, name: &str) -> usize {
        self.columns.push(Column {
            name: name.to_owned(),
            ..Column::default()
        });
        self.columns.len() - 1
    }

    /// Adds a line before the init section.
    pub(super) fn key(&mut self, line: &str) {
        self.keys.push(line.to_owned());
    }

    /// Adds an entry of the init section.
    pub(super) fn init(&mut self, entry: impl Into<String>) {
        self.init.push(entry.into());
    }

    /// Adds an instruction to a column.
    pub(super) fn line(&mut self, column: usize, instruction: impl Into<String>) {
        self.columns[column].lines.push(instruction.into());
    }

    /// Adds an instruction that may fault, under a label, so that the final state shows where.
    pub(super) fn access(&mut self, column: usize, instruction: &str) {
        let of = &mut self.columns[column];
        let is_handler = of.name.contains('.');
        let line = match is_handler {
            true => instruction.to_owned(),
            false => format!("L{}: {instruction}", of.labels),
        };
        of.labels += 1;
        of.lines.push(line);
    }

    /// Adds a load into a register of its own, which the final state shows.
    pub(super) fn load(&mut self, column: usize, from: &str) {
        let register = self.register(column);
        self.access(column, &format!("movq ({from}),%{register}"));
    }

    /// Adds a load of an entry's flags.
    pub(super) fn load_flags(&mut self, column: usize, entry: &str) {
        let register = self.register(column);
        self.line(column, format!("movq ({entry}),%{register}"));
        self.line(column, format!("andq $0x67,%{register}"));
    }

    /// Adds an exchange with a register of its own, of which only flags are shown.
    pub(super) fn exchange_flags(&mut self, column: usize, value: &str, entry: &str) {
        let register = self.register(column);
        self.line(column, format!("movq ${value},%{register}"));
        self.line(column, format!("xchgq %{register},({entry})"));
        self.line(column, format!("andq $0x67,%{register}"));
    }

    /// Returns a register that nothing else uses in a column, and shows it if the column is a thread's.
    pub(super) fn register(&mut self, column: usize) -> &'static str {
        let of = &mut self.columns[column];
        let register = REGISTERS[of.taken.min(REGISTERS.len() - 1)];
        of.taken += 1;
        if let Some(thread) = of.name.strip_prefix('P')
            && !thread.contains('.')
        {
            self.shown.insert(format!("{thread}:{register}"));
        }
        register
    }

    /// Shows something in final states.
    pub(super) fn show(&mut self, location: &str) {
        self.shown.insert(location.to_owned());
    }

    /// Writes the test.
    pub(super) fn text(&self, name: &str) -> String {
        let mut text = format!("X86_64 {name}\n");
        for key in &self.keys {
            text.push_str(&format!("{key}\n"));
        }
        let init: Vec<String> = self.init.iter().map(|entry| format!("{entry};")).collect();
        text.push_str(&format!("{{ {} }}\n", init.join(" ")));
        let names: Vec<&str> = self.columns.iter().map(|column| &column.name[..]).collect();
        text.push_str(&format!(" {} ;\n", names.join(" | ")));
        let rows = self.columns.iter().map(|column| column.lines.len()).max();
        for row in 0..rows.unwrap_or(0) {
            let cell = |column: &Column| column.lines.get(row).cloned().unwrap_or_default();
            let cells: Vec<String> = self.columns.iter().map(cell).collect();
            text.push_str(&format!(" {} ;\n", cells.join(" | ")));
        }
        let shown: Vec<String> = self.shown.iter().map(|shown| format!("{shown};")).collect();
        if !shown.is_empty() {
            text.push_str(&format!("locations [{}]\n", shown.concat()));
        }
        // Faults are shown of those threads that the condition names.
        let threads = names.iter().filter(|name| !name.contains('.'));
        let faults: Vec<String> = threads.map(|name| format!("fault({name})")).collect();
        text.push_str(&format!("exists ({})\n", faults.join(" \\/ ")));
        text
    }
}
