//! The flags of a thread: what instructions leave in CF, ZF, SF and OF, and which conditions hold of them.

use lazytlb_litmus_syntax::{AluOp, CompareOp, JumpCondition, JumpIf, Width};

use crate::registers::mask;

/// The flags that conditional jumps ask for. All are clear at the start.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Flags {
    carry: bool,
    zero: bool,
    sign: bool,
    overflow: bool,
}

impl Flags {
    /// Says whether a jump is taken.
    pub(crate) fn let_jump(self, when: JumpIf) -> bool {
        let holds = |condition| match condition {
            JumpCondition::Overflow => self.overflow,
            JumpCondition::Below => self.carry,
            JumpCondition::Equal => self.zero,
            JumpCondition::BelowOrEqual => self.carry || self.zero,
            JumpCondition::Sign => self.sign,
            JumpCondition::Less => self.sign != self.overflow,
            JumpCondition::LessOrEqual => self.zero || self.sign != self.overflow,
        };
        match when {
            JumpIf::Always => true,
            JumpIf::Holds(condition) => holds(condition),
            JumpIf::HoldsNot(condition) => !holds(condition),
        }
    }

    /// Sets the flags as an instruction does that changes its operand, which was `old`. `accumulator` is what
    /// CMPXCHG compares with.
    pub(crate) fn change(
        &mut self,
        op: AluOp,
        width: Width,
        old: u64,
        operand: u64,
        accumulator: u64,
    ) {
        match op {
            AluOp::Add | AluOp::Xadd => self.add(width, old, operand),
            AluOp::Sub => self.subtract(width, old, operand),
            AluOp::And => self.logic(width, old & operand),
            AluOp::Or => self.logic(width, old | operand),
            AluOp::Xor => self.logic(width, old ^ operand),
            AluOp::Cmpxchg => self.subtract(width, accumulator, old),
            AluOp::Inc | AluOp::Dec => {
                // They leave CF as it is.
                let carry = self.carry;
                match op {
                    AluOp::Inc => self.add(width, old, 1),
                    _ => self.subtract(width, old, 1),
                }
                self.carry = carry;
            }
            AluOp::Bts | AluOp::Btr | AluOp::Btc => self.bit(width, old, operand),
        }
    }

    /// Sets the flags as an instruction does that only compares.
    pub(crate) fn compare(&mut self, op: CompareOp, width: Width, left: u64, right: u64) {
        match op {
            CompareOp::Cmp => self.subtract(width, left, right),
            CompareOp::Test => self.logic(width, left & right),
            CompareOp::Bt => self.bit(width, left, right),
        }
    }

    fn add(&mut self, width: Width, left: u64, right: u64) {
        let (left, right) = (left & mask(width), right & mask(width));
        let sum = left.wrapping_add(right) & mask(width);
        self.result(width, sum);
        self.carry = sum < left;
        self.overflow = is_negative(width, (left ^ sum) & (right ^ sum));
    }

    fn subtract(&mut self, width: Width, left: u64, right: u64) {
        let (left, right) = (left & mask(width), right & mask(width));
        let difference = left.wrapping_sub(right) & mask(width);
        self.result(width, difference);
        self.carry = left < right;
        self.overflow = is_negative(width, (left ^ right) & (left ^ difference));
    }

    fn logic(&mut self, width: Width, result: u64) {
        self.result(width, result);
        self.carry = false;
        self.overflow = false;
    }

    fn result(&mut self, width: Width, result: u64) {
        self.zero = result & mask(width) == 0;
        self.sign = is_negative(width, result);
    }

    /// BT and its like set CF alone; what is undefined stays as it is.
    fn bit(&mut self, width: Width, word: u64, number: u64) {
        self.carry = word & bit(width, number) != 0;
    }
}

/// Returns the bit of an operand that BT and its like mean: its number wraps at the width.
pub(crate) fn bit(width: Width, number: u64) -> u64 {
    1 << (number % u64::from(8 * width.bytes()))
}

fn is_negative(width: Width, value: u64) -> bool {
    value >> (8 * width.bytes() - 1) & 1 != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The conditions that hold after `cmp right,left`, by their letters.
    fn after(width: Width, left: u64, right: u64) -> String {
        let mut flags = Flags::default();
        flags.compare(CompareOp::Cmp, width, left, right);
        let conditions = [
            ("o", JumpCondition::Overflow),
            ("b", JumpCondition::Below),
            ("e", JumpCondition::Equal),
            ("be", JumpCondition::BelowOrEqual),
            ("s", JumpCondition::Sign),
            ("l", JumpCondition::Less),
            ("le", JumpCondition::LessOrEqual),
        ];
        let hold = conditions.into_iter().filter(|(_, condition)| {
            let holds = flags.let_jump(JumpIf::Holds(*condition));
            assert_ne!(holds, flags.let_jump(JumpIf::HoldsNot(*condition)));
            holds
        });
        hold.map(|(name, _)| name).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn comparisons_are_signed_and_unsigned_in_their_width() {
        assert_eq!(after(Width::Quad, 1, 1), "e be le");
        assert_eq!(after(Width::Quad, 1, 2), "b be s l le");
        assert_eq!(after(Width::Quad, 2, 1), "");
        assert_eq!(after(Width::Quad, u64::MAX, 1), "s l le");
        assert_eq!(after(Width::Quad, 1, u64::MAX), "b be");
        assert_eq!(after(Width::Byte, 0x80, 1), "o l le");
        assert_eq!(after(Width::Byte, 0x101, 1), "e be le");
        assert_eq!(after(Width::Long, 0x7fff_ffff, u64::MAX), "o b be s");
    }

    #[test]
    fn every_instruction_leaves_the_manuals_flags() {
        let flags = |op, old, operand, accumulator| {
            let mut flags = Flags {
                carry: true,
                ..Flags::default()
            };
            flags.change(op, Width::Byte, old, operand, accumulator);
            (flags.carry, flags.zero, flags.sign, flags.overflow)
        };
        assert_eq!(flags(AluOp::Add, 0xff, 1, 0), (true, true, false, false));
        assert_eq!(flags(AluOp::Add, 0x7f, 1, 0), (false, false, true, true));
        assert_eq!(flags(AluOp::Sub, 0, 1, 0), (true, false, true, false));
        assert_eq!(
            flags(AluOp::And, 0xf0, 0x0f, 0),
            (false, true, false, false)
        );
        assert_eq!(flags(AluOp::Inc, 0xff, 1, 0), (true, true, false, false));
        assert_eq!(flags(AluOp::Dec, 0x80, 1, 0), (true, false, false, true));
        assert_eq!(flags(AluOp::Cmpxchg, 5, 9, 5), (false, true, false, false));
        assert_eq!(flags(AluOp::Cmpxchg, 5, 9, 4), (true, false, true, false));
        assert_eq!(flags(AluOp::Btr, 0b10, 1, 0), (true, false, false, false));
        assert_eq!(flags(AluOp::Bts, 0b10, 8, 0), (false, false, false, false));
    }
}
