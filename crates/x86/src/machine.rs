//! The seam on real hardware: each call is an instruction or two.

use core::sync::atomic::{AtomicU64, Ordering, fence};

use lazytlb::{
    Cells, CpuId, CpuSet, Cr3Load, Hw, Interrupts, Invpcid, Pcid, Pcids, PhysAddr, Poll, Quirks,
    Until, VirtAddr,
};
use x86_64::instructions::{interrupts, tlb};
use x86_64::registers::control::{Cr3, Cr3Flags};
use x86_64::structures::paging::PhysFrame;

use crate::board::Board;
use crate::pcid;

/// The real machine, shared by all CPUs.
#[derive(Debug)]
pub struct X86<B> {
    board: B,
    quirks: Quirks,
    pcids_are_on: bool,
}

impl<B: Board> X86<B> {
    /// Makes the machine from what the kernel supplies and the errata found at boot
    /// ([`crate::Detected::quirks`]), which must be those of the weakest CPU in the system.
    ///
    /// # Safety
    /// The kernel promises that its code runs in ring 0, that `board` tells the truth, and that every
    /// root which it hands to the protocol maps the kernel (code, stacks, per-CPU data), at the same
    /// addresses in all of them. The protocol loads no other root (I6), and loads them with a flush only, unless
    /// PCIDs are on ([`X86::with_pcids`]).
    pub unsafe fn new(board: B, quirks: Quirks) -> Self {
        X86 {
            board,
            quirks,
            pcids_are_on: false,
        }
    }

    /// Lets the protocol use PCIDs.
    ///
    /// # Safety
    /// CR4.PCIDE is 1 on every CPU before it comes to the protocol, and stays so; a CPU comes with the kernel's own root
    /// loaded under PCID 0. The kernel loads CR3 with none of the PCIDs that the protocol has (1 to the number of its
    /// slots), but to come back, with interrupts off in between, to the value that it found there. With PCID 0 it
    /// loads only roots that map the kernel and whose tables are never freed: the protocol's own loads of that PCID
    /// keep what is cached.
    pub unsafe fn with_pcids(self) -> Self {
        X86 {
            pcids_are_on: true,
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
        atomic.load(Ordering::Acquire)
    }
    fn store(&self, atomic: &AtomicU64, value: u64) {
        atomic.store(value, Ordering::Release);
    }
    fn fetch_add(&self, atomic: &AtomicU64, value: u64) -> u64 {
        atomic.fetch_add(value, Ordering::SeqCst)
    }
    fn fetch_or(&self, atomic: &AtomicU64, bits: u64) -> u64 {
        atomic.fetch_or(bits, Ordering::SeqCst)
    }
    fn fetch_and(&self, atomic: &AtomicU64, bits: u64) -> u64 {
        atomic.fetch_and(bits, Ordering::SeqCst)
    }
    fn swap(&self, atomic: &AtomicU64, value: u64) -> u64 {
        atomic.swap(value, Ordering::SeqCst)
    }
    // Acquire and release cost nothing on x86, and keep the compiler from moving a local's access
    // past a neighbouring seam call, which H39 takes for granted.
    fn load_local(&self, local: &AtomicU64) -> u64 {
        local.load(Ordering::Acquire)
    }
    fn store_local(&self, local: &AtomicU64, value: u64) {
        local.store(value, Ordering::Release);
    }
    fn fence(&self) {
        fence(Ordering::SeqCst);
    }

    fn interrupts(&self) -> Interrupts {
        if interrupts::are_enabled() {
            Interrupts::Enabled
        } else {
            Interrupts::Disabled
        }
    }
    fn disable_interrupts(&self) -> Interrupts {
        let former = self.interrupts();
        interrupts::disable();
        former
    }
    fn restore_interrupts(&self, former: Interrupts) {
        if former == Interrupts::Enabled {
            interrupts::enable();
        }
    }
    fn send_ipi<const WORDS: usize>(&self, targets: &CpuSet<WORDS>) {
        self.board.send_flush_ipi(targets);
    }
    fn pause_until(&self, atomic: &AtomicU64, until: Until) {
        while !until.holds(self.load(atomic)) {
            self.board.waiting();
            core::hint::spin_loop();
        }
    }

    fn load_cr3(&self, root: PhysAddr, load: Cr3Load) {
        // Without PCIDs the protocol never asks to keep anything. If it did, flushing would still be right:
        // invalidating too much is always allowed (H18).
        let (Cr3Load::Flush | Cr3Load::Keep) = load;
        let frame = PhysFrame::containing_address(x86_64::PhysAddr::new_truncate(root.0));
        // SAFETY: `new`'s contract: every root that the protocol knows maps the kernel.
        unsafe { Cr3::write(frame, Cr3Flags::empty()) }
    }
    fn invlpg(&self, addr: VirtAddr) {
        // SAFETY: only the instruction sees the address, and INVLPG of one that is not canonical does
        // nothing. Truncating it to 48 bits would invalidate another page under five-level paging.
        tlb::flush(unsafe { x86_64::VirtAddr::new_unsafe(addr.0) });
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
        unsafe { pcid::load_cr3(root, tag(pcid), load) }
    }
    fn invpcid(&self, what: Invpcid) {
        let what = match what {
            Invpcid::Address(pcid, addr) => pcid::Invpcid::Page(tag(pcid), addr),
            Invpcid::Pcid(pcid) => pcid::Invpcid::Space(tag(pcid)),
            Invpcid::AllWithGlobals => pcid::Invpcid::AllWithGlobal,
            Invpcid::AllNonGlobal => pcid::Invpcid::AllButGlobal,
        };
        // SAFETY: as above.
        unsafe { pcid::invpcid(what) }
    }
}

fn tag(pcid: Pcid) -> pcid::Pcid {
    pcid::Pcid::new(pcid.number()).expect("both have 12 bits")
}

impl<B: Board> Poll for X86<B> {
    fn poll<R>(&self, body: impl Fn(&Self) -> Option<R>) -> R {
        loop {
            if let Some(found) = body(self) {
                return found;
            }
            self.board.waiting();
            core::hint::spin_loop();
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
