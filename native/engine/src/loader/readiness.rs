//! The last step of a load: runs of all sizes, and what is known of earlier starts.

use std::time::Instant;

use servekit_core::{Ragged, Refusal};

use super::{Loader, Tried};
use crate::profile::{Key, ProfileFile, processor};
use crate::warm_up::{Kept, WarmUp, Warmed};

impl Loader<'_> {
    /// Runs the model until it is ready; says what batching starts from, and where that is kept.
    pub(super) fn warm_up(
        &self,
        tried: &Tried,
        ragged: Option<&Ragged>,
        until: Instant,
    ) -> Result<(Warmed, Option<ProfileFile>), Refusal> {
        let file = self.profile_file(tried);
        let kept = file.as_ref().map_or(Kept::Off, |file| Kept::Read(file.read()));
        let warm_up = WarmUp {
            subject: &self.subject(&tried.graph)?,
            session: &tried.session,
            findings: &tried.findings,
            ragged,
            time_max: until.saturating_duration_since(Instant::now()),
        };
        let warmed = warm_up.run(kept).map_err(|fault| self.refused(fault))?;
        Ok((warmed, file))
    }

    /// Where run times of this model are kept: they hold for the same file, library, device, threads and machine.
    fn profile_file(&self, tried: &Tried) -> Option<ProfileFile> {
        let folder = self.settings.profiles.as_deref()?;
        let external: Vec<String> =
            self.scan.external.iter().map(|(location, bytes)| format!("{location} {bytes}")).collect();
        let gpu_bytes_max = self.spec.arena_bytes_max.or(self.limits.arena_bytes_max);
        let key = Key::default()
            .with("model", &self.file.digest)
            // Times follow from the sizes of weights. Their values, which may be gigabytes, are not read for this.
            .with("external data", &external.join("\n"))
            .with("onnxruntime", self.environment.version())
            .with("device", &tried.device.name())
            .with("device memory", &format!("{gpu_bytes_max:?}"))
            .with("optimisation", "all")
            .with("intra_op", &tried.intra_op.to_string())
            .with("processor", &processor())
            .with("cores", &self.settings.cores.to_string());
        Some(ProfileFile::new(folder, key.text(), &self.spec.name, tried.findings.peak_bytes))
    }
}
