//! Compiled pipelines kept on disk between runs (Vulkan; other APIs have a cache of their own).
//!
//! A cache is never worth an error: whatever is wrong with it is said once and it is done without.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use sha2::{Digest, Sha256};
use wgpu::{AdapterInfo, Device, ErrorFilter, PipelineCache, PipelineCacheDescriptor};

use super::device::lock;

/// First bytes of the file.
const MAGIC: &[u8; 8] = b"GANYPLC\0";
/// Format version, little-endian, behind the magic.
const VERSION: u32 = 1;
/// Magic, version, SHA-256 of the data.
const HEADER: usize = 8 + 4 + 32;

/// The driver's pipeline cache and the file that it came from and goes to.
#[derive(Debug)]
pub(super) struct Cache {
    pub raw: PipelineCache,
    path: PathBuf,
    /// Hash of what the file is known to hold.
    stored: Mutex<Option<[u8; 32]>>,
}

impl Cache {
    /// Opens the cache of this adapter and driver in `folder`, or in the platform's cache folder; `None` if there cannot be one.
    pub fn open(device: &Device, info: &AdapterInfo, folder: Option<&Path>) -> Option<Cache> {
        let name = file_name(info)?;
        let folder = folder.map(Path::to_path_buf).or_else(default_folder)?;
        if let Err(why) = prepare(&folder) {
            eprintln!("note: compiled pipelines are not kept: {}: {why}", folder.display());
            return None;
        }
        let path = folder.join(name);
        let data = match fs::read(&path) {
            Ok(bytes) => match decode(&bytes) {
                Ok(data) => Some(data.to_vec()),
                Err(why) => {
                    eprintln!("note: the pipeline cache {} is made anew: {why}", path.display());
                    None
                }
            },
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => {
                eprintln!("note: the pipeline cache {} is made anew: {error}", path.display());
                None
            }
        };
        let stored = data.as_deref().map(digest);
        let scopes = [ErrorFilter::Internal, ErrorFilter::OutOfMemory, ErrorFilter::Validation].map(|f| device.push_error_scope(f));
        // SAFETY: the data is what `get_data` returned, as far as a private folder, a name made of adapter and driver and a hash can tell;
        // wgpu compares its own header with the adapter and driver version once more.
        let raw = unsafe {
            device.create_pipeline_cache(&PipelineCacheDescriptor { label: Some("ganymede"), data: data.as_deref(), fallback: true })
        };
        // Popped innermost first.
        let failed = scopes.into_iter().rev().fold(None, |found, scope| pollster::block_on(scope.pop()).or(found));
        match failed {
            None => Some(Cache { raw, path, stored: Mutex::new(stored) }),
            Some(error) => {
                eprintln!("note: compiled pipelines are not kept: {error}");
                None
            }
        }
    }

    /// Writes the file if the driver has something new, by way of a temporary file so that a reader never sees half of it.
    pub fn save(&self) {
        let Some(data) = self.raw.get_data() else { return };
        let hash = digest(&data);
        let mut stored = lock(&self.stored);
        if *stored == Some(hash) {
            return;
        }
        match replace(&self.path, &encode(&data)) {
            Ok(()) => *stored = Some(hash),
            Err(error) => eprintln!("note: the pipeline cache {} was not written: {error}", self.path.display()),
        }
    }
}

/// File name: wgpu's key of the adapter, and the driver, so that drivers that share a device do not overwrite each other's.
fn file_name(info: &AdapterInfo) -> Option<String> {
    let key: String = wgpu::util::pipeline_cache_key(info)?.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    let driver = digest(format!("{}\n{}\n{}", info.name, info.driver, info.driver_info).as_bytes());
    let driver: String = driver[..6].iter().map(|b| format!("{b:02x}")).collect();
    Some(format!("{key}_{driver}.bin"))
}

/// `GANYMEDE_CACHE_DIR`, else the platform's folder for caches.
fn default_folder() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    if let Some(folder) = set("GANYMEDE_CACHE_DIR") {
        return Some(folder);
    }
    if cfg!(windows) {
        return set("LOCALAPPDATA").map(|p| p.join("ganymede").join("cache"));
    }
    if cfg!(target_os = "macos") {
        return set("HOME").map(|p| p.join("Library/Caches/ganymede"));
    }
    // The XDG specification says to ignore relative paths.
    let base = set("XDG_CACHE_HOME").filter(|p| p.is_absolute()).or_else(|| set("HOME").map(|p| p.join(".cache")))?;
    Some(base.join("ganymede"))
}

/// Makes the folder, for this user alone, and refuses one that others can write to: drivers trust what they are given.
#[cfg(unix)]
fn prepare(folder: &Path) -> Result<(), String> {
    use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|e| e.to_string())?;
    let mode = fs::metadata(folder).map_err(|e| e.to_string())?.permissions().mode();
    if mode & 0o022 == 0 { Ok(()) } else { Err(format!("others can write to this folder (mode {:o}); chmod it to 700", mode & 0o777)) }
}

#[cfg(not(unix))]
fn prepare(folder: &Path) -> Result<(), String> {
    fs::create_dir_all(folder).map_err(|e| e.to_string())
}

fn digest(data: &[u8]) -> [u8; 32] {
    Sha256::digest(data).into()
}

fn encode(data: &[u8]) -> Vec<u8> {
    [MAGIC.as_slice(), &VERSION.to_le_bytes(), &digest(data), data].concat()
}

fn decode(file: &[u8]) -> Result<&[u8], &'static str> {
    let (header, data) = file.split_at_checked(HEADER).ok_or("it is too short")?;
    let (magic, rest) = header.split_at(MAGIC.len());
    let (version, hash) = rest.split_at(4);
    if magic != MAGIC {
        return Err("it is not a pipeline cache of ganymede");
    }
    if version != VERSION.to_le_bytes() {
        return Err("it is of another version of ganymede");
    }
    if hash != digest(data) {
        return Err("it is damaged");
    }
    Ok(data)
}

fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
    let written = fs::File::create(&temporary).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    let done = written.and_then(|()| fs::rename(&temporary, path));
    if done.is_err() {
        // Nothing more can be done about a leftover.
        let _ = fs::remove_file(&temporary);
    }
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_round_trips_and_damage_is_found() {
        let good = encode(b"pipelines");
        assert_eq!(decode(&good), Ok(b"pipelines".as_slice()));
        assert_eq!(decode(&encode(b"")), Ok(b"".as_slice()));
        for i in 0..good.len() {
            let mut bad = good.clone();
            bad[i] ^= 1;
            assert!(decode(&bad).is_err(), "byte {i}");
        }
        assert!(decode(&good[..HEADER - 1]).is_err());
        assert!(decode(&good[..good.len() - 1]).is_err());
        assert!(decode(&[good.as_slice(), b"x"].concat()).is_err());
    }

    #[test]
    fn replacing_leaves_no_temporary_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cache.bin");
        replace(&path, b"one").unwrap();
        replace(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[cfg(unix)]
    #[test]
    fn the_folder_is_private() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("a/b");
        prepare(&inner).unwrap();
        assert_eq!(fs::metadata(&inner).unwrap().permissions().mode() & 0o777, 0o700);
        fs::set_permissions(&inner, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(prepare(&inner).unwrap_err().contains("777"));
    }
}
