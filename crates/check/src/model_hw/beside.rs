//! The traits beside the seam, as the checker implements them: what not every CPU has, or not every protocol needs.

use std::num::NonZeroU16;

use lazytlb::{
    Broadcast, CompareExchange, Cr3Load, Globals, Invlpgb, Pcid, Pcids, PhysAddr, UpperLevels,
};
use lazytlb_model::{AtomicCell, Call, Cr4, Invpcid, Rmw};

use super::ModelHw;

/// Addresses that one INVLPGB may name. CPUs have more; with so few, small programs come to where one does not suffice.
const MOST_ADDRESSES: NonZeroU16 = NonZeroU16::new(2).expect("it is 2");

impl Pcids for ModelHw {
    /// Where the program starts so ([`crate::Program::start_with_cr4`]).
    fn pcids_are_on(&self) -> bool {
        self.constants.pcids_are_on
    }
    fn load_cr3_pcid(&self, root: PhysAddr, pcid: Pcid, load: Cr3Load) {
        self.load_cr3_with_pcid(root, pcid.number(), load);
    }
    fn flush_everything(&self) {
        if self.constants.pcids_are_on {
            Pcids::invpcid(self, lazytlb::Invpcid::AllWithGlobals);
        } else {
            self.change_cr4(Cr4::default(), Cr4::default().with(Cr4::PGE, true));
            self.change_cr4(Cr4::default().with(Cr4::PGE, true), Cr4::default());
        }
    }
    fn invpcid(&self, what: lazytlb::Invpcid) {
        self.ask(Call::Invpcid(match what {
            lazytlb::Invpcid::Address(pcid, addr) => Invpcid::Address(pcid.number(), addr),
            lazytlb::Invpcid::Pcid(pcid) => Invpcid::Pcid(pcid.number()),
            lazytlb::Invpcid::AllWithGlobals => Invpcid::AllWithGlobals,
            lazytlb::Invpcid::AllNonGlobal => Invpcid::AllNonGlobal,
        }));
    }
}

impl CompareExchange for ModelHw {
    fn compare_exchange(&self, atomic: &AtomicCell, current: u64, new: u64) -> Result<u64, u64> {
        let held = self.ask(Call::Rmw(*atomic, Rmw::SwapIf(current), new));
        if held == current { Ok(held) } else { Err(held) }
    }
}

impl Broadcast for ModelHw {
    /// On the CPU models that have it; there a program says that it uses it
    /// ([`broadcasts`](lazytlb_model::Features::broadcasts)).
    fn most_addresses(&self) -> Option<NonZeroU16> {
        self.constants.has_broadcasts.then_some(MOST_ADDRESSES)
    }

    /// Each address is broadcast by itself: nothing says that a CPU does several at once.
    ///
    /// # Panics
    /// If more addresses are named than one instruction may name: #GP.
    fn invlpgb(&self, what: Invlpgb) {
        let broadcast = |addr| {
            ModelHw::invlpgb(
                self,
                lazytlb_model::Broadcast {
                    addr,
                    pcid: what.pcid.map(Pcid::number),
                    globals: what.globals == Globals::Included,
                    final_only: what.upper_levels == UpperLevels::Kept,
                },
            );
        };
        match what.addresses {
            None => broadcast(None),
            Some(named) => {
                assert!(
                    named.count <= MOST_ADDRESSES,
                    "INVLPGB of {} addresses, where one names {MOST_ADDRESSES} at most: #GP",
                    named.count
                );
                named.addresses().for_each(|addr| broadcast(Some(addr)));
            }
        }
    }

    fn tlbsync(&self) {
        ModelHw::tlbsync(self);
    }
}
