//! The seam on real hardware: each call is a method of the kernel's [`Board`], which as provided is an instruction or two.

use core::num::NonZeroU16;
use core::sync::atomic::AtomicU64;

use lazytlb::{
    Broadcast, Cells, CompareExchange, CpuId, CpuSet, Cr3Load, Hw, Interrupts, Invlpgb, Invpcid,
    Pcid, Pcids, PhysAddr, Poll, Quirks, Until, VirtAddr,
};

use crate::board::Board;

/// The real machine, shared by all CPUs.
#[derive(Debug)]
pub struct X86<B> {
    board: B,
    quirks: Quirks,
    pcids_are_on: bool,
    most_addresses: Option<NonZeroU16>,
}

impl<B: Board> X86<B> {
    /// Makes the machine from what the kernel supplies and the errata found at boot
    /// ([`crate::Detected::quirks`]), which must be those of the weakest CPU in the system.
    ///
    /// # Safety
    /// The kernel promises that its code runs in ring 0, that `board` tells the truth, and that every
    /// root which it hands to the protocol maps the kernel (code, stacks, per-CPU data), at the same
    /// addresses in all of them. The protocol loads no other root (I6), and loads them with a flush only, unless
    /// PCIDs are on ([`X86::with_pcids`]). What `board` replaces keeps what the method that it replaces keeps.
    pub unsafe fn new(board: B, quirks: Quirks) -> Self {
        X86 {
            board,
            quirks,
            pcids_are_on: false,
            most_addresses: None,
        }
    }

    /// Lets the protocol use PCIDs.
    ///
    /// # Safety
    /// CR4.PCIDE is 1 on every CPU before it comes to the protocol, and stays so; a CPU comes with the kernel's own root
    /// loaded under PCID 0. The kernel loads CR3 with none of the PCIDs that the protocol has (1 to the number of its
    /// slots; to twice that number where a space has two roots), but to come back, with interrupts off in between, to the value that it found there. With PCID 0 it
    /// loads only roots that map the kernel and whose tables are never freed: the protocol's own loads of that PCID
    /// keep what is cached. Where a space has two roots, every CPU has INVPCID ([`crate::detect::Features::invpcid`]).
    ///
    /// Or the board's [`Board::load_cr3_pcid`] and [`Board::invpcid`] use no PCIDs; then CR4.PCIDE may be 0.
    pub unsafe fn with_pcids(self) -> Self {
        X86 {
            pcids_are_on: true,
            ..self
        }
    }

    /// Lets protocols broadcast invalidations, each INVLPGB with `most` addresses and fewer
    /// ([`crate::detect::Features::most_addresses`]). [`lazytlb::Tlb`] does not.
    ///
    /// # Safety
    /// Every CPU that comes to such a protocol has INVLPGB and TLBSYNC, and takes so many addresses. Code names
    /// canonical addresses only, and a PCID other than 0 only where CR4.PCIDE is 1.
    pub unsafe fn with_broadcasts(self, most: NonZeroU16) -> Self {
        X86 {
            most_addresses: Some(most),
            ..self
        }
    }

    /// Returns the kernel's part.
    pub fn board(&self) -> &B {
        &self.board
    }
}

impl<B: Board> Hw for X86<B> {
    type Atomic = AtomicU64;
    /// An atomic too: handlers on the same CPU share it, and the kernel's `static`s must be `Sync`.
    type Local = AtomicU64;

    fn cpu(&self) -> CpuId {
        self.board.cpu()
    }
    fn load(&self, atomic: &AtomicU64) -> u64 {
        self.board.load(atomic)
    }
    fn store(&self, atomic: &AtomicU64, value: u64) {
        self.board.store(atomic, value);
    }
    fn fetch_add(&self, atomic: &AtomicU64, value: u64) -> u64 {
        self.board.fetch_add(atomic, value)
    }
    fn fetch_or(&self, atomic: &AtomicU64, bits: u64) -> u64 {
        self.board.fetch_or(atomic, bits)
    }
    fn fetch_and(&self, atomic: &AtomicU64, bits: u64) -> u64 {
        self.board.fetch_and(atomic, bits)
    }
    fn swap(&self, atomic: &AtomicU64, value: u64) -> u64 {
        self.board.swap(atomic, value)
    }
    fn load_local(&self, local: &AtomicU64) -> u64 {
        self.board.load_local(local)
    }
    fn store_local(&self, local: &AtomicU64, value: u64) {
        self.board.store_local(local, value);
    }
    fn fence(&self) {
        self.board.fence();
    }

    fn interrupts(&self) -> Interrupts {
        self.board.interrupts()
    }
    fn disable_interrupts(&self) -> Interrupts {
        self.board.disable_interrupts()
    }
    fn restore_interrupts(&self, former: Interrupts) {
        self.board.restore_interrupts(former);
    }
    fn send_ipi<const WORDS: usize>(&self, targets: &CpuSet<WORDS>) {
        self.board.send_flush_ipi(targets);
    }
    fn pause_until(&self, atomic: &AtomicU64, until: Until) {
        self.board.pause_until(atomic, until);
    }

    fn load_cr3(&self, root: PhysAddr, load: Cr3Load) {
        // Without PCIDs the protocol never asks to keep anything. If it did, flushing would still be right:
        // invalidating too much is always allowed (H18).
        let (Cr3Load::Flush | Cr3Load::Keep) = load;
        // SAFETY: `new`'s contract: every root that the protocol knows maps the kernel.
        unsafe { self.board.load_cr3(root) }
    }
    fn invlpg(&self, addr: VirtAddr) {
        self.board.invlpg(addr);
    }
    fn quirks(&self) -> Quirks {
        self.quirks
    }
}

impl<B: Board> Pcids for X86<B> {
    fn pcids_are_on(&self) -> bool {
        self.pcids_are_on
    }
    fn load_cr3_pcid(&self, root: PhysAddr, pcid: Pcid, load: Cr3Load) {
        if !self.pcids_are_on {
            return self.load_cr3(root, Cr3Load::Flush);
        }
        // SAFETY: `with_pcids`'s contract; and the protocol keeps what is cached only under a PCID that belongs to
        // the root (I3).
        unsafe { self.board.load_cr3_pcid(root, pcid, load) }
    }
    fn invpcid(&self, what: Invpcid) {
        // SAFETY: as above.
        unsafe { self.board.invpcid(what) }
    }
    fn flush_everything(&self) {
        // SAFETY: `new`'s contract: the protocol runs in ring 0, and here with interrupts off; the kernel's NMI handlers
        // leave CR4 as it is.
        unsafe { self.board.flush_everything() }
    }
}

impl<B: Board> CompareExchange for X86<B> {
    fn compare_exchange(&self, atomic: &AtomicU64, current: u64, new: u64) -> Result<u64, u64> {
        self.board.compare_exchange(atomic, current, new)
    }
}

impl<B: Board> Broadcast for X86<B> {
    fn most_addresses(&self) -> Option<NonZeroU16> {
        self.most_addresses
    }
    /// # Panics
    /// If broadcasts are off ([`X86::with_broadcasts`]), or it names more addresses than one instruction may name.
    fn invlpgb(&self, what: Invlpgb) {
        let most = self.most_addresses.expect(BROADCASTS_ARE_OFF);
        assert!(
            what.addresses.is_none_or(|named| named.count <= most),
            "one INVLPGB names {most} addresses at most: split them with `Strides::over`"
        );
        // SAFETY: `with_broadcasts`'s contract.
        unsafe { self.board.invlpgb(what) }
    }
    /// # Panics
    /// If broadcasts are off.
    fn tlbsync(&self) {
        assert!(self.most_addresses.is_some(), "{BROADCASTS_ARE_OFF}");
        // SAFETY: as above.
        unsafe { self.board.tlbsync() }
    }
}

const BROADCASTS_ARE_OFF: &str = "broadcasts are off on this machine: ask `most_addresses` before";

impl<B: Board> Poll for X86<B> {
    fn poll<R>(&self, body: impl Fn(&Self) -> Option<R>) -> R {
        loop {
            if let Some(found) = body(self) {
                return found;
            }
            self.board.waiting();
            self.board.pause();
        }
    }
}

/// Makes the protocol's words: on this machine an atomic is an atomic, whichever word of the protocol it is
/// and whatever kind of value it holds. So it takes [`Cells`] as it is provided.
#[derive(Clone, Copy, Debug, Default)]
pub struct Words;

impl<B: Board> Cells<X86<B>> for Words {
    fn atomic(&mut self, _name: &'static str, value: u64) -> AtomicU64 {
        AtomicU64::new(value)
    }
    fn local(&mut self, _name: &'static str, value: u64) -> AtomicU64 {
        AtomicU64::new(value)
    }
}

#[cfg(test)]
mod tests {
    use core::sync::atomic::Ordering;

    use super::*;

    /// A board that is never asked for an IPI, and meets a wait's condition itself.
    struct Loopback(AtomicU64);

    impl Board for Loopback {
        fn cpu(&self) -> CpuId {
            CpuId(3)
        }
        fn send_flush_ipi<const WORDS: usize>(&self, _targets: &CpuSet<WORDS>) {}
        fn waiting(&self) {
            self.0.fetch_sub(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn a_wait_ends_when_its_condition_holds_and_calls_the_board_meanwhile() {
        // SAFETY: no privileged call is made below.
        let machine = unsafe { X86::new(Loopback(AtomicU64::new(5)), Quirks::default()) };
        machine.pause_until(&machine.board().0, Until::Zero);
        assert_eq!(machine.load(&machine.board().0), 0);
        assert_eq!(machine.cpu(), CpuId(3));
    }

    #[test]
    fn a_poll_ends_with_what_its_body_finds_and_calls_the_board_meanwhile() {
        // SAFETY: as above.
        let machine = unsafe { X86::new(Loopback(AtomicU64::new(5)), Quirks::default()) };
        let found = machine.poll(|machine| match machine.load(&machine.board().0) {
            left @ 0..=2 => Some(left),
            _ => None,
        });
        assert_eq!((found, machine.load(&machine.board().0)), (2, 2));
    }

    #[test]
    fn read_modify_writes_return_the_former_value() {
        // SAFETY: as above.
        let machine = unsafe { X86::new(Loopback(AtomicU64::new(0)), Quirks::default()) };
        let word = Cells::<X86<Loopback>>::atomic(&mut Words, "word", 0b100);
        assert_eq!(machine.fetch_or(&word, 0b011), 0b100);
        assert_eq!(machine.fetch_and(&word, 0b110), 0b111);
        assert_eq!(machine.fetch_add(&word, 1), 0b110);
        assert_eq!(machine.swap(&word, 9), 0b111);
        assert_eq!(machine.load(&word), 9);
    }
}
