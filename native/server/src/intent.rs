//! What a head asks for: read once for all equal heads of a connection.

use std::rc::Rc;
use std::sync::Arc;

use servekit_core::{Limits, Reason, Refusal, quoted};
use servekit_wire::Head;

use crate::dialect::Terms;
use crate::encoding::{self, Encoding};
use crate::listing::{Listing, Version};
use crate::routes::{self, ModelAction, Route};
use crate::timeouts;

/// Content types of an inference besides none at all; those of forms because `curl -d` sends them.
const MEDIA_TYPES: [&str; 4] =
    ["application/json", "application/octet-stream", "text/plain", "application/x-www-form-urlencoded"];

/// The field that says where the JSON ends and binary tensors begin.
pub(crate) const JSON_LENGTH: &str = "inference-header-content-length";

/// The field by which a caller asks where the time of its request went.
const WANTS_TIMING: &str = "x-request-timing";

/// A head, routed, checked and resolved.
#[derive(Debug)]
pub(crate) struct Intent {
    pub head: Rc<Head>,
    pub route: Route,
    /// The listing in which `version` was found; a newer one may know better.
    pub generation: u64,
    /// The model of an HTTP inference; a gRPC message names its own.
    pub version: Option<Arc<Version>>,
    /// How urgent the caller says it is.
    pub terms: Terms,
    /// How the body is compressed.
    pub encoding: Option<Encoding>,
    /// The answer is to say where its time went.
    pub wants_timing: bool,
    /// Binary tensors follow the JSON, or stand for it.
    pub has_json_length: bool,
}

impl Intent {
    /// Reads a head.
    ///
    /// # Errors
    /// Everything that can be refused before a body is read.
    pub(crate) fn read(head: &Rc<Head>, listing: &Listing, limits: &Limits) -> Result<Self, Refusal> {
        let route = routes::route(head)?;
        let mut version = None;
        if let Route::Model { name, version: asked, action: ModelAction::Infer } = &route {
            version = Some(Arc::clone(listing.find(name, asked)?));
            check_media_type(head)?;
        }
        let encoding = encoding::named(if head.grpc { "grpc-encoding" } else { "content-encoding" }, head)?;
        let terms = Terms { timeout: timeouts::timeout(head)?, level: timeouts::level(head, limits)? };
        Ok(Self {
            head: Rc::clone(head),
            route,
            generation: listing.generation,
            version,
            terms,
            encoding,
            wants_timing: head.field(WANTS_TIMING) == Some(b"1"),
            has_json_length: head.field(JSON_LENGTH).is_some(),
        })
    }
}

fn check_media_type(head: &Head) -> Result<(), Refusal> {
    let Some(value) = head.field("content-type") else { return Ok(()) };
    let essence = value.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii();
    let is_json = essence.len() > 5 && essence[essence.len() - 5..].eq_ignore_ascii_case(b"+json");
    if essence.is_empty() || is_json || MEDIA_TYPES.iter().any(|known| essence.eq_ignore_ascii_case(known.as_bytes())) {
        return Ok(());
    }
    let text =
        format!("content-type {} found, JSON or binary tensors are allowed; send application/json", quoted(essence));
    Err(Refusal::new(Reason::UnsupportedMedia, text))
}

#[cfg(test)]
mod tests {
    use servekit_wire::{HeadBuilder, Version};

    use super::*;

    fn typed(content_type: &str) -> Result<(), Reason> {
        let mut head = HeadBuilder::default();
        head.field(b"content-type", content_type.as_bytes());
        check_media_type(&head.finish(1, Version::Http11, b"POST", b"/")).map_err(|refusal| refusal.reason)
    }

    #[test]
    fn json_binary_and_what_curl_sends_are_read() {
        for content_type in [
            "application/json",
            "Application/JSON; charset=utf-8",
            "application/octet-stream",
            "application/vnd.x+json",
            "text/plain",
            "application/x-www-form-urlencoded",
            "",
        ] {
            assert_eq!(typed(content_type), Ok(()), "{content_type}");
        }
        for content_type in ["multipart/form-data; boundary=x", "image/png", "application/jsonx"] {
            assert_eq!(typed(content_type), Err(Reason::UnsupportedMedia), "{content_type}");
        }
    }
}
