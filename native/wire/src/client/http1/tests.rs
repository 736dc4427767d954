use super::*;

const PLAIN: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 5\r\n\r\nhello";
const REFUSED: &[u8] = b"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\nConnection: close\r\n\r\nfull";
const CHUNKED: &[u8] =
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\nA\r\n0123456789\r\n0\r\nt: 1\r\n\r\n";

fn answer(status: u16, body_bytes: u64, closes: bool) -> Answer {
    Answer { token: 0, status: Status::Http(status), body_bytes, closes }
}

/// What a client reads from bytes that come in pieces of this size.
fn read(bytes: &[u8], piece: usize) -> Result<Vec<Answer>, Malformed> {
    let mut client = Http1Client::default();
    let mut answers = Vec::new();
    for mut input in bytes.chunks(piece) {
        while let Some(answer) = client.receive(&mut input)? {
            answers.push(answer);
        }
    }
    answers.extend(client.end());
    Ok(answers)
}

#[test]
fn answers_are_the_same_however_they_are_cut() {
    let told = [PLAIN, REFUSED, CHUNKED, PLAIN].concat();
    let expected = vec![answer(200, 5, false), answer(503, 4, true), answer(200, 15, false), answer(200, 5, false)];
    for piece in 1..=told.len() {
        assert_eq!(read(&told, piece).as_ref(), Ok(&expected), "pieces of {piece}");
    }
}

#[test]
fn an_answer_without_a_length_ends_with_its_connection() {
    assert_eq!(read(b"HTTP/1.1 200 OK\r\n\r\nabc", 4), Ok(vec![answer(200, 3, true)]));
    assert_eq!(read(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc", 4), Ok(vec![]), "cut short");
}

#[test]
fn an_interim_answer_is_none() {
    let told = [b"HTTP/1.1 100 Continue\r\n\r\n", PLAIN].concat();
    assert_eq!(read(&told, told.len()), Ok(vec![answer(200, 5, false)]));
}

#[test]
fn an_answer_that_may_have_no_body_ends_with_its_head() {
    let told = [b"HTTP/1.1 204 No Content\r\n\r\n", PLAIN].concat();
    assert_eq!(read(&told, 7), Ok(vec![answer(204, 0, false), answer(200, 5, false)]));
}

#[test]
fn an_old_server_closes_unless_it_says_otherwise() {
    let told = |fields: &str| format!("HTTP/1.0 200 OK\r\n{fields}content-length: 0\r\n\r\n").into_bytes();
    assert_eq!(read(&told(""), 100), Ok(vec![answer(200, 0, true)]));
    assert_eq!(read(&told("connection: keep-alive\r\n"), 100), Ok(vec![answer(200, 0, false)]));
}

#[test]
fn the_beginning_of_a_refusal_is_kept() {
    let mut client = Http1Client::default();
    assert_eq!(client.receive(&mut &REFUSED[..]), Ok(Some(answer(503, 4, true))));
    assert_eq!(client.excerpt(), b"full");
}

#[test]
fn bytes_that_are_no_answer_are_told() {
    for told in [
        &b"SSH-2.0-OpenSSH\r\n\r\n"[..],
        b"HTTP/1.1 200 OK\r\ncontent-length: many\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nabc\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n12345678901234567\r\n",
    ] {
        assert!(read(told, 3).is_err(), "{}", String::from_utf8_lossy(told));
    }
    assert!(read(&[b'x'; HEAD_BYTES_MAX + 2], 1 << 12).is_err());
}
