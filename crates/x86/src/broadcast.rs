//! Broadcast invalidation: INVLPGB and TLBSYNC, for assemblers that know their names and for those that do not.
//!
//! [`lazytlb::Broadcast`] is made of them; a kernel that broadcasts for its own purposes finds the instructions here.

use core::arch::asm;

use lazytlb::{Globals, Invlpgb, Stride, UpperLevels};

/// Where INVLPGB looks for what it is told. Source: APM 3, "INVLPGB".
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Operand {
    /// The first address, and what counts.
    rax: u64,
    /// How many more addresses, and the stride.
    ecx: u32,
    /// The guest's ASID, and the PCID.
    edx: u32,
}

const BY_ADDRESS: u64 = 1 << 0;
const BY_PCID: u64 = 1 << 1;
const BY_ASID: u64 = 1 << 2;
const WITH_GLOBALS: u64 = 1 << 3;
const FINAL_ONLY: u64 = 1 << 4;
const STRIDE_2M: u32 = 1 << 31;
const PCID_SHIFT: u32 = 16;

impl Operand {
    fn of(what: Invlpgb) -> Operand {
        // Only the kernel's own entries: as ASID 0 they have, no guest's are meant.
        let mut operand = Operand {
            rax: BY_ASID,
            ecx: 0,
            edx: 0,
        };
        if let Some(named) = what.addresses {
            operand.rax |=
                BY_ADDRESS | (named.start.0 >> named.stride.shift() << named.stride.shift());
            operand.ecx = u32::from(named.count.get()) - 1;
            if named.stride == Stride::Size2M {
                operand.ecx |= STRIDE_2M;
            }
        }
        if let Some(pcid) = what.pcid {
            operand.rax |= BY_PCID;
            operand.edx = u32::from(pcid.number()) << PCID_SHIFT;
        }
        if what.globals == Globals::Included {
            operand.rax |= WITH_GLOBALS;
        }
        if what.upper_levels == UpperLevels::Kept {
            operand.rax |= FINAL_ONLY;
        }
        operand
    }
}

/// Broadcasts an invalidation (H29): every CPU does it some time later. Neither a serializing instruction nor a fence.
///
/// # Safety
/// Ring 0, and the CPU must have it ([`crate::detect::Features::invlpgb_pages`]): else #UD. It must name no more
/// addresses than the CPU's number, the first of them canonical, and a PCID other than 0 only with
/// CR4.PCIDE = 1: else #GP.
#[inline]
pub unsafe fn invlpgb(what: Invlpgb) {
    let Operand { rax, ecx, edx } = Operand::of(what);
    // SAFETY: the caller's promise; invalidating too much is always allowed (H18). It may not move past accesses to
    // memory, hence no `nomem`.
    unsafe {
        asm!(".byte 0x0f, 0x01, 0xfe", in("rax") rax, in("ecx") ecx, in("edx") edx,
             options(nostack, preserves_flags));
    }
}

/// Waits until every CPU has done what this one has broadcast (H29): code must not have migrated since.
///
/// # Safety
/// Ring 0, and the CPU must have it: else #UD.
#[inline]
pub unsafe fn tlbsync() {
    // SAFETY: the caller's promise; it changes no register.
    unsafe { asm!(".byte 0x0f, 0x01, 0xff", options(nostack, preserves_flags)) }
}

#[cfg(test)]
mod tests {
    use core::num::NonZeroU16;

    use lazytlb::{Pcid, Strides, VirtAddr};

    use super::*;

    #[test]
    fn operands_are_encoded_as_the_manual_has_them() {
        // By hand, from APM 3, "INVLPGB".
        let everything = Operand {
            rax: 0b0_1100,
            ecx: 0,
            edx: 0,
        };
        assert_eq!(Operand::of(Invlpgb::EVERYTHING), everything);
        let of_a_pcid = Invlpgb {
            pcid: Some(Pcid::new(0xabc)),
            globals: Globals::Kept,
            ..Invlpgb::EVERYTHING
        };
        let operand = Operand {
            rax: 0b0_0110,
            ecx: 0,
            edx: 0x0abc_0000,
        };
        assert_eq!(Operand::of(of_a_pcid), operand);
        let eight_pages = Invlpgb {
            addresses: Some(Strides {
                start: VirtAddr(0xffff_8000_0020_3fff),
                count: NonZeroU16::new(8).expect("it is 8"),
                stride: Stride::Size4K,
            }),
            upper_levels: UpperLevels::Kept,
            ..of_a_pcid
        };
        let operand = Operand {
            rax: 0xffff_8000_0020_3000 | 0b1_0111,
            ecx: 7,
            edx: 0x0abc_0000,
        };
        assert_eq!(Operand::of(eight_pages), operand);
    }

    #[test]
    fn what_lies_below_the_stride_is_neither_an_address_nor_a_flag() {
        let large = Strides {
            start: VirtAddr(0x20_3fff),
            count: NonZeroU16::new(2).expect("it is 2"),
            stride: Stride::Size2M,
        };
        let operand = Operand::of(Invlpgb {
            addresses: Some(large),
            ..Invlpgb::EVERYTHING
        });
        let expected = Operand {
            rax: 0x20_0000 | 0b0_1101,
            ecx: 0x8000_0001,
            edx: 0,
        };
        assert_eq!(operand, expected);
    }
}
