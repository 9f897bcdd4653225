//! The test kernel's reports name the page that they speak of: its files that need no machine, on the host.
#![allow(missing_docs)]

#[path = "../../testkernel/src/evidence.rs"]
#[allow(dead_code, unreachable_pub)]
mod evidence;
#[path = "../../testkernel/src/page_id.rs"]
#[allow(dead_code, unreachable_pub)]
mod page_id;

use evidence::{LateWrite, PageWord, WrongRead};
use page_id::{PageId, Place, Region, SpaceIndex};

fn page(space: usize, slot: u64) -> PageId {
    PageId {
        space: SpaceIndex(space),
        place: Place::of_slot(slot).expect("a space has 32 pages"),
    }
}

fn word(page: PageId, version: u32) -> u64 {
    PageWord { page, version }.encode()
}

#[test]
fn a_place_is_found_by_its_address_alone() {
    for slot in 0..32 {
        let place = page(0, slot).place;
        assert_eq!(Place::of_address(place.address()), Some(place));
        assert_eq!(Place::of_address(place.address() + 0x8000), None);
    }
    assert_eq!(Place::of_address(0), None);
    assert_eq!(Place::of_address(page_id::PAGES + (4 << 30)), None);
}

/// What is said of a read in page 17 of space 1.
fn read(seen: u64) -> String {
    let addr = page(1, 17).place.address();
    let poison = 0x0140_0007;
    let (cpu, space, floor) = (3, SpaceIndex(1), 7);
    WrongRead {
        cpu,
        space,
        addr,
        seen,
        poison,
        floor,
    }
    .to_string()
}

#[test]
fn an_old_version_is_one_of_the_page_that_was_read() {
    let report = read(word(page(1, 17), 4));
    assert_eq!(
        report,
        "CPU 3 read an old version at 0x8080001000 (space 1): saw page version 4 (word 0x1001100000004); a flush \
         had returned that left version 7 or a newer one"
    );
}

/// Seen in a storm: `break=do-not-wait`, test `tables`, seed 1. It was reported as an old version, 8, where 7
/// was allowed.
#[test]
fn another_page_of_the_same_space_is_not_an_old_version() {
    let report = read(0x0001_0003_0000_0008);
    assert!(report.contains("read another page at 0x8080001000 (space 1)"));
    assert!(report.contains("saw that of 0x8000003000 (space 1), its version 8"));
    assert!(!report.contains("old version"));
}

#[test]
fn another_spaces_page_is_named_and_what_is_no_page_is_told_so() {
    let report = read(word(page(2, 17), 9));
    assert!(report.contains("read another space's page at 0x8080001000 (space 1)"));
    assert!(report.contains("saw that of 0x8080001000 (space 2), its version 9"));
    for no_page in [0, 0x0001_0020_0000_0001, 0x0001_0011_0000_0000] {
        assert!(read(no_page).contains("what is no page"), "{no_page:#x}");
    }
    assert!(read(0x0140_0007).contains("a freed frame"));
}

#[test]
fn a_late_write_names_the_page_that_the_cpu_wrote_to() {
    let report = |written, version| {
        let found = word(written, version);
        let page = page(1, 17);
        LateWrite {
            cpu: 2,
            page,
            found,
        }
        .to_string()
    };
    assert_eq!(
        report(page(1, 17), 4),
        "CPU 2 wrote to 0x8080001000 (space 1), version 4, after the flush that made it read-only had returned"
    );
    // A stale translation of another page led to the frame: that page was written to, and its version is told.
    let other = report(page(0, 3), 6);
    assert!(other.starts_with(
        "CPU 2 wrote to 0x8000003000 (space 0), version 6, through an old translation"
    ));
    assert!(other.contains("the frame is that of 0x8080001000 (space 1)"));
}

#[test]
fn every_page_has_a_number_and_an_address_of_its_own() {
    let places: Vec<Place> = Region::all().flat_map(Region::places).collect();
    for (slot, &place) in places.iter().enumerate() {
        assert_eq!(place.slot(), slot);
        assert_eq!(Place::of_slot(slot as u64), Some(place));
        let written = word(page(3, slot as u64), 5);
        assert_eq!(
            PageWord::decode(written).map(|word| word.page.place),
            Some(place)
        );
    }
    assert!(places.is_sorted_by(|left, right| left.address() < right.address()));
    assert_eq!(Place::of_slot(32), None);
}
