//! What the seam and the traits beside it leave out: instructions and accesses that only some programs use.

use lazytlb::{Cr3Load, Entry, PhysAddr, VirtAddr};
use lazytlb_model::{AtomicCell, Broadcast, Call, Cr4, FAULT, Invpcid, Privilege, Rmw};

use super::ModelHw;

impl ModelHw {
    /// Stores some bytes of a cell: a bit of `bytes` for each, `value` in its place in the cell.
    pub fn store_bytes(&self, cell: &AtomicCell, bytes: u8, value: u64) {
        let cell = *cell;
        self.ask(Call::StoreBytes { cell, bytes, value });
    }
    /// A locked read-modify-write of some adjacent bytes of a cell; returns what they were. Operand and
    /// answer lie at the low end.
    pub fn locked_rmw(&self, cell: &AtomicCell, bytes: u8, rmw: Rmw, operand: u64) -> u64 {
        let cell = *cell;
        self.ask(Call::RmwBytes {
            cell,
            bytes,
            rmw,
            operand,
        })
    }
    /// A locked read-modify-write of a page-table entry; returns what it was.
    pub fn rmw_entry(&self, table: PhysAddr, index: u16, rmw: Rmw, operand: Entry) -> Entry {
        Entry(self.ask(Call::RmwEntry(table, index, rmw, operand.0)))
    }
    /// Stores some bytes of a page-table entry, one bit each in `bytes`; what `value` has there is in its place.
    pub fn write_entry_bytes(&self, table: PhysAddr, index: u16, bytes: u8, value: u64) {
        self.ask(Call::WriteEntryBytes {
            table,
            index,
            bytes,
            value,
        });
    }
    /// Reads, modifies and writes some bytes of a page-table entry as one; returns what they held, at the low end.
    pub fn rmw_entry_bytes(
        &self,
        table: PhysAddr,
        index: u16,
        bytes: u8,
        rmw: Rmw,
        operand: u64,
    ) -> u64 {
        self.ask(Call::RmwEntryBytes {
            table,
            index,
            bytes,
            rmw,
            operand,
        })
    }
    /// SFENCE: later stores wait for the write-combining buffers.
    pub fn store_fence(&self) {
        self.ask(Call::StoreFence);
    }
    /// A serializing instruction that invalidates nothing: CPUID.
    pub fn serialize(&self) {
        self.ask(Call::Serialize);
    }
    /// MOV to CR3 with a PCID; only with CR4.PCIDE does it mean one.
    pub fn load_cr3_with_pcid(&self, root: PhysAddr, pcid: u16, load: Cr3Load) {
        self.ask(Call::LoadCr3(
            PhysAddr(root.0 | u64::from(pcid & 0xfff)),
            load,
        ));
    }
    /// MOV to CR4.
    pub fn write_cr4(&self, cr4: Cr4) {
        self.ask(Call::WriteCr4(cr4));
    }
    /// Reads CR4, and writes it with some bits set and others cleared.
    pub fn change_cr4(&self, set: Cr4, clear: Cr4) {
        self.ask(Call::ChangeCr4 { set, clear });
    }
    /// LFENCE.
    pub fn load_fence(&self) {
        self.ask(Call::LoadFence);
    }
    /// INVPCID.
    pub fn invpcid(&self, what: Invpcid) {
        self.ask(Call::Invpcid(what));
    }
    /// INVLPGB: every CPU invalidates, some time later.
    pub fn invlpgb(&self, what: Broadcast) {
        self.ask(Call::Invlpgb(what));
    }
    /// TLBSYNC: waits until all CPUs have done what this one has broadcast.
    pub fn tlbsync(&self) {
        self.ask(Call::Tlbsync);
    }
    /// Loads the word at a virtual address; `None` after a page fault.
    pub fn load_virtual(&self, addr: VirtAddr, privilege: Privilege) -> Option<u64> {
        let answer = self.ask(Call::LoadVirtual(addr, privilege));
        (answer != FAULT).then_some(answer)
    }
    /// Stores bytes of the word at a virtual address, 0 for all; `None` after a page fault.
    pub fn store_virtual(
        &self,
        addr: VirtAddr,
        bytes: u8,
        value: u64,
        privilege: Privilege,
        non_temporal: bool,
    ) -> Option<()> {
        let answer = self.ask(Call::StoreVirtual {
            addr,
            bytes,
            value,
            privilege,
            non_temporal,
        });
        (answer != FAULT).then_some(())
    }
    /// Locked read-modify-write of bytes of the word at a virtual address; returns what they held, at the
    /// low end, or `None` after a page fault. It needs permission to write, whatever it does.
    pub fn rmw_virtual(
        &self,
        addr: VirtAddr,
        bytes: u8,
        rmw: Rmw,
        operand: u64,
        privilege: Privilege,
    ) -> Option<u64> {
        let answer = self.ask(Call::RmwVirtual {
            addr,
            bytes,
            rmw,
            operand,
            privilege,
        });
        (answer != FAULT).then_some(answer)
    }
    /// Fetches an instruction at a virtual address; `None` after a page fault.
    pub fn fetch(&self, addr: VirtAddr, privilege: Privilege) -> Option<()> {
        let answer = self.ask(Call::Fetch(addr, privilege));
        (answer != FAULT).then_some(())
    }
    /// Touches a user address with a non-temporal store (MOVNTI); a fault has no effect.
    pub fn touch_non_temporal(&self, addr: VirtAddr) {
        self.ask(Call::TouchNonTemporal(addr));
    }
    /// A driver reads back from its device: what was on its way there has arrived.
    pub fn read_device(&self, device: PhysAddr) {
        self.ask(Call::ReadDevice(device));
    }
    /// Sends an NMI to CPUs, a bit each.
    pub fn send_nmi(&self, targets: u64) {
        self.ask(Call::SendNmi(targets));
    }
    /// Sleeps until the next interrupt (STI; HLT), with interrupts enabled meanwhile. Only operations may: in a
    /// handler it is an error.
    pub fn halt(&self) {
        self.ask(Call::Halt);
    }
}
