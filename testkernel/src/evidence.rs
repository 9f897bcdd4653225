//! What a page's first word says, and what is reported when it is not what it must be.
//!
//! Every page begins with a word that names its space, its place and its version. The readers in ring 3
//! compare it with the page that they read; and they write it, as they found it, to the page that they
//! found it in. So a word that turns up where it does not belong tells which page a CPU took it for: a
//! report must name that page, not the one whose frame it was found in.

use core::fmt;

use crate::page_id::{PageId, Place, SpaceIndex};

/// The word at a page's start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PageWord {
    pub page: PageId,
    /// From 1 on.
    pub version: u32,
}

impl PageWord {
    /// Returns the word as it stands in memory; `reader.s` knows the layout.
    pub fn encode(self) -> u64 {
        let (space, slot) = (self.page.space.0 as u64, self.page.place.slot() as u64);
        space << 48 | slot << 32 | u64::from(self.version)
    }

    /// Reads a word, if a page has it.
    pub fn decode(word: u64) -> Option<PageWord> {
        let version = word as u32;
        let page = PageId {
            space: SpaceIndex((word >> 48) as usize),
            place: Place::of_slot(word >> 32 & 0xffff)?,
        };
        (version != 0).then_some(PageWord { page, version })
    }
}

/// A read that found a page's contents wrong. It prints as the report.
#[derive(Clone, Copy, Debug)]
pub struct WrongRead {
    pub cpu: u16,
    /// The space that the CPU ran in, and the address that it read.
    pub space: SpaceIndex,
    pub addr: u64,
    /// The word that it saw.
    pub seen: u64,
    /// What every word of a free frame holds.
    pub poison: u64,
    /// The oldest version that the page may have.
    pub floor: u64,
}

impl fmt::Display for WrongRead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let WrongRead {
            cpu,
            space: SpaceIndex(space),
            addr,
            seen,
            poison,
            floor,
        } = *self;
        let left = format_args!("a flush had returned that left version {floor} or a newer one");
        let at = format_args!("at {addr:#x} (space {space})");
        if seen == poison {
            return write!(
                f,
                "CPU {cpu} read a freed frame {at}: saw poison instead of a page version; {left}"
            );
        }
        let Some(PageWord { page, version }) = PageWord::decode(seen) else {
            return write!(
                f,
                "CPU {cpu} read what is no page {at}: saw the word {seen:#x} instead of a page version; {left}"
            );
        };
        let (other_space, other_addr) = (page.space.0, page.place.address());
        let what = match (other_space == space, other_addr == addr) {
            (true, true) => {
                return write!(
                    f,
                    "CPU {cpu} read an old version {at}: saw page version {version} (word {seen:#x}); {left}"
                );
            }
            (true, false) => "another page",
            (false, _) => "another space's page",
        };
        write!(
            f,
            "CPU {cpu} read {what} {at}: saw that of {other_addr:#x} (space {other_space}), its version \
             {version} (word {seen:#x}); here {left}"
        )
    }
}

/// A word that a CPU wrote to a page's frame after the page had become read-only. It prints as the report.
#[derive(Clone, Copy, Debug)]
pub struct LateWrite {
    pub cpu: usize,
    /// The page whose frame it was found in.
    pub page: PageId,
    /// The word: as the CPU had read it in the page that it wrote to.
    pub found: u64,
}

impl fmt::Display for LateWrite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LateWrite { cpu, page, found } = *self;
        let (space, addr) = (page.space.0, page.place.address());
        match PageWord::decode(found) {
            Some(word) if word.page == page => write!(
                f,
                "CPU {cpu} wrote to {addr:#x} (space {space}), version {}, after the flush that made it \
                 read-only had returned",
                word.version
            ),
            Some(PageWord { page, version }) => write!(
                f,
                "CPU {cpu} wrote to {:#x} (space {}), version {version}, through an old translation: the frame \
                 is that of {addr:#x} (space {space}) by now, and the flush that removed it had returned",
                page.place.address(),
                page.space.0
            ),
            None => write!(
                f,
                "CPU {cpu} wrote the word {found:#x}, no page's version, to the frame of {addr:#x} (space {space}), \
                 after the flush that made it read-only had returned"
            ),
        }
    }
}
