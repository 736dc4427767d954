//! The file of one profile: an envelope with a checksum over the bytes of what is inside. A reader sees the old file or
//! the new one, whatever happens while it is written.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use servekit_core::{ClassSurface, Surface};
use sha2::{Digest, Sha256};

use super::key::hexadecimal;
use super::{Key, Profile};

/// Raised when what is inside changes its meaning; files of other versions are not read.
pub(super) const SCHEMA: u32 = 1;
/// No profile is larger.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Profiles of models that nobody serves any more go when there are more than this.
const FILES_MAX: usize = 512;
/// How names of profiles end, behind their key.
const ENDING: &str = ".json";

/// Where one model's profile is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ProfileFile {
    /// May not be there yet.
    folder: PathBuf,
    /// See [`Key`](super::Key).
    key: String,
    /// Its name, for those who look into the file.
    model: String,
    /// Most bytes that a run took from the arena, as found at load; for those who look into the file.
    peak_bytes: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope<'a> {
    schema: u32,
    /// SHA-256 of the bytes of `payload`.
    checksum: String,
    #[serde(borrow)]
    payload: &'a RawValue,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Payload {
    /// As in the name of the file, which can be changed.
    key: String,
    model: String,
    /// Seconds since 1970.
    written_at_s: u64,
    /// Runs that the model's own surface was learned from.
    samples: u64,
    peak_bytes: u64,
    surfaces: Vec<ClassSurface>,
    /// How long runs of the model alone took then, where these are of runs with steps around it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    alone: Option<Surface>,
}

impl ProfileFile {
    pub(crate) fn new(folder: &Path, key: String, model: &str, peak_bytes: u64) -> Self {
        Self { folder: folder.to_owned(), key, model: model.to_owned(), peak_bytes }
    }

    /// Where the same is kept of the model with steps around it, or of such steps without it.
    pub(crate) fn of_steps(&self, name: &str, digest: &str) -> Self {
        let key = Key::default().with("file", &self.key).with("name", name).with("steps", digest);
        Self { folder: self.folder.clone(), key: key.text(), model: name.to_owned(), peak_bytes: self.peak_bytes }
    }

    fn path(&self) -> PathBuf {
        self.folder.join(format!("{}{ENDING}", self.key))
    }

    /// What was kept, if anything was; else what is wrong with the file, in words.
    pub(crate) fn read(&self) -> Result<Option<Profile>, String> {
        let path = self.path();
        let bytes = match read_bounded(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(format!("{} cannot be read: {error}", path.display())),
        };
        let profile = parse(&bytes, &self.key).map_err(|problem| format!("{} {problem}", path.display()))?;
        Ok(Some(profile))
    }

    /// Replaces what is kept. Takes as long as the disk does.
    ///
    /// # Errors
    /// What the system says; the file is as it was before then.
    pub(crate) fn write(&self, profile: Profile) -> io::Result<()> {
        let text = self.print(profile)?;
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
        // Another process may keep the profile of the same model.
        let partial = self.folder.join(format!("{}.{}.partial", self.key, std::process::id()));
        let written = write_through(&partial, &text).and_then(|()| fs::rename(&partial, self.path()));
        if written.is_err() {
            // The first error says more than one of tidying up would.
            let _ = fs::remove_file(&partial);
            return written;
        }
        // The rename reaches the disk when it may: until then the old file is there, which is as good.
        let _ = File::open(&self.folder).and_then(|folder| folder.sync_all());
        remove_oldest(&self.folder)
    }

    /// As many of the surfaces as a file may hold.
    fn print(&self, profile: Profile) -> io::Result<String> {
        let written_at = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let Profile { mut surfaces, mut alone } = profile;
        for surface in surfaces.iter_mut().map(|known| &mut known.surface).chain(&mut alone) {
            // Missing ones are 1.
            let known = surface.corrections.iter().rposition(|&found| found != 1.0).map_or(0, |last| last + 1);
            surface.corrections.truncate(known);
        }
        let mut payload = Payload {
            key: self.key.clone(),
            model: self.model.clone(),
            written_at_s: written_at.as_secs(),
            samples: surfaces[0].surface.samples,
            peak_bytes: self.peak_bytes,
            surfaces,
            alone,
        };
        loop {
            let text = seal(&serde_json::to_string(&payload)?)?;
            if text.len() as u64 <= FILE_BYTES_MAX {
                return Ok(text);
            }
            // The model's own is first, and never too long by itself.
            payload.surfaces.truncate(payload.surfaces.len() / 2);
        }
    }
}

/// The envelope around a payload.
pub(super) fn seal(payload: &str) -> serde_json::Result<String> {
    let payload = RawValue::from_string(payload.to_owned())?;
    let checksum = checksum(&payload);
    serde_json::to_string(&Envelope { schema: SCHEMA, checksum, payload: &payload })
}

fn checksum(payload: &RawValue) -> String {
    hexadecimal(&Sha256::digest(payload.get().as_bytes()))
}

/// Reads what a file of this key holds; else says what is wrong with it. Any bytes may come.
pub(super) fn parse(bytes: &[u8], key: &str) -> Result<Profile, String> {
    let envelope: Envelope<'_> = serde_json::from_slice(bytes).map_err(|error| format!("is no profile: {error}"))?;
    if envelope.schema != SCHEMA {
        return Err(format!("is of version {}, this server reads version {SCHEMA}", envelope.schema));
    }
    if envelope.checksum != checksum(envelope.payload) {
        return Err("is damaged: its checksum is another".to_owned());
    }
    let payload: Payload =
        serde_json::from_str(envelope.payload.get()).map_err(|error| format!("is no profile: {error}"))?;
    if payload.key != key {
        return Err("was kept for another model or another machine".to_owned());
    }
    Profile::of(payload.surfaces, payload.alone.as_ref()).ok_or_else(|| "holds nothing".to_owned())
}

/// A plain file, neither a link nor longer than a profile may be.
fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    // Without waiting for the other end, should it be a pipe.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no plain file"));
    }
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        let text = format!("it has more than {FILE_BYTES_MAX} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, text));
    }
    Ok(bytes)
}

/// Writes a whole file down to the disk.
fn write_through(path: &Path, text: &str) -> io::Result<()> {
    let options = libc::O_NOFOLLOW;
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).custom_flags(options).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// Removes the profiles that were written longest ago, if there are too many.
fn remove_oldest(folder: &Path) -> io::Result<()> {
    let mut profiles = Vec::new();
    for entry in fs::read_dir(folder)?.flatten() {
        if is_profile(&entry.file_name().to_string_lossy())
            && let Ok(written_at) = entry.metadata().and_then(|metadata| metadata.modified())
        {
            profiles.push((written_at, entry.path()));
        }
    }
    profiles.sort_unstable();
    let excess = profiles.len().saturating_sub(FILES_MAX);
    profiles.iter().take(excess).try_for_each(|(_, path)| fs::remove_file(path))
}

/// Whether a file is called as profiles are: nothing else may be removed.
fn is_profile(name: &str) -> bool {
    let key = name.strip_suffix(ENDING).unwrap_or_default();
    key.len() == 64 && key.bytes().all(|byte| byte.is_ascii_hexdigit())
}
