//! What the fields of a record mean: the same as those of a line, see `text/kinds.rs`.

use super::fields::{Field, Finder, Record};
use crate::error::LineProblem;
use crate::event::{FlushFunc, FlushMmRange, FlushMulti, Interrupt, Kind, SwitchMm};
use crate::operation::MmId;

/// `cpu_idle` with this state leaves idleness: Linux `PWR_EVENT_EXIT`, (u32)-1.
const LEAVES_IDLENESS: u32 = u32::MAX;

/// What makes a [`Kind`] of a record: the fields of one kind of event.
#[derive(Clone)]
pub(crate) enum Decoder {
    SchedSwitch { next: Field },
    SwitchMm(Box<SwitchMmFields>),
    EnterLazy { loaded: Option<Field> },
    FlushMmRange(Box<FlushMmRangeFields>),
    FlushMulti(Box<FlushMultiFields>),
    FlushFunc(Box<FlushFuncFields>),
    ExitMmap { ctx: Option<Field> },
    MmDrop { mm: Field, ctx: Field },
    TlbFlush { pages: Field, reason: Field },
    CpuIdle { state: Field },
    NewTask { pid: Field, flags: Field },
    ProcessFork { child: Field },
    ProcessExec { old_pid: Field },
    ProcessExit,
    Interrupt(Interrupt),
    Other,
}

#[derive(Clone)]
pub(crate) struct SwitchMmFields {
    next: Field,
    tsk: Field,
    nctx: Field,
    loaded: Option<Field>,
    lazy: Option<Field>,
    ngen: Option<Field>,
    nmask: Option<Field>,
}

#[derive(Clone)]
pub(crate) struct FlushMmRangeFields {
    mm: Field,
    ctx: Field,
    start: Field,
    end: Field,
    stride: Field,
    freed: Field,
    generation: Option<Field>,
    users: Option<Field>,
    mask: Option<Field>,
}

#[derive(Clone)]
pub(crate) struct FlushMultiFields {
    mm: Option<Field>,
    mask: Option<Field>,
    generation: Option<Field>,
    initiator: Option<Field>,
    freed: Option<Field>,
    trim: Option<Field>,
}

#[derive(Clone)]
pub(crate) struct FlushFuncFields {
    mm: Option<Field>,
    initiator: Field,
    generation: Option<Field>,
    loaded: Option<Field>,
    flushed_to: Option<Field>,
    loaded_generation: Option<Field>,
}

impl Decoder {
    /// Finds the fields of the event that is called `name`, by [`crate::known_events::meaning`].
    ///
    /// # Errors
    /// If one that is needed is missing.
    pub(crate) fn of(name: &'static str, find: &mut Finder<'_>) -> Result<Self, LineProblem> {
        Ok(match name {
            "sched_switch" => Decoder::SchedSwitch {
                next: find.needed("next_pid")?,
            },
            "switch_mm" => Decoder::SwitchMm(Box::new(SwitchMmFields::find(find)?)),
            "enter_lazy" => Decoder::EnterLazy {
                loaded: find.optional("loaded"),
            },
            "flush_mm_range" => Decoder::FlushMmRange(Box::new(FlushMmRangeFields::find(find)?)),
            "flush_multi" => Decoder::FlushMulti(Box::new(FlushMultiFields::find(find))),
            "flush_func" => Decoder::FlushFunc(Box::new(FlushFuncFields::find(find)?)),
            "exit_mmap" => Decoder::ExitMmap {
                ctx: find.optional("ctx"),
            },
            "mmdrop" => Decoder::MmDrop {
                mm: find.needed("mm")?,
                ctx: find.needed("ctx")?,
            },
            "tlb_flush" => Decoder::TlbFlush {
                pages: find.needed("pages")?,
                reason: find.needed("reason")?,
            },
            "cpu_idle" => Decoder::CpuIdle {
                state: find.needed("state")?,
            },
            "task_newtask" => Decoder::NewTask {
                pid: find.needed("pid")?,
                flags: find.needed("clone_flags")?,
            },
            "sched_process_fork" => Decoder::ProcessFork {
                child: find.needed("child_pid")?,
            },
            "sched_process_exec" => Decoder::ProcessExec {
                old_pid: find.needed("old_pid")?,
            },
            "sched_process_exit" => Decoder::ProcessExit,
            "call_function_entry" => Decoder::Interrupt(Interrupt::CallFunction),
            "call_function_single_entry" => Decoder::Interrupt(Interrupt::CallFunctionSingle),
            "reschedule_entry" => Decoder::Interrupt(Interrupt::Reschedule),
            _ => Decoder::Other,
        })
    }

    /// Reads a record. The kind is written in place: to copy it twice costs as much as to read it.
    ///
    /// # Errors
    /// If a field cannot be right.
    #[inline]
    pub(crate) fn read(&self, record: &Record<'_>, into: &mut Kind) -> Result<(), LineProblem> {
        *into = match self {
            Decoder::SchedSwitch { next } => Kind::SchedSwitch {
                next: record.small(*next)?,
            },
            Decoder::SwitchMm(fields) => fields.read(record)?,
            Decoder::EnterLazy { loaded } => Kind::EnterLazy {
                loaded: record.optional(*loaded),
            },
            Decoder::FlushMmRange(fields) => fields.read(record)?,
            Decoder::FlushMulti(fields) => fields.read(record)?,
            Decoder::FlushFunc(fields) => fields.read(record),
            Decoder::ExitMmap { ctx } => match record.optional(*ctx) {
                Some(mm) => Kind::ExitMmap { mm: MmId(mm) },
                None => Kind::Other,
            },
            Decoder::MmDrop { mm, ctx } => Kind::MmDrop {
                pointer: record.number(*mm),
                mm: MmId(record.number(*ctx)),
            },
            Decoder::TlbFlush { pages, reason } => Kind::TlbFlush {
                pages: record.number(*pages) as i64,
                reason: u8::try_from(record.number(*reason))
                    .map_err(|_| record.bad(*reason, "a reason's number"))?,
            },
            Decoder::CpuIdle { state } => Kind::CpuIdle {
                state: match record.small(*state)? {
                    LEAVES_IDLENESS => None,
                    state => Some(state),
                },
            },
            Decoder::NewTask { pid, flags } => Kind::NewTask {
                pid: record.small(*pid)?,
                clone_flags: record.number(*flags),
            },
            Decoder::ProcessFork { child } => Kind::ProcessFork {
                child: record.small(*child)?,
            },
            Decoder::ProcessExec { old_pid } => Kind::ProcessExec {
                old_pid: record.small(*old_pid)?,
            },
            Decoder::ProcessExit => Kind::ProcessExit,
            Decoder::Interrupt(interrupt) => Kind::Interrupt(*interrupt),
            Decoder::Other => Kind::Other,
        };
        Ok(())
    }
}

impl SwitchMmFields {
    fn find(find: &mut Finder<'_>) -> Result<Self, LineProblem> {
        Ok(SwitchMmFields {
            next: find.needed("next")?,
            tsk: find.needed("tsk")?,
            nctx: find.needed("nctx")?,
            loaded: find.optional("loaded"),
            lazy: find.optional("lazy"),
            ngen: find.optional("ngen"),
            nmask: find.optional("nmask"),
        })
    }

    #[inline]
    fn read(&self, record: &Record<'_>) -> Result<Kind, LineProblem> {
        Ok(Kind::SwitchMm(SwitchMm {
            next: record.number(self.next),
            mm: MmId(record.number(self.nctx)),
            task: record.number(self.tsk),
            loaded: record.optional(self.loaded),
            lazy: self.lazy.map(|lazy| record.is_set(lazy)).transpose()?,
            generation: record.optional(self.ngen),
            mask: record.optional(self.nmask),
        }))
    }
}

impl FlushMmRangeFields {
    fn find(find: &mut Finder<'_>) -> Result<Self, LineProblem> {
        Ok(FlushMmRangeFields {
            mm: find.needed("mm")?,
            ctx: find.needed("ctx")?,
            start: find.needed("start")?,
            end: find.needed("end")?,
            stride: find.needed("stride")?,
            freed: find.needed("freed")?,
            generation: find.optional("gen"),
            users: find.optional("users"),
            mask: find.optional("mask"),
        })
    }

    #[inline]
    fn read(&self, record: &Record<'_>) -> Result<Kind, LineProblem> {
        let flush = FlushMmRange {
            pointer: record.number(self.mm),
            mm: MmId(record.number(self.ctx)),
            start: record.number(self.start),
            end: record.number(self.end),
            stride: record.number(self.stride),
            freed: record.is_set(self.freed)?,
            generation: record.optional(self.generation),
            users: record.optional(self.users).map(|users| users as i64),
            mask: record.optional(self.mask),
        };
        if flush.end != u64::MAX && flush.start > flush.end {
            return Err(record.bad(self.end, "an end after the start"));
        }
        if flush.end != u64::MAX && flush.stride > 63 {
            return Err(record.bad(self.stride, "a shift below 64"));
        }
        Ok(Kind::FlushMmRange(flush))
    }
}

impl FlushMultiFields {
    fn find(find: &mut Finder<'_>) -> Self {
        FlushMultiFields {
            mm: find.optional("mm"),
            mask: find.optional("cpumask0"),
            generation: find.optional("newgen"),
            initiator: find.optional("initcpu"),
            freed: find.optional("freed"),
            trim: find.optional("trim"),
        }
    }

    #[inline]
    fn read(&self, record: &Record<'_>) -> Result<Kind, LineProblem> {
        let cpu = |field: Field| {
            u16::try_from(record.number(field)).map_err(|_| record.bad(field, "a CPU's number"))
        };
        let is_set = |field: Field| record.is_set(field);
        Ok(Kind::FlushMulti(FlushMulti {
            pointer: record.optional(self.mm),
            mask: record.optional(self.mask),
            generation: record.optional(self.generation),
            initiator: self.initiator.map(cpu).transpose()?,
            freed: self.freed.map(is_set).transpose()?,
            trims: self.trim.map(is_set).transpose()?,
        }))
    }
}

impl FlushFuncFields {
    fn find(find: &mut Finder<'_>) -> Result<Self, LineProblem> {
        Ok(FlushFuncFields {
            mm: find.optional("mm"),
            initiator: find.needed("initcpu")?,
            generation: find.optional("newgen"),
            loaded: find.optional("loaded"),
            flushed_to: find.optional("localgen"),
            loaded_generation: find.optional("mmgen"),
        })
    }

    #[inline]
    fn read(&self, record: &Record<'_>) -> Kind {
        Kind::FlushFunc(FlushFunc {
            pointer: record.optional(self.mm),
            initiator: record.number(self.initiator),
            generation: record.optional(self.generation),
            loaded: record.optional(self.loaded),
            flushed_to: record.optional(self.flushed_to),
            loaded_generation: record.optional(self.loaded_generation),
        })
    }
}
