use super::*;

/// A field that holds bytes.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = varint(u64::from(number) << 3 | 2);
    bytes.extend(varint(content.len() as u64));
    bytes.extend(content);
    bytes
}

fn varint(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

fn number(field: u8, number: u64) -> Vec<u8> {
    [varint(u64::from(field) << 3), varint(number)].concat()
}

fn entry(key: &str, value: &str) -> Vec<u8> {
    field(13, &[field(1, key.as_bytes()), field(2, value.as_bytes())].concat())
}

fn node(domain: &str, operator: &str, rest: &[u8]) -> Vec<u8> {
    [field(2, b"out"), field(4, operator.as_bytes()), field(7, domain.as_bytes()), rest.to_vec()].concat()
}

fn model(graph: &[u8]) -> Vec<u8> {
    field(7, graph)
}

fn limits() -> Limits {
    Limits { model_nodes_max: 2_000, ..servekit_testing::limits() }
}

fn found(file: &[u8]) -> Result<Scan, String> {
    scan(file, "m", &limits()).map_err(|refusal| {
        assert_eq!(refusal.reason, Reason::ModelFile);
        refusal.text.into_owned()
    })
}

#[test]
fn operators_of_known_domains_and_own_functions_are_allowed() {
    for domain in ["", "ai.onnx.ml", "com.microsoft"] {
        assert_eq!(found(&model(&field(1, &node(domain, "Run", b"")))), Ok(Scan::default()));
    }
    let function = field(25, &[field(1, b"Run"), field(10, b"own"), field(7, &node("", "Add", b""))].concat());
    let file = [model(&field(1, &node("own", "Run", b""))), function].concat();
    assert_eq!(found(&file), Ok(Scan::default()));
}

#[test]
fn other_operators_are_refused_by_name_wherever_they_stand() {
    let evil = field(1, &node("evil.ops", "Run", b""));
    let inside = field(1, &node("", "If", &field(5, &field(6, &evil))));
    let function = [model(b""), field(25, &field(7, &node("evil.ops", "Run", b"")))].concat();
    let training = [model(b""), field(20, &field(2, &evil))].concat();
    for file in [model(&evil), model(&inside), function, training] {
        let text = found(&file).expect_err("refused");
        assert!(text.starts_with("model 'm' uses operator evil.ops.Run, "), "{text}");
    }
    for operator in ["EPContext", "PyOp"] {
        assert!(found(&model(&field(1, &node("com.microsoft", operator, b"")))).is_err());
    }
}

#[test]
fn counts_are_bounded() {
    let limits = limits();
    let mut deep = field(1, &node("", "Add", b""));
    for depth in 0..=limits.model_graph_depth_max {
        assert_eq!(found(&model(&deep)).is_ok(), depth <= limits.model_graph_depth_max);
        deep = field(1, &node("", "If", &field(5, &field(6, &deep))));
    }
    assert!(found(&model(&deep)).expect_err("deep").contains("graphs inside each other"));
    let nodes = field(1, &node("", "Add", b"")).repeat(limits.model_nodes_max as usize + 1);
    assert!(found(&model(&nodes)).expect_err("nodes").contains("nodes"));
    let inputs = field(11, b"").repeat(limits.model_tensors_max as usize + 1);
    assert!(found(&model(&inputs)).expect_err("inputs").contains("1001 inputs, at most 1000"));
    assert!(found(&model(&[inputs, field(5, b"\x4a\x01x")].concat())).is_ok());
}

#[test]
fn external_data_is_found_in_every_place() {
    let tensor = [entry("location", "w.bin"), entry("offset", "8"), entry("length", "16"), number(14, 1)].concat();
    let sparse = field(1, &tensor);
    let places = [
        model(&field(5, &tensor)),
        model(&field(15, &sparse)),
        model(&field(1, &node("", "Constant", &field(5, &field(5, &tensor))))),
        model(&field(1, &node("", "Constant", &field(5, &field(22, &sparse))))),
        model(&field(1, &node("", "If", &field(5, &field(6, &field(5, &tensor)))))),
        [model(b""), field(25, &field(7, &node("", "Constant", &field(5, &field(5, &tensor)))))].concat(),
        [model(b""), field(20, &field(1, &field(5, &tensor)))].concat(),
    ];
    for file in places {
        let scan = found(&file).expect("scanned");
        assert_eq!(scan.external, BTreeMap::from([("w.bin".to_owned(), 24)]));
        assert_eq!(scan.weights_bytes, 16);
    }
}

#[test]
fn a_tensor_holds_what_its_shape_claims() {
    let tensor = |size: u64| [number(1, size), number(1, 2), field(9, &[0; 32])].concat();
    assert!(found(&model(&field(5, &tensor(4)))).is_ok());
    let text = found(&model(&field(5, &tensor(1 << 40)))).expect_err("refused");
    assert!(text.contains("claims 2199023255552 elements"), "{text}");
    assert!(found(&model(&field(5, &tensor(u64::MAX)))).is_err());
}

#[test]
fn labels_come_in_file_order() {
    let texts = field(5, &[field(1, b"classlabels_strings"), field(9, b"b"), field(9, b"a")].concat());
    let numbers = [field(1, b"classlabels_int64s"), field(8, &[varint(u64::MAX), varint(3)].concat())].concat();
    let file = model(&field(1, &node("ai.onnx.ml", "ZipMap", &texts)));
    let expected = Labels::Texts(vec!["b".to_owned(), "a".to_owned()]);
    assert_eq!(found(&file).expect("scanned").labels["out"], expected);
    let file = model(&field(1, &node("ai.onnx.ml", "ZipMap", &field(5, &numbers))));
    assert_eq!(found(&file).expect("scanned").labels["out"], Labels::Numbers(vec![-1, 3]));
}

#[test]
fn loops_are_found_inside_branches() {
    let inside = field(1, &node("", "If", &field(5, &field(6, &field(1, &node("", "Loop", b""))))));
    assert_eq!(found(&model(&inside)).expect("scanned").repeats, Some("Loop"));
}

#[test]
fn garbage_is_refused_with_an_offset() {
    for file in [&b""[..], b"hello, world", b"PK\x03\x04\x14\x00", b"\x7fELF\x02\x01", &model(b"ab")[..3]] {
        let text = found(file).expect_err("refused");
        assert!(text.contains("no ONNX file") || text.contains("holds no graph"), "{text}");
    }
}

/// A node of these inputs, with attributes ready made.
fn linked(operator: &str, inputs: &[&str], output: &str, attributes: &[u8]) -> Vec<u8> {
    let inputs: Vec<u8> = inputs.iter().flat_map(|input| field(1, input.as_bytes())).collect();
    let ends = [inputs, field(2, output.as_bytes()), field(4, operator.as_bytes())].concat();
    field(1, &[ends, attributes.to_vec()].concat())
}

fn attribute(name: &str, value: u64) -> Vec<u8> {
    field(5, &[field(1, name.as_bytes()), number(3, value)].concat())
}

/// A weight of these sizes whose bytes are so many zeros.
fn weight(name: &str, sizes: &[u64], kind: u64, bytes: usize) -> Vec<u8> {
    let sizes: Vec<u8> = sizes.iter().flat_map(|size| number(1, *size)).collect();
    field(5, &[sizes, number(2, kind), field(8, name.as_bytes()), field(9, &vec![0; bytes])].concat())
}

fn input(name: &str) -> Vec<u8> {
    field(11, &field(1, name.as_bytes()))
}

#[test]
fn the_smallest_table_that_an_input_picks_from_is_found_through_casts() {
    let graph = [
        linked("Cast", &["ids"], "whole", b""),
        linked("Gather", &["large", "whole"], "a", b""),
        linked("Reshape", &["whole", "shape"], "flat", b""),
        linked("DequantizeLinear", &["small", "scale"], "table", b""),
        linked("Gather", &["table", "flat"], "b", b""),
        // Columns are not rows, and what is computed is no index of the input's.
        linked("Gather", &["tiny", "ids"], "c", &attribute("axis", 1)),
        linked("Add", &["ids", "whole"], "sum", b""),
        linked("Gather", &["tiny", "sum"], "d", b""),
        weight("large", &[100, 2], 1, 800),
        weight("small", &[30, 2], 3, 60),
        weight("tiny", &[2, 2], 1, 16),
        [input("ids"), input("large")].concat(),
    ];
    let clues = found(&model(&graph.concat())).expect("scanned").clues;
    assert_eq!(clues.tables, HashMap::from([("ids".to_owned(), 30)]));
    assert_eq!((clues.suspects, clues.coarsest), (Vec::new(), None));
}

#[test]
fn operators_that_look_across_rows_are_suspected() {
    let graph = [
        linked("Softmax", &["x"], "a", &attribute("axis", 1)),
        linked("Softmax", &["a"], "b", &attribute("axis", 0)),
        linked("CumSum", &["b", "axis"], "c", b""),
        linked("Softmax", &["c"], "d", &attribute("axis", 0)),
        linked("ReduceMax", &["d", "axis"], "e", b""),
        linked("DynamicQuantizeLinear", &["e"], "f", b""),
        weight("axis", &[1], 7, 8),
        input("x"),
    ];
    let clues = found(&model(&graph.concat())).expect("scanned").clues;
    assert_eq!(clues.suspects, ["Softmax over axis 0", "CumSum over axis 0", "ReduceMax over axis 0"]);
}

#[test]
fn the_least_exact_type_of_the_weights_is_found() {
    for (kinds, expected) in [
        ([1, 1], None),
        ([10, 1], Some(servekit_core::Datatype::Fp16)),
        ([16, 10], Some(servekit_core::Datatype::Bf16)),
    ] {
        let weights = [weight("v", &[1], kinds[0], 4), weight("w", &[1], kinds[1], 4)].concat();
        let graph = [linked("Add", &["x", "v"], "a", b""), linked("Add", &["a", "w"], "y", b""), weights].concat();
        assert_eq!(found(&model(&graph)).expect("scanned").clues.coarsest, expected);
    }
}
