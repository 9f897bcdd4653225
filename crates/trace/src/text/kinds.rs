//! What the fields of an event's line mean.

use memchr::memmem;

use super::fields::{Field, find_fields, last_field, next_pid};
use super::header::Line;
use crate::error::LineProblem;
use crate::event::{Event, FlushFunc, FlushMmRange, FlushMulti, Interrupt, Kind, SwitchMm};
use crate::known_events::meaning;
use crate::operation::MmId;

/// `cpu_idle` with this state leaves idleness: Linux `PWR_EVENT_EXIT`, (u32)-1.
const LEAVES_IDLENESS: u64 = 4_294_967_295;

impl Line<'_> {
    /// Reads the fields. A pid that is not printed stays as it was.
    ///
    /// # Errors
    /// If a field that is needed is missing or cannot be right.
    #[inline]
    pub(crate) fn read(&self, into: &mut Event) -> Result<(), LineProblem> {
        into.cpu = self.cpu;
        into.time_ns = self.time_ns;
        into.pid = self.pid.unwrap_or(into.pid);
        into.context = self.context;
        if let Some(group) = self.group {
            let group = std::str::from_utf8(group).unwrap_or_default();
            if meaning(group, self.name).is_none() {
                into.kind = Kind::Other;
                return Ok(());
            }
        }
        into.kind = kind(self.name, self.fields)?;
        Ok(())
    }
}

#[inline]
fn kind(name: &[u8], fields: &[u8]) -> Result<Kind, LineProblem> {
    Ok(match name {
        b"sched_switch" => Kind::SchedSwitch {
            next: next_pid(fields)?,
        },
        b"switch_mm" => switch_mm(fields)?,
        b"enter_lazy" => {
            let [loaded] = find_fields("enter_lazy", ["loaded"], fields);
            Kind::EnterLazy {
                loaded: loaded.number_if_present()?,
            }
        }
        b"flush_mm_range" => flush_mm_range(fields)?,
        b"flush_multi" => flush_multi(fields)?,
        b"flush_func" => flush_func(fields)?,
        b"exit_mmap" => {
            let [ctx] = find_fields("exit_mmap", ["ctx"], fields);
            match ctx.number_if_present()? {
                Some(mm) => Kind::ExitMmap { mm: MmId(mm) },
                None => Kind::Other,
            }
        }
        b"mmdrop" => {
            let [pointer, ctx] = find_fields("mmdrop", ["mm", "ctx"], fields);
            Kind::MmDrop {
                mm: MmId(ctx.number()?),
                pointer: pointer.number()?,
            }
        }
        b"tlb_flush" => tlb_flush(fields)?,
        b"cpu_idle" => {
            let [state] = find_fields("cpu_idle", ["state"], fields);
            Kind::CpuIdle {
                state: match state.number()? {
                    LEAVES_IDLENESS => None,
                    number => Some(state.small(number)?),
                },
            }
        }
        b"call_function_entry" => Kind::Interrupt(Interrupt::CallFunction),
        b"call_function_single_entry" => Kind::Interrupt(Interrupt::CallFunctionSingle),
        b"reschedule_entry" => Kind::Interrupt(Interrupt::Reschedule),
        b"task_newtask" => {
            let [pid] = find_fields("task_newtask", ["pid"], fields);
            let flags = last_field("task_newtask", "clone_flags", fields);
            Kind::NewTask {
                pid: pid.pid()?,
                clone_flags: flags.hexadecimal()?,
            }
        }
        b"sched_process_fork" => Kind::ProcessFork {
            child: last_field("sched_process_fork", "child_pid", fields).pid()?,
        },
        b"sched_process_exec" => Kind::ProcessExec {
            old_pid: last_field("sched_process_exec", "old_pid", fields).pid()?,
        },
        b"sched_process_exit" => Kind::ProcessExit,
        _ => Kind::Other,
    })
}

fn switch_mm(fields: &[u8]) -> Result<Kind, LineProblem> {
    let keys = ["next", "tsk", "loaded", "lazy", "nctx", "ngen", "nmask"];
    let [next, tsk, loaded, lazy, nctx, ngen, nmask] = find_fields("switch_mm", keys, fields);
    Ok(Kind::SwitchMm(SwitchMm {
        mm: MmId(nctx.number()?),
        task: tsk.number()?,
        next: next.number()?,
        loaded: loaded.number_if_present()?,
        lazy: lazy.is_set_if_present()?,
        generation: ngen.number_if_present()?,
        mask: nmask.number_if_present()?,
    }))
}

fn flush_mm_range(fields: &[u8]) -> Result<Kind, LineProblem> {
    let keys = [
        "mm", "start", "end", "stride", "freed", "ctx", "gen", "users", "mask",
    ];
    let [
        pointer,
        start,
        end,
        stride,
        freed,
        ctx,
        generation,
        users,
        mask,
    ] = find_fields("flush_mm_range", keys, fields);
    let flush = FlushMmRange {
        mm: MmId(ctx.number()?),
        start: start.number()?,
        end: end.number()?,
        stride: stride.number()?,
        freed: freed.is_set()?,
        pointer: pointer.number()?,
        generation: generation.number_if_present()?,
        users: users.signed_if_present()?,
        mask: mask.number_if_present()?,
    };
    if flush.end != u64::MAX && flush.start > flush.end {
        return Err(end.bad("an end after the start"));
    }
    if flush.end != u64::MAX && flush.stride > 63 {
        return Err(stride.bad("a shift below 64"));
    }
    Ok(Kind::FlushMmRange(flush))
}

fn flush_multi(fields: &[u8]) -> Result<Kind, LineProblem> {
    let keys = ["cpumask0", "mm", "newgen", "initcpu", "freed", "trim"];
    let [mask, pointer, generation, initiator, freed, trims] =
        find_fields("flush_multi", keys, fields);
    let cpu = |field: Field<'_>| match field.number_if_present()? {
        None => Ok(None),
        Some(number) => u16::try_from(number)
            .map(Some)
            .map_err(|_| field.bad("a CPU's number")),
    };
    Ok(Kind::FlushMulti(FlushMulti {
        pointer: pointer.number_if_present()?,
        mask: mask.number_if_present()?,
        generation: generation.number_if_present()?,
        initiator: cpu(initiator)?,
        freed: freed.is_set_if_present()?,
        trims: trims.is_set_if_present()?,
    }))
}

fn flush_func(fields: &[u8]) -> Result<Kind, LineProblem> {
    let keys = ["mm", "newgen", "initcpu", "loaded", "localgen", "mmgen"];
    let [
        pointer,
        generation,
        initiator,
        loaded,
        flushed_to,
        loaded_generation,
    ] = find_fields("flush_func", keys, fields);
    Ok(Kind::FlushFunc(FlushFunc {
        pointer: pointer.number_if_present()?,
        initiator: initiator.number()?,
        generation: generation.number_if_present()?,
        loaded: loaded.number_if_present()?,
        flushed_to: flushed_to.number_if_present()?,
        loaded_generation: loaded_generation.number_if_present()?,
    }))
}

/// `pages:-1 reason:flush on task switch (0)`, or with `=`, or `reason=0 pages=-1`: tools print the words of a reason differently, so
/// its number counts.
fn tlb_flush(fields: &[u8]) -> Result<Kind, LineProblem> {
    const EVENT: &str = "tlb_flush";
    let missing = |field| LineProblem::MissingField {
        event: EVENT,
        field,
    };
    let text = fields.trim_ascii();
    let pages = word_after(text, b"pages").ok_or(missing("pages"))?;
    let reason = match text.strip_suffix(b")") {
        Some(inside) => {
            let open = memchr::memrchr(b'(', inside).ok_or(missing("reason"))?;
            &inside[open + 1..]
        }
        None => word_after(text, b"reason").ok_or(missing("reason"))?,
    };
    let reason = Field::of(EVENT, "reason", reason);
    let number = reason.number()?;
    Ok(Kind::TlbFlush {
        pages: Field::of(EVENT, "pages", pages).signed()?,
        reason: u8::try_from(number).map_err(|_| reason.bad("a reason's number"))?,
    })
}

/// Finds the word after `KEY:` or `KEY=`.
fn word_after<'a>(text: &'a [u8], key: &[u8]) -> Option<&'a [u8]> {
    let rest = match text.strip_prefix(key) {
        Some(rest) => rest,
        None => &text[memmem::find(text, key)? + key.len()..],
    };
    let [b':' | b'=', rest @ ..] = rest else {
        return None;
    };
    let end = memchr::memchr(b' ', rest).unwrap_or(rest.len());
    Some(&rest[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, fields: &str) -> Kind {
        kind(name.as_bytes(), fields.as_bytes()).unwrap()
    }

    #[test]
    fn names_that_look_like_fields_are_no_fields() {
        assert_eq!(
            read(
                "sched_process_exec",
                " filename=/tmp/ old_pid=3 pid=7 pid=12 old_pid=13"
            ),
            Kind::ProcessExec { old_pid: 13 }
        );
        assert_eq!(
            read(
                "sched_process_fork",
                " comm=sh pid=1 child_comm=child_pid=9 child_pid=44"
            ),
            Kind::ProcessFork { child: 44 }
        );
        assert_eq!(
            read(
                "task_newtask",
                " pid=39 comm= clone_flags=0 clone_flags=3d0f00 oom_score_adj=0"
            ),
            Kind::NewTask {
                pid: 39,
                clone_flags: 0x3d_0f00
            }
        );
    }

    #[test]
    fn a_flush_is_told_by_the_number_of_its_reason() {
        let flush = |pages, reason| Kind::TlbFlush { pages, reason };
        assert_eq!(
            read("tlb_flush", " pages:-1 reason:flush on task switch (0)"),
            flush(-1, 0)
        );
        for printed in [
            " pages:33 reason: (4)",
            "            pages=33 reason=remote ipi send (4)",
            "             reason=4 pages=33",
        ] {
            assert_eq!(read("tlb_flush", printed), flush(33, 4), "{printed}");
        }
        for damaged in [
            " pages:1",
            " reason:x (1)",
            " pages:x reason:y (1)",
            " pages:1 reason:y (256)",
        ] {
            assert!(kind(b"tlb_flush", damaged.as_bytes()).is_err(), "{damaged}");
        }
    }

    #[test]
    fn idleness_is_entered_and_left() {
        let idle = |state| Kind::CpuIdle { state };
        assert_eq!(read("cpu_idle", " state=1 cpu_id=0"), idle(Some(1)));
        assert_eq!(read("cpu_idle", " state=4294967295 cpu_id=0"), idle(None));
        assert!(kind(b"cpu_idle", b" state=4294967296 cpu_id=0").is_err());
    }
}
