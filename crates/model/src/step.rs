//! The steps of the machine: what each call does, and what hardware does by itself.
//!
//! [`Machine::call`] is the one place from which every effect of a call can be read, and what it waits for.

use std::ops::Deref;

use lazytlb::{Access, Cr3Load, Entry, PhysAddr, Until, VirtAddr};

use crate::byte_mask::ByteMask;
use crate::call::{AtomicCell, Call, Cr4, FAULT, Family, LocalCell, Privilege};
use crate::combining::CacheHint;
use crate::features::Tick;
use crate::index::{BroadcastId, BroadcastSet, Cpu, Location, Offset, Way};
use crate::limit::Limit;
use crate::machine::Machine;
use crate::progress::{Progress, Stop};
use crate::slot::CellStore;
use crate::state::{Interrupt, State};
use crate::values::ValueCode;
use crate::view::{CpuIn, CpuMut};
use crate::virtual_access::{Operation, VirtualAccess};
use crate::writers::Write;

impl Machine {
    /// Does one call of a CPU, in one of the ways in which the machine may do it: from [`Way::FIRST`] on,
    /// while there are `more`. On [`Progress::Blocked`] the state is unchanged; on an error it is worthless.
    ///
    /// # Errors
    /// [`Stop::Violation`] if a property is violated by this step.
    pub fn call(
        &self,
        state: &mut State,
        cpu: impl Into<Cpu>,
        call: &Call,
        way: impl Into<Way>,
    ) -> Result<Progress, Stop> {
        let mut cpu = self.on(state, cpu.into());
        if self.has_more_buffers && cpu.waits_for_own(call) {
            return Ok(Progress::Blocked);
        }
        cpu.call(call, way.into())
    }

    /// Drains the oldest store of a CPU's buffer; returns whether there was one that could.
    ///
    /// # Errors
    /// As [`Machine::call`].
    pub fn drain(&self, state: &mut State, cpu: impl Into<Cpu>) -> Result<bool, Stop> {
        self.on(state, cpu.into()).drain()
    }

    /// Lets one of a CPU's write-combining stores leave, in one way for each of those that may; says whether
    /// there are more ways, or `None` if there is not even this one.
    ///
    /// # Errors
    /// As [`Machine::call`].
    pub fn drain_combining(
        &self,
        state: &mut State,
        cpu: impl Into<Cpu>,
        way: impl Into<Way>,
    ) -> Result<Option<bool>, Stop> {
        self.on(state, cpu.into()).drain_combining(way.into())
    }

    /// Returns the invalidations that were broadcast, and that a CPU could do now.
    ///
    /// # Errors
    /// As [`Machine::call`].
    pub fn broadcasts_to_do(
        &self,
        state: &State,
        cpu: impl Into<Cpu>,
    ) -> Result<BroadcastSet, Stop> {
        self.view(state, cpu.into()).broadcasts_to_do()
    }

    /// A CPU does an invalidation that was broadcast; says whether there was one with this number that it could do.
    ///
    /// # Errors
    /// As [`Machine::call`].
    pub fn receive_broadcast(
        &self,
        state: &mut State,
        cpu: impl Into<Cpu>,
        number: impl Into<BroadcastId>,
    ) -> Result<bool, Stop> {
        self.on(state, cpu.into()).receive_broadcast(number.into())
    }

    /// Says whether an interrupt can be delivered, as far as the machine is concerned: it is pending, and
    /// the buffers are empty as far as they must be, because delivery drains them (H25, H26).
    #[inline]
    pub fn can_deliver(&self, state: &State, cpu: impl Into<Cpu>) -> bool {
        self.view(state, cpu.into()).can_deliver(Interrupt::Flush)
    }

    /// As [`Machine::can_deliver`], for an NMI.
    pub fn can_deliver_nmi(&self, state: &State, cpu: impl Into<Cpu>) -> bool {
        let cpu = self.view(state, cpu.into());
        cpu.can_deliver(Interrupt::NonMaskable)
    }

    /// Delivers the flush interrupt: from now on it is not pending.
    pub fn deliver(&self, state: &mut State, cpu: impl Into<Cpu>) {
        self.on(state, cpu.into()).deliver(Interrupt::Flush);
    }

    /// Delivers an NMI.
    pub fn deliver_nmi(&self, state: &mut State, cpu: impl Into<Cpu>) {
        let mut cpu = self.on(state, cpu.into());
        cpu.deliver(Interrupt::NonMaskable);
    }

    /// As [`Machine::can_deliver`], for a timer interrupt, which comes by itself.
    pub fn can_tick(&self, state: &State, cpu: impl Into<Cpu>, tick: Tick) -> bool {
        self.view(state, cpu.into()).can_tick(tick)
    }

    /// Delivers a timer interrupt.
    pub fn tick(&self, state: &mut State, cpu: impl Into<Cpu>, tick: Tick) {
        self.on(state, cpu.into()).tick(tick);
    }
}

impl CpuMut<'_> {
    /// Does a call. Each line says what the call waits for, and what it does then. Whether interrupts are on,
    /// a search knows from the code's own past.
    #[inline]
    fn call(&mut self, call: &Call, way: Way) -> Result<Progress, Stop> {
        let machine = self.machine;
        self.refuse_freed_table(call)?;
        let done = match *call {
            Call::Load(cell) => return self.load_cell(cell),
            Call::Store(cell, value) => self.store(cell, ByteMask::ALL, value)?,
            Call::StoreBytes { cell, bytes, value } => self.store(cell, bytes.into(), value)?,
            Call::LoadLocal(cell) => return self.load_own(cell),
            Call::StoreLocal(cell, value) => self.store_own(cell, value)?,
            Call::Rmw(cell, rmw, operand) => return self.locked_rmw(cell, rmw, operand),
            Call::RmwBytes {
                cell,
                bytes,
                rmw,
                operand,
            } => return self.locked_rmw_bytes(cell, bytes.into(), rmw, operand),
            Call::RmwEntry(table, index, rmw, operand) => {
                return self.locked_rmw_entry(table, index, rmw, operand, way);
            }
            Call::RmwEntryBytes {
                table,
                index,
                bytes,
                rmw,
                operand,
            } => return self.locked_rmw_entry_bytes(table, index, bytes.into(), rmw, operand, way),
            Call::WriteEntryBytes {
                table,
                index,
                bytes,
                value,
            } => self.store_entry_bytes(machine.entry(table, index)?, bytes.into(), value)?,
            Call::ReadEntry(table, index) => return self.read_entry(table, index, way),
            Call::WriteEntry(table, index, entry) => self.put(table, index, entry)?,
            Call::Fence => self.full_fence()?,
            Call::StoreFence => self.store_fence(),
            Call::LoadFence => Progress::DONE, // It waits for an MFENCE: `waits_for_own`.
            Call::DisableInterrupts | Call::RestoreInterrupts(_) => Progress::DONE,
            Call::SendIpi(targets) => self.send(targets.into(), Interrupt::Flush)?,
            Call::SendNmi(targets) => self.send(targets.into(), Interrupt::NonMaskable)?,
            Call::PauseUntil(cell, until) => self.pause_until(cell, until)?,
            Call::Halt => Progress::Blocked, // The delivery of an interrupt ends it.
            Call::Breaks(breach) => self.breaks(breach)?,
            Call::Serialize => self.serializing(|_| Ok(()))?,
            Call::LoadCr3(value, load) => self.serializing(|cpu| cpu.load_cr3(value, load))?,
            Call::Invlpg(addr) => self.serializing(|cpu| cpu.invlpg(addr))?,
            Call::Invpcid(what) => self.serializing(|cpu| cpu.invpcid(what))?,
            Call::WriteCr4(cr4) => self.serializing(|cpu| cpu.mov_to_cr4(cr4))?,
            Call::ChangeCr4 { set, clear } => self.serializing(|cpu| cpu.change_cr4(set, clear))?,
            Call::Tlbsync => self.tlbsync()?,
            Call::Invlpgb(what) => self.invlpgb(what)?,
            Call::AllocFrame(kind) => return Ok(self.alloc_frame(kind)?.map(|frame| frame.0)),
            Call::FreeFrame(frame) => self.free_frame(machine.frame(frame)?)?,
            Call::ReadDevice(device) => self.read_back(machine.frame(device)?),
            Call::PromiseBegins(spaces, range) => return self.begin_numbered(spaces, range),
            Call::PromiseKept(promise) => self.keep_numbered(promise)?,
            Call::FlushBegins(root, range) => self.begin_by_root(machine.frame(root)?, range)?,
            Call::FlushReturned(root) => self.keep_by_root(machine.frame(root)?)?,
            Call::Touch(addr, access) => self.touch(addr, access, CacheHint::Temporal, way)?,
            Call::TouchNonTemporal(addr) => self.touch_non_temporal(addr, way)?,
            Call::LoadVirtual(addr, mode) => return self.data(addr, mode, Operation::Load, way),
            Call::Fetch(addr, mode) => return self.data(addr, mode, Operation::Fetch, way),
            Call::StoreVirtual {
                addr,
                bytes,
                value,
                privilege,
                non_temporal,
            } => {
                let store = Operation::store(bytes.into(), value, non_temporal.into());
                return self.data(addr, privilege, store, way);
            }
            Call::RmwVirtual {
                addr,
                bytes,
                rmw,
                operand,
                privilege,
            } => {
                let rmw = Operation::rmw(bytes.into(), rmw, operand);
                return self.data(addr, privilege, rmw, way);
            }
        };
        Ok(done.map(|()| 0))
    }

    /// Loads a cell that all CPUs share.
    fn load_cell(&mut self, cell: AtomicCell) -> Result<Progress, Stop> {
        self.pass_late_stores(Location::Cell(cell))?;
        Ok(Progress::answer(self.load(cell)))
    }

    /// Stores some bytes of a cell that all CPUs share.
    fn store(
        &mut self,
        cell: AtomicCell,
        bytes: ByteMask,
        value: u64,
    ) -> Result<Progress<()>, Stop> {
        self.notes_write(cell, Write::Any);
        let value = self.machine.values.encode(value)?;
        self.store_cell(CellStore { cell, value, bytes })
    }

    /// Waits until a cell holds something.
    fn pause_until(&mut self, cell: AtomicCell, until: Until) -> Result<Progress<()>, Stop> {
        if !until.holds(self.load(cell)) {
            return Ok(Progress::Blocked);
        }
        self.pass_late_stores(Location::Cell(cell))?;
        Ok(Progress::DONE)
    }

    fn load_own(&self, cell: LocalCell) -> Result<Progress, Stop> {
        let code = ValueCode::from_byte(self.state[self.own_cell(cell)?.bytes()]);
        Ok(Progress::answer(self.machine.values.decode(code)))
    }

    fn store_own(&mut self, cell: LocalCell, value: u64) -> Result<Progress<()>, Stop> {
        let at = self.own_cell(cell)?;
        self.state[at.bytes()] = self.machine.values.encode(value)?.to_byte();
        Ok(Progress::DONE)
    }

    /// Returns where a private cell lies, which must be this CPU's.
    #[inline]
    fn own_cell(&self, cell: LocalCell) -> Result<Offset, Stop> {
        if cell.owner != self.cpu.number() {
            let what = format!("accessed a private word of CPU {}", cell.owner);
            return Err(self.machine.misuse(self.cpu, what));
        }
        Ok(self.layout().own_cell(cell))
    }

    /// Reads a page-table entry for software.
    fn read_entry(&mut self, table: PhysAddr, index: u16, way: Way) -> Result<Progress, Stop> {
        let machine = self.machine;
        let read = self.read_settled(machine.entry(table, index)?, way)?;
        if machine.features.accessed_dirty {
            // H4: what the answer ruled out may be cached again at once.
            self.close_readers_of(machine.frame(table)?)?;
        }
        Ok(read)
    }

    /// MOV to CR3, of a value in which the PCID stands below the root's address.
    fn load_cr3(&mut self, value: PhysAddr, load: Cr3Load) -> Result<(), Stop> {
        let root = self.machine.frame(value)?;
        let pcid = (value.0 & 0xfff) as u16;
        self.mov_to_cr3(root, pcid, load)
    }

    /// Reads CR4, and writes it with some bits set and others cleared.
    fn change_cr4(&mut self, set: Cr4, clear: Cr4) -> Result<(), Stop> {
        self.mov_to_cr4(self.cr4().with(set, true).with(clear, false))
    }

    /// Stores a page-table entry for software.
    fn put(&mut self, table: PhysAddr, index: u16, entry: Entry) -> Result<Progress<()>, Stop> {
        let at = self.machine.entry(table, index)?;
        let value = self.machine.values.encode(entry.0)?;
        self.store_entry(at, value)
    }

    /// Touches an address with a non-temporal store.
    fn touch_non_temporal(&mut self, addr: VirtAddr, way: Way) -> Result<Progress<()>, Stop> {
        self.touch(addr, Access::Store, CacheHint::NonTemporal, way)
    }

    /// Does an access by virtual address. Here alone a fault becomes a word: the log of a search has no other
    /// answers.
    fn data(
        &mut self,
        addr: VirtAddr,
        privilege: Privilege,
        operation: Operation,
        way: Way,
    ) -> Result<Progress, Stop> {
        let access = VirtualAccess {
            addr,
            privilege,
            operation,
        };
        if operation == Operation::Fetch {
            let machine = self.machine;
            machine.turned_up.notes_fetch(&machine.features);
        }
        let done = self.access(&access, way)?;
        if let Progress::Done {
            answer: Ok(FAULT), ..
        } = done
        {
            return Err(Stop::Limit(Limit {
                what: "words with the value that stands for a fault",
                most: 0,
            }));
        }
        Ok(done.map(|answer| answer.unwrap_or(FAULT)))
    }
}

impl<S: Deref<Target = State>> CpuIn<'_, S> {
    /// Says whether a call has to wait for what this CPU has done before: a write-combining store to the same
    /// word, which it sees in order (H25), or an MFENCE (H36).
    pub(crate) fn waits_for_own(&self, call: &Call) -> bool {
        let family = call.family();
        let for_store = family.cell().is_some_and(|cell| {
            let location = Location::Cell(cell);
            let is_forwarded =
                matches!(family, Family::LoadsCell(_)) && self.forwards_combining(location);
            self.own_combining_waits(location) && !is_forwarded
        });
        for_store || family != Family::SendsInterrupt && self.fence_waits()
    }
}
