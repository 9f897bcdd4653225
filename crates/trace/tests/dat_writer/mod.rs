//! Writes small trace.dat files: formats, ring buffer pages, versions 6 and 7. Independent of the reader's code.
#![allow(dead_code, unused_imports, reason = "each test uses a part")]

mod file;

pub(crate) use file::{File, Pack};
use lazytlb_trace::{Context, Event, Interrupt, Kind};

/// One CPU's number and pages.
pub(crate) type CpuPages = (u32, Vec<u8>);

/// A field of a format: its type, name, size and sign.
#[derive(Clone)]
pub(crate) struct FieldSpec {
    pub(crate) declaration: String,
    pub(crate) name: String,
    pub(crate) size: usize,
    pub(crate) signed: bool,
}

/// One kind of event.
#[derive(Clone)]
pub(crate) struct Spec {
    pub(crate) group: String,
    pub(crate) name: String,
    pub(crate) id: u16,
    pub(crate) fields: Vec<FieldSpec>,
    /// Bytes between fields.
    pub(crate) gap: usize,
}

fn field(text: &str) -> FieldSpec {
    let (kind, name) = text.rsplit_once(' ').unwrap();
    let (size, signed) = match kind {
        "u8" => (1, false),
        "int" | "pid_t" | "s32" => (4, true),
        "u32" => (4, false),
        "u64" | "unsigned long" => (8, false),
        "char" => (16, false),
        other => panic!("{other}"),
    };
    FieldSpec {
        declaration: match size {
            16 => format!("{text}[16]"),
            _ => text.to_owned(),
        },
        name: name.to_owned(),
        size,
        signed,
    }
}

impl Spec {
    pub(crate) fn new(group: &str, name: &str, id: u16, fields: &str) -> Spec {
        Spec {
            group: group.to_owned(),
            name: name.to_owned(),
            id,
            fields: fields
                .split(';')
                .filter(|text| !text.is_empty())
                .map(field)
                .collect(),
            gap: 0,
        }
    }

    fn offsets(&self) -> Vec<usize> {
        let mut at = 8;
        let mut offsets = Vec::new();
        for field in &self.fields {
            at += self.gap;
            offsets.push(at);
            at += field.size;
        }
        offsets
    }

    pub(crate) fn format(&self) -> String {
        let mut text = format!(
            "name: {}\nID: {}\nformat:\n\
             \tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n\
             \tfield:unsigned char common_flags;\toffset:2;\tsize:1;\tsigned:0;\n\
             \tfield:unsigned char common_preempt_count;\toffset:3;\tsize:1;\tsigned:0;\n\
             \tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;\n\n",
            self.name, self.id
        );
        for (field, offset) in self.fields.iter().zip(self.offsets()) {
            let (declaration, size, signed) =
                (&field.declaration, field.size, u8::from(field.signed));
            text += &format!(
                "\tfield:{declaration};\toffset:{offset};\tsize:{size};\tsigned:{signed};\n"
            );
        }
        let names: Vec<_> = self
            .fields
            .iter()
            .map(|field| field.name.as_str())
            .collect();
        let printed: Vec<_> = names.iter().map(|name| format!("{name}=%lx")).collect();
        let fields: String = names.iter().map(|name| format!(", REC->{name}")).collect();
        text + &format!("\nprint fmt: \"{}\"{fields}\n", printed.join(" "))
    }

    /// Fields that have no value in `values` are all ones: nobody may read them.
    pub(crate) fn record(&self, flags: u8, pid: u32, values: &[(&str, u64)]) -> Vec<u8> {
        let mut bytes = self.id.to_le_bytes().to_vec();
        bytes.extend([flags, 0]);
        bytes.extend(pid.to_le_bytes());
        for field in &self.fields {
            bytes.extend(vec![0xff; self.gap]);
            let value = values.iter().find(|(name, _)| *name == field.name);
            match value {
                Some((_, value)) => bytes.extend(&value.to_le_bytes()[..field.size]),
                None => bytes.extend(vec![0xff; field.size]),
            }
        }
        bytes
    }
}

/// The kinds of events that mean something, and the print event.
pub(crate) fn specs() -> Vec<Spec> {
    let list = [
        ("ftrace", "print", "unsigned long ip;char buf"),
        ("tlb", "tlb_flush", "int reason;unsigned long pages"),
        (
            "sched",
            "sched_switch",
            "char prev_comm;pid_t prev_pid;int prev_prio;u64 prev_state;char next_comm;pid_t next_pid;int next_prio",
        ),
        (
            "sched",
            "sched_process_fork",
            "char parent_comm;pid_t parent_pid;char child_comm;pid_t child_pid",
        ),
        (
            "sched",
            "sched_process_exec",
            "u32 filename;pid_t pid;pid_t old_pid",
        ),
        (
            "sched",
            "sched_process_exit",
            "char comm;pid_t pid;int prio",
        ),
        (
            "task",
            "task_newtask",
            "pid_t pid;char comm;unsigned long clone_flags",
        ),
        ("power", "cpu_idle", "u32 state;u32 cpu_id"),
        ("irq_vectors", "call_function_entry", "int vector"),
        ("irq_vectors", "call_function_single_entry", "int vector"),
        ("irq_vectors", "reschedule_entry", "int vector"),
        (
            "tlbk",
            "switch_mm",
            "unsigned long __probe_ip;u64 prev;u64 next;u64 tsk;u64 loaded;u8 lazy;u64 nctx;u64 ngen;u64 nmask",
        ),
        (
            "tlbk",
            "enter_lazy",
            "unsigned long __probe_ip;u64 mm;u64 tsk;u64 loaded",
        ),
        (
            "tlbk",
            "flush_mm_range",
            "unsigned long __probe_ip;u64 mm;u64 start;u64 end;u8 stride;u8 freed;u64 ctx;u64 gen;s32 users;u64 mask",
        ),
        (
            "tlbk",
            "flush_multi",
            "unsigned long __probe_ip;u64 cpumask0;u64 mm;u64 start;u64 end;u64 newgen;u32 initcpu;u8 freed;u8 trim",
        ),
        (
            "tlbk",
            "flush_func",
            "unsigned long __probe_ip;u64 mm;u64 start;u64 end;u64 newgen;u32 initcpu;u8 freed;u64 loaded;u64 localgen;u64 mmgen",
        ),
        (
            "tlbk",
            "exit_mmap",
            "unsigned long __probe_ip;u64 mm;u64 ctx;u64 mask",
        ),
        (
            "tlbk",
            "mmdrop",
            "unsigned long __probe_ip;u64 mm;u64 ctx;u64 mask",
        ),
    ];
    let numbered = list.into_iter().zip(5_u16..);
    numbered
        .map(|((group, name, fields), id)| Spec::new(group, name, id * 7, fields))
        .collect()
}

/// The name of an event's kind, and its fields.
fn values(kind: &Kind) -> (&'static str, Vec<(&'static str, u64)>) {
    fn push(values: &mut Vec<(&'static str, u64)>, name: &'static str, value: Option<u64>) {
        values.extend(value.map(|value| (name, value)));
    }
    match *kind {
        Kind::SwitchMm(switch) => {
            let mut values = vec![
                ("next", switch.next),
                ("tsk", switch.task),
                ("nctx", switch.mm.0),
            ];
            push(&mut values, "loaded", switch.loaded);
            push(&mut values, "lazy", switch.lazy.map(u64::from));
            push(&mut values, "ngen", switch.generation);
            push(&mut values, "nmask", switch.mask);
            ("switch_mm", values)
        }
        Kind::EnterLazy { loaded } => ("enter_lazy", vec![("loaded", loaded.unwrap())]),
        Kind::FlushMmRange(flush) => {
            let mut values = vec![
                ("mm", flush.pointer),
                ("start", flush.start),
                ("end", flush.end),
                ("stride", flush.stride),
                ("freed", flush.freed.into()),
                ("ctx", flush.mm.0),
            ];
            push(&mut values, "gen", flush.generation);
            push(&mut values, "users", flush.users.map(|users| users as u64));
            push(&mut values, "mask", flush.mask);
            ("flush_mm_range", values)
        }
        Kind::FlushMulti(flush) => {
            let mut values = Vec::new();
            push(&mut values, "cpumask0", flush.mask);
            push(&mut values, "mm", flush.pointer);
            push(&mut values, "newgen", flush.generation);
            push(&mut values, "initcpu", flush.initiator.map(u64::from));
            push(&mut values, "freed", flush.freed.map(u64::from));
            push(&mut values, "trim", flush.trims.map(u64::from));
            ("flush_multi", values)
        }
        Kind::FlushFunc(flush) => {
            let mut values = vec![("initcpu", flush.initiator)];
            push(&mut values, "mm", flush.pointer);
            push(&mut values, "newgen", flush.generation);
            push(&mut values, "loaded", flush.loaded);
            push(&mut values, "localgen", flush.flushed_to);
            push(&mut values, "mmgen", flush.loaded_generation);
            ("flush_func", values)
        }
        Kind::ExitMmap { mm } => ("exit_mmap", vec![("ctx", mm.0)]),
        Kind::MmDrop { pointer, mm } => ("mmdrop", vec![("mm", pointer), ("ctx", mm.0)]),
        Kind::TlbFlush { pages, reason } => (
            "tlb_flush",
            vec![("pages", pages as u64), ("reason", reason.into())],
        ),
        Kind::SchedSwitch { next } => ("sched_switch", vec![("next_pid", next.into())]),
        Kind::NewTask { pid, clone_flags } => (
            "task_newtask",
            vec![("pid", pid.into()), ("clone_flags", clone_flags)],
        ),
        Kind::ProcessFork { child } => ("sched_process_fork", vec![("child_pid", child.into())]),
        Kind::ProcessExec { old_pid } => ("sched_process_exec", vec![("old_pid", old_pid.into())]),
        Kind::ProcessExit => ("sched_process_exit", Vec::new()),
        Kind::CpuIdle { state } => {
            let state = state.map_or(0xffff_ffff, u64::from);
            ("cpu_idle", vec![("state", state)])
        }
        Kind::Interrupt(Interrupt::CallFunction) => ("call_function_entry", Vec::new()),
        Kind::Interrupt(Interrupt::CallFunctionSingle) => {
            ("call_function_single_entry", Vec::new())
        }
        Kind::Interrupt(Interrupt::Reschedule) => ("reschedule_entry", Vec::new()),
        Kind::Other => ("print", Vec::new()),
    }
}

pub(crate) fn record_of(specs: &[Spec], event: &Event) -> Vec<u8> {
    let (name, values) = values(&event.kind);
    let flags = match event.context {
        Context::Unknown | Context::Task => 0x01,
        Context::Softirq => 0x10,
        Context::Hardirq => 0x19,
        Context::Nmi => 0x48,
    };
    let spec = specs.iter().find(|spec| spec.name == name).unwrap();
    spec.record(flags, event.pid, &values)
}

/// One CPU's ring buffer.
pub(crate) struct Pages {
    size: usize,
    pub(crate) done: Vec<u8>,
    begun: Vec<u8>,
    first: u64,
    time: u64,
}

impl Pages {
    pub(crate) fn new(size: usize) -> Self {
        Pages {
            size,
            done: Vec::new(),
            begun: Vec::new(),
            first: 0,
            time: 0,
        }
    }

    /// Adds a record at a time.
    pub(crate) fn push(&mut self, time: u64, record: &[u8]) {
        let length = record.len().next_multiple_of(4);
        if self.begun.len() + length + 16 > self.size - 16 {
            self.end_page(0);
        }
        if self.begun.is_empty() {
            self.first = time;
            self.time = time;
        }
        let delta = time - self.time;
        self.time = time;
        let mut short = delta as u32;
        if delta >= 1 << 27 {
            self.word(30 | (delta as u32) << 5);
            self.word((delta >> 27) as u32);
            short = 0;
        }
        if length <= 112 {
            self.word((length / 4) as u32 | short << 5);
        } else {
            self.word(short << 5);
            self.word(length as u32 + 4);
        }
        self.begun.extend(record);
        self.begun.resize(self.begun.len().next_multiple_of(4), 0);
    }

    /// Adds any word.
    pub(crate) fn word(&mut self, word: u32) {
        self.begun.extend(word.to_le_bytes());
    }

    /// Says that the next record's time follows on this one.
    pub(crate) fn time_is(&mut self, time: u64) {
        self.time = time;
    }

    /// Ends the page; the rest of it is of all ones, which nobody may read.
    pub(crate) fn end_page(&mut self, flags: u64) {
        self.done.extend(self.first.to_le_bytes());
        self.done
            .extend((self.begun.len() as u64 | flags).to_le_bytes());
        self.done.append(&mut self.begun);
        let end = self.done.len().next_multiple_of(self.size);
        self.done.resize(end, 0xff);
    }

    pub(crate) fn finish(mut self) -> Vec<u8> {
        if !self.begun.is_empty() {
            self.end_page(0);
        }
        self.done
    }
}

pub(crate) fn cpus_of(page: usize, specs: &[Spec], events: &[Event]) -> Vec<CpuPages> {
    let count = events.iter().map(|event| event.cpu + 1).max().unwrap_or(0);
    let of_cpu = |cpu: u16| {
        let mut pages = Pages::new(page);
        for event in events.iter().filter(|event| event.cpu == cpu) {
            pages.push(event.time_ns, &record_of(specs, event));
        }
        (u32::from(cpu), pages.finish())
    };
    (0..count).map(of_cpu).collect()
}
