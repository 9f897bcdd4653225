//! Instructions that load, store and compute.

use lazytlb_litmus_syntax::{AluOp, Caching, GeneralRegister, Register, Width};

use crate::access::{Access, Translation, Use};
use crate::code::{Column, Op, Place, Source};
use crate::cpu::{Context, Destination, Half, Untranslated};
use crate::machine::{Held, Machine, Stop, Tried};
use crate::memory::{Bytes, Frame, Word};
use crate::registers::low;
use crate::store_buffer::Store;
use crate::world::ENTRY_ADDRESSES;
use crate::write_combining::Combined;

/// Where an operand lies.
#[derive(Clone, Copy)]
pub(crate) enum Located {
    Physical(Word, Bytes),
    Virtual(u64, Bytes),
}

impl Machine<'_> {
    /// Returns what a CPU executes.
    pub(crate) fn context(&mut self, cpu: usize) -> &mut Context {
        let contexts = &mut self.cpus[cpu].contexts;
        contexts.last_mut().expect("the thread itself stays")
    }

    /// Returns the value of a source that is no memory.
    pub(crate) fn value(&mut self, cpu: usize, source: Source, width: Width) -> u64 {
        let value = match source {
            Source::Register(register) => self.context(cpu).registers.whole(register.general),
            Source::Number(number) => number,
            Source::Memory(_) => 0,
        };
        low(width).of(value)
    }

    pub(crate) fn locate(&mut self, cpu: usize, place: Place, width: Width) -> Tried<Located> {
        let bytes = low(width);
        Ok(match place {
            Place::Physical(word) => Located::Physical(word, bytes),
            Place::Virtual(address) => Located::Virtual(address, bytes),
            Place::Pointer(register, offset) => {
                let base = self.context(cpu).registers.whole(register.general);
                let address = base.wrapping_add_signed(offset);
                let bytes = Bytes {
                    offset: (address % 8) as u32,
                    ..bytes
                };
                if bytes.offset + bytes.count > 8 {
                    return Err(Held::Stop(Stop::Discarded));
                }
                let physical = match address.checked_sub(ENTRY_ADDRESSES) {
                    Some(of_entry) => Some(of_entry),
                    None if self.board.is_translated => None,
                    None => Some(address),
                };
                match physical {
                    None => Located::Virtual(address & !7, bytes),
                    Some(at) => Located::Physical(Word::at(Frame(at & !0xfff), at), bytes),
                }
            }
        })
    }

    /// Translates an address, and takes the page fault if there is one.
    pub(crate) fn translated(&mut self, cpu: usize, access: Access) -> Tried<(Word, Caching)> {
        match self.translate(cpu, access)? {
            Translation::To { word, caching } => Ok((word, caching)),
            Translation::Wait => Err(Held::Wait),
            Translation::Fault => {
                self.page_fault(cpu, access.address);
                Err(Held::Fault)
            }
        }
    }

    pub(crate) fn access(
        &self,
        cpu: usize,
        column: &Column,
        address: u64,
        by: Use,
        plain: bool,
    ) -> Access {
        Access {
            address,
            by,
            user: column.user,
            after: self.cpus[cpu].stores,
            plain,
        }
    }

    /// Loads some bytes.
    fn read(&mut self, cpu: usize, column: &Column, place: Place, width: Width) -> Tried<u64> {
        let (word, bytes) = match self.locate(cpu, place, width)? {
            Located::Physical(word, bytes) => (word, bytes),
            Located::Virtual(address, bytes) => {
                let access = self.access(cpu, column, address, Use::Read, true);
                let (word, caching) = self.translated(cpu, access)?;
                if !self.may_read(cpu, word, caching) {
                    return Err(Held::Wait);
                }
                (word, bytes)
            }
        };
        let state = &mut self.cpus[cpu];
        state.has_read(word);
        Ok(bytes.of(state.read(&self.memory, word, state.stores)))
    }

    /// Says whether a load need wait no longer. From uncached memory it waits for the write-combining buffers (H26),
    /// and perhaps for the store buffer (H43); write-combining memory is not read past a store to the same word.
    fn may_read(&self, cpu: usize, word: Word, caching: Caching) -> bool {
        let state = &self.cpus[cpu];
        match caching {
            Caching::WriteBack => true,
            Caching::WriteCombining => state.combining.to_word(word).next().is_none(),
            Caching::Uncacheable => {
                let unordered = self.board.amended.unordered_uncached_loads;
                state.combining.is_done(self.board.readings.uncached)
                    && (unordered || state.store_buffer.is_empty())
            }
        }
    }

    pub(crate) fn load(
        &mut self,
        cpu: usize,
        column: &Column,
        to: Register,
        from: Place,
    ) -> Tried<()> {
        let value = self.read(cpu, column, from, to.width)?;
        self.context(cpu).registers.set(to, value);
        Ok(())
    }

    pub(crate) fn set(
        &mut self,
        cpu: usize,
        column: &Column,
        to: Register,
        from: Source,
    ) -> Tried<()> {
        if let Source::Memory(place) = from {
            return self.load(cpu, column, to, place);
        }
        let value = self.value(cpu, from, to.width);
        self.context(cpu).registers.set(to, value);
        Ok(())
    }

    pub(crate) fn store(
        &mut self,
        cpu: usize,
        column: &Column,
        to: Place,
        from: Source,
        width: Width,
        non_temporal: bool,
    ) -> Tried<()> {
        let value = self.value(cpu, from, width);
        if let Located::Virtual(address, bytes) = self.locate(cpu, to, width)?
            && !non_temporal
            && self.board.amended.late_translations
            && self.random.chance(self.temper.late_translation)
        {
            self.push_untranslated(cpu, column, address, bytes, value);
            return Ok(());
        }
        let mut to = self.destination(cpu, column, to, width, true)?;
        if non_temporal && to.caching == Caching::WriteBack {
            // From here on it is treated as a store to write-combining memory.
            to.caching = Caching::WriteCombining;
        }
        self.push(cpu, to, value)
    }

    /// Finds where a store goes.
    fn destination(
        &mut self,
        cpu: usize,
        column: &Column,
        to: Place,
        width: Width,
        plain: bool,
    ) -> Tried<Destination> {
        Ok(match self.locate(cpu, to, width)? {
            Located::Physical(word, bytes) => Destination {
                word,
                bytes,
                caching: Caching::WriteBack,
            },
            Located::Virtual(address, bytes) => {
                let access = self.access(cpu, column, address, Use::Write, plain);
                let (word, caching) = self.translated(cpu, access)?;
                Destination {
                    word,
                    bytes,
                    caching,
                }
            }
        })
    }

    /// Puts a store into its buffer, or, if it is to uncached memory, into memory once the buffers are empty.
    fn push(&mut self, cpu: usize, to: Destination, value: u64) -> Tried<()> {
        if to.caching == Caching::Uncacheable {
            if !self.has_settled(cpu, self.board.readings.uncached) {
                return Err(Held::Wait);
            }
            let written = to.bytes.replaced(self.memory.read(to.word), value);
            self.write(to.word, written);
            return Ok(());
        }
        let to_device = self.board.devices.contains(&to.word.frame());
        let state = &mut self.cpus[cpu];
        state.stores += 1;
        let store = Store {
            number: state.stores,
            to: Some(to.word),
            bytes: to.bytes,
            value,
        };
        match to.caching == Caching::WriteCombining {
            true => state.combining.push(Combined {
                store,
                to: to.word,
                to_device,
                started: false,
            }),
            false => state.store_buffer.push(store),
        }
        Ok(())
    }

    /// Puts a store into the buffer whose address is translated later (H41).
    fn push_untranslated(
        &mut self,
        cpu: usize,
        column: &Column,
        address: u64,
        bytes: Bytes,
        value: u64,
    ) {
        let state = &mut self.cpus[cpu];
        state.stores += 1;
        state.store_buffer.push(Store {
            number: state.stores,
            to: None,
            bytes,
            value,
        });
        state.untranslated = Some(Untranslated {
            address,
            user: column.user,
            passed_by: Vec::new(),
        });
    }

    /// Translates the store that loads have passed. A fault, or a load that should have seen it, means that the
    /// store was translated early: another execution.
    pub(crate) fn translate_late(&mut self, cpu: usize) -> Result<(), Stop> {
        let Some(untranslated) = self.cpus[cpu].untranslated.clone() else {
            return Ok(());
        };
        let access = Access {
            address: untranslated.address,
            by: Use::Write,
            user: untranslated.user,
            after: self.cpus[cpu].stores - 1,
            plain: true,
        };
        let word = match self.translate(cpu, access)? {
            Translation::To {
                word,
                caching: Caching::WriteBack,
            } => word,
            Translation::To { .. } | Translation::Fault => return Err(Stop::Discarded),
            Translation::Wait => return Ok(()),
        };
        let is_entry = self.board.tables.contains(&word.frame());
        if is_entry || untranslated.passed_by.contains(&word) {
            return Err(Stop::Discarded);
        }
        let state = &mut self.cpus[cpu];
        state.untranslated = None;
        if let Some(store) = state.store_buffer.youngest_mut() {
            store.to = Some(word);
        }
        Ok(())
    }

    pub(crate) fn exchange(
        &mut self,
        cpu: usize,
        column: &Column,
        memory: Place,
        register: Register,
    ) -> Tried<()> {
        if !self.has_settled(cpu, self.board.readings.locked) {
            return Err(Held::Wait);
        }
        let to = self.destination(cpu, column, memory, register.width, false)?;
        let word = self.memory.read(to.word);
        let new = self.context(cpu).registers.get(register);
        self.write(to.word, to.bytes.replaced(word, new));
        let old = to.bytes.of(word);
        self.context(cpu).registers.set(register, old);
        Ok(())
    }

    pub(crate) fn modify(
        &mut self,
        cpu: usize,
        column: &Column,
        (op, locked): (AluOp, bool),
        memory: Place,
        source: Source,
        width: Width,
    ) -> Tried<()> {
        if locked && !self.has_settled(cpu, self.board.readings.locked) {
            return Err(Held::Wait);
        }
        let to = self.destination(cpu, column, memory, width, !locked)?;
        if !self.may_read(cpu, to.word, to.caching) {
            return Err(Held::Wait);
        }
        let state = &self.cpus[cpu];
        let old = to.bytes.of(state.read(&self.memory, to.word, state.stores));
        let operand = self.value(cpu, source, width);
        let new = self.computed(cpu, op, width, old, operand);
        if !locked {
            self.cpus[cpu].half = Some(Half { to, old, new });
            return Err(Held::Wait);
        }
        let word = self.memory.read(to.word);
        self.write(to.word, to.bytes.replaced(word, new));
        self.leave_old(cpu, op, width, source, old);
        Ok(())
    }

    /// Writes what a read-modify-write without LOCK has computed. Other CPUs may have come in between.
    pub(crate) fn second_half(&mut self, cpu: usize, op: &Op, half: Half) -> Tried<()> {
        self.push(cpu, half.to, half.new)?;
        self.cpus[cpu].half = None;
        if let Op::Modify {
            op, source, width, ..
        } = *op
        {
            self.leave_old(cpu, op, width, source, half.old);
        }
        Ok(())
    }

    pub(crate) fn computed(
        &mut self,
        cpu: usize,
        op: AluOp,
        width: Width,
        old: u64,
        operand: u64,
    ) -> u64 {
        let expected = self.context(cpu).registers.get(accumulator(width));
        let bit = 1 << (operand % u64::from(8 * width.bytes()));
        let new = match op {
            AluOp::Add | AluOp::Xadd => old.wrapping_add(operand),
            AluOp::Inc => old.wrapping_add(1),
            AluOp::Sub => old.wrapping_sub(operand),
            AluOp::Dec => old.wrapping_sub(1),
            AluOp::And => old & operand,
            AluOp::Or => old | operand,
            AluOp::Xor => old ^ operand,
            AluOp::Bts => old | bit,
            AluOp::Btr => old & !bit,
            AluOp::Btc => old ^ bit,
            AluOp::Cmpxchg if old == expected => operand,
            AluOp::Cmpxchg => old,
        };
        low(width).of(new)
    }

    /// Leaves the old value where XADD and a CMPXCHG that failed want it.
    pub(crate) fn leave_old(
        &mut self,
        cpu: usize,
        op: AluOp,
        width: Width,
        source: Source,
        old: u64,
    ) {
        let register = match (op, source) {
            (AluOp::Xadd, Source::Register(register)) => register,
            (AluOp::Cmpxchg, _) => accumulator(width),
            _ => return,
        };
        let registers = &mut self.context(cpu).registers;
        if op != AluOp::Cmpxchg || registers.get(register) != old {
            registers.set(register, old);
        }
    }
}

fn accumulator(width: Width) -> Register {
    Register {
        general: GeneralRegister::Rax,
        width,
    }
}
