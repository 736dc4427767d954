//! Fields to header blocks. An answer never puts anything into the peer's table: what it says is short and mostly
//! precomputed, and so each of its blocks stands for itself. A client's requests are all alike, and do use the table.

use super::integer;

/// Tells that the dynamic table is closed; must begin a block once the peer allowed less than the default.
pub(crate) fn table_closed(block: &mut Vec<u8>) {
    integer::put(block, 0x20, 5, 0);
}

/// Appends `:status`.
pub(crate) fn status(block: &mut Vec<u8>, status: u16) {
    let index = match status {
        200 => 8,
        204 => 9,
        206 => 10,
        304 => 11,
        400 => 12,
        404 => 13,
        500 => 14,
        _ => {
            integer::put(block, 0, 4, 8);
            let digits = [status / 100 % 10, status / 10 % 10, status % 10].map(|digit| b'0' + digit as u8);
            return string(block, &digits);
        }
    };
    integer::put(block, 0x80, 7, index);
}

/// Appends a field whose name is in lower case.
pub(crate) fn field(block: &mut Vec<u8>, name: &str, value: &[u8]) {
    let index = match name {
        "allow" => 22,
        "cache-control" => 24,
        "content-encoding" => 26,
        "content-length" => 28,
        "content-type" => 31,
        "date" => 33,
        "retry-after" => 53,
        "server" => 54,
        "www-authenticate" => 61,
        _ => 0,
    };
    integer::put(block, 0, 4, index);
    if index == 0 {
        string(block, name.as_bytes());
    }
    string(block, value);
}

/// Appends a field that the peer is asked to remember; the newest has the first index of its table.
pub(crate) fn remembered(block: &mut Vec<u8>, name: &str, value: &[u8]) {
    block.push(0x40);
    string(block, name.as_bytes());
    string(block, value);
}

/// Appends a field that both sides know already by its index.
pub(crate) fn indexed(block: &mut Vec<u8>, index: usize) {
    integer::put(block, 0x80, 7, index);
}

fn string(block: &mut Vec<u8>, text: &[u8]) {
    integer::put(block, 0, 7, text.len());
    block.extend_from_slice(text);
}
