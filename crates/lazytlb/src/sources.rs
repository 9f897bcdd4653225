//! A hash of each source file that this crate was built from.
//!
//! The checker prints them, and a kernel that embeds the crate carries the same table: equal hashes say
//! that the protocol which was checked is the one that boots. They notice accidents (an old build, a local
//! change), not attackers: FNV-1a is no cryptographic hash. They say nothing of the compiler or its flags.
//!
//! The manifest is not among them: `cargo package` rewrites it, and a published crate would differ from the one that was
//! checked. What the code's meaning hangs on there is [`EDITION`], which stands in this file and so is hashed. The rest is
//! nothing: no features, no dependencies, no build script. Tests hold the manifest to that.

use core::fmt;

/// A 128-bit FNV-1a hash.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct SourceHash(pub u128);

/// Writes 32 hexadecimal digits.
impl fmt::Display for SourceHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl SourceHash {
    /// The hash of nothing. Source: FNV's offset basis and prime for 128 bits.
    const START: SourceHash = SourceHash(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d);
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;

    /// Hashes bytes.
    pub const fn of(bytes: &[u8]) -> SourceHash {
        Self::START.then(bytes)
    }

    /// Hashes further bytes.
    const fn then(self, bytes: &[u8]) -> SourceHash {
        let (mut hash, mut n) = (self.0, 0);
        while n < bytes.len() {
            hash = (hash ^ bytes[n] as u128).wrapping_mul(Self::PRIME);
            n += 1;
        }
        SourceHash(hash)
    }
}

/// A source file of this crate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SourceFile {
    /// Its name in `src`.
    pub name: &'static str,
    /// The hash of its bytes, computed when the crate was built.
    pub hash: SourceHash,
}

impl SourceFile {
    const fn new(name: &'static str, bytes: &[u8]) -> Self {
        let hash = SourceHash::of(bytes);
        SourceFile { name, hash }
    }
}

/// The edition of the language that these files are written in.
pub const EDITION: &str = "2024";

/// Every source file of this crate.
pub const SOURCES: [SourceFile; 37] = [
    SourceFile::new("addr.rs", include_bytes!("addr.rs")),
    SourceFile::new("batches.rs", include_bytes!("batches.rs")),
    SourceFile::new("broadcast.rs", include_bytes!("broadcast.rs")),
    SourceFile::new("changes.rs", include_bytes!("changes.rs")),
    SourceFile::new("compare_exchange.rs", include_bytes!("compare_exchange.rs")),
    SourceFile::new("cpu_set.rs", include_bytes!("cpu_set.rs")),
    SourceFile::new("device.rs", include_bytes!("device.rs")),
    SourceFile::new("gather.rs", include_bytes!("gather.rs")),
    SourceFile::new("generation.rs", include_bytes!("generation.rs")),
    SourceFile::new("global_id.rs", include_bytes!("global_id.rs")),
    SourceFile::new("hw.rs", include_bytes!("hw.rs")),
    SourceFile::new("interrupts.rs", include_bytes!("interrupts.rs")),
    SourceFile::new("isolation.rs", include_bytes!("isolation.rs")),
    SourceFile::new("kernel.rs", include_bytes!("kernel.rs")),
    SourceFile::new("kernel_ranges.rs", include_bytes!("kernel_ranges.rs")),
    SourceFile::new("lib.rs", include_bytes!("lib.rs")),
    SourceFile::new("memory.rs", include_bytes!("memory.rs")),
    SourceFile::new("mm.rs", include_bytes!("mm.rs")),
    SourceFile::new("pcids.rs", include_bytes!("pcids.rs")),
    SourceFile::new("per_cpu.rs", include_bytes!("per_cpu.rs")),
    SourceFile::new("pinned.rs", include_bytes!("pinned.rs")),
    SourceFile::new("policy.rs", include_bytes!("policy.rs")),
    SourceFile::new("quarantine.rs", include_bytes!("quarantine.rs")),
    SourceFile::new("ranges.rs", include_bytes!("ranges.rs")),
    SourceFile::new("requests.rs", include_bytes!("requests.rs")),
    SourceFile::new("retire.rs", include_bytes!("retire.rs")),
    SourceFile::new("serve.rs", include_bytes!("serve.rs")),
    SourceFile::new("shootdown.rs", include_bytes!("shootdown.rs")),
    SourceFile::new(
        "shootdown_broadcast.rs",
        include_bytes!("shootdown_broadcast.rs"),
    ),
    SourceFile::new("slots.rs", include_bytes!("slots.rs")),
    SourceFile::new("software_walks.rs", include_bytes!("software_walks.rs")),
    SourceFile::new("sources.rs", include_bytes!("sources.rs")),
    SourceFile::new("switch.rs", include_bytes!("switch.rs")),
    SourceFile::new("targets.rs", include_bytes!("targets.rs")),
    SourceFile::new("tlb.rs", include_bytes!("tlb.rs")),
    SourceFile::new("transition.rs", include_bytes!("transition.rs")),
    SourceFile::new("words.rs", include_bytes!("words.rs")),
];

/// Returns one hash over all names and hashes.
pub const fn combined() -> SourceHash {
    let (mut hash, mut n) = (SourceHash::START, 0);
    while n < SOURCES.len() {
        let file = SOURCES[n];
        hash = hash
            .then(file.name.as_bytes())
            .then(&file.hash.0.to_be_bytes());
        n += 1;
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_hashes_come_out() {
        // Source: the FNV reference's test vectors.
        assert_eq!(
            SourceHash::of(b"").0,
            0x6c62_272e_07bb_0142_62b8_2175_6295_c58d
        );
        assert_eq!(
            SourceHash::of(b"a").0,
            0xd228_cb69_6f1a_8caf_7891_2b70_4e4a_8964
        );
    }

    #[test]
    fn names_are_sorted_and_distinct() {
        assert!(SOURCES.is_sorted_by(|left, right| left.name < right.name));
    }
}
