//! What batching of one queue starts from.

use std::io;

use servekit_core::{ClassSurface, Surface};

use super::file::ProfileFile;
use super::{KnownSurface, Profile, ProfileUse};

/// What batching of one queue starts from, and where what it learns is kept.
#[derive(Clone, Debug)]
pub struct Start {
    surfaces: Vec<ClassSurface>,
    profile: ProfileUse,
    /// `None` where nothing is kept.
    file: Option<ProfileFile>,
    /// How long runs of the model take without the steps around it, where there are such.
    alone: Option<Surface>,
}

impl Start {
    /// Of a model without steps around it.
    pub(crate) fn of_model(surfaces: Vec<ClassSurface>, profile: ProfileUse, file: Option<ProfileFile>) -> Self {
        Self { surfaces, profile, file, alone: None }
    }

    /// Of this model with steps around it, or of the steps without it. What such runs took in earlier starts lies beside
    /// what is kept of the model; `digest` tells other steps apart. Where nothing was kept, runs are supposed to take as
    /// long as those of the model do.
    pub(crate) fn with_steps(&self, name: &str, digest: &str, is_model_run: bool) -> Self {
        let alone = self.surfaces.first().filter(|_| is_model_run).map(|known| known.surface.clone());
        let of_model =
            |surface: &Surface| ClassSurface { shape: String::new(), length: None, surface: surface.clone() };
        let file = self.file.as_ref().map(|file| file.of_steps(name, digest));
        let compared = match file.as_ref().map(ProfileFile::read) {
            None => Err(ProfileUse::Off),
            Some(Ok(None)) => Err(ProfileUse::None),
            Some(Err(why)) => Err(ProfileUse::Ignored(why)),
            Some(Ok(Some(profile))) => profile.compared(alone.as_ref()).map_err(ProfileUse::Discarded),
        };
        let (surfaces, profile) = match compared {
            Ok((profile, told)) => (profile.surfaces, ProfileUse::Used(told)),
            Err(not_used) => (alone.iter().map(of_model).collect(), not_used),
        };
        Self { surfaces, profile, file, alone }
    }

    /// How long runs took at load, or in earlier starts: of all shapes first, then those of classes; none where nothing
    /// is known.
    #[must_use]
    pub fn surfaces(&self) -> &[ClassSurface] {
        &self.surfaces
    }

    /// The same for people.
    #[must_use]
    pub fn shown(&self) -> Vec<KnownSurface> {
        self.surfaces.iter().map(KnownSurface::from).collect()
    }

    /// What has become of what was kept.
    #[must_use]
    pub fn profile(&self) -> &ProfileUse {
        &self.profile
    }

    /// Runs that the surface of all shapes was learned from.
    #[must_use]
    pub fn samples(&self) -> u64 {
        self.surfaces.first().map_or(0, |whole| whole.surface.samples)
    }

    /// Whether what is learned can be kept.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        self.file.is_some()
    }

    /// Keeps what was learned for the next start, of all shapes first, in place of what is kept; does nothing where
    /// nothing is. Takes as long as the disk does.
    ///
    /// # Errors
    /// What the system says; the file is as it was before then.
    pub fn keep(&self, learned: &[ClassSurface]) -> io::Result<()> {
        let (Some(file), Some(profile)) = (&self.file, Profile::of(learned.iter().cloned(), self.alone.as_ref()))
        else {
            return Ok(());
        };
        file.write(profile)
    }
}
