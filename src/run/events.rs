//! TensorBoard event files: `events.out.tfevents.<seconds>.ganymede` in the run folder, a new one each time that a run starts or goes on.
//!
//! A file is a row of records in TensorFlow's framing (`record`), each an `Event` message of `tensorboard/compat/proto/event.proto`, of which the few
//! fields that are needed are written by hand. The step of an event is the number of images seen. The first event of a resumed run tells TensorBoard to
//! forget what older files say of steps that were lost (`SessionLog.START`).

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use super::disk;
use super::picture::Picture;
use crate::error::Result;

const PREFIX: &str = "events.out.tfevents.";
const SUFFIX: &str = ".ganymede";

/// An event file that is being written.
#[derive(Debug)]
pub struct Events {
    path: PathBuf,
    file: File,
}

impl Events {
    /// Begins a new file in `folder`, which sorts after those that are there. `purge` is the first step of which older files are not to be believed.
    ///
    /// # Errors
    /// [`crate::error::Error::Environment`].
    pub fn begin(folder: &Path, purge: Option<u64>) -> Result<Self> {
        let entries = std::fs::read_dir(folder).map_err(|error| disk::cannot_write(folder, &error))?;
        let stamp = |name: &str| name.strip_prefix(PREFIX)?.split('.').next()?.parse::<u64>().ok();
        let last = entries.filter_map(|entry| stamp(entry.ok()?.file_name().to_str()?)).max();
        let mut seconds = last.map_or(0, |last| last.saturating_add(1)).max(now() as u64);
        let (path, file) = loop {
            let path = folder.join(format!("{PREFIX}{seconds:010}{SUFFIX}"));
            match OpenOptions::new().create_new(true).append(true).open(&path) {
                Ok(file) => break (path, file),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => seconds += 1,
                Err(error) => return Err(disk::cannot_write(&path, &error)),
            }
        };
        let mut events = Events { path, file };
        events.write(0, bytes_field(3, b"brain.Event:2"))?;
        if let Some(step) = purge {
            let start = varint_field(1, 1);
            events.write(step, bytes_field(7, &start))?;
        }
        Ok(events)
    }

    /// Writes numbers by their tags.
    ///
    /// # Errors
    /// [`crate::error::Error::Environment`].
    pub fn scalars(&mut self, step: u64, scalars: &[(String, f64)]) -> Result<()> {
        let value = |(tag, value): &(String, f64)| {
            let simple_value = [key(2, Wire::Fixed32), (*value as f32).to_le_bytes().to_vec()].concat();
            bytes_field(1, &[bytes_field(1, tag.as_bytes()), simple_value].concat())
        };
        let summary: Vec<u8> = scalars.iter().flat_map(value).collect();
        self.write(step, bytes_field(5, &summary))
    }

    /// Writes a picture by its tag.
    ///
    /// # Errors
    /// [`crate::error::Error::Environment`].
    pub fn image(&mut self, step: u64, tag: &str, picture: &Picture) -> Result<()> {
        let (height, width, colours) = (picture.height as u64, picture.width as u64, picture.channels as u64);
        let size = [varint_field(1, height), varint_field(2, width), varint_field(3, colours)].concat();
        let image = [size, bytes_field(4, &picture.png()?)].concat();
        let value = [bytes_field(1, tag.as_bytes()), bytes_field(4, &image)].concat();
        self.write(step, bytes_field(5, &bytes_field(1, &value)))
    }

    /// Writes an event at this time, of which `what` is the field that says what it is.
    fn write(&mut self, step: u64, what: Vec<u8>) -> Result<()> {
        let wall_time = [key(1, Wire::Fixed64), now().to_le_bytes().to_vec()].concat();
        let event = [wall_time, varint_field(2, step), what].concat();
        self.file.write_all(&record(&event)).map_err(|error| disk::cannot_write(&self.path, &error))
    }
}

/// Seconds since 1970.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64())
}

/// A record: length, its checksum, the data, their checksum (`tensorflow/core/lib/io/record_writer.cc`).
fn record(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    [&length[..], &masked(&length).to_le_bytes(), data, &masked(data).to_le_bytes()].concat()
}

/// The checksum of a record: a checksum of data that hold a checksum is a bad one, so it is turned and shifted.
fn masked(data: &[u8]) -> u32 {
    crc32c(data).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// CRC-32C (Castagnoli), RFC 3720 B.4, a byte at a time.
fn crc32c(data: &[u8]) -> u32 {
    !data.iter().fold(!0, |crc, byte| (crc >> 8) ^ TABLE[((crc ^ u32::from(*byte)) & 0xff) as usize])
}

const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let (mut crc, mut bit) = (byte as u32, 0);
        while bit < 8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

/// How a field's value is written in protobuf.
#[derive(Clone, Copy)]
enum Wire {
    Varint = 0,
    Fixed64 = 1,
    Bytes = 2,
    Fixed32 = 5,
}

fn key(field: u64, wire: Wire) -> Vec<u8> {
    varint(field << 3 | wire as u64)
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

fn varint_field(field: u64, value: u64) -> Vec<u8> {
    [key(field, Wire::Varint), varint(value)].concat()
}

fn bytes_field(field: u64, bytes: &[u8]) -> Vec<u8> {
    [key(field, Wire::Bytes), varint(bytes.len() as u64), bytes.to_vec()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_of_rfc_3720() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
        assert_eq!(crc32c(&(0..32).collect::<Vec<u8>>()), 0x46dd_794e);
    }

    #[test]
    fn messages_as_protobuf_documents_them() {
        assert_eq!(varint_field(1, 150), [0x08, 0x96, 0x01]);
        assert_eq!(bytes_field(2, b"testing"), [0x12, 0x07, b't', b'e', b's', b't', b'i', b'n', b'g']);
        assert_eq!(varint(u64::MAX).len(), 10);
        assert_eq!(key(2, Wire::Fixed32), [0x15]);
        assert_eq!(key(1, Wire::Fixed64), [0x09]);
    }

    #[test]
    fn each_start_has_a_file_of_its_own_that_sorts_last() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("events.out.tfevents.9999999998.host"), b"").unwrap();
        let paths: Vec<PathBuf> = (0..3).map(|_| Events::begin(folder.path(), None).unwrap().path).collect();
        let names: Vec<_> = paths.iter().map(|path| path.file_name().unwrap().to_str().unwrap()).collect();
        assert_eq!(names[0], "events.out.tfevents.9999999999.ganymede");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 4);
        let none = Events::begin(&folder.path().join("none"), None).unwrap_err();
        assert_eq!(none.exit_code(), 3);
    }
}
