//! The examples of RFC 7541, appendix C, and the edges of its grammar.

use super::{Decoder, Undecodable, encoder, huffman, integer};

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.chars().filter_map(|letter| letter.to_digit(16)).map(|digit| digit as u8).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

fn fields(decoder: &mut Decoder, block: &[u8]) -> Result<Vec<String>, Undecodable> {
    let mut fields = Vec::new();
    decoder.decode(block, |name, value| {
        fields.push(format!("{}: {}", String::from_utf8_lossy(name), String::from_utf8_lossy(value)));
    })?;
    Ok(fields)
}

/// Blocks on one connection: each block's hex, its fields, and the table's size after it.
fn check(table_bytes_max: usize, blocks: &[(&str, &[&str], usize)]) {
    let mut decoder = Decoder::new(table_bytes_max);
    for (hex, expected, table_bytes) in blocks {
        assert_eq!(fields(&mut decoder, &bytes(hex)).unwrap(), *expected, "{hex}");
        assert_eq!(decoder.table_bytes(), *table_bytes, "{hex}");
    }
}

#[test]
fn integers_are_those_of_appendix_c_1() {
    for (value, prefix_bits, hex) in [(10, 5, "0a"), (1337, 5, "1f9a0a"), (42, 8, "2a")] {
        let mut block = Vec::new();
        integer::put(&mut block, 0, prefix_bits, value);
        assert_eq!(block, bytes(hex));
        let mut rest = &block[..];
        assert_eq!(integer::take(&mut rest, prefix_bits).unwrap(), value);
        assert!(rest.is_empty());
    }
}

#[test]
fn integers_beyond_32_bits_are_refused() {
    let taken = |hex: &str| integer::take(&mut &bytes(hex)[..], 5);
    assert_eq!(taken("1f e0 ff ff ff 0f").unwrap(), u32::MAX as usize);
    assert!(taken("1f e1 ff ff ff 0f").is_err());
    assert!(taken("1f ff ff ff ff ff ff ff ff ff 01").is_err());
    assert!(taken("1f 80 80 80 80 80 00").is_err(), "padded for ever");
    for cut_short in ["", "1f", "1f80"] {
        assert!(taken(cut_short).is_err());
    }
}

#[test]
fn literals_are_those_of_appendix_c_2() {
    check(
        4096,
        &[("400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572", &["custom-key: custom-header"], 55)],
    );
    check(4096, &[("040c 2f73 616d 706c 652f 7061 7468", &[":path: /sample/path"], 0)]);
    check(4096, &[("1008 7061 7373 776f 7264 0673 6563 7265 74", &["password: secret"], 0)]);
    check(4096, &[("82", &[":method: GET"], 0)]);
}

const FIRST: &[&str] = &[":method: GET", ":scheme: http", ":path: /", ":authority: www.example.com"];
const SECOND: &[&str] =
    &[":method: GET", ":scheme: http", ":path: /", ":authority: www.example.com", "cache-control: no-cache"];
const THIRD: &[&str] = &[
    ":method: GET",
    ":scheme: https",
    ":path: /index.html",
    ":authority: www.example.com",
    "custom-key: custom-value",
];

#[test]
fn requests_are_those_of_appendix_c_3() {
    check(
        4096,
        &[
            ("8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d", FIRST, 57),
            ("8286 84be 5808 6e6f 2d63 6163 6865", SECOND, 110),
            ("8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65", THIRD, 164),
        ],
    );
}

#[test]
fn huffman_requests_are_those_of_appendix_c_4() {
    check(
        4096,
        &[
            ("8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff", FIRST, 57),
            ("8286 84be 5886 a8eb 1064 9cbf", SECOND, 110),
            ("8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf", THIRD, 164),
        ],
    );
}

const MOVED: &[&str] = &[
    ":status: 302",
    "cache-control: private",
    "date: Mon, 21 Oct 2013 20:13:21 GMT",
    "location: https://www.example.com",
];
const REPEATED: &[&str] = &[
    ":status: 307",
    "cache-control: private",
    "date: Mon, 21 Oct 2013 20:13:21 GMT",
    "location: https://www.example.com",
];
const COOKIE: &[&str] = &[
    ":status: 200",
    "cache-control: private",
    "date: Mon, 21 Oct 2013 20:13:22 GMT",
    "location: https://www.example.com",
    "content-encoding: gzip",
    "set-cookie: foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1",
];

#[test]
fn evicting_responses_are_those_of_appendix_c_5() {
    check(
        256,
        &[
            (
                "4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 \
                 3120 474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
                MOVED,
                222,
            ),
            ("4803 3330 37c1 c0bf", REPEATED, 222),
            (
                "88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0 5a04 677a 6970 \
                 7738 666f 6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851 5745 4f49 553b 206d 6178 2d61 \
                 6765 3d33 3630 303b 2076 6572 7369 6f6e 3d31",
                COOKIE,
                215,
            ),
        ],
    );
}

#[test]
fn evicting_huffman_responses_are_those_of_appendix_c_6() {
    check(
        256,
        &[
            (
                "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad \
                 1718 63c7 8f0b 97c8 e9ae 82ae 43d3",
                MOVED,
                222,
            ),
            ("4883 640e ffc1 c0bf", REPEATED, 222),
            (
                "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2 \
                 e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07",
                COOKIE,
                215,
            ),
        ],
    );
}

#[test]
fn huffman_gives_every_byte_back() {
    let all: Vec<u8> = (0..=255).collect();
    for text in all.iter().map(std::slice::from_ref).chain([&all[..], b""]) {
        let mut decoded = Vec::new();
        huffman::decode(&huffman::encode(text), &mut decoded).unwrap();
        assert_eq!(decoded, text);
    }
}

#[test]
fn huffman_padding_is_up_to_seven_one_bits() {
    let decodes = |hex: &str| huffman::decode(&bytes(hex), &mut Vec::new()).is_ok();
    assert!(decodes("1f"), "a, three ones");
    assert!(!decodes("18"), "a, three zeros");
    assert!(!decodes("1f ff"), "a, eleven ones");
    assert!(!decodes("ff"), "eight ones");
    assert!(!decodes("ff ff ff ff"), "the end symbol");
    assert!(!decodes("ff ff ff fc 1f"), "the end symbol and more");
}

#[test]
fn indices_outside_both_tables_are_refused() {
    for hex in ["80", "be", "ff 80 01", "7f 00 00", "0f 80 01 00"] {
        assert!(fields(&mut Decoder::new(4096), &bytes(hex)).is_err(), "{hex}");
    }
    assert_eq!(fields(&mut Decoder::new(4096), &bytes("bd")).unwrap(), ["www-authenticate: "]);
}

#[test]
fn the_table_size_changes_first_and_within_bounds() {
    let mut decoder = Decoder::new(4096);
    fields(&mut decoder, &bytes("40 01 61 01 62")).unwrap();
    assert_eq!(decoder.table_bytes(), 34);
    let generation = decoder.generation();
    fields(&mut decoder, &bytes("20 3f e1 1f 82")).unwrap();
    assert_eq!(decoder.table_bytes(), 0, "evicted by the size of nothing before the default");
    assert_ne!(decoder.generation(), generation);
    assert!(fields(&mut decoder, &bytes("3f e2 1f")).is_err(), "4,097");
    assert!(fields(&mut decoder, &bytes("82 20")).is_err(), "after a field");
}

#[test]
fn a_field_larger_than_the_table_empties_it() {
    let mut decoder = Decoder::new(64);
    fields(&mut decoder, &bytes("40 01 61 01 62")).unwrap();
    let large = [&[0x40, 0x01, b'n', 0x20][..], &[b'v'; 32]].concat();
    assert_eq!(fields(&mut decoder, &large).unwrap().len(), 1);
    assert_eq!(decoder.table_bytes(), 0);
}

#[test]
fn strings_cut_short_are_refused() {
    for hex in ["40", "40 02 61", "40 01 61", "40 01 61 05 62", "00 81"] {
        assert!(fields(&mut Decoder::new(4096), &bytes(hex)).is_err(), "{hex}");
    }
}

#[test]
fn what_is_encoded_decodes_and_keeps_no_table() {
    let mut block = Vec::new();
    encoder::table_closed(&mut block);
    for status in [100, 200, 404, 431, 503] {
        encoder::status(&mut block, status);
    }
    encoder::field(&mut block, "content-type", b"application/json");
    encoder::field(&mut block, "grpc-status", &[b'8'; 300]);
    let mut decoder = Decoder::new(4096);
    let long = format!("grpc-status: {}", "8".repeat(300));
    let expected = [
        ":status: 100",
        ":status: 200",
        ":status: 404",
        ":status: 431",
        ":status: 503",
        "content-type: application/json",
        &long,
    ];
    assert_eq!(fields(&mut decoder, &block).unwrap(), expected);
    assert_eq!(decoder.table_bytes(), 0);
}
