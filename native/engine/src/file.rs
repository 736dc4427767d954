//! Reads a model's file, and makes sure that what it refers to stays in its folder.

use std::fs::{File, Metadata, OpenOptions, symlink_metadata};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};

use servekit_core::{Limits, Reason, Refusal, quoted};
use sha2::{Digest, Sha256};

use crate::model::ModelSpec;
use crate::scan::Scan;

/// A model's file as it was at one moment: what is scanned, told by its digest and run are the same bytes, whatever
/// happens to the file meanwhile.
pub(crate) struct ModelFile {
    pub(crate) bytes: Vec<u8>,
    /// SHA-256 in hexadecimal.
    pub(crate) digest: String,
    /// Where external data lie.
    pub(crate) folder: PathBuf,
}

/// Reads the file of a model.
///
/// # Errors
/// `ModelPath` for what is no plain file, `ModelFile` for what cannot be read or is too large.
pub(crate) fn read(spec: &ModelSpec, limits: &Limits) -> Result<ModelFile, Refusal> {
    let model = &spec.name;
    let unreadable = |error: &std::io::Error| {
        let text = format!("file of model '{model}' cannot be read: {}; check its path and rights", cause(error));
        Refusal::new(Reason::ModelFile, text)
    };
    let file = open(&spec.path, spec.links).map_err(|error| match error.raw_os_error() {
        Some(libc::ELOOP) => path_refusal(model, "its file is a link, a plain file is allowed; allow links for it"),
        _ => unreadable(&error),
    })?;
    let metadata = file.metadata().map_err(|error| unreadable(&error))?;
    if !metadata.is_file() {
        return Err(path_refusal(model, "its file is no plain file, one is allowed; give the path of a .onnx file"));
    }
    let bytes_max = limits.model_file_bytes_max;
    let mut bytes = Vec::new();
    if metadata.len() <= bytes_max {
        bytes.reserve_exact(metadata.len() as usize);
        // One byte more shows whether the file has grown meanwhile.
        file.take(bytes_max.saturating_add(1)).read_to_end(&mut bytes).map_err(|error| unreadable(&error))?;
    }
    let length = metadata.len().max(bytes.len() as u64);
    if length > bytes_max {
        let text = format!(
            "file of model '{model}' has {length} bytes, at most {bytes_max} are allowed; keep weights in external data"
        );
        return Err(Refusal::new(Reason::ModelFile, text));
    }
    let digest = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    let folder = std::path::absolute(&spec.path).map_err(|error| unreadable(&error))?;
    let folder = folder.parent().map_or_else(|| PathBuf::from("/"), Path::to_path_buf);
    Ok(ModelFile { bytes, digest, folder })
}

/// Opens without following a last link, and without waiting for the other end of a pipe.
fn open(path: &Path, links: bool) -> std::io::Result<File> {
    let follow = if links { 0 } else { libc::O_NOFOLLOW };
    OpenOptions::new().read(true).custom_flags(follow | libc::O_NONBLOCK).open(path)
}

/// Checks every file that a scanned model refers to, before anything opens it; gives their bytes together.
///
/// # Errors
/// `ModelPath` naming the first that leaves the folder, is a link, or is no plain file; `ModelFile` for one that is
/// shorter than the model says.
pub(crate) fn check_external(folder: &Path, scan: &Scan, spec: &ModelSpec) -> Result<u64, Refusal> {
    let mut total = 0;
    for (location, &needed) in &scan.external {
        let found = quoted(location.as_bytes());
        let metadata = external_metadata(folder, Path::new(location), spec.links).map_err(|problem| {
            let text = format!(
                "external data '{found}' {problem}, a plain file in the model's folder is allowed; move it there"
            );
            path_refusal(&spec.name, &text)
        })?;
        if metadata.len() < needed {
            let text = format!(
                "model '{}' needs {needed} bytes of external data '{found}', {} are there; copy the file again",
                spec.name,
                metadata.len()
            );
            return Err(Refusal::new(Reason::ModelFile, text));
        }
        total += metadata.len();
    }
    Ok(total)
}

fn external_metadata(folder: &Path, location: &Path, links: bool) -> Result<Metadata, String> {
    let is_inside = location.components().all(|component| matches!(component, Component::Normal(_)));
    if !is_inside || location.as_os_str().is_empty() {
        return Err("leaves the model's folder".to_owned());
    }
    let mut path = folder.to_path_buf();
    for component in location.components() {
        path.push(component);
        let is_link =
            symlink_metadata(&path).map_err(|error| format!("cannot be read ({})", cause(&error)))?.is_symlink();
        if is_link && !links {
            return Err("is a link".to_owned());
        }
    }
    let metadata = path.metadata().map_err(|error| format!("cannot be read ({})", cause(&error)))?;
    if !metadata.is_file() {
        return Err("is no plain file".to_owned());
    }
    if metadata.nlink() > 1 && !links {
        return Err("is a hard link".to_owned());
    }
    Ok(metadata)
}

fn path_refusal(model: &str, problem: &str) -> Refusal {
    Refusal::new(Reason::ModelPath, format!("model '{model}': {problem}"))
}

/// What the system says, without a path and its error number.
fn cause(error: &std::io::Error) -> String {
    error.kind().to_string()
}
