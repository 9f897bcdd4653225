//! How the ring buffer's pages are laid out, by the kernel's own word.

use crate::dat_problem::TraceDatProblem;
use crate::records::declared_fields;

/// The largest page that is read; Linux allows 64 KiB or so (`buffer_subbuf_size_kb`).
pub(crate) const MAX_PAGE_BYTES: u64 = 1 << 20;

/// Where the parts of a page stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PageLayout {
    /// Of the first time.
    pub(crate) timestamp: usize,
    /// Of the number of bytes used, with flags.
    pub(crate) commit: usize,
    /// Of the records.
    pub(crate) data: usize,
    /// Bytes of a page.
    pub(crate) size: usize,
}

impl PageLayout {
    /// Reads `events/header_page`. The file's own page size counts where a buffer has another one than the machine's.
    ///
    /// # Errors
    /// If it is not that of a 64-bit kernel.
    pub(crate) fn read(
        text: &[u8],
        machine_page: u32,
        buffer_page: u32,
    ) -> Result<Self, TraceDatProblem> {
        let damaged = TraceDatProblem::Damaged("header_page lacks timestamp, commit or data");
        let fields = declared_fields(text);
        let find = |name: &[u8]| fields.iter().find(|field| field.name == name);
        let (Some(timestamp), Some(commit), Some(data)) =
            (find(b"timestamp"), find(b"commit"), find(b"data"))
        else {
            return Err(damaged);
        };
        if commit.size == 4 {
            return Err(TraceDatProblem::Machine("a 32-bit kernel"));
        }
        if timestamp.size != 8 || commit.size != 8 {
            return Err(damaged);
        }
        let by_kernel = u64::from(data.offset) + u64::from(data.size);
        let size = match buffer_page == machine_page {
            true => by_kernel,
            false => buffer_page.into(),
        };
        let head = timestamp.offset.max(commit.offset).saturating_add(8);
        let fits = u64::from(head) <= size && u64::from(data.offset) < size;
        if !fits || data.offset < head || size > MAX_PAGE_BYTES || size % 8 != 0 {
            return Err(TraceDatProblem::Damaged(
                "header_page has no page that can be",
            ));
        }
        Ok(PageLayout {
            timestamp: timestamp.offset as usize,
            commit: commit.offset as usize,
            data: data.offset as usize,
            size: size as usize,
        })
    }
}

/// Checks `events/header_event`: the records' heads are those that [`super::pages`] knows.
///
/// # Errors
/// If not.
pub(crate) fn check_header_event(text: &[u8]) -> Result<(), TraceDatProblem> {
    const KNOWN: [(&str, &str); 7] = [
        ("type_len", "5 bits"),
        ("time_delta", "27 bits"),
        ("array", "32 bits"),
        ("padding", "type == 29"),
        ("time_extend", "type == 30"),
        ("time_stamp", "type == 31"),
        ("data max type_len", "28"),
    ];
    let text = String::from_utf8_lossy(text);
    let mut found = 0;
    for line in text.lines() {
        let separator = if line.contains("max type_len") {
            "=="
        } else {
            ":"
        };
        let Some((name, value)) = line.split_once(separator) else {
            continue;
        };
        let known = KNOWN.iter().find(|(known, _)| *known == name.trim());
        if let Some((_, expected)) = known {
            let words = |text: &str| {
                text.split_whitespace()
                    .map(str::to_owned)
                    .collect::<Vec<_>>()
            };
            if words(value) != words(expected) {
                return Err(TraceDatProblem::Damaged(
                    "header_event describes records that no known kernel makes",
                ));
            }
            found += 1;
        }
    }
    // Kernels before 4.17 have no time_stamp.
    if found + 1 < KNOWN.len() {
        return Err(TraceDatProblem::Damaged("header_event is not complete"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &[u8] = b"\tfield: u64 timestamp;\toffset:0;\tsize:8;\tsigned:0;\n\
        \tfield: local_t commit;\toffset:8;\tsize:8;\tsigned:1;\n\
        \tfield: int overwrite;\toffset:8;\tsize:1;\tsigned:1;\n\
        \tfield: char data;\toffset:16;\tsize:4080;\tsigned:1;\n";

    #[test]
    fn the_kernels_page_size_counts_unless_a_buffer_has_its_own() {
        let layout = PageLayout::read(PAGE, 4096, 4096).unwrap();
        assert_eq!((layout.commit, layout.data, layout.size), (8, 16, 4096));
        assert_eq!(PageLayout::read(PAGE, 4096, 16384).unwrap().size, 16384);
        assert!(PageLayout::read(PAGE, 4096, 1 << 30).is_err());
    }

    #[test]
    fn a_32_bit_kernel_is_refused() {
        let text = String::from_utf8_lossy(PAGE).replace("offset:8;\tsize:8", "offset:8;\tsize:4");
        assert_eq!(
            PageLayout::read(text.as_bytes(), 4096, 4096),
            Err(TraceDatProblem::Machine("a 32-bit kernel"))
        );
    }
}
