//! Which handler a head names: one router for both protocols, asked once for each distinct head of a connection.
//!
//! A path is split, each segment is percent-decoded once, and the result is compared with the table. Nothing is
//! normalised: `//`, `.` and `\` match no route, and `..` is a model name that nobody has.

use servekit_core::{Reason, Refusal, quoted};
use servekit_wire::{Head, Method};

/// What a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// Does the process live?
    Live,
    /// Is the server ready?
    Ready,
    /// Name, version and extensions of the server.
    ServerMetadata,
    /// Names of the served models.
    ModelList,
    /// Something about one model, over HTTP.
    Model {
        /// Whose.
        name: Box<str>,
        /// Empty for the highest.
        version: Box<str>,
        /// What.
        action: ModelAction,
    },
    /// One of the rpcs; its model is named in the message.
    Rpc(Rpc),
}

/// What is asked of one model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ModelAction {
    /// Inputs and outputs.
    Metadata,
    /// Would a request be served?
    Ready,
    /// How it is configured.
    Config,
    /// Why it is as fast as it is.
    Why,
    /// An inference.
    Infer,
}

/// The rpcs that are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // The names are the protocol's own.
pub(crate) enum Rpc {
    ServerLive,
    ServerReady,
    ModelReady,
    ServerMetadata,
    ModelMetadata,
    ModelInfer,
    HealthCheck,
    HealthWatch,
}

const INFERENCE_SERVICE: &[u8] = b"/inference.GRPCInferenceService/";

/// Rpcs that change something: they exist, on the management port.
const MANAGEMENT_RPCS: [&[u8]; 5] =
    [b"RepositoryIndex", b"RepositoryModelLoad", b"RepositoryModelUnload", b"TraceSetting", b"LogSettings"];

/// A path has no route with more segments than this, so that a long one is not decoded in vain.
const SEGMENTS_MAX: usize = 8;

/// Finds the route of a head.
///
/// # Errors
/// `UnknownRoute`, `MethodNotAllowed`, `ManagementOnly`, `BadField` for a path or version that cannot be read.
pub(crate) fn route(head: &Head) -> Result<Route, Refusal> {
    if head.grpc { rpc(head.path()).map(Route::Rpc) } else { http(head) }
}

/// The verbs of a path, for the field `allow` of a 405.
pub(crate) fn allowed_methods(head: &Head) -> &'static str {
    let found = segments(head.path()).unwrap_or_default();
    let found: Vec<&str> = found.iter().map(String::as_str).collect();
    match matched(&found) {
        Some(Match { action: Some(ModelAction::Infer), .. }) => "POST",
        _ => "GET, HEAD",
    }
}

fn rpc(path: &[u8]) -> Result<Rpc, Refusal> {
    let unknown = || {
        let text = format!("no rpc {}: Not Found; ServerMetadata says what is served", quoted(path));
        Refusal::new(Reason::UnknownRoute, text)
    };
    if let Some(name) = path.strip_prefix(INFERENCE_SERVICE) {
        return match name {
            b"ModelInfer" => Ok(Rpc::ModelInfer),
            b"ServerLive" => Ok(Rpc::ServerLive),
            b"ServerReady" => Ok(Rpc::ServerReady),
            b"ModelReady" => Ok(Rpc::ModelReady),
            b"ServerMetadata" => Ok(Rpc::ServerMetadata),
            b"ModelMetadata" => Ok(Rpc::ModelMetadata),
            name if MANAGEMENT_RPCS.contains(&name) => Err(management_only()),
            _ => Err(unknown()),
        };
    }
    match path {
        b"/grpc.health.v1.Health/Check" => Ok(Rpc::HealthCheck),
        b"/grpc.health.v1.Health/Watch" => Ok(Rpc::HealthWatch),
        _ => Err(unknown()),
    }
}

/// A path that the table knows, before its verb is looked at.
struct Match<'a> {
    plain: Option<Route>,
    name: &'a str,
    version: &'a str,
    action: Option<ModelAction>,
}

impl Match<'_> {
    fn plain(route: Route) -> Self {
        Self { plain: Some(route), name: "", version: "", action: None }
    }
}

fn http(head: &Head) -> Result<Route, Refusal> {
    let unknown = || {
        let (method, path) = (quoted(head.method_text()), quoted(head.path()));
        Refusal::new(Reason::UnknownRoute, format!("no route {method} {path}: Not Found; GET /v2 says what is served"))
    };
    let found = segments(head.path())?;
    let found: Vec<&str> = found.iter().map(String::as_str).collect();
    if is_management(&found) {
        return Err(management_only());
    }
    let Some(matched) = matched(&found) else { return Err(unknown()) };
    let infers = matched.action == Some(ModelAction::Infer);
    let allowed = match head.method {
        Method::Get | Method::Head => !infers,
        Method::Post => infers,
        Method::Other => false,
    };
    if !allowed {
        let verb = if infers { "POST" } else { "GET" };
        let text = format!("method {} on this path: Method Not Allowed; use {verb}", quoted(head.method_text()));
        return Err(Refusal::new(Reason::MethodNotAllowed, text));
    }
    match (matched.plain, matched.action) {
        (Some(route), _) => Ok(route),
        (None, Some(action)) => {
            check_version(matched.version)?;
            Ok(Route::Model { name: matched.name.into(), version: matched.version.into(), action })
        }
        (None, None) => Err(unknown()),
    }
}

fn matched<'a>(segments: &[&'a str]) -> Option<Match<'a>> {
    let (name, version, action) = match *segments {
        [""] | ["v2", "health", "live"] | ["livez" | "healthz"] => return Some(Match::plain(Route::Live)),
        ["v2", "health", "ready"] | ["readyz"] => return Some(Match::plain(Route::Ready)),
        ["v2"] => return Some(Match::plain(Route::ServerMetadata)),
        ["v2", "models"] => return Some(Match::plain(Route::ModelList)),
        ["v2", "models", name] => (name, "", ModelAction::Metadata),
        ["v2", "models", name, "ready"] => (name, "", ModelAction::Ready),
        ["v2", "models", name, "config"] => (name, "", ModelAction::Config),
        ["v2", "models", name, "why"] => (name, "", ModelAction::Why),
        ["v2", "models", name, "infer"] => (name, "", ModelAction::Infer),
        ["v2", "models", name, "versions", version] => (name, version, ModelAction::Metadata),
        ["v2", "models", name, "versions", version, "ready"] => (name, version, ModelAction::Ready),
        ["v2", "models", name, "versions", version, "config"] => (name, version, ModelAction::Config),
        ["v2", "models", name, "versions", version, "why"] => (name, version, ModelAction::Why),
        ["v2", "models", name, "versions", version, "infer"] => (name, version, ModelAction::Infer),
        _ => return None,
    };
    let complete = !name.is_empty() && (segments.len() < 5 || !version.is_empty());
    complete.then_some(Match { plain: None, name, version, action: Some(action) })
}

/// Routes that load, unload or configure: they exist, on the management port.
fn is_management(segments: &[&str]) -> bool {
    matches!(
        *segments,
        ["v2", "repository", ..]
            | ["v2", "logging"]
            | ["v2", "trace", "setting"]
            | ["v2", "models", _, "trace", "setting"]
            | ["v2", "models", _, "versions", _, "trace", "setting"]
    )
}

fn management_only() -> Refusal {
    let text = "explicit model load / unload is not allowed on the data ports; use the management port";
    Refusal::new(Reason::ManagementOnly, text)
}

/// Versions are whole numbers; an empty one means the highest.
///
/// # Errors
/// `BadField`.
pub(crate) fn check_version(version: &str) -> Result<(), Refusal> {
    if version.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(());
    }
    let text = format!(
        "version '{}' found, a whole number from 1 is allowed; correct it or leave it out",
        quoted(version.as_bytes())
    );
    Err(Refusal::new(Reason::BadField, text))
}

/// The decoded segments behind the first slash; none where there are too many to match anything.
fn segments(path: &[u8]) -> Result<Vec<String>, Refusal> {
    let Some(rest) = path.strip_prefix(b"/") else { return Ok(Vec::new()) };
    if rest.split(|&byte| byte == b'/').count() > SEGMENTS_MAX {
        return Ok(Vec::new());
    }
    rest.split(|&byte| byte == b'/').map(decoded).collect()
}

fn decoded(segment: &[u8]) -> Result<String, Refusal> {
    let refused = || {
        let text = format!("path segment '{}' found, percent-encoded UTF-8 is allowed; correct it", quoted(segment));
        Refusal::new(Reason::BadField, text)
    };
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment;
    while let [byte, behind @ ..] = rest {
        rest = behind;
        if *byte != b'%' {
            bytes.push(*byte);
            continue;
        }
        let ([high, low, behind @ ..], true) = (rest, rest.len() >= 2) else { return Err(refused()) };
        let digit = |byte: u8| char::from(byte).to_digit(16);
        let (Some(high), Some(low)) = (digit(*high), digit(*low)) else { return Err(refused()) };
        bytes.push((high * 16 + low) as u8);
        rest = behind;
    }
    String::from_utf8(bytes).map_err(|_| refused())
}

#[cfg(test)]
mod tests {
    use servekit_wire::{HeadBuilder, Version};

    use super::*;

    fn asked(method: &str, path: &str) -> Result<Route, Reason> {
        let head = HeadBuilder::default().finish(1, Version::Http11, method.as_bytes(), path.as_bytes());
        route(&head).map_err(|refusal| refusal.reason)
    }

    fn called(path: &str) -> Result<Route, Reason> {
        let mut head = HeadBuilder::default();
        head.field(b"content-type", b"application/grpc");
        route(&head.finish(1, Version::Http2, b"POST", path.as_bytes())).map_err(|refusal| refusal.reason)
    }

    fn model(name: &str, version: &str, action: ModelAction) -> Result<Route, Reason> {
        Ok(Route::Model { name: name.into(), version: version.into(), action })
    }

    #[test]
    fn every_route_is_found_by_its_verb() {
        for path in ["/", "/v2/health/live", "/livez", "/healthz"] {
            assert_eq!(asked("GET", path), Ok(Route::Live));
        }
        assert_eq!(asked("HEAD", "/v2/health/ready?x=1"), Ok(Route::Ready));
        assert_eq!(asked("GET", "/v2"), Ok(Route::ServerMetadata));
        assert_eq!(asked("GET", "/v2/models"), Ok(Route::ModelList));
        assert_eq!(asked("GET", "/v2/models/a"), model("a", "", ModelAction::Metadata));
        assert_eq!(asked("GET", "/v2/models/a/versions/2"), model("a", "2", ModelAction::Metadata));
        assert_eq!(asked("GET", "/v2/models/a/ready"), model("a", "", ModelAction::Ready));
        assert_eq!(asked("GET", "/v2/models/a/config"), model("a", "", ModelAction::Config));
        assert_eq!(asked("GET", "/v2/models/a/versions/2/config"), model("a", "2", ModelAction::Config));
        assert_eq!(asked("GET", "/v2/models/a/why"), model("a", "", ModelAction::Why));
        assert_eq!(asked("GET", "/v2/models/a/versions/2/why"), model("a", "2", ModelAction::Why));
        assert_eq!(asked("POST", "/v2/models/a/why"), Err(Reason::MethodNotAllowed));
        assert_eq!(asked("POST", "/v2/models/a/infer"), model("a", "", ModelAction::Infer));
        assert_eq!(asked("POST", "/v2/models/a%20b/versions/1/infer"), model("a b", "1", ModelAction::Infer));
        assert_eq!(asked("POST", "http://host/v2/models/a/infer"), model("a", "", ModelAction::Infer));
    }

    #[test]
    fn a_path_is_decoded_once_and_never_normalised() {
        for path in ["/v2//models/a", "/v2/./models/a", "/v2\\models\\a", "/v2/", "/v3", "/v2/models/a/", "v2", "*"] {
            assert_eq!(asked("GET", path), Err(Reason::UnknownRoute), "{path}");
        }
        assert_eq!(asked("GET", "/v2/models/%2e%2e"), model("..", "", ModelAction::Metadata));
        assert_eq!(asked("GET", "/v2/models/%252e"), model("%2e", "", ModelAction::Metadata));
        assert_eq!(asked("GET", "/v2/models/a;x"), model("a;x", "", ModelAction::Metadata));
        assert_eq!(asked("GET", "/v2/models/a%2fready"), model("a/ready", "", ModelAction::Metadata));
        for path in ["/v2/models/%c0%ae", "/v2/models/%2", "/v2/models/%zz", "/v2/models/%+1"] {
            assert_eq!(asked("GET", path), Err(Reason::BadField), "{path}");
        }
    }

    #[test]
    fn a_wrong_verb_is_told_the_right_one() {
        assert_eq!(asked("GET", "/v2/models/a/infer"), Err(Reason::MethodNotAllowed));
        assert_eq!(asked("DELETE", "/v2/models/a"), Err(Reason::MethodNotAllowed));
        assert_eq!(asked("POST", "/v2"), Err(Reason::MethodNotAllowed));
        let head = |path: &str| HeadBuilder::default().finish(1, Version::Http11, b"PUT", path.as_bytes());
        assert_eq!(allowed_methods(&head("/v2/models/a/infer")), "POST");
        assert_eq!(allowed_methods(&head("/v2")), "GET, HEAD");
    }

    #[test]
    fn the_data_ports_cannot_manage() {
        for method in ["GET", "POST", "DELETE"] {
            for path in [
                "/v2/repository/index",
                "/v2/repository/models/a/load",
                "/v2/repository/x/models/a/unload",
                "/v2/logging",
                "/v2/trace/setting",
                "/v2/models/a/trace/setting",
            ] {
                assert_eq!(asked(method, path), Err(Reason::ManagementOnly), "{method} {path}");
            }
        }
        for name in ["RepositoryModelLoad", "RepositoryModelUnload", "RepositoryIndex", "TraceSetting", "LogSettings"] {
            let path = format!("/inference.GRPCInferenceService/{name}");
            assert_eq!(called(&path), Err(Reason::ManagementOnly), "{name}");
        }
    }

    #[test]
    fn an_rpc_is_found_by_its_whole_path() {
        assert_eq!(called("/inference.GRPCInferenceService/ModelInfer"), Ok(Route::Rpc(Rpc::ModelInfer)));
        assert_eq!(called("/grpc.health.v1.Health/Watch"), Ok(Route::Rpc(Rpc::HealthWatch)));
        for path in ["/inference.GRPCInferenceService/modelinfer", "/v2", "/inference.GRPCInferenceService/", "/a/b"] {
            assert_eq!(called(path), Err(Reason::UnknownRoute), "{path}");
        }
        assert_eq!(asked("POST", "/inference.GRPCInferenceService/ModelInfer"), Err(Reason::UnknownRoute));
    }

    #[test]
    fn a_version_is_a_whole_number() {
        assert_eq!(asked("GET", "/v2/models/a/versions/-1"), Err(Reason::BadField));
        assert_eq!(asked("GET", "/v2/models/a/versions/one"), Err(Reason::BadField));
        assert_eq!(asked("GET", "/v2/models/a/versions/"), Err(Reason::UnknownRoute));
    }
}
