//! The kinds of stages that a pipeline may name.

use std::path::Path;

use serde_json::Value;

use crate::base64_text::Base64Text;
use crate::image::DecodeImage;
use crate::lookup::Lookup;
use crate::options::{nearest, quoted_list};
use crate::resize::Resize;
use crate::tokenize::Tokenize;
use crate::{Stage, StageLimits};

/// Names of all kinds.
pub const KINDS: [&str; 5] = ["base64", "decode_image", "lookup", "resize", "tokenize"];

/// The stage of this kind. `options` is an object, or null where none are given; files that it needs are looked for in
/// `folder`, which is the model's.
///
/// # Errors
/// Which option or file is wrong: what was found, what is allowed, what to do.
pub fn build(kind: &str, options: &Value, folder: &Path, limits: StageLimits) -> Result<Box<dyn Stage>, String> {
    Ok(match kind {
        "base64" => Box::new(Base64Text::new(options)?),
        "decode_image" => Box::new(DecodeImage::new(options, limits)?),
        "lookup" => Box::new(Lookup::new(options, folder, limits)?),
        "resize" => Box::new(Resize::new(options, limits)?),
        "tokenize" => Box::new(Tokenize::new(options, folder, limits)?),
        _ => {
            return Err(format!(
                "stage '{}' is unknown; did you mean '{}'? allowed are {}",
                servekit_core::quoted(kind.as_bytes()),
                nearest(kind, &KINDS),
                quoted_list(&KINDS)
            ));
        }
    })
}
