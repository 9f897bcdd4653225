//! The words of a program: those that all CPUs share, and each CPU's own.

use lazytlb::{Cells, CpuId, ProtocolWord, ValueKind};
use lazytlb_model::{AtomicCell, LocalCell};

use super::Program;
use crate::model_hw::ModelHw;

/// A cell that a program has declared: its name for people, and what it holds: first, and of what kind, as it claims.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct DeclaredCell {
    pub(crate) name: String,
    pub(crate) first_value: u64,
    pub(crate) kind: ValueKind,
}

impl Program {
    /// Makes an atomic that all CPUs share.
    pub fn atomic(&mut self, name: impl Into<String>, first_value: u64) -> AtomicCell {
        self.atomic_of_kind(ValueKind::Other, name, first_value)
    }

    /// Makes a word that one CPU and its interrupt handler share; another CPU's access is a violation.
    pub fn local(&mut self, cpu: u8, name: impl Into<String>, first_value: u64) -> LocalCell {
        self.local_of_kind(cpu, ValueKind::Other, name, first_value)
    }

    /// Makes an atomic that holds values of a kind: [`Program::atomic`] says nothing of them.
    ///
    /// The kind is a claim that every check tests: it ends in [`crate::CheckError::FalseClaim`] where the code
    /// does not keep it. [`ValueKind`] says what each kind claims; a set of CPUs has bits of the program's CPUs
    /// only. The table at the head of `claims.rs` says what exactly is tested, and what cannot be.
    ///
    /// ```
    /// use lazytlb::{Hw, ValueKind};
    /// use lazytlb_check::{CheckError, Checker, Program};
    ///
    /// let mut program = Program::new("no flag", 1);
    /// let flag = program.atomic_of_kind(ValueKind::Flag, "ready", 0);
    /// program.operation(0, "count", move |hw| hw.store(&flag, 2));
    /// let error = Checker::new().try_check(&program, |_| {}).unwrap_err();
    /// assert!(matches!(error, CheckError::FalseClaim(_)));
    /// ```
    pub fn atomic_of_kind(
        &mut self,
        kind: ValueKind,
        name: impl Into<String>,
        first_value: u64,
    ) -> AtomicCell {
        let index = u8::try_from(self.atomics.len()).unwrap_or(u8::MAX);
        self.atomics.push(DeclaredCell {
            name: name.into(),
            first_value,
            kind,
        });
        AtomicCell(index)
    }

    /// Makes a CPU's own word, as [`Program::local`], that holds values of a kind, as
    /// [`Program::atomic_of_kind`].
    pub fn local_of_kind(
        &mut self,
        cpu: u8,
        kind: ValueKind,
        name: impl Into<String>,
        first_value: u64,
    ) -> LocalCell {
        let Some(words) = self.own_cells.get_mut(usize::from(cpu)) else {
            self.lacks_cpu(CpuId(cpu.into()), "a private word");
            return LocalCell {
                owner: cpu,
                index: 0,
            };
        };
        let index = u8::try_from(words.len()).unwrap_or(u8::MAX);
        words.push(DeclaredCell {
            name: name.into(),
            first_value,
            kind,
        });
        LocalCell { owner: cpu, index }
    }

    /// Says which word is 1 while a CPU is lazy: [`ModelHw::spares_lazy_cpus`] asks it. The words of [`lazytlb::PerCpu`] are known.
    pub fn is_lazy_in(&mut self, cpu: u8, word: AtomicCell) {
        match self.lazy_words.0.get_mut(usize::from(cpu)) {
            Some(place) if usize::from(cpu) < self.operations.len() => *place = Some(word),
            _ => self.lacks_cpu(CpuId(cpu.into()), "a word that says that it is lazy"),
        }
    }

    /// Returns a source of cells for [`lazytlb::PerCpu::new`] or [`lazytlb::Mm::new`], or a protocol's
    /// own state; the names come out as `prefix.name`. Private words belong to `owner`.
    pub fn cells(&mut self, prefix: impl Into<String>, owner: u8) -> ProgramCells<'_> {
        ProgramCells {
            program: self,
            prefix: prefix.into(),
            owner,
        }
    }

    pub(crate) fn atomic_name(&self, cell: AtomicCell) -> &str {
        &self.atomics[usize::from(cell.0)].name
    }

    pub(crate) fn local_name(&self, cell: LocalCell) -> &str {
        &self.own_cells[usize::from(cell.owner)][usize::from(cell.index)].name
    }
}

/// Makes the modelled cells of a protocol's state: see [`Program::cells`].
#[derive(Debug)]
pub struct ProgramCells<'a> {
    program: &'a mut Program,
    prefix: String,
    owner: u8,
}

impl Cells<ModelHw> for ProgramCells<'_> {
    fn atomic(&mut self, name: &'static str, value: u64) -> AtomicCell {
        self.atomic_of_kind(ValueKind::Other, name, value)
    }
    fn local(&mut self, name: &'static str, value: u64) -> LocalCell {
        self.local_of_kind(ValueKind::Other, name, value)
    }
    fn atomic_of_kind(&mut self, kind: ValueKind, name: &'static str, value: u64) -> AtomicCell {
        let name = format!("{}.{name}", self.prefix);
        self.program.atomic_of_kind(kind, name, value)
    }
    fn local_of_kind(&mut self, kind: ValueKind, name: &'static str, value: u64) -> LocalCell {
        let name = format!("{}.{name}", self.prefix);
        self.program.local_of_kind(self.owner, kind, name, value)
    }
    fn protocol_atomic(&mut self, word: ProtocolWord, value: u64) -> AtomicCell {
        let cell = self.atomic_of_kind(word.kind(), word.name(), value);
        if word == ProtocolWord::IsLazy {
            self.program.is_lazy_in(self.owner, cell);
        }
        if word == ProtocolWord::TlbGen {
            self.program.space_generations.push(cell);
        }
        if matches!(
            word,
            ProtocolWord::RequestsBegun | ProtocolWord::RequestsDone
        ) {
            self.program.request_counts.push((self.owner, cell));
        }
        cell
    }
}
