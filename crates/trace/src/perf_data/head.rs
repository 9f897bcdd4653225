//! The file's head, and the table of its parts.

use super::attribute::Attribute;
use super::fault::PerfFault;
use crate::bytes::Bytes;
use crate::cursor::FileCursor;
use crate::dat_problem::TraceDatProblem;
use crate::perf_problem::PerfDataProblem;

/// How every perf.data begins.
pub(crate) const MAGIC: &[u8; 8] = b"PERFILE2";

/// The same of another byte order.
pub(crate) const MAGIC_BIG_ENDIAN: &[u8; 8] = b"2ELIFREP";

/// Sizes of the head: of a file, and of what went through a pipe.
const FILE_HEAD_BYTES: u64 = 104;
const PIPE_HEAD_BYTES: u64 = 16;

/// What one attribute may have; Linux 6.18's has 136 bytes.
const MAX_ATTRIBUTE_BYTES: u64 = 4096;

/// Attributes and ids that a file may have: events times CPUs.
const MAX_ATTRIBUTES: u64 = 4096;
const MAX_IDS: u64 = 1 << 20;

/// Numbers of the features: `HEADER_*` of perf's `util/header.h`.
const TRACING_DATA: usize = 1;
const OS_RELEASE: usize = 4;
const CPUS: usize = 7;
const DIRECTORY: usize = 24;
const FEATURES: usize = 256;

/// A part of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Section {
    pub(super) offset: u64,
    pub(super) size: u64,
}

/// What stands where.
pub(super) struct Head {
    pub(super) attributes: Vec<Attribute>,
    pub(super) data: Section,
    /// The formats of tracepoints.
    pub(super) formats: Option<Section>,
    /// `uname -r`.
    pub(super) release: Option<String>,
    /// CPUs that were online.
    pub(super) cpus: Option<u64>,
}

impl Head {
    /// Reads it.
    ///
    /// # Errors
    /// If the file is cut or damaged, or of a kind that is not read.
    pub(super) fn read(bytes: &Bytes) -> Result<Self, PerfFault> {
        let mut at = FileCursor::new(bytes, 0, "the file's head");
        let problem = |problem| Err(PerfFault::Problem(0, problem));
        match &at.take()? {
            MAGIC => {}
            MAGIC_BIG_ENDIAN => return problem(PerfDataProblem::BigEndian),
            _ => return Err(PerfFault::damaged(0, "the file's first bytes")),
        }
        match at.u64()? {
            PIPE_HEAD_BYTES => return problem(PerfDataProblem::Pipe),
            FILE_HEAD_BYTES => {}
            _ => return Err(PerfFault::damaged(8, "the size of the file's head")),
        }
        let attribute_bytes = at.u64()?;
        let attributes = section(&mut at)?;
        let data = section(&mut at)?;
        section(&mut at)?;
        let mut features = [0; FEATURES / 64];
        for word in &mut features {
            *word = at.u64()?;
        }
        if data.size == 0 {
            return problem(PerfDataProblem::Unfinished);
        }
        bytes.check("the attributes", attributes.offset, attributes.size)?;
        bytes.check("the records", data.offset, data.size)?;
        let mut head = Head {
            attributes: read_attributes(bytes, attributes, attribute_bytes)?,
            data,
            formats: None,
            release: None,
            cpus: None,
        };
        let mut at = FileCursor::new(bytes, data.offset + data.size, "the table of features");
        for feature in 0..FEATURES {
            if features[feature / 64] & 1 << (feature % 64) != 0 {
                let section = section(&mut at)?;
                head.take_feature(bytes, feature, section)?;
            }
        }
        Ok(head)
    }

    fn take_feature(
        &mut self,
        bytes: &Bytes,
        feature: usize,
        section: Section,
    ) -> Result<(), PerfFault> {
        let what = "a feature";
        bytes.check(what, section.offset, section.size)?;
        let mut at = FileCursor::new(bytes, section.offset, what);
        match feature {
            TRACING_DATA => self.formats = Some(section),
            DIRECTORY => {
                return Err(PerfFault::Problem(
                    section.offset,
                    PerfDataProblem::Directory,
                ));
            }
            OS_RELEASE => {
                let size = at.u32()?;
                let text = at.vec(size.into(), 4096)?;
                let end = memchr::memchr(0, &text).unwrap_or(text.len());
                self.release = Some(String::from_utf8_lossy(&text[..end]).into_owned());
            }
            CPUS => {
                let _available = at.u32()?;
                self.cpus = Some(at.u32()?.into());
            }
            _ => {}
        }
        Ok(())
    }
}

fn section(at: &mut FileCursor<'_>) -> Result<Section, PerfFault> {
    let (offset, size) = (at.u64()?, at.u64()?);
    Ok(Section { offset, size })
}

/// Reads what was recorded: each attribute, and where its ids are.
fn read_attributes(
    bytes: &Bytes,
    attributes: Section,
    each: u64,
) -> Result<Vec<Attribute>, PerfFault> {
    let damaged = || PerfFault::damaged(attributes.offset, "the attributes' size");
    let attr_bytes = each.checked_sub(16).ok_or_else(damaged)?;
    if attr_bytes > MAX_ATTRIBUTE_BYTES || !attributes.size.is_multiple_of(each) {
        return Err(damaged());
    }
    let count = attributes.size / each;
    if count > MAX_ATTRIBUTES {
        let problem = TraceDatProblem::TooLarge {
            what: "the list of attributes",
            size: count,
            limit: MAX_ATTRIBUTES,
        };
        return Err(PerfFault::Problem(attributes.offset, problem.into()));
    }
    let mut read = Vec::new();
    let mut ids_left = MAX_IDS;
    for index in 0..count {
        let offset = attributes.offset + index * each;
        let mut at = FileCursor::new(bytes, offset, "an attribute");
        let attr = at.vec(attr_bytes, MAX_ATTRIBUTE_BYTES)?;
        let ids = section(&mut at)?;
        ids_left = ids_left
            .checked_sub(ids.size / 8)
            .ok_or_else(|| PerfFault::damaged(offset, "more ids than a machine can have"))?;
        let ids = bytes.read_vec("an attribute's ids", ids.offset, ids.size, MAX_IDS * 8)?;
        let attribute = Attribute::read(&attr, &ids);
        let cut = || PerfFault::damaged(offset, "an attribute is too short");
        read.push(attribute.ok_or_else(cut)?);
    }
    Ok(read)
}
