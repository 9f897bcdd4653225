//! Finds the fields `key=value` of an event, and reads their numbers.

use memchr::memchr;

use crate::error::{LineProblem, excerpt};

/// A field of an event line, as far as the line has it.
#[derive(Clone, Copy)]
pub(crate) struct Field<'a> {
    event: &'static str,
    key: &'static str,
    value: Option<&'a [u8]>,
}

/// Looks for `keys` in one pass, and returns a field for each.
///
/// Keys in the order of the line are found at once; any other order works as well, since whoever
/// records chooses it.
#[inline]
pub(crate) fn find_fields<'a, const N: usize>(
    event: &'static str,
    keys: [&'static str; N],
    mut text: &'a [u8],
) -> [Field<'a>; N] {
    let mut fields = keys.map(|key| Field {
        event,
        key,
        value: None,
    });
    let mut expected = 0;
    while expected < N {
        let Some(equals) = memchr(b'=', text) else {
            break;
        };
        let value = &text[equals + 1..];
        let length = memchr(b' ', value).unwrap_or(value.len());
        if let Some(index) = key_index(&text[..equals], &keys, expected) {
            fields[index].value = Some(&value[..length]);
            while expected < N && fields[expected].is_present() {
                expected += 1;
            }
        }
        text = &value[length..];
    }
    fields
}

impl<'a> Field<'a> {
    /// Makes a field that was found otherwise.
    pub(crate) fn of(event: &'static str, key: &'static str, value: &'a [u8]) -> Field<'a> {
        Field {
            event,
            key,
            value: Some(value),
        }
    }
}

/// Looks for the last field of this key: a name that user space chose may look like it, and stands before it.
pub(crate) fn last_field<'a>(event: &'static str, key: &'static str, text: &'a [u8]) -> Field<'a> {
    let mut end = text.len();
    while let Some(equals) = memchr::memrchr(b'=', &text[..end]) {
        let before = text[..equals].strip_suffix(key.as_bytes());
        if before.is_some_and(|before| before.ends_with(b" ")) {
            let value = &text[equals + 1..];
            let length = memchr(b' ', value).unwrap_or(value.len());
            return Field::of(event, key, &value[..length]);
        }
        end = equals;
    }
    Field {
        event,
        key,
        value: None,
    }
}

impl Field<'_> {
    fn is_present(&self) -> bool {
        self.value.is_some()
    }

    fn text(&self) -> Result<&[u8], LineProblem> {
        self.value.ok_or(LineProblem::MissingField {
            event: self.event,
            field: self.key,
        })
    }

    /// Reads a number, if the line has the field.
    ///
    /// # Errors
    /// If it is no number.
    #[inline]
    pub(crate) fn number_if_present(&self) -> Result<Option<u64>, LineProblem> {
        self.value.map(|_| self.number()).transpose()
    }

    /// Reads a truth value, if the line has the field.
    ///
    /// # Errors
    /// If it is none.
    #[inline]
    pub(crate) fn is_set_if_present(&self) -> Result<Option<bool>, LineProblem> {
        self.value.map(|_| self.is_set()).transpose()
    }

    /// Reads a number that may be negative, if the line has the field.
    ///
    /// # Errors
    /// If it is none.
    #[inline]
    pub(crate) fn signed_if_present(&self) -> Result<Option<i64>, LineProblem> {
        self.value.map(|_| self.signed()).transpose()
    }

    /// Reads a number that may be negative.
    ///
    /// # Errors
    /// If it is missing or none.
    #[inline]
    pub(crate) fn signed(&self) -> Result<i64, LineProblem> {
        let text = self.text()?;
        let bad = || self.bad("a number");
        let (text, sign) = match text.strip_prefix(b"-") {
            Some(digits) => (digits, -1),
            None => (text, 1),
        };
        let number = parse_number(text).ok_or_else(bad)?;
        let number = i64::try_from(number).map_err(|_| bad())?;
        Ok(sign * number)
    }

    /// Reads a hexadecimal number without `0x`.
    ///
    /// # Errors
    /// If it is missing or none.
    pub(crate) fn hexadecimal(&self) -> Result<u64, LineProblem> {
        let text = self.text()?;
        let text = text.strip_prefix(b"0x").unwrap_or(text);
        parse_hexadecimal(text).ok_or_else(|| self.bad("a hexadecimal number below 2^64"))
    }

    /// Reads a task's number.
    ///
    /// # Errors
    /// If it is missing or none.
    pub(crate) fn pid(&self) -> Result<u32, LineProblem> {
        u32::try_from(self.number()?).map_err(|_| self.bad("a pid"))
    }

    /// Makes a number smaller.
    ///
    /// # Errors
    /// If it is 2^32 or more.
    pub(crate) fn small(&self, number: u64) -> Result<u32, LineProblem> {
        u32::try_from(number).map_err(|_| self.bad("a number below 2^32"))
    }

    /// Reads a number: hexadecimal after `0x`, else decimal.
    ///
    /// # Errors
    /// If the field is missing, not a number, or above `u64::MAX`.
    #[inline]
    pub(crate) fn number(&self) -> Result<u64, LineProblem> {
        parse_number(self.text()?).ok_or_else(|| self.bad("a number below 2^64"))
    }

    /// Reads a truth value, which the kernel prints as 0 or 1.
    ///
    /// # Errors
    /// As [`Field::number`], and for any other number.
    #[inline]
    pub(crate) fn is_set(&self) -> Result<bool, LineProblem> {
        match self.number()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(self.bad("0 or 1")),
        }
    }

    /// Makes the error for a value that cannot be right.
    #[cold]
    pub(crate) fn bad(&self, expected: &'static str) -> LineProblem {
        LineProblem::BadField {
            event: self.event,
            field: self.key,
            text: excerpt(self.value.unwrap_or_default()),
            expected,
        }
    }
}

/// Finds which key the text before a `=` ends with, trying the expected one first.
#[inline]
fn key_index(before: &[u8], keys: &[&str], expected: usize) -> Option<usize> {
    let is_key = |key: &str| match before.strip_suffix(key.as_bytes()) {
        Some(rest) => rest.last().is_none_or(|byte| *byte == b' '),
        None => false,
    };
    if is_key(keys[expected]) {
        return Some(expected);
    }
    keys.iter().position(|key| is_key(key))
}

#[inline]
fn parse_number(text: &[u8]) -> Option<u64> {
    match text {
        [b'0', b'x', digits @ ..] => parse_hexadecimal(digits),
        [] => None,
        digits => digits.iter().try_fold(0_u64, |value, byte| {
            let digit = byte.wrapping_sub(b'0');
            if digit > 9 {
                return None;
            }
            value.checked_mul(10)?.checked_add(u64::from(digit))
        }),
    }
}

#[inline]
fn parse_hexadecimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 16 {
        return None;
    }
    digits
        .iter()
        .try_fold(0_u64, |value, byte| Some(value << 4 | hex_digit(*byte)?))
}

#[inline]
fn hex_digit(byte: u8) -> Option<u64> {
    match byte {
        b'0'..=b'9' => Some(u64::from(byte - b'0')),
        b'a'..=b'f' => Some(u64::from(byte - b'a') + 10),
        b'A'..=b'F' => Some(u64::from(byte - b'A') + 10),
        _ => None,
    }
}

/// Longest name of a task: Linux `TASK_COMM_LEN`, without its NUL.
const MAX_COMM_BYTES: usize = 15;

/// Reads the task that a `sched_switch` leaves: the last `prev_pid=7` that is not within the next task's name.
///
/// # Errors
/// If the field is missing or no pid.
pub(crate) fn prev_pid(text: &[u8]) -> Result<u32, LineProblem> {
    let end = memchr::memmem::rfind(text, b" next_pid=").unwrap_or(0);
    let before_name = &text[..end.saturating_sub(MAX_COMM_BYTES)];
    last_field("sched_switch", "prev_pid", before_name).pid()
}

/// Reads the name of the task `pid` that a `sched_switch` leaves: `prev_comm=sh prev_pid=7`, or trace-cmd's `sh:7 [120]`.
///
/// A name may hold what stands behind names; so it is the longest one that the pid follows. `None` if there is none.
#[inline]
pub(crate) fn prev_comm(text: &[u8], pid: u32) -> Option<&[u8]> {
    let text = text.trim_ascii_start();
    let (text, behind): (_, &[u8]) = match text.strip_prefix(b"prev_comm=") {
        Some(rest) => (rest, b" prev_pid="),
        None => (text, b":"),
    };
    let is_end = |end: &usize| {
        let rest = text[*end..].strip_prefix(behind)?;
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let digits = std::str::from_utf8(&rest[..digits]).ok()?;
        (digits.parse() == Ok(pid)).then_some(())
    };
    let mut ends = (0..=MAX_COMM_BYTES.min(text.len())).rev();
    let end = ends.find(|end| is_end(end).is_some())?;
    Some(&text[..end])
}

/// Reads the task that a `sched_switch` goes on to: the last `next_pid=7`, or trace-cmd's `sh:1 [120] S ==> job:7 [120]`.
///
/// Names of tasks stand before it in both, and only the second ends in `]`.
///
/// # Errors
/// If the field is missing or no pid.
#[inline]
pub(crate) fn next_pid(text: &[u8]) -> Result<u32, LineProblem> {
    const EVENT: &str = "sched_switch";
    let Some(inside) = text.trim_ascii_end().strip_suffix(b"]") else {
        return last_field(EVENT, "next_pid", text).pid();
    };
    let found = || {
        let open = memchr::memrchr(b'[', inside)?;
        let task = inside[..open].trim_ascii_end();
        let colon = memchr::memrchr(b':', task)?;
        Some(Field::of(EVENT, "next_pid", &task[colon + 1..]))
    };
    let missing = LineProblem::MissingField {
        event: EVENT,
        field: "next_pid",
    };
    found().ok_or(missing)?.pid()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(text: &str) -> [Field<'_>; 3] {
        find_fields("flush_mm_range", ["mm", "end", "freed"], text.as_bytes())
    }

    #[test]
    fn fields_are_found_in_any_order() {
        for text in [
            " (f+0x5/0x170) mm=0xff end=12 freed=1 ctx=58",
            " (f+0x5/0x170) freed=1 xmm=7 start=3 mm=0xFF end=12",
            "mm=0xff end=12 freed=1",
        ] {
            let [mm, end, freed] = find(text);
            assert_eq!(mm.number(), Ok(255), "{text}");
            assert_eq!(end.number(), Ok(12), "{text}");
            assert_eq!(freed.is_set(), Ok(true), "{text}");
        }
    }

    #[test]
    fn missing_and_bad_fields_are_named() {
        let [mm, _, _] = find(" mm=0x end=1");
        assert_eq!(
            mm.number().unwrap_err().to_string(),
            "flush_mm_range has mm=0x, expected a number below 2^64; the line is damaged"
        );
        let [mm, end, freed] = find(" mm=0x1ffffffffffffffff end=18446744073709551616 freed=2");
        for field in [mm, end] {
            assert!(matches!(field.number(), Err(LineProblem::BadField { .. })));
        }
        assert!(matches!(
            freed.is_set(),
            Err(LineProblem::BadField {
                expected: "0 or 1",
                ..
            })
        ));
        let [_, end, _] = find(" mm=0x1 en");
        assert!(!end.is_present());
        assert!(matches!(
            end.number(),
            Err(LineProblem::MissingField { field: "end", .. })
        ));
    }

    #[test]
    fn the_last_next_pid_counts() {
        let line = b" prev_pid=0 ==> next_comm=x next_pid=666 next_pid=15 next_prio=120";
        assert_eq!(next_pid(line), Ok(15));
        let line = b" x next_pid=5 :101 [120] S ==> a next_pid=6 :7 [1:0 [120]";
        assert_eq!(next_pid(line), Ok(0));
        assert!(matches!(
            next_pid(b" next_pid=x"),
            Err(LineProblem::BadField { .. })
        ));
        assert!(matches!(
            next_pid(b" next_comm=x"),
            Err(LineProblem::MissingField { .. })
        ));
    }

    #[test]
    fn the_task_that_is_left_has_a_name_in_both_layouts() {
        let name = |text: &'static [u8], pid| prev_comm(text, pid);
        let kernel =
            b" prev_comm=sh prev_pid=7 prev_prio=120 ==> next_comm=a next_pid=8 next_prio=120";
        assert_eq!(name(kernel, 7), Some(&b"sh"[..]));
        assert_eq!(name(kernel, 8), None);
        let fakes = b" prev_comm=a prev_pid=7 prev_pid=7 prev_prio=120 prev_state=S";
        assert_eq!(name(fakes, 7), Some(&b"a prev_pid=7"[..]));
        let nameless = b" prev_comm= prev_pid=7 prev_prio=120 prev_state=S";
        assert_eq!(name(nameless, 7), Some(&b""[..]));
        let trace_cmd = b" kworker/1:1:70 [120] S ==> swapper/1:0 [120]";
        assert_eq!(name(trace_cmd, 70), Some(&b"kworker/1:1"[..]));
        assert_eq!(name(b"", 0), None);
    }
}
