//! Random accesses: to data by virtual address, and to cells.

use lazytlb_model::{AtomicCell, Call, Privilege, Rmw};

use super::{Family, Generator};
use crate::script::FLAG;

impl Generator {
    pub(super) fn access(&mut self) -> Call {
        let addr = self.random.among(&self.addrs.clone());
        let is_supervisor = self.is(Family::Permissions) && self.random.percent(45);
        let privilege = match is_supervisor {
            true => Privilege::Supervisor,
            false => Privilege::User,
        };
        let fetches = match self.is(Family::Fetches) {
            true => 65,
            false if self.is(Family::Permissions) => 30,
            false => 4,
        };
        if self.random.percent(fetches) {
            return Call::Fetch(addr, privilege);
        }
        match self.random.below(20) {
            0..10 => Call::LoadVirtual(addr, privilege),
            10..18 => {
                let (bytes, value) = self.bytes();
                Call::StoreVirtual {
                    addr,
                    bytes,
                    value,
                    privilege,
                    non_temporal: self.is(Family::WriteCombining) && self.random.percent(30),
                }
            }
            _ => {
                let operand = 6 + self.random.below(2);
                let (bytes, rmw) = match self.random.below(4) {
                    0 => (0b1, Rmw::Add),
                    1 => (0xff, Rmw::SwapIf(4 + self.random.below(2))),
                    _ => (0xff, Rmw::Swap),
                };
                Call::RmwVirtual {
                    addr,
                    bytes,
                    rmw,
                    operand,
                    privilege,
                }
            }
        }
    }

    /// Draws what is stored: which bytes, and a value in its place.
    pub(super) fn bytes(&mut self) -> (u8, u64) {
        let value = 4 + self.random.below(2);
        match self.random.below(5) {
            0 => (0b01, value),
            1 => (0b10, value << 8),
            _ => (0, value),
        }
    }

    pub(super) fn other(&mut self) -> Call {
        let pages = [AtomicCell(0), AtomicCell(1), AtomicCell(2), FLAG];
        let cells = match self.is(Family::WriteCombining) {
            true => &pages[..],
            false => &pages[..2],
        };
        let cell = self.random.among(cells);
        let (bytes, value) = self.bytes();
        match self.random.below(20) {
            0..5 => Call::Load(cell),
            5..8 => Call::Store(cell, value),
            8 | 9 if bytes != 0 => Call::StoreBytes { cell, bytes, value },
            8..11 => Call::RmwBytes {
                cell,
                bytes: 1,
                rmw: Rmw::Add,
                operand: 1,
            },
            11..14 => Call::Fence,
            14..17 => Call::StoreFence,
            _ => Call::Serialize,
        }
    }
}
