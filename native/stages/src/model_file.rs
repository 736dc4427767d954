//! Files in the model's folder, which options name.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Component, Path};

use servekit_core::quoted;

use crate::options::Options;

/// A file that lies in the model's folder, by its name. It may not be there.
pub(crate) struct ModelFile<'a> {
    options: &'a Options<'a>,
    name: &'a str,
    folder: &'a Path,
}

impl<'a> ModelFile<'a> {
    /// Refuses names that lead out of the folder.
    pub(crate) fn named(options: &'a Options<'a>, name: &'a str, folder: &'a Path) -> Result<Self, String> {
        let is_inside = Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
        let file = Self { options, name, folder };
        if !is_inside || name.is_empty() {
            let shown = file.shown();
            let text = format!("option 'file' is '{shown}', a file in the model's folder is allowed; move it there");
            return Err(options.wrong(&text));
        }
        Ok(file)
    }

    /// Refuses links, of the file and of folders on the way to it: they may lead out of the folder.
    pub(crate) fn without_links(self) -> Result<Self, String> {
        let mut path = self.folder.to_owned();
        for part in Path::new(self.name).components() {
            path.push(part);
            if fs::symlink_metadata(&path).is_ok_and(|found| found.is_symlink()) {
                let text = format!(
                    "file '{}' is or lies behind a link, a file in the model's folder is allowed; copy it there",
                    self.shown()
                );
                return Err(self.options.wrong(&text));
            }
        }
        Ok(self)
    }

    /// The file's text. `needed` says what is to be in it.
    pub(crate) fn text(&self, bytes_max: u64, needed: &str) -> Result<String, String> {
        let shown = self.shown();
        let unreadable = |error: std::io::Error| {
            self.options.wrong(&format!(
                "file '{shown}' cannot be read ({error}), {needed} is needed; put it into the model's folder"
            ))
        };
        let path = self.folder.join(self.name);
        let metadata = fs::metadata(&path).map_err(unreadable)?;
        // A pipe would keep the load waiting for whoever writes into it.
        if !metadata.is_file() {
            return Err(self.options.wrong(&format!("file '{shown}' is no file, {needed} is needed; put it there")));
        }
        if metadata.len() > bytes_max {
            let found = metadata.len();
            let text = format!("file '{shown}' has {found} bytes, at most {bytes_max} are allowed; make it smaller");
            return Err(self.options.wrong(&text));
        }
        let mut text = String::new();
        // It may have grown since: its end is then left out, and memory still bounded.
        File::open(&path).map_err(unreadable)?.take(bytes_max).read_to_string(&mut text).map_err(unreadable)?;
        Ok(text)
    }

    /// The name, for messages.
    pub(crate) fn shown(&self) -> String {
        quoted(self.name.as_bytes())
    }
}
