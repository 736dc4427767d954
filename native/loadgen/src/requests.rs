//! Requests as they go on the wire, written ahead of time but for what is left of the deadline.

use std::io::Write as _;
use std::sync::Arc;

use bytes::{BufMut as _, Bytes, BytesMut};
use servekit_wire::Output;
use servekit_wire::client::{Call, Fields, Http2Client, Method};

use crate::dice::{Dice, Mix};
use crate::plan::{Plan, Protocol};

const NS_PER_MS: u64 = 1_000_000;
const NS_PER_US: u64 = 1_000;

/// Which body and class one request has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Choice {
    pub(crate) body: u16,
    pub(crate) class: u16,
}

/// Everything that may be sent.
#[derive(Debug)]
pub(crate) struct Requests {
    prepared: Prepared,
    bodies: Vec<Bytes>,
    classes: usize,
    deadline_ns: Option<u64>,
    body_mix: Mix,
    class_mix: Mix,
    dice: Dice,
}

#[derive(Debug)]
enum Prepared {
    /// For each body and class the head up to where the timeout belongs.
    Http(Vec<Bytes>),
    /// For each class its metadata.
    Grpc { method: Arc<Method>, fields: Vec<Fields> },
}

impl Requests {
    pub(crate) fn new(plan: &Plan, contents: Vec<Bytes>) -> Self {
        let classes = plan.priorities.len().max(1);
        let levels: Vec<Option<String>> =
            (0..classes).map(|at| plan.priorities.get(at).map(|class| class.level.to_string())).collect();
        let (prepared, bodies) = match plan.target.protocol {
            Protocol::Http => (Prepared::Http(http_heads(plan, &contents, &levels)), contents),
            Protocol::Grpc => {
                let fields = |level: &Option<String>| {
                    level.as_ref().map_or_else(Fields::default, |level| Fields::new(&[("x-request-priority", level)]))
                };
                let method = Arc::new(Method::new(&plan.target.address, &plan.target.path));
                let fields = levels.iter().map(fields).collect();
                (Prepared::Grpc { method, fields }, contents.iter().map(framed).collect())
            }
        };
        Self {
            prepared,
            bodies,
            classes,
            deadline_ns: plan.deadline_ms.map(|deadline_ms| (deadline_ms * NS_PER_MS as f64) as u64),
            body_mix: Mix::new(plan.bodies.iter().map(|body| body.weight)),
            class_mix: Mix::new(plan.priorities.iter().map(|class| class.share)),
            dice: Dice::new(plan.seed, 1),
        }
    }

    /// The rpc, where gRPC is spoken.
    pub(crate) fn method(&self) -> Option<&Arc<Method>> {
        match &self.prepared {
            Prepared::Http(_) => None,
            Prepared::Grpc { method, .. } => Some(method),
        }
    }

    /// What the next request is.
    pub(crate) fn draw(&mut self) -> Choice {
        let body = self.body_mix.draw(&mut self.dice) as u16;
        Choice { body, class: self.class_mix.draw(&mut self.dice) as u16 }
    }

    /// Writes a request that has waited for `late_ns`.
    pub(crate) fn put_http(&self, choice: Choice, late_ns: u64, output: &mut Output) {
        let Prepared::Http(heads) = &self.prepared else { return };
        let buffer = output.buffer();
        buffer.extend_from_slice(&heads[usize::from(choice.body) * self.classes + usize::from(choice.class)]);
        if let Some(left_ns) = self.left_ns(late_ns) {
            // Writing to memory does not fail.
            let _written = write!(buffer, "x-request-timeout-ms: {}\r\n", (left_ns / NS_PER_MS).max(1));
        }
        buffer.extend_from_slice(b"\r\n");
        output.share(self.bodies[usize::from(choice.body)].clone());
    }

    /// The same on a connection of many; false where it has no room.
    pub(crate) fn put_grpc(
        &self,
        choice: Choice,
        token: u32,
        late_ns: u64,
        (client, output): (&mut Http2Client, &mut Output),
    ) -> bool {
        let Prepared::Grpc { fields, .. } = &self.prepared else { return false };
        let call = Call {
            token,
            fields: &fields[usize::from(choice.class)],
            timeout_us: self.left_ns(late_ns).map(|left_ns| (left_ns / NS_PER_US).max(1)),
            message: &self.bodies[usize::from(choice.body)],
        };
        client.send(&call, output)
    }

    fn left_ns(&self, late_ns: u64) -> Option<u64> {
        self.deadline_ns.map(|deadline_ns| deadline_ns.saturating_sub(late_ns))
    }
}

fn http_heads(plan: &Plan, contents: &[Bytes], levels: &[Option<String>]) -> Vec<Bytes> {
    let target = &plan.target;
    let mut heads = Vec::new();
    for (body, content) in plan.bodies.iter().zip(contents) {
        for level in levels {
            let mut head = format!(
                "POST {} HTTP/1.1\r\nhost: {}\r\ncontent-type: {}\r\ncontent-length: {}\r\n",
                target.path,
                target.address,
                body.content_type,
                content.len()
            );
            if let Some(json_bytes) = body.json_bytes {
                head += &format!("inference-header-content-length: {json_bytes}\r\n");
            }
            if let Some(level) = level {
                head += &format!("x-request-priority: {level}\r\n");
            }
            heads.push(head.into());
        }
    }
    heads
}

/// The message behind its five-byte prefix.
fn framed(message: &Bytes) -> Bytes {
    let mut framed = BytesMut::with_capacity(5 + message.len());
    framed.put_u8(0);
    framed.put_u32(message.len() as u32);
    framed.extend_from_slice(message);
    framed.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Priority;
    use crate::plan::tests::sample;

    fn written(requests: &Requests, choice: Choice, late_ns: u64) -> String {
        let mut output = Output::default();
        requests.put_http(choice, late_ns, &mut output);
        String::from_utf8_lossy(output.sole_slice().unwrap_or_default()).into_owned()
    }

    #[test]
    fn a_request_says_what_is_left_of_its_deadline() {
        let mut plan = sample();
        plan.deadline_ms = Some(80.0);
        plan.bodies[0].json_bytes = Some(2);
        plan.priorities = vec![Priority { level: 1, share: 1.0 }, Priority { level: 4, share: 1.0 }];
        let requests = Requests::new(&plan, vec![Bytes::from_static(b"{}ab")]);
        let head = "POST / HTTP/1.1\r\nhost: 127.0.0.1:1\r\ncontent-type: application/json\r\ncontent-length: 4\r\n\
                    inference-header-content-length: 2\r\nx-request-priority: 4\r\n";
        for (late_ns, left_ms) in [(0, 80), (30_500_000, 49), (90_000_000, 1)] {
            let expected = format!("{head}x-request-timeout-ms: {left_ms}\r\n\r\n{{}}ab");
            assert_eq!(written(&requests, Choice { body: 0, class: 1 }, late_ns), expected);
        }
    }

    #[test]
    fn a_request_of_no_class_and_no_deadline_says_neither() {
        let requests = Requests::new(&sample(), vec![Bytes::from_static(b"{}")]);
        let text = written(&requests, Choice { body: 0, class: 0 }, 0);
        assert!(text.ends_with("content-length: 2\r\n\r\n{}"), "{text}");
    }

    #[test]
    fn a_message_of_grpc_stands_behind_its_length() {
        assert_eq!(&framed(&Bytes::from_static(b"abc"))[..], b"\0\0\0\0\x03abc");
    }
}
