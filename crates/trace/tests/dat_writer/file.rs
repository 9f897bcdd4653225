//! The file around formats and pages, in both versions.

use std::io::Write;

use lazytlb_trace::Event;

use super::{CpuPages, Spec, cpus_of};

/// How sections and chunks are compressed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Pack {
    None,
    Zstd,
    Zlib,
}

impl Pack {
    fn pack(self, bytes: &[u8]) -> Vec<u8> {
        match self {
            Pack::None => bytes.to_vec(),
            Pack::Zstd => zstd::bulk::compress(bytes, 3).unwrap(),
            Pack::Zlib => {
                let level = flate2::Compression::fast();
                let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), level);
                encoder.write_all(bytes).unwrap();
                encoder.finish().unwrap()
            }
        }
    }
}

/// A whole file.
#[derive(Clone)]
pub(crate) struct File {
    pub(crate) page: usize,
    pub(crate) specs: Vec<Spec>,
    /// Number and content.
    pub(crate) options: Vec<(u16, Vec<u8>)>,
    pub(crate) clock: String,
    /// For each CPU its number and pages.
    pub(crate) cpus: Vec<CpuPages>,
    /// Other instances: name and CPUs.
    pub(crate) instances: Vec<(String, Vec<CpuPages>)>,
}

impl File {
    pub(crate) fn of(page: usize, specs: Vec<Spec>, events: &[Event]) -> File {
        let cpus = cpus_of(page, &specs, events);
        File {
            page,
            specs,
            options: vec![
                (5, b"Linux host 6.1.0-test x86_64\0".to_vec()),
                (8, (cpus.len() as u32).to_le_bytes().to_vec()),
            ],
            clock: "mono".to_owned(),
            cpus,
            instances: Vec::new(),
        }
    }

    fn header_page(&self) -> String {
        format!(
            "\tfield: u64 timestamp;\toffset:0;\tsize:8;\tsigned:0;\n\
             \tfield: local_t commit;\toffset:8;\tsize:8;\tsigned:1;\n\
             \tfield: int overwrite;\toffset:8;\tsize:1;\tsigned:1;\n\
             \tfield: char data;\toffset:16;\tsize:{};\tsigned:1;\n",
            self.page - 16
        )
    }

    fn headers(&self) -> Vec<u8> {
        let page = self.header_page();
        let mut bytes = b"header_page\0".to_vec();
        bytes.extend((page.len() as u64).to_le_bytes());
        bytes.extend(page.as_bytes());
        bytes.extend(b"header_event\0");
        bytes.extend((HEADER_EVENT.len() as u64).to_le_bytes());
        bytes.extend(HEADER_EVENT.as_bytes());
        bytes
    }

    fn group(&self, group: &str) -> Vec<u8> {
        let specs = || self.specs.iter().filter(|spec| spec.group == group);
        let mut bytes = (specs().count() as u32).to_le_bytes().to_vec();
        for spec in specs() {
            let format = spec.format();
            bytes.extend((format.len() as u64).to_le_bytes());
            bytes.extend(format.as_bytes());
        }
        bytes
    }

    fn groups(&self) -> Vec<u8> {
        let mut names: Vec<_> = self.specs.iter().map(|spec| spec.group.clone()).collect();
        names.retain(|name| name != "ftrace");
        names.dedup();
        let mut bytes = (names.len() as u32).to_le_bytes().to_vec();
        for name in names {
            bytes.extend(name.as_bytes());
            bytes.push(0);
            bytes.extend(self.group(&name));
        }
        bytes
    }

    fn head(&self, version: &[u8]) -> Vec<u8> {
        let mut bytes = b"\x17\x08\x44tracing".to_vec();
        bytes.extend(version);
        bytes.extend([0, 0, 8]);
        bytes.extend((self.page as u32).to_le_bytes());
        bytes
    }

    /// What perf.data has of it.
    pub(crate) fn tracing_data(&self) -> Vec<u8> {
        let mut bytes = self.head(b"0.6");
        bytes.extend(self.headers());
        bytes.extend(self.group("ftrace"));
        bytes.extend(self.groups());
        bytes.extend([0; 16]);
        bytes
    }

    pub(crate) fn version6(&self) -> Vec<u8> {
        let mut bytes = self.head(b"6");
        bytes.extend(self.headers());
        bytes.extend(self.group("ftrace"));
        bytes.extend(self.groups());
        // Names of functions, trace_printk formats, names of tasks.
        bytes.extend([3, 0, 0, 0, b'a', b'b', b'c']);
        bytes.extend([0; 4]);
        bytes.extend([2, 0, 0, 0, 0, 0, 0, 0, b'1', b' ']);
        bytes.extend((self.cpus.len() as u32).to_le_bytes());
        bytes.extend(b"options  \0");
        for (id, data) in &self.options {
            bytes.extend(id.to_le_bytes());
            bytes.extend((data.len() as u32).to_le_bytes());
            bytes.extend(data);
        }
        let mut instances = Vec::new();
        for (name, _) in &self.instances {
            bytes.extend([3, 0]);
            bytes.extend((name.len() as u32 + 9).to_le_bytes());
            instances.push(bytes.len());
            bytes.extend([0; 8]);
            bytes.extend(name.as_bytes());
            bytes.push(0);
        }
        bytes.extend([4, 0, 0, 0, 0, 0, 0, 0]);
        let clock = format!("local [{}] counter\n", self.clock);
        let mut clock_text = (clock.len() as u64).to_le_bytes().to_vec();
        clock_text.extend(clock.as_bytes());
        self.flyrecord6(&mut bytes, &self.cpus, &clock_text);
        for ((_, cpus), at) in self.instances.iter().zip(instances) {
            let offset = bytes.len() as u64;
            bytes[at..at + 8].copy_from_slice(&offset.to_le_bytes());
            self.flyrecord6(&mut bytes, cpus, &[]);
        }
        bytes
    }

    fn flyrecord6(&self, bytes: &mut Vec<u8>, cpus: &[CpuPages], after: &[u8]) {
        bytes.extend(b"flyrecord\0");
        let table = bytes.len();
        bytes.extend(vec![0; 16 * cpus.len()]);
        bytes.extend(after);
        for (index, (_, pages)) in cpus.iter().enumerate() {
            bytes.resize(bytes.len().next_multiple_of(self.page), 0);
            let place = [bytes.len() as u64, pages.len() as u64].map(u64::to_le_bytes);
            bytes[table + 16 * index..][..16].copy_from_slice(&place.concat());
            bytes.extend(pages);
        }
    }

    pub(crate) fn version7(&self, pack: Pack) -> Vec<u8> {
        let mut bytes = self.head(b"7");
        let name = match pack {
            Pack::None => "none\0\0",
            Pack::Zstd => "zstd\x001.5.4\0",
            Pack::Zlib => "zlib\x001.2\0",
        };
        bytes.extend(name.as_bytes());
        let first = bytes.len();
        bytes.extend([0; 8]);
        let mut options = Vec::new();
        for (id, content) in [
            (16, self.headers()),
            (17, self.group("ftrace")),
            (18, self.groups()),
        ] {
            let offset = section(&mut bytes, id, &content, pack);
            option(&mut options, id, &offset.to_le_bytes());
        }
        for (id, data) in &self.options {
            option(&mut options, *id, data);
        }
        let head = end_options(&mut bytes, options, pack);
        bytes[first..first + 8].copy_from_slice(&head.0.to_le_bytes());
        let mut options = Vec::new();
        let top = (String::new(), self.cpus.clone());
        for (name, cpus) in std::iter::once(&top).chain(&self.instances) {
            let data = self.flyrecord7(&mut bytes, name, cpus, pack);
            option(&mut options, 3, &data);
        }
        let second = bytes.len() as u64;
        option(&mut options, 0, &0_u64.to_le_bytes());
        section(&mut bytes, 0, &options, Pack::None);
        bytes[head.1..head.1 + 8].copy_from_slice(&second.to_le_bytes());
        bytes
    }

    /// Writes a buffer's section, and returns its option.
    fn flyrecord7(
        &self,
        bytes: &mut Vec<u8>,
        name: &str,
        cpus: &[CpuPages],
        pack: Pack,
    ) -> Vec<u8> {
        let offset = bytes.len() as u64;
        bytes.extend([3, 0, u8::from(pack != Pack::None), 0]);
        bytes.extend([0; 12]);
        let mut data = offset.to_le_bytes().to_vec();
        data.extend(name.as_bytes());
        data.push(0);
        data.extend(self.clock.as_bytes());
        data.push(0);
        data.extend((self.page as u32).to_le_bytes());
        data.extend((cpus.len() as u32).to_le_bytes());
        for (cpu, pages) in cpus {
            bytes.resize(bytes.len().next_multiple_of(self.page), 0);
            let begin = bytes.len() as u64;
            if pack == Pack::None {
                bytes.extend(pages);
            } else if !pages.is_empty() {
                let chunks: Vec<_> = pages.chunks(10 * self.page).collect();
                bytes.extend((chunks.len() as u32).to_le_bytes());
                for chunk in chunks {
                    let packed = pack.pack(chunk);
                    bytes.extend((packed.len() as u32).to_le_bytes());
                    bytes.extend((chunk.len() as u32).to_le_bytes());
                    bytes.extend(packed);
                }
            }
            let counted = match pack != Pack::None && !pages.is_empty() {
                true => 4,
                false => 0,
            };
            data.extend(cpu.to_le_bytes());
            data.extend(begin.to_le_bytes());
            data.extend((bytes.len() as u64 - begin - counted).to_le_bytes());
        }
        let size = bytes.len() as u64 - offset - 16;
        bytes[offset as usize + 8..][..8].copy_from_slice(&size.to_le_bytes());
        data
    }
}

fn option(options: &mut Vec<u8>, id: u16, data: &[u8]) {
    options.extend(id.to_le_bytes());
    options.extend((data.len() as u32).to_le_bytes());
    options.extend(data);
}

fn section(bytes: &mut Vec<u8>, id: u16, content: &[u8], pack: Pack) -> u64 {
    let offset = bytes.len() as u64;
    let mut content = content.to_vec();
    if pack != Pack::None {
        let packed = pack.pack(&content);
        let sizes = [packed.len() as u32, content.len() as u32].map(u32::to_le_bytes);
        content = [sizes.concat(), packed].concat();
    }
    bytes.extend(id.to_le_bytes());
    bytes.extend([u8::from(pack != Pack::None), 0, 0, 0, 0, 0]);
    bytes.extend((content.len() as u64).to_le_bytes());
    bytes.extend(content);
    offset
}

/// Writes a section of options that goes on in a plain one; returns where it is, and where to write where that is.
fn end_options(bytes: &mut Vec<u8>, options: Vec<u8>, pack: Pack) -> (u64, usize) {
    // The place of the next section is known later, so this section leads to one more, which is plain.
    let mut options = options;
    let plain = bytes.len() as u64;
    let mut link = Vec::new();
    option(&mut link, 0, &0_u64.to_le_bytes());
    section(bytes, 0, &link, Pack::None);
    let hole = bytes.len() - 8;
    option(&mut options, 0, &plain.to_le_bytes());
    (section(bytes, 0, &options, pack), hole)
}

const HEADER_EVENT: &str = "# compressed entry header\n\
    \ttype_len    :    5 bits\n\
    \ttime_delta  :   27 bits\n\
    \tarray       :   32 bits\n\n\
    \tpadding     : type == 29\n\
    \ttime_extend : type == 30\n\
    \ttime_stamp : type == 31\n\
    \tdata max type_len  == 28\n";
